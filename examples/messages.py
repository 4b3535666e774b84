"""What a message can carry besides its body, and records that are no messages: `python -m examples.messages [URI]`."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import uuid

import actorstream
from actorstream import Header, Message, Properties

STREAM = "example-messages"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            await producer.send_wait("text is sent as its UTF-8: é")
            await producer.send_wait(
                Message(
                    b'{"id": 7}',
                    properties=Properties(
                        message_id=uuid.UUID(int=7),
                        subject="orders",
                        content_type="application/json",
                        creation_time=dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
                    ),
                    application_properties={"shop": "Aachen", "express": True, "weight": 2.5},
                    annotations={"x-opt-trace": b"\x01\x02"},
                    header=Header(durable=True, priority=7),
                )
            )
            # Instead of a body of bytes: any value of AMQP 1.0, or a sequence of them.
            await producer.send_wait(Message(value={"nested": [1, None, "two"]}))
            await producer.send_wait(Message(sequence=[1, "two", b"3"]))

        # Sections are decoded when they are looked at: what you do not read costs nothing.
        async with await client.consumer(STREAM, "first", until="end") as consumer:
            text, whole, value, sequence = [message async for message in consumer]
        print(text.body.decode())
        assert whole.properties is not None
        print(whole.properties.message_id, whole.properties.subject, whole.properties.creation_time)
        print(dict(whole.application_properties), dict(whole.annotations))
        print(value.value, sequence.value)

        # A raw producer sends bytes as they are, without AMQP 1.0 around them, and a raw consumer reads them so.
        async with await client.producer(STREAM, raw=True) as producer:
            await producer.send_wait(b"only bytes")
        async with await client.consumer(STREAM, 4, until="end", raw=True) as consumer:
            async for message in consumer:
                print(message.body)
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
