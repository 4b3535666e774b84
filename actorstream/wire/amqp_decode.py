"""Bytes of AMQP 1.0's type system to Python values; `amqp` says which type becomes which.

Decoding trusts nothing: every length is checked against the bytes at hand before anything is made from it, nesting is
bounded by `MAX_DEPTH`, and elements that take no bytes on the wire, of which 4 thousand million cost an attacker eight
bytes, by `MAX_ZERO_WIDTH` in one value. What goes wrong is a `MessageCodecError`.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actorstream.errors import MessageCodecError
from actorstream.wire.amqp import (
    EPOCH,
    FIRST_MOMENT,
    LAST_MOMENT,
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

if TYPE_CHECKING:  # only ever in annotations: mypyc makes machine integers of it, and the fallback does not need it
    from mypy_extensions import i64

_FIRST_MS: Final = (FIRST_MOMENT - EPOCH) // MILLISECOND
_LAST_MS: Final = (LAST_MOMENT - EPOCH) // MILLISECOND

_DESCRIBED: Final = 0x00
_EMPTY_LIST: Final = 0x45


def decode_value(data: bytes, pos: i64 = 0) -> tuple[Any, i64]:
    """The value that begins at `pos`, and the position after it.

    Raises:
        MessageCodecError: the bytes are not an AMQP 1.0 value, or break one of the bounds above.
    """
    decoder = _Decoder(data, pos)
    value = decoder.value(len(data), 0)
    return value, decoder.pos


def skip_value(data: bytes, pos: i64) -> i64:
    """The position after the value that begins at `pos`: its own size is believed, its inside is not looked at.

    Raises:
        MessageCodecError: it is not the beginning of a value, or its size goes beyond the data.
    """
    end: i64 = len(data)
    wanted: i64 = 1
    while wanted:
        if pos >= end:
            raise MessageCodecError("a value is cut off: its format code is missing")
        code: i64 = data[pos]
        pos += 1
        if code == 0:
            wanted += 1  # a descriptor and a value where one value was expected
            continue
        pos += _size_of(data, pos, end, code)
        wanted -= 1
    return pos


def _size_of(data: bytes, pos: i64, end: i64, code: i64) -> i64:
    """Bytes from `pos` to the end of a value whose format code came before `pos`: the high nibble tells."""
    kind = code >> 4
    size: i64 = 0
    if kind >= 0xA:
        prefix: i64 = 1 if kind & 1 == 0 else 4
        if prefix > end - pos:
            raise MessageCodecError(f"a value of format code 0x{code:02x} is cut off")
        size = prefix + (data[pos] if prefix == 1 else _u32(data, pos))
    elif kind >= 4:
        size = 0 if kind == 4 else 1 << (kind - 5)
    else:
        raise MessageCodecError(f"0x{code:02x} is no AMQP 1.0 format code")
    if size > end - pos:
        raise MessageCodecError(f"a value of format code 0x{code:02x} claims {size} bytes where {end - pos} are left")
    return size


def _u32(data: bytes, pos: i64) -> i64:
    return data[pos] << 24 | data[pos + 1] << 16 | data[pos + 2] << 8 | data[pos + 3]


class _Decoder:
    """Reads one value, and what is inside it, with the bounds that hold for all of it."""

    __slots__ = ("data", "pos", "zero_width_left")

    def __init__(self, data: bytes, pos: i64) -> None:
        self.data = data
        self.pos: i64 = pos
        self.zero_width_left: i64 = MAX_ZERO_WIDTH

    def value(self, end: i64, depth: i64) -> Any:
        return self.of_code(self.code(end), end, depth)

    def code(self, end: i64) -> i64:
        if self.pos >= end:
            raise MessageCodecError("a value is cut off: its format code is missing")
        code: i64 = self.data[self.pos]
        self.pos += 1
        return code

    def of_code(self, code: i64, end: i64, depth: i64) -> Any:
        """The value whose format code has just been read; it ends at `end` at the latest."""
        if code >= 0xC0 or code == _DESCRIBED:
            if depth >= MAX_DEPTH:
                raise MessageCodecError(f"a value is nested more than {MAX_DEPTH} deep")
            if code == _DESCRIBED:
                descriptor = self.value(end, depth + 1)
                return Described(descriptor, self.value(end, depth + 1))
        if code == _EMPTY_LIST:
            return []
        size = _size_of(self.data, self.pos, end, code)
        start = self.pos
        if code >= 0xC0:
            return self.compound(code, start + size, depth + 1)
        self.pos = start + size
        if code >= 0xA0:
            start += 1 if (code >> 4) & 1 == 0 else 4
        reader = _READERS.get(code)
        if reader is None:
            raise MessageCodecError(f"0x{code:02x} is no AMQP 1.0 format code")
        return reader(self.data[start : self.pos])

    def compound(self, code: i64, end: i64, depth: i64) -> Any:
        width: i64 = 1 if (code >> 4) & 1 == 0 else 4
        if end - self.pos < 2 * width:
            raise MessageCodecError(f"a value of format code 0x{code:02x} has no room for its count")
        self.pos += width
        count: i64 = self.data[self.pos] if width == 1 else _u32(self.data, self.pos)
        self.pos += width
        result: Any
        kind = code & 0xEF  # with a narrow size and a wide one
        if kind == 0xC0:
            result = self.items(count, end, depth)
        elif kind == 0xC1:
            result = self.map(count, end, depth)
        elif kind == 0xE0:
            result = self.array(count, end, depth)
        else:
            raise MessageCodecError(f"0x{code:02x} is no AMQP 1.0 format code")
        if self.pos != end:
            raise MessageCodecError(f"a value of format code 0x{code:02x} has {end - self.pos} bytes too many")
        return result

    def items(self, count: i64, end: i64, depth: i64) -> list[Any]:
        if count > end - self.pos:  # each takes a byte at least
            raise MessageCodecError(f"a list claims {count} elements in {end - self.pos} bytes")
        result: list[Any] = []
        while count:
            result.append(self.value(end, depth))
            count -= 1
        return result

    def map(self, count: i64, end: i64, depth: i64) -> dict[Any, Any]:
        if count & 1 or count > end - self.pos:
            raise MessageCodecError(f"a map claims {count} keys and values in {end - self.pos} bytes")
        result: dict[Any, Any] = {}
        while count:
            key = self.value(end, depth)
            value = self.value(end, depth)
            try:
                result[key] = value
            except TypeError:
                raise MessageCodecError(f"a map has a key of type {type(key).__name__}") from None
            count -= 2
        return result

    def array(self, count: i64, end: i64, depth: i64) -> Array:
        descriptors: list[Any] = []
        code = self.code(end)
        while code == _DESCRIBED:
            if depth + len(descriptors) >= MAX_DEPTH:
                raise MessageCodecError(f"a value is nested more than {MAX_DEPTH} deep")
            descriptors.insert(0, self.value(end, depth + 1))  # from the innermost to the outermost
            code = self.code(end)
        if code >> 4 == 4:
            if count > self.zero_width_left:
                raise MessageCodecError(f"an array claims {count} elements that take no bytes")
            self.zero_width_left -= count
        elif count > end - self.pos:
            raise MessageCodecError(f"an array claims {count} elements in {end - self.pos} bytes")
        items: list[Any] = []
        while count:
            item = self.of_code(code, end, depth)
            for descriptor in descriptors:
                item = Described(descriptor, item)
            items.append(item)
            count -= 1
        return Array(tuple(items), code)


def _read_bool(raw: bytes) -> bool:
    if raw not in (b"\0", b"\1"):
        raise MessageCodecError(f"a boolean of 0x{raw.hex()}")
    return raw == b"\1"


def _read_string(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise MessageCodecError(f"a string that is not UTF-8: {error}") from None


def _read_symbol(raw: bytes) -> Symbol:
    return Symbol(_read_string(raw))


def _read_char(raw: bytes) -> Char:
    try:
        return Char(raw.decode("utf-32-be"))
    except UnicodeDecodeError:
        raise MessageCodecError(f"a char of 0x{raw.hex()}, which is no character") from None


def _read_timestamp(raw: bytes) -> dt.datetime | Timestamp:
    milliseconds = int.from_bytes(raw, "big", signed=True)
    if _FIRST_MS <= milliseconds <= _LAST_MS:
        return EPOCH + dt.timedelta(milliseconds=milliseconds)
    return Timestamp(milliseconds)


# `Any` below and not `int`: mypyc would take it as leave to turn the subclass into a plain integer.
def _unsigned(make: Callable[[int], Any]) -> Callable[[bytes], Any]:
    return lambda raw: make(int.from_bytes(raw, "big"))


def _signed(make: Callable[[int], Any]) -> Callable[[bytes], Any]:
    return lambda raw: make(int.from_bytes(raw, "big", signed=True))


# Format code -> what makes the value of its bytes. How many bytes that is lies in the code itself: see `_size_of`.
_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    0x40: lambda _: None,
    0x41: lambda _: True,
    0x42: lambda _: False,
    0x43: _unsigned(UInt),
    0x44: _unsigned(ULong),
    0x50: _unsigned(UByte),
    0x51: _signed(Byte),
    0x52: _unsigned(UInt),
    0x53: _unsigned(ULong),
    0x54: _signed(Int),
    0x55: _signed(int),
    0x56: _read_bool,
    0x60: _unsigned(UShort),
    0x61: _signed(Short),
    0x70: _unsigned(UInt),
    0x71: _signed(Int),
    0x72: lambda raw: Float(struct.unpack(">f", raw)[0]),
    0x73: _read_char,
    0x74: Decimal32,
    0x80: _unsigned(ULong),
    0x81: _signed(int),
    0x82: lambda raw: struct.unpack(">d", raw)[0],
    0x83: _read_timestamp,
    0x84: Decimal64,
    0x94: Decimal128,
    0x98: lambda raw: uuid.UUID(bytes=raw),
    0xA0: lambda raw: raw,
    0xA1: _read_string,
    0xA3: _read_symbol,
    0xB0: lambda raw: raw,
    0xB1: _read_string,
    0xB3: _read_symbol,
}
