"""What a client shows of itself, beside a real broker: events, the log, counters, and the tree."""

from __future__ import annotations

import asyncio
import logging

import pytest

from actorstream import events
from lab.broker import Broker
from tests.broker.reading import connected, numbered, publish, take, until, watching
from tests.conftest import Streams


async def test_the_log_says_what_the_events_say(
    broker: Broker, stream: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="actorstream")
    name = stream({})
    async with connected(broker, "observed") as client, watching(client) as seen:
        consumer = await client.consumer(name, "first")
        await asyncio.to_thread(broker.management.close_connections, "observed-consumer")
        await publish(client, name, numbered(1))
        await take(consumer, 1)
        await until(lambda: [one for one in seen if isinstance(one, events.Disconnected)], "the loss is told")
    logged = [record.getMessage() for record in caplog.records if record.name == "actorstream"]
    for event in seen:
        assert [line for line in logged if event.title in line and event.path in line], event
    (lost,) = [one for one in seen if isinstance(one, events.Disconnected)]
    assert [line for line in logged if str(lost.reason) in line]


async def test_counters_of_the_handles_add_up(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name) as producer:
        receipts = [await producer.send(body) for body in numbered(100)]
        assert (producer.unsettled + producer.confirmed, producer.failed) == (100, 0)
        for receipt in receipts:
            await receipt
        assert (producer.unsettled, producer.confirmed, producer.failed) == (0, 100, 0)
        async with await client.consumer(name, "first") as consumer:
            await take(consumer, 60)
            assert (consumer.received, consumer.position, consumer.completed) == (60, 60, 58)
            tree = {child.name: child for child in (await client.tree()).children}
            (shown,) = tree["publishers"].children
            assert (shown.details["confirmed"], shown.details["failed"]) == (100, 0)
            # Each takes the four bytes of its length and five of a data section, beside its one or two digits.
            size = sum(9 + len(body) for body in numbered(100))
            assert shown.details["confirmed_bytes"] == producer.confirmed_bytes == producer.accepted_bytes == size
            await take(consumer, 40)
            tree = {child.name: child for child in (await client.tree()).children}
            (shown,) = tree["subscribers"].children
            assert (shown.details["records"], shown.details["bytes"], shown.details["chunks"]) == (
                consumer.delivered_messages,
                consumer.delivered_bytes,
                consumer.delivered_chunks,
            )
            assert (consumer.delivered_messages, consumer.delivered_bytes) == (100, size)


async def test_messages_make_no_events_and_no_records_in_the_log(
    broker: Broker, stream: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="actorstream")
    name = stream({})
    async with (
        connected(broker) as client,
        watching(client) as seen,
        await client.producer(name) as producer,
        await client.consumer(name, "first") as consumer,
    ):
        await producer.send_wait(b"first")
        assert len(await take(consumer, 1)) == 1
        before = len(seen), len([one for one in caplog.records if one.name.startswith("actorstream")])
        for body in numbered(3_000):
            await producer.send(body)
        assert len(await take(consumer, 3_000)) == 3_000
        await producer.flush()
        assert (len(seen), len([one for one in caplog.records if one.name.startswith("actorstream")])) == before
