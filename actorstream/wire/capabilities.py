"""What a broker can do: its version, and the command versions that it exchanged (protocol section 8)."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Final

from actorstream.errors import UnsupportedByBroker
from actorstream.wire.commands import Command, CommandVersions, Subscribe, layouts
from actorstream.wire.constants import RESPONSE_BIT, Key


class Feature(enum.Enum):
    """What only some brokers can do. The value is how it is called in an error."""

    SINGLE_ACTIVE_CONSUMER = "single active consumer"
    STREAM_STATS = "stream statistics"
    FILTERING = "filtering"
    SUPER_STREAM_ADMIN = "making and deleting super streams"
    RESOLVE_OFFSET = "resolving an offset specification"
    RENEWAL = "renewing the log-in of an open connection"


# The command, in the version, that proves a feature; and the first broker that has it, for the error.
_PROOF: Final[dict[Feature, tuple[Key, int, str]]] = {
    Feature.SINGLE_ACTIVE_CONSUMER: (Key.CONSUMER_UPDATE, 1, "3.11"),
    Feature.STREAM_STATS: (Key.STREAM_STATS, 1, "3.11"),
    Feature.FILTERING: (Key.PUBLISH, 2, "3.13"),
    Feature.SUPER_STREAM_ADMIN: (Key.CREATE_SUPER_STREAM, 1, "3.13"),
    Feature.RESOLVE_OFFSET: (Key.RESOLVE_OFFSET_SPEC, 1, "4.3"),
    Feature.RENEWAL: (Key.CREATE_SUPER_STREAM, 1, "3.13"),  # has no command of its own; it came with this one
}

# Sending one of these to a broker that does not know it costs the connection.
_NEEDED_BY_KEY: Final[dict[Key, Feature]] = {
    Key.STREAM_STATS: Feature.STREAM_STATS,
    Key.CREATE_SUPER_STREAM: Feature.SUPER_STREAM_ADMIN,
    Key.DELETE_SUPER_STREAM: Feature.SUPER_STREAM_ADMIN,
    Key.RESOLVE_OFFSET_SPEC: Feature.RESOLVE_OFFSET,
    Key.SASL_AUTHENTICATE: Feature.RENEWAL,  # on an open connection: the handshake's own asks nobody
}

_FIRST_WITH_EXCHANGE: Final = (3, 11)

CLIENT_VERSIONS: Final = (
    CommandVersions(Key.PUBLISH_CONFIRM, 1, 1),
    CommandVersions(Key.PUBLISH_ERROR, 1, 1),
    CommandVersions(Key.DELIVER, 1, 2),
    CommandVersions(Key.METADATA_UPDATE, 1, 1),
    CommandVersions(Key.CONSUMER_UPDATE, 1, 1),
)
"""What we tell the broker: the commands that it sends, and no others, since an unknown key costs the connection."""


def _newest_known() -> dict[int, int]:
    newest: dict[int, int] = {}
    for layout in layouts():
        key = layout.key & ~RESPONSE_BIT
        newest[key] = max(newest.get(key, 0), layout.version)
    return newest


_NEWEST_KNOWN: Final = _newest_known()


def parse_version(text: str) -> tuple[int, ...]:
    """(4, 1, 0) for "4.1.0-rc.2"; () for what is no version, which counts as older than any."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple([int(part) for part in match[0].split(".")]) if match else ()


def unsupported(feature: Feature, broker: str) -> UnsupportedByBroker:
    """The error that says which broker has the feature; `broker` is the version of the one that lacks it."""
    return UnsupportedByBroker(feature.value, _PROOF[feature][2], broker)


class Capabilities:
    """What the broker at the other end can do.

    Attributes:
        version_text: as the broker says it, "unknown" if it does not.
        version: the numbers in it.
    """

    __slots__ = ("_offered", "version", "version_text")

    def __init__(self, server_properties: Mapping[str, str]) -> None:
        self.version_text = server_properties.get("version", "unknown")
        self.version = parse_version(self.version_text)
        self._offered: dict[int, CommandVersions] = {}

    @property
    def exchanges_versions(self) -> bool:
        """Whether the broker knows ExchangeCommandVersions."""
        return self.version >= _FIRST_WITH_EXCHANGE

    def learn(self, offered: Sequence[CommandVersions]) -> None:
        """Take in the broker's side of the exchange."""
        self._offered = {one.key: one for one in offered}

    def max_version(self, key: int) -> int:
        """The newest version of a command that both sides know; 0 if there is none.

        Brokers list only what clients send: a command of the first release, or one that brokers send, needs no mention.
        """
        known = _NEWEST_KNOWN.get(key, 0)
        offer = self._offered.get(key)
        if offer is not None:
            return min(known, offer.maximum) if offer.minimum <= known else 0
        if key == Key.DELIVER:
            return known if self.exchanges_versions else 1
        if key in (Key.CONSUMER_UPDATE, Key.EXCHANGE_COMMAND_VERSIONS):
            return known if self.exchanges_versions else 0
        return min(known, 1) if key <= Key.PARTITIONS else 0

    def supports(self, feature: Feature) -> bool:
        """Whether the broker has it."""
        key, version, _ = _PROOF[feature]
        return self.max_version(key) >= version

    def features(self) -> frozenset[Feature]:
        """All that it has; settled once the versions are exchanged."""
        return frozenset([feature for feature in Feature if self.supports(feature)])

    def require(self, feature: Feature) -> None:
        """Do nothing if the broker has it.

        Raises:
            UnsupportedByBroker: it has not.
        """
        if not self.supports(feature):
            raise unsupported(feature, self.version_text)

    def require_command(self, command: Command) -> None:
        """The same for whatever a command makes use of.

        An unknown command costs the connection. Unknown properties of a subscription are worse: they are ignored.
        """
        feature = _NEEDED_BY_KEY.get(command.KEY)
        if feature is not None:
            self.require(feature)
        if isinstance(command, Subscribe):
            if "single-active-consumer" in command.properties:
                self.require(Feature.SINGLE_ACTIVE_CONSUMER)
            if any(name.startswith("filter.") for name in command.properties):
                self.require(Feature.FILTERING)
