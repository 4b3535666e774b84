"""Thousands of handles in one process: what each of them takes."""

import asyncio
import gc
import tracemalloc

import actorstream
from lab.broker import Broker
from tests.conftest import Streams

HANDLES = 100
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
