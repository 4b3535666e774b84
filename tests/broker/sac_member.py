"""A member of a group that reads a super stream, in a process of its own: what it does, it writes down with the time.

    python -m tests.broker.sac_member URI SUPER_STREAM LOG

One JSON list a line: ["begin", seconds, partition, offset], ["end", …], ["active", seconds, partitions]. The clock is
the machine's, the same for all processes. A line on stdin has it close and end; a signal has it end as it is.
"""

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TextIO

import actorstream
from actorstream import AutoTracking, Message, SuperStreamConsumer

GROUP = "members"
EVERY = 20
HANDLING_S = 0.002


def note(log: TextIO, what: str, *more: object) -> None:
    log.write(json.dumps([what, time.monotonic(), *more]) + "\n")
    log.flush()  # to the kernel: a killed process has said all that it did


async def watch(consumer: SuperStreamConsumer, log: TextIO) -> None:
    before: tuple[str, ...] | None = None
    while True:
        if consumer.active_partitions != before:
            before = consumer.active_partitions
            note(log, "active", before)
        await asyncio.sleep(0.01)


async def main(uri: str, super_stream: str, log: TextIO) -> None:
    async def handle(message: Message) -> None:
        note(log, "begin", message.stream, message.offset)
        await asyncio.sleep(HANDLING_S)
        note(log, "end", message.stream, message.offset)

    tracking = AutoTracking(every=EVERY, interval_s=None)
    async with actorstream.connect(uri) as client:
        consumer = await client.super_stream_consumer(
            super_stream, "first", name=GROUP, single_active=True, tracking=tracking
        )
        async with consumer:
            watching = asyncio.create_task(watch(consumer, log))
            running = asyncio.create_task(consumer.run(handle))
            await asyncio.to_thread(sys.stdin.readline)
            await consumer.close()
            await running
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


if __name__ == "__main__":
    with Path(sys.argv[3]).open("a") as file:
        asyncio.run(main(sys.argv[1], sys.argv[2], file))
