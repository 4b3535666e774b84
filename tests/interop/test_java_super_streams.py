"""Super streams shared with the Java client: who makes them, where a key goes, and who reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import actorstream
from actorstream import Client
from actorstream.routing import HashRouting
from lab.broker import Broker
from tests.broker.reading import read
from tests.conftest import Streams
from tests.interop.conftest import Java
from tests.interop.peers.plain import Plain, dump_message

KEYS = [
    *(f"customer-{number}" for number in range(200)),
    *(f"{start}{number}" for start in ("é", "клиент-", "顧客", "👋🏽", "\x00", "%2F+ ") for number in range(40)),
    *("", " ", "x", "y" * 1000, "ü" * 1000, "a", "ab", "abc", "abcd", "abcde"),
]
"""Of every length that the hash treats in a way of its own, and beyond ASCII: it is one of UTF-8."""

BINDING_KEYS = ["emea", "apac", "amer", "*.#"]
"""ASCII: of names and keys, the Java client writes the length in characters where that in bytes is due."""


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with actorstream.connect(broker.uri) as client:
        yield client


def in_json(keys: list[str]) -> list[Plain]:
    """Messages whose bodies are their keys."""
    return [dump_message({"body": key.encode()}) for key in keys]


async def placed(client: Client, super_stream: str) -> dict[str, str]:
    """In which partition each body is; none is in two."""
    found: dict[str, str] = {}
    for partition in await client.partitions(super_stream):
        for message in await read(client, partition):
            assert found.setdefault(message.body.decode(), partition) == partition
    return found


async def test_a_super_stream_that_java_makes_is_the_same_to_us(client: Client, java: Java, stream: Streams) -> None:
    numbered, bound = stream(), stream()
    await java.call("create_super_stream", super_stream=numbered, partitions=11)
    assert await client.partitions(numbered) == tuple(f"{numbered}-{index}" for index in range(11))
    await java.call("create_super_stream", super_stream=bound, binding_keys=BINDING_KEYS)
    assert await client.partitions(bound) == tuple(f"{bound}-{key}" for key in BINDING_KEYS)
    for key in BINDING_KEYS:
        assert await client.route(key, bound) == (f"{bound}-{key}",)
    await client.delete_super_stream(bound)
    await java.call("delete_super_stream", super_stream=numbered)
    assert not await client.super_stream_exists(numbered)


@pytest.mark.parametrize("partitions", [3, 11])
async def test_java_sends_each_key_where_our_hash_does(
    partitions: int, client: Client, java: Java, stream: Streams
) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=partitions)
    await java.call("publish", super_stream=name, routing="hash", messages=in_json(KEYS), keys=KEYS)
    rule, order = HashRouting(lambda key: key), await client.partitions(name)
    expected = {key: rule(key, order) for key in KEYS}
    assert await placed(client, name) == expected
    assert set(expected.values()) == set(order)


async def test_java_sends_each_key_where_the_broker_routes_it(client: Client, java: Java, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, binding_keys=BINDING_KEYS)
    await java.call("publish", super_stream=name, routing="key", messages=in_json(BINDING_KEYS), keys=BINDING_KEYS)
    assert await placed(client, name) == {key: f"{name}-{key}" for key in BINDING_KEYS}
