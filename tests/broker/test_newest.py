"""The newest RabbitMQ that Debian has: all that the client can do works there, too."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import actorstream
from actorstream import Client, Compression, Filter, HashRouting, events
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.pool import PUBLISHING
from actorstream.errors import ClosedByBroker, MessageTooLarge, StreamDoesNotExist
from actorstream.wire import commands as c
from actorstream.wire.constants import DEFAULT_FRAME_MAX, ResponseCode
from actorstream.wire.handshake import sasl_authenticate
from actorstream.wire.publish import data_entry
from lab.broker import Broker
from tests.broker.reading import numbered, numbers, publish, publish_entries, read, take, until, watching
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)


@pytest_asyncio.fixture
async def client(newest: Broker) -> AsyncIterator[Client]:
    async with actorstream.connect(newest.uri, name="newest") as client:
        yield client


def test_it_is_newer_than_the_default(newest: Broker) -> None:
    assert newest.management.version()[:2] >= (4, 3)


async def test_what_is_published_is_consumed(client: Client, newest_stream: Streams) -> None:
    name = newest_stream()
    await client.create_stream(name)
    await publish(client, name, numbered(1000), chunk=100)
    assert numbers(await read(client, name)) == list(range(1000))
    assert numbers(await read(client, name, 250)) == list(range(250, 1000))
    async with await client.producer(name, name="writer") as producer:
        await (await producer.send_batch(numbered(10, start=1000)))
    assert await client.publishing_sequence("writer", name) == 10


async def test_a_frame_that_is_too_large_costs_the_connection(client: Client, newest_stream: Streams) -> None:
    """What the next test relies on; older brokers take it."""
    name = newest_stream({})
    entries = [data_entry(b"x" * 400_000)] * 3

    async with watching(client) as seen:
        publishing = asyncio.create_task(publish_entries(client, name, entries))
        try:
            await until(lambda: [e for e in seen if isinstance(e, events.Disconnected)], "it is closed")
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
    (lost,) = [event.reason for event in seen if isinstance(event, events.Disconnected)]
    assert isinstance(lost, ClosedByBroker)
    assert lost.code == ResponseCode.FRAME_TOO_LARGE


async def test_no_batch_is_a_frame_that_is_too_large(client: Client, newest_stream: Streams) -> None:
    name = newest_stream({})
    largest = b"x" * (DEFAULT_FRAME_MAX - 29)
    bodies = [b"y" * size for size in (400_000, 400_000, 400_000, 1, 300_000)] * 4
    async with watching(client) as seen, await client.producer(name) as producer:
        await (await producer.send_batch([largest, *bodies, largest]))
        for receipt in [await producer.send(body) for body in [*bodies, largest, *bodies]]:
            await receipt
    assert not [event for event in seen if isinstance(event, events.Disconnected)]
    sizes = [len(message.body) for message in await read(client, name)]
    assert sizes == [len(body) for body in [largest, *bodies, largest, *bodies, largest, *bodies]]


async def test_it_goes_on_after_its_stream_has_a_new_leader(
    newest: Broker, client: Client, newest_stream: Streams
) -> None:
    name = newest_stream({})
    async with await client.consumer(name, "first") as consumer, await client.producer(name, name="x") as producer:
        await (await producer.send_batch(numbered(10)))
        newest.kill_stream_leader(name)
        await (await producer.send_batch(numbered(10, start=10)))
        assert numbers(await take(consumer, 20)) == list(range(20))


async def test_a_named_consumer_goes_on_where_the_last_one_stopped(client: Client, newest_stream: Streams) -> None:
    name = newest_stream({})
    await publish(client, name, numbered(20))
    for begin in (0, 5, 10):
        async with await client.consumer(name, "first", name="reader") as consumer:
            # The last of them is in hand when the consumer is closed, and not completed.
            assert numbers(await take(consumer, 6)) == list(range(begin, begin + 6))


async def test_a_log_in_is_repeated_on_an_open_connection(client: Client, newest_stream: Streams) -> None:
    """As the renewal of a token does: the broker takes it, and goes on with what it has."""
    name = newest_stream({})
    async with watching(client) as seen, await client.producer(name) as producer:
        await producer.send_wait(b"before")
        members: m.Members = await call(client._grown.locator, m.WhereIs(name))
        slot: m.Slot = await call(client._grown._pool, m.Lease(members.leader, PUBLISHING))
        response: c.Response = await call(slot.connection, m.Request(sasl_authenticate("PLAIN", "guest", "guest")))
        assert response.code == ResponseCode.OK
        client._grown._pool.tell(m.Release(slot))
        await producer.send_wait(b"after")
    assert not [event for event in seen if isinstance(event, events.Disconnected)]
    assert [message.body for message in await read(client, name)] == [b"before", b"after"]


async def test_a_single_active_consumer_is_followed_by_another(
    newest: Broker, client: Client, newest_stream: Streams
) -> None:
    name = newest_stream({})
    await publish(client, name, numbered(100), chunk=10)
    async with (
        actorstream.connect(newest.uri) as other,
        await client.consumer(name, "first", name="group", single_active=True) as first,
        await other.consumer(name, "first", name="group", single_active=True) as second,
    ):
        assert numbers(await take(first, 34)) == list(range(34))
        assert not second.active
        first.complete()
        await first.close()
        assert numbers(await take(second, 66)) == list(range(34, 100))


async def test_a_super_stream_is_made_published_to_and_deleted(client: Client, newest_stream: Streams) -> None:
    name = newest_stream()
    await client.create_super_stream(name, partitions=3)
    partitions = await client.partitions(name)
    assert partitions == tuple(f"{name}-{index}" for index in range(3))
    routing = HashRouting(lambda body: body)
    keys = [f"customer-{number}" for number in range(100)]
    async with await client.super_stream_producer(name, routing=routing, name="writer") as producer:
        await (await producer.send_batch(keys))
    for partition in partitions:
        expected = [key for key in keys if routing(key, partitions) == partition]
        assert [message.body.decode() for message in await read(client, partition)] == expected
    await client.delete_super_stream(name)
    assert not await client.super_stream_exists(name)


async def test_a_group_shares_a_super_stream(newest: Broker, client: Client, newest_stream: Streams) -> None:
    name = newest_stream()
    await client.create_super_stream(name, partitions=2)
    async with (
        actorstream.connect(newest.uri) as other,
        await client.super_stream_consumer(name, "first", name="group", single_active=True) as first,
        await other.super_stream_consumer(name, "first", name="group", single_active=True) as second,
    ):
        await until(lambda: len(first.active_partitions) == len(second.active_partitions) == 1, "each has one")
        assert set(first.active_partitions + second.active_partitions) == set(first.partitions)
        for partition in first.partitions:
            await publish(client, partition, numbered(10))
        assert numbers(await take(first, 10)) == numbers(await take(second, 10)) == list(range(10))


async def test_the_broker_leaves_out_chunks_without_the_values(client: Client, newest_stream: Streams) -> None:
    name = newest_stream({})
    async with await client.producer(name) as producer:
        for start, value in enumerate(("emea", None, "amer")):
            batch = numbered(10, start=10 * start)
            for receipt in [await producer.send(body, filter_value=value) for body in batch]:
                await receipt
    async with await client.consumer(name, "first", filter=Filter("amer")) as consumer:
        assert numbers(await take(consumer, 10)) == list(range(20, 30))
    async with await client.consumer(name, "first", filter=Filter("amer", match_unfiltered=True)) as consumer:
        assert numbers(await take(consumer, 20)) == list(range(10, 30))


@pytest.mark.parametrize("codec", list(Compression), ids=[codec.name.lower() for codec in Compression])
async def test_sub_entries_are_stored_and_read(codec: Compression, client: Client, newest_stream: Streams) -> None:
    name = newest_stream({})
    async with await client.producer(name) as producer:
        await (await producer.send_sub_entry(numbered(100), compression=codec))
    async with await client.producer(name, sub_entry_size=30, compression=codec) as producer:
        await (await producer.send_batch(numbered(100, start=100)))
    messages = await read(client, name)
    assert numbers(messages) == list(range(200))
    assert [message.offset for message in messages] == list(range(200))


async def test_a_sub_entry_that_is_too_large_is_refused_here_and_not_by_the_broker(
    client: Client, newest_stream: Streams
) -> None:
    """This broker would end the connection for it."""
    name = newest_stream({})
    async with watching(client) as seen, await client.producer(name) as producer:
        with pytest.raises(MessageTooLarge):
            await producer.send_sub_entry([b"x" * 300_000] * 4)
        await (await producer.send_sub_entry([b"x" * 300_000] * 4, compression="lz4"))
    assert not [event for event in seen if isinstance(event, events.Disconnected)]
    assert len(await read(client, name)) == 4


async def test_it_resolves_where_a_consumer_would_begin(client: Client, newest_stream: Streams) -> None:
    name = newest_stream({})
    assert [await client.resolve_offset(name, begin) for begin in ("first", "last", "next", 7)] == [0, 0, 0, 0]
    await publish(client, name, numbered(50), chunk=10)
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    resolved = [await client.resolve_offset(name, begin) for begin in ("first", "last", "next", 15, 500)]
    assert resolved == [0, 40, 50, 10, 50]
    assert [await client.resolve_offset(name, moment) for moment in (now - hour, now + hour)] == [0, 50]
    for begin in ("first", "last", now - hour):
        async with await client.consumer(name, begin) as consumer:
            (message,) = await take(consumer, 1)
        assert message.offset == await client.resolve_offset(name, begin)
    with pytest.raises(StreamDoesNotExist):
        await client.resolve_offset(name + "-none", "first")
