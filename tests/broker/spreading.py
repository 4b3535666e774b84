"""A process that spreads numbered messages over a super stream, to be killed; it goes on where the last one got to.

It says "running" once it knows where that is.
"""

import asyncio
import sys

import actorstream
from actorstream import HashRouting


def key_of(body: str) -> str:
    """A few keys, so that the partitions get uneven shares."""
    return f"key-{int(body) % 11}"


async def main(uri: str, super_stream: str, count: str) -> None:
    async with (
        actorstream.connect(uri) as client,
        await client.super_stream_producer(super_stream, routing=HashRouting(key_of), name="spreading") as producer,
    ):
        after = await producer.last_publishing_id()
        sys.stdout.write("running\n")
        sys.stdout.flush()
        for number in range(after + 1, int(count) + 1):
            await producer.send(str(number), publishing_id=number)
            if number % 50 == 0:
                await asyncio.sleep(0.002)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
