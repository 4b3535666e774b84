"""RabbitMQ 3.10, the oldest that Debian has: what it can do works, and what it cannot do is said at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

import actorstream
from actorstream import Client, Compression, Filter, HashRouting, KeyRouting, StreamArguments
from actorstream.errors import UnsupportedByBroker
from lab.broker import Broker
from tests.broker.reading import numbered, numbers, publish, take, until, watching
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)

AT_ONCE_S = 5.0
"""Long for a busy machine; an answer that never comes would take `rpc_timeout_s`, which is more."""


@pytest_asyncio.fixture
async def client(oldest: Broker) -> AsyncIterator[Client]:
    async with actorstream.connect(oldest.uri, name="oldest") as client:
        yield client


def test_it_is_the_oldest(oldest: Broker) -> None:
    assert oldest.management.version()[:2] == (3, 10)


# What works


async def test_streams_are_made_described_and_deleted(client: Client, oldest_stream: Streams) -> None:
    name = oldest_stream()
    await client.create_stream(name, StreamArguments(max_age=3600))
    assert await client.stream_exists(name)
    assert (await client.stream_metadata(name)).leader is not None
    assert oldest_stream.management.stream(name)["arguments"]["x-max-age"] == "3600s"
    await client.delete_stream(name)
    assert not await client.stream_exists(name)


async def test_what_is_published_is_consumed(client: Client, oldest_stream: Streams) -> None:
    name = oldest_stream({})
    await publish(client, name, numbered(1000), chunk=100)
    for begin in ("first", 0, 250):
        async with await client.consumer(name, begin, until=999) as consumer:
            start = begin if isinstance(begin, int) else 0
            assert numbers([message async for message in consumer]) == list(range(start, 1000))


async def test_it_goes_on_after_its_connections_were_cut(
    oldest: Broker, client: Client, oldest_stream: Streams
) -> None:
    name = oldest_stream({})
    async with (
        await client.consumer(name, "first") as consumer,
        await client.producer(name, name="numbers") as producer,
        watching(client) as seen,
    ):
        await (await producer.send_batch(numbered(100)))
        assert numbers(await take(consumer, 50)) == list(range(50))
        for role in ("publisher", "consumer"):
            await asyncio.to_thread(oldest.management.close_connections, f"oldest-{role}")
        receipt = await producer.send_batch(numbered(100, start=100))
        assert numbers(await take(consumer, 150)) == list(range(50, 200))
        await receipt
        assert [event for event in seen if isinstance(event, actorstream.events.Disconnected)]


async def test_it_goes_on_after_its_stream_has_a_new_leader(
    oldest: Broker, client: Client, oldest_stream: Streams
) -> None:
    name = oldest_stream({})
    async with await client.consumer(name, "first") as consumer, await client.producer(name, name="x") as producer:
        await (await producer.send_batch(numbered(10)))
        await asyncio.to_thread(oldest.kill_stream_leader, name)
        await (await producer.send_batch(numbered(10, start=10)))
        assert numbers(await take(consumer, 20)) == list(range(20))


async def test_offsets_and_sequences_are_kept(client: Client, oldest_stream: Streams) -> None:
    name = oldest_stream({})
    assert await client.query_offset("reader", name) is None
    async with await client.producer(name, name="writer") as producer:
        await (await producer.send_batch(numbered(10)))
    await client.store_offset("reader", name, 7)

    async def stored() -> bool:
        return await client.query_offset("reader", name) == 7

    await until(stored, "the offset is stored")
    assert await client.publishing_sequence("writer", name) == 10


def _make_super_stream(oldest_stream: Streams) -> str:
    name, management = oldest_stream(), oldest_stream.management
    management.call("PUT", "exchanges", "/", name, body={"type": "direct", "arguments": {"x-super-stream": True}})
    for order, key in enumerate(("emea", "apac", "amer")):
        management.create_stream(f"{name}-{key}")
        management.add_partition(name, f"{name}-{key}", key, order)
    return name


async def test_a_super_stream_that_an_operator_made_is_published_to_and_read(
    client: Client, oldest_stream: Streams
) -> None:
    """It cannot be made by us; to route needs nothing that this broker lacks."""
    name = _make_super_stream(oldest_stream)
    assert await client.partitions(name) == (f"{name}-emea", f"{name}-apac", f"{name}-amer")
    assert await client.route("apac", name) == (f"{name}-apac",)
    by_hash, partitions = HashRouting(lambda body: body), await client.partitions(name)
    expected: dict[str, list[str]] = {partition: [partition.removeprefix(f"{name}-")] for partition in partitions}
    for routing in (KeyRouting(lambda body: body), by_hash):
        async with await client.super_stream_producer(name, routing=routing) as producer:
            await (await producer.send_batch(["emea", "apac", "amer"]))
    for key in ("emea", "apac", "amer"):
        expected[by_hash(key, partitions)].append(key)
    for partition, keys in expected.items():
        async with await client.consumer(partition, "first") as consumer:
            assert [message.body.decode() for message in await take(consumer, len(keys))] == keys
    async with await client.super_stream_consumer(name, "first", name="reader") as everything:
        read = [(message.stream, message.body.decode()) for message in await take(everything, 6)]
    assert sorted(read) == sorted((partition, key) for partition, keys in expected.items() for key in keys)


@pytest.mark.parametrize("codec", list(Compression), ids=[codec.name.lower() for codec in Compression])
async def test_sub_entries_are_stored_and_read(codec: Compression, client: Client, oldest_stream: Streams) -> None:
    name = oldest_stream({})
    async with await client.producer(name) as producer:
        await (await producer.send_sub_entry(numbered(100), compression=codec))
    async with await client.consumer(name, "first") as consumer:
        assert numbers(await take(consumer, 100)) == list(range(100))


async def test_a_named_consumer_goes_on_where_the_last_one_stopped(client: Client, oldest_stream: Streams) -> None:
    name = oldest_stream({})
    await publish(client, name, numbered(20))
    for begin in (0, 5, 10):
        async with await client.consumer(name, "first", name="reader") as consumer:
            # The last of them is in hand when the consumer is closed, and not completed.
            assert numbers(await take(consumer, 6)) == list(range(begin, begin + 6))


# What it lacks


async def _until_the_end(client: Client, stream: str) -> None:
    async with await client.consumer(stream, "first", until="end"):
        pass


async def _with_filter_value(client: Client, stream: str) -> None:
    async with await client.producer(stream) as producer:
        await producer.send(b"x", filter_value="emea")


async def _with_filter_values(client: Client, stream: str) -> None:
    async with await client.producer(stream, filter_value=lambda _: "emea"):
        pass


LACKING: dict[str, tuple[Callable[[Client, str], Awaitable[Any]], str, str]] = {
    "stream_statistics": (lambda client, stream: client.stream_statistics(stream), "stream statistics", "3.11"),
    "until_end": (_until_the_end, "stream statistics", "3.11"),
    "create_super_stream": (
        lambda client, stream: client.create_super_stream(f"{stream}-super"),
        "making and deleting super streams",
        "3.13",
    ),
    "delete_super_stream": (
        lambda client, stream: client.delete_super_stream(f"{stream}-super"),
        "making and deleting super streams",
        "3.13",
    ),
    "resolve_offset": (
        lambda client, stream: client.resolve_offset(stream, "first"),
        "resolving an offset specification",
        "4.3",
    ),
    "single_active": (
        lambda client, stream: client.consumer(stream, "first", name="group", single_active=True),
        "single active consumer",
        "3.11",
    ),
    "filter": (lambda client, stream: client.consumer(stream, "first", filter=Filter("emea")), "filtering", "3.13"),
    "send_filter_value": (_with_filter_value, "filtering", "3.13"),
    "producer_filter_value": (_with_filter_values, "filtering", "3.13"),
}
"""What is tried, what the error calls it, and from which version on brokers have it."""


@pytest.mark.parametrize("case", LACKING)
async def test_what_it_lacks_is_an_error_at_once_and_costs_nothing(
    case: str, client: Client, oldest_stream: Streams
) -> None:
    attempt, feature, version = LACKING[case]
    name = oldest_stream({})
    await publish(client, name, numbered(3))
    async with watching(client) as seen:
        with pytest.raises(UnsupportedByBroker) as caught:
            async with asyncio.timeout(AT_ONCE_S):
                await attempt(client, name)
        assert (caught.value.feature, caught.value.needed, caught.value.broker) == (feature, version, "3.10.8")
        async with await client.consumer(name, "first") as consumer:
            assert numbers(await take(consumer, 3)) == [0, 1, 2]
    assert not [event for event in seen if isinstance(event, actorstream.events.Disconnected)]


async def test_a_group_over_a_super_stream_is_an_error_at_once(client: Client, oldest_stream: Streams) -> None:
    name = _make_super_stream(oldest_stream)
    with pytest.raises(UnsupportedByBroker, match=r"single active consumer needs RabbitMQ 3\.11"):
        async with asyncio.timeout(AT_ONCE_S):
            await client.super_stream_consumer(name, "first", name="group", single_active=True)
