"""The Java client of the RabbitMQ team, which knows all that the streams protocol can."""

from typing import Any

import pytest

import actorstream
from actorstream.compression import Compression
from actorstream.wire.amqp import Int, Properties, Symbol
from actorstream.wire.message import Message
from actorstream.wire.publish import raw_entry, sub_batch_entry
from tests.conftest import Streams
from tests.interop.cases import BODIES, IDS, PROPERTIES, SIMPLE, TEXT, TYPED, VALUES, body, loosen, plain, without
from tests.interop.conftest import Java, Ours
from tests.interop.peers.plain import Plain

CODECS = pytest.mark.parametrize("codec", list(Compression), ids=[codec.name.lower() for codec in Compression])
PLACE = ("offset", "timestamp_ms", "stream")
TELLS_APART = ("binary", "uuid", *(name for name in TYPED if name not in ("uint0", "symbol")), "int")
"""The types that the Java client does not turn into others: timestamps become numbers, and symbols text."""

WRITABLE = {key: value for key, value in SIMPLE.items() if key != "null"}
"""Its builder has no null."""

EVERYTHING = Message(
    TEXT,
    annotations={Symbol("x-opt-text"): TEXT, Symbol("x-opt-number"): Int(7)},
    properties=PROPERTIES,
    application_properties={**WRITABLE, **TYPED},
)


def in_json(messages: list[Message]) -> list[Plain]:
    return [plain(message) for message in messages]


def bodies(messages: list[Plain]) -> list[Any]:
    return [message["body"] for message in messages]


# Messages ---------------------------------------------------------------------------------------------------------


async def test_bodies_are_read_both_ways(ours: Ours, java: Java, stream: Streams) -> None:
    name, other = stream({}), stream({})
    await ours.publish(name, BODIES)
    assert bodies(await java.read(name, len(BODIES))) == bodies(in_json([Message(body) for body in BODIES]))
    await java.publish(other, in_json([Message(body) for body in BODIES]))
    assert [message.body for message in await ours.read(other, len(BODIES))] == BODIES


async def test_java_reads_the_sections_that_we_write(ours: Ours, java: Java, stream: Streams) -> None:
    name = stream({})
    messages = [
        EVERYTHING,
        *(Message("ids", properties=Properties(message_id=value, correlation_id=value)) for value in IDS),
        *(Message(value=value) for value in VALUES),
        Message(sequence=[1, "two", b"3", [4]]),
        Message(application_properties=SIMPLE),
    ]
    await ours.publish(name, messages)
    read = [without(PLACE, message) for message in await java.read(name, len(messages))]
    assert [loosen(message, TELLS_APART) for message in read] == [
        loosen(message, TELLS_APART) for message in in_json(messages)
    ]


async def test_what_java_writes_is_read_with_its_types(ours: Ours, java: Java, stream: Streams) -> None:
    name = stream({})
    messages = [
        EVERYTHING,
        *(Message("ids", properties=Properties(message_id=value, correlation_id=value)) for value in IDS),
    ]
    await java.publish(name, in_json(messages))
    assert in_json(await ours.read(name, len(messages))) == in_json(messages)


async def test_offsets_and_timestamps_are_the_same_for_java(ours: Ours, java: Java, stream: Streams) -> None:
    name = stream({})
    for chunk in range(3):
        await ours.publish(name, [f"{chunk}-{number}" for number in range(10)])
    mine = [(message.offset, message.timestamp_ms) for message in await ours.read(name, 30)]
    assert [(message["offset"], message["timestamp_ms"]) for message in await java.read(name, 30)] == mine
    assert [message["offset"] for message in await java.read(name, 13, offset=17)] == list(range(17, 30))


# Sub-entries ------------------------------------------------------------------------------------------------------

BATCH = [Message(body(number * 37), properties=PROPERTIES) for number in range(200)]
"""Some compress well, some hardly; together they have more than one block of any codec."""


