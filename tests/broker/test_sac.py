"""Single active consumers on a real broker: one reads, and who takes over goes on where the last one stopped."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actorstream import Activation, Client, Consumer, Message, SuperStreamConsumer, errors, events, offset
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, take, until, watching
from tests.conftest import Streams

GROUP = "group"


@asynccontextmanager
async def member(client: Client, stream: str, begin: str = "first", **options: Any) -> AsyncIterator[Consumer]:
    consumer = await client.consumer(stream, begin, name=GROUP, single_active=True, **options)
    async with consumer:
        yield consumer


async def becomes_active(consumer: Consumer) -> None:
    await until(lambda: consumer.active, f"{consumer} is active")


async def test_one_of_a_group_is_active_and_reads_everything(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, member(client, name) as first, member(client, name) as second:
        await becomes_active(first)
        await publish(client, name, numbered(100), chunk=10)
        assert numbers(await take(first, 100)) == list(range(100))
        assert (first.active, second.active) == (True, False)
        with pytest.raises(TimeoutError):
            await take(second, 1, within_s=0.5)


async def test_f66_f70_who_takes_over_from_one_that_closes_goes_on_after_its_last_message(
    broker: Broker, stream: Streams
) -> None:
    """Nothing twice, nothing left out, however much the first one had fetched and not handed out."""
    name = stream({})
    async with connected(broker) as client, connected(broker) as other:
        await publish(client, name, numbered(100), chunk=10)
        async with member(client, name) as first, member(other, name) as second:
            assert numbers(await take(first, 34)) == list(range(34))
            first.complete()
            await first.close()
            await becomes_active(second)
            assert numbers(await take(second, 66)) == list(range(34, 100))
            assert await other.query_offset(GROUP, name) == 33


async def test_f70_the_first_of_a_group_begins_where_its_user_said(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client:
        await publish(client, name, numbered(30), chunk=10)
        async with member(client, name) as consumer:
            assert numbers(await take(consumer, 30)) == list(range(30))
            consumer.complete()
    async with connected(broker) as client:
        await publish(client, name, numbered(10, 30))
        async with member(client, name) as consumer:
            assert numbers(await take(consumer, 10)) == list(range(30, 40))


async def test_f70_next_is_the_next_when_the_member_came_and_not_when_it_took_over(
    broker: Broker, stream: Streams
) -> None:
    """The first one stores nothing, and is gone without a word: what came since the second one joined comes to it."""
    name = stream({})
    async with connected(broker) as client, connected(broker) as other:
        await publish(client, name, numbered(10))
        first = await client.consumer(name, "next", name=GROUP, single_active=True, tracking=None)
        async with member(other, name, "next", tracking=None) as second:
            await becomes_active(first)
            await publish(other, name, numbered(10, 10))
            assert numbers(await take(first, 5)) == list(range(10, 15))
            await first.close()
            assert numbers(await take(second, 10)) == list(range(10, 20))


async def test_events_tell_who_is_active_and_since_where(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, connected(broker) as other, watching(other) as seen:
        await publish(client, name, numbered(10))
        async with member(client, name) as first, member(other, name) as second:
            assert numbers(await take(first, 3)) == [0, 1, 2]
            first.complete()
            await first.close()
            await becomes_active(second)
            await until(lambda: [one for one in seen if isinstance(one, events.SacActivated)], "an event")
            (activated,) = [one for one in seen if isinstance(one, events.SacActivated)]
            assert (activated.stream, activated.group, activated.offset) == (name, GROUP, "offset(3)")
            assert activated.path.startswith("root/super_streams/")


async def test_the_tree_shows_the_coordinator_and_the_role_of_each_member(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, member(client, name) as first, member(client, name):
        await becomes_active(first)
        tree = {child.name: child for child in (await client.tree()).children}
        assert {child.kind for child in tree["super_streams"].children} == {"SacCoordinator"}
        assert [child.details[name] for child in tree["super_streams"].children] == ["active", "inactive"]
        assert [child.details["role"] for child in tree["subscribers"].children] == ["active", "inactive"]


async def test_a_callback_may_choose_where_an_activation_begins(broker: Broker, stream: Streams) -> None:
    name = stream({})
    told: list[Activation] = []

    async def decide(activation: Activation) -> int:
        told.append(activation)
        assert await client.query_offset(GROUP, name) is None  # it may ask the broker
        return 7

    async with connected(broker) as client:
        await publish(client, name, numbered(10))
        async with member(client, name, on_activation=decide) as consumer:
            assert numbers(await take(consumer, 3)) == [7, 8, 9]
    assert told == [Activation(name, GROUP, None, None, offset.first())]


@pytest.mark.parametrize("own_thread", [False, True])
async def test_a_callback_that_chooses_nothing_leaves_the_rule_as_it_is(
    broker: Broker, stream: Streams, own_thread: bool
) -> None:
    name = stream({})
    loop = asyncio.get_running_loop()
    told: list[Activation] = []

    def look(activation: Activation) -> None:
        assert asyncio.get_running_loop() is loop
        told.append(activation)

    async with connected(broker, own_thread=own_thread) as client:
        await publish(client, name, numbered(10))
        await client.store_offset(GROUP, name, 3)
        await until(lambda: client.query_offset(GROUP, name), "it is stored")
        async with member(client, name, on_activation=look) as consumer:
            assert numbers(await take(consumer, 6)) == list(range(4, 10))
    assert told == [Activation(name, GROUP, 3, None, offset.at(4))]


async def test_a_callback_that_fails_ends_its_consumer_with_the_reason_and_another_takes_over(
    broker: Broker, stream: Streams
) -> None:
    name = stream({})

    def refuse(_activation: Activation) -> None:
        raise LookupError("no database")

    async with connected(broker) as client:
        await publish(client, name, numbered(5))
        async with member(client, name, on_activation=refuse) as first, member(client, name) as second:
            with pytest.raises(errors.ActivationFailed, match="no database") as failed:
                await take(first, 1)
            assert isinstance(failed.value.__cause__, LookupError)
            assert numbers(await take(second, 5)) == list(range(5))


async def test_a_callback_that_takes_too_long_ends_its_consumer(broker: Broker, stream: Streams) -> None:
    name = stream({})
    cancelled = asyncio.Event()

    async def hang(_activation: Activation) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with (
        connected(broker, own_thread=True) as client,
        member(client, name, on_activation=hang, hand_over_timeout_s=0.2) as consumer,
    ):
        with pytest.raises(errors.ActivationFailed, match=r"did not return within 0\.2 s"):
            await take(consumer, 1)
        await asyncio.wait_for(cancelled.wait(), 5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"single_active": True}, "has a name"),
        ({"single_active": True, "name": "n", "until": "end"}, "no `until`"),
        ({"name": "n", "on_activation": print}, "single_active=True"),
        ({"name": "n", "single_active": 1}, "is a boolean"),
        ({"name": "n", "single_active": True, "hand_over_timeout_s": 60}, "at most 25"),
    ],
)
async def test_wrong_options_are_told_at_once(
    broker: Broker, stream: Streams, options: dict[str, Any], words: str
) -> None:
    async with connected(broker) as client:
        with pytest.raises(errors.InvalidArgument, match=words):
            await client.consumer(stream({}), **options)


async def test_a_name_is_that_of_a_group_or_of_one_consumer_never_both(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, member(client, name):
        with pytest.raises(errors.InvalidArgument, match="has a consumer named"):
            await client.consumer(name, name=GROUP)


async def test_handlers_in_parallel_finish_before_another_member_takes_over(broker: Broker, stream: Streams) -> None:
    """The first one is asked to leave while four messages are in work: none of them is handled by the other one."""
    name = stream({})
    handled: dict[str, list[int]] = {"first": [], "second": []}
    begun = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    def handler(who: str) -> Any:
        async def handle(message: Message) -> None:
            begun.release()
            await go_on.wait()
            handled[who].append(int(message.body))

        return handle

    async with connected(broker) as client, connected(broker) as other:
        await publish(client, name, numbered(40), chunk=10)
        async with member(client, name) as first, member(other, name) as second:
            running = [
                asyncio.create_task(first.run(handler("first"), workers=4)),
                asyncio.create_task(second.run(handler("second"), workers=4)),
            ]
            for _ in range(4):
                await begun.acquire()
            go_on.set()
            await until(lambda: len(handled["first"]) >= 10, "some are handled")
            await first.close()
            await until(lambda: len(handled["first"]) + len(handled["second"]) >= 40, "all are handled")
            await second.close()
            await asyncio.gather(*running)
    assert sorted(set(handled["first"] + handled["second"])) == list(range(40))


class Shelf:
    """An `OffsetStore` in memory, that fails as often as it is told."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[str, str], int] = {}
        self.failures = 0

    async def load(self, name: str, stream: str) -> int | None:
        if self.failures:
            self.failures -= 1
            raise LookupError("the shelf is away")
        return self.offsets.get((name, stream))

    async def store(self, name: str, stream: str, offset: int) -> None:
        self.offsets[name, stream] = offset


