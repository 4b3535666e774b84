"""A user's own Pykka actor that gets deliveries and publishes: `python -m examples.actor_refs [URI]`."""

from __future__ import annotations

import asyncio
import sys
import threading

import pykka

import actorstream
from actorstream import Deliver, Publish

SOURCE = "example-actor-refs-source"
TARGET = "example-actor-refs-target"
COUNT = 20


class Upper(pykka.ThreadingActor):
    """Publishes each delivered message in capitals, then acknowledges it."""

    def __init__(self, target: pykka.ActorRef[pykka.Actor], done: threading.Event) -> None:
        super().__init__()
        self.target = target
        self.done = done
        self.handled = 0

    def on_receive(self, message: object) -> None:
        match message:
            case Deliver(messages=messages):
                for one in messages:
                    self.target.tell(Publish(one.body.decode().upper()))
                message.acknowledge()
                self.handled += len(messages)
                if self.handled >= COUNT:
                    self.done.set()


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        for stream in (SOURCE, TARGET):
            await client.create_stream(stream, exist_ok=True)
        producer = await client.producer(TARGET)
        done = threading.Event()
        upper = Upper.start(producer.ref, done)
        try:
            consumer = await client.consumer(SOURCE, "first")
            delivering = asyncio.create_task(consumer.deliver_to(upper))
            async with await client.producer(SOURCE) as source:
                await (await source.send_batch([f"message {number}" for number in range(COUNT)]))
            await asyncio.to_thread(done.wait, 10)
            await producer.close()
            delivering.cancel()
            async with await client.consumer(TARGET, "first", until="end") as reader:
                async for message in reader:
                    print(message.body.decode())
        finally:
            await asyncio.to_thread(upper.stop)
        for stream in (SOURCE, TARGET):
            await client.delete_stream(stream)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
