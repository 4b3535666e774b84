"""Connecting through the proxies: whatever goes to a broker's port goes to its proxy's."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Mapping

from actorstream.transport import Listener, Opener, Transport, open_tcp


def through(ports: Mapping[int, int]) -> Opener:
    """An opener that connects to `ports[port]` in place of each port that is a key."""

    async def open_redirected(
        host: str,
        port: int,
        listener: Listener,
        *,
        ssl: ssl_module.SSLContext | None,
        server_hostname: str | None,
        timeout_s: float,
    ) -> Transport:
        return await open_tcp(
            host, ports.get(port, port), listener, ssl=ssl, server_hostname=server_hostname, timeout_s=timeout_s
        )

    return open_redirected
