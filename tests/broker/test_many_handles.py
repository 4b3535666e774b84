"""Many handles in one process: what each of them takes, and that all of them work at once."""

import asyncio
import gc
import tracemalloc

import actorstream
from lab.broker import Broker
from tests.conftest import Streams

HANDLES = 100
SMALL_STREAMS = 300
MOST_BYTES = 8_000
"""Of the 10,000 that a handle may take of a process's memory: the rest is for what the allocator wastes."""


async def test_a_handle_takes_less_than_ten_kilobytes(broker: Broker, stream: Streams) -> None:
    name = stream()
    async with actorstream.connect(broker.uri) as client:
        await client.create_stream(name)
        async with await client.producer(name), await client.consumer(name):
            pass  # what is made once: modules, connections
        tracemalloc.start()
        try:
            producers = await asyncio.gather(*(client.producer(name) for _ in range(HANDLES)))
            consumers = await asyncio.gather(*(client.consumer(name) for _ in range(HANDLES)))
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        await asyncio.gather(*(one.close() for one in producers), *(one.close() for one in consumers))
    assert taken / (2 * HANDLES) < MOST_BYTES


async def test_many_small_streams_are_consumed_at_once_over_the_fewest_connections(
    broker: Broker, stream: Streams
) -> None:
    prefix = stream()
    names = [f"{prefix}-{number}" for number in range(SMALL_STREAMS)]
    async with actorstream.connect(broker.uri) as client:
        for part in range(0, SMALL_STREAMS, 50):
            await asyncio.gather(*(fill(client, name) for name in names[part : part + 50]))
        consumers = await asyncio.gather(*(client.consumer(name, "first", until=2) for name in names))
        roles = [line.details.get("role") for child in (await client.tree()).children for line in child.children]
        found = await asyncio.gather(*(read(consumer) for consumer in consumers))
    assert found == [contents(name) for name in names]
    assert roles.count("consumer") == 2, "256 on one"


async def fill(client: actorstream.Client, name: str) -> None:
    await client.create_stream(name)
    async with await client.producer(name) as producer:
        await producer.send_batch(contents(name))


async def read(consumer: actorstream.Consumer) -> list[bytes]:
    return [message.body async for message in consumer]


def contents(name: str) -> list[bytes]:
    return [f"{name} {number}".encode() for number in range(3)]
