"""Connections without sockets, for tests: they behave like TCP, and break how and when a test says.

Nothing here looks at a clock (but for an opener's timeout): bytes move when the loop turns, always in the same order.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import ssl as ssl_module
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from actorstream.errors import ConnectFailed, ConnectionLost
from actorstream.transport.base import Listener, Transport, format_address

_WHOLE: Final = 2**31


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """What an opener was asked for."""

    host: str
    port: int
    ssl: ssl_module.SSLContext | None
    server_hostname: str | None


class MemoryNetwork:
    """Hosts that can be connected to, by `open`, which stands in for `open_tcp`.

    Attributes:
        attempts: everything that `open` was asked for, in order.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], _Place] = {}
        self.attempts: list[OpenAttempt] = []

    def listen(self, host: str, port: int, accept: Callable[[MemoryTransport], Listener]) -> None:
        """Let `accept` serve connections to this address: it is given the server's end, and returns who listens."""
        self._place(host, port).accept = accept

    def refuse(self, host: str, port: int) -> None:
        """Connection refused from now on, as before `listen`. What is connected stays connected."""
        self._place(host, port).accept = None

    def fail(self, host: str, port: int, *, step: str, cause: str, times: int = 1) -> None:
        """Let the next `times` openings end with ConnectFailed at this step: "resolve", "connect" or "tls"."""
        self._place(host, port).failures += [(step, cause)] * times

    def freeze(self, host: str, port: int) -> None:
        """Stop the process there: the kernel still accepts connections and bytes, and nothing answers (F06)."""
        self._place(host, port).set_flow(frozen=True)

    def thaw(self, host: str, port: int) -> None:
        """Let it run on: what has been waiting is delivered now."""
        self._place(host, port).set_flow(frozen=False)

    def cut_off(self, host: str, port: int) -> None:
        """Let packets vanish: connections fall silent both ways, without an end, and opening one hangs (F05)."""
        self._place(host, port).set_flow(reachable=False)

    def restore(self, host: str, port: int) -> None:
        """Let packets through again: TCP repeats what was lost, if neither end has given up meanwhile."""
        self._place(host, port).set_flow(reachable=True)

    def links(self, host: str | None = None, port: int | None = None) -> list[MemoryLink]:
        """The connections that are open, oldest first: to this address, to one of this host, or all."""
        places = [place for at, place in self._places.items() if host in (None, at[0]) and port in (None, at[1])]
        return [link for place in places for link in place.open_links()]

    async def open(
        self,
        host: str,
        port: int,
        listener: Listener,
        *,
        ssl: ssl_module.SSLContext | None,
        server_hostname: str | None,
        timeout_s: float,
    ) -> Transport:
        """Open a connection, as `open_tcp` would; TLS is noted in `attempts` and that is all.

        Raises:
            ConnectFailed: nobody listens there, nobody can be reached, or a failure was asked for.
        """
        self.attempts.append(OpenAttempt(host, port, ssl, server_hostname))
        place = self._place(host, port)
        address = format_address(host, port)
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(timeout_s):
                await place.reachable.wait()
        except TimeoutError as error:
            raise ConnectFailed(address, "connect", f"no answer within {timeout_s:g} s") from error
        if place.failures:
            step, cause = place.failures.pop(0)
            raise ConnectFailed(address, step, cause)
        if place.accept is None:
            raise ConnectFailed(address, "connect", "Connection refused")
        return place.connect(place.accept, address, listener)

    def _place(self, host: str, port: int) -> _Place:
        return self._places.setdefault((host, port), _Place())


class _Place:
    """One address."""

    def __init__(self) -> None:
        self.accept: Callable[[MemoryTransport], Listener] | None = None
        self.failures: list[tuple[str, str]] = []
        self.reachable = asyncio.Event()
        self.reachable.set()
        self._frozen = False
        self._links: list[MemoryLink] = []
        self._clients = itertools.count(1)

    def open_links(self) -> list[MemoryLink]:
        self._links = [link for link in self._links if not link.ended]
        return list(self._links)

    def set_flow(self, *, frozen: bool | None = None, reachable: bool | None = None) -> None:
        if frozen is not None:
            self._frozen = frozen
        if reachable is not None:
            (self.reachable.set if reachable else self.reachable.clear)()
        for link in self.open_links():
            self._settle(link)

    def connect(
        self, accept: Callable[[MemoryTransport], Listener], address: str, listener: Listener
    ) -> MemoryTransport:
        link = MemoryLink(address, f"client-{next(self._clients)}")
        self._links.append(link)
        self._settle(link)
        link.client.begin(listener)
        link.server.begin(accept(link.server))
        return link.client

    def _settle(self, link: MemoryLink) -> None:
        if self._frozen or not self.reachable.is_set():
            link.freeze()
        else:
            link.thaw()


