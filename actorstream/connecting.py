"""`connect()`: from URIs and options to a running client."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from actorstream.actors.runtime import Home
from actorstream.client import Client
from actorstream.errors import InvalidArgument
from actorstream.options import ConnectionOptions, Endpoint, parse_uri
from actorstream.transport import Opener, open_tcp


class _Connecting:
    """What `connect` returns: await it for a client, or use it with `async with`."""

    def __init__(self, make: Callable[[], Awaitable[Client]]) -> None:
        self._make = make
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._make().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._make()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()


def connect(
    uri: str | Sequence[str],
    *,
    username: str | None = None,
    password: str | None = None,
    vhost: str | None = None,
    tls: ssl_module.SSLContext | None = None,
    name: str | None = None,
    options: ConnectionOptions | None = None,
    own_thread: bool = False,
    close_timeout_s: float = 5.0,
    opener: Opener = open_tcp,
) -> _Connecting:
    """Connect to a broker or a cluster; await the result, or use it with `async with`.

    Args:
        uri: one URI or several (see `options.parse_uri`); any broker that answers leads to all of its cluster.
        username, password, vhost: override what the URIs say. Default: guest, guest, "/".
        tls: how to verify and to authenticate; `rabbitmq-stream+tls://` alone verifies against the system's roots.
        name: shown by the broker for each connection; "actorstream" by default.
        options: everything else about connections; what is given beside them overrules them.
        own_thread: run the actors on a loop in their own thread, so that heartbeats and recoveries go on while the
            caller's loop is busy. Default: on the caller's loop, which is faster.
        close_timeout_s: bound of `Client.close` and of `Producer.close`.
        opener: how sockets are opened; for tests.

    Raises:
        InvalidArgument: at once, from `connect` itself.
        ConnectFailed, AuthenticationFailure, VirtualHostAccessFailure, …: no seed could be reached; each is tried once.
    """
    seeds, resolved = _resolve(uri, username, password, vhost, tls, name, options)

    async def make() -> Client:
        home = Home.in_thread("actorstream") if own_thread else Home.here()
        client = Client(home, resolved, close_timeout_s)
        try:
            await client._start(seeds, opener)  # noqa: SLF001 - a class and its own factory
        except BaseException:
            await client.close()
            raise
        return client

    return _Connecting(make)


def _resolve(
    uri: str | Sequence[str],
    username: str | None,
    password: str | None,
    vhost: str | None,
    tls: ssl_module.SSLContext | None,
    name: str | None,
    options: ConnectionOptions | None,
) -> tuple[list[Endpoint], ConnectionOptions]:
    """The seeds, and one set of options for all of them."""
    uris = [uri] if isinstance(uri, str) else list(uri)
    if not uris:
        raise InvalidArgument("at least one URI is needed: rabbitmq-stream://user:password@host:5552/vhost")
    addresses = [parse_uri(one) for one in uris]
    if len({address.tls for address in addresses}) > 1:
        raise InvalidArgument("some URIs ask for TLS and some do not: use one scheme for all")
    for what in ("username", "password", "vhost"):
        if len({getattr(address, what) for address in addresses}) > 1:
            raise InvalidArgument(f"the URIs differ in their {what}: all brokers of a cluster have the same")
    first = addresses[0]
    base = options or ConnectionOptions()
    tls = tls or base.tls
    if tls is not None and not first.tls:
        raise InvalidArgument("a TLS context was given, but the URI's scheme is not rabbitmq-stream+tls://")
    if tls is None and first.tls:
        tls = ssl_module.create_default_context()
    given = {
        "name": name,
        "username": username if username is not None else first.username,
        "password": password if password is not None else first.password,
        "vhost": vhost if vhost is not None else first.vhost,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return [address.endpoint for address in addresses], replace(base, tls=tls, **changes)
