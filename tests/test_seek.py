"""Seeking: from then on only the new place is read, whatever was in hand, under way or in work in the old one."""

from __future__ import annotations

import asyncio

import pytest

from actorstream import Consumer, Message, errors
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.wire import commands as c
from tests.actors.test_subscriber import (
    connected,
    entities,
    fill,
    subscribed,
    subscribes,
    take,
    watching,
)
from tests.peer import FakeCluster, until


def cluster_with(chunks: int = 4) -> FakeCluster:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", chunks)
    return cluster


async def collect(consumer: Consumer, into: list[int]) -> None:
    async for message in consumer:
        into.append(message.offset)  # noqa: PERF401 - each as it comes


async def test_back_and_ahead_and_into_the_middle_of_a_chunk() -> None:
    cluster = cluster_with(6)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        assert await take(consumer, 7) == list(range(7))
        for place in (0, 22, 3, 3, 29, 6):
            await consumer.seek(place)
            assert (consumer.position, consumer.completed) == (place, None)
            assert await take(consumer, 2 if place < 29 else 1) == list(range(place, min(place + 2, 30)))


async def test_it_is_no_failure_and_costs_no_pause_however_often() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client, watching(client) as seen, await client.consumer("s", "first") as consumer:
        async with asyncio.timeout(5):
            for number in range(100):
                await consumer.seek(number % 20)
                assert await take(consumer, 1) == [number % 20]
        assert not [event for event in seen if event.level in ("WARNING", "ERROR")]
        assert len(subscribed(cluster)) == 1


async def test_a_consumer_whose_next_was_pinned_forgets_that() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client, await client.consumer("s", "next") as consumer:
        fill(cluster, "s", 1)
        assert await take(consumer, 2) == [20, 21]
        await consumer.seek(2)
        assert await take(consumer, 20) == list(range(2, 22))
        await consumer.seek("next")
        await until(lambda: subscribes(cluster) == 3)
        fill(cluster, "s", 1)
        assert await take(consumer, 5) == list(range(25, 30))
        subscribed(cluster)[0][0].drop()
        fill(cluster, "s", 1)
        assert await take(consumer, 5) == list(range(30, 35))


async def test_within_an_iteration_the_next_message_is_of_the_new_place() -> None:
    cluster = cluster_with()
    seen: list[int] = []
    async with connected(cluster) as client, await client.consumer("s", "first", until=19) as consumer:
        async for message in consumer:
            seen.append(message.offset)
            if len(seen) == 8:
                await consumer.seek(4)
            if len(seen) == 12:
                await consumer.seek(17)
    assert seen == [*range(8), *range(4, 8), *range(17, 20)]


async def test_with_batches() -> None:
    cluster = cluster_with()
    seen: list[list[int]] = []
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        async for batch in consumer.batches(3):
            seen.append([message.offset for message in batch])
            if len(seen) == 1:
                await consumer.seek(8)
            if len(seen) == 3:
                break
    assert seen == [[0, 1, 2], [8, 9], [10, 11, 12]]


async def test_a_waiting_iteration_goes_on_in_the_new_place() -> None:
    cluster = cluster_with(2)
    seen: list[int] = []
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        iterating = asyncio.create_task(collect(consumer, seen))
        await until(lambda: len(seen) == 10)
        await consumer.seek(7)
        await until(lambda: len(seen) == 13)
        assert seen == [*range(10), 7, 8, 9]
        await consumer.close()
        await iterating


async def test_what_the_old_subscription_still_delivers_is_dropped() -> None:
    cluster = cluster_with(6)
    async with connected(cluster) as client, await client.consumer("s", "first", credit=2) as consumer:
        assert await take(consumer, 1) == [0]
        hold = cluster.hold(c.Unsubscribe)
        await consumer.seek(12)
        await until(lambda: hold.waiting)
        ((peer, old), *_) = subscribed(cluster)
        peer.subscriptions[old].deliver(10)
        peer.subscriptions[old].deliver(15)
        assert await take(consumer, 8) == list(range(12, 20))
        hold.release()


@pytest.mark.parametrize("fails", [False, True])
async def test_in_a_handler_the_message_in_hand_counts_for_nothing_also_when_it_fails(fails: bool) -> None:
    cluster = cluster_with()
    seen: list[int] = []
    async with connected(cluster) as client, await client.consumer("s", "first", until=19) as consumer:

        async def handle(message: Message) -> None:
            seen.append(message.offset)
            if len(seen) == 7:
                await consumer.seek(15)
                if fails:
                    raise ZeroDivisionError

        if fails:
            with pytest.raises(errors.HandlerFailed):
                await consumer.run(handle)
            assert (consumer.position, consumer.completed) == (15, None)
        await consumer.run(handle)
        assert seen == [*range(7), *range(15, 20)]
        assert consumer.completed == 19


