"""What values have to be, in words for those who gave others."""

from __future__ import annotations

import math

from actorstream.errors import InvalidArgument


def require(ok: bool, message: str) -> None:
    """Raise InvalidArgument with this message unless it is so."""
    if not ok:
        raise InvalidArgument(message)


def is_number(value: object) -> bool:
    """Whether it is a real number, and no boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def positive(name: str, value: float | None, *, optional: bool = False) -> None:
    """Raise InvalidArgument unless it is a number above 0, or None where that is allowed."""
    if value is None and optional:
        return
    require(is_number(value) and value > 0, f"{name} is a number above 0, not {value!r}")  # type: ignore[operator]


def count(name: str, value: int, low: int, high: int) -> None:
    """Raise InvalidArgument unless it is an integer within these bounds, both included."""
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    require(ok, f"{name} is an integer from {low} to {high}, not {value!r}")


def check_name(what: str, value: str) -> str:
    """A stream's or reference's name as the broker accepts it: not empty, at most 255 bytes of UTF-8, one line.

    Raises:
        InvalidArgument: none such.
    """
    require(isinstance(value, str) and value != "", f"{what} is a non-empty string, not {value!r}")
    size = len(value.encode("utf-8", "surrogatepass"))
    require(size <= 255, f"{what} has {size} bytes in UTF-8, and the broker takes 255 at most")
    # The broker strips line breaks silently, so that one would read from another stream than one wrote to.
    require("\r" not in value and "\n" not in value, f"{what} must not contain line breaks: {value!r}")
    return value
