"""Many messages in one entry, compressed: `python -m examples.sub_entries [URI]`."""

from __future__ import annotations

import asyncio
import json
import sys

import actorstream

STREAM = "example-sub-entries"


def readings(count: int) -> list[str]:
    return [json.dumps({"sensor": f"hall-{number % 4}", "celsius": 20 + number % 3}) for number in range(count)]


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)

        # Grouped as they are sent: each message keeps its own receipt, up to 100 share an entry.
        async with await client.producer(STREAM, sub_entry_size=100, compression="lz4") as producer:
            batch = await producer.send_batch(readings(1000))
            await batch
            ids = {receipt.publishing_id for receipt in batch.receipts}
            print(f"{len(batch)} messages in {len(ids)} entries")

        # Or grouped by hand: one entry, one receipt, stored together or not at all.
        async with await client.producer(STREAM) as producer:
            for codec in actorstream.Compression:
                receipt = await producer.send_sub_entry(readings(100), compression=codec)
                await receipt
                print(f"{codec.name.lower()}: {receipt.messages} messages, one entry")

        # Whoever reads sees messages, each with its offset.
        async with await client.consumer(STREAM, "first", until="end") as consumer:
            messages = [message async for message in consumer]
        print(f"{len(messages)} read, the last one at offset {messages[-1].offset}: {messages[-1].body.decode()}")
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
