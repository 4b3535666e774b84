"""Filter values of published messages: a broker that is asked for one leaves out the chunks that do not have it."""

from __future__ import annotations

import asyncio

import pytest

from actorstream import Client, Message, Publish, offset
from actorstream.actors import messages as m
from actorstream.actors.pool import CONSUMING, lease, next_attachment
from actorstream.actors.runtime import Home, StreamActor, ask, start_in
from actorstream.errors import InvalidArgument
from lab.broker import Broker
from tests.broker.reading import connected, numbered, read, until
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)


async def filtered_by_the_broker(client: Client, stream: str, properties: dict[str, str], last: bytes) -> list[bytes]:
    """What the broker delivers of a stream under a filter, up to a message."""
    tree = client._grown
    members: m.Members = await ask(tree.locator, m.WhereIs(stream))
    slot = await lease(tree._pool, members.leader, CONSUMING)
    await ask(slot.connection, m.Open())
    bodies: list[bytes] = []
    reader = start_in(Home.here(), StreamActor, name="reader")
    number = next_attachment()

    def collect(delivered: m.Delivered | m.ChunkBroken) -> None:
        assert isinstance(delivered, m.Delivered)
        bodies.extend(one.body for one in delivered.chunk.messages())

    await ask(
        slot.connection,
        m.AttachSubscriber(slot, number, reader, stream, offset.first(), 100, collect, tuple(properties.items())),
    )
    await until(lambda: last in bodies, "the last message")
    await ask(slot.connection, m.Detach(number))
    reader.stop(block=False)
    return bodies


async def test_the_broker_leaves_out_chunks_without_the_value(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name) as producer:
        for part, value in enumerate(["emea", "apac", "é", "", "emea"]):
            receipts = [await producer.send(b"%d" % (10 * part + i), filter_value=value) for i in range(10)]
            for receipt in receipts:
                await receipt  # a chunk, or more, of its own
        await producer.send_wait(b"50")
        await producer.send_wait(b"51", filter_value="emea")

        everything = await filtered_by_the_broker(client, name, {}, b"51")
        assert everything == numbered(52)
        emea = await filtered_by_the_broker(client, name, {"filter.1": "emea"}, b"51")
        assert emea == [*numbered(10), *numbered(10, 40), b"51"]
        accented = await filtered_by_the_broker(
            client, name, {"filter.1": "é", "filter.2": "emea", "match-unfiltered": "true"}, b"51"
        )
        assert accented == [*numbered(10), *numbered(32, 20)], 'to the broker, "" is no value'
        assert [message.body for message in await read(client, name)] == numbered(52)


def region(body: object) -> str | None:
    assert isinstance(body, Message)
    value = (body.application_properties or {}).get("region")
    return value if isinstance(value, str) else None


async def test_a_function_of_the_producer_finds_the_value_however_a_message_is_sent(
    broker: Broker, stream: Streams
) -> None:
    name = stream({})

    def message(number: int, place: str | None) -> Message:
        return Message(b"%d" % number, application_properties={} if place is None else {"region": place})

    async with connected(broker) as client, await client.producer(name, filter_value=region) as producer:
        await (await producer.send_batch([message(number, "emea") for number in range(5)]))
        await producer.send_wait(message(5, None))
        await producer.send_wait(message(6, "apac"))
        await producer.send_wait(message(7, "apac"), filter_value="emea")
        await producer.ref.ask(Publish(message(8, "emea")), block=False)

        emea = await filtered_by_the_broker(client, name, {"filter.1": "emea"}, b"8")
        assert emea == [*numbered(5), b"7", b"8"]
        unfiltered = await filtered_by_the_broker(client, name, {"filter.1": "emea", "match-unfiltered": "true"}, b"8")
        assert unfiltered == [*numbered(6), b"7", b"8"]


async def test_filter_values_survive_a_lost_connection(broker: Broker, stream: Streams) -> None:
    name, client_name = stream({}), f"test-{stream.prefix}"
    async with connected(broker, client_name) as client:
        async with await client.producer(name, name="me") as producer:
            receipts = [await producer.send(body, filter_value="emea") for body in numbered(1000)]
            assert await asyncio.to_thread(broker.management.close_connections, f"{client_name}-publisher")
            receipts += [await producer.send(body, filter_value="apac") for body in numbered(1000, 1000)]
            await producer.flush(20)
            await producer.send_wait(b"2000", filter_value="emea")
            assert all(receipt.confirmed for receipt in receipts)

        emea = await filtered_by_the_broker(client, name, {"filter.1": "emea"}, b"2000")
        assert set(numbered(1000)) <= set(emea)
        assert [message.body for message in await read(client, name)] == numbered(2001)


@pytest.mark.parametrize("wrong", [7, b"emea", "x" * 32_768, "\ud800"])
async def test_what_is_no_filter_value_fails_alone_before_it_is_queued(
    broker: Broker, stream: Streams, wrong: object
) -> None:
    name = stream({})
    async with connected(broker) as client:
        async with await client.producer(name) as producer:
            with pytest.raises(InvalidArgument, match="filter value"):
                await producer.send(b"x", filter_value=wrong)  # type: ignore[arg-type]
            assert producer.unsettled == 0
            await producer.send_wait(b"0")
        async with await client.producer(name, filter_value=lambda _: wrong) as producer:  # type: ignore[arg-type, return-value]
            with pytest.raises(InvalidArgument, match="filter value"):
                await producer.send_batch([b"x"])
        assert [message.body for message in await read(client, name)] == [b"0"]
