"""rstream: writes and reads all sections, and writes sub-entries; it reads text as bytes, and loses most types.

An option `sub_entries` of "none" or "gzip" puts all the messages into one sub-entry, and one `filter_value` is that of
all the messages. To read, `filter` is a list of such values, and `match_unfiltered` asks for what has none, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rstream import (
    AMQPMessage,
    CompressionType,
    Consumer,
    ConsumerOffsetSpecification,
    FilterConfiguration,
    Header,
    OffsetType,
    Producer,
    Properties,
    amqp_decoder,
)

from tests.interop.peers.plain import MAKE, Make, Plain, Request, dump_message, load_message, serve


class Typed(dict[str, Any]):
    """A value with its AMQP type, in the form that rstream takes; the key of a map, too."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self["VALUE"])


def _typed(name: str) -> Callable[[Any], Any]:
    return lambda value: Typed(TYPE=name, VALUE=value)


def _name(key: Any) -> Any:
    return key["VALUE"] if isinstance(key, Typed) else key


TYPED: Make = {name: _typed(name.upper()) for name in ("ubyte", "byte", "ushort", "short", "uint", "int", "ulong")}
TYPED = {**MAKE, **TYPED, "float": _typed("FLOAT"), "symbol": _typed("SYMBOL")}


def publish(request: Request, messages: list[Plain]) -> None:
    asyncio.run(_publish(request, [_encodable(message) for message in messages]))


def _encodable(message: Plain) -> Any:
    parts = load_message(message, TYPED)
    given: Plain = {name: parts[name] for name in ("body", "value", "application_properties") if name in parts}
    if "sequence" in parts:
        given["sequence"] = [parts["sequence"]]
    for ours, theirs in (("annotations", "message_annotations"), ("delivery_annotations",) * 2, ("footer",) * 2):
        if ours in parts:
            given[theirs] = {_name(key): value for key, value in parts[ours].items()}
    if "properties" in parts:
        given["properties"] = Properties(**parts["properties"])
    if "header" in parts:
        header = dict(parts["header"])
        given["header"] = Header(ttl=header.pop("ttl_ms", None), **header)
    return AMQPMessage(**given)


async def _publish(request: Request, messages: list[Any]) -> None:
    confirmed: list[bool] = []
    all_confirmed = asyncio.Event()
    expected = 1 if request.option("sub_entries") else len(messages)

    def confirm(status: Any) -> None:
        confirmed.append(status.is_confirmed)
        if len(confirmed) == expected:
            all_confirmed.set()

    async def filter_value(_: Any) -> Any:
        return request.option("filter_value")

    async with Producer(
        request.host,
        request.port,
        username=request.username,
        password=request.password,
        filter_value_extractor=filter_value if request.option("filter_value") else None,
    ) as producer:
        if codec := request.option("sub_entries"):
            kind = {"none": CompressionType.No, "gzip": CompressionType.Gzip}[codec]
            await producer.send_sub_entry(request.stream, messages, compression_type=kind, on_publish_confirm=confirm)
        else:
            for message in messages:
                await producer.send(request.stream, message, on_publish_confirm=confirm)
        await asyncio.wait_for(all_confirmed.wait(), 20)
    assert all(confirmed)


def consume(request: Request) -> list[Plain]:
    return asyncio.run(_consume(request))


async def _consume(request: Request) -> list[Plain]:
    found: list[Plain] = []
    enough = asyncio.Event()

    async def take(message: Any, context: Any) -> None:
        if len(found) < request.count:
            found.append(_plain(message, context))
        if len(found) == request.count:
            enough.set()

    wanted = None
    if request.option("filter"):
        wanted = FilterConfiguration(
            request.option("filter"), lambda _: True, match_unfiltered=bool(request.option("match_unfiltered"))
        )
    consumer = Consumer(request.host, request.port, username=request.username, password=request.password)
    await consumer.subscribe(
        request.stream,
        take,
        decoder=amqp_decoder,
        offset_specification=ConsumerOffsetSpecification(OffsetType.OFFSET, request.offset),
        filter_input=wanted,
    )
    await asyncio.wait_for(enough.wait(), 20)
    await consumer.close()
    return found


def _plain(message: Any, context: Any) -> Plain:
    header = message.header._asdict() if message.header else {}
    if header:
        header["ttl_ms"] = header.pop("ttl")
    bodies = {"body": message.body, "value": message.value, "sequence": message.sequence}
    return dump_message(
        {
            **{kind: body for kind, body in bodies.items() if body is not None},
            "header": header,
            "delivery_annotations": message.delivery_annotations,
            "annotations": message.message_annotations,
            "properties": message.properties._asdict() if message.properties else None,
            "application_properties": message.application_properties,
            "footer": message.footer,
            "offset": context.offset,
            "timestamp_ms": context.timestamp,
        }
    )


if __name__ == "__main__":
    serve(publish, consume)
