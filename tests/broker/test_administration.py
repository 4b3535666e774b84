"""Streams made, described and deleted on a real broker, with its own account of them compared."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import actorstream
from actorstream import Client, LeaderLocator, StreamArguments, StreamMetadata
from actorstream.errors import PreconditionFailed, StreamAlreadyExists, StreamDoesNotExist
from actorstream.options import Endpoint
from lab.broker import Broker
from tests.broker.reading import numbered, publish, read
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with actorstream.connect(broker.uri) as client:
        yield client


async def test_every_argument_of_a_stream_reaches_the_broker(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_stream(
        name,
        StreamArguments(
            max_length="2GiB",
            max_age=dt.timedelta(hours=6),
            max_segment_size="100MB",
            leader_locator=LeaderLocator.BALANCED,
            initial_cluster_size=1,
            filter_size=64,
        ),
    )
    assert stream.management.stream(name)["arguments"] == {
        "x-queue-type": "stream",
        "x-max-length-bytes": 2 * 2**30,
        "x-max-age": "21600s",
        "x-stream-max-segment-size-bytes": 100_000_000,
        "x-queue-leader-locator": "balanced",
        "x-initial-cluster-size": 1,
        "x-stream-filter-size-bytes": 64,
    }


async def test_a_stream_that_exists_is_fine_if_that_is_said_and_it_is_the_same(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_stream(name, StreamArguments(max_age=3600))
    await client.create_stream(name, StreamArguments(max_age=3600), exist_ok=True)
    with pytest.raises(StreamAlreadyExists):
        await client.create_stream(name, StreamArguments(max_age=3600))
    with pytest.raises(PreconditionFailed):
        await client.create_stream(name, StreamArguments(max_age=7200), exist_ok=True)


async def test_a_stream_that_is_deleted_is_gone_with_its_messages(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_stream(name)
    await publish(client, name, numbered(10))
    assert await client.stream_exists(name)
    await client.delete_stream(name)
    assert not await client.stream_exists(name)
    with pytest.raises(StreamDoesNotExist):
        await client.delete_stream(name)
    await client.delete_stream(name, missing_ok=True)
    await client.create_stream(name)
    assert await read(client, name) == []


async def test_metadata_tells_where_a_stream_lives(broker: Broker, client: Client, stream: Streams) -> None:
    name = stream({})
    assert await client.stream_metadata(name) == StreamMetadata(name, Endpoint("localhost", broker.port), ())
    with pytest.raises(StreamDoesNotExist):
        await client.stream_metadata(f"{name}-other")


async def test_statistics_tell_the_first_and_the_last_chunk(client: Client, stream: Streams) -> None:
    name = stream({})
    empty = await client.stream_statistics(name)
    assert (empty.first_chunk_id, empty.committed_chunk_id) == (-1, -1)
    await publish(client, name, numbered(30), chunk=10)
    filled = await client.stream_statistics(name)
    assert filled.first_chunk_id == 0
    # The broker may put its own chunks in between; the last one of ours begins with the 21st message.
    assert filled.committed_chunk_id >= (await read(client, name))[20].offset


async def test_several_consumers_of_one_stream_each_read_all_of_it(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(100))
    async with (
        await client.consumer(name, "first", until=99) as first,
        await client.consumer(name, 50, until=99) as second,
        await client.consumer(name, "first", until=99) as third,
    ):
        for message in range(50):
            assert (await anext(first)).offset == message
        assert [message.offset async for message in second] == list(range(50, 100))
        assert [message.offset async for message in first] == list(range(50, 100))
        assert [message.offset async for message in third] == list(range(100))
