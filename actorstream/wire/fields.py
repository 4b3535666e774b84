"""The wire types of the protocol (section 1): how one value becomes bytes, and how bytes become one value.

Numbers are big endian. Whatever length or count the bytes claim is checked against the bytes that are really there
before anything is read, sliced or looped over, so that a hostile or broken peer costs a `MalformedFrame` and nothing
else.
"""

# ruff: noqa: D102 - `read` and `write` are described once, in Field

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from actorstream.errors import InvalidArgument, MalformedFrame
from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire.constants import MAX_STRING_BYTES, ResponseCode

_T = TypeVar("_T")

_NULL_STRING: Final = 0xFFFF
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_I32: Final = struct.Struct(">i")
_U64: Final = struct.Struct(">Q")
_I64: Final = struct.Struct(">q")


def interpreted(cls: type[_T]) -> type[_T]:
    """Leaves a class to the interpreter when its module is compiled.

    A class with a decorator that mypyc does not know stays an ordinary class. Frozen dataclasses with slots need that:
    compiled natively, they lose their defaults and class variables. (mypyc's own decorator would be a dependency.)
    """
    return cls


class Reader:
    """Walks over one frame body. Every method raises `MalformedFrame` when the frame ends before its value does."""

    __slots__ = ("data", "position", "size")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.size = len(data)

    def remaining(self) -> int:
        """Bytes not yet read."""
        return self.size - self.position

    def skip(self, count: int) -> int:
        """Step over `count` bytes (not negative) and return where they began."""
        start = self.position
        if count > self.size - start:
            raise MalformedFrame(f"the frame ends {count - (self.size - start)} bytes too early, at byte {self.size}")
        self.position = start + count
        return start

    def take(self, count: int) -> bytes:
        """The next `count` bytes (not negative)."""
        start = self.skip(count)
        return self.data[start : self.position]

    def number(self, layout: struct.Struct) -> int:
        """One integer."""
        start = self.skip(layout.size)
        value: int = layout.unpack_from(self.data, start)[0]
        return value

    def count(self, least: int) -> int:
        """An array's u32 count, believed only if so many items of at least `least` bytes fit into what is left."""
        count = self.number(_U32)
        if count * least > self.remaining():
            raise MalformedFrame(
                f"{count} items of {least} bytes or more cannot be in the {self.remaining()} bytes left"
            )
        return count

    def finish(self) -> None:
        """Nothing may be left: brokers refuse longer frames too."""
        if self.remaining():
            raise MalformedFrame(f"{self.remaining()} bytes are left over")

    def text(self, size: int) -> str:
        """`size` bytes of UTF-8."""
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedFrame(f"a string is not UTF-8: {error}") from None


class Field:
    """One wire type. `least` is the smallest number of bytes that a value takes."""

    __slots__ = ("empty", "least")

    def __init__(self, least: int, empty: object) -> None:
        self.least = least
        self.empty = empty

    def absent(self) -> Any:
        """What stands for a value that an answer, being an error, leaves out."""
        return self.empty

    def write(self, out: bytearray, value: Any) -> None:
        """Append the value's bytes.

        Raises:
            InvalidArgument: this wire type cannot carry the value.
        """
        raise NotImplementedError

    def read(self, reader: Reader) -> Any:
        """The value at the reader's position.

        Raises:
            MalformedFrame: the bytes are no such value.
        """
        raise NotImplementedError


class Integer(Field):
    """An integer of a fixed size, given as a `struct` format."""

    __slots__ = ("layout",)

    def __init__(self, layout: str) -> None:
        self.layout = struct.Struct(layout)
        super().__init__(self.layout.size, 0)

    def write(self, out: bytearray, value: Any) -> None:
        try:
            out += self.layout.pack(value)
        except struct.error as error:
            raise InvalidArgument(
                f"{value!r} is not an integer of the format {self.layout.format!r}: {error}"
            ) from None

    def read(self, reader: Reader) -> Any:
        return reader.number(self.layout)


