"""How a message that was read is written: by a format with tokens, or as JSON."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from actorstream.errors import InvalidArgument
from actorstream.wire.amqp import Properties
from actorstream.wire.message import Message

Render = Callable[[Message], bytes]

DEFAULT = r"%s\n"

_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}


def compile_format(text: str) -> Render:
    r"""A function that writes a message as the format says.

    Tokens: `%s` body, `%S` its bytes' number, `%o` offset, `%T` timestamp in milliseconds, `%t` stream, `%k` key
    (subject), `%p` application properties as `name=value,…`, `%%`. Escapes: `\n`, `\t`, `\r`, `\0`, `\\`.

    Raises:
        InvalidArgument: an unknown token or escape.
    """
    parts: list[bytes | Render] = []
    for plain, sign, code in re.findall(r"([^%\\]+)|([%\\])(.?)", text, re.DOTALL):
        known: Mapping[str, bytes | Render] = _TOKENS if sign == "%" else _ESCAPES
        if sign and code not in known:
            raise InvalidArgument(f"a format has no {sign + code!r}: there are {', '.join(_all())}")
        parts.append(known[code] if sign else plain.encode())
    return lambda message: b"".join([part if isinstance(part, bytes) else part(message) for part in parts])


def _all() -> list[str]:
    return [*(f"%{code}" for code in _TOKENS), *(f"\\{code}" for code in _ESCAPES)]


def as_json(message: Message) -> bytes:
    """A message as an object in one line; bytes that are no text are in base64, under another name."""
    row: dict[str, Any] = {"stream": message.stream, "offset": message.offset, "timestamp_ms": message.timestamp_ms}
    if message.is_raw or message.kind == "data":
        try:
            row["body"] = message.body.decode()
        except UnicodeDecodeError:
            row["body_base64"] = base64.b64encode(message.body).decode()
    else:
        row["value"] = _plain(message.value)
    if not message.is_raw:
        if message.properties is not None:
            row["properties"] = _properties(message.properties)
        for name in ("application_properties", "annotations"):
            if values := getattr(message, name):
                row[name] = _plain(values)
    return _json(row).encode() + b"\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _properties(properties: Properties) -> dict[str, Any]:
    given = ((one.name, getattr(properties, one.name)) for one in dataclasses.fields(properties))
    return {name: _plain(value) for name, value in given if value is not None}


def _plain(value: Any) -> Any:
    """What JSON can say of a value of AMQP 1.0."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case dt.datetime():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return str(value)


def _body(message: Message) -> bytes:
    if message.is_raw or message.kind == "data":
        return message.body
    value = message.value
    return value if isinstance(value, bytes) else str(value).encode() if isinstance(value, str) else _value(value)


def _value(value: Any) -> bytes:
    return _json(_plain(value)).encode()


def _key(message: Message) -> bytes:
    properties = None if message.is_raw else message.properties
    return ((properties and properties.subject) or "").encode()


def _application_properties(message: Message) -> bytes:
    values = {} if message.is_raw else message.application_properties
    return ",".join(f"{name}={_plain(value)}" for name, value in values.items()).encode()


_TOKENS: dict[str, bytes | Render] = {
    "s": _body,
    "S": lambda message: str(len(_body(message))).encode(),
    "o": lambda message: str(message.offset).encode(),
    "T": lambda message: str(message.timestamp_ms).encode(),
    "t": lambda message: message.stream.encode(),
    "k": _key,
    "p": _application_properties,
    "%": b"%",
}
