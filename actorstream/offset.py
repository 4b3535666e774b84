"""Where a subscription starts: the five offset specifications of the protocol (section Subscribe)."""

from __future__ import annotations

import datetime as dt
import enum
import math
from dataclasses import dataclass

from actorstream.errors import InvalidArgument

_U64_MAX = 2**64 - 1


class OffsetType(enum.IntEnum):
    """The type codes on the wire; `NONE` occurs only in the answer to a ConsumerUpdate."""

    NONE = 0
    FIRST = 1
    LAST = 2
    NEXT = 3
    OFFSET = 4
    TIMESTAMP = 5


@dataclass(frozen=True, slots=True)
class OffsetSpecification:
    """An offset specification. Make one with the functions below rather than by hand.

    `value` is an offset (`OFFSET`) or milliseconds since the epoch (`TIMESTAMP`); 0 for the other types.
    """

    type: OffsetType
    value: int = 0

    def __str__(self) -> str:
        name = self.type.name.lower()
        return f"{name}({self.value})" if self.type >= OffsetType.OFFSET else name


OffsetLike = OffsetSpecification | str | int | dt.datetime
"""An offset as `parse` takes it."""


def first() -> OffsetSpecification:
    """From the oldest message that the stream still holds."""
    return OffsetSpecification(OffsetType.FIRST)


def last() -> OffsetSpecification:
    """From the beginning of the last chunk written; of an empty stream, from the next message."""
    return OffsetSpecification(OffsetType.LAST)


def next() -> OffsetSpecification:  # noqa: A001 - the protocol's own name for it, always used as `offset.next()`
    """From the first message written after the consumer attached."""
    return OffsetSpecification(OffsetType.NEXT)


def at(value: int) -> OffsetSpecification:
    """From this offset on, exactly: what precedes it in its chunk is dropped.

    Raises:
        InvalidArgument: the offset is not an integer of 0 to 2**64-1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _U64_MAX:
        raise InvalidArgument(f"an offset is an integer from 0 to 2**64-1, not {value!r}")
    return OffsetSpecification(OffsetType.OFFSET, value)


def since(moment: dt.datetime | float) -> OffsetSpecification:
    """From the first chunk written at this moment or later (the broker's clock; granularity is a chunk).

    Args:
        moment: an aware `datetime`, or seconds since the epoch.

    Raises:
        InvalidArgument: a naive datetime, or something that is no moment.
    """
    if isinstance(moment, dt.datetime):
        if moment.tzinfo is None:
            raise InvalidArgument("a timestamp needs a time zone: datetime.now(timezone.utc), for example")
        seconds = moment.timestamp()
    elif isinstance(moment, (int, float)) and not isinstance(moment, bool):
        seconds = float(moment)
    else:
        raise InvalidArgument(f"a timestamp is an aware datetime or seconds since the epoch, not {moment!r}")
    milliseconds = round(seconds * 1000) if math.isfinite(seconds) and abs(seconds) < 2**52 else None
    if milliseconds is None or abs(milliseconds) >= 2**63:
        raise InvalidArgument(f"{moment!r} is no moment the protocol can carry")
    return OffsetSpecification(OffsetType.TIMESTAMP, milliseconds)


def parse(value: OffsetLike) -> OffsetSpecification:
    """What a user may write for an offset: "first", "last", "next", an offset, an aware datetime, or a specification.

    Raises:
        InvalidArgument: none of these.
    """
    if isinstance(value, OffsetSpecification):
        return value
    if isinstance(value, str):
        simple = {"first": first, "last": last, "next": next}.get(value)
        if simple is not None:
            return simple()
    elif isinstance(value, dt.datetime):
        return since(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        return at(value)
    raise InvalidArgument(
        f'an offset is "first", "last", "next", an integer, an aware datetime or offset.since(...), not {value!r}'
    )
