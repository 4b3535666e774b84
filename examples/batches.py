"""Messages in lists, which is faster than one by one: `python -m examples.batches [URI]`."""

from __future__ import annotations

import asyncio
import sys
import time

import actorstream

STREAM = "example-batches"
COUNT = 50_000


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await (await producer.send_batch([b"x" * 100] * COUNT))
        begin, count, size = time.perf_counter(), 0, 0
        async with await client.consumer(STREAM, "first", until="end") as consumer:
            async for batch in consumer.batches():
                count += len(batch)
                size += sum(len(message.body) for message in batch)
        seconds = time.perf_counter() - begin
        print(f"{count} messages, {size} bytes in {seconds:.2f} s")
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
