"""How a consumer reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from actorstream.options.checks import count, require


class OnGap(enum.Enum):
    """What a consumer does when the next offset it wants is no longer in the stream (retention)."""

    CONTINUE = "continue"
    """Emit an `OffsetGap` event and go on with the first offset there is."""
    RAISE = "raise"
    """Raise `errors.OffsetGap` from the iterator."""


class OnTruncated(enum.Enum):
    """What a consumer does when the next offset it wants is beyond the end (stream made anew, or its tail lost)."""

    FIRST = "first"
    """Emit a `StreamTruncated` event and read the stream from its beginning."""
    NEXT = "next"
    """Emit a `StreamTruncated` event and go on with what is written from now on."""
    RAISE = "raise"
    """Raise `errors.StreamTruncated` from the iterator."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerOptions:
    """How a consumer reads.

    Attributes:
        credit: chunks the broker may send ahead; at least 2, since a broker resumes only above half of it.
        raw: records are delivered as stored, without being taken for AMQP 1.0.
        prefer_leader: read from the leader, and not, as usual, from a replica.
        on_gap, on_truncated: see there.
    """

    credit: int = 10
    raw: bool = False
    prefer_leader: bool = False
    on_gap: OnGap = OnGap.CONTINUE
    on_truncated: OnTruncated = OnTruncated.FIRST

    def __post_init__(self) -> None:
        count("credit", self.credit, 2, 32_767)
        require(isinstance(self.on_gap, OnGap), f"on_gap is a member of OnGap, not {self.on_gap!r}")
        require(
            isinstance(self.on_truncated, OnTruncated),
            f"on_truncated is a member of OnTruncated, not {self.on_truncated!r}",
        )
