"""Super streams on a real broker: made, described and deleted; what is published to them is read back and compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import actorstream
from actorstream import Client, StreamArguments
from actorstream.errors import InvalidArgument, PreconditionFailed, StreamAlreadyExists, StreamDoesNotExist
from lab.broker import Broker
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with actorstream.connect(broker.uri) as client:
        yield client


# Administration


async def test_a_super_stream_has_numbered_partitions_in_order(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=12)
    assert await client.partitions(name) == tuple(f"{name}-{index}" for index in range(12))
    assert await client.route("10", name) == (f"{name}-10",)
    assert await client.route("12", name) == ()
    assert await client.super_stream_exists(name)

    await client.delete_super_stream(name)
    assert not await client.super_stream_exists(name)
    assert not await client.stream_exists(f"{name}-0")


async def test_a_super_stream_has_three_partitions_if_nothing_is_said(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name)
    assert len(await client.partitions(name)) == 3


async def test_binding_keys_name_the_partitions_and_route_to_them(client: Client, stream: Streams) -> None:
    name, keys = stream(), ["emea", "apac", "amer", "é/ü"]
    await client.create_super_stream(name, binding_keys=keys)
    assert await client.partitions(name) == tuple(f"{name}-{key}" for key in keys)
    for key in keys:
        assert await client.route(key, name) == (f"{name}-{key}",)
    assert await client.route("", name) == ()


async def test_the_arguments_are_those_of_each_partition(broker: Broker, client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(
        name, partitions=2, arguments=StreamArguments(max_age=3600, max_length="1GB", leader_locator="balanced")
    )
    for partition in await client.partitions(name):
        arguments = (await asyncio.to_thread(broker.management.stream, partition))["arguments"]
        assert arguments["x-max-age"] == "3600s"
        assert arguments["x-max-length-bytes"] == 1_000_000_000


async def test_a_super_stream_that_exists_is_an_error_or_fine(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    with pytest.raises(StreamAlreadyExists):
        await client.create_super_stream(name, partitions=2)
    await client.create_super_stream(name, partitions=2, exist_ok=True)
    with pytest.raises(PreconditionFailed, match=f"and has {name}-0, {name}-1"):
        await client.create_super_stream(name, partitions=3, exist_ok=True)
    with pytest.raises(PreconditionFailed):
        await client.create_super_stream(name, binding_keys=["1", "0"], exist_ok=True)  # hashes would go elsewhere


async def test_a_partition_whose_name_is_taken_leaves_nothing_behind(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_stream(f"{name}-1")
    with pytest.raises(StreamAlreadyExists):
        await client.create_super_stream(name, partitions=3)
    with pytest.raises(PreconditionFailed, match="taken by something else"):
        await client.create_super_stream(name, partitions=3, exist_ok=True)
    assert not await client.super_stream_exists(name)
    assert not await client.stream_exists(f"{name}-0")


async def test_what_is_no_super_stream_is_told_from_one_that_is(client: Client, stream: Streams) -> None:
    nowhere = stream()
    with pytest.raises(StreamDoesNotExist, match=nowhere):
        await client.partitions(nowhere)
    with pytest.raises(StreamDoesNotExist):
        await client.route("key", nowhere)
    with pytest.raises(StreamDoesNotExist):
        await client.delete_super_stream(nowhere)
    await client.delete_super_stream(nowhere, missing_ok=True)
    assert not await client.super_stream_exists(nowhere)
    assert not await client.super_stream_exists("amq.direct")
    assert await client.partitions("amq.direct") == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partitions": 0}, "partitions is an integer from 1 to 1000"),
        ({"partitions": 1001}, "partitions is an integer from 1 to 1000"),
        ({"partitions": "3"}, "partitions is an integer"),
        ({"partitions": 2, "binding_keys": ["a", "b"]}, "not both"),
        ({"binding_keys": []}, "number of binding_keys"),
        ({"binding_keys": "emea"}, "a sequence of strings"),
        ({"binding_keys": ["a", "a"]}, "one key twice"),
        ({"binding_keys": ["a", ""]}, "a binding key is a non-empty string"),
        ({"binding_keys": ["x" * 255]}, "a partition's name has 260 bytes"),
        ({"binding_keys": [1]}, "a binding key is a non-empty string"),
    ],
)
async def test_a_super_stream_that_cannot_be_is_refused_at_once(
    client: Client, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await client.create_super_stream("none", **options)


async def test_names_of_super_streams_and_keys_are_checked(client: Client) -> None:
    for ask in (client.create_super_stream, client.delete_super_stream, client.partitions, client.super_stream_exists):
        with pytest.raises(InvalidArgument, match="a super stream's name"):
            await ask("")
    with pytest.raises(InvalidArgument, match="a routing key is a string"):
        await client.route(1, "any")  # type: ignore[arg-type]


def test_the_same_without_asyncio(broker: Broker, stream: Streams) -> None:
    name = stream()
    with actorstream.blocking.connect(broker.uri) as client:
        client.create_super_stream(name, binding_keys=["a", "b"])
        assert client.partitions(name) == (f"{name}-a", f"{name}-b")
        assert client.route("b", name) == (f"{name}-b",)
        assert client.super_stream_exists(name)
        client.delete_super_stream(name)
        assert not client.super_stream_exists(name)