@CODECS
async def test_sub_entries_that_java_writes_are_read(
    codec: Compression, ours: Ours, java: Java, stream: Streams
) -> None:
    name = stream({})
    await ours.publish(name, ["before"])
    await java.publish(name, in_json(BATCH), sub_entry_size=50, compression=codec.name)
    await ours.publish(name, ["after"])
    read = await ours.read(name, len(BATCH) + 2)
    assert [message.offset for message in read] == list(range(len(BATCH) + 2))
    assert in_json(read[1:-1]) == in_json(BATCH)
    assert (read[0].body, read[-1].body) == (b"before", b"after")
    assert [message.offset for message in await ours.read(name, 20, offset=120)] == list(range(120, 140))


@CODECS
async def test_sub_entries_that_we_write_are_read_by_java(
    codec: Compression, ours: Ours, java: Java, stream: Streams
) -> None:
    name = stream({})
    entries = [raw_entry(message.encode()) for message in BATCH]
    await ours.publish(name, ["before"])
    await ours.publish_entries(
        name, [sub_batch_entry(entries[start : start + 50], codec) for start in (0, 50, 100, 150)]
    )
    await ours.publish(name, ["after"])
    read = await java.read(name, len(BATCH) + 2)
    assert [message["offset"] for message in read] == list(range(len(BATCH) + 2))
    assert [loosen(without(PLACE, message)) for message in read[1:-1]] == [loosen(one) for one in in_json(BATCH)]
    assert [message["offset"] for message in await java.read(name, 20, offset=120)] == list(range(120, 140))


# Deduplication ----------------------------------------------------------------------------------------------------


async def test_a_producers_name_is_continued_by_the_other_client(ours: Ours, java: Java, stream: Streams) -> None:
    name = stream({})
    async with actorstream.connect(ours.broker.uri) as client:
        async with await client.producer(name, name="orders") as producer:
            await (await producer.send_batch([b"1", b"2", b"3"]))
        highest = await client.publishing_sequence("orders", name)
        assert await java.call("sequence", stream=name, name="orders") == highest
        again = in_json([Message("again"), Message("4"), Message("5")])
        await java.publish(name, again, name="orders", ids=[highest, highest + 1, highest + 2])
        assert await client.publishing_sequence("orders", name) == highest + 2
        async with await client.producer(name, name="orders") as producer:
            await (await producer.send("6"))
    assert [message.body for message in await ours.read(name, 6)] == [b"%d" % number for number in range(1, 7)]


# Offsets ----------------------------------------------------------------------------------------------------------


async def test_a_named_consumer_of_java_goes_on_after_ours(ours: Ours, java: Java, stream: Streams) -> None:
    name = stream({})
    await ours.publish(name, [str(number) for number in range(20)])
    async with actorstream.connect(ours.broker.uri) as client:
        async with await client.consumer(name, "first", name="reader") as consumer:
            for _ in range(9):
                await anext(consumer)
            assert consumer.completed == 7, "the last one is still in hand"
        async with java.reader(stream=name, offset="first", name="reader") as take:
            assert [message["offset"] for message in await take(3)] == [8, 9, 10]
            assert await take.stored() == 7


async def test_our_named_consumer_goes_on_after_one_of_java(ours: Ours, java: Java, stream: Streams) -> None:
    name = stream({})
    await ours.publish(name, [str(number) for number in range(20)])
    async with actorstream.connect(ours.broker.uri) as client:
        async with java.reader(stream=name, offset="first", name="reader") as take:
            await take(20)
            await take.store(12)  # by hand, of the 20 that it was given
        assert await client.query_offset("reader", name) == 12
        async with await client.consumer(name, "first", name="reader") as consumer:
            assert await consumer.stored_offset() == 12
            assert (await anext(consumer)).offset == 13


async def test_what_java_tracks_by_itself_is_where_we_go_on(ours: Ours, java: Java, stream: Streams) -> None:
    name = stream({})
    await ours.publish(name, [str(number) for number in range(20)])
    async with java.reader(stream=name, offset="first", name="reader", store_every=1) as take:
        await take(20)
    await ours.publish(name, ["news"])
    async with (
        actorstream.connect(ours.broker.uri) as client,
        await client.consumer(name, "first", name="reader") as consumer,
    ):
        assert (await anext(consumer)).body == b"news"
