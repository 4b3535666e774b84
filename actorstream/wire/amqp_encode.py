"""Python values to bytes of AMQP 1.0's type system; `amqp` says which becomes which type."""

from __future__ import annotations

import datetime as dt
import reprlib
import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from actorstream.errors import MessageCodecError
from actorstream.wire.amqp import (
    EPOCH,
    MAX_DEPTH,
    MAX_ZERO_WIDTH,
    MILLISECOND,
    Array,
    Byte,
    Char,
    Decimal32,
    Decimal64,
    Decimal128,
    Described,
    Float,
    Int,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)

_I64_MAX: Final = 2**63 - 1

Writer = Callable[[Any, int], bytes]  # of a value, and how deep it is nested


class _Type:
    """One AMQP type: its widest encoding, which all elements of an array share, and one that is short if it can be."""

    __slots__ = ("code", "name", "payload", "short")

    def __init__(self, name: str, code: int, payload: Writer, short: Writer | None = None) -> None:
        self.name = name
        self.code = code
        self.payload = payload
        self.short = short

    def encode(self, value: Any, depth: int) -> bytes:
        if self.short is not None:
            return self.short(value, depth)
        return bytes((self.code,)) + self.payload(value, depth)


def encode_value(value: Any, depth: int = 0) -> bytes:
    """The shortest encoding of a value, format code included.

    Raises:
        MessageCodecError: no AMQP 1.0 type for it, out of its type's range, or nested too deep (cycles included).
    """
    kind = _type_of(value)
    try:
        return kind.encode(value, depth)
    except (struct.error, OverflowError):
        raise MessageCodecError(f"{reprlib.repr(value)} is out of the range of an AMQP 1.0 {kind.name}") from None


def _type_of(value: Any) -> _Type:
    kind = _TYPES.get(type(value))
    if kind is None:
        kind = _type_of_relative(value)
    if kind is _LONG and value > _I64_MAX:
        return _ULONG
    return kind


def _type_of_relative(value: Any) -> _Type:
    """For subclasses of what has a type (an `IntEnum`, a `defaultdict`), and for mappings of any kind."""
    for base in type(value).__mro__:
        kind = _TYPES.get(base)
        if kind is not None:
            return kind
    if isinstance(value, Mapping):
        return _MAP
    raise MessageCodecError(
        f"AMQP 1.0 has no type for {type(value).__name__}: use None, bool, int, float, bytes, str, uuid.UUID, an aware "
        "datetime, list, dict, or a type of actorstream.wire.amqp"
    )


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise MessageCodecError(f"a value is nested more than {MAX_DEPTH} deep")
    return depth + 1


def _fixed(layout: str) -> Writer:
    pack = struct.Struct(">" + layout).pack
    return lambda value, _depth: pack(value)


def _short_signed(narrow: int, wide: int, layout: str) -> Writer:
    pack_narrow, pack_wide = struct.Struct(">Bb").pack, struct.Struct(">B" + layout).pack
    return lambda value, _depth: pack_narrow(narrow, value) if -128 <= value <= 127 else pack_wide(wide, value)


def _short_unsigned(zero: bytes, narrow: int, wide: int, layout: str) -> Writer:
    pack_narrow, pack_wide = struct.Struct(">BB").pack, struct.Struct(">B" + layout).pack

    def write(value: int, _depth: int) -> bytes:
        if value == 0:
            return zero
        return pack_narrow(narrow, value) if 0 < value <= 255 else pack_wide(wide, value)

    return write


def _char(value: str, _depth: int) -> bytes:
    if len(value) != 1:
        raise MessageCodecError(f"a Char is one character, not {value!r}")
    try:
        return value.encode("utf-32-be")
    except UnicodeEncodeError:
        raise MessageCodecError(f"{value!r} is a surrogate, which is no character") from None


