"""For every wire type, all the values that it carries: made from the field itself, the table needs no second copy."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire import commands, fields
from actorstream.wire.commands import Command, Layout

strings = st.text(st.characters(codec="utf-8"), max_size=20)
blobs = st.binary(max_size=40)


def integers(layout: str) -> st.SearchStrategy[int]:
    bits = 8 * {"B": 1, "H": 2, "I": 4, "Q": 8}[layout[-1].upper()]
    low, high = (0, 2**bits - 1) if layout[-1].isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high)


def offsets(*, allow_none: bool) -> st.SearchStrategy[OffsetSpecification]:
    bare = [OffsetType.FIRST, OffsetType.LAST, OffsetType.NEXT] + [OffsetType.NONE] * allow_none
    return st.one_of(
        st.sampled_from(bare).map(OffsetSpecification),
        st.builds(OffsetSpecification, st.just(OffsetType.OFFSET), integers(">Q")),
        st.builds(OffsetSpecification, st.just(OffsetType.TIMESTAMP), integers(">q")),
    )


entries = st.one_of(blobs, st.builds(commands.SubBatch, st.integers(0, 7), integers(">H"), integers(">I"), blobs))


def of(field: fields.Field) -> st.SearchStrategy[Any]:
    """All the values of a field."""
    match field:
        case fields.Integer():
            return integers(field.layout.format)
        case fields.Boolean():
            return st.booleans()
        case fields.NullableString():
            return st.none() | strings
        case fields.String():
            return strings
        case fields.Binary() | fields.Rest():
            return blobs
        case fields.TrailingChallenge():
            return st.none() | blobs
        case fields.Implied():
            return st.just(field.value)
        case fields.Map():
            return st.dictionaries(strings, of(field.value), max_size=4)
        case fields.Array():
            return st.lists(of(field.item), max_size=5).map(tuple)
        case fields.Offset():
            return offsets(allow_none=field.allow_none)
        case fields.Structure():
            return st.builds(field.cls, *[of(one) for one in field.fields])
        case commands._Entry():
            return entries
        case _:
            raise AssertionError(field)


def commands_of(layout: Layout) -> st.SearchStrategy[Command]:
    """All the commands of one row of the table."""
    return of(layout.body)


def correlation_ids_of(layout: Layout) -> st.SearchStrategy[int | None]:
    """All the correlation ids that may go with them."""
    return integers(">I") if layout.correlated else st.none()
