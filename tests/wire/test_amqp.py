"""The type system of AMQP 1.0, both ways: exact bytes, round trips, a second implementation, and hostile input."""

from __future__ import annotations

import datetime as dt
import enum
import struct
import tracemalloc
import uuid
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import proton as _proton
import pytest
from hypothesis import given, strategies as st

from actorstream.errors import MessageCodecError
from actorstream.wire import amqp
from actorstream.wire.amqp_decode import decode_value, skip_value
from actorstream.wire.amqp_encode import encode_value

from .amqp_values import BY_TYPE, same, simple, values

proton: Any = _proton

UTC = dt.UTC
ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")

SHORTEST: list[tuple[str, Any]] = [
    ("40", None),
    ("41", True),
    ("42", False),
    ("43", amqp.UInt(0)),
    ("44", amqp.ULong(0)),
    ("45", []),
    ("50ff", amqp.UByte(255)),
    ("5180", amqp.Byte(-128)),
    ("52ff", amqp.UInt(255)),
    ("53ff", amqp.ULong(255)),
    ("5480", amqp.Int(-128)),
    ("5580", -128),
    ("60ffff", amqp.UShort(65535)),
    ("618000", amqp.Short(-32768)),
    ("7000000100", amqp.UInt(256)),
    ("7180000000", amqp.Int(-(2**31))),
    ("723fc00000", amqp.Float(1.5)),
    ("730001f600", amqp.Char("😀")),
    ("7401020304", amqp.Decimal32(b"\1\2\3\4")),
    ("80ffffffffffffffff", amqp.ULong(2**64 - 1)),
    ("818000000000000000", -(2**63)),
    ("823ff8000000000000", 1.5),
    ("830000018bcfe56800", dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
    ("83ffffffffffffffff", dt.datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
    ("837fffffffffffffff", amqp.Timestamp(2**63 - 1)),
    ("840102030405060708", amqp.Decimal64(bytes(range(1, 9)))),
    ("94" + bytes(range(16)).hex(), amqp.Decimal128(bytes(range(16)))),
    ("98" + ID.hex, ID),
    ("a003010203", b"\1\2\3"),
    ("b000000100" + "07" * 256, b"\7" * 256),
    ("a102c3a9", "é"),
    ("b100000100" + "61" * 256, "a" * 256),
    ("a30161", amqp.Symbol("a")),
    ("b300000100" + "61" * 256, amqp.Symbol("a" * 256)),
    ("c0040241a000", [True, b""]),
    ("d00000010400000100" + "40" * 256, [None] * 256),
    ("c10602a101615501", {"a": 1}),
    ("c10100", {}),
    ("d10000010800000002a10161a0ff" + "07" * 255, {"a": b"\7" * 255}),
    ("e00a027100000001ffffffff", amqp.Array((amqp.Int(1), amqp.Int(-1)))),
    ("f00000010500000020810000000000000007" + "0000000000000007" * 31, amqp.Array((7,) * 32)),
    ("e0020040", amqp.Array(())),
    ("e0020340", amqp.Array((None, None, None))),
    ("00a301645501", amqp.Described(amqp.Symbol("d"), 1)),
    ("e0080200a30164560100", amqp.Array(tuple([amqp.Described(amqp.Symbol("d"), flag) for flag in (True, False)]))),
]

LONGER: list[tuple[str, Any]] = [
    ("5600", False),
    ("5601", True),
    ("5200", amqp.UInt(0)),
    ("7000000000", amqp.UInt(0)),
    ("5300", amqp.ULong(0)),
    ("800000000000000001", amqp.ULong(1)),
    ("7100000001", amqp.Int(1)),
    ("810000000000000001", 1),
    ("b000000001ff", b"\xff"),
    ("b10000000161", "a"),
    ("b30000000161", amqp.Symbol("a")),
    ("c00100", []),
    ("d00000000400000000", []),
    ("d10000000800000002a1016141", {"a": True}),
    ("f0000000050000000340", amqp.Array((None, None, None))),
    ("e0040255ff01", amqp.Array((-1, 1))),
    ("e00803a1016101620163", amqp.Array(("a", "b", "c"))),
]


@pytest.mark.parametrize(("wire", "value"), SHORTEST, ids=lambda part: part[:12] if isinstance(part, str) else None)
def test_each_format_code_has_its_exact_bytes(wire: str, value: Any) -> None:
    assert encode_value(value).hex() == wire
    decoded, end = decode_value(bytes.fromhex(wire))
    assert same(decoded, value)
    assert end == skip_value(bytes.fromhex(wire), 0) == len(wire) // 2


@pytest.mark.parametrize(("wire", "value"), LONGER, ids=lambda part: part[:12] if isinstance(part, str) else None)
def test_longer_encodings_than_need_be_are_read(wire: str, value: Any) -> None:
    decoded, end = decode_value(bytes.fromhex(wire))
    assert same(decoded, value)
    assert end == skip_value(bytes.fromhex(wire), 0) == len(wire) // 2


@given(values)
def test_every_value_comes_back_with_its_types(value: Any) -> None:
    wire = encode_value(value)
    decoded, end = decode_value(b"before" + wire + b"after", 6)
    assert same(decoded, value)
    assert end == 6 + len(wire) == skip_value(b"before" + wire, 6)
    assert encode_value(decoded) == wire


# What Python offers besides -------------------------------------------------------------------------------------------


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "like"),
    [
        (Colour.RED, 1),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ((1, "a"), [1, "a"]),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (2**63, amqp.ULong(2**63)),
        (dt.datetime(2024, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), dt.datetime(2024, 1, 1, tzinfo=UTC)),
        (dt.datetime(1960, 1, 1, 0, 0, 0, 1, tzinfo=UTC), dt.datetime(1960, 1, 1, tzinfo=UTC)),
        (amqp.Timestamp(0), dt.datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_relative_of_a_type_is_encoded_as_that_type(value: Any, like: Any) -> None:
    assert encode_value(value) == encode_value(like)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        1j,
        2**64,
        -(2**63) - 1,
        amqp.UByte(256),
        amqp.UByte(-1),
        amqp.UShort(2**16),
        amqp.UInt(2**32),
        amqp.UInt(-1),
        amqp.ULong(2**64),
        amqp.ULong(-1),
        amqp.Byte(128),
        amqp.Short(2**15),
        amqp.Int(2**31),
        amqp.Float(1e300),
        amqp.Timestamp(2**63),
        amqp.Char("ab"),
        amqp.Char(""),
        amqp.Char("\ud800"),
        "\ud800",
        amqp.Symbol("é"),
        amqp.Decimal32(b"123"),
        dt.datetime(2024, 1, 1),  # noqa: DTZ001 - without a time zone it is no moment
        amqp.Array((1, "a")),
        amqp.Array((1, 2**63)),
        amqp.Array((amqp.Described(1, 1), amqp.Described(2, 1))),
        amqp.Array((amqp.UByte(300),)),
        amqp.Array((None,) * (amqp.MAX_ZERO_WIDTH + 1)),
        {"a": [object()]},
        {object(): 1},
    ],
    ids=repr,
)
def test_a_value_that_amqp_cannot_carry_is_a_codec_error(value: Any) -> None:
    with pytest.raises(MessageCodecError):
        encode_value(value)


# A second implementation ----------------------------------------------------------------------------------------------

PROTON_TYPES: dict[type, Any] = {
    amqp.UByte: proton.ubyte,
    amqp.UShort: proton.ushort,
    amqp.UInt: proton.uint,
    amqp.ULong: proton.ulong,
    amqp.Byte: proton.byte,
    amqp.Short: proton.short,
    amqp.Int: proton.int32,
    amqp.Float: proton.float32,
    amqp.Char: proton.char,
    amqp.Symbol: proton.symbol,
    amqp.Decimal128: proton.decimal128,
    amqp.Decimal32: lambda raw: proton.decimal32(int.from_bytes(raw, "big")),
    amqp.Decimal64: lambda raw: proton.decimal64(int.from_bytes(raw, "big")),
    amqp.Described: lambda value: proton.Described(to_proton(value.descriptor), to_proton(value.value)),
    dt.datetime: lambda moment: proton.timestamp((moment - amqp.EPOCH) // amqp.MILLISECOND),
    list: lambda items: [to_proton(item) for item in items],
    dict: lambda items: {to_proton(key): to_proton(item) for key, item in items.items()},
}


def to_proton(value: Any) -> Any:
    """The same value, of the same AMQP type, for the other implementation."""
    convert = PROTON_TYPES.get(type(value))
    return value if convert is None else convert(value)


def proton_encode(value: Any) -> bytes:
    data = proton.Data()
    data.put_object(value)
    return bytes(data.encode())


def proton_decode(wire: bytes) -> Any:
    data = proton.Data()
    assert data.decode(wire) == len(wire)
    data.rewind()
    assert data.next() is not None
    return without_views(data.get_object())  # while `data` lives, into whose memory the views look


def without_views(value: Any) -> Any:
    """Proton gives binary as views of memory."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, list):
        return [without_views(item) for item in value]
    if isinstance(value, dict):
        return {without_views(key): without_views(item) for key, item in value.items()}
    if isinstance(value, proton.Described):
        return proton.Described(without_views(value.descriptor), without_views(value.value))
    if isinstance(value, proton.Array):
        return proton.Array(value.descriptor, value.type, *[without_views(item) for item in value.elements])
    return value


def same_for_proton(one: Any, other: Any) -> bool:
    """As `same`, for what `to_proton` gives."""
    if isinstance(one, proton.Described) and isinstance(other, proton.Described):
        return same_for_proton(one.descriptor, other.descriptor) and same_for_proton(one.value, other.value)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_for_proton, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        keys = same_for_proton(list(one), list(other))
        return keys and same_for_proton(list(one.values()), list(other.values()))
    return same(one, other)


# Proton's Python binding has no arrays of described or compound values, and loses what follows a described value whose
# value is described itself.
for_proton = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(st.characters(codec="ascii"), max_size=9), inner, max_size=5),
        st.builds(
            amqp.Described,
            BY_TYPE["symbol"] | BY_TYPE["ulong"],
            inner.filter(lambda value: not isinstance(value, amqp.Described)),
        ),
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", BY_TYPE)
@given(data=st.data())
def test_proton_reads_what_is_written_here_type_by_type(name: str, data: st.DataObject) -> None:
    value = data.draw(BY_TYPE[name])
    assert same_for_proton(proton_decode(encode_value(value)), to_proton(value))


@pytest.mark.parametrize("name", BY_TYPE)
@given(data=st.data())
def test_what_proton_writes_is_read_here_type_by_type(name: str, data: st.DataObject) -> None:
    value = data.draw(BY_TYPE[name])
    assert same(decode_value(proton_encode(to_proton(value)))[0], value)


@given(for_proton)
def test_proton_and_this_read_each_other_whatever_the_structure(value: Any) -> None:
    assert same_for_proton(proton_decode(encode_value(value)), to_proton(value))
    assert same(decode_value(proton_encode(to_proton(value)))[0], value)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ubyte", "UBYTE"), ("ushort", "USHORT"), ("uint", "UINT"), ("ulong", "ULONG"), ("byte", "BYTE"),
        ("short", "SHORT"), ("int", "INT"), ("long", "LONG"), ("float", "FLOAT"), ("double", "DOUBLE"),
        ("timestamp", "TIMESTAMP"), ("uuid", "UUID"), ("binary", "BINARY"), ("string", "STRING"),
        ("symbol", "SYMBOL"), ("boolean", "BOOL"),
    ],
)  # fmt: skip
@given(data=st.data())
def test_proton_and_this_read_each_other_s_arrays(name: str, code: str, data: st.DataObject) -> None:
    items = tuple(data.draw(st.lists(BY_TYPE[name], min_size=1, max_size=5)))
    there = proton.Array(proton.UNDESCRIBED, getattr(proton.Data, code), *[to_proton(item) for item in items])
    assert same(decode_value(proton_encode(there))[0], amqp.Array(items))
    back = proton_decode(encode_value(amqp.Array(items)))
    assert back.type == there.type
    assert same_for_proton(list(back.elements), list(there.elements))


# Hostile input --------------------------------------------------------------------------------------------------------


@given(values, st.data())
def test_a_value_cut_off_anywhere_is_a_codec_error(value: Any, data: st.DataObject) -> None:
    wire = encode_value(value)
    cut = wire[: data.draw(st.integers(0, len(wire) - 1))]
    with pytest.raises(MessageCodecError):
        decode_value(cut)
    with pytest.raises(MessageCodecError):
        skip_value(cut, 0)


@given(values, st.data())
def test_a_damaged_value_is_another_value_or_a_codec_error(value: Any, data: st.DataObject) -> None:
    wire = bytearray(encode_value(value))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, end = decode_value(bytes(wire))
    except MessageCodecError:
        return
    assert end <= len(wire)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_codec_error(wire: bytes) -> None:
    try:
        _, end = decode_value(wire)
    except MessageCodecError:
        return
    assert 0 < end <= len(wire)


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "00",
        "0040",
        "01",
        "3f",
        "46",
        "57",
        "62",
        "9f" + "00" * 16,
        "a201ff",
        "c2010000",
        "5602",
        "7300110000",
        "730000d800",
        "a101ff",
        "a101",
        "b1ffffffff",
        "c000",
        "c0ff",
        "c00240",
        "c00202",
        "c003014040",
        "d000000003000000",
        "d0ffffffff00000000",
        "d000000005ffffffff40",
        "c1020140",
        "c1040355015502",
        "c103024540",
        "c10502c1010040",
        "d1000000fe00000002a101614041",
        "e00102",
        "e0020155",
        "e004025501",
        "e00701c00101000000",
        "f000000005ffffffff40",
        "f00000000dffffffff71" + "00000000" * 2,
        "e004ff00a30164",
    ],
)
def test_bytes_that_are_no_value_are_a_codec_error(wire: str) -> None:
    with pytest.raises(MessageCodecError):
        decode_value(bytes.fromhex(wire))


def nested(levels: int) -> bytes:
    """Lists of one element inside each other, with sizes that are right."""
    wire = b"\x40"
    for _ in range(levels):
        wire = b"\xd0" + struct.pack(">II", len(wire) + 4, 1) + wire
    return wire


def test_nesting_is_bounded_both_ways() -> None:
    deep: Any = None
    for _ in range(amqp.MAX_DEPTH):
        deep = [deep]
    assert decode_value(nested(amqp.MAX_DEPTH))[0] == deep
    assert decode_value(encode_value(deep))[0] == deep
    with pytest.raises(MessageCodecError, match="deep"):
        encode_value([deep])
    with pytest.raises(MessageCodecError, match="deep"):
        decode_value(nested(amqp.MAX_DEPTH + 1))


def test_a_list_that_holds_itself_is_a_codec_error() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(MessageCodecError, match="deep"):
        encode_value(cycle)


@pytest.mark.parametrize("opening", [b"\x00", b"\x00\x40"], ids=["of the descriptor", "of the value"])
def test_descriptors_inside_each_other_are_bounded(opening: bytes) -> None:
    wire = opening * 100_000 + b"\x40" * 100_001
    with pytest.raises(MessageCodecError):
        decode_value(wire)
    skip_value(wire, 0)  # it does not recurse


def test_descriptors_of_the_elements_of_an_array_are_bounded() -> None:
    content = bytes.fromhex("0040" * 1000 + "5501")
    with pytest.raises(MessageCodecError, match="deep"):
        decode_value(b"\xf0" + struct.pack(">II", len(content) + 4, 1) + content)


@pytest.mark.parametrize("element", ["40", "41", "42", "43", "44", "45"])
def test_elements_without_bytes_are_bounded_all_arrays_together(element: str) -> None:
    one = b"\xf0" + struct.pack(">II", 5, amqp.MAX_ZERO_WIDTH // 2) + bytes.fromhex(element)
    two = b"\xd0" + struct.pack(">II", 4 + 2 * len(one), 2) + 2 * one
    three = b"\xd0" + struct.pack(">II", 4 + 3 * len(one), 3) + 3 * one
    assert [len(array.items) for array in decode_value(two)[0]] == 2 * [amqp.MAX_ZERO_WIDTH // 2]
    with pytest.raises(MessageCodecError, match="no bytes"):
        decode_value(three)


def test_announced_sizes_allocate_nothing() -> None:
    hostile = [
        bytes.fromhex(wire)
        for wire in (
            "b0fffffff0",
            "d0fffffff0fffffff0",
            "d000000004ffffffff",
            "f000000005ffffffff40",
            "d100000004fffffffe",
        )
    ]
    tracemalloc.start()
    try:
        for wire in hostile:
            with pytest.raises(MessageCodecError):
                decode_value(wire)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
