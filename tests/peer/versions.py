"""Which version of RabbitMQ knows which command (protocol section 8)."""

from __future__ import annotations

from typing import Final

from actorstream.wire import commands as c
from actorstream.wire.constants import Key

# Commands that clients may send once the connection is open, and the first version that knows them.
_SINCE: Final[dict[type[c.Command], tuple[int, ...]]] = {
    c.DeclarePublisher: (),
    c.Publish: (),
    c.PublishFiltered: (3, 13),
    c.QueryPublisherSequence: (),
    c.DeletePublisher: (),
    c.Subscribe: (),
    c.Credit: (),
    c.StoreOffset: (),
    c.QueryOffset: (),
    c.Unsubscribe: (),
    c.Create: (),
    c.Delete: (),
    c.Metadata: (),
    c.SaslAuthenticate: (3, 13),
    c.Close: (),
    c.Heartbeat: (),
    c.Route: (),
    c.Partitions: (),
    c.ConsumerUpdateResponse: (3, 11),
    c.ExchangeCommandVersions: (3, 11),
    c.StreamStats: (3, 11),
    c.CreateSuperStream: (3, 13),
    c.DeleteSuperStream: (3, 13),
    c.ResolveOffsetSpec: (4, 3),
}

# Brokers do not list what can be said before the exchange, nor the exchange.
_UNLISTED: Final = (Key.SASL_AUTHENTICATE, Key.EXCHANGE_COMMAND_VERSIONS)


def is_known(command: c.Command, version: tuple[int, ...]) -> bool:
    """Whether a broker of this version takes this command on an open connection."""
    since = _SINCE.get(type(command))
    return since is not None and version >= since


def versions(version: tuple[int, ...]) -> dict[int, int]:
    """What a broker of this version lists: the newest version of each command that clients send."""
    known = [kind for kind, since in _SINCE.items() if version >= since and not issubclass(kind, c.Response)]
    newest: dict[int, int] = {}
    for kind in known:
        newest[kind.KEY] = max(newest.get(kind.KEY, 0), kind.VERSION)
    return {key: newest[key] for key in sorted(newest) if key not in _UNLISTED}
