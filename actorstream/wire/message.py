"""The message: what is published, and what is delivered."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

from actorstream.errors import InvalidArgument, MessageCodecError
from actorstream.wire import sections as s
from actorstream.wire.amqp import Header, Properties
from actorstream.wire.native import mypyc_attr
from actorstream.wire.sections import Sections

__all__ = ["Header", "Message", "Properties"]


class _Unset:
    """Stands for an argument that was not given, where None is a value."""

    def __repr__(self) -> str:
        return "<not given>"


UNSET: Final[Any] = _Unset()


# A message refers to nothing that could refer to it. That said, the collector of garbage need not look at the thousands
# that come with each chunk, which took it a third of the time of decoding them.
@mypyc_attr(acyclic=True)
class Message:
    """An AMQP 1.0 message: a body, and what is said about it. A value: nothing of it changes once it is made.

    Inside is the record, the bytes that a stream stores; the constructor encodes it, so that what AMQP 1.0 cannot carry
    is refused at once. Everything else is read out of it when asked for, hence decoding costs what is looked at, and a
    part that is broken raises `MessageCodecError` when that part is read, and spoils no other.

    The body is one of three kinds: data (bytes, the only one that all clients write), an AMQP value of any type, or a
    sequence of them. `kind` says which, `value` gives it whatever it is, and `body` gives bytes.

    Args:
        body: the bytes of the body; text stands for its UTF-8.
        value: instead of `body`, any value of `actorstream.wire.amqp`.
        sequence: instead of `body`, a list of such values.
        properties: the standard properties.
        application_properties: names to simple values (no list, map or array).
        annotations: message annotations, names or unsigned integers to any values.
        header: how it is to be transported.
        delivery_annotations, footer: as `annotations`, for the two sections that hardly anybody uses.

    Raises:
        InvalidArgument: a body of a wrong type, or two bodies.
        MessageCodecError: a value that AMQP 1.0 cannot carry; it names the section.
    """

    __slots__ = ("_body", "_record", "_sections", "offset", "stream", "timestamp_ms")

    def __init__(
        self,
        body: bytes | bytearray | memoryview | str = b"",
        *,
        value: Any = UNSET,
        sequence: Sequence[Any] | None = None,
        properties: Properties | None = None,
        application_properties: Mapping[str, Any] | None = None,
        annotations: Mapping[Any, Any] | None = None,
        header: Header | None = None,
        delivery_annotations: Mapping[Any, Any] | None = None,
        footer: Mapping[Any, Any] | None = None,
    ) -> None:
        self.offset: int = -1
        """Where it lies in its stream; -1 unless it was delivered."""
        self.timestamp_ms: int = -1
        """When the broker wrote its chunk, in milliseconds since the epoch; -1 unless it was delivered."""
        self.stream: str = ""
        """The stream (of a super stream: the partition) that it came from; empty unless it was delivered."""
        # Of `_body` and `_record` one is set, or both. The body alone stands for the record that is one shortest data
        # section, as most are: neither way is then anything copied but the body, once.
        self._body: bytes | None = None
        self._record: bytes | None = None
        self._sections: Sections | None = None
        if (
            value is UNSET
            and sequence is None
            and properties is None
            and application_properties is None
            and annotations is None
            and header is None
            and delivery_annotations is None
            and footer is None
        ):
            self._body = _as_bytes(body)
            return
        self._record = _assemble(
            {s.DATA: _body_section(body, value, sequence)},
            {
                "header": header,
                "delivery_annotations": delivery_annotations,
                "annotations": annotations,
                "properties": properties,
                "application_properties": application_properties,
                "footer": footer,
            },
        )

    @classmethod
    def decode(cls, record: bytes, *, raw: bool = False) -> Message:
        """The message that these bytes encode. They are looked at when something of it is read.

        Args:
            record: an AMQP 1.0 message.
            raw: the record need not be one, and stands for the body too.
        """
        message = Message()
        message._record = record
        message._body = record if raw else None
        return message

    @property
    def body(self) -> bytes:
        """The body as bytes: of data sections all together, of an AMQP value the bytes, or the UTF-8 of the string.

        Raises:
            MessageCodecError: the body is some other value, or a sequence; or the record is broken.
        """
        body = self._body
        if body is None:
            body = self._body = self._read_body()
        return body

    @property
    def is_raw(self) -> bool:
        """Whether it was decoded as a raw record: its body is the whole of what a stream stores for it."""
        return self._record is not None and self._body is self._record

    @property
    def kind(self) -> Literal["data", "value", "sequence"]:
        """What the body is made of."""
        code = self._parsed().body_code()
        return "data" if code == s.DATA else "value" if code == s.VALUE else "sequence"

    @property
    def value(self) -> Any:
        """The body, whatever its kind: bytes, a value, or a list."""
        kind = self.kind
        return self.body if kind == "data" else self._parsed().value() if kind == "value" else self._parsed().sequence()

    @property
    def properties(self) -> Properties | None:
        """None when it has no such section."""
        return self._parsed().properties()

    @property
    def application_properties(self) -> Mapping[str, Any]:
        """Names to simple values; empty when there are none, and read-only, as the other mappings."""
        return self._map(s.APPLICATION_PROPERTIES, "application_properties")

    @property
    def annotations(self) -> Mapping[Any, Any]:
        """Message annotations: symbols or unsigned integers to any values."""
        return self._map(s.ANNOTATIONS, "annotations")

    @property
    def delivery_annotations(self) -> Mapping[Any, Any]:
        """As `annotations`."""
        return self._map(s.DELIVERY_ANNOTATIONS, "delivery_annotations")

    @property
    def footer(self) -> Mapping[Any, Any]:
        """As `annotations`."""
        return self._map(s.FOOTER, "footer")

    @property
    def header(self) -> Header | None:
        """None when it has no such section."""
        return self._parsed().header()

    def encode(self) -> bytes:
        """The record: what a stream stores for this message. Of a delivered one it is what was stored, byte by byte."""
        if self._record is not None:
            return self._record
        return s.data_section(b"" if self._body is None else self._body)

    def copy(self, **changes: Any) -> Message:
        """A message to publish, equal to this one but for `changes`: any arguments of the constructor.

        None takes a section away. What is not named keeps its bytes, and so the exact types that they hold.

        Raises:
            InvalidArgument, MessageCodecError: as the constructor; the latter also when the record of this one is
                broken.
        """
        old = Sections(self.encode())
        parts = {code: old.section(code) for code in old.spans}
        parts[s.DATA] = old.body_sections()
        bodies = {name: changes.pop(name) for name in ("body", "value", "sequence") if name in changes}
        if bodies:
            parts[s.DATA] = _body_section(bodies.get("body", b""), bodies.get("value", UNSET), bodies.get("sequence"))
        copied = Message()
        copied._body = None
        copied._record = _assemble(parts, changes)
        return copied

    def __repr__(self) -> str:
        where = f" {self.offset} of {self.stream!r}" if self.offset >= 0 else ""
        try:
            shown = [reprlib.repr(self.value)]
            for name, (code, _) in _WRITERS.items():
                if code in self._parsed().spans:
                    given = getattr(self, name)
                    shown.append(f"{name}={dict(given) if isinstance(given, Mapping) else given!r}")
        except MessageCodecError:
            shown = [f"{reprlib.repr(self.encode())}, which is not AMQP 1.0"]
        return f"<Message{where}: {', '.join(shown)}>"

    def _parsed(self) -> Sections:
        if self._sections is None:
            self._sections = _PLAIN if self._record is None else Sections(self._record)
        return self._sections

    def _map(self, code: int, name: str) -> Mapping[Any, Any]:
        return MappingProxyType(self._parsed().mapping(code, name))

    def _read_body(self) -> bytes:
        sections = self._parsed()
        code = sections.body_code()
        if code == s.DATA:
            return sections.data()
        value = sections.value() if code == s.VALUE else None
        if type(value) is bytes:
            return value
        if type(value) is str:
            return value.encode()
        kind = "an amqp-sequence" if code == s.SEQUENCE else f"an amqp-value of type {type(value).__name__}"
        raise MessageCodecError(f"the body of this message is {kind}, not bytes: read `value`")


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError:
            raise MessageCodecError("the body holds a lone surrogate, which is no character") from None
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    raise InvalidArgument(f"a body is bytes or str, not {type(body).__name__}; Message(value=...) takes other types")


def _body_section(body: Any, value: Any, sequence: Any) -> bytes:
    given = (body != b"") + (value is not UNSET) + (sequence is not None)
    if given > 1:
        raise InvalidArgument("a message has one body: give one of body, value and sequence")
    if sequence is not None:
        return s.sequence_section(sequence)
    return s.data_section(_as_bytes(body)) if value is UNSET else s.value_section(value)


def _assemble(parts: dict[int, bytes], changes: dict[str, Any]) -> bytes:
    """The record of these sections, by code (the body's under `DATA`), when the changes are made to them."""
    for name, value in changes.items():
        if name not in _WRITERS:
            raise InvalidArgument(f"a message has no {name!r}: it has body, value, sequence, {', '.join(_WRITERS)}")
        code, write = _WRITERS[name]
        if value is None:
            parts.pop(code, None)
        else:
            parts[code] = write(value)
    return b"".join([parts[code] for code in sorted(parts)])


# Of a message that is only a body: what it has besides, which is nothing.
_PLAIN: Final = Sections(s.data_section(b""))

_WRITERS: Final[dict[str, tuple[int, Callable[[Any], bytes]]]] = {
    "header": (s.HEADER, s.header_section),
    "delivery_annotations": (
        s.DELIVERY_ANNOTATIONS,
        lambda values: s.annotations_section(s.DELIVERY_ANNOTATIONS, "delivery_annotations", values),
    ),
    "annotations": (s.ANNOTATIONS, lambda values: s.annotations_section(s.ANNOTATIONS, "annotations", values)),
    "properties": (s.PROPERTIES, s.properties_section),
    "application_properties": (s.APPLICATION_PROPERTIES, s.application_properties_section),
    "footer": (s.FOOTER, lambda values: s.annotations_section(s.FOOTER, "footer", values)),
}
