"""Named consumers on a real broker: resumed by name alone, after exactly what was completed."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

import actorstream
from actorstream import AutoTracking, Client, Message, errors
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, take, until
from tests.conftest import Streams


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker) as client:
        yield client


async def test_a_consumer_goes_on_by_its_name_alone_after_what_it_completed(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(100), chunk=30)
    seen: list[int] = []
    for count in (1, 30, 45, 24):
        async with await client.consumer(name, "first", name="app") as consumer:
            assert consumer.name == "app"
            seen += numbers(await take(consumer, count))
            await consumer.store_offset(seen[-1])
    assert seen == list(range(100))
    assert await client.query_offset("app", name) == 99


async def test_the_message_in_hand_is_not_completed_and_comes_again(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20))
    async with await client.consumer(name, "first", name="app") as consumer:
        assert numbers(await take(consumer, 8)) == list(range(8))
    assert await client.query_offset("app", name) == 6
    async with await client.consumer(name, "first", name="app") as consumer:
        assert numbers(await take(consumer, 2)) == [7, 8]


async def test_a_stored_offset_of_0_is_an_offset(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(3))
    await client.store_offset("app", name, 0)
    async with await client.consumer(name, "first", name="app") as consumer:
        assert await consumer.stored_offset() == 0
        assert numbers(await take(consumer, 2)) == [1, 2]


async def test_without_a_stored_offset_it_begins_where_it_was_told_to(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    async with await client.consumer(name, 4, name="app") as consumer:
        assert await consumer.stored_offset() is None
        assert numbers(await take(consumer, 1)) == [4]
    async with await client.consumer(name, "next", name="other") as consumer:
        await publish(client, name, numbered(1, 10))
        assert numbers(await take(consumer, 1)) == [10]


async def test_a_read_to_the_end_stores_all_of_it_and_the_next_one_is_empty(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(50), chunk=20)
    for expected in (list(range(50)), []):
        async with await client.consumer(name, "first", name="app", until="end") as consumer:
            assert numbers([message async for message in consumer]) == expected
        assert await client.query_offset("app", name) == 49


async def test_it_is_stored_while_the_consumer_goes_on_by_count(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(100))
    policy = AutoTracking(every=10, interval_s=None)
    async with await client.consumer(name, "first", name="app", tracking=policy) as consumer:
        for end in (11, 21, 31):
            await take(consumer, end - consumer.received)
            await until(partial(_holds, client, name, end - 2), f"the offset {end - 2} is stored")


async def test_it_is_stored_while_the_consumer_goes_on_by_time(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(100))
    policy = AutoTracking(every=None, interval_s=0.05)
    async with await client.consumer(name, "first", name="app", tracking=policy) as consumer:
        for end in (11, 21, 31):
            await take(consumer, end - consumer.received)
            await until(partial(_holds, client, name, end - 2), f"the offset {end - 2} is stored")


async def _holds(client: Client, stream: str, value: int) -> bool:
    return await client.query_offset("app", stream) == value


async def test_by_hand_only_what_is_handed_over_is_stored(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20))
    async with await client.consumer(name, "first", name="app", tracking=None) as consumer:
        await take(consumer, 6)
        await consumer.store_offset()
        await until(lambda: _holds(client, name, 4), "the last completed offset is stored")
        await take(consumer, 10)
    assert await client.query_offset("app", name) == 4


async def test_a_handler_may_store_the_message_in_hand(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20))
    async with await client.consumer(name, "first", name="app", tracking=None, until=9) as consumer:

        async def handle(message: Message) -> None:
            if message.offset % 4 == 0:
                await consumer.store_offset(message.offset)

        await consumer.run(handle)
    assert await client.query_offset("app", name) == 8


async def test_what_was_not_dispatched_yet_cannot_be_stored(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20))
    async with await client.consumer(name, "first", name="app") as consumer:
        await take(consumer, 5)
        for wrong in (5, 10**6, -1, True):
            with pytest.raises(errors.InvalidArgument):
                await consumer.store_offset(wrong)


async def test_f52_what_is_stored_is_never_taken_back(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20))
    async with await client.consumer(name, "first", name="app", tracking=None) as consumer:
        await take(consumer, 12)
        for value in (3, 10, 5):
            await consumer.store_offset(value)
    assert await client.query_offset("app", name) == 10


async def test_f42_a_stream_that_is_made_anew_is_not_given_the_offset_of_the_one_before(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(20))
    async with await client.consumer(name, "first", name="app") as consumer:
        await take(consumer, 6)
        await client.delete_stream(name)
        with pytest.raises(errors.StreamDoesNotExist):
            await take(consumer, 100)
        await client.create_stream(name)
        await publish(client, name, numbered(100))
    assert await client.query_offset("app", name) is None
    async with await client.consumer(name, "first", name="app") as consumer:
        assert numbers(await take(consumer, 3)) == [0, 1, 2]


async def test_two_open_consumers_of_one_name_are_refused_and_one_that_closes_is_waited_for(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(100))
    seen: list[int] = []
    async with await client.consumer(name, "first", name="app") as consumer:
        with pytest.raises(errors.InvalidArgument, match="'app'"):
            await client.consumer(name, "first", name="app")
        async with await client.consumer(name, "first", name="other") as other:
            assert numbers(await take(other, 3)) == [0, 1, 2]
        for _ in range(10):
            seen += numbers(await take(consumer, 10))[:9]  # the last one is not completed
            closing = asyncio.create_task(consumer.close())
            await asyncio.sleep(0)
            consumer = await client.consumer(name, "first", name="app")  # noqa: PLW2901
            await closing
        await consumer.close()
    assert seen == list(range(90))


async def test_an_unnamed_consumer_has_nowhere_to_store_and_says_so(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(3))
    async with await client.consumer(name, "first") as consumer:
        await take(consumer, 2)
        with pytest.raises(errors.InvalidArgument, match="name="):
            await consumer.store_offset()
        with pytest.raises(errors.InvalidArgument, match="name="):
            await consumer.stored_offset()


async def test_after_close_nothing_can_be_stored(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(5))
    consumer = await client.consumer(name, "first", name="app")
    await take(consumer, 4)
    await consumer.close()
    with pytest.raises(errors.Closed):
        await consumer.store_offset(3)
    assert await client.query_offset("app", name) == 2


async def test_closing_the_client_stores_too(broker: Broker, stream: Streams) -> None:
    name = stream({})
    for own_thread in (False, True):
        async with connected(broker, own_thread=own_thread) as client:
            await publish(client, name, numbered(50))
            consumer = await client.consumer(name, "first", name="app")
            await take(consumer, 40)
            expected = consumer.completed
        async with connected(broker) as client:
            assert await client.query_offset("app", name) == expected


def test_the_blocking_handles_go_on_by_name_too(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with actorstream.blocking.connect(broker.uri) as client:
        with client.producer(name) as producer:
            producer.send_batch(numbered(30))
            producer.flush()
        seen = []
        for _ in range(3):
            with client.consumer(name, "first", name="app") as consumer:
                for message in consumer:
                    seen.append(int(message.body))
                    if len(seen) % 10 == 0:
                        consumer.store_offset(message.offset)
                        break
                assert consumer.stored_offset() == seen[-1]
        assert seen == list(range(30))
