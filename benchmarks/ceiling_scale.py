"""The ceiling of many streams at once: one thread, blocking sockets, frames made beforehand, answers only counted.

A broker has work for each stream that it writes and for each subscription that it serves, besides that for each
message: what many streams cost it is what no client can spare.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import struct
from collections.abc import Iterator

import actorstream
from actorstream import offset
from actorstream.wire import commands as c
from actorstream.wire.constants import Key
from actorstream.wire.publish import data_entry, publish_frames
from benchmarks.ceiling import CREDIT, FRAME_MAX, Connection
from benchmarks.scale import POOLED, streams
from benchmarks.workload import WINDOW, Outcome, Task, bodies, perform, seconds, start

PER_FRAME = 500

_KEY = struct.Struct(">H")
_COUNT = struct.Struct(">I")
_RECORDS_AT = 5 + 4


class _Counting:
    """Connections whose confirms and records are counted, and whose credit is given back."""

    def __init__(self) -> None:
        self.confirmed = self.records = 0
        self._selector = selectors.DefaultSelector()

    def add(self, connection: Connection) -> None:
        self._selector.register(connection, selectors.EVENT_READ)

    def wait(self, timeout_s: float) -> None:
        """Count what there is, and wait so long for something."""
        for key, _ in self._selector.select(timeout_s):
            connection = key.fileobj
            assert isinstance(connection, Connection)
            for frame in connection.frames():
                if _KEY.unpack_from(frame)[0] == Key.PUBLISH_CONFIRM:
                    self.confirmed += _COUNT.unpack_from(frame, 5)[0]
                else:
                    assert _KEY.unpack_from(frame)[0] == Key.DELIVER
                    self.records += _COUNT.unpack_from(frame, _RECORDS_AT)[0]
                    connection.send(c.encode(c.Credit(frame[4], 1)))


def groups(names: list[str]) -> Iterator[list[str]]:
    """Those of one connection."""
    return (names[first : first + POOLED] for first in range(0, len(names), POOLED))


async def handles(task: Task) -> Outcome:
    """As `scale.handles`: a publisher and a subscription on each of many streams."""
    names = [f"{task.stream}-{number}" for number in range(task.handles)]
    async with actorstream.connect(task.uri) as client, streams(client, names):
        return publish_and_count(task, names)


def publish_and_count(task: Task, names: list[str]) -> Outcome:
    """A frame to each stream in turn, until all is confirmed and has come back."""
    entries = [data_entry(body) for body in bodies(task.count, task.size)]
    each = task.count // task.handles
    with contextlib.ExitStack() as stack:

        def connect() -> Connection:
            return stack.enter_context(Connection(task.host, task.port))

        counting = _Counting()
        writers: list[tuple[Connection, int, list[bytes]]] = []
        for group in groups(names):
            writing, reading = connect(), connect()
            for number, name in enumerate(group):
                writing.ask(c.DeclarePublisher(number, "", name))
                reading.ask(c.Subscribe(number, name, offset.first(), CREDIT))
                writers.append((writing, number, entries[len(writers) * each : (len(writers) + 1) * each]))
            counting.add(writing)
            counting.add(reading)
        frames = [
            (connection, publish_frames(number, 1, range(first, first + len(part)), part, FRAME_MAX)[0], len(part))
            for first in range(0, each, PER_FRAME)
            for connection, number, messages in writers
            for part in [messages[first : first + PER_FRAME]]
        ]
        begin = start()
        sent = 0
        for connection, frame, messages in frames:
            connection.send(frame)
            sent += messages
            counting.wait(0.0)
            while sent - counting.confirmed >= WINDOW:
                counting.wait(20.0)
        while counting.confirmed < task.count or counting.records < task.count:
            counting.wait(20.0)
        return seconds(begin)


if __name__ == "__main__":
    perform({"handles": handles}, asyncio.run)
