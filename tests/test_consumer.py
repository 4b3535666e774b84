"""The consumer's handle: how an iteration ends, is cancelled, is shared, and what of it counts as completed."""

import asyncio
import time

import pytest

import actorstream
from actorstream import ConnectionOptions, Consumer, Message, errors
from actorstream.handling import ErrorPolicy, Skip
from actorstream.wire import commands as c
from tests.actors.test_subscriber import QUICK, connected, fill, numbered, subscribed, subscribes, take
from tests.peer import FakeCluster, until


def cluster_with(chunks: int = 0) -> FakeCluster:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", chunks)
    return cluster


async def collect(consumer: Consumer, into: list[int]) -> None:
    async for message in consumer:
        into.append(message.offset)  # noqa: PERF401 - each as it comes


# How it ends


async def test_f80_close_ends_an_iteration_that_waits() -> None:
    async with connected(cluster_with()) as client:
        consumer = await client.consumer("s")
        iterating = asyncio.create_task(collect(consumer, []))
        await until(lambda: consumer._state.deliveries._waiter is not None)
        await consumer.close()
        async with asyncio.timeout(1):
            await iterating


async def test_after_close_nothing_is_dispatched_not_even_what_has_arrived() -> None:
    cluster = cluster_with(4)
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first")
        await until(lambda: len(consumer._state.deliveries) == 4)
        assert await take(consumer, 2) == [0, 1]
        await consumer.close()
        seen: list[int] = []
        await collect(consumer, seen)
        assert seen == []
        assert [batch async for batch in consumer.batches()] == []
        assert consumer.completed == 1


async def test_i14_close_while_a_handler_runs_waits_for_nobody_and_the_run_ends_after_the_handler() -> None:
    async with connected(cluster_with(2)) as client:
        consumer = await client.consumer("s", "first")
        begun, finish = asyncio.Event(), asyncio.Event()

        async def handle(_message: Message) -> None:
            begun.set()
            await finish.wait()

        running = asyncio.create_task(consumer.run(handle))
        await begun.wait()
        async with asyncio.timeout(2):
            await consumer.close()
        assert not running.done()
        finish.set()
        async with asyncio.timeout(1):
            await running
        assert (consumer.received, consumer.completed) == (1, 0)


@pytest.mark.parametrize("command", [c.Metadata, c.StreamStats, c.Subscribe])
async def test_i14_f76_close_is_prompt_at_every_step_of_a_recovery_and_leaves_no_subscription(
    command: type[c.Command],
) -> None:
    cluster = cluster_with(1)
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first")
        seen: list[int] = []
        iterating = asyncio.create_task(collect(consumer, seen))
        await until(lambda: len(seen) == 5)
        hold = cluster.hold(command)
        subscribed(cluster)[0][0].drop()
        await until(lambda: hold.waiting)
        begin = time.monotonic()
        await consumer.close()
        assert time.monotonic() - begin < 1.0
        async with asyncio.timeout(1):
            await iterating
        hold.release()
        await until(lambda: not subscribed(cluster))
        assert subscribes(cluster) == (2 if command is c.Subscribe else 1)


async def test_f76_close_during_the_start_ends_the_start_with_closed() -> None:
    cluster = cluster_with(1)
    async with connected(cluster) as client:
        hold = cluster.hold(c.Subscribe)
        starting = asyncio.create_task(client.consumer("s"))
        await until(lambda: hold.waiting)
        (consumer,) = client._handles
        await consumer.close()
        with pytest.raises(errors.Closed):
            await starting
        assert not client._handles
        hold.release()
        await until(lambda: not subscribed(cluster))


async def test_f76_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    cluster = cluster_with(1)
    for command in (c.Metadata, c.StreamStats, c.Subscribe):
        async with connected(cluster) as client:
            hold = cluster.hold(command)
            starting = asyncio.create_task(client.consumer("s"))
            await until(lambda: hold.waiting)  # noqa: B023 - within the round
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert not client._handles
            hold.release()
            await until(lambda: not subscribed(cluster))


async def test_a_start_that_takes_too_long_says_so_and_leaves_nothing_behind() -> None:
    cluster = cluster_with(1)
    cluster.move_leader("s", None)
    async with connected(cluster) as client:
        with pytest.raises(errors.RequestTimeout, match="consumer of 's'"):
            await client.consumer("s", start_timeout_s=0.05)
        with pytest.raises(errors.RequestTimeout, match="consumer of 's'"):
            await client.consumer("s", until="end", start_timeout_s=0.05)
        assert not client._handles


async def test_closing_again_and_from_several_tasks_is_the_same_close() -> None:
    async with connected(cluster_with(1)) as client:
        consumer = await client.consumer("s")
        await asyncio.gather(*(consumer.close() for _ in range(3)))
        await consumer.close()
        consumer.pause()
        consumer.resume()
        assert "closed" in repr(consumer)


async def test_f80_what_ends_a_consumer_for_good_is_raised_behind_what_had_arrived() -> None:
    cluster = cluster_with(2)
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first")
        await until(lambda: len(consumer._state.deliveries) == 2)
        cluster.delete("s")
        await until(lambda: consumer._state.deliveries.closed)
        seen: list[int] = []
        with pytest.raises(errors.StreamDoesNotExist):
            await collect(consumer, seen)
        assert seen == list(range(10))
        with pytest.raises(errors.StreamDoesNotExist):
            await anext(consumer)
        with pytest.raises(errors.StreamDoesNotExist):
            await anext(aiter(consumer.batches()))
        await consumer.close()
        with pytest.raises(errors.StreamDoesNotExist):
            await anext(consumer)


