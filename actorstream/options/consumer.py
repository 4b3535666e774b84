"""How a consumer reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypedDict

from actorstream.options.checks import check_name, count, positive, require
from actorstream.options.filtering import Filter
from actorstream.options.tracking import AutoTracking

MAX_HAND_OVER_S = 25.0
"""An activation may take it twice, and some requests besides, within the minute that the broker waits (W8)."""


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


class ConsumerKeywords(TypedDict, total=False):
    """The options of `ConsumerOptions` as keywords, for whatever makes a consumer; `name` is a parameter of its own."""

    credit: int
    raw: bool
    prefer_leader: bool
    on_gap: OnGap
    on_truncated: OnTruncated
    tracking: AutoTracking | None
    single_active: bool
    hand_over_timeout_s: float
    filter: Filter | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerOptions:
    """How a consumer reads.

    Attributes:
        name: under which its offset is stored, "" for none.
        credit: chunks the broker may send ahead; at least 2, since a broker resumes only above half of it.
        raw: records are delivered as stored, without being taken for AMQP 1.0.
        prefer_leader: read from the leader, and not, as usual, from a replica.
        on_gap, on_truncated: see there.
        tracking: when the offset of a consumer with a name is stored; None: only by `Consumer.store_offset`.
        single_active: of the consumers that have this name, and this option, the broker sends to one at a time.
        hand_over_timeout_s: how long such a consumer may take to finish what it has in hand, and store it, before
            another one takes over; and how long to find where to begin when it takes over itself. The broker would wait
            a minute for all of it.
        filter: which messages are wanted; None: all.
    """

    name: str = ""
    credit: int = 10
    raw: bool = False
    prefer_leader: bool = False
    on_gap: OnGap = OnGap.CONTINUE
    on_truncated: OnTruncated = OnTruncated.FIRST
    tracking: AutoTracking | None = field(default_factory=AutoTracking)
    single_active: bool = False
    hand_over_timeout_s: float = 20.0
    filter: Filter | None = None

    def __post_init__(self) -> None:
        if self.name:
            check_name("a consumer's name", self.name)
        count("credit", self.credit, 2, 32_767)
        require(isinstance(self.on_gap, OnGap), f"on_gap is a member of OnGap, not {self.on_gap!r}")
        require(
            isinstance(self.on_truncated, OnTruncated),
            f"on_truncated is a member of OnTruncated, not {self.on_truncated!r}",
        )
        ok = self.tracking is None or isinstance(self.tracking, AutoTracking)
        require(ok, f"tracking is an AutoTracking or None, not {self.tracking!r}")
        ok = bool(self.name) or self.tracking in (None, AutoTracking())
        require(ok, "an offset is stored under a consumer's name, and tracking needs one: give one with name=...")
        require(isinstance(self.single_active, bool), f"single_active is a boolean, not {self.single_active!r}")
        require(bool(self.name) or not self.single_active, "a single active consumer has a name, that of its group")
        positive("hand_over_timeout_s", self.hand_over_timeout_s)
        require(
            self.hand_over_timeout_s <= MAX_HAND_OVER_S,
            f"hand_over_timeout_s is at most {MAX_HAND_OVER_S:g}, not {self.hand_over_timeout_s!r}: the broker drops a "
            "connection on which it waits for a minute",
        )
        require(self.filter is None or isinstance(self.filter, Filter), f"filter is a Filter, not {self.filter!r}")

    @property
    def is_filtered_by_broker(self) -> bool:
        """Whether chunks are left out on purpose."""
        return self.filter is not None and bool(self.filter.values)
