"""Where a consumer begins, and how to go on where one stopped: `python -m examples.offsets [URI]`."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys

import actorstream

STREAM = "example-offsets"
REFERENCE = "example-offsets-reader"


async def read(client: actorstream.Client, begin: actorstream.OffsetLike, title: str) -> None:
    async with await client.consumer(STREAM, begin, until="end") as consumer:
        offsets = [message.offset async for message in consumer]
    print(f"{title:28} {len(offsets):4} messages{f', from {offsets[0]} to {offsets[-1]}' if offsets else ''}")


def an_hour_ago() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await (await producer.send_batch([f"message {number}" for number in range(100)]))

        await read(client, "first", "from the first")
        await read(client, 40, "from offset 40")
        await read(client, an_hour_ago(), "from an hour ago")
        await read(client, "last", "from the last chunk")

        # "next" begins with what is published after the consumer attached.
        async with await client.consumer(STREAM, "next") as consumer, await client.producer(STREAM) as producer:
            await producer.send_wait(b"news")
            message = await anext(consumer)
            print(f"{'next':28} got {message.body.decode()!r} at {message.offset}")

        # Back and ahead, while it reads.
        async with await client.consumer(STREAM, "first", until=99) as consumer:
            await anext(consumer)
            await consumer.seek(70)
            message = await anext(consumer)
            await consumer.seek(5)
            print(f"{'sought':28} {message.offset}, then {(await anext(consumer)).offset}; lag {consumer.lag}")

        # Keep an offset on the broker under a name, and go on after it another time; see tracking.py for the easy way.
        await client.store_offset(REFERENCE, STREAM, 49)
        stored = await client.query_offset(REFERENCE, STREAM)
        await read(client, "first" if stored is None else stored + 1, f"after the stored offset {stored}")

        # Where a specification leads to: newer brokers say it without reading.
        try:
            print(f"{'an hour ago is':28} {await client.resolve_offset(STREAM, an_hour_ago())}")
        except actorstream.errors.UnsupportedByBroker as error:
            print(error)
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
