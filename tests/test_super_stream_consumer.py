"""Consumers of super streams over a broker whose partitions come and go as no real one's can be made to."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import actorstream
from actorstream import Client, ConnectionOptions, SuperStreamConsumer, errors
from actorstream.backoff import BackoffPolicy
from tests.peer import FakeCluster

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
