"""A process that reads a stream under a name and writes down what it has done, until it is killed.

`python -m tests.broker.tracked_reader URI STREAM NAME EVERY FILE`: `done OFFSET` for each message that is processed,
before it counts as completed; `stored OFFSET` for each offset that it knows to be stored.
"""

from __future__ import annotations

import asyncio
import os
import sys

import actorstream
from actorstream import AutoTracking, Client, events

WORK_S = 0.001


async def watch(client: Client, out: int) -> None:
    async for event in client.events():
        if isinstance(event, events.OffsetStored):
            os.write(out, b"stored %d\n" % event.offset)


async def main(uri: str, stream: str, name: str, every: int, path: str) -> None:
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    policy = AutoTracking(every=every, interval_s=0.2)
    async with actorstream.connect(uri) as client:
        watching = asyncio.create_task(watch(client, out))
        async with await client.consumer(stream, "first", name=name, tracking=policy) as consumer:
            async for message in consumer:
                await asyncio.sleep(WORK_S)
                os.write(out, b"done %d\n" % message.offset)
        await watching


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
