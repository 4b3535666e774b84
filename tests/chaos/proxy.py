"""Bad lines: a TCP proxy before each broker that delays, narrows, trickles, stalls, and cuts in the middle of a frame.

It runs on a loop in a thread of its own, so that a client that blocks its loop does not block the network too. The
kernels that this has to run on have no way to do it below TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

READ = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


@dataclass
class Condition:
    """What a line is like at the moment; the same for both directions.

    Attributes:
        delay_s: before each piece is passed on.
        bytes_per_s: 0 is without limit.
        piece: bytes that are passed on at a time; 0 is as they come. 1 is a trickle.
        stalled: nothing is passed on.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    piece: int = 0
    stalled: bool = False


@dataclass(eq=False)
class _Pipe:
    """One connection through the proxy."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    cut_next: bool = False

    def reset(self) -> None:
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """The line to one broker; its methods may be called from any thread, and return once they have taken effect."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        self._loop = loop
        self._target = target
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self.condition = Condition()
        self.port = 0
        self.cuts = 0
        self.delayed = 0

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, condition: Condition) -> None:
        """Make the line so from now on."""

        def change() -> None:
            self.condition = condition
            self._changed.set()

        self._loop.call_soon_threadsafe(change)

    def connections(self) -> int:
        """How many go through it now."""
        return len(self._pipes)

    def reset_all(self) -> int:
        """End all connections with RST; how many there were."""
        return asyncio.run_coroutine_threadsafe(self._reset_all(), self._loop).result(5.0)

    def cut_within_a_frame(self) -> int:
        """Let the next bytes of each connection through only half, and end it; how many there are."""
        return asyncio.run_coroutine_threadsafe(self._cut_next(), self._loop).result(5.0)

    async def _reset_all(self) -> int:
        pipes = tuple(self._pipes)
        for pipe in pipes:
            pipe.reset()
        return len(pipes)

    async def _cut_next(self) -> int:
        for pipe in self._pipes:
            pipe.cut_next = True
        return len(self._pipes)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pipe = _Pipe([writer])
        self._pipes.add(pipe)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            pipe.writers.append(far_writer)
            directions = [
                asyncio.ensure_future(self._pump(pipe, reader, far_writer)),
                asyncio.ensure_future(self._pump(pipe, far_reader, writer)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            pass  # the broker is down: the client sees its connection end
        except asyncio.CancelledError:
            pass  # by `stop`; asyncio's server would log a task of its own that ends so as an error
        finally:
            self._pipes.discard(pipe)
            self._tasks.discard(task)
            for one in pipe.writers:
                one.transport.abort()

    async def _pump(self, pipe: _Pipe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ):
                await self._pass_on(pipe, data, writer)

    async def _pass_on(self, pipe: _Pipe, data: bytes, writer: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(data):
            while self.condition.stalled:
                self._changed.clear()
                await self._changed.wait()
            condition = self.condition
            size = condition.piece or len(data) - at
            if condition.bytes_per_s:
                size = min(size, max(1, int(condition.bytes_per_s / 20)))
            piece = data[at : at + size]
            pause = condition.delay_s + (len(piece) / condition.bytes_per_s if condition.bytes_per_s else 0.0)
            if pause:
                self.delayed += 1
                await asyncio.sleep(pause)
            if pipe.cut_next and len(piece) > 1:
                writer.write(piece[: len(piece) // 2])
                await writer.drain()
                self.cuts += 1
                pipe.reset()
                raise ConnectionAbortedError
            writer.write(piece)
            await writer.drain()
            at += len(piece)


class Proxies:
    """A proxy before each broker, by the port that the broker advertises. Use it with `with`."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")
        self.by_port = {port: Proxy(self._loop, port) for port in ports}

    def __enter__(self) -> Self:
        self._thread.start()
        for proxy in self.by_port.values():
            self._do(proxy.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for proxy in self.by_port.values():
            self._do(proxy.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __iter__(self) -> Iterator[Proxy]:
        return iter(self.by_port.values())

    def ports(self) -> dict[int, int]:
        """The ports of the proxies, by those that the brokers advertise."""
        return {port: proxy.port for port, proxy in self.by_port.items()}

    def _do(self, work: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10.0)
