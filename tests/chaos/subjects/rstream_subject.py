"""rstream 1.1.1 as a subject: a producer with a publisher name and a consumer, both with recovery switched on."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from rstream import (
    AMQPMessage,
    Consumer,
    ConsumerOffsetSpecification,
    OffsetType,
    Producer,
    amqp_decoder,
)
from rstream.recovery import BackOffRecoveryStrategy

from tests.chaos.history import Outcome
from tests.chaos.subjects.recorder import Recorder, perform

HOST = "localhost"


async def main(recorder: Recorder) -> None:
    """Publish and consume until told to stop."""
    orders = recorder.orders
    login = {"username": "guest", "password": "guest", "heartbeat": 5}
    producer = Producer(
        HOST,
        orders.ports[0],
        connection_name=f"{orders.name}-publisher",
        recovery_strategy=BackOffRecoveryStrategy(enable=True),
        **login,
    )
    consumer = Consumer(
        HOST,
        orders.ports[0],
        connection_name=f"{orders.name}-consumer",
        recovery_strategy=BackOffRecoveryStrategy(enable=True),
        **login,
    )
    await producer.start()
    await consumer.start()

    async def take(message: Any, context: Any) -> None:
        recorder.received(context.offset, message.body)

    await consumer.subscribe(
        orders.stream,
        take,
        decoder=amqp_decoder,
        offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
    )

    def settled(number: int, status: Any) -> None:
        recorder.settled(number, Outcome.CONFIRMED if status.is_confirmed else Outcome.UNCONFIRMED)

    async def send(number: int, body: bytes) -> None:
        await producer.send(
            orders.stream,
            AMQPMessage(body=body),
            publisher_name=orders.name,
            on_publish_confirm=functools.partial(settled, number),
        )

    await recorder.send_on(send)
    await recorder.settle(30)
    await asyncio.wait_for(producer.close(), 20)
    await asyncio.sleep(1)
    await asyncio.wait_for(consumer.close(), 20)


if __name__ == "__main__":
    perform(main)
