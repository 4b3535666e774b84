"""rbfly, as its documentation advises for speed: `PublisherBatchFast`, and a subscription that decodes AMQP."""

from __future__ import annotations

import asyncio
from typing import Any

from rbfly.streams import Offset, PublisherBatchFast, streams_client

from benchmarks.workload import (
    SAMPLE_MASK,
    Outcome,
    Task,
    age,
    bodies,
    check,
    latencies,
    paced,
    perform,
    seconds,
    stamped,
    start,
)

BATCH = 5_000


def _client(task: Task) -> Any:
    return streams_client(f"rabbitmq-stream://guest:guest@{task.host}:{task.port}/")


async def publish(task: Task) -> Outcome:
    """`batch` for each message, and `flush`, which waits for the confirms, after a few thousand."""
    messages = bodies(task.count, task.size)
    client = _client(task)
    async with client.publisher(task.stream, cls=PublisherBatchFast) as publisher:
        begin = start()
        for first in range(0, task.count, BATCH):
            for message in messages[first : first + BATCH]:
                publisher.batch(message)
            await publisher.flush()
        outcome = seconds(begin)
    await client.disconnect()
    return outcome


async def consume(task: Task) -> Outcome:
    """`async for`, which gives bodies."""
    sample: list[bytes] = []
    count = size = 0
    client = _client(task)
    await client.get_protocol()
    begin = start()
    async for body in client.subscribe(task.stream, offset=Offset.FIRST):
        if not count & SAMPLE_MASK:
            sample.append(body)
        size += len(body)
        count += 1
        if count == task.count:
            break
    outcome = seconds(begin)
    await client.disconnect()
    check(sample, count, size, task)
    return outcome


async def steady_publish(task: Task) -> Outcome:
    """`batch` at a steady rate, and `flush` for what was due."""
    message = bodies(1, task.size)[0]
    client = _client(task)
    async with client.publisher(task.stream, cls=PublisherBatchFast) as publisher:

        async def send(count: int) -> None:
            for _ in range(count):
                publisher.batch(message)
            await publisher.flush()

        begin = start()
        await paced(task, send)
        outcome = seconds(begin)
    await client.disconnect()
    return outcome


async def latency(task: Task) -> Outcome:
    """From the publisher to the consumer, which are two clients: one would wait for the other's lock."""
    samples: list[float] = []
    reading, writing = _client(task), _client(task)

    async def read() -> None:
        async for message in reading.subscribe(task.stream, offset=Offset.FIRST):
            samples.append(age(message))
            if len(samples) == task.count:
                return

    reader = asyncio.create_task(read())
    async with writing.publisher(task.stream, cls=PublisherBatchFast) as publisher:

        async def send(due: list[bytes]) -> None:
            for message in due:
                publisher.batch(message)
            await publisher.flush()

        await stamped(task, send)
        await reader
    await writing.disconnect()
    await reading.disconnect()
    return latencies(samples)


KINDS = {"publish": publish, "consume": consume, "steady_publish": steady_publish, "latency": latency}

if __name__ == "__main__":
    perform(KINDS, asyncio.run)
