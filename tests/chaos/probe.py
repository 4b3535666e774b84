"""When a broker could serve again, seen from outside: by blocking sockets in threads of their own, not by the client.

Each node is asked for the leaders of the streams, over and over. A stream can be served when some node names its leader
and that leader's own node answers too. How long a client takes is counted from there: an election is the broker's time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from actorstream.wire import commands as c
from lab.broker import Broker

EVERY_S = 0.1
ANSWER_WITHIN_S = 1.0
STALE_S = 0.5
"""A node that has not answered for so long does not serve; a healthy one that takes longer counts as back later."""
LASTS_S = 1.0
"""A service that ends before is none: nobody has the time to come back. (While a node freezes, the others still answer
once or twice, and then say nothing for some seconds, all of them.)"""
_SIZE = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Look:
    """What one node said at one time: each stream's leader by the port that it advertises; None while there is none."""

    at: float
    node: int
    leaders: dict[str, int | None]


@dataclass
class Probe:
    """Looks at all nodes until it is stopped. Use it with `with`."""

    nodes: Sequence[Broker]
    streams: Sequence[str]
    looks: list[Look] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=self._watch, args=(index, node), name=f"probe of {node.node}")
            for index, node in enumerate(self.nodes)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def last_look(self, node: int, before: float) -> float:
        """When a node answered last before that time; of one that was killed, when it died, to within `EVERY_S`."""
        return max((look.at for look in tuple(self.looks) if look.node == node and look.at <= before), default=before)

    def forget(self) -> None:
        """Everything that was seen so far is not wanted any more."""
        del self.looks[: len(self.looks)]

    def served_at(self, stream: str, since: float) -> list[float]:
        """The moments at which the stream could be served again, of all that has been seen since.

        That a node which was cut off still names the leader it knew is no service: the leader's own node must have
        answered, too. So after `since` the first moment is the first look that shows both. What a node said at `since`
        itself is its last word: that is when it died.
        """
        ports = [node.port for node in self.nodes]
        leaders: dict[int, int | None] = {}
        seen: dict[int, float] = {}
        services: list[tuple[float, float]] = []  # from when until when, or until now
        serves, last = False, since
        for look in sorted(self.looks, key=lambda look: look.at):
            if look.at <= since:
                continue
            leaders[look.node] = look.leaders.get(stream)
            seen[look.node] = look.at
            recent = {node for node, at in seen.items() if at > look.at - STALE_S}
            named = {leader for node, leader in leaders.items() if node in recent}
            went_on = serves and look.at - last <= STALE_S
            serves = any(leader in ports and ports.index(leader) in recent for leader in named)
            if serves:
                services.append((services.pop()[0] if went_on else look.at, look.at))
            last = look.at
        return [begin for begin, end in services if end - begin >= LASTS_S or (serves and end == last)]

    def _watch(self, index: int, node: Broker) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, EOFError, AssertionError), _Line(node.port) as line:
                while not self._stop.wait(EVERY_S):
                    self.looks.append(Look(time.monotonic(), index, line.leaders(self.streams)))
            self._stop.wait(EVERY_S)


class _Line:
    """One logged-in connection on a blocking socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("localhost", port), timeout=ANSWER_WITHIN_S)
        self._buffer = b""
        self._correlation = 0

    def __enter__(self) -> Self:
        try:
            self._ask(c.PeerProperties({"product": "probe", "connection_name": "probe"}))
            self._ask(c.SaslHandshake())
            self._ask(c.SaslAuthenticate("PLAIN", b"\0guest\0guest"))
            c.decode(self._frame())  # Tune
            self._socket.sendall(c.encode(c.Tune(0, 0)))
            self._ask(c.Open("/"))
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def leaders(self, streams: Sequence[str]) -> dict[str, int | None]:
        answer = self._ask(c.Metadata(tuple(streams)))
        assert isinstance(answer, c.MetadataResponse)
        ports = {broker.reference: broker.port for broker in answer.brokers}
        return {one.stream: ports.get(one.leader) if one.code == 1 else None for one in answer.streams}

    def _ask(self, request: c.Request) -> c.Command:
        self._correlation += 1
        self._socket.sendall(c.encode(request, self._correlation))
        while True:
            answer, correlation = c.decode(self._frame())
            if correlation == self._correlation:
                return answer

    def _frame(self) -> bytes:
        while len(self._buffer) < 4 or len(self._buffer) < 4 + _SIZE.unpack_from(self._buffer)[0]:
            data = self._socket.recv(65_536)
            if not data:
                raise EOFError
            self._buffer += data
        end = 4 + _SIZE.unpack_from(self._buffer)[0]
        frame, self._buffer = self._buffer[4:end], self._buffer[end:]
        return frame
