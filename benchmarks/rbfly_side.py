"""rbfly, as its documentation advises for speed: `PublisherBatchFast`, and a subscription that decodes AMQP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rbfly.streams import Offset, PublisherBatchFast, streams_client

from benchmarks.workload import SAMPLE_MASK, Outcome, Task, bodies, check, perform, seconds

BATCH = 5_000


def _client(task: Task) -> Any:
    return streams_client(f"rabbitmq-stream://guest:guest@{task.host}:{task.port}/")


async def publish(task: Task) -> Outcome:
    """`batch` for each message, and `flush`, which waits for the confirms, after a few thousand."""
    messages = bodies(task.count)
    client = _client(task)
    async with client.publisher(task.stream, cls=PublisherBatchFast) as publisher:
        begin = time.perf_counter()
        for start in range(0, task.count, BATCH):
            for message in messages[start : start + BATCH]:
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
    begin = time.perf_counter()
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


if __name__ == "__main__":
    perform({"publish": publish, "consume": consume}, asyncio.run)
