"""Pika, AMQP 0-9-1: publishes to the stream as to any queue, and reads it back with acknowledgements.

A message's `properties` are the basic properties of AMQP 0-9-1, `headers` among them. Headers lose nothing but types.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pika

from tests.interop.peers.plain import Plain, Request, dump_message, load_message, serve

NAMES = (
    *("content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to"),
    *("expiration", "message_id", "timestamp", "type", "user_id", "app_id"),
)


def _connect(request: Request) -> Any:
    credentials = pika.PlainCredentials(request.username, request.password)
    return pika.BlockingConnection(
        pika.ConnectionParameters(request.host, request.amqp_port, credentials=credentials, socket_timeout=10)
    )


def publish(request: Request, messages: list[Plain]) -> None:
    connection = _connect(request)
    channel = connection.channel()
    channel.confirm_delivery()
    for message in messages:
        parts = load_message(message)
        properties = pika.BasicProperties(**parts.get("properties", {}))
        channel.basic_publish("", request.stream, parts["body"], properties, mandatory=True)
    connection.close()


def consume(request: Request) -> list[Plain]:
    connection = _connect(request)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=100)
    found: list[Plain] = []
    arguments = {"x-stream-offset": request.offset}
    for method, properties, body in channel.consume(request.stream, arguments=arguments, inactivity_timeout=20):
        if method is None:
            raise TimeoutError(f"{len(found)} messages, and no more")
        channel.basic_ack(method.delivery_tag)
        seen = {name: _aware(getattr(properties, name)) for name in NAMES}
        headers = dict(seen["headers"] or {})
        found.append(
            dump_message(
                {"body": body, "offset": headers.pop("x-stream-offset"), "properties": {**seen, "headers": headers}}
            )
        )
        if len(found) == request.count:
            break
    channel.cancel()
    connection.close()
    return found


def _aware(value: Any) -> Any:
    """Pika reads timestamps as naive datetimes in UTC; it has an integer type of its own."""
    if isinstance(value, Mapping):
        return {key: _aware(item) for key, item in value.items()}
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


if __name__ == "__main__":
    serve(publish, consume)
