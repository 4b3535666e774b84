"""Sending again without sending twice: `python -m examples.deduplication [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream
from actorstream.errors import PublisherFenced

STREAM = "example-deduplication"


async def import_lines(client: actorstream.Client, lines: list[str]) -> None:
    """Publish lines under their numbers: those that are in the stream are confirmed again, and dropped."""
    async with await client.producer(STREAM, name="importer") as producer:
        print("the broker has everything up to line", await producer.last_publishing_id())
        for number, line in enumerate(lines, start=1):
            await producer.send(line, publishing_id=number)
        await producer.flush()


async def main(uri: str) -> None:
    lines = [f"line {number}" for number in range(1, 101)]
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        await import_lines(client, lines[:60])  # ... and the process is killed here
        await import_lines(client, lines)  # the next one starts over

        async with await client.consumer(STREAM, "first", until="end") as consumer:
            stored = [message.body.decode() async for message in consumer]
        print(f"{len(stored)} lines, each once and in order: {stored == lines}")

        # A name belongs to one producer at a time; that another client has used it is told.
        async with actorstream.connect(uri) as other:
            first = await client.producer(STREAM, name="counter")
            async with await other.producer(STREAM, name="counter") as second:
                await (await second.send_batch(["second"] * 10))
            await first.send_wait("confirmed, but taken for a duplicate")
            try:
                await first.close()
            except PublisherFenced as error:
                print(error)
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
