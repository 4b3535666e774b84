"""What is typed, as values; what is none is an `InvalidArgument` in words for whoever typed it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from actorstream import offset as offset_module
from actorstream.errors import InvalidArgument
from actorstream.offset import OffsetSpecification

StreamName = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Write JSON.")]

_AGE_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_offset(text: str) -> OffsetSpecification:
    """`first`, `last`, `next`, an offset, or a moment in ISO 8601 with its time zone.

    Raises:
        InvalidArgument: none of these.
    """
    if text in ("first", "last", "next"):
        return offset_module.parse(text)
    if re.fullmatch(r"[0-9]+", text):
        return offset_module.at(int(text))
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            f"an offset is first, last, next, a number, or a moment such as 2025-01-31T12:00:00Z, not {text!r}"
        ) from None
    return offset_module.since(moment)


def parse_age(text: str | None) -> int | None:
    """Seconds, from `90`, `90s`, `15m`, `12h` or `7d`.

    Raises:
        InvalidArgument: none of these.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+)([smhd]?)", text.lower())
    if not found:
        raise InvalidArgument(f"an age is a number with s, m, h or d, such as 12h, not {text!r}")
    return int(found[1]) * _AGE_UNITS[found[2]]


def parse_pairs(texts: Sequence[str]) -> dict[str, str]:
    """Names and values, from `name=value` each; the value may be empty, or hold more of the signs.

    Raises:
        InvalidArgument: there is no sign, or no name before it, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise InvalidArgument(f"a property is given as name=value, not {text!r}")
        if name in pairs:
            raise InvalidArgument(f"the property {name!r} is given twice")
        pairs[name] = value
    return pairs
