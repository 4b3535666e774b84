"""Two consumers share a super stream, and hand partitions over to each other: `python -m examples.single_active [URI]`.

Here they are in one process. Run as many as you like, wherever you like: the broker gives each partition to one of
those that have the same name.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import actorstream
from actorstream import Activation, Client, Message, SuperStreamConsumer

SUPER_STREAM = "example-single-active"
PARTITIONS = 4
MESSAGES = 100


def begins(activation: Activation) -> None:
    """Called when a partition is given to a consumer; it might return where to begin."""
    print(f"event: {activation.stream} is read from {activation.offset}, since {activation.stored} is stored")


async def join(client: Client) -> SuperStreamConsumer:
    return await client.super_stream_consumer(
        SUPER_STREAM, "first", name="workers", single_active=True, on_activation=begins
    )


async def publish(client: Client) -> None:
    for partition in await client.partitions(SUPER_STREAM):
        async with await client.producer(partition) as producer:
            await (await producer.send_batch([b"work"] * MESSAGES))


async def main(uri: str) -> None:
    handled: Counter[tuple[str, int]] = Counter()
    by_worker: Counter[str] = Counter()

    async def work(consumer: SuperStreamConsumer, worker: str) -> None:
        async def handle(message: Message) -> None:
            await asyncio.sleep(0.001)
            handled[message.stream, message.offset] += 1
            by_worker[worker] += 1

        await consumer.run(handle)

    async with actorstream.connect(uri) as client, asyncio.TaskGroup() as tasks:
        await client.create_super_stream(SUPER_STREAM, partitions=PARTITIONS, exist_ok=True)
        await publish(client)
        first = await join(client)
        tasks.create_task(work(first, "first"))
        while len(first.active_partitions) < PARTITIONS:
            await asyncio.sleep(0.01)
        print(f"alone, the first one has {len(first.active_partitions)} partitions")

        second = await join(client)
        tasks.create_task(work(second, "second"))
        while not len(first.active_partitions) == len(second.active_partitions) == PARTITIONS // 2:
            await asyncio.sleep(0.01)
        print("two have two each")
        await publish(client)

        # Whoever leaves finishes what it has in hand and stores how far it came; the other one goes on after that.
        await first.close()
        while sum(handled.values()) < 2 * PARTITIONS * MESSAGES:
            await asyncio.sleep(0.01)
        await second.close()
        print(f"{len(handled)} messages were handled, by {len(by_worker)} workers, {max(handled.values())} time each")
        await client.delete_super_stream(SUPER_STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
