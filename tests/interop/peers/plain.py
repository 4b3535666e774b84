"""Messages as JSON, with their AMQP types: what a test and a peer's script say to each other.

A message is a dict of its parts: one of body, value and sequence, and any of header, delivery_annotations, annotations,
properties, application_properties and footer. A delivered one has an offset and a timestamp_ms too. Of a value whose
AMQP type JSON cannot tell, a dict {"$": type, "v": value} takes the place.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

Plain = dict[str, Any]
Make = Mapping[str, Callable[[Any], Any]]

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MILLISECOND = dt.timedelta(milliseconds=1)

# By the names of classes, ours and Proton's and rbfly's: a script must not need the packages of another.
TYPES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "Symbol": ("symbol", str),
    "symbol": ("symbol", str),
    "Char": ("char", str),
    "char": ("char", str),
    "UByte": ("ubyte", int),
    "ubyte": ("ubyte", int),
    "UShort": ("ushort", int),
    "ushort": ("ushort", int),
    "UInt": ("uint", int),
    "uint": ("uint", int),
    "ULong": ("ulong", int),
    "ulong": ("ulong", int),
    "Byte": ("byte", int),
    "byte": ("byte", int),
    "Short": ("short", int),
    "short": ("short", int),
    "Int": ("int", int),
    "int32": ("int", int),
    "Float": ("float", float),
    "float32": ("float", float),
    "timestamp": ("timestamp", int),
}

BODIES = ("body", "value", "sequence")
EMPTY_MAP: Plain = {"$": "map", "v": []}
FIELDS = ("header", "properties")
"""Parts with fields that the protocol names, dicts in JSON too; the other mappings are maps of AMQP."""

MAKE: Make = {
    "binary": base64.b64decode,
    "uuid": uuid.UUID,
    "timestamp": lambda ms: EPOCH + ms * MILLISECOND,
}


def dump(value: Any) -> Any:
    """A value as JSON can carry it."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [dump(item) for item in value]
    if isinstance(value, Mapping):
        return {"$": "map", "v": [[dump(key), dump(item)] for key, item in value.items()]}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$": "binary", "v": base64.b64encode(value).decode()}
    if isinstance(value, dt.datetime):
        return {"$": "timestamp", "v": round((value - EPOCH) / MILLISECOND)}
    if isinstance(value, uuid.UUID):
        return {"$": "uuid", "v": str(value)}
    name, simple = TYPES[type(value).__name__]
    return {"$": name, "v": simple(value)}


def load(value: Any, make: Make = MAKE) -> Any:
    """The value again; `make` says what is made of each named type, beyond those in `MAKE`."""
    if isinstance(value, list):
        return [load(item, make) for item in value]
    if not isinstance(value, dict):
        return value
    if value["$"] == "map":
        return {load(key, make): load(item, make) for key, item in value["v"]}
    return (make.get(value["$"]) or MAKE[value["$"]])(value["v"])


def dump_message(message: Plain) -> Plain:
    """A message as JSON can carry it; parts that say nothing are left out."""
    parts = {name: _fields(part) if name in FIELDS else dump(part) for name, part in message.items()}
    return {name: part for name, part in parts.items() if name in BODIES or part not in (None, {}, EMPTY_MAP)}


def load_message(message: Plain, make: Make = MAKE) -> Plain:
    """The message again; parts that are not there are not in the dict."""
    return {
        name: {field: load(value, make) for field, value in part.items()} if name in FIELDS else load(part, make)
        for name, part in message.items()
    }


def _fields(part: Mapping[str, Any] | None) -> Plain:
    return {name: dump(value) for name, value in (part or {}).items() if value is not None}


@dataclass(frozen=True)
class Request:
    """What a script is asked for: to publish messages, or to read `count` of them from an offset on."""

    uri: str
    amqp_port: int
    stream: str
    publish: list[Plain] | None = None
    count: int = 0
    offset: int = 0
    options: Plain | None = None

    @property
    def host(self) -> str:
        """The broker's."""
        return urlsplit(self.uri).hostname or "localhost"

    @property
    def port(self) -> int:
        """The broker's port for streams."""
        return urlsplit(self.uri).port or 5552

    @property
    def username(self) -> str:
        """For the login."""
        return unquote(urlsplit(self.uri).username or "guest")

    @property
    def password(self) -> str:
        """For the login."""
        return unquote(urlsplit(self.uri).password or "guest")

    def option(self, name: str) -> Any:
        """Something that only some scripts know; None when it was not said."""
        return (self.options or {}).get(name)


def serve(publish: Callable[[Request, list[Plain]], None], consume: Callable[[Request], list[Plain]]) -> None:
    """Do what the request on stdin says, and print the outcome; messages are given and taken as JSON holds them."""
    request = Request(**json.load(sys.stdin))
    if request.publish is not None:
        publish(request, request.publish)
        answer: list[Plain] = []
    else:
        answer = consume(request)
    json.dump(answer, sys.stdout)
