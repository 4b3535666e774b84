"""actorstream as a subject: a named producer and a consumer, as its README shows them."""

from __future__ import annotations

import asyncio
import functools

import actorstream
from actorstream import ConnectionOptions, Receipt, errors
from tests.chaos.history import Outcome
from tests.chaos.subjects.recorder import Recorder, perform


async def main(recorder: Recorder) -> None:
    """Publish and consume until told to stop."""
    orders = recorder.orders
    uris = [f"rabbitmq-stream://guest:guest@localhost:{port}" for port in orders.ports]
    options = ConnectionOptions(heartbeat_s=5)
    async with actorstream.connect(uris, name=orders.name, options=options) as client:
        producer = await client.producer(orders.stream, name=orders.name)
        consumer = await client.consumer(orders.stream, "first")
        reading = asyncio.create_task(read(recorder, consumer))

        def settled(number: int, receipt: Receipt) -> None:
            error = receipt.error
            rejected = isinstance(error, errors.PublishRejected)
            recorder.settled(
                number,
                Outcome.CONFIRMED if error is None else Outcome.REJECTED if rejected else Outcome.UNCONFIRMED,
            )

        async def send(number: int, body: bytes) -> None:
            receipt = await producer.send(body)
            receipt.add_done_callback(functools.partial(settled, number))

        await recorder.send_on(send)
        await recorder.settle(30)
        await producer.close()
        await asyncio.sleep(1)
        await consumer.close()
        await reading


async def read(recorder: Recorder, consumer: actorstream.Consumer) -> None:
    """Write down what comes."""
    async for message in consumer:
        recorder.received(message.offset, message.body)


if __name__ == "__main__":
    perform(main)