async def test_a_group_may_keep_its_offsets_elsewhere(broker: Broker, stream: Streams) -> None:
    """A store that is away when a member takes over is waited for: nothing is assumed in its place."""
    name, shelf = stream({}), Shelf()
    async with connected(broker) as client, connected(broker) as other:
        await publish(client, name, numbered(20), chunk=5)
        async with member(client, name, offset_store=shelf) as first, member(other, name, offset_store=shelf) as second:
            assert numbers(await take(first, 7)) == list(range(7))
            first.complete()
            await first.close()
            assert shelf.offsets == {(GROUP, name): 6}
            assert numbers(await take(second, 13)) == list(range(7, 20))
            second.complete()
        shelf.failures = 2
        await publish(client, name, numbered(5, 20))
        async with member(client, name, offset_store=shelf) as third:
            assert numbers(await take(third, 5)) == list(range(20, 25))
        assert shelf.failures == 0
        assert await client.query_offset(GROUP, name) is None


# Super streams


@asynccontextmanager
async def super_stream(client: Client, name: str) -> AsyncIterator[list[str]]:
    """Three partitions of a hundred messages each."""
    await client.create_super_stream(name)
    try:
        partitions = list(await client.partitions(name))
        for partition in partitions:
            await publish(client, partition, numbered(100), chunk=20)
        yield partitions
    finally:
        await client.delete_super_stream(name, missing_ok=True)


