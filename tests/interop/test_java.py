"""The Java client of the RabbitMQ team, which knows all that the streams protocol can."""

from typing import Any

import pytest

import actorstream
from actorstream import Filter
from actorstream.compression import Compression
from actorstream.wire.amqp import Int, Properties, Symbol
from actorstream.wire.message import Message
from tests.broker.reading import take
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
    async with actorstream.connect(ours.broker.uri) as client, await client.producer(name) as producer:
        await producer.send_wait("before")
        await (await producer.send_sub_entry(BATCH[:120], compression=codec))
        await (await producer.send_sub_entry(BATCH[120:], compression=codec))
        await producer.send_wait("after")
    await _read_by_java(java, name)


@CODECS
async def test_messages_that_we_group_into_sub_entries_are_read_by_java(
    codec: Compression, ours: Ours, java: Java, stream: Streams
) -> None:
    name = stream({})
    async with actorstream.connect(ours.broker.uri) as client:
        await ours.publish(name, ["before"])
        async with await client.producer(name, sub_entry_size=50, compression=codec) as producer:
            for receipt in [await producer.send(message) for message in BATCH]:
                await receipt
        await ours.publish(name, ["after"])
    await _read_by_java(java, name)


async def _read_by_java(java: Java, name: str) -> None:
    read = await java.read(name, len(BATCH) + 2)
    assert [message["offset"] for message in read] == list(range(len(BATCH) + 2))
    assert [loosen(without(PLACE, message)) for message in read[1:-1]] == [loosen(one) for one in in_json(BATCH)]
    assert [message["offset"] for message in await java.read(name, 20, offset=130)] == list(range(130, 150))


# Filters ----------------------------------------------------------------------------------------------------------

PER_CHUNK = 50
VALUES_IN_CHUNKS: list[str | None] = ["emea", None, "amer", "", "é/ü", "emea"]
"""Chunk by chunk, what its messages are filtered by."""


async def _publish_chunks(ours: Ours, name: str) -> None:
    async with actorstream.connect(ours.broker.uri) as client, await client.producer(name) as producer:
        for number, value in enumerate(VALUES_IN_CHUNKS):
            bodies = [f"{number}-{index}" for index in range(PER_CHUNK)]
            for receipt in [await producer.send(one, filter_value=value) for one in bodies]:
                await receipt


FILTERS: dict[str, tuple[list[str], bool, list[int]]] = {
    "one value": (["emea"], False, [0, 5]),
    "two values": (["emea", "amer"], False, [0, 2, 5]),
    "unfiltered too": (["amer"], True, [1, 2]),
    "nothing else": (["apac", "amer"], False, [2]),
}
"""What is asked for, and the chunks that the broker sends."""


@pytest.mark.parametrize("case", FILTERS)
async def test_filter_values_that_we_write_are_filtered_by_java(
    case: str, ours: Ours, java: Java, stream: Streams
) -> None:
    values, match_unfiltered, chunks = FILTERS[case]
    name = stream({})
    await _publish_chunks(ours, name)
    read = await java.read(name, PER_CHUNK * len(chunks), filter=values, match_unfiltered=match_unfiltered)
    assert [message["offset"] // PER_CHUNK for message in read[::PER_CHUNK]] == chunks


@pytest.mark.parametrize("case", FILTERS)
async def test_filter_values_that_java_writes_are_filtered_by_us(
    case: str, ours: Ours, java: Java, stream: Streams
) -> None:
    values, match_unfiltered, chunks = FILTERS[case]
    name = stream({})
    for number, value in enumerate(VALUES_IN_CHUNKS):
        messages = in_json([Message(f"{number}-{index}") for index in range(PER_CHUNK)])
        # Of a value beyond ASCII it writes the length in characters, which no broker understands.
        value_in_ascii = None if value is None else ascii(value)[1:-1]
        await java.publish(name, messages, filters=[value_in_ascii] * PER_CHUNK)
    wanted = Filter(values, match_unfiltered=match_unfiltered)
    async with (
        actorstream.connect(ours.broker.uri) as client,
        await client.consumer(name, "first", filter=wanted) as consumer,
    ):
        read = await take(consumer, PER_CHUNK * len(chunks))
    assert [message.offset // PER_CHUNK for message in read[::PER_CHUNK]] == chunks


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
            assert await producer.last_publishing_id() == highest + 2
            await producer.send_wait("6")
    assert [message.body for message in await ours.read(name, 6)] == [b"%d" % number for number in range(1, 7)]


async def test_a_sub_entry_of_the_other_client_is_a_duplicate_as_a_whole(
    ours: Ours, java: Java, stream: Streams
) -> None:
    name = stream({})
    async with actorstream.connect(ours.broker.uri) as client:
        async with await client.producer(name, name="lots") as producer:
            await (await producer.send_sub_entry([b"1", b"2", b"3"], compression="gzip", publishing_id=10))
        batch = in_json([Message("again"), Message("again")])
        await java.publish(name, batch, name="lots", ids=[9, 10], sub_entry_size=2, compression="lz4")
        await java.publish(name, in_json([Message("4"), Message("5")]), name="lots", ids=[11, 12], sub_entry_size=2)
        assert await client.publishing_sequence("lots", name) == 12
        async with await client.producer(name, name="lots") as producer:
            await (await producer.send_sub_entry([b"again"], publishing_id=12))
            await (await producer.send_sub_entry([b"6"], publishing_id=13))
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
