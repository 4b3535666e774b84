"""Where brokers are: endpoints and URIs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from actorstream.errors import InvalidArgument
from actorstream.options.checks import require

DEFAULT_PORT = 5552
DEFAULT_TLS_PORT = 5551


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Host and port of a broker, as a seed URI or Metadata names it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddressResolver = Callable[[Endpoint], Endpoint | Sequence[Endpoint] | Awaitable[Endpoint | Sequence[Endpoint]]]
"""Where to connect to for a broker that is known by what it advertises; several addresses are tried in order. Run like
a `CredentialsProvider`, before each attempt."""


@dataclass(frozen=True, slots=True)
class Address:
    """What one URI says. Fields that the URI leaves out are None."""

    endpoint: Endpoint
    tls: bool
    username: str | None
    password: str | None
    vhost: str | None


def parse_uri(uri: str) -> Address:
    """`rabbitmq-stream://user:password@host:port/vhost`, or `rabbitmq-stream+tls://…`.

    User, password and vhost are percent-decoded; no path, or "/", means the default vhost. Ports: 5552, TLS 5551.

    Raises:
        InvalidArgument: another scheme, no host, or a port that is none.
    """
    require(isinstance(uri, str), f"a URI is a string, not {uri!r}")
    form = "rabbitmq-stream://user:password@host:5552/vhost or rabbitmq-stream+tls://…"
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"not a usable URI ({error}): the form is {form}") from None
    # The password is in the URI, so the message names only the scheme.
    require(
        parts.scheme in ("rabbitmq-stream", "rabbitmq-stream+tls"),
        f"the URI's scheme is {parts.scheme!r}: the form is {form}",
    )
    require(bool(parts.hostname), f"the URI names no host: the form is {form}")
    require(not parts.query and not parts.fragment, f"a URI carries no query or fragment: the form is {form}")
    require(port != 0, f"the URI's port is 0: the form is {form}")
    tls = parts.scheme.endswith("+tls")
    vhost = unquote(parts.path[1:]) if len(parts.path) > 1 else None
    return Address(
        Endpoint(parts.hostname or "", port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT)),
        tls,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        vhost,
    )
