"""This project's client."""

from __future__ import annotations

import asyncio
import time

import actorstream
from benchmarks.workload import SAMPLE_MASK, Outcome, Task, bodies, check, latencies, perform, seconds

BATCH = 1_000


async def publish_send(task: Task) -> Outcome:
    """`send` for each message, and all of them confirmed."""
    messages = bodies(task.count)
    async with actorstream.connect(task.uri) as client, await client.producer(task.stream) as producer:
        begin = time.perf_counter()
        for message in messages:
            await producer.send(message)
        await producer.flush()
        outcome = seconds(begin)
        assert producer.confirmed == task.count
        return outcome


async def publish_batch(task: Task) -> Outcome:
    """`send_batch` with a thousand messages, and all of them confirmed."""
    messages = bodies(task.count)
    async with actorstream.connect(task.uri) as client, await client.producer(task.stream) as producer:
        begin = time.perf_counter()
        for start in range(0, task.count, BATCH):
            await producer.send_batch(messages[start : start + BATCH])
        await producer.flush()
        outcome = seconds(begin)
        assert producer.confirmed == task.count
        return outcome


async def consume_iter(task: Task) -> Outcome:
    """`async for`."""
    sample: list[bytes] = []
    count = size = 0
    async with actorstream.connect(task.uri) as client:
        begin = time.perf_counter()
        async with await client.consumer(task.stream, "first") as consumer:
            async for message in consumer:
                body = message.body
                if not count & SAMPLE_MASK:
                    sample.append(body)
                size += len(body)
                count += 1
                if count == task.count:
                    break
            outcome = seconds(begin)
    check(sample, count, size, task)
    return outcome


async def consume_batches(task: Task) -> Outcome:
    """`batches`, with every body read."""
    sample: list[bytes] = []
    count = size = 0
    async with actorstream.connect(task.uri) as client:
        begin = time.perf_counter()
        async with await client.consumer(task.stream, "first") as consumer:
            async for batch in consumer.batches():
                for message in batch:
                    body = message.body
                    if not count & SAMPLE_MASK:
                        sample.append(body)
                    size += len(body)
                    count += 1
                if count >= task.count:
                    break
            outcome = seconds(begin)
    check(sample, count, size, task)
    return outcome


async def send_wait(task: Task) -> Outcome:
    """`send_wait`, one message after the other."""
    samples: list[float] = []
    async with actorstream.connect(task.uri) as client, await client.producer(task.stream) as producer:
        for message in bodies(task.count):
            begin = time.perf_counter()
            await producer.send_wait(message)
            samples.append(time.perf_counter() - begin)
    return latencies(samples[len(samples) // 5 :])


KINDS = {
    "publish_send": publish_send,
    "publish_batch": publish_batch,
    "consume_iter": consume_iter,
    "consume_batches": consume_batches,
    "send_wait": send_wait,
}

if __name__ == "__main__":
    perform(KINDS, asyncio.run)
