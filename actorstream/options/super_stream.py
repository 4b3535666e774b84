"""What a producer or a consumer of a super stream does when the super stream changes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from actorstream.options.checks import positive, require
from actorstream.options.consumer import ConsumerKeywords, ConsumerOptions
from actorstream.options.producer import ProducerKeywords, ProducerOptions


class OnPartitionsChanged(enum.Enum):
    """What a producer or a consumer does when its super stream has other partitions than before.

    A consumer that reads a partition reads it until it is deleted; the others go on.

    With more or fewer partitions, hash routing sends most keys to another partition than before: what was published
    for such a key stays where it is, so that the key's messages are in two places, and no consumer sees them in order.
    Only who runs the application knows whether that is allowed.
    """

    KEEP = "keep"
    """Go on with the partitions that there were when the producer was made: no key moves, and new partitions get
    nothing. Messages for one that was removed are refused."""
    FOLLOW = "follow"
    """Spread what is sent from now on over the new partitions: keys may move. A consumer reads them from their first
    message on."""
    RAISE = "raise"
    """Raise `errors.PartitionsChanged` from each `send` from now on, or from the iteration; what was accepted before
    goes on."""


class SuperStreamProducerKeywords(ProducerKeywords, total=False):
    """The options of `SuperStreamProducerOptions` as keywords; see `ProducerKeywords`."""

    on_partitions_changed: OnPartitionsChanged
    refresh_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SuperStreamProducerOptions(ProducerOptions):
    """How the producer of each partition works, as `ProducerOptions` say, and how the partitions are followed.

    Attributes:
        on_partitions_changed: see there.
        refresh_s: seconds between two looks at the partitions and routes; the broker does not tell when they change.
    """

    on_partitions_changed: OnPartitionsChanged = OnPartitionsChanged.KEEP
    refresh_s: float = 30.0

    def __post_init__(self) -> None:
        ProducerOptions.__post_init__(self)  # a class with slots is made anew, and super() would look for the old one
        _check(self.on_partitions_changed, self.refresh_s)


class SuperStreamConsumerKeywords(ConsumerKeywords, total=False):
    """The options of `SuperStreamConsumerOptions` as keywords; see `ConsumerKeywords`."""

    on_partitions_changed: OnPartitionsChanged
    refresh_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SuperStreamConsumerOptions(ConsumerOptions):
    """How each partition is read, as `ConsumerOptions` say, and how the partitions are followed.

    Attributes:
        on_partitions_changed: see there.
        refresh_s: seconds between two looks at the partitions; the broker does not tell when they change.
    """

    on_partitions_changed: OnPartitionsChanged = OnPartitionsChanged.FOLLOW
    refresh_s: float = 30.0

    def __post_init__(self) -> None:
        ConsumerOptions.__post_init__(self)  # as above
        _check(self.on_partitions_changed, self.refresh_s)


def _check(on_partitions_changed: OnPartitionsChanged, refresh_s: float) -> None:
    require(
        isinstance(on_partitions_changed, OnPartitionsChanged),
        f"on_partitions_changed is a member of OnPartitionsChanged, not {on_partitions_changed!r}",
    )
    positive("refresh_s", refresh_s)
