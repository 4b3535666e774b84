"""All partitions of a super stream, read as one: `python -m examples.super_stream_consumer [URI]`."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

import actorstream

SUPER_STREAM = "example-super-stream-consumer"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_super_stream(SUPER_STREAM, partitions=3, exist_ok=True)
        for partition in await client.partitions(SUPER_STREAM):
            async with await client.producer(partition) as producer:
                await (await producer.send_batch([f"message {number}" for number in range(100)]))

        # Partitions take turns; the order within each is kept, and `message.stream` says which one it is.
        offsets: dict[str, list[int]] = defaultdict(list)
        async with await client.super_stream_consumer(SUPER_STREAM, "first", name="reader", until="end") as consumer:
            async for message in consumer:
                offsets[message.stream].append(message.offset)
        for partition, seen in sorted(offsets.items()):
            print(f"{partition}: {len(seen)} messages, in order: {seen == sorted(seen)}")

        # Each partition has its offset under the name: whoever comes under it goes on after that.
        async with await client.super_stream_consumer(SUPER_STREAM, "first", name="reader", refresh_s=0.5) as consumer:
            print(f"stored: {sorted(set((await consumer.stored_offsets()).values()), key=str)}")
            async with await client.producer(f"{SUPER_STREAM}-1") as producer:
                await producer.send_wait(b"news")
            message = await anext(consumer)
            print(f"then {message.body.decode()!r} at {message.offset} of {message.stream}")

        await client.delete_super_stream(SUPER_STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
