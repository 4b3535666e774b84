"""rstream, as its documentation shows it: AMQP messages, confirms by callback, the decoder for AMQP."""

from __future__ import annotations

import asyncio
from typing import Any

from rstream import AMQPMessage, Consumer, ConsumerOffsetSpecification, OffsetType, Producer, amqp_decoder

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

BATCH = 1_000


class Confirms:
    """Counts confirms, and is told when all are there."""

    def __init__(self, expected: int) -> None:
        self.left = expected
        self.done = asyncio.Event()

    def __call__(self, status: Any) -> None:
        """What rstream calls for each message."""
        assert status.is_confirmed
        self.left -= 1
        if not self.left:
            self.done.set()


async def publish_send(task: Task) -> Outcome:
    """`send`, which leaves at the next tick of half a second."""
    messages = bodies(task.count, task.size)
    confirms = Confirms(task.count)
    async with Producer(task.host, task.port, username="guest", password="guest") as producer:
        await producer.send_wait(task.stream, AMQPMessage(body=b"first"))  # connects, and declares the publisher
        begin = start()
        for message in messages:
            await producer.send(task.stream, AMQPMessage(body=message), on_publish_confirm=confirms)
        await confirms.done.wait()
        return seconds(begin)


async def publish_batch(task: Task) -> Outcome:
    """`send_batch` with a thousand messages."""
    messages = bodies(task.count, task.size)
    confirms = Confirms(task.count)
    async with Producer(task.host, task.port, username="guest", password="guest") as producer:
        await producer.send_wait(task.stream, AMQPMessage(body=b"first"))
        begin = start()
        for first in range(0, task.count, BATCH):
            batch = [AMQPMessage(body=message) for message in messages[first : first + BATCH]]
            await producer.send_batch(task.stream, batch, on_publish_confirm=confirms)
        await confirms.done.wait()
        return seconds(begin)


async def consume(task: Task) -> Outcome:
    """A subscription with a callback."""
    sample: list[bytes] = []
    count = size = 0
    done = asyncio.Event()

    async def take(message: Any, _context: Any) -> None:
        nonlocal count, size
        body = message.body
        if not count & SAMPLE_MASK:
            sample.append(body)
        size += len(body)
        count += 1
        if count == task.count:
            done.set()

    consumer = Consumer(task.host, task.port, username="guest", password="guest")
    await consumer.start()
    begin = start()
    await consumer.subscribe(
        task.stream,
        take,
        decoder=amqp_decoder,
        offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
    )
    await done.wait()
    outcome = seconds(begin)
    await consumer.close()
    check(sample, count, size, task)
    return outcome


async def steady_publish(task: Task) -> Outcome:
    """`send` at a steady rate."""
    message = bodies(1, task.size)[0]
    confirms = Confirms(task.count)
    async with Producer(task.host, task.port, username="guest", password="guest") as producer:
        await producer.send_wait(task.stream, AMQPMessage(body=message))

        async def send(count: int) -> None:
            for _ in range(count):
                await producer.send(task.stream, AMQPMessage(body=message), on_publish_confirm=confirms)

        begin = start()
        await paced(task, send)
        await confirms.done.wait()
        return seconds(begin)


async def latency(task: Task) -> Outcome:
    """From the publisher to the consumer. `send_batch` with what is due, since `send` waits for its tick."""
    samples: list[float] = []
    done = asyncio.Event()

    async def take(message: Any, _context: Any) -> None:
        samples.append(age(message.body))
        if len(samples) == task.count:
            done.set()

    consumer = Consumer(task.host, task.port, username="guest", password="guest")
    await consumer.start()
    first = ConsumerOffsetSpecification(OffsetType.FIRST, None)
    await consumer.subscribe(task.stream, take, decoder=amqp_decoder, offset_specification=first)
    async with Producer(task.host, task.port, username="guest", password="guest") as producer:

        async def send(due: list[bytes]) -> None:
            await producer.send_batch(task.stream, [AMQPMessage(body=one) for one in due])

        await stamped(task, send)
        await done.wait()
    await consumer.close()
    return latencies(samples)


KINDS = {
    "publish_send": publish_send,
    "publish_batch": publish_batch,
    "consume": consume,
    "steady_publish": steady_publish,
    "latency": latency,
}

if __name__ == "__main__":
    perform(KINDS, asyncio.run)
