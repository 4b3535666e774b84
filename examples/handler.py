"""A handler, and what becomes of messages that it cannot handle: `python -m examples.handler [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream
from actorstream import ErrorPolicy, Park

STREAM = "example-handler"
PARKED = "example-handler-parked"


async def handle(message: actorstream.Message) -> None:
    print("handled", int(message.body))


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        for stream in (STREAM, PARKED):
            await client.create_stream(stream, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await (await producer.send_batch([b"1", b"two", b"3"]))

        # Tried twice more with a pause, then parked in another stream, with the reason and where it came from.
        policy = ErrorPolicy(retries=2, then=Park(PARKED))
        async with await client.consumer(STREAM, "first", until="end") as consumer:
            await consumer.run(handle, on_error=policy)

        async with await client.consumer(PARKED, "first", until="end") as parked:
            async for message in parked:
                print("parked", message.body.decode(), message.application_properties)
        for stream in (STREAM, PARKED):
            await client.delete_stream(stream)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
