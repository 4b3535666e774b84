"""One super stream, three ways to choose a message's partition: `python -m examples.super_stream [URI]`."""

from __future__ import annotations

import asyncio
import sys

import actorstream
from actorstream import Client, HashRouting, KeyRouting, Message, Properties

ORDERS = "example-orders"
REGIONS = "example-regions"


async def by_hash(client: Client) -> None:
    """Equal keys go to one partition, where they stay in order. Every other client's hash says the same."""
    await client.create_super_stream(ORDERS, partitions=3, exist_ok=True)

    def customer(message: Message) -> str:
        assert message.properties is not None
        return str(message.properties.group_id)

    async with await client.super_stream_producer(ORDERS, routing=HashRouting(customer), name="shop") as producer:
        for number in range(300):
            order = Message(b"order %d" % number, properties=Properties(group_id=f"customer-{number % 10}"))
            await producer.send(order)
        await producer.flush()
        print(f"hash: {producer.confirmed} orders over {len(producer.partitions)} partitions")
        # After a restart: with ids of one's own, go on after this one; nothing is lost, and duplicates are dropped.
        print("all is stored up to publishing id", await producer.last_publishing_id(), "in each partition")


async def by_key(client: Client) -> None:
    """The broker's bindings say where a key goes: to one partition, to several, or nowhere."""
    await client.create_super_stream(REGIONS, binding_keys=["emea", "apac"], exist_ok=True)
    print("key: emea goes to", *await client.route("emea", REGIONS))
    async with await client.super_stream_producer(REGIONS, routing=KeyRouting(str)) as producer:
        await producer.send_wait("emea")
        try:
            await producer.send("mars")
        except actorstream.errors.NoRoute as error:
            print("no route:", error.key)


async def by_a_rule_of_ones_own(client: Client) -> None:
    """Any function of the message and the partitions; several names mean a copy for each, with one receipt for all."""

    def rule(message: str, partitions: tuple[str, ...]) -> str | tuple[str, ...]:
        return partitions if message.startswith("to all") else partitions[0]

    async with await client.super_stream_producer(REGIONS, routing=rule) as producer:
        await (await producer.send_batch(["for the first", "to all of you"]))
        print(f"own rule: 2 messages, {producer.confirmed} stored")


async def main(uri: str) -> None:
    async with actorstream.connect(uri) as client:
        await by_hash(client)
        await by_key(client)
        await by_a_rule_of_ones_own(client)
        for super_stream in (ORDERS, REGIONS):
            await client.delete_super_stream(super_stream)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
