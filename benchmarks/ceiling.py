"""The least that a Python client can do: a blocking socket, frames made beforehand, confirms and chunks only counted.

What a contender reaches beside this says what its own work costs; the rest is the broker, the kernel and Python itself.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Self

from actorstream import offset
from actorstream.wire import commands as c
from actorstream.wire.chunk import Chunk
from actorstream.wire.constants import Key
from actorstream.wire.publish import data_entry, publish_frames
from benchmarks.workload import TICK_S, WINDOW, Outcome, Task, bodies, latencies, perform, seconds, start

FRAME_MAX = 1_048_576
PER_FRAME = 5_000
CREDIT = 10
RECEIVE = 1 << 20

_SIZE = struct.Struct(">I")
_KEY = struct.Struct(">H")
_COUNT = struct.Struct(">I")
_CONFIRM = Key.PUBLISH_CONFIRM
_DELIVER = Key.DELIVER
_RECORDS_AT = 5 + 4
"""In a Deliver of version 1, where its chunk says how many records it holds."""


class Connection:
    """A connection on a blocking socket, logged in as guest. Deliver comes in version 1: no other was asked for."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=20.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._correlation = 0
        self.ask(c.PeerProperties({"product": "ceiling"}))
        self.ask(c.SaslHandshake())
        self.ask(c.SaslAuthenticate("PLAIN", b"\0guest\0guest"))
        c.decode(self.frame())  # Tune
        self.send(c.encode(c.Tune(FRAME_MAX, 0)))
        self.ask(c.Open("/"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For who waits for several."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def ask(self, request: c.Request) -> None:
        """A request and its answer, which must say that all is well. Nothing else may be under way."""
        self._correlation += 1
        self.send(c.encode(request, self._correlation))
        answer, correlation = c.decode(self.frame())
        assert isinstance(answer, c.Response), answer
        assert (answer.code, correlation) == (1, self._correlation), answer

    def frame(self) -> bytes:
        """The next frame."""
        while not (frames := self._cut(1)):
            self._receive()
        return frames[0]

    def frames(self) -> list[bytes]:
        """All whole frames that are there, at least one."""
        while not (frames := self._cut(-1)):
            self._receive()
        return frames

    def _receive(self) -> None:
        data = self._socket.recv(RECEIVE)
        if not data:
            raise EOFError("the broker ended the connection")
        self._buffer += data

    def _cut(self, most: int) -> list[bytes]:
        found: list[bytes] = []
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 4 and len(found) != most:
            end = at + 4 + _SIZE.unpack_from(buffer, at)[0]
            if end > len(buffer):
                break
            found.append(bytes(memoryview(buffer)[at + 4 : end]))
            at = end
        if at:
            del buffer[:at]
        return found


def read_chunks(task: Task, take: Callable[[bytes], int]) -> Outcome:
    """Read a stream until `take`, which gets each Deliver frame and tells its records, has had `task.count` of them."""
    with Connection(task.host, task.port) as connection:
        begin = start()
        connection.ask(c.Subscribe(0, task.stream, offset.first(), CREDIT))
        credit = c.encode(c.Credit(0, 1))
        left = task.count
        while left > 0:
            for frame in connection.frames():
                assert _KEY.unpack_from(frame)[0] == _DELIVER
                left -= take(frame)
                connection.send(credit)
        return seconds(begin)


def publish_all(task: Task) -> Outcome:
    """Send frames that were made beforehand, fifty thousand messages ahead of their confirms."""
    entries = [data_entry(body) for body in bodies(task.count, task.size)]
    frames = [
        (publish_frames(0, 1, range(start, start + len(part)), part, FRAME_MAX), len(part))
        for start in range(0, task.count, PER_FRAME)
        for part in [entries[start : start + PER_FRAME]]
    ]
    with Connection(task.host, task.port) as connection:
        connection.ask(c.DeclarePublisher(0, "", task.stream))
        begin = start()
        sent = confirmed = 0
        for encoded, messages in frames:
            connection.send(encoded[0])
            sent += messages
            while sent - confirmed >= WINDOW:
                confirmed += _confirms(connection)
        while confirmed < task.count:
            confirmed += _confirms(connection)
        return seconds(begin)


def _confirms(connection: Connection) -> int:
    count: int = 0
    for frame in connection.frames():
        assert _KEY.unpack_from(frame)[0] == _CONFIRM
        count += _COUNT.unpack_from(frame, 5)[0]
    return count


def feed(task: Task) -> Outcome:
    """Publish at a steady rate, for a consumer in another process."""
    entries = [data_entry(body) for body in bodies(task.count, task.size)]
    with Connection(task.host, task.port) as connection:
        connection.ask(c.DeclarePublisher(0, "", task.stream))
        begin = start()
        sent = confirmed = 0
        while sent < task.count:
            due = min(task.count, int((time.perf_counter() - begin[0]) * task.rate))
            if due > sent:
                frames = publish_frames(0, 1, range(sent, due), entries[sent:due], FRAME_MAX)
                connection.send(b"".join(frames))
                sent = due
            while sent - confirmed >= task.rate // 10:
                confirmed += _confirms(connection)
            time.sleep(TICK_S)
        while confirmed < task.count:
            confirmed += _confirms(connection)
        return seconds(begin)


def count_all(task: Task) -> Outcome:
    """Read every chunk, and of each one nothing but how many records it holds."""
    return read_chunks(task, lambda frame: int(_COUNT.unpack_from(frame, _RECORDS_AT)[0]))


def read_bodies(task: Task) -> list[bytes]:
    """The bodies of the first `task.count` messages of a stream, or of a few more: what was really written."""
    found: list[bytes] = []

    def take(frame: bytes) -> int:
        messages = Chunk.parse(frame[5:]).messages()
        found.extend([message.body for message in messages])
        return len(messages)

    read_chunks(task, take)
    return found


def round_trips(task: Task) -> Outcome:
    """One message, its confirm, the next message."""
    frames = [
        publish_frames(0, 1, [number], [data_entry(body)], 0)[0]
        for number, body in enumerate(bodies(task.count, task.size))
    ]
    samples: list[float] = []
    with Connection(task.host, task.port) as connection:
        connection.ask(c.DeclarePublisher(0, "", task.stream))
        for frame in frames:
            begin = time.perf_counter()
            connection.send(frame)
            assert _confirms(connection) == 1
            samples.append(time.perf_counter() - begin)
    return latencies(samples)


async def _publish(task: Task) -> Outcome:
    return publish_all(task)


async def _consume(task: Task) -> Outcome:
    return count_all(task)


async def _feed(task: Task) -> Outcome:
    return feed(task)


async def _round_trips(task: Task) -> Outcome:
    return round_trips(task)


if __name__ == "__main__":
    perform({"publish": _publish, "consume": _consume, "feed": _feed, "round_trip": _round_trips}, asyncio.run)
