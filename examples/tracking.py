"""A consumer with a name goes on where the last one of that name stopped: `python -m examples.tracking [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream
from actorstream import AutoTracking, Client

STREAM = "example-tracking"


async def read_on(client: Client, count: int) -> None:
    """One run of a program: it reads a few messages more, and ends. The name is all that it has to know."""
    async with await client.consumer(STREAM, "first", name="billing") as consumer:
        messages = [await anext(consumer) for _ in range(count)]
        # The last one would count as completed when the next is asked for. It is done, and that is said here.
        await consumer.store_offset(messages[-1].offset)
    print(f"{count} messages, from {messages[0].offset} to {messages[-1].offset}")


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await (await producer.send_batch([f"invoice {number}" for number in range(100)]))

        for count in (10, 35, 5):
            await read_on(client, count)

        # While a consumer goes on, what is completed is stored after so many messages, and after so many seconds.
        often = AutoTracking(every=10, interval_s=1.0)
        async with await client.consumer(STREAM, "first", name="audit", tracking=often, until="end") as consumer:
            async for _message in consumer:
                pass
        print("audit: stored", await client.query_offset("audit", STREAM))

        # By hand: nothing is stored unless it is said.
        async with await client.consumer(STREAM, "first", name="manual", tracking=None, until="end") as consumer:
            async for message in consumer:
                if message.offset in (19, 39, 59):
                    await consumer.store_offset(message.offset)
        print("manual: stored", await client.query_offset("manual", STREAM))
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
