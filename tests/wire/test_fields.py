"""What the table of commands does not show of the wire types themselves."""

from __future__ import annotations

import pytest

from actorstream.errors import InvalidArgument, MalformedFrame
from actorstream.wire import fields
from actorstream.wire.commands import CommandVersions


def test_a_structure_needs_one_wire_type_for_each_of_its_fields() -> None:
    with pytest.raises(TypeError, match="CommandVersions has 3 fields, and 2 wire types"):
        fields.Structure(CommandVersions, fields.U16, fields.U16)


def test_a_wire_type_has_to_say_how_it_is_read_and_written() -> None:
    with pytest.raises(NotImplementedError):
        fields.Field(0, None).write(bytearray(), None)
    with pytest.raises(NotImplementedError):
        fields.Field(0, None).read(fields.Reader(b""))


def test_a_count_is_believed_only_as_far_as_the_bytes_reach() -> None:
    assert fields.Reader(b"\0\0\0\2abcd").count(least=2) == 2
    with pytest.raises(MalformedFrame, match="3 items of 2 bytes or more cannot be in the 5 bytes left"):
        fields.Reader(b"\0\0\0\3abcde").count(least=2)


def test_a_reader_does_not_move_when_the_bytes_do_not_suffice() -> None:
    reader = fields.Reader(b"abc", 1)
    with pytest.raises(MalformedFrame, match="1 bytes too early, at byte 3"):
        reader.take(3)
    assert reader.take(2) == b"bc"


def test_any_byte_but_zero_is_true() -> None:
    assert [fields.BOOL.read(fields.Reader(bytes([byte]))) for byte in (0, 1, 255)] == [False, True, True]


@pytest.mark.parametrize("value", ["1", None, 1.5])
def test_an_integer_is_an_integer(value: object) -> None:
    with pytest.raises(InvalidArgument):
        fields.U32.write(bytearray(), value)
