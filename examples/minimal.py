"""Publish three messages and read them back: `python -m examples.minimal [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream

STREAM = "example-minimal"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            for word in ("streams", "are", "logs"):
                await producer.send_wait(word)
        async with await client.consumer(STREAM, "first", until="end") as consumer:
            async for message in consumer:
                print(message.offset, message.body.decode())
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
