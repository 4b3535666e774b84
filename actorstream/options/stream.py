"""The arguments of a new stream."""

from __future__ import annotations

import datetime as dt
import enum
import re
from dataclasses import dataclass

from actorstream.errors import InvalidArgument
from actorstream.options.checks import count, is_number, require

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_size(value: int | str) -> int:
    """Bytes, from an integer or a string such as "500MB" (decimal) or "64MiB" (binary).

    Raises:
        InvalidArgument: neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        require(value > 0, f"a size is above 0, not {value!r}")
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+)\s*([a-zA-Z]*)\s*", value)
        if match and match[2].lower() in _SIZE_UNITS and int(match[1]) > 0:
            return int(match[1]) * _SIZE_UNITS[match[2].lower()]
    raise InvalidArgument(f'a size is bytes as an integer, or a string such as "500MB" or "64MiB", not {value!r}')


def parse_age(value: dt.timedelta | float) -> int:
    """Whole seconds, from a `timedelta` or a number of seconds.

    Raises:
        InvalidArgument: not positive, or not a whole number of seconds.
    """
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    ok = is_number(seconds) and seconds >= 1 and float(seconds).is_integer()
    require(ok, f"an age is a timedelta or seconds, whole and at least 1, not {value!r}")
    return int(seconds)


class LeaderLocator(enum.Enum):
    """Where the broker puts a new stream's leader."""

    CLIENT_LOCAL = "client-local"
    BALANCED = "balanced"


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamArguments:
    """The arguments of a new stream (protocol section Create); on some wrong ones the broker would drop the connection.

    Attributes:
        max_length: bytes the stream may hold before its oldest segment goes; "10GB" works too.
        max_age: age beyond which its oldest segment goes: a timedelta or seconds.
        max_segment_size: bytes of one segment file, at most 3 GB; "500MB" works too.
        leader_locator: where the leader is put.
        initial_cluster_size: number of members, 1 or more.
        filter_size: bytes of a chunk's Bloom filter, 16 to 255.
    """

    max_length: int | str | None = None
    max_age: dt.timedelta | float | None = None
    max_segment_size: int | str | None = None
    leader_locator: LeaderLocator | str | None = None
    initial_cluster_size: int | None = None
    filter_size: int | None = None

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> dict[str, str]:
        """The arguments as the broker wants them: a map of strings."""
        wire: dict[str, str] = {}
        if self.max_length is not None:
            wire["max-length-bytes"] = str(parse_size(self.max_length))
        if self.max_age is not None:
            wire["max-age"] = f"{parse_age(self.max_age)}s"
        if self.max_segment_size is not None:
            size = parse_size(self.max_segment_size)
            require(size <= 3_000_000_000, f"max_segment_size is at most 3 GB, not {size}")
            wire["stream-max-segment-size-bytes"] = str(size)
        if self.leader_locator is not None:
            try:
                wire["queue-leader-locator"] = LeaderLocator(self.leader_locator).value
            except ValueError:
                choices = ", ".join(repr(locator.value) for locator in LeaderLocator)
                raise InvalidArgument(f"leader_locator is one of {choices}, not {self.leader_locator!r}") from None
        if self.initial_cluster_size is not None:
            count("initial_cluster_size", self.initial_cluster_size, 1, 255)
            wire["initial-cluster-size"] = str(self.initial_cluster_size)
        if self.filter_size is not None:
            count("filter_size", self.filter_size, 16, 255)
            wire["stream-filter-size-bytes"] = str(self.filter_size)
        return wire
