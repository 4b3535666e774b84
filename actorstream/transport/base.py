"""What a connection's owner and its socket expect of each other."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Sequence
from typing import Protocol


class Listener(Protocol):
    """The owner of a transport. Called on its loop, never before the opener returned, never after `close` or `abort`.

    An opener that is awaited through a task of its own returns to that task: hand it a listener that is ready.
    """

    def data_received(self, data: bytes) -> None:
        """Bytes arrived, never none, however they were split on the way."""

    def connection_lost(self, error: Exception | None) -> None:
        """The last call, after the last bytes: the peer closed the connection (None), or it broke."""


class Transport(Protocol):
    """An open connection. To be used on the loop that it was opened on; no call of it waits."""

    @property
    def peer(self) -> str:
        """The address at the other end, "127.0.0.1:5552" for example."""

    @property
    def is_closing(self) -> bool:
        """Whether it is closed, being closed, or broken, known to the listener or not yet: `write` would raise."""

    def write(self, chunks: Sequence[bytes]) -> None:
        """Send these bytes, in order; what the socket does not take at once is buffered, without bound.

        Raises:
            ConnectionLost: the connection is closed, being closed, or broken; nothing was sent.
        """

    def buffered(self) -> int:
        """Bytes written that are still waiting for the socket to take them."""

    def close(self) -> None:
        """Send what is buffered, then close; if the peer does not take it within a second or so, close without.

        Returns at once, and the listener is not called any more. Does nothing the second time.
        """

    def abort(self) -> None:
        """Close now; what is buffered is lost. The listener is not called any more. Can follow `close`."""


class Opener(Protocol):
    """How connections are opened: `open_tcp`, or a `MemoryNetwork`'s `open`."""

    async def __call__(
        self,
        host: str,
        port: int,
        listener: Listener,
        *,
        ssl: ssl_module.SSLContext | None,
        server_hostname: str | None,
        timeout_s: float,
    ) -> Transport:
        """See `open_tcp`."""
        raise NotImplementedError


def format_address(host: str, port: int) -> str:
    """Host and port as people write them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
