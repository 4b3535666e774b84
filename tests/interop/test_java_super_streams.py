"""Super streams shared with the Java client: who makes them, where a key goes, and who reads it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import actorstream
from actorstream import Client, Compression, HashRouting, KeyRouting
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

BY_HASH = HashRouting(lambda body: body)

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
    order = await client.partitions(name)
    expected = {key: BY_HASH(key, order) for key in KEYS}
    assert await placed(client, name) == expected
    assert set(expected.values()) == set(order)


async def test_java_sends_each_key_where_the_broker_routes_it(client: Client, java: Java, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, binding_keys=BINDING_KEYS)
    await java.call("publish", super_stream=name, routing="key", messages=in_json(BINDING_KEYS), keys=BINDING_KEYS)
    assert await placed(client, name) == {key: f"{name}-{key}" for key in BINDING_KEYS}


async def test_we_send_each_key_where_java_does(client: Client, java: Java, stream: Streams) -> None:
    ours, theirs = stream(), stream()
    for name in (ours, theirs):
        await client.create_super_stream(name, partitions=5)
    await java.call("publish", super_stream=theirs, routing="hash", messages=in_json(KEYS), keys=KEYS)
    async with await client.super_stream_producer(ours, routing=BY_HASH) as producer:
        await (await producer.send_batch(KEYS[:200]))
        for receipt in [await producer.send(key) for key in KEYS[200:]]:
            await receipt
    expected = {key: partition.removeprefix(theirs) for key, partition in (await placed(client, theirs)).items()}
    assert {key: partition.removeprefix(ours) for key, partition in (await placed(client, ours)).items()} == expected
    assert len(expected) == len(KEYS)


async def test_java_reads_what_we_spread_over_a_super_stream(client: Client, java: Java, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, binding_keys=BINDING_KEYS)
    routing = KeyRouting(lambda body: body.split(":")[0])
    bodies = [f"{key}:{number}" for number in range(20) for key in BINDING_KEYS]
    async with await client.super_stream_producer(
        name, routing=routing, sub_entry_size=10, compression=Compression.LZ4
    ) as producer:
        await (await producer.send_batch(bodies[:40]))
        await (await producer.send_sub_entry(bodies[40:], compression="zstd"))
    async with java.reader(super_stream=name, offset="first") as take:
        read = await take(len(bodies))
    by_partition: dict[str, list[str]] = {}
    for message in read:
        by_partition.setdefault(message["stream"], []).append(base64.b64decode(message["body"]["v"]).decode())
    assert by_partition == {f"{name}-{key}": [f"{key}:{number}" for number in range(20)] for key in BINDING_KEYS}


async def test_a_producers_name_is_continued_over_all_partitions(client: Client, java: Java, stream: Streams) -> None:
    """Both give ids that rise over all partitions; what the other one has stored is dropped where it was stored."""
    name = stream()
    await client.create_super_stream(name, partitions=3)
    keys = KEYS[:150]
    async with await client.super_stream_producer(name, routing=BY_HASH, name="orders") as producer:
        for number, key in enumerate(keys[:50], 1):
            await producer.send(key, publishing_id=number)
    ids = list(range(1, 101))
    again = in_json(keys[:100])
    await java.call(
        "publish", super_stream=name, routing="hash", name="orders", messages=again, keys=keys[:100], ids=ids
    )
    async with await client.super_stream_producer(name, routing=BY_HASH, name="orders") as producer:
        reached = await producer.last_publishing_ids()
        assert max(reached.values()) == 100
        assert await producer.last_publishing_id() == min(reached.values())
        for number in range(await producer.last_publishing_id() + 1, 151):
            await producer.send(keys[number - 1], publishing_id=number)
    assert sorted(await everything(client, name)) == sorted(keys)


async def everything(client: Client, super_stream: str) -> list[str]:
    return [
        message.body.decode()
        for partition in await client.partitions(super_stream)
        for message in await read(client, partition)
    ]
