"""`connect()`: from URIs and options to a running client."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from actorstream.actors.runtime import Home
from actorstream.client import Client
from actorstream.errors import InvalidArgument
from actorstream.options import (
    Address,
    AddressResolver,
    ConnectionOptions,
    CredentialsProvider,
    Endpoint,
    TokenProvider,
    parse_uri,
)
from actorstream.options.checks import is_number, require
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
    mechanism: str | None = None,
    credentials: CredentialsProvider | None = None,
    token_provider: TokenProvider | None = None,
    tls: ssl_module.SSLContext | None = None,
    tls_ca: str | Path | None = None,
    load_balancer_mode: bool | None = None,
    address_resolver: AddressResolver | None = None,
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
        mechanism, credentials, token_provider: other ways to log in, see `ConnectionOptions`; what the URIs say of user
            and password does not count then.
        tls: how to verify and to authenticate; `rabbitmq-stream+tls://` alone verifies against the system's roots.
        tls_ca: a file of the authorities' certificates (PEM) to verify against in place of the system's roots.
        load_balancer_mode, address_resolver: where brokers cannot be reached as they advertise, see
            `ConnectionOptions`.
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
    given = {
        "username": username,
        "password": password,
        "vhost": vhost,
        "mechanism": mechanism,
        "credentials": credentials,
        "token_provider": token_provider,
        "load_balancer_mode": load_balancer_mode,
        "address_resolver": address_resolver,
        "name": name,
    }
    require(
        is_number(close_timeout_s) and close_timeout_s >= 0,
        f"close_timeout_s is a number, 0 or above, not {close_timeout_s!r}",
    )
    seeds, resolved = _resolve(uri, given, tls, tls_ca, options)

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
    given: Mapping[str, Any],
    tls: ssl_module.SSLContext | None,
    tls_ca: str | Path | None,
    options: ConnectionOptions | None,
) -> tuple[list[Endpoint], ConnectionOptions]:
    """The seeds, and one set of options for all of them; what was given as an argument overrules everything else."""
    require(isinstance(uri, Iterable), f"a URI is a string, and several are a list of them, not {uri!r}")
    require(
        options is None or isinstance(options, ConnectionOptions), f"options are ConnectionOptions, not {options!r}"
    )
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
    said = {"username": first.username, "password": first.password, "vhost": first.vhost}
    chosen: dict[str, Any] = {
        key: value for values in (said, given) for key, value in values.items() if value is not None
    }
    resolved = replace(options or ConnectionOptions(), **chosen)
    _check_log_in(resolved, given)
    return [address.endpoint for address in addresses], replace(resolved, tls=_context(first, tls, tls_ca, resolved))


def _check_log_in(resolved: ConnectionOptions, given: Mapping[str, Any]) -> None:
    by_password = resolved.mechanism == "PLAIN" and resolved.credentials is None and resolved.token_provider is None
    if not by_password and (given["username"] is not None or given["password"] is not None):
        raise InvalidArgument("user name and password are for the mechanism PLAIN without a provider: leave them out")


def _context(
    first: Address, tls: ssl_module.SSLContext | None, tls_ca: str | Path | None, resolved: ConnectionOptions
) -> ssl_module.SSLContext | None:
    """How to verify: as the caller says, or against the authorities in a file, or against the system's roots."""
    context = tls or resolved.tls
    if context is not None and tls_ca is not None:
        raise InvalidArgument("give tls_ca or a TLS context, not both: context.load_verify_locations() takes the file")
    if not first.tls:
        if context is not None or tls_ca is not None:
            raise InvalidArgument("TLS was asked for, but the URI's scheme is not rabbitmq-stream+tls://")
        if resolved.mechanism == "EXTERNAL":
            raise InvalidArgument(
                "EXTERNAL logs in with the certificate of a TLS connection: use rabbitmq-stream+tls://, and a context "
                "that was given the certificate by load_cert_chain()"
            )
        return None
    if context is not None:
        return context
    try:
        return ssl_module.create_default_context(cafile=tls_ca)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidArgument(f"no certificates can be read from {str(tls_ca)!r}: {error}") from error