class Boolean(Field):
    """One byte; anything but 0 is true."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1, empty=False)

    def write(self, out: bytearray, value: Any) -> None:
        out.append(1 if value else 0)

    def read(self, reader: Reader) -> Any:
        return reader.data[reader.skip(1)] != 0


class String(Field):
    """UTF-8 behind its length in bytes (u16).

    The protocol has null strings, but brokers refuse them: so one that arrives is read as "", and none is ever sent.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(2, "")

    def write(self, out: bytearray, value: Any) -> None:
        try:
            encoded: bytes = value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"{value!r} cannot be encoded in UTF-8: {error}") from None
        if len(encoded) > MAX_STRING_BYTES:
            raise InvalidArgument(f"a string of {len(encoded)} bytes: the protocol carries {MAX_STRING_BYTES} at most")
        out += _U16.pack(len(encoded))
        out += encoded

    def read(self, reader: Reader) -> Any:
        size = reader.number(_U16)
        return "" if size == _NULL_STRING else reader.text(size)


class NullableString(String):
    """A string or None. Only the filter value of Publish version 2 is one."""

    __slots__ = ()

    def write(self, out: bytearray, value: Any) -> None:
        if value is None:
            out += _U16.pack(_NULL_STRING)
        else:
            super().write(out, value)

    def read(self, reader: Reader) -> Any:
        size = reader.number(_U16)
        return None if size == _NULL_STRING else reader.text(size)


class Binary(Field):
    """Bytes behind their length (i32). A null (-1) that arrives is read as b""."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(4, b"")

    def write(self, out: bytearray, value: Any) -> None:
        out += _I32.pack(len(value))
        out += value

    def read(self, reader: Reader) -> Any:
        size = reader.number(_I32)
        if size < -1:
            raise MalformedFrame(f"a length of {size} bytes")
        return b"" if size == -1 else reader.take(size)


class TrailingChallenge(Field):
    """The SASL challenge that ends an answer, or nothing, which is None.

    The specification says bytes (i32 length); brokers write a string (u16 length).
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0, None)

    def write(self, out: bytearray, value: Any) -> None:
        if value is None:
            return
        if len(value) > MAX_STRING_BYTES:
            raise InvalidArgument(f"a challenge of {len(value)} bytes: the protocol carries {MAX_STRING_BYTES} at most")
        out += _U16.pack(len(value))
        out += value

    def read(self, reader: Reader) -> Any:
        return reader.take(reader.number(_U16)) if reader.remaining() else None


class Rest(Field):
    """Everything up to the frame's end, without a length of its own."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0, b"")

    def write(self, out: bytearray, value: Any) -> None:
        out += value

    def read(self, reader: Reader) -> Any:
        return reader.take(reader.remaining())


class Implied(Field):
    """No bytes at all: in this command, or in this version of it, the value is always the same."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        super().__init__(0, value)
        self.value = value

    def write(self, out: bytearray, value: Any) -> None:  # noqa: ARG002 - it has no bytes
        if value != self.value:
            raise InvalidArgument(f"{value!r} cannot be sent here: it is always {self.value!r}")

    def read(self, reader: Reader) -> Any:  # noqa: ARG002 - it has no bytes
        return self.value


class Array(Field):
    """A u32 count and as many items; a tuple."""

    __slots__ = ("item",)

    def __init__(self, item: Field) -> None:
        super().__init__(4, ())
        self.item = item

    def write(self, out: bytearray, value: Any) -> None:
        items: Sequence[Any] = value
        out += _U32.pack(len(items))
        for one in items:
            self.item.write(out, one)

    def read(self, reader: Reader) -> Any:
        item = self.item
        return tuple([item.read(reader) for _ in range(reader.count(item.least))])


class Map(Field):
    """A u32 count and as many pairs of a string and a value; a dict. Of equal keys the last one counts."""

    __slots__ = ("value",)

    def __init__(self, value: Field) -> None:
        super().__init__(4, None)
        self.value = value

    def absent(self) -> Any:
        return {}

    def write(self, out: bytearray, value: Any) -> None:
        pairs: dict[str, Any] = value
        out += _U32.pack(len(pairs))
        for name, one in pairs.items():
            STRING.write(out, name)
            self.value.write(out, one)

    def read(self, reader: Reader) -> Any:
        pairs: dict[str, Any] = {}
        for _ in range(reader.count(STRING.least + self.value.least)):
            name = STRING.read(reader)
            pairs[name] = self.value.read(reader)
        return pairs


