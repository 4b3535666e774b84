"""Only the messages that are wanted: `python -m examples.filtering [URI]`. Needs RabbitMQ 3.13."""

from __future__ import annotations

import asyncio
import sys

import actorstream
from actorstream import Filter, Message

STREAM = "example-filtering"
REGIONS = ("emea", "amer", "apac")


def in_apac(message: Message) -> bool:
    return message.application_properties.get("region") == "apac"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await client.create_stream(STREAM, exist_ok=True)
        async with await client.producer(STREAM) as producer:
            for region in REGIONS:
                orders = [Message(b"order", application_properties={"region": region}) for _ in range(100)]
                # The broker keeps which values a chunk has, and not which message has which: that is in the message.
                for receipt in [await producer.send(order, filter_value=region) for order in orders]:
                    await receipt
            # A chunk of all regions.
            mixed = [Message(b"order", application_properties={"region": region}) for region in REGIONS * 10]
            for receipt in [
                await producer.send(order, filter_value=str(order.application_properties["region"])) for order in mixed
            ]:
                await receipt

        # The broker leaves out chunks without the value; the predicate drops what else came with it.
        async with await client.consumer(STREAM, "first", filter=Filter("apac", predicate=in_apac)) as consumer:
            offsets = [(await anext(consumer)).offset for _ in range(110)]
            print("apac:", len(offsets), "messages, the first at", offsets[0])

        # Without values, everything is sent, and the predicate decides alone: with any broker, and to an end.
        everything = Filter(predicate=in_apac)
        async with await client.consumer(STREAM, "first", until="end", filter=everything) as consumer:
            count = len([message async for message in consumer])
            print("apac, to the end:", count, "messages of", consumer.position)
        await client.delete_stream(STREAM)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
