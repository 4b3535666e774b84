"""The vocabulary of AMQP 1.0: types for which Python has none of its own, and the sections that have named fields.

The types are thin subclasses of the built-in closest to each. Their values equal the plain ones (`UInt(5) == 5`,
`Symbol("a") == "a"`), so that who reads need not care, and keep the AMQP type, so that what was decoded encodes to the
same type again:

    null, boolean, long, double, binary, string, uuid   None, bool, int, float, bytes, str, uuid.UUID
    timestamp                                           aware datetime.datetime (UTC, milliseconds); see `Timestamp`
    list, map                                           list, dict
    array, described                                    `Array`, `Described`
    all others                                          the class of that name here

Left out of the mypyc build: it cannot compile subclasses of built-ins, and there is nothing here to speed up.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

MAX_DEPTH: Final = 64
"""Lists, maps, arrays and descriptors inside each other. Bounds the recursion, whatever the message says."""

MAX_ZERO_WIDTH: Final = 65_536
"""Elements of width zero (null, true, uint 0, …) in all the arrays of one value."""

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MILLISECOND: Final = dt.timedelta(milliseconds=1)
FIRST_MOMENT: Final = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
LAST_MOMENT: Final = dt.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=dt.UTC)
"""The first and the last moment that both a timestamp and `datetime` can express."""


class UByte(int):
    """An unsigned integer of 8 bits."""

    __slots__ = ()


class UShort(int):
    """An unsigned integer of 16 bits."""

    __slots__ = ()


class UInt(int):
    """An unsigned integer of 32 bits."""

    __slots__ = ()


class ULong(int):
    """An unsigned integer of 64 bits. A plain `int` beyond 2**63-1 is encoded as one too."""

    __slots__ = ()


class Byte(int):
    """A signed integer of 8 bits."""

    __slots__ = ()


class Short(int):
    """A signed integer of 16 bits."""

    __slots__ = ()


class Int(int):
    """A signed integer of 32 bits. A plain `int` is a long, of 64 bits."""

    __slots__ = ()


class Float(float):
    """A floating-point number of 32 bits: what is decoded has been rounded to that. A plain `float` is a double."""

    __slots__ = ()


class Decimal32(bytes):
    """An IEEE 754 decimal32 as its 4 bytes, not interpreted: nobody is known to send one."""

    __slots__ = ()


class Decimal64(bytes):
    """An IEEE 754 decimal64 as its 8 bytes, not interpreted."""

    __slots__ = ()


class Decimal128(bytes):
    """An IEEE 754 decimal128 as its 16 bytes, not interpreted."""

    __slots__ = ()


class Char(str):
    """One Unicode character."""

    __slots__ = ()


class Symbol(str):
    """A name in ASCII from some vocabulary. What is decoded may hold any UTF-8: not every client keeps to ASCII."""

    __slots__ = ()


class Timestamp(int):
    """Milliseconds since the epoch, for a moment outside the years 1 to 9999, which `datetime` cannot express.

    Both encode; decoding gives this type for such moments only.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor (a `ULong` or a `Symbol`, by custom) that says what the value stands for."""

    descriptor: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Array:
    """Values of one AMQP type. In an array of described values, all have the same descriptor.

    `element_code` is the format code of an element, and needed for an empty array only; the items tell it otherwise.
    """

    items: tuple[Any, ...]
    element_code: int = field(default=0x40, compare=False)


class _Fields:
    """The base of what has many fields, few of them set."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = [(name, getattr(self, name)) for name in type(self).__slots__]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values if value is not None)})"


@dataclass(frozen=True, slots=True, repr=False)
class Header(_Fields):
    """How a message is to be transported. Streams act on none of it; it is carried along.

    `ttl_ms` is in milliseconds; `priority` is 0 to 255. None: not said.
    """

    durable: bool | None = None
    priority: int | None = None
    ttl_ms: int | None = None
    first_acquirer: bool | None = None
    delivery_count: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Properties(_Fields):
    """The standard properties of a message. None: not said.

    An integer as an id is an AMQP ulong. Datetimes are aware; their precision on the wire is a millisecond, and a
    moment beyond what `datetime` can hold is read as the last (or first) that it can.
    """

    message_id: str | int | bytes | uuid.UUID | None = None
    user_id: bytes | None = None
    to: str | None = None
    subject: str | None = None
    reply_to: str | None = None
    correlation_id: str | int | bytes | uuid.UUID | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    absolute_expiry_time: dt.datetime | None = None
    creation_time: dt.datetime | None = None
    group_id: str | None = None
    group_sequence: int | None = None
    reply_to_group_id: str | None = None
