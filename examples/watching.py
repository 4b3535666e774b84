"""What a client shows of itself, and a delete that both sides survive: `python -m examples.watching [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream
from actorstream import errors

STREAM = "example-watching"


def show(node: actorstream.Node, depth: int = 0) -> None:
    """Print a tree, a line an actor."""
    print(f"{'  ' * depth}{node.name}: {node.state}, generation {node.generation}, {node.restarts} restarts")
    for child in node.children:
        show(child, depth + 1)


async def print_events(client: actorstream.Client) -> None:
    """Print what happens until the client is closed."""
    async for event in client.events():
        print("event:", event.title, event.path)


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        watching = asyncio.create_task(print_events(client))
        await client.create_stream(STREAM, exist_ok=True)
        producer = await client.producer(STREAM)
        consumer = await client.consumer(STREAM, "first")
        await producer.send_wait(b"hello")
        print("got", (await anext(consumer)).body.decode())
        show(await client.tree())

        # A stream that is gone is nothing that waiting would cure: both handles say so.
        await client.delete_stream(STREAM)
        try:
            await anext(consumer)
        except errors.StreamDoesNotExist as error:
            print("the consumer ended:", error)
        try:
            await producer.send_wait(b"too late")
        except (errors.Closed, errors.Unconfirmed) as error:  # it knows already, or learns it with this message
            print("the producer ended:", error.__cause__ or error)
    await watching


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
