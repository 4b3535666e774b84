"""How a producer buffers and waits."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from actorstream import compression
from actorstream.compression import Compression
from actorstream.options.checks import check_name, count, positive, require


class Replay(enum.Enum):
    """What becomes of messages that were sent and not confirmed when their connection was lost.

    A producer with a name replays them in either case: the broker drops what it already has.
    """

    RESEND = "resend"
    """Send them again: at least once, a message may be stored twice."""
    FAIL = "fail"
    """Their receipts raise `Unconfirmed`: at most once, the caller decides."""


class WhenAway(enum.Enum):
    """What `send` does while there is no connection to the stream's leader.

    What was accepted before is kept in any case, and sent when there is a connection again.
    """

    WAIT = "wait"
    """Accept up to the bounds, then wait for room, as long as `send_timeout_s` says."""
    BUFFER = "buffer"
    """Accept up to the bounds, then raise `OutboxFull` at once."""
    FAIL = "fail"
    """Raise `BrokerAway` at once."""


class ProducerKeywords(TypedDict, total=False):
    """The options of `ProducerOptions` as keywords, for whatever makes a producer; `name` is a parameter of its own."""

    max_unconfirmed: int
    max_unconfirmed_bytes: int
    send_timeout_s: float | None
    confirm_timeout_s: float | None
    replay: Replay
    when_away: WhenAway
    raw: bool
    sub_entry_size: int
    compression: Compression | str
    filter_value: Callable[[Any], str | None] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProducerOptions:
    """How a producer buffers, waits and encodes.

    Attributes:
        name: the reference for deduplication, "" for none.
        max_unconfirmed: messages that may be queued or in flight; `send` waits when there are as many.
        max_unconfirmed_bytes: the same in bytes, before compression.
        send_timeout_s: how long `send` waits for room before it raises `OutboxFull`; None waits as long as it takes.
        confirm_timeout_s: from `send` until the receipt gives up with `Unconfirmed`; None waits as long as it takes.
        replay: what an unnamed producer does with unconfirmed messages after a lost connection.
        when_away: what `send` does while there is no connection: wait for room, buffer and then fail, or fail at once.
        raw: bytes are stored as they are, not as the data section of an AMQP 1.0 message.
        sub_entry_size: messages that are sent together are grouped into sub-entries of up to so many, 1 to 65,535; 1
            sends each by itself. A sub-entry has one publishing id, and is stored, or dropped as a duplicate, as a
            whole.
        compression: the codec of sub-entries: "none", "gzip", "snappy", "lz4", "zstd". It takes its time on the tree's
            loop, which `own_thread=True` keeps apart from yours. AMQP 0-9-1 consumers of the stream are not given
            compressed ones.
        filter_value: a function that finds the filter value of a body that is sent, None for one that has none. Needs
            RabbitMQ 3.13; not together with sub-entries.
    """

    name: str = ""
    max_unconfirmed: int = 10_000
    max_unconfirmed_bytes: int = 64 * 2**20
    send_timeout_s: float | None = None
    confirm_timeout_s: float | None = 60.0
    replay: Replay = Replay.RESEND
    when_away: WhenAway = WhenAway.WAIT
    raw: bool = False
    sub_entry_size: int = 1
    compression: Compression | str = Compression.NONE
    filter_value: Callable[[Any], str | None] | None = None

    def __post_init__(self) -> None:
        if self.name:
            check_name("a producer's name", self.name)
        count("max_unconfirmed", self.max_unconfirmed, 1, 2**31)
        count("max_unconfirmed_bytes", self.max_unconfirmed_bytes, 1, 2**40)
        positive("send_timeout_s", self.send_timeout_s, optional=True)
        positive("confirm_timeout_s", self.confirm_timeout_s, optional=True)
        require(isinstance(self.replay, Replay), f"replay is a member of Replay, not {self.replay!r}")
        require(isinstance(self.when_away, WhenAway), f"when_away is a member of WhenAway, not {self.when_away!r}")
        count("sub_entry_size", self.sub_entry_size, 1, 65_535)
        compression.parse(self.compression)
        require(
            self.filter_value is None or callable(self.filter_value),
            f"filter_value is a function from a body to a string or None, not {self.filter_value!r}",
        )
        require(
            self.filter_value is None or self.sub_entry_size == 1,
            "filter_value and sub_entry_size exclude each other: the protocol has no filter values in sub-entries",
        )

    @property
    def codec(self) -> Compression:
        """`compression` as a member."""
        return compression.parse(self.compression)
