"""Consumers of super streams on a real broker: all partitions as one, each in its order, each with its own offset."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pykka
import pytest

from actorstream import (
    Client,
    Consumer,
    Deliver,
    Message,
    OnPartitionsChanged,
    SuperStreamConsumer,
    blocking,
    errors,
    events,
    offset,
)
from lab.broker import Broker
from tests.broker.reading import PATIENCE_S, connected, numbered, publish, until, watching
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def super_stream(client: Client, name: str, partitions: int = 3) -> AsyncIterator[list[str]]:
    await client.create_super_stream(name, partitions=partitions)
    try:
        yield list(await client.partitions(name))
    finally:
        await client.delete_super_stream(name, missing_ok=True)


@asynccontextmanager
async def reading(
    broker: Broker, name: str, begin: Any = "first"
) -> AsyncIterator[tuple[Client, list[str], SuperStreamConsumer]]:
    """A super stream of three partitions, and its consumer."""
    async with (
        connected(broker) as client,
        super_stream(client, name) as partitions,
        await client.super_stream_consumer(name, begin) as consumer,
    ):
        yield client, partitions, consumer


async def fill(client: Client, partitions: Iterable[str], count: int, start: int = 0, *, chunk: int = 0) -> None:
    for partition in partitions:
        await publish(client, partition, numbered(count, start), chunk=chunk)


async def take(consumer: SuperStreamConsumer, count: int, within_s: float = PATIENCE_S) -> list[Message]:
    async with asyncio.timeout(within_s):
        return [await anext(consumer) for _ in range(count)]


def by_partition(messages: Iterable[Message]) -> dict[str, list[int]]:
    sorted_: dict[str, list[int]] = defaultdict(list)
    for message in messages:
        assert int(message.body) == message.offset
        sorted_[message.stream].append(message.offset)
    return dict(sorted_)


async def test_all_partitions_are_read_each_in_its_order(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 300, chunk=50)
        async with await client.super_stream_consumer(stream.names[0], "first") as consumer:
            assert consumer.partitions == tuple(partitions)
            messages = await take(consumer, 900)
            assert by_partition(messages) == {name: list(range(300)) for name in partitions}
            assert consumer.positions == dict.fromkeys(partitions, 300)
            assert sorted(one or 0 for one in consumer.completed.values()) == [298, 299, 299]
            assert (consumer.received, consumer.active) == (900, True)


async def test_what_is_published_comes_as_it_comes(broker: Broker, stream: Streams) -> None:
    async with reading(broker, stream(), "next") as (client, partitions, consumer):
        for number in range(5):
            for partition in partitions:
                await publish(client, partition, numbered(1, number))
                (message,) = await take(consumer, 1)
                assert (message.stream, message.offset) == (partition, number)


async def test_a_long_backlog_of_one_partition_holds_up_no_other(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as (long, *short):
        await publish(client, long, numbered(20_000))
        await fill(client, short, 1)
        async with await client.super_stream_consumer(stream.names[0], "first") as consumer:
            messages = await take(consumer, 2_000)  # of a few chunks of some thousand messages
            assert {message.stream for message in messages} == {long, *short}


async def test_until_end_reads_what_is_there_and_ends(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions[:2], 20)  # one is empty
        async with await client.super_stream_consumer(stream.names[0], "first", until="end") as consumer:
            async with asyncio.timeout(PATIENCE_S):
                messages = [message async for message in consumer]
    assert by_partition(messages) == {name: list(range(20)) for name in partitions[:2]}


async def test_batches_are_of_one_partition_each(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 40, chunk=10)
        batches = []
        async with await client.super_stream_consumer(stream.names[0], "first", until="end") as consumer:
            async with asyncio.timeout(PATIENCE_S):
                batches = [batch async for batch in consumer.batches(7)]
            assert consumer.completed == dict.fromkeys(partitions, 39)
    assert all(len({message.stream for message in batch}) == 1 and len(batch) <= 7 for batch in batches)
    assert by_partition(message for batch in batches for message in batch) == {
        name: list(range(40)) for name in partitions
    }


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_handler_gets_all_and_completes_each_partition_by_itself(
    broker: Broker, stream: Streams, workers: int
) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 50, chunk=10)
        handled: list[Message] = []

        async def handle(message: Message) -> None:
            await asyncio.sleep(0)
            handled.append(message)

        async with await client.super_stream_consumer(stream.names[0], "first", until="end") as consumer:
            await consumer.run(handle, workers=workers, key=lambda message: message.stream)
            assert consumer.completed == dict.fromkeys(partitions, 49)
    assert by_partition(handled) == {name: list(range(50)) for name in partitions}


async def test_f57_what_a_handler_failed_at_comes_again(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 5)
        handled: list[Message] = []
        failures = [partitions[1]]

        def handle(message: Message) -> None:
            if message.stream in failures and message.offset == 2:
                failures.clear()
                raise ValueError("once")
            handled.append(message)

        async with await client.super_stream_consumer(stream.names[0], "first", until="end") as consumer:
            with pytest.raises(errors.HandlerFailed):
                await consumer.run(handle)
            await consumer.run(handle)
    assert by_partition(handled) == {name: list(range(5)) for name in partitions}


async def test_an_actor_is_told_batches_of_one_partition(broker: Broker, stream: Streams) -> None:
    told: list[Deliver] = []

    class Reader(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> None:
            told.append(message)
            message.acknowledge()

    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 10)
        reader = Reader.start()
        try:
            async with await client.super_stream_consumer(stream.names[0], "first", until="end") as consumer:
                await consumer.deliver_to(reader)
        finally:
            reader.stop()
    assert all({message.stream for message in one.messages} == {one.stream} for one in told)
    assert by_partition(message for one in told for message in one.messages) == {
        name: list(range(10)) for name in partitions
    }


async def test_each_partition_has_its_own_offset_under_one_name(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 20)
        first: list[Message] = []
        async with await client.super_stream_consumer(stream.names[0], "first", name="reader") as consumer:
            first = await take(consumer, 31)
            consumer.complete()
        async with await client.super_stream_consumer(stream.names[0], "first", name="reader") as consumer:
            rest = await take(consumer, 29)
            stored = await consumer.stored_offsets()
        assert by_partition([*first, *rest]) == {name: list(range(20)) for name in partitions}
        assert stored == {name: offsets[-1] for name, offsets in by_partition(first).items()} | {
            name: None for name in partitions if name not in by_partition(first)
        }


async def test_an_offset_is_stored_by_hand_for_the_partition_of_a_message(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 3)
        consumer = await client.super_stream_consumer(stream.names[0], "first", name="reader", tracking=None)
        async with consumer:
            for message in await take(consumer, 9):
                if message.offset == 1:
                    await consumer.store_offset(message)
        for partition in partitions:
            assert await client.query_offset("reader", partition) == 1


async def test_f45_a_partition_that_is_added_is_read_from_its_first_message_on(broker: Broker, stream: Streams) -> None:
    name = stream()
    async with connected(broker) as client, super_stream(client, name) as partitions, watching(client) as seen:
        added = f"{name}-late"
        async with await client.super_stream_consumer(name, "next", refresh_s=0.2) as consumer:
            await client.create_stream(added)
            await publish(client, added, numbered(5))
            broker.management.add_partition(name, added, "late", 3)
            assert by_partition(await take(consumer, 5)) == {added: list(range(5))}
            assert consumer.partitions == (*partitions, added)
        (told,) = [event for event in seen if isinstance(event, events.PartitionsChanged)]
        assert told.added == (added,)


async def test_a_partition_that_is_deleted_ends_and_the_others_go_on(broker: Broker, stream: Streams) -> None:
    async with reading(broker, stream()) as (client, (gone, *others), consumer):
        await client.delete_stream(gone)
        await until(lambda: _fetched(consumer, lambda: consumer.partitions == tuple(others)), "it is gone")
        await fill(client, others, 4)
        assert by_partition(await take(consumer, 8)) == {name: list(range(4)) for name in others}


async def _fetched(consumer: SuperStreamConsumer, condition: Any) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await consumer.fetch()
    return bool(condition())


async def test_a_change_of_partitions_is_raised_where_that_is_wanted(broker: Broker, stream: Streams) -> None:
    name = stream()
    async with connected(broker) as client, super_stream(client, name):
        raising = await client.super_stream_consumer(
            name, refresh_s=0.2, on_partitions_changed=OnPartitionsChanged.RAISE
        )
        async with raising as consumer:
            await client.create_stream(f"{name}-late")
            broker.management.add_partition(name, f"{name}-late", "late", 3)
            with pytest.raises(errors.PartitionsChanged):
                await take(consumer, 1)


async def test_a_super_stream_that_is_deleted_ends_the_iteration_with_that(broker: Broker, stream: Streams) -> None:
    async with reading(broker, stream()) as (client, _, consumer):
        await client.delete_super_stream(stream.names[0])
        with pytest.raises(errors.StreamDoesNotExist):
            await take(consumer, 1)


async def test_what_is_no_super_stream_is_told_at_the_start(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client:
        with pytest.raises(errors.StreamDoesNotExist):
            await client.super_stream_consumer(stream())


async def test_pausing_holds_all_partitions(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()) as partitions:
        await fill(client, partitions, 100, chunk=5)
        async with await client.super_stream_consumer(stream.names[0], "first", credit=2) as consumer:
            consumer.pause()
            got: list[Message] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    async for message in consumer:
                        got.append(message)  # noqa: PERF401 - as far as it comes
            assert len(got) < 300
            consumer.resume()
            got += await take(consumer, 300 - len(got))
            assert by_partition(got) == {name: list(range(100)) for name in partitions}


async def test_its_partitions_can_be_looked_at_by_name(broker: Broker, stream: Streams) -> None:
    async with reading(broker, stream(), offset.first()) as (_, partitions, consumer):
        assert isinstance(consumer.partition(partitions[0]), Consumer)
        with pytest.raises(errors.InvalidArgument, match="has no partition 'elsewhere'"):
            consumer.partition("elsewhere")


async def test_closing_while_somebody_reads_ends_the_iteration(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, super_stream(client, stream()):
        consumer = await client.super_stream_consumer(stream.names[0])

        async def read() -> list[Message]:
            return [message async for message in consumer]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        await consumer.close()
        assert await asyncio.wait_for(reading, 5) == []
        children = {child.name: child.children for child in (await client.tree()).children}
        assert not children["super_streams"]
        assert not children["subscribers"]


def test_code_without_asyncio_reads_all_partitions(broker: Broker, stream: Streams) -> None:
    name = stream()
    with blocking.connect(broker.uri) as client:
        client.create_super_stream(name)
        for partition in client.partitions(name):
            with client.producer(partition) as producer:
                producer.send_batch(numbered(20))
        with client.super_stream_consumer(name, "first", name="reader", until="end") as consumer:
            messages = list(consumer)
            consumer.store_offset()
            assert set(consumer.stored_offsets().values()) == {19}
        with client.super_stream_consumer(name, "first", until="end") as consumer:
            batches = list(consumer.batches())
        client.delete_super_stream(name)
    wanted = {f"{name}-{number}": list(range(20)) for number in range(3)}
    assert by_partition(messages) == by_partition(message for batch in batches for message in batch) == wanted
