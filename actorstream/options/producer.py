"""How a producer buffers and waits."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypedDict

from actorstream.options.checks import check_name, count, positive, require


class Replay(enum.Enum):
    """What becomes of messages that were sent and not confirmed when their connection was lost.

    A producer with a name replays them in either case: the broker drops what it already has.
    """

    RESEND = "resend"
    """Send them again: at least once, a message may be stored twice."""
    FAIL = "fail"
    """Their receipts raise `Unconfirmed`: at most once, the caller decides."""


class ProducerKeywords(TypedDict, total=False):
    """The options of `ProducerOptions` as keywords, for whatever makes a producer; `name` is a parameter of its own."""

    max_unconfirmed: int
    max_unconfirmed_bytes: int
    send_timeout_s: float | None
    confirm_timeout_s: float | None
    replay: Replay
    raw: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ProducerOptions:
    """How a producer buffers and waits.

    Attributes:
        name: the reference for deduplication, "" for none.
        max_unconfirmed: messages that may be queued or in flight; `send` waits when there are as many.
        max_unconfirmed_bytes: the same in bytes.
        send_timeout_s: how long `send` waits for room before it raises `OutboxFull`; None waits as long as it takes.
        confirm_timeout_s: from `send` until the receipt gives up with `Unconfirmed`; None waits as long as it takes.
        replay: what an unnamed producer does with unconfirmed messages after a lost connection.
        raw: bytes are stored as they are, not as the data section of an AMQP 1.0 message.
    """

    name: str = ""
    max_unconfirmed: int = 10_000
    max_unconfirmed_bytes: int = 64 * 2**20
    send_timeout_s: float | None = None
    confirm_timeout_s: float | None = 60.0
    replay: Replay = Replay.RESEND
    raw: bool = False

    def __post_init__(self) -> None:
        if self.name:
            check_name("a producer's name", self.name)
        count("max_unconfirmed", self.max_unconfirmed, 1, 2**31)
        count("max_unconfirmed_bytes", self.max_unconfirmed_bytes, 1, 2**40)
        positive("send_timeout_s", self.send_timeout_s, optional=True)
        positive("confirm_timeout_s", self.confirm_timeout_s, optional=True)
        require(isinstance(self.replay, Replay), f"replay is a member of Replay, not {self.replay!r}")
