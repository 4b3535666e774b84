"""A stream made with limits, described, and deleted: `python -m examples.administration [URI]`."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys

import actorstream
from actorstream import StreamArguments, errors

STREAM = "example-administration"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.delete_stream(STREAM, missing_ok=True)

        # Whole segments go when both limits say so; a wrong argument is an error here, not a lost connection.
        limits = StreamArguments(max_age=dt.timedelta(days=7), max_length="10GB", max_segment_size="100MB")
        await client.create_stream(STREAM, limits)
        print("made:", await client.stream_exists(STREAM))
        await client.create_stream(STREAM, limits, exist_ok=True)  # the same again is fine, if that is said

        try:
            await client.create_stream(STREAM, StreamArguments(max_age=60), exist_ok=True)
        except errors.PreconditionFailed as error:
            print("not with other arguments:", type(error).__name__)

        async with await client.producer(STREAM) as producer:
            await (await producer.send_batch([b"one", b"two", b"three"]))
        statistics = await client.stream_statistics(STREAM)
        print("first chunk:", statistics.first_chunk_id)
        metadata = await client.stream_metadata(STREAM)
        print("has a leader:", metadata.leader is not None)

        await client.delete_stream(STREAM)
        print("made:", await client.stream_exists(STREAM))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
