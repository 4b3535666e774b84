"""Proton, AMQP 1.0: writes and reads all sections with all their types, through RabbitMQ's own AMQP 1.0."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import proton
from proton.reactor import Filter
from proton.utils import BlockingConnection

from tests.interop.peers.plain import EPOCH, MAKE, MILLISECOND, Make, Plain, Request, dump_message, load_message, serve

TYPED: Make = {
    **MAKE,
    "symbol": proton.symbol,
    "char": proton.char,
    "ubyte": proton.ubyte,
    "ushort": proton.ushort,
    "uint": proton.uint,
    "ulong": proton.ulong,
    "byte": proton.byte,
    "short": proton.short,
    "int": proton.int32,
    "float": proton.float32,
    "timestamp": proton.timestamp,
}

# Our name, Proton's name, what makes Proton's value of ours, and back.
Field = tuple[str, str, Callable[[Any], Any], Callable[[Any], Any]]


def _same(value: Any) -> Any:
    return value


def _name(value: str) -> str | None:
    return None if value == "None" else str(value)  # what Proton makes of a symbol that is not there


def _seconds(timestamp: int) -> float:
    return timestamp / 1000


def _moment(seconds: float) -> dt.datetime | None:
    return EPOCH + round(seconds * 1000) * MILLISECOND if seconds else None


PROPERTIES: tuple[Field, ...] = (
    ("message_id", "id", _same, _same),
    ("user_id", "user_id", _same, lambda value: value or None),
    ("to", "address", _same, _same),
    ("subject", "subject", _same, _same),
    ("reply_to", "reply_to", _same, _same),
    ("correlation_id", "correlation_id", _same, _same),
    ("content_type", "content_type", _same, _name),
    ("content_encoding", "content_encoding", _same, _name),
    ("absolute_expiry_time", "expiry_time", _seconds, _moment),
    ("creation_time", "creation_time", _seconds, _moment),
    ("group_id", "group_id", _same, _same),
    ("group_sequence", "group_sequence", _same, lambda value: value or None),
    ("reply_to_group_id", "reply_to_group_id", _same, _same),
)
HEADER: tuple[Field, ...] = (
    ("durable", "durable", _same, _same),
    ("priority", "priority", _same, _same),
    ("ttl_ms", "ttl", _seconds, lambda value: round(value * 1000) or None),
    ("first_acquirer", "first_acquirer", _same, _same),
    ("delivery_count", "delivery_count", _same, _same),
)


def publish(request: Request, messages: list[Plain]) -> None:
    connection = _connect(request)
    sender = connection.create_sender(_address(request))
    for message in messages:
        delivery = sender.send(_encodable(message))
        assert delivery.remote_state == proton.Delivery.ACCEPTED, delivery.remote_state
    connection.close()


def consume(request: Request) -> list[Plain]:
    connection = _connect(request)
    wanted = Filter(
        {
            proton.symbol("rabbitmq:stream-offset-spec"): proton.Described(
                proton.symbol("rabbitmq:stream-offset-spec"), proton.ulong(request.offset)
            )
        }
    )
    receiver = connection.create_receiver(_address(request), credit=request.count, options=wanted)
    found: list[Plain] = []
    while len(found) < request.count:
        found.append(_plain(receiver.receive(timeout=20)))
        receiver.accept()
    connection.close()
    return found


def _connect(request: Request) -> Any:
    return BlockingConnection(
        f"amqp://{request.host}:{request.amqp_port}",
        user=request.username,
        password=request.password,
        allowed_mechs="PLAIN",
        timeout=20,
    )


def _address(request: Request) -> str:
    return f"/queues/{quote(request.stream, safe='')}"


def _encodable(message: Plain) -> proton.Message:
    parts = load_message(message, TYPED)
    made = proton.Message()
    made.inferred = "value" not in parts  # a data or a sequence section, and not a value
    made.body = parts["value"] if "value" in parts else parts["sequence"] if "sequence" in parts else parts["body"]
    for fields, part in ((PROPERTIES, "properties"), (HEADER, "header")):
        for ours, theirs, to_them, _ in fields:
            if ours in parts.get(part, {}):
                setattr(made, theirs, to_them(parts[part][ours]))
    made.properties = parts.get("application_properties")
    made.annotations = parts.get("annotations")
    made.instructions = parts.get("delivery_annotations")
    return made


def _plain(message: proton.Message) -> Plain:
    annotations = dict(message.annotations or {})
    kind = "value" if not message.inferred else "sequence" if isinstance(message.body, list) else "body"
    return dump_message(
        {
            kind: message.body,
            "properties": {ours: back(getattr(message, theirs)) for ours, theirs, _, back in PROPERTIES},
            "header": {ours: back(getattr(message, theirs)) for ours, theirs, _, back in HEADER},
            "application_properties": message.properties,
            "delivery_annotations": message.instructions,
            "offset": annotations.pop(proton.symbol("x-stream-offset"), -1),
            "annotations": annotations,
        }
    )


if __name__ == "__main__":
    serve(publish, consume)
