"""rbfly: publishes bodies and application properties, reads all sections."""

from __future__ import annotations

import asyncio
from typing import Any

from rbfly.amqp import get_message_ctx
from rbfly.streams import Offset, Symbol, stream_message_ctx, streams_client

from tests.interop.peers.plain import MAKE, Plain, Request, dump_message, load_message, serve

PROPERTIES = (
    *("message_id", "user_id", "to", "subject", "reply_to", "correlation_id", "content_type", "content_encoding"),
    *("absolute_expiry_time", "creation_time", "group_id", "group_sequence", "reply_to_group_id"),
)


def _client(request: Request) -> Any:
    # It does not decode the vhost "%2F" of a URI.
    return streams_client(f"rabbitmq-stream://{request.username}:{request.password}@{request.host}:{request.port}/")


def publish(request: Request, messages: list[Plain]) -> None:
    asyncio.run(_publish(request, messages))


async def _publish(request: Request, messages: list[Plain]) -> None:
    client = _client(request)
    async with client.publisher(request.stream) as publisher:
        for message in messages:
            parts = load_message(message, {**MAKE, "symbol": Symbol})
            body = parts["value"] if "value" in parts else parts["body"]
            await publisher.send(stream_message_ctx(body, app_properties=parts.get("application_properties", {})))
    await client.disconnect()


def consume(request: Request) -> list[Plain]:
    return asyncio.run(_consume(request))


async def _consume(request: Request) -> list[Plain]:
    client = _client(request)
    found: list[Plain] = []
    async for body in client.subscribe(request.stream, offset=Offset.offset(request.offset), timeout=20):
        seen: Any = get_message_ctx()
        found.append(
            dump_message(
                {
                    "body" if isinstance(body, bytes) else "value": body,
                    "delivery_annotations": seen.delivery_annotations,
                    "annotations": seen.annotations,
                    "properties": {name: getattr(seen.properties, name) for name in PROPERTIES},
                    "application_properties": seen.app_properties,
                    "footer": seen.footer,
                    "header": {
                        "durable": seen.header.durable,
                        "priority": seen.header.priority,
                        "ttl_ms": seen.header.ttl,
                        "first_acquirer": seen.header.first_acquirer,
                        "delivery_count": seen.header.delivery_count,
                    },
                    "offset": seen.stream_offset,
                    "timestamp_ms": round(seen.stream_timestamp * 1000),
                }
            )
        )
        if len(found) == request.count:
            break
    await client.disconnect()
    return found


if __name__ == "__main__":
    serve(publish, consume)
