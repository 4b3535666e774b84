"""A user's own Pykka actors that do everything by messages: `python -m examples.actors_only [URI]`."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pykka

import actorstream
from actorstream import Deliver, Message, mailbox

ORDERS = "example-actors-only-orders"
BILLS = "example-actors-only-bills"
COUNT = 10


class Bills(pykka.ThreadingActor):
    """Makes a bill of each order. It may block: it has a thread of its own."""

    def __init__(self, client: pykka.ActorRef[Any]) -> None:
        super().__init__()
        self.client = client
        self.done, self.ended = threading.Event(), threading.Event()
        self.bills: Any = None
        self.orders: Any = None

    def on_start(self) -> None:
        for stream in (ORDERS, BILLS):
            self.client.ask(mailbox.CreateStream(stream, exist_ok=True))
        self.bills = self.client.ask(mailbox.OpenProducer(BILLS))
        self.orders = self.client.ask(mailbox.Subscribe(ORDERS, to=self.actor_ref, offset="first", name="billing"))

    def on_receive(self, message: object) -> None:
        match message:
            case Deliver(messages=orders):
                # Confirmed, and only then acknowledged: neither is lost when this process dies in between.
                self.bills.ask(mailbox.PublishBatch([bill_for(order) for order in orders]))
                message.acknowledge()
                if self.orders.ask(mailbox.Where()).position >= COUNT:
                    self.done.set()
            case mailbox.DeliveryEnded(error=error):
                print("no more orders:", error)
                self.ended.set()


def bill_for(order: Message) -> str:
    return f"bill for {order.body.decode()}"


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        bills = Bills.start(client.ref)
        done, ended = await asyncio.to_thread(lambda: (bills.proxy().done.get(), bills.proxy().ended.get()))
        await client.create_stream(ORDERS, exist_ok=True)
        async with await client.producer(ORDERS) as producer:
            await (await producer.send_batch([f"order {number}" for number in range(COUNT)]))
        await asyncio.to_thread(done.wait, 10)
        async with await client.consumer(BILLS, "first", until="end") as consumer:
            async for message in consumer:
                print(message.body.decode())
        for stream in (ORDERS, BILLS):
            await client.delete_stream(stream)
        await asyncio.to_thread(ended.wait, 10)
    await asyncio.to_thread(bills.stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
