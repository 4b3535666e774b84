"""Objects by content type: JSON, and a type of one's own: `python -m examples.codecs [URI]`."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from typing import Any

import actorstream
from actorstream import Codecs, ErrorPolicy, Message, Park, Properties

STREAM = "example-codecs"
UNREADABLE = "example-codecs-unreadable"


def to_csv(row: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().encode()


def from_csv(body: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(body.decode())))


async def handle(order: Any) -> None:
    print("order", order)


async def main(uri: str) -> None:
    codecs = Codecs()  # knows application/json
    codecs.register("text/csv", to_csv, from_csv)  # as well: "application/msgpack", msgpack.packb, msgpack.unpackb

    async with actorstream.connect(uri) as client:
        for stream in (STREAM, UNREADABLE):
            await client.create_stream(stream, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await producer.send_wait(codecs.encode({"id": 1, "item": "tea"}))
            await producer.send_wait(codecs.encode(["2", "cups, large"], "text/csv"))
            await producer.send_wait(Message(b"<order/>", properties=Properties(content_type="text/xml")))

        async with await client.consumer(STREAM, "first", until="end") as consumer:
            # What cannot be decoded is a failure of the handler, and meets its policy.
            await consumer.run(codecs.decoding(handle), on_error=ErrorPolicy(then=Park(UNREADABLE)))

        async with await client.consumer(UNREADABLE, "first", until="end") as consumer:
            async for message in consumer:
                print("parked", message.body.decode(), "because:", message.application_properties["x-reason"])
        for stream in (STREAM, UNREADABLE):
            await client.delete_stream(stream)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
