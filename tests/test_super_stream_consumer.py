"""Consumers of super streams over a broker whose partitions come and go as no real one's can be made to."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import actorstream
from actorstream import Client, ConnectionOptions, Message, SuperStreamConsumer, errors
from actorstream.backoff import BackoffPolicy
from tests.peer import FakeCluster, until

QUICK = BackoffPolicy(base_s=0.001, cap_s=0.01)
PARTITIONS = ["s-0", "s-1", "s-2"]


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.create_super_stream("s", 3)
    for partition in PARTITIONS:
        cluster.publish(partition, [b"%d" % number for number in range(5)])
    return cluster


@asynccontextmanager
async def connected(cluster: FakeCluster) -> AsyncIterator[Client]:
    settings = ConnectionOptions(backoff=QUICK, rpc_timeout_s=5.0)
    async with actorstream.connect(cluster.uris, options=settings, opener=cluster.open) as client:
        yield client


async def take(consumer: SuperStreamConsumer, count: int) -> Counter[str]:
    async with asyncio.timeout(5):
        return Counter([(await anext(consumer)).stream for _ in range(count)])


async def test_f44_a_partition_without_a_leader_holds_up_neither_the_start_nor_the_others(cluster: FakeCluster) -> None:
    cluster.move_leader("s-1", None)
    async with (
        connected(cluster) as client,
        await client.super_stream_consumer("s", "first", start_timeout_s=0.2) as consumer,
    ):
        assert await take(consumer, 10) == {"s-0": 5, "s-2": 5}
        cluster.move_leader("s-1", 0)
        assert await take(consumer, 5) == {"s-1": 5}
        assert consumer.partitions == ("s-0", "s-1", "s-2")


async def test_f44_a_start_without_any_partition_ends_in_time_and_leaves_nothing_behind(cluster: FakeCluster) -> None:
    for partition in PARTITIONS:
        cluster.move_leader(partition, None)
    async with connected(cluster) as client:
        with pytest.raises(errors.RequestTimeout, match="the start of a consumer of super stream 's'"):
            await client.super_stream_consumer("s", "first", start_timeout_s=0.2)
        children = {child.name: child.children for child in (await client.tree()).children}
        assert not children["subscribers"]
        assert not children["super_streams"]


async def test_f44_a_lost_connection_of_one_partition_repeats_and_skips_nothing_in_any(cluster: FakeCluster) -> None:
    async with connected(cluster) as client, await client.super_stream_consumer("s", "first") as consumer:
        await take(consumer, 4)
        cluster.move_leader("s-0", 0)
        for partition in PARTITIONS:
            cluster.publish(partition, [b"%d" % number for number in range(5, 10)])
        await take(consumer, 26)
        assert consumer.positions == dict.fromkeys(PARTITIONS, 10)
        assert consumer.received == 30


async def test_f45_a_partition_that_is_waited_for_is_read_once_though_another_one_is_added(
    cluster: FakeCluster,
) -> None:
    cluster.move_leader("s-1", None)
    async with (
        connected(cluster) as client,
        await client.super_stream_consumer("s", "first", start_timeout_s=0.2, refresh_s=0.05) as consumer,
    ):
        assert await take(consumer, 10) == {"s-0": 5, "s-2": 5}
        cluster.create("s-3")
        cluster.publish("s-3", [b"0"])
        cluster.super_streams["s"] = (*cluster.super_streams["s"], ("3", "s-3"))
        assert await take(consumer, 1) == {"s-3": 1}
        cluster.move_leader("s-1", 0)
        cluster.publish("s-1", [b"5"])
        assert await take(consumer, 6) == {"s-1": 6}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(consumer)


async def test_f45_a_partition_that_is_made_anew_before_anybody_looked_is_read(cluster: FakeCluster) -> None:
    async with connected(cluster) as client, await client.super_stream_consumer("s", "first") as consumer:
        await take(consumer, 15)
        part = consumer.partition("s-1")
        cluster.delete("s-1")
        await until(lambda: part._closed is not None)
        cluster.create("s-1")
        cluster.publish("s-1", [b"0", b"1"])
        assert await take(consumer, 2) == {"s-1": 2}


async def test_f57_what_was_taken_of_a_partition_that_was_read_to_its_end_comes_again(cluster: FakeCluster) -> None:
    others_done = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.stream == "s-1" and message.offset == 4:
            await others_done.wait()
            raise ValueError
        if (message.stream, message.offset) == ("s-2", 4):
            others_done.set()

    async with (
        connected(cluster) as client,
        await client.super_stream_consumer("s", "first", until="end") as consumer,
    ):
        with pytest.raises(errors.HandlerFailed):
            await consumer.run(handle, workers=20)
        assert consumer.completed["s-1"] == 3
        assert await take(consumer, 1) == {"s-1": 1}
        with pytest.raises(StopAsyncIteration):
            await anext(consumer)
