"""What producers and consumers lived through, message by message.

A message carries who sent it and its number, so that whatever is read back later can be told apart and counted.
Times are seconds of the monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

import enum
import struct
import sys
import time
from array import array
from dataclasses import dataclass, field

_IDENTITY = struct.Struct(">IQ")
PADDING = b"." * 88


class Outcome(enum.IntEnum):
    """What became of a message that was sent."""

    PENDING = 0
    CONFIRMED = 1
    REJECTED = 2
    UNCONFIRMED = 3
    REFUSED = 4
    """`send` itself raised: the message was not accepted."""


def body_of(producer: int, number: int) -> bytes:
    """The body of one message."""
    return _IDENTITY.pack(producer, number) + PADDING


def identity_of(body: bytes) -> tuple[int, int]:
    """The producer and the number that a body carries."""
    producer, number = _IDENTITY.unpack_from(body)
    return producer, number


@dataclass
class ProducerHistory:
    """One logical producer: the outcome of each of its messages, and when it was known.

    `target` is a stream, or a super stream. `named`: the broker drops what it sends twice.
    """

    number: int
    target: str
    named: bool
    outcomes: bytearray = field(default_factory=bytearray)
    sent_at: array[float] = field(default_factory=lambda: array("d"))
    settled_at: array[float] = field(default_factory=lambda: array("d"))

    def sending(self) -> int:
        """The next message is about to be sent; returns its number."""
        number = len(self.outcomes)
        self.outcomes.append(Outcome.PENDING)
        self.sent_at.append(time.monotonic())
        self.settled_at.append(0.0)
        return number

    def settled(self, number: int, outcome: Outcome) -> bool:
        """The outcome of a message is known; False if it had one before."""
        first = self.outcomes[number] == Outcome.PENDING
        self.outcomes[number] = outcome
        self.settled_at[number] = time.monotonic()
        return first

    def size_bytes(self) -> int:
        """Memory that it takes."""
        return sum(map(sys.getsizeof, (self.outcomes, self.sent_at, self.settled_at)))

    def count(self, outcome: Outcome) -> int:
        """How many messages have this outcome."""
        return self.outcomes.count(outcome)


@dataclass
class ConsumerHistory:
    """One consumer of one stream: what it was given, in that order."""

    stream: str
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    producers: array[int] = field(default_factory=lambda: array("I"))
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    received_at: array[float] = field(default_factory=lambda: array("d"))

    def received(self, offset: int, body: bytes) -> None:
        """A message came."""
        producer, number = identity_of(body)
        self.offsets.append(offset)
        self.producers.append(producer)
        self.numbers.append(number)
        self.received_at.append(time.monotonic())

    def size_bytes(self) -> int:
        """Memory that it takes."""
        return sum(map(sys.getsizeof, (self.offsets, self.producers, self.numbers, self.received_at)))


@dataclass
class ReadBack:
    """All that a stream holds after the run, in its order."""

    stream: str
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    producers: array[int] = field(default_factory=lambda: array("I"))
    numbers: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, offset: int, body: bytes) -> None:
        """The next message of the stream."""
        producer, number = identity_of(body)
        self.offsets.append(offset)
        self.producers.append(producer)
        self.numbers.append(number)


@dataclass(frozen=True)
class Span:
    """One member of a group inside dispatch of one partition; `until` is infinite for one that was killed there."""

    member: str
    partition: str
    since: float
    until: float