class MemoryLink:
    """One connection, seen from outside: where a test breaks it.

    Attributes:
        client: the end that `open` returned.
        server: the end that was accepted.
    """

    def __init__(self, server_address: str, client_address: str) -> None:
        self.client = MemoryTransport(server_address)
        self.server = MemoryTransport(client_address)
        self._to_server = _Pipe(self, self.server)
        self._to_client = _Pipe(self, self.client)
        self.client.attach(self._to_server)
        self.server.attach(self._to_client)

    @property
    def ended(self) -> bool:
        """Whether both ends are closed, and know it."""
        return self.client.is_closing and self.server.is_closing

    def freeze(self) -> None:
        """Deliver nothing any more, in neither direction, ends included; what is written waits."""
        self._to_server.frozen = self._to_client.frozen = True

    def thaw(self) -> None:
        """Deliver what has been waiting."""
        for pipe in (self._to_server, self._to_client):
            pipe.frozen = False
            pipe.schedule()

    def drop(self, error: Exception | None = None) -> None:
        """End the connection for both ends, with an EOF or this error; what is on its way is lost."""
        self._to_server.break_off(error)
        self._to_client.break_off(error)

    def reset(self) -> None:
        """The same as a packet with RST does it."""
        self.drop(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def cut_after(self, size: int, *, error: Exception | None = None) -> None:
        """Let the client receive so many bytes more, then `drop`."""
        self._to_client.cut_after(size, error)

    def split(self, *sizes: int) -> None:
        """Deliver to the client pieces of these sizes, over and over; `split(1)` is one byte at a time."""
        self._to_client.split(itertools.cycle(sizes))


class MemoryTransport:
    """One end of a `MemoryLink`; a `Transport` of either side."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._listener: Listener | None = None
        self._out: _Pipe | None = None

    def attach(self, out: _Pipe) -> None:
        """Give it the pipe to write into."""
        self._out = out

    def begin(self, listener: Listener) -> None:
        """Let the listener hear, from the loop's next turn on."""
        self._listener = listener

    @property
    def peer(self) -> str:
        """The address at the other end."""
        return self._peer

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._listener is None

    def write(self, chunks: Sequence[bytes]) -> None:
        """Send these bytes; raises ConnectionLost on a closed connection."""
        if self._listener is None or self._out is None:
            raise ConnectionLost(f"the connection to {self._peer} is closed")
        self._out.write(b"".join(chunks))

    def buffered(self) -> int:
        """Bytes that the other end has yet to receive."""
        return self._out.size if self._out is not None else 0

    def close(self) -> None:
        """The other end receives what was written, then an EOF."""
        if self._listener is not None and self._out is not None:
            self._listener = None
            self._out.finish()

    def abort(self) -> None:
        """The other end receives an EOF, and not what is on its way."""
        self._listener = None
        if self._out is not None:
            self._out.break_off(None)

    def receive(self, data: bytes) -> None:
        """Called by the pipe that ends here."""
        if self._listener is not None:
            self._listener.data_received(data)

    def lose(self, error: Exception | None) -> None:
        """Called by the pipe that ends here, as the last."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.connection_lost(error)


class _Pipe:
    """One direction of a link. Each turn of the loop moves one piece, by default all that is there."""

    def __init__(self, link: MemoryLink, sink: MemoryTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._sink = sink
        self._data = bytearray()
        self._finished = False
        self._error: Exception | None = None
        self._sizes: Iterator[int] = itertools.repeat(_WHOLE)
        self._budget: int | None = None
        self._budget_error: Exception | None = None
        self._scheduled = False
        self.frozen = False

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, data: bytes) -> None:
        self._data += data
        self.schedule()

    def finish(self) -> None:
        """After what is on its way, the end."""
        self._finished = True
        self.schedule()

    def break_off(self, error: Exception | None) -> None:
        """The end, instead of what is on its way."""
        self._data.clear()
        self._error = error
        self.finish()

    def cut_after(self, size: int, error: Exception | None) -> None:
        self._budget = size
        self._budget_error = error
        self.schedule()

    def split(self, sizes: Iterator[int]) -> None:
        self._sizes = sizes

    def schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            # The client may live on a loop in another thread than the test that lets its broker say something.
            self._loop.call_soon_threadsafe(self._move)

    def _move(self) -> None:
        self._scheduled = False
        if self.frozen:
            return
        if self._budget == 0:
            self._budget = None
            self._link.drop(self._budget_error)
        elif self._data:
            size = next(self._sizes)
            piece = bytes(self._data[: size if self._budget is None else min(size, self._budget)])
            del self._data[: len(piece)]
            if self._budget is not None:
                self._budget -= len(piece)
            if self._data or self._finished or self._budget == 0:
                self.schedule()
            self._sink.receive(piece)
        elif self._finished:
            self._sink.lose(self._error)