class Reading:
    """A member that reads in the background, and finishes what it has in hand before it goes."""

    def __init__(self, consumer: SuperStreamConsumer) -> None:
        self.consumer = consumer
        self.seen: list[tuple[str, int]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.task = asyncio.create_task(consumer.run(self.handle))

    async def handle(self, message: Message) -> None:
        await self.go_on.wait()
        await asyncio.sleep(0.001)
        self.seen.append((message.stream, message.offset))

    async def close(self) -> None:
        await self.consumer.close()
        await self.task


@asynccontextmanager
async def reading(client: Client, name: str, **options: Any) -> AsyncIterator[Reading]:
    consumer = await client.super_stream_consumer(name, "first", name=GROUP, single_active=True, **options)
    one = Reading(consumer)
    try:
        yield one
    finally:
        one.go_on.set()
        await one.close()


def shares(*members: Reading) -> list[str]:
    """The partitions that have a reader, each as often as it has one."""
    return sorted(partition for one in members for partition in one.consumer.active_partitions)


def processed(*members: Reading) -> list[tuple[str, int]]:
    return sorted(each for one in members for each in one.seen)


async def test_f66_f67_members_share_the_partitions_and_hand_them_over_without_repeating_anything(
    broker: Broker, stream: Streams
) -> None:
    name = stream()
    async with (
        connected(broker) as client,
        connected(broker) as other,
        super_stream(client, name) as partitions,
        reading(client, name) as first,
    ):
        await until(lambda: shares(first) == partitions, "one member has all")
        async with reading(client, name) as second, reading(other, name) as third:
            three = (first, second, third)
            await until(lambda: shares(*three) == partitions and all(map(shares, three)), "each has one partition")
            await until(lambda: len(processed(first, second, third)) >= 150, "some are processed")
            await second.close()
            await until(lambda: shares(first, third) == partitions, "two members share what three had")
        await until(lambda: shares(first) == partitions, "one member has all again")
        await until(lambda: len(processed(first, second, third)) >= 300, "all are processed")
        wanted = sorted((partition, offset) for partition in partitions for offset in range(100))
        assert processed(first, second, third) == wanted


async def test_f66_a_member_that_does_not_finish_in_time_lets_go_all_the_same(broker: Broker, stream: Streams) -> None:
    name = stream()
    async with (
        connected(broker) as client,
        connected(broker) as other,
        super_stream(client, name) as partitions,
        watching(client) as seen,
        reading(client, name, hand_over_timeout_s=0.3) as first,
    ):
        first.go_on.clear()
        await until(lambda: shares(first) == partitions, "one member has all")
        async with reading(other, name) as second:
            await until(lambda: second.consumer.active, "another one has a share")
            await until(lambda: len(shares(first, second)) == 3, "all are shared")
            first.go_on.set()
            await until(lambda: len(set(processed(first, second))) == 300, "all are processed")
            unclean = [one for one in seen if isinstance(one, events.SacDeactivated) and not one.clean]
            repeats = len(processed(first, second)) - 300
            assert repeats <= 1, "more than what was in hand is repeated"
            assert len(unclean) <= 1
            assert not unclean or "not finished within 0.3 s" in unclean[0].reason


async def test_members_of_one_client_are_told_apart(broker: Broker, stream: Streams) -> None:
    name = stream()
    async with (
        connected(broker) as client,
        super_stream(client, name) as partitions,
        reading(client, name) as first,
        reading(client, name) as second,
    ):
        await until(lambda: shares(first, second) == partitions, "they share the partitions")
        await until(lambda: len(processed(first, second)) == 300, "all are processed")
        coordinators = [
            node
            for child in (await client.tree()).children
            if child.name == "super_streams"
            for node in child.children
            if node.kind == "SacCoordinator"
        ]
        roles = sorted(str(node.details[partition]) for node in coordinators for partition in partitions)
        assert roles == ["active"] * 3 + ["inactive"] * 3


async def test_close_waits_for_a_handler_and_not_for_itself(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client:
        await publish(client, name, numbered(3))
        async with member(client, name) as consumer:

            async def handle(message: Message) -> None:
                if message.offset == 1:
                    async with asyncio.timeout(2):
                        await consumer.close()

            await consumer.run(handle)
        assert await client.query_offset(GROUP, name) == 0
        handled = asyncio.Event()
        async with member(client, name) as consumer:

            async def linger(_message: Message) -> None:
                handled.set()
                await asyncio.sleep(0.3)

            running = asyncio.create_task(consumer.run(linger))
            await handled.wait()
            await consumer.close()
            await running
        assert await client.query_offset(GROUP, name) == 1


@pytest.mark.parametrize("fault", ["its connection is closed", "its stream restarts"])
async def test_f69_a_member_that_is_cut_off_goes_on_as_the_group_says(
    chaos: Broker, chaos_stream: Streams, fault: str
) -> None:
    """Alone in its group, it repeats and skips nothing, however often that happens."""
    name, title = chaos_stream({}), f"sac-{time.time_ns()}"
    async with connected(chaos, title) as client, connected(chaos) as other, watching(client) as seen:
        async with member(client, name) as consumer:
            got: list[int] = []
            for turn in range(3):
                await publish(other, name, numbered(30, 30 * turn), chunk=10)
                got += numbers(await take(consumer, 15))
                if fault == "its connection is closed":
                    await asyncio.to_thread(chaos.management.close_connections, f"{title}-consumer")
                else:
                    await asyncio.to_thread(chaos.restart_stream, name)
                got += numbers(await take(consumer, 15, within_s=30))
            assert got == list(range(90))
        lost = [one for one in seen if isinstance(one, events.SacDeactivated)]
        assert len(lost) >= 3
        assert not any(one.clean for one in lost)
