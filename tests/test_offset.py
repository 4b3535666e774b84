"""Offset specifications: what a user may write, and what is refused."""

from __future__ import annotations

import datetime as dt

import pytest

from actorstream import offset
from actorstream.errors import InvalidArgument
from actorstream.offset import OffsetSpecification, OffsetType


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("first", OffsetSpecification(OffsetType.FIRST)),
        ("last", OffsetSpecification(OffsetType.LAST)),
        ("next", OffsetSpecification(OffsetType.NEXT)),
        (0, OffsetSpecification(OffsetType.OFFSET, 0)),
        (2**64 - 1, OffsetSpecification(OffsetType.OFFSET, 2**64 - 1)),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), OffsetSpecification(OffsetType.TIMESTAMP, 1_767_225_600_000)),
        (offset.since(1.5), OffsetSpecification(OffsetType.TIMESTAMP, 1500)),
        (offset.since(-1), OffsetSpecification(OffsetType.TIMESTAMP, -1000)),
    ],
)
def test_parse_takes_what_a_user_may_write(
    value: OffsetSpecification | str | int | dt.datetime, expected: OffsetSpecification
) -> None:
    assert offset.parse(value) == expected


@pytest.mark.parametrize("value", [-1, 2**64, True, "First", "", None, 1.5, dt.datetime(2026, 1, 1)])  # noqa: DTZ001
def test_parse_refuses_the_rest_with_a_hint(value: object) -> None:
    with pytest.raises(InvalidArgument):
        offset.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), 2.0**60, True, "now"])
def test_since_refuses_what_is_no_moment(moment: object) -> None:
    with pytest.raises(InvalidArgument):
        offset.since(moment)  # type: ignore[arg-type]


def test_a_specification_reads_well() -> None:
    assert [str(offset.first()), str(offset.at(5)), str(offset.since(2))] == ["first", "offset(5)", "timestamp(2000)"]
