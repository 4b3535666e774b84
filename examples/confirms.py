"""Four ways to learn that a message is safe: `python -m examples.confirms [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream

STREAM = "example-confirms"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        settled: list[actorstream.Receipt] = []
        async with await client.producer(STREAM, on_confirm=settled.append) as producer:
            # One after the other: simple, and as slow as a round trip each.
            await producer.send_wait(b"waited for")

            # Many under way: send returns a receipt as soon as the message is queued.
            receipts = [await producer.send(f"message {number}") for number in range(1000)]
            for receipt in receipts:
                try:
                    await receipt
                except actorstream.PublishError as error:
                    print("this one is not confirmed:", error)

            # A whole batch with one receipt.
            await (await producer.send_batch([b"x" * 100] * 1000))

            # Or look at nothing until the end: flush waits for every outcome.
            await producer.send(b"the last one")
            await producer.flush()
        print(f"{producer.confirmed} confirmed, {producer.failed} failed, the callback saw {len(settled)}")
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
