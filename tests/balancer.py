"""A TCP load balancer, round robin: what stands before a cluster whose nodes cannot be reached one by one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from lab.broker import Broker


class Balancer:
    """Run it with `async with`. It knows nothing of the protocol, and skips nodes that refuse connections.

    With `idle_s`, it ends a connection on which nothing came from the client for so many seconds.

    Attributes:
        port: where it listens, on localhost.
        accepted: the targets that it has led to, in order.
    """

    def __init__(self, brokers: Sequence[Broker], *, idle_s: float | None = None) -> None:
        self._targets = [(broker.host, broker.port) for broker in brokers]
        self._idle_s = idle_s
        self._turns = itertools.count()
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.accepted: list[int] = []

    @property
    def uri(self) -> str:
        return f"rabbitmq-stream://guest:guest@localhost:{self.port}"

    @property
    def connections(self) -> int:
        """How many go through it now."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """End all connections, on both sides and without a word."""
        tasks = tuple(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        writers = [writer]
        try:
            connected = await self._connect()
            if connected is not None:
                writers.append(connected[1])
                await asyncio.wait(
                    [
                        asyncio.ensure_future(_pump(reader, connected[1], self._idle_s)),
                        asyncio.ensure_future(_pump(connected[0], writer, None)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        except asyncio.CancelledError:
            pass  # `cut`: whoever is cancelled here ends as if by itself, since the server would log it otherwise
        finally:
            for one in writers:
                one.transport.abort()
            self._open.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._targets:
            number = next(self._turns) % len(self._targets)
            with contextlib.suppress(OSError):
                connected = await asyncio.open_connection(*self._targets[number])
                self.accepted.append(number)
                return connected
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_s: float | None) -> None:
    with contextlib.suppress(OSError):  # TimeoutError is one
        while data := await asyncio.wait_for(reader.read(65_536), idle_s):
            writer.write(data)
            await writer.drain()