def _milliseconds(value: dt.datetime, _depth: int) -> bytes:
    if value.tzinfo is None:
        raise MessageCodecError("a timestamp needs a time zone: datetime.now(timezone.utc), for example")
    return struct.pack(">q", (value - EPOCH) // MILLISECOND)


def _opaque(width: int) -> Writer:
    def payload(value: bytes, _depth: int) -> bytes:
        if len(value) != width:
            raise MessageCodecError(f"a {type(value).__name__} is {width} bytes, not {len(value)}")
        return bytes(value)

    return payload


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise MessageCodecError(f"{reprlib.repr(value)} holds a lone surrogate, which is no character") from None


def _ascii(value: str) -> bytes:
    if not value.isascii():
        raise MessageCodecError(f"a symbol is ASCII, which {reprlib.repr(value)} is not")
    return value.encode()


def _variable(name: str, code: int, raw_of: Callable[[Any], bytes]) -> _Type:
    """Binary, string or symbol: `code` is the one with a length of four bytes, and 0x10 less the one with one byte."""
    pack_narrow, pack_wide = struct.Struct(">BB").pack, struct.Struct(">BI").pack

    def short(value: Any, _depth: int) -> bytes:
        raw = raw_of(value)
        return (pack_narrow(code - 16, len(raw)) if len(raw) <= 255 else pack_wide(code, len(raw))) + raw

    def payload(value: Any, _depth: int) -> bytes:
        raw = raw_of(value)
        return struct.pack(">I", len(raw)) + raw

    return _Type(name, code, payload, short)


def _compound(name: str, code: int, content_of: Callable[[Any, int], tuple[int, bytes]]) -> _Type:
    """List, map or array, likewise. The size on the wire counts the width of the count too."""

    def short(value: Any, depth: int) -> bytes:
        count, content = content_of(value, _deeper(depth))
        if count == 0 and code == 0xD0:
            return b"\x45"  # the empty list, which has a code of its own
        if len(content) < 255 and count <= 255:
            return struct.pack(">BBB", code - 16, len(content) + 1, count) + content
        return struct.pack(">BII", code, len(content) + 4, count) + content

    def payload(value: Any, depth: int) -> bytes:
        count, content = content_of(value, _deeper(depth))
        return struct.pack(">II", len(content) + 4, count) + content

    return _Type(name, code, payload, short)


def _list_content(value: list[Any] | tuple[Any, ...], depth: int) -> tuple[int, bytes]:
    return len(value), b"".join([encode_value(item, depth) for item in value])


def _map_content(value: Mapping[Any, Any], depth: int) -> tuple[int, bytes]:
    parts: list[bytes] = []
    for key, item in value.items():
        parts.append(encode_value(key, depth))
        parts.append(encode_value(item, depth))
    return len(parts), b"".join(parts)


def _array_content(value: Array, depth: int) -> tuple[int, bytes]:
    if len(value.items) > MAX_ZERO_WIDTH and value.items[0] is None:
        raise MessageCodecError(f"an array holds {MAX_ZERO_WIDTH} nulls at most")
    constructor, elements = _array_parts(value.items, value.element_code, depth)
    return len(value.items), constructor + elements


def _array_parts(items: tuple[Any, ...], empty_code: int, depth: int) -> tuple[bytes, bytes]:
    """What stands once for all elements (descriptor, format code), and the elements."""
    if not items:
        return bytes((empty_code,)), b""
    kind = _type_of(items[0])
    for item in items:
        if _type_of(item) is not kind:
            raise MessageCodecError(f"an array of {kind.name} and of {_type_of(item).name}: all must be of one type")
    if kind is _DESCRIBED_TYPE:
        descriptor = encode_value(items[0].descriptor, depth)
        for item in items:
            if encode_value(item.descriptor, depth) != descriptor:
                raise MessageCodecError("the described elements of an array must have one descriptor")
        constructor, elements = _array_parts(tuple([item.value for item in items]), empty_code, _deeper(depth))
        return b"\x00" + descriptor + constructor, elements
    return bytes((kind.code,)), b"".join([kind.payload(item, depth) for item in items])


def _described(value: Described, depth: int) -> bytes:
    depth = _deeper(depth)
    return b"\x00" + encode_value(value.descriptor, depth) + encode_value(value.value, depth)


_LONG: Final = _Type("long", 0x81, _fixed("q"), _short_signed(0x55, 0x81, "q"))
_ULONG: Final = _Type("ulong", 0x80, _fixed("Q"), _short_unsigned(b"\x44", 0x53, 0x80, "Q"))
_LIST: Final = _compound("list", 0xD0, _list_content)
_MAP: Final = _compound("map", 0xD1, _map_content)
_BINARY: Final = _variable("binary", 0xB0, bytes)
_DESCRIBED_TYPE: Final = _Type("described value", 0x00, _described, _described)

_TYPES: Final[dict[type, _Type]] = {
    type(None): _Type("null", 0x40, lambda _value, _depth: b""),
    bool: _Type("boolean", 0x56, _fixed("?"), lambda value, _depth: b"\x41" if value else b"\x42"),
    UByte: _Type("ubyte", 0x50, _fixed("B")),
    UShort: _Type("ushort", 0x60, _fixed("H")),
    UInt: _Type("uint", 0x70, _fixed("I"), _short_unsigned(b"\x43", 0x52, 0x70, "I")),
    ULong: _ULONG,
    Byte: _Type("byte", 0x51, _fixed("b")),
    Short: _Type("short", 0x61, _fixed("h")),
    Int: _Type("int", 0x71, _fixed("i"), _short_signed(0x54, 0x71, "i")),
    int: _LONG,
    Float: _Type("float", 0x72, _fixed("f")),
    float: _Type("double", 0x82, _fixed("d")),
    Decimal32: _Type("decimal32", 0x74, _opaque(4)),
    Decimal64: _Type("decimal64", 0x84, _opaque(8)),
    Decimal128: _Type("decimal128", 0x94, _opaque(16)),
    Char: _Type("char", 0x73, _char),
    dt.datetime: _Type("timestamp", 0x83, _milliseconds),
    Timestamp: _Type("timestamp", 0x83, _fixed("q")),
    uuid.UUID: _Type("uuid", 0x98, lambda value, _depth: value.bytes),
    bytes: _BINARY,
    bytearray: _BINARY,
    memoryview: _BINARY,
    str: _variable("string", 0xB1, _utf8),
    Symbol: _variable("symbol", 0xB3, _ascii),
    list: _LIST,
    tuple: _LIST,
    dict: _MAP,
    Array: _compound("array", 0xF0, _array_content),
    Described: _DESCRIBED_TYPE,
}