# Shared and cancelled


async def test_a_second_task_that_waits_is_refused_and_the_first_goes_on() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client, await client.consumer("s") as consumer:
        first = asyncio.create_task(take(consumer, 5))
        await until(lambda: consumer._state.deliveries._waiter is not None)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(consumer)
        fill(cluster, "s", 1)
        assert await first == list(range(5))


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client, await client.consumer("s") as consumer:
        for start in range(0, 50, 5):
            waiting = asyncio.create_task(anext(consumer))
            await until(lambda: consumer._state.deliveries._waiter is not None)
            cluster.publish("s", numbered(5, start))
            if start % 2:
                await until(lambda: len(consumer._state.deliveries) > 0)
            waiting.cancel()
            got = await asyncio.gather(waiting, return_exceptions=True)
            rest = [number for message in got if isinstance(message, Message) for number in [message.offset]]
            assert rest + await take(consumer, 5 - len(rest)) == list(range(start, start + 5))


async def test_f57_i7_a_run_that_is_cancelled_hands_its_message_to_the_next_one() -> None:
    cluster = cluster_with(1)
    async with connected(cluster) as client, await client.consumer("s", "first", until=4) as consumer:
        handled: list[int] = []
        stuck = asyncio.Event()

        async def handle(message: Message) -> None:
            if message.offset == 2 and not stuck.is_set():
                stuck.set()
                await asyncio.Event().wait()
            handled.append(message.offset)

        running = asyncio.create_task(consumer.run(handle, on_error=ErrorPolicy(retries=3, then=Skip())))
        await stuck.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (consumer.completed, consumer.position, consumer.received) == (1, 2, 2)
        # A subscription that is made now must bring it again, too.
        subscribed(cluster)[0][0].drop()
        await until(lambda: subscribes(cluster) == 2)
        await consumer.run(handle)
        assert handled == list(range(5))
        assert consumer.completed == 4


async def test_f86_a_handler_may_use_its_own_consumer_and_client() -> None:
    cluster = cluster_with(1)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:

        async def handle(message: Message) -> None:
            assert await client.stream_exists("s")
            await client.tree()
            consumer.pause()
            consumer.resume()
            if message.offset == 3:
                await consumer.close()

        async with asyncio.timeout(5):
            await consumer.run(handle)
        assert consumer.completed == 3


async def test_f55_a_handler_that_takes_its_time_holds_up_neither_heartbeats_nor_others() -> None:
    cluster = cluster_with(3)
    cluster.create("other")
    async with (
        connected(cluster) as client,
        await client.consumer("s", "first", credit=2) as slow,
        await client.consumer("other") as other,
    ):
        assert await take(slow, 1) == [0]
        fill(cluster, "other", 20)
        assert await take(other, 100) == list(range(100))
        peer = next(peer for peer, _ in subscribed(cluster))
        assert sum(one.delivered for one in peer.subscriptions.values() if one.stream.name == "s") == 2


# In another thread


def test_f91_a_tree_in_its_own_thread_is_read_from_a_loop_that_ends_and_another_one_says_so() -> None:
    """Two `asyncio.run` after one another, with one client: the second finds it closed, and hangs nowhere."""
    cluster = cluster_with(1)

    async def first() -> tuple[actorstream.Client, Consumer]:
        async with actorstream.connect(cluster.uri, opener=cluster.open) as client:
            consumer = await client.consumer("s", "first")
            assert await take(consumer, 5) == list(range(5))
            return client, consumer

    async def second(client: actorstream.Client, consumer: Consumer) -> None:
        with pytest.raises(errors.Closed):
            await client.stream_exists("s")
        with pytest.raises(errors.Closed):
            await client.consumer("s")
        with pytest.raises(StopAsyncIteration):
            await anext(consumer)
        await consumer.close()
        await client.close()

    handles = asyncio.run(first())
    asyncio.run(second(*handles))


def test_f91_a_client_whose_loop_ended_without_close_is_dead_and_says_so() -> None:
    cluster = cluster_with(1)
    kept: list[actorstream.Client] = []

    async def forget() -> None:
        kept.append(await actorstream.connect(cluster.uri, opener=cluster.open))
        await kept[0].consumer("s")

    async def use() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(errors.ActorStreamError):
                await kept[0].stream_exists("s")
            with pytest.raises(errors.ActorStreamError):
                await kept[0].consumer("s")

    asyncio.run(forget())
    asyncio.run(use())


async def test_f55_i6_reading_across_threads_is_whole_while_the_broker_flaps() -> None:
    """The handle reads in this thread, the subscriber works in another one: what they share must bear it."""
    cluster = cluster_with(400)
    total = cluster.stream("s").next_offset
    options = ConnectionOptions(backoff=QUICK)
    async with (
        actorstream.connect(cluster.uri, options=options, opener=cluster.open, own_thread=True) as client,
        await client.consumer("s", "first", credit=3) as consumer,
    ):
        drops: list[int] = []

        def drop() -> None:
            drops.extend(peer.node.number for peer, _ in subscribed(cluster))
            for peer, _ in subscribed(cluster):
                peer.drop()

        seen: list[int] = []
        async with asyncio.timeout(20):
            while len(seen) < total:
                seen.append((await anext(consumer)).offset)
                if len(seen) % 23 == 0:
                    client._home.call_soon(drop)
        assert seen == list(range(total))
        assert len(drops) > 20
