"""Seeking on a real broker, and where a specification leads."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from actorstream import Client, Message, blocking, errors, offset
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, take, take_all, until
from tests.conftest import Streams


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker) as client:
        yield client


@pytest.mark.parametrize("own_thread", [False, True])
async def test_a_consumer_goes_on_from_where_it_is_sent(broker: Broker, stream: Streams, own_thread: bool) -> None:
    name = stream({})
    async with connected(broker, own_thread=own_thread) as client:
        await publish(client, name, numbered(100), chunk=10)
        async with await client.consumer(name, "first") as consumer:
            assert numbers(await take(consumer, 13)) == list(range(13))
            for place in (5, 77, 0, 50, 99, 1):
                await consumer.seek(place)
                assert consumer.position == place
                count = min(12, 100 - place)
                assert numbers(await take(consumer, count)) == list(range(place, place + count))
            await consumer.seek("first")
            assert numbers(await take(consumer, 100)) == list(range(100))
            await consumer.seek("last")
            assert numbers(await take(consumer, 10)) == list(range(90, 100))
            await consumer.seek(dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
            assert numbers(await take(consumer, 100)) == list(range(100))


async def test_next_is_what_is_published_after_it_was_sought(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    async with await client.consumer(name, "first") as consumer:
        await take(consumer, 3)
        before = consumer._state.attachment
        await consumer.seek(offset.next())
        await until(lambda: consumer._state.attachment > before, "the new subscription")
        await publish(client, name, numbered(10, 10))
        assert numbers(await take(consumer, 10)) == list(range(10, 20))


async def test_batches_and_handlers_go_on_in_the_new_place(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(40), chunk=10)
    async with await client.consumer(name, "first", until=39) as consumer:
        seen: list[list[int]] = []
        async for batch in consumer.batches(4):
            seen.append(numbers(batch))
            if len(seen) == 2:
                await consumer.seek(35)
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [35, 36, 37, 38], [39]]
        handled: list[int] = []

        async def handle(message: Message) -> None:
            handled.append(message.offset)
            if message.offset == 12 and len(handled) < 20:
                await consumer.seek(2)

        await consumer.seek(10)
        async with asyncio.timeout(10):
            await consumer.run(handle)
        assert handled == [10, 11, 12, *range(2, 13), *range(2, 40)]


async def test_what_is_stored_follows_also_back(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(60), chunk=10)
    async with await client.consumer(name, "first", name="app") as consumer:
        await take(consumer, 50)
        await consumer.store_offset()
        await consumer.seek(8)
        await take(consumer, 5)
    assert await client.query_offset("app", name) == 11


def test_the_blocking_handle_seeks_too(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with blocking.connect(broker.uri) as client, client.producer(name) as producer:
        producer.send_batch(numbered(20))
        producer.flush()
        with client.consumer(name, "first", until=19) as consumer:
            seen = []
            for message in consumer:
                seen.append(message.offset)
                if len(seen) == 5:
                    consumer.seek(17)
            assert seen == [0, 1, 2, 3, 4, 17, 18, 19]


async def test_a_bounded_read_is_read_again_after_its_end(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    async with await client.consumer(name, "first", until="end") as consumer:
        assert numbers(await take_all(consumer)) == list(range(30))
        await publish(client, name, numbered(10, 30))
        await consumer.seek(25)
        assert numbers(await take_all(consumer)) == list(range(25, 30))


async def test_an_older_broker_says_that_it_cannot_resolve(client: Client, broker: Broker, stream: Streams) -> None:
    if broker.management.version()[:2] >= (4, 3):
        pytest.skip("this broker resolves; see test_newest.py")
    name = stream({})
    with pytest.raises(errors.UnsupportedByBroker, match=r"needs RabbitMQ 4\.3"):
        await client.resolve_offset(name, "first")
    with pytest.raises(errors.InvalidArgument):
        await client.resolve_offset(name, "middle")
