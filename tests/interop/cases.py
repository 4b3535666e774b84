"""The messages that go back and forth, and the forms in which they are compared."""

import base64
import datetime as dt
import uuid
from typing import Any

from actorstream.wire.amqp import Byte, Float, Header, Int, Properties, Short, Symbol, UByte, UInt, ULong, UShort
from actorstream.wire.message import Message
from tests.interop.peers.plain import Plain, dump_message

PARTS = ("header", "delivery_annotations", "annotations", "properties", "application_properties", "footer")
MOMENT = dt.datetime(2024, 2, 29, 23, 59, 58, 765_000, tzinfo=dt.UTC)
IDENTITY = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
TEXT = "Grüße, κόσμε, 你好, 👋🏽"


def body(size: int) -> bytes:
    """Bytes of which none stands where its neighbour could."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


BODIES = [body(size) for size in (0, 1, 255, 256, 65_535, 1_000_000)]

PROPERTIES = Properties(
    message_id="message-é",
    user_id=b"guest",
    to="to-é",
    subject="subject-é",
    reply_to="reply-é",
    correlation_id=IDENTITY,
    content_type="application/json",
    content_encoding="identity",
    absolute_expiry_time=MOMENT + dt.timedelta(days=36_500),
    creation_time=MOMENT,
    group_id="group-é",
    group_sequence=2**32 - 1,
    reply_to_group_id="reply-group-é",
)

IDS: list[str | int | bytes | uuid.UUID] = ["text", "", 0, 255, 2**64 - 1, b"\x00\xff", IDENTITY]

SIMPLE: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "small": -128,
    "middle": -(2**31),
    "long": 2**63 - 1,
    "negative": -(2**63),
    "double": 0.1,
    "text": TEXT,
    "empty": "",
    "long text": "ö" * 300,
    "binary": b"\x00\xff",
    "uuid": IDENTITY,
    "moment": MOMENT,
    "before": dt.datetime(1969, 7, 20, 20, 17, 40, tzinfo=dt.UTC),
    "ключ": "value",
}
"""Application properties of the types that every client can write."""

TYPED: dict[str, Any] = {
    "ubyte": UByte(255),
    "ushort": UShort(65_535),
    "uint": UInt(2**32 - 1),
    "uint0": UInt(0),
    "ulong": ULong(2**64 - 1),
    "byte": Byte(-128),
    "short": Short(-32_768),
    "int": Int(-1),
    "float": Float(0.5),
    "symbol": Symbol("symbol"),
}
"""Application properties of the types for which Python has none of its own."""

ANNOTATIONS: dict[Any, Any] = {
    Symbol("x-opt-text"): TEXT,
    Symbol("x-opt-number"): Int(7),
    Symbol("x-opt-map"): {"key": [1, "two", b"3"]},
}

VALUES: list[Any] = [None, True, -1, 2**40, 0.1, TEXT, IDENTITY, MOMENT, [1, ["two"]], {"key": {"nested": b"\x00"}}]


def plain(message: Message) -> Plain:
    """What a message says, in the form that the peers' scripts speak."""
    parts: Plain = {{"data": "body"}.get(message.kind, message.kind): message.value}
    for name in PARTS:
        part = getattr(message, name)
        if isinstance(part, (Header, Properties)):
            # What the protocol gives the type of its own says nothing by it.
            parts[name] = {field: _simple(getattr(part, field)) for field in type(part).__slots__}
        elif part:
            parts[name] = dict(part)
    return dump_message(parts)


def _simple(value: Any) -> Any:
    return str(value) if isinstance(value, str) else int(value) if type(value) in (UByte, UInt, ULong) else value


def without(names: tuple[str, ...], message: Plain) -> Plain:
    """A message without some of its parts."""
    return {name: part for name, part in message.items() if name not in names}


def loosen(value: Any, kept: tuple[str, ...] = ("binary", "uuid", "timestamp"), *, text: bool = True) -> Any:
    """The same, as a client sees it who tells only some types apart; `text` False: who takes text for bytes."""
    if isinstance(value, list):
        return [loosen(item, kept, text=text) for item in value]
    if isinstance(value, dict) and "$" not in value:  # a message
        return {name: loosen(part, kept, text=text) for name, part in value.items()}
    if isinstance(value, dict):
        if value["$"] == "map":
            return {"$": "map", "v": loosen(value["v"], kept, text=text)}
        return value if value["$"] in kept else loosen(value["v"], kept, text=text)
    if isinstance(value, str) and not text:
        return {"$": "binary", "v": base64.b64encode(value.encode()).decode()}
    return value