async def test_of_parallel_handlers_those_in_work_end_and_those_that_wait_are_dropped() -> None:
    cluster = cluster_with()
    begun: list[int] = []
    finish = asyncio.Event()
    async with connected(cluster) as client, await client.consumer("s", "first", until=19) as consumer:

        async def handle(message: Message) -> None:
            begun.append(message.offset)
            if message.offset < 10:
                await finish.wait()

        running = asyncio.create_task(consumer.run(handle, workers=2, max_in_flight=6))
        await until(lambda: len(begun) == 2 and consumer.position == 6)
        await consumer.seek(14)
        finish.set()
        async with asyncio.timeout(5):
            await running
        assert begun[:2] == [0, 1]
        assert sorted(begun[2:]) == list(range(14, 20))
        assert consumer.completed == 19


async def test_during_an_outage_the_place_is_kept_for_when_it_is_over() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        assert await take(consumer, 3) == [0, 1, 2]
        cluster.node(0).stop()
        async with asyncio.timeout(5):
            await consumer.seek(11)
        assert consumer.position == 11
        cluster.node(0).start()
        assert await take(consumer, 3) == [11, 12, 13]


async def test_an_end_stays_the_end() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client:
        async with await client.consumer("s", "first", until=9) as consumer:
            seen: list[int] = []
            for place in (5, 0, 9, 10):
                await consumer.seek(place)
                await collect(consumer, seen)
            assert seen == [*range(5, 10), *range(10), 9]
        async with await client.consumer("s", "first", until="end") as consumer:
            fill(cluster, "s", 2)
            seen = []
            for place in (17, 12):
                await consumer.seek(place)
                await collect(consumer, seen)
            assert seen == [17, 18, 19, *range(12, 20)]
            await consumer.seek(26)
            async with asyncio.timeout(5):
                await collect(consumer, seen)
            assert len(seen) == 11


async def test_a_seek_beyond_the_end_is_told_as_any_offset_there_is() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client, watching(client) as seen, await client.consumer("s", "first") as consumer:
        await take(consumer, 1)
        await consumer.seek(1000)
        assert await take(consumer, 2) == [0, 1]
        assert [event.title for event in seen if event.level == "ERROR"] == ["stream truncated"]


async def test_nothing_that_is_no_offset_and_nothing_after_the_end_of_the_consumer() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first")
        for wrong in (-1, "middle", None, 1.5):
            with pytest.raises(errors.InvalidArgument):
                await consumer.seek(wrong)  # type: ignore[arg-type]
        assert await take(consumer, 2) == [0, 1]
        await consumer.close()
        with pytest.raises(errors.Closed):
            await consumer.seek(0)
        gone = await client.consumer("s", "first")
        cluster.delete("s")
        with pytest.raises(errors.StreamDoesNotExist):
            await collect(gone, [])
        with pytest.raises(errors.StreamDoesNotExist):
            await gone.seek(0)
        await gone.close()


async def test_f58_f92_credit_and_slots_are_whole_after_many_seeks() -> None:
    cluster = cluster_with(8)
    async with connected(cluster) as client, await client.consumer("s", "first", credit=4) as consumer:
        for place in (0, 30, 7, 12, 39, 1) * 5:
            await consumer.seek(place)
            await take(consumer, 1)
        await consumer.seek(0)
        await take(consumer, 40)
        assert consumer.take() is None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await consumer.fetch()
        ((peer, number),) = subscribed(cluster)
        assert peer.subscriptions[number].credit == 4
        assert await entities(client) == 1


async def test_a_fetch_that_is_first_in_the_new_place_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_with()
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        seen: list[int] = []
        iterating = asyncio.create_task(collect(consumer, seen))
        await until(lambda: len(seen) == 20)

        async def late(ref: m.Ref, message: object, dead: type[errors.ActorStreamError]) -> None:
            await call(ref, message, dead)
            await until(lambda: len(seen) > 20)

        monkeypatch.setattr("actorstream.consumer.call", late)
        await consumer.seek(5)
        await until(lambda: len(seen) == 35)
        assert seen[20:] == list(range(5, 20))
        await consumer.close()
        await iterating


async def test_parallel_handlers_drop_what_waits_also_when_a_fetch_was_first_in_the_new_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = cluster_with()
    begun: list[int] = []
    finish = asyncio.Event()
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:

        async def handle(message: Message) -> None:
            begun.append(message.offset)
            if message.offset < 10:
                await finish.wait()

        async def late(ref: m.Ref, message: object, dead: type[errors.ActorStreamError]) -> None:
            old = consumer._progress
            await call(ref, message, dead)
            await until(lambda: consumer._progress is not old)

        monkeypatch.setattr("actorstream.consumer.call", late)
        running = asyncio.create_task(consumer.run(handle, workers=2, max_in_flight=40))
        await until(lambda: len(begun) == 2 and consumer.position == 20)
        await consumer.seek(14)
        finish.set()
        await until(lambda: consumer.completed == 19)
        assert begun[:2] == [0, 1]
        assert sorted(begun[2:]) == list(range(14, 20))
        await consumer.close()
        await running
