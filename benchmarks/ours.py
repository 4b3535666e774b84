"""This project's client."""

from __future__ import annotations

import asyncio
import time

import actorstream
from benchmarks.workload import (
    SAMPLE_MASK,
    WINDOW,
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

BATCH = 1_000
SUB_ENTRY = 100


async def _producer(client: actorstream.Client, task: Task) -> actorstream.Producer:
    """With as much ahead of the confirms as the ceiling has: how long a confirm takes must not decide."""
    return await client.producer(task.stream, max_unconfirmed=WINDOW)


async def _connect_to_consume(client: actorstream.Client, task: Task) -> None:
    """Have the connection that consumers share: it is kept for a while when nobody is left on it."""
    async with await client.consumer(task.stream, "next"):
        pass


async def publish_send(task: Task) -> Outcome:
    """`send` for each message, and all of them confirmed."""
    messages = bodies(task.count, task.size)
    async with actorstream.connect(task.uri) as client, await _producer(client, task) as producer:
        begin = start()
        for message in messages:
            await producer.send(message)
        await producer.flush()
        outcome = seconds(begin)
        assert producer.confirmed == task.count
        return outcome


async def publish_batch(task: Task) -> Outcome:
    """`send_batch` with a thousand messages, and all of them confirmed."""
    messages = bodies(task.count, task.size)
    async with actorstream.connect(task.uri) as client, await _producer(client, task) as producer:
        begin = start()
        for first in range(0, task.count, BATCH):
            await producer.send_batch(messages[first : first + BATCH])
        await producer.flush()
        outcome = seconds(begin)
        assert producer.confirmed == task.count
        return outcome


async def publish_sub_entries(task: Task) -> Outcome:
    """`send_sub_entry` with a hundred messages, in lz4."""
    messages = bodies(task.count, task.size)
    async with actorstream.connect(task.uri) as client, await _producer(client, task) as producer:
        begin = start()
        for first in range(0, task.count, SUB_ENTRY):
            await producer.send_sub_entry(messages[first : first + SUB_ENTRY], compression="lz4")
        await producer.flush()
        outcome = seconds(begin)
        assert producer.confirmed == task.count
        return outcome


async def consume_iter(task: Task) -> Outcome:
    """`async for`."""
    sample: list[bytes] = []
    count = size = 0
    async with actorstream.connect(task.uri) as client:
        await _connect_to_consume(client, task)
        begin = start()
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
        await _connect_to_consume(client, task)
        begin = start()
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
        for message in bodies(task.count, task.size):
            begin = time.perf_counter()
            await producer.send_wait(message)
            samples.append(time.perf_counter() - begin)
    return latencies(samples)


async def steady_publish(task: Task) -> Outcome:
    """`send` at a steady rate."""
    message = bodies(1, task.size)[0]
    async with actorstream.connect(task.uri) as client, await client.producer(task.stream) as producer:

        async def send(count: int) -> None:
            for _ in range(count):
                await producer.send(message)

        begin = start()
        await paced(task, send)
        await producer.flush()
        return seconds(begin)


async def latency(task: Task) -> Outcome:
    """From `send` to `async for`."""
    samples: list[float] = []

    async def read() -> None:
        async with await client.consumer(task.stream, "first") as consumer:
            async for message in consumer:
                samples.append(age(message.body))
                if len(samples) == task.count:
                    return

    async with actorstream.connect(task.uri) as client, await client.producer(task.stream) as producer:
        reader = asyncio.create_task(read())

        async def send(due: list[bytes]) -> None:
            for message in due:
                await producer.send(message)

        await stamped(task, send)
        await reader
    return latencies(samples)


KINDS = {
    "publish_send": publish_send,
    "publish_batch": publish_batch,
    "publish_sub_entries": publish_sub_entries,
    "consume_iter": consume_iter,
    "consume_batches": consume_batches,
    "send_wait": send_wait,
    "steady_publish": steady_publish,
    "latency": latency,
}

if __name__ == "__main__":
    perform(KINDS, asyncio.run)
