"""How much a consumer takes, how far behind it is, and two of them: `python -m examples.flow_control [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream

STREAM = "example-flow-control"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            for start in range(0, 1000, 100):  # ten chunks, since each batch is confirmed before the next one
                await (await producer.send_batch([str(number) for number in range(start, start + 100)]))

        # With a credit of 2 the broker sends two chunks ahead, and one more whenever one is done.
        async with await client.consumer(STREAM, "first", credit=2) as slow, await client.consumer(STREAM, 990) as fast:
            async for message in slow:
                if message.offset == 499:
                    break
            behind = slow.committed_chunk_id - slow.position
            print("the slow one is at", slow.position, "and behind:", behind > 0)

            # Consumers of one stream know nothing of each other.
            print("the fast one got", [int((await anext(fast)).body) for _ in range(3)])

            # Paused, it grants no credit: what was granted still comes, and no more.
            slow.pause()
            slow.resume()
            async for batch in slow.batches(max_size=50):
                if batch[-1].offset == 999:
                    break
            print("the slow one has read", slow.received, "messages")
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
