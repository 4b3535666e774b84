"""Filters on a real broker: chunks that it leaves out, and messages that the predicate drops."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from actorstream import Client, Filter, Message, errors
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, take, take_all, until, watching
from tests.conftest import Streams

REGIONS = ("emea", "amer", "apac")


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker, name="filtering") as client:
        yield client


async def publish_in(client: Client, stream: str, region: str | None, bodies: Sequence[bytes]) -> None:
    """Publish messages that have a region as a property and as their filter value; confirmed, so that a chunk ends."""
    async with await client.producer(stream) as producer:
        properties = {} if region is None else {"region": region}
        messages = [Message(body, application_properties=properties) for body in bodies]
        for receipt in [await producer.send(message, filter_value=region) for message in messages]:
            await receipt


def is_in(*regions: str | None) -> Filter:
    values = [region for region in regions if region is not None]

    def predicate(message: Message) -> bool:
        return message.application_properties.get("region") in regions

    return Filter(values, match_unfiltered=None in regions, predicate=predicate)


async def in_turn(client: Client, stream: str, rounds: int, size: int = 5) -> None:
    """Chunks of the regions, and of no region, in turn; each number is its offset."""
    start = (await read_numbers(client, stream))[-1:]
    number = start[0] + 1 if start else 0
    for _ in range(rounds):
        for region in (*REGIONS, None):
            await publish_in(client, stream, region, numbered(size, number))
            number += size


async def read_numbers(client: Client, stream: str) -> list[int]:
    async with await client.consumer(stream, "first", until="end") as consumer:
        return numbers(await take_all(consumer))


def of(position: int, rounds: int, size: int = 5, start: int = 0) -> list[int]:
    """The numbers of one region's chunks."""
    every = size * (len(REGIONS) + 1)
    return [start + turn * every + position * size + index for turn in range(rounds) for index in range(size)]


async def test_the_broker_leaves_out_chunks_without_the_values(client: Client, stream: Streams) -> None:
    name = stream({})
    await in_turn(client, name, 4)
    async with await client.consumer(name, "first", filter=Filter("amer")) as consumer:
        assert numbers(await take(consumer, 20)) == of(1, 4)
        assert consumer._state.chunks <= 4 * 5
        assert consumer.position == 70
        assert consumer.completed == 68


async def test_any_of_several_values_and_messages_without_one(client: Client, stream: Streams) -> None:
    name = stream({})
    await in_turn(client, name, 3)
    for wanted, positions in ((("emea", "apac"), (0, 2)), (("amer", None), (1, 3)), ((*REGIONS, None), range(4))):
        async with await client.consumer(name, "first", filter=is_in(*wanted)) as consumer:
            expected = sorted(number for position in positions for number in of(position, 3))
            assert numbers(await take(consumer, len(expected))) == expected


