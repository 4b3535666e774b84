"""Offsets that live elsewhere than on the broker: on the user's loop, and told when that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from actorstream import AutoTracking, Client, ConnectionOptions, OffsetStore, blocking, errors, events
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, take, until, watching
from tests.conftest import Streams


class Memory:
    """A store that remembers where it was called, and fails when it is told to."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[str, str], int] = {}
        self.stored: list[int] = []
        self.places: set[tuple[int, int]] = set()
        self.error: Exception | None = None

    def _called(self) -> None:
        self.places.add((threading.get_ident(), id(asyncio.get_running_loop())))
        if self.error is not None:
            raise self.error

    async def load(self, name: str, stream: str) -> int | None:
        self._called()
        await asyncio.sleep(0)
        return self.offsets.get((name, stream))

    async def store(self, name: str, stream: str, offset: int) -> None:
        self._called()
        await asyncio.sleep(0)
        self.stored.append(offset)
        self.offsets[name, stream] = offset


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker) as client:
        yield client


async def test_f53_a_store_that_hung_is_asked_again_and_the_member_of_a_group_becomes_active(
    broker: Broker, stream: Streams
) -> None:
    class Hanging(Memory):
        hangs = True

        async def load(self, name: str, stream: str) -> int | None:
            if self.hangs:
                await asyncio.Event().wait()
            return await super().load(name, stream)

    name, store = stream({}), Hanging()
    store.offsets["app", name] = 4
    async with connected(broker, options=ConnectionOptions(rpc_timeout_s=3.5)) as client:
        await publish(client, name, numbered(10))
        async with await client.consumer(name, "first", name="app", single_active=True, offset_store=store) as consumer:
            taking = asyncio.create_task(take(consumer, 5))
            asyncio.get_running_loop().call_later(1.0, setattr, store, "hangs", False)
            assert numbers(await taking) == list(range(5, 10))


async def test_f53_a_start_says_that_the_store_does_not_answer(broker: Broker, stream: Streams) -> None:
    class Hanging(Memory):
        async def load(self, name: str, stream: str) -> int | None:
            await asyncio.Event().wait()
            return await super().load(name, stream)

    name = stream({})
    async with connected(broker, options=ConnectionOptions(rpc_timeout_s=3.5)) as client:
        with pytest.raises(errors.OffsetStoreFailed, match=r"could not be loaded: no answer to the offset store"):
            await client.consumer(name, "first", name="app", offset_store=Hanging())


@pytest.mark.parametrize("own_thread", [False, True])
async def test_a_store_of_ones_own_is_used_on_ones_own_loop_and_the_broker_keeps_nothing(
    broker: Broker, stream: Streams, own_thread: bool
) -> None:
    name = stream({})
    store: OffsetStore = Memory()
    assert isinstance(store, Memory)
    async with connected(broker, own_thread=own_thread) as client:
        await publish(client, name, numbered(60))
        seen: list[int] = []
        for count in (20, 25, 15):
            async with await client.consumer(name, "first", name="app", offset_store=store) as consumer:
                messages = await take(consumer, count)
                seen += numbers(messages)
                await consumer.store_offset(messages[-1].offset)
                assert await consumer.stored_offset() == seen[-1] == store.offsets["app", name]
        assert seen == list(range(60))
        assert await client.query_offset("app", name) is None
    assert store.places == {(threading.get_ident(), id(asyncio.get_running_loop()))}


async def test_it_is_stored_by_count_by_time_and_on_close(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(100))
    store = Memory()
    policy = AutoTracking(every=10, interval_s=0.1)
    async with await client.consumer(name, "first", name="app", tracking=policy, offset_store=store) as consumer:
        await take(consumer, 11)
        await until(lambda: store.stored == [9], "by count")
        await take(consumer, 3)
        await until(lambda: store.stored == [9, 12], "by time")
        await take(consumer, 3)
    assert store.stored == [9, 12, 15]


async def test_f53_a_store_that_cannot_load_fails_the_start_and_nothing_is_read(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(5))
    store = Memory()
    store.error = PermissionError("no")
    with pytest.raises(errors.OffsetStoreFailed, match="could not be loaded") as raised:
        await client.consumer(name, "first", name="app", offset_store=store)
    assert raised.value.__cause__ is store.error
    assert store.stored == []
    store.error = None
    for wrong in (-1, "5"):
        store.offsets["app", name] = wrong  # type: ignore[assignment]
        with pytest.raises(errors.OffsetStoreFailed, match="could not be loaded"):
            await client.consumer(name, "first", name="app", offset_store=store)


async def test_a_store_that_fails_is_told_once_and_reading_goes_on_and_it_is_tried_again(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(100))
    store = Memory()
    policy = AutoTracking(every=10, interval_s=0.05)
    async with watching(client) as seen:
        async with await client.consumer(name, "first", name="app", tracking=policy, offset_store=store) as consumer:
            store.error = OSError("the disk is full")
            await take(consumer, 50)
            await until(lambda: [event for event in seen if isinstance(event, events.OffsetNotStored)], "it is told")
            with pytest.raises(errors.OffsetStoreFailed, match="the disk is full"):
                await consumer.store_offset()
            assert numbers(await take(consumer, 20)) == list(range(50, 70))
            store.error = None
            await until(lambda: store.offsets.get(("app", name)) == 68, "it is stored after all")
        told = [event for event in seen if isinstance(event, events.OffsetNotStored)]
    assert len(told) == 1
    assert isinstance(told[0].reason.__cause__, OSError)


async def test_a_store_that_fails_at_the_end_does_not_keep_the_consumer_from_closing(
    client: Client, stream: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    store = Memory()
    consumer = await client.consumer(name, "first", name="app", offset_store=store)
    await take(consumer, 5)
    store.error = OSError("the disk is full")
    async with asyncio.timeout(2):
        await consumer.close()
    assert "the disk is full" in caplog.text


def test_with_the_blocking_handles_it_runs_on_their_loop(broker: Broker, stream: Streams) -> None:
    name = stream({})
    store = Memory()
    with blocking.connect(broker.uri) as client, client.producer(name) as producer:
        producer.send_batch(numbered(20))
        producer.flush()
        seen = []
        for _ in range(2):
            with client.consumer(name, "first", name="app", offset_store=store) as consumer:
                for message in consumer:
                    seen.append(message.offset)
                    if len(seen) % 10 == 0:
                        consumer.store_offset(message.offset)
                        break
        assert seen == list(range(20))
    assert len(store.places) == 1
    assert threading.get_ident() not in {thread for thread, _ in store.places}


async def test_a_store_needs_a_name(client: Client, stream: Streams) -> None:
    with pytest.raises(errors.InvalidArgument, match="name="):
        await client.consumer(stream({}), "first", offset_store=Memory())
