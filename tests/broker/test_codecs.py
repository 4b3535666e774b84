"""Objects through a real stream, and what becomes of those that cannot be decoded."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from actorstream import Client, Codecs, ErrorPolicy, Message, Park, Properties
from lab.broker import Broker
from tests.broker.reading import connected, read
from tests.conftest import Streams


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker) as client:
        yield client


async def test_objects_of_several_types_go_through_one_stream(client: Client, stream: Streams) -> None:
    name, codecs = stream({}), Codecs()
    codecs.register("application/x-base64", base64.b64encode, base64.b64decode)
    async with await client.producer(name) as producer:
        await producer.send_wait(codecs.encode({"id": 1, "name": "é"}))
        await producer.send_wait(codecs.encode(b"\x00\x01", "application/x-base64"))
        await producer.send_wait(codecs.encode([1.5], "application/vnd.prices+json; version=2"))
    messages = await read(client, name)
    assert [codecs.decode(message) for message in messages] == [{"id": 1, "name": "é"}, b"\x00\x01", [1.5]]
    assert [message.properties.content_type for message in messages if message.properties] == [
        "application/json",
        "application/x-base64",
        "application/vnd.prices+json; version=2",
    ]


async def test_f57_what_cannot_be_decoded_is_parked_as_it_came(client: Client, stream: Streams) -> None:
    name, parked, codecs = stream({}), stream({}), Codecs()
    seen: list[Any] = []
    async with await client.producer(name) as producer:
        await producer.send_wait(codecs.encode({"id": 1}))
        await producer.send_wait(Message(b"<order/>", properties=Properties(content_type="text/xml")))
        await producer.send_wait(Message(b"{", properties=Properties(content_type="application/json")))
        await producer.send_wait(b"no content type")
        await producer.send_wait(codecs.encode({"id": 2}))
    async with await client.consumer(name, "first", until="end") as consumer:
        await consumer.run(codecs.decoding(seen.append), on_error=ErrorPolicy(then=Park(parked)))
    assert seen == [{"id": 1}, {"id": 2}]
    messages = await read(client, parked)
    assert [message.body for message in messages] == [b"<order/>", b"{", b"no content type"]
    reasons = [message.application_properties["x-reason"].partition(":")[0] for message in messages]
    assert [reason.rpartition(".")[2] for reason in reasons] == [
        "UnknownContentType",
        "ObjectCodecError",
        "UnknownContentType",
    ]