async def test_of_a_chunk_of_many_values_the_predicate_picks_those_that_are_wanted(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    async with await client.producer(name) as producer:
        receipts = []
        for number in range(300):
            region = REGIONS[number % 3]
            message = Message(b"%d" % number, application_properties={"region": region})
            receipts.append(await producer.send(message, filter_value=region))
        for receipt in receipts:
            await receipt
    async with await client.consumer(name, "first", filter=is_in("apac")) as consumer:
        assert numbers(await take(consumer, 100)) == list(range(2, 300, 3))
        assert consumer.position == 300
    async with await client.consumer(name, "first", filter=Filter(["apac"])) as consumer:
        seen = numbers(await take(consumer, 300))
        assert seen == list(range(300)), "without a predicate, whole chunks come"


async def test_a_predicate_alone_works_with_an_end(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(100), chunk=10)

    def is_even(message: Message) -> bool:
        return int(message.body) % 2 == 0

    async with await client.consumer(name, "first", until="end", filter=Filter(predicate=is_even)) as consumer:
        assert numbers(await take_all(consumer)) == list(range(0, 100, 2))
        assert (consumer.position, consumer.completed) == (100, 99)
    with pytest.raises(errors.InvalidArgument, match="predicate"):
        await client.consumer(name, "first", until="end", filter=Filter("emea"))


async def test_f59_chunks_of_which_nothing_is_wanted_give_their_credit_back_and_are_completed(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(60), chunk=1)

    def is_late(message: Message) -> bool:
        return int(message.body) >= 58

    late = Filter(predicate=is_late)
    async with await client.consumer(name, "first", name="app", credit=2, filter=late) as consumer:
        assert numbers(await take(consumer, 2)) == [58, 59]
        await publish(client, name, numbered(58), chunk=1)
        waiting = asyncio.create_task(anext(consumer))
        await until(lambda: consumer.position == 118, "all is read")
        await publish(client, name, [b"99"])
        assert (await waiting).offset == 118
    assert await client.query_offset("app", name) == 117
    async with await client.consumer(name, "first", name="app", filter=late) as consumer:
        assert (await take(consumer, 1))[0].offset == 118


async def test_f59_f47_after_a_new_subscription_it_goes_on_exactly(
    broker: Broker, client: Client, stream: Streams
) -> None:
    name = stream({})
    await in_turn(client, name, 3)
    async with await client.consumer(name, "first", filter=is_in("amer")) as consumer, watching(client) as seen:
        got = numbers(await take(consumer, 7))
        broker.management.close_connections("filtering-consumer")
        await until(lambda: [event for event in seen if event.title == "disconnected"], "the connection is gone")
        await in_turn(client, name, 1)
        got += numbers(await take(consumer, 13))
        assert got == of(1, 4)
        assert not [event for event in seen if event.level == "ERROR"]


async def test_next_after_an_outage_is_what_was_published_since_the_start(
    broker: Broker, client: Client, stream: Streams
) -> None:
    name = stream({})
    await in_turn(client, name, 1)
    async with await client.consumer(name, "next", filter=is_in("apac")) as consumer, watching(client) as seen:
        broker.management.close_connections("filtering-consumer")
        await until(lambda: [event for event in seen if event.title == "disconnected"], "the connection is gone")
        await in_turn(client, name, 1)
        assert numbers(await take(consumer, 5)) == of(2, 1, start=20)


async def test_by_name_a_filtered_consumer_goes_on_too(client: Client, stream: Streams) -> None:
    name = stream({})
    await in_turn(client, name, 2)
    got = []
    for count in (3, 4, 3):
        async with await client.consumer(name, "first", name="app", filter=is_in("emea")) as consumer:
            messages = await take(consumer, count)
            await consumer.store_offset(messages[-1].offset)
            got += numbers(messages)
    assert got == of(0, 2)


async def test_handlers_batches_and_seeking(client: Client, stream: Streams) -> None:
    name = stream({})
    await in_turn(client, name, 3)
    async with await client.consumer(name, "first", filter=is_in("amer")) as consumer:
        seen: list[int] = []

        async def handle(message: Message) -> None:
            seen.append(int(message.body))
            if len(seen) == 15:
                await consumer.seek(26)
            if len(seen) == 19:
                raise ZeroDivisionError

        with pytest.raises(errors.HandlerFailed):
            await consumer.run(handle, workers=1)
        assert seen == [*of(1, 3), *range(26, 30)]
        batches = consumer.batches(3)
        assert numbers(await anext(batches)) == [29]
        assert numbers(await anext(batches)) == [45, 46, 47]


async def test_several_workers_complete_what_the_predicate_leaves(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(200), chunk=20)

    def is_wanted(message: Message) -> bool:
        return int(message.body) % 50 < 3

    only = Filter(predicate=is_wanted)
    seen: list[int] = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(0)
        seen.append(message.offset)

    async with await client.consumer(name, "first", until="end", name="app", filter=only) as consumer:
        await consumer.run(handle, workers=4)
        assert sorted(seen) == [0, 1, 2, 50, 51, 52, 100, 101, 102, 150, 151, 152]
        assert consumer.position == 200
    assert await client.query_offset("app", name) == 199