class TrailingMap(Map):
    """A map of strings that ends the frame. An empty one takes no bytes: brokers before 3.11 do not expect it."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(STRING)
        self.least = 0

    def write(self, out: bytearray, value: Any) -> None:
        if value:
            super().write(out, value)

    def read(self, reader: Reader) -> Any:
        return super().read(reader) if reader.remaining() else {}


class Offset(Field):
    """An offset specification. Only an answer may carry `none`: in a request it would cost the connection."""

    __slots__ = ("allow_none",)

    def __init__(self, *, allow_none: bool) -> None:
        super().__init__(2, OffsetSpecification(OffsetType.NONE))
        self.allow_none = allow_none

    def write(self, out: bytearray, value: Any) -> None:
        kind = value.type
        if kind == OffsetType.NONE and not self.allow_none:
            raise InvalidArgument("an offset specification is needed here, and this one is none")
        out += _U16.pack(kind)
        if kind == OffsetType.OFFSET:
            U64.write(out, value.value)
        elif kind == OffsetType.TIMESTAMP:
            I64.write(out, value.value)

    def read(self, reader: Reader) -> Any:
        number = reader.number(_U16)
        if number > OffsetType.TIMESTAMP or (number == OffsetType.NONE and not self.allow_none):
            raise MalformedFrame(f"an offset specification of type {number}")
        kind = OffsetType(number)
        if kind == OffsetType.OFFSET:
            return OffsetSpecification(kind, reader.number(_U64))
        if kind == OffsetType.TIMESTAMP:
            return OffsetSpecification(kind, reader.number(_I64))
        return OffsetSpecification(kind)


class Structure(Field):
    """A dataclass whose fields follow one another, in the order of its constructor."""

    __slots__ = ("cls", "fields", "names")

    def __init__(self, cls: type, *fields: Field) -> None:
        names: Sequence[str] = tuple(getattr(cls, "__dataclass_fields__", ()))
        if len(names) != len(fields):
            raise TypeError(f"{cls.__name__} has {len(names)} fields, and {len(fields)} wire types were given")
        super().__init__(sum([field.least for field in fields]), None)
        self.cls = cls
        self.names = names
        self.fields = fields

    def write(self, out: bytearray, value: Any) -> None:
        for name, field in zip(self.names, self.fields, strict=True):
            try:
                field.write(out, getattr(value, name))
            except InvalidArgument as error:
                raise InvalidArgument(f"{self.cls.__name__}.{name}: {error}") from None

    def read(self, reader: Reader) -> Any:
        return self.cls(*[field.read(reader) for field in self.fields])


class Answer(Structure):
    """A structure that begins with a response code. When that is an error, the frame may end after it."""

    __slots__ = ()

    def read(self, reader: Reader) -> Any:
        code = self.fields[0].read(reader)
        rest = self.fields[1:]
        if code != ResponseCode.OK and not reader.remaining():
            return self.cls(code, *[field.absent() for field in rest])
        return self.cls(code, *[field.read(reader) for field in rest])


U8: Final = Integer(">B")
U16: Final = Integer(">H")
I16: Final = Integer(">h")
I32: Final = Integer(">i")
U32: Final = Integer(">I")
U64: Final = Integer(">Q")
I64: Final = Integer(">q")
BOOL: Final = Boolean()
STRING: Final = String()
NULLABLE_STRING: Final = NullableString()
BINARY: Final = Binary()
REST: Final = Rest()
CHALLENGE: Final = TrailingChallenge()
STRINGS: Final = Array(STRING)
STRING_MAP: Final = Map(STRING)
TRAILING_MAP: Final = TrailingMap()
OFFSET: Final = Offset(allow_none=False)
OFFSET_OR_NONE: Final = Offset(allow_none=True)
