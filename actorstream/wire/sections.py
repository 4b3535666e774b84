"""The sections of an AMQP 1.0 message: where they lie in a record, and their bytes (part 3.2 of AMQP 1.0, protocol 7).

Sections are taken in any order, since not every client keeps to the standard's; the last one of a kind counts, except
that the data and amqp-sequence sections of a body add up. A message is written in the standard's order.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from actorstream.errors import MessageCodecError
from actorstream.wire.amqp import (
    FIRST_MOMENT,
    LAST_MOMENT,
    Array,
    Described,
    Header,
    Properties,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
)
from actorstream.wire.amqp_decode import decode_value, skip_value
from actorstream.wire.amqp_encode import encode_value

if TYPE_CHECKING:
    from mypy_extensions import i64

HEADER: Final = 0x70
DELIVERY_ANNOTATIONS: Final = 0x71
ANNOTATIONS: Final = 0x72
PROPERTIES: Final = 0x73
APPLICATION_PROPERTIES: Final = 0x74
DATA: Final = 0x75
SEQUENCE: Final = 0x76
VALUE: Final = 0x77
FOOTER: Final = 0x78

_BY_SYMBOL: Final = {
    "amqp:header:list": HEADER,
    "amqp:delivery-annotations:map": DELIVERY_ANNOTATIONS,
    "amqp:message-annotations:map": ANNOTATIONS,
    "amqp:properties:list": PROPERTIES,
    "amqp:application-properties:map": APPLICATION_PROPERTIES,
    "amqp:data:binary": DATA,
    "amqp:amqp-sequence:list": SEQUENCE,
    "amqp:amqp-value:*": VALUE,
    "amqp:footer:map": FOOTER,
}


class _Field:
    """A field of a list section: its name, the types taken for it, and what makes the AMQP type of a Python value."""

    __slots__ = ("name", "types", "wire")

    def __init__(self, name: str, types: tuple[type, ...], wire: Callable[[Any], Any] | None = None) -> None:
        self.name = name
        self.types = types
        self.wire = wire

    def check(self, section: str, value: Any) -> None:
        if isinstance(value, self.types) and (not isinstance(value, bool) or self.types == (bool,)):
            return
        wanted = " or ".join([kind.__name__ for kind in self.types])
        raise MessageCodecError(f"{section}.{self.name} is {wanted}, not {type(value).__name__}")


def _id(value: Any) -> Any:
    return ULong(value) if isinstance(value, int) else value


_ID_TYPES: Final = (str, int, bytes, uuid.UUID)

_HEADER_FIELDS: Final = (
    _Field("durable", (bool,)),
    _Field("priority", (int,), UByte),
    _Field("ttl_ms", (int,), UInt),
    _Field("first_acquirer", (bool,)),
    _Field("delivery_count", (int,), UInt),
)

_PROPERTIES_FIELDS: Final = (
    _Field("message_id", _ID_TYPES, _id),
    _Field("user_id", (bytes,)),
    _Field("to", (str,), str),
    _Field("subject", (str,), str),
    _Field("reply_to", (str,), str),
    _Field("correlation_id", _ID_TYPES, _id),
    _Field("content_type", (str,), Symbol),
    _Field("content_encoding", (str,), Symbol),
    _Field("absolute_expiry_time", (dt.datetime,)),
    _Field("creation_time", (dt.datetime,)),
    _Field("group_id", (str,), str),
    _Field("group_sequence", (int,), UInt),
    _Field("reply_to_group_id", (str,), str),
)


# Reading ----------------------------------------------------------------------------------------------------------


class Sections:
    """Where the sections of a record lie. Finding them looks at no value: one that is broken spoils itself only."""

    __slots__ = ("bodies", "known", "record", "spans")

    def __init__(self, record: bytes) -> None:
        """Raises MessageCodecError: the record is not made of AMQP 1.0 sections."""
        self.record = record
        self.spans: dict[int, tuple[int, int, int]] = {}
        """Section code -> where the section begins, where its value does, where both end."""
        self.bodies: list[tuple[int, int, int, int]] = []
        """The same of each section of the body, the code first."""
        self.known: dict[int, Any] = {}
        """What was decoded, by section code."""
        pos: i64 = 0
        while pos < len(record):
            start = pos
            code, pos = _descriptor(record, pos)
            value_at = pos
            pos = skip_value(record, pos)
            if DATA <= code <= VALUE:
                self.bodies.append((code, start, value_at, pos))
            else:
                self.spans[code] = (start, value_at, pos)

    def section(self, code: int) -> bytes:
        """The bytes of a section as they stand in the record; b"" when it has none."""
        span = self.spans.get(code)
        return b"" if span is None else self.record[span[0] : span[2]]

    def body_sections(self) -> bytes:
        """The bytes of the sections that make up the body."""
        return b"".join([self.record[start:end] for _, start, _, end in self.bodies])

    def mapping(self, code: int, name: str) -> dict[Any, Any]:
        """The map in a section; empty when the record has none."""
        if code not in self.known:
            value = self._value(code)
            if value is None:
                value = {}
            if not isinstance(value, dict):
                raise MessageCodecError(f"the {name} of a message are a map, not {type(value).__name__}")
            self.known[code] = value
        known: dict[Any, Any] = self.known[code]
        return known

    def header(self) -> Header | None:
        """None when the record has no such section."""
        if HEADER not in self.known:
            fields = self._fields(HEADER, "header", _HEADER_FIELDS)
            self.known[HEADER] = None if fields is None else Header(**fields)
        known: Header | None = self.known[HEADER]
        return known

    def properties(self) -> Properties | None:
        """None when the record has no such section."""
        if PROPERTIES not in self.known:
            fields = self._fields(PROPERTIES, "properties", _PROPERTIES_FIELDS)
            self.known[PROPERTIES] = None if fields is None else Properties(**fields)
        known: Properties | None = self.known[PROPERTIES]
        return known

    def data(self) -> bytes:
        """What the data sections hold, one after the other."""
        return b"".join([self._binary(value_at, end) for _, _, value_at, end in self.bodies])

    def sequence(self) -> list[Any]:
        """The items of all amqp-sequence sections."""
        items: list[Any] = []
        for _, _, value_at, _ in self.bodies:
            part = decode_value(self.record, value_at)[0]
            if not isinstance(part, list):
                raise MessageCodecError(f"an amqp-sequence section holds a list, not {type(part).__name__}")
            items.extend(part)
        return items

    def value(self) -> Any:
        """The value in the amqp-value section."""
        return decode_value(self.record, self.bodies[0][2])[0]

    def body_code(self) -> int:
        """Which kind of section the body is made of; a message without any counts as empty data."""
        if not self.bodies:
            return DATA
        code = self.bodies[0][0]
        if any(body[0] != code for body in self.bodies) or (code == VALUE and len(self.bodies) > 1):
            raise MessageCodecError("the body of a message mixes sections that exclude each other")
        return code

    def _binary(self, value_at: i64, end: i64) -> bytes:
        code = self.record[value_at]
        if code == 0xA0:
            return self.record[value_at + 2 : end]
        if code == 0xB0:
            return self.record[value_at + 5 : end]
        raise MessageCodecError(f"a data section holds binary, not format code 0x{code:02x}")

    def _value(self, code: int) -> Any:
        span = self.spans.get(code)
        return None if span is None else decode_value(self.record, span[1])[0]

    def _fields(self, code: int, name: str, fields: tuple[_Field, ...]) -> dict[str, Any] | None:
        values = self._value(code)
        if values is None:
            return None
        if not isinstance(values, list):
            raise MessageCodecError(f"the {name} of a message are a list, not {type(values).__name__}")
        result: dict[str, Any] = {}
        for field, value in zip(fields, values, strict=False):  # what a later standard may append is not for us
            if value is None:
                continue
            given = _nearest(value) if isinstance(value, Timestamp) else value
            field.check(name, given)
            result[field.name] = given
        return result


def _nearest(moment: Timestamp) -> dt.datetime:
    return LAST_MOMENT if moment > 0 else FIRST_MOMENT


def _descriptor(record: bytes, pos: i64) -> tuple[i64, i64]:
    """The code of the section that begins at `pos`, and where its value begins."""
    if record[pos] == 0 and len(record) - pos > 2:
        if record[pos + 1] == 0x53 and HEADER <= record[pos + 2] <= FOOTER:
            return record[pos + 2], pos + 3
        descriptor, after = decode_value(record, pos + 1)
        code = _BY_SYMBOL.get(descriptor) if isinstance(descriptor, Symbol) else descriptor
        if isinstance(code, int) and HEADER <= code <= FOOTER:
            return code, after
    raise MessageCodecError(f"no AMQP 1.0 section begins at byte {pos} of the record: 0x{record[pos : pos + 8].hex()}…")


# Writing ----------------------------------------------------------------------------------------------------------


def data_section(body: bytes) -> bytes:
    """The shortest data section for a body: by itself, the message that every client reads."""
    if len(body) <= 255:
        return b"\x00\x53\x75\xa0" + bytes((len(body),)) + body
    return b"\x00\x53\x75\xb0" + len(body).to_bytes(4, "big") + body


def value_section(value: Any) -> bytes:
    """An amqp-value section."""
    return _section(VALUE, encode_value(value))


def sequence_section(items: Any) -> bytes:
    """One amqp-sequence section."""
    if isinstance(items, (str, bytes)):
        raise MessageCodecError(f"sequence is a list of values, not {type(items).__name__}")
    _require(items, Sequence, "sequence")
    return _section(SEQUENCE, encode_value(list(items)))


def header_section(header: Any) -> bytes:
    """Raises MessageCodecError: not a `Header`, or a field of a wrong type or out of its range."""
    _require(header, Header, "header")
    return _list_section(HEADER, "header", _HEADER_FIELDS, header)


def properties_section(properties: Any) -> bytes:
    """Raises MessageCodecError: not a `Properties`, or a field of a wrong type or out of its range."""
    _require(properties, Properties, "properties")
    return _list_section(PROPERTIES, "properties", _PROPERTIES_FIELDS, properties)


def application_properties_section(values: Any) -> bytes:
    """Raises MessageCodecError: a key is no string, or a value no simple one (no list, map or array)."""
    _require(values, Mapping, "application_properties")
    for key, value in values.items():
        if not isinstance(key, str):
            raise MessageCodecError(f"application_properties: a key is str, not {type(key).__name__}")
        if isinstance(value, (list, tuple, Mapping, Array, Described)):
            raise MessageCodecError(f"application_properties[{key!r}] is one simple value, not {type(value).__name__}")
    return _map_section(APPLICATION_PROPERTIES, "application_properties", {str(key): values[key] for key in values})


def annotations_section(code: int, name: str, values: Any) -> bytes:
    """Raises MessageCodecError: a key is neither a string (which becomes a symbol) nor an unsigned integer."""
    _require(values, Mapping, name)
    converted: dict[Any, Any] = {}
    for key, value in values.items():
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise MessageCodecError(f"{name}: a key is str or int, not {type(key).__name__}")
        converted[Symbol(key) if isinstance(key, str) else ULong(key)] = value
    return _map_section(code, name, converted)


def _require(value: Any, kind: type, name: str) -> None:
    if not isinstance(value, kind):
        raise MessageCodecError(f"{name} is a {kind.__name__}, not {type(value).__name__}")


def _map_section(code: int, name: str, values: dict[Any, Any]) -> bytes:
    try:
        return _section(code, encode_value(values))
    except MessageCodecError as error:
        raise MessageCodecError(f"{name}: {error}") from None


def _list_section(code: int, name: str, fields: tuple[_Field, ...], source: Header | Properties) -> bytes:
    values: list[Any] = []
    for field in fields:
        value = getattr(source, field.name)
        if value is not None:
            field.check(name, value)
            values.append(value if field.wire is None else field.wire(value))
        else:
            values.append(None)
    while values and values[-1] is None:
        values.pop()
    try:
        return _section(code, encode_value(values))
    except MessageCodecError as error:
        raise MessageCodecError(f"{name}: {error}") from None


def _section(code: int, value: bytes) -> bytes:
    return bytes((0, 0x53, code)) + value
