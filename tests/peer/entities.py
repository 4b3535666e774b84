"""What a connection consists of besides its bytes: how far it has come, its publishers, its subscriptions."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire import commands as c

if TYPE_CHECKING:
    from tests.peer.connection import Peer
    from tests.peer.sac import SacGroup
    from tests.peer.stream import FakeStream

MAX_REFERENCE: Final = 255


class State(enum.Enum):
    """What the broker expects next."""

    PEER_PROPERTIES = "PeerProperties"
    SASL_HANDSHAKE = "SaslHandshake"
    SASL_AUTHENTICATE = "SaslAuthenticate"
    TUNE = "Tune"
    OPENING = "Open"
    OPEN = "anything"
    CLOSING = "CloseResponse"


@dataclass(frozen=True)
class Publisher:
    """A publisher as declared."""

    id: int
    reference: str
    stream: str


@dataclass(eq=False)
class Subscription:
    """A subscription, and its credit in chunks. One without position does not read yet: it waits to become active."""

    peer: Peer
    id: int
    stream: FakeStream
    spec: OffsetSpecification
    credit: int
    send_limit: int
    properties: dict[str, str]
    position: int | None = None
    group: SacGroup | None = None
    delivered: int = 0

    def start(self, spec: OffsetSpecification) -> None:
        """Read from here on; type none stands for what was subscribed with."""
        self.position = self.stream.position_of(self.spec if spec.type is OffsetType.NONE else spec)
        self.pump()

    def pump(self) -> None:
        """Deliver what credit allows: nothing at or below half of the initial credit, then all that there is."""
        if self.position is None or self.credit <= self.send_limit:
            return
        while self.credit > 0 and (chunk := self.stream.chunk_from(self.position)) is not None:
            self.position = chunk.next_offset
            if not chunk.is_tracking and self._wants(chunk.filter_values):
                self.credit -= 1
                self.deliver(chunk.chunk_id)

    def deliver(self, chunk_id: int) -> None:
        """Send the chunk with this id, whatever the credit says."""
        stream = self.stream
        chunk = next(one for one in stream.chunks if one.chunk_id == chunk_id)
        corrupt = stream.corrupt_deliveries > 0
        stream.corrupt_deliveries -= corrupt
        self.delivered += 1
        committed = stream.last_chunk_id if self.peer.deliver_version == 2 else None
        self.peer.send(c.Deliver(self.id, committed, chunk.encode(corrupt=corrupt)))

    def _wants(self, values: frozenset[str | None]) -> bool:
        wanted = {value for name, value in self.properties.items() if name.startswith("filter.")}
        if not wanted:
            return True
        return bool(values & wanted) or (None in values and self.properties.get("match-unfiltered") == "true")
