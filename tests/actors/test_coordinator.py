"""Single active consumers over a broker that says and does what no real one can be made to: F66 to F75."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import actorstream
from actorstream import Activation, AutoTracking, Client, ConnectionOptions, Consumer, Message, errors, events
from actorstream.actors.coordinator import SacCoordinator
from actorstream.backoff import BackoffPolicy
from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire import commands as c
from tests.actors.clock import settle
from tests.peer import FakeCluster, Peer, Subscription, until

QUICK = BackoffPolicy(base_s=0.001, cap_s=0.01)
NEVER = AutoTracking(every=None, interval_s=None)
GROUP = "group"


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.create("s")
    return cluster


@asynccontextmanager
async def connected(cluster: FakeCluster, **options: Any) -> AsyncIterator[Client]:
    settings = ConnectionOptions(**{"backoff": QUICK, "rpc_timeout_s": 5.0, **options})
    async with actorstream.connect(cluster.uris, options=settings, opener=cluster.open) as client:
        yield client


@asynccontextmanager
async def member(client: Client, begin: Any = "first", **options: Any) -> AsyncIterator[Consumer]:
    chosen = {"tracking": NEVER, **options}
    async with await client.consumer("s", begin, name=GROUP, single_active=True, **chosen) as consumer:
        yield consumer


@asynccontextmanager
async def alone(cluster: FakeCluster, **options: Any) -> AsyncIterator[Consumer]:
    """One member of a group, which is active."""
    async with connected(cluster) as client, member(client, **options) as consumer:
        await until(lambda: consumer.active)
        yield consumer


def fill(cluster: FakeCluster, chunks: int, size: int = 5) -> int:
    """Write chunks of numbered messages, each number its offset; how many there are then."""
    for _ in range(chunks):
        start = cluster.stream("s").next_offset
        cluster.publish("s", [b"%d" % number for number in range(start, start + size)])
    return cluster.stream("s").next_offset


async def take(consumer: Consumer, count: int) -> list[int]:
    async with asyncio.timeout(5):
        return [(await anext(consumer)).offset for _ in range(count)]


def subscription(cluster: FakeCluster, index: int = 0) -> tuple[Peer, Subscription]:
    return [(peer, one) for peer in cluster.connections() for one in peer.subscriptions.values()][index]


def tell(cluster: FakeCluster, *, active: bool, index: int = 0) -> None:
    """Have the broker say so, whatever it made of the group itself."""
    peer, one = subscription(cluster, index)
    peer.update_consumer(one, active)


def answers(cluster: FakeCluster) -> list[OffsetSpecification]:
    """What clients have answered to ConsumerUpdate."""
    return [command.offset for command in cluster.heard(c.ConsumerUpdateResponse)]


async def there_and_back(cluster: FakeCluster) -> None:
    """The one member is made inactive, and then active again, since there is no other."""
    before = len(answers(cluster))
    tell(cluster, active=False)
    await until(lambda: len(answers(cluster)) == before + 2)


def at(offset: int) -> OffsetSpecification:
    return OffsetSpecification(OffsetType.OFFSET, offset)


NONE = OffsetSpecification(OffsetType.NONE)


# Stepping down


async def test_f66_a_step_down_is_answered_after_what_is_in_hand_is_finished_and_stored(cluster: FakeCluster) -> None:
    fill(cluster, 2)
    async with alone(cluster) as consumer:
        assert await take(consumer, 3) == [0, 1, 2]
        tell(cluster, active=False)
        await until(lambda: not consumer.active)
        await settle()
        assert len(answers(cluster)) == 1, "it was answered while a message was in hand"
        waiting = asyncio.create_task(anext(consumer))  # what is in hand is completed
        await until(lambda: len(answers(cluster)) == 2)
        peer, _ = subscription(cluster)
        kinds = [type(command) for command in cluster.peers[0].received + peer.received]
        assert answers(cluster)[1] == NONE
        assert cluster.stream("s").offsets == {GROUP: 2}
        assert kinds.index(c.StoreOffset) < len(kinds) - 1 - kinds[::-1].index(c.ConsumerUpdateResponse)
        # Its broker has nobody else to make active, and says so: it goes on where it was.
        assert (await waiting).offset == 3
        assert answers(cluster)[2] == at(3)


async def test_f66_the_answer_waits_until_the_store_is_read_back(cluster: FakeCluster) -> None:
    fill(cluster, 1)
    async with alone(cluster) as consumer:
        await take(consumer, 3)
        consumer.complete()
        queries = cluster.script.hold_answer(c.QueryOffset)
        tell(cluster, active=False)
        await until(lambda: queries.waiting)
        await settle()
        assert len(answers(cluster)) == 1
        queries.release()
        await until(lambda: len(answers(cluster)) >= 2)


async def test_f67_nothing_that_is_queued_is_dispatched_after_a_step_down(cluster: FakeCluster) -> None:
    fill(cluster, 5)
    async with alone(cluster) as consumer:
        assert await take(consumer, 2) == [0, 1]
        await until(lambda: len(consumer._state.deliveries) == 4)
        hold = cluster.hold(c.ConsumerUpdateResponse)
        tell(cluster, active=False)
        await until(lambda: not consumer.active)
        assert consumer.take() is None
        assert consumer.take_batch(None) == []
        assert (consumer.completed, consumer.position) == (1, 2)
        hold.release()
        assert await take(consumer, 23) == list(range(2, 25))


async def test_f58_a_hand_over_and_back_leaves_the_credit_whole(cluster: FakeCluster) -> None:
    fill(cluster, 8)
    async with alone(cluster, credit=4) as consumer:
        for turn in range(5):
            assert await take(consumer, 3) == [3 * turn, 3 * turn + 1, 3 * turn + 2]
            consumer.complete()
            await there_and_back(cluster)
        assert await take(consumer, 25) == list(range(15, 40))
        consumer.complete()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(consumer), 0.01)
        await until(lambda: subscription(cluster)[1].credit == 4)
        assert not [code for code in cluster.heard(c.Credit) if code.credit <= 0]


async def test_f66_over_the_budget_the_broker_is_answered_and_what_completes_late_does_not_count(
    cluster: FakeCluster,
) -> None:
    fill(cluster, 1)
    async with connected(cluster) as client, watching(client) as seen, member(client, hand_over_timeout_s=0.05) as one:
        assert await take(one, 3) == [0, 1, 2]
        hold = cluster.hold(c.ConsumerUpdateResponse)
        tell(cluster, active=False)
        await until(lambda: hold.waiting)
        one.complete()
        assert one.completed == 1
        (told,) = [event for event in seen if isinstance(event, events.SacDeactivated)]
        assert not told.clean
        assert "was not finished within 0.05 s" in told.reason
        hold.release()
        assert await take(one, 3) == [2, 3, 4]
    assert cluster.stream("s").offsets == {GROUP: 3}


async def test_f52_what_is_not_active_any_more_stores_nothing(cluster: FakeCluster) -> None:
    fill(cluster, 1)
    async with alone(cluster) as consumer:
        await take(consumer, 3)
        consumer.complete()
        hold = cluster.hold(c.ConsumerUpdateResponse)
        tell(cluster, active=False)
        await until(lambda: hold.waiting)
        cluster.stream("s").offsets[GROUP] = 100  # of another member
        with pytest.raises(errors.ConsumeError, match="not active"):
            await consumer.store_offset(1)
        await consumer.close()
    assert cluster.stream("s").offsets == {GROUP: 100}


async def test_f72_who_leaves_answers_first(cluster: FakeCluster) -> None:
    fill(cluster, 1)
    async with alone(cluster) as consumer:
        await take(consumer, 2)  # one is in hand, and stays there
        tell(cluster, active=False)
        await until(lambda: not consumer.active)
        peer, _ = subscription(cluster)
        await consumer.close()
        await until(lambda: c.Unsubscribe in [type(command) for command in peer.received])
        kinds = [type(command) for command in peer.received]
        left = kinds.index(c.Unsubscribe)
        assert kinds[:left].count(c.ConsumerUpdateResponse) == 2


async def test_f66_a_member_that_closes_stores_before_it_leaves(cluster: FakeCluster) -> None:
    fill(cluster, 1)
    async with alone(cluster) as consumer:
        await take(consumer, 3)
        consumer.complete()
    assert cluster.stream("s").offsets == {GROUP: 2}


async def test_f61_f72_an_update_for_nobody_is_answered_at_once(cluster: FakeCluster) -> None:
    async with alone(cluster):
        peer, one = subscription(cluster)
        peer.send(c.ConsumerUpdate(99, active=True), 7)
        await until(lambda: len(answers(cluster)) == 2)
        assert answers(cluster)[1] == NONE
        assert peer.subscriptions == {one.id: one}


# Becoming active


async def test_f62_an_update_may_come_before_the_answer_to_subscribe_is_looked_at(cluster: FakeCluster) -> None:
    fill(cluster, 1)
    hold = cluster.script.hold_answer(c.Subscribe)
    async with connected(cluster) as client:
        making = asyncio.create_task(client.consumer("s", "first", name=GROUP, single_active=True, tracking=NEVER))
        await until(lambda: hold.waiting)
        await until(lambda: answers(cluster) == [OffsetSpecification(OffsetType.FIRST)])
        hold.release()
        async with await making as consumer:
            assert await take(consumer, 5) == list(range(5))


async def test_a_repeated_activation_repeats_and_skips_nothing(cluster: FakeCluster) -> None:
    fill(cluster, 4)
    async with alone(cluster) as consumer:
        assert await take(consumer, 7) == list(range(7))
        tell(cluster, active=True)
        await until(lambda: len(answers(cluster)) == 2)
        assert consumer.active
        assert answers(cluster)[1] == at(7)
        assert await take(consumer, 13) == list(range(7, 20))


async def test_f75_an_activation_that_is_superseded_is_answered_and_forgotten(cluster: FakeCluster) -> None:
    fill(cluster, 2)
    queries = cluster.hold(c.QueryOffset)
    async with connected(cluster) as client, member(client) as consumer:
        await until(lambda: queries.waiting)
        hold = cluster.hold(c.ConsumerUpdateResponse)
        tell(cluster, active=False)
        await until(lambda: len(hold.waiting) == 2)
        assert answers(cluster) == [NONE, NONE]
        queries.release()
        await settle()
        assert not consumer.active
        hold.release()
        assert await take(consumer, 10) == list(range(10))


async def test_f70_the_stored_offset_says_what_another_member_did_meanwhile(cluster: FakeCluster) -> None:
    fill(cluster, 4)
    async with alone(cluster) as consumer:
        assert await take(consumer, 3) == [0, 1, 2]
        consumer.complete()
        hold = cluster.hold(c.ConsumerUpdateResponse)
        tell(cluster, active=False)
        await until(lambda: hold.waiting)
        cluster.stream("s").offsets[GROUP] = 11
        hold.release()
        assert await take(consumer, 8) == list(range(12, 20))


async def test_f51_f70_a_store_that_went_back_repeats_nothing_that_this_member_did_itself(cluster: FakeCluster) -> None:
    """Another one was active, from before the place where this one stopped, and did not get as far as that."""
    fill(cluster, 4)
    async with alone(cluster) as consumer:
        await take(consumer, 8)
        consumer.complete()
        hold = cluster.hold(c.ConsumerUpdateResponse)
        tell(cluster, active=False)
        await until(lambda: hold.waiting)
        cluster.stream("s").offsets[GROUP] = 4
        hold.release()
        assert await take(consumer, 12) == list(range(8, 20))


async def test_f53_an_activation_waits_for_the_stored_offset_and_assumes_none(cluster: FakeCluster) -> None:
    fill(cluster, 2)
    cluster.stream("s").offsets[GROUP] = 6
    cluster.respond(c.QueryOffset, code=6, times=5)
    async with alone(cluster) as consumer:
        assert await take(consumer, 3) == [7, 8, 9]


async def test_f53_an_offset_that_cannot_be_found_leaves_the_role_to_others(cluster: FakeCluster) -> None:
    fill(cluster, 1)
    rule = cluster.drop(c.QueryOffset)
    async with (
        connected(cluster, rpc_timeout_s=0.1) as client,
        watching(client) as seen,
        member(client, hand_over_timeout_s=0.05) as one,
    ):
        await until(lambda: len(cluster.heard(c.Subscribe)) >= 2)
        rule.cancel()
        assert await take(one, 5) == list(range(5))
    reasons = [event.reason for event in seen if isinstance(event, events.ActorRestarting)]
    assert any(isinstance(reason, errors.RequestTimeout) for reason in reasons), reasons


async def test_f49_what_retention_took_from_who_is_active_is_told_and_from_who_is_not_is_not(
    cluster: FakeCluster,
) -> None:
    fill(cluster, 4)
    async with connected(cluster) as client, watching(client) as seen, member(client) as consumer:
        await take(consumer, 3)
        consumer.complete()
        cluster.stream("s").truncate_head(10)
        queries = cluster.hold(c.QueryOffset)
        subscription(cluster)[0].drop()
        await until(lambda: queries.waiting)
        assert not [event for event in seen if isinstance(event, events.OffsetGap)]
        cluster.stream("s").offsets[GROUP] = 6
        queries.release()
        assert await take(consumer, 10) == list(range(10, 20))
        (gap,) = [event for event in seen if isinstance(event, events.OffsetGap)]
        assert (gap.wanted, gap.first) == (7, 10)


async def test_f50_an_offset_that_outlived_its_stream_is_not_believed_twice(cluster: FakeCluster) -> None:
    """The store is elsewhere, and the stream was made anew: its members read it from its beginning, and store again."""
    store = Shelf()
    store.offsets[GROUP, "s"] = 1000
    fill(cluster, 2)
    async with connected(cluster) as client, watching(client) as seen:
        async with member(client, offset_store=store) as consumer:
            assert await take(consumer, 3) == [0, 1, 2]
            subscription(cluster)[0].drop()
            assert await take(consumer, 7) == list(range(3, 10))
            consumer.complete()
        assert store.offsets == {(GROUP, "s"): 9}
        assert len([event for event in seen if isinstance(event, events.StreamTruncated)]) == 1


class Shelf:
    """An `OffsetStore` in memory."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[str, str], int] = {}

    async def load(self, name: str, stream: str) -> int | None:
        return self.offsets.get((name, stream))

    async def store(self, name: str, stream: str, offset: int) -> None:
        self.offsets[name, stream] = offset


# Losing the connection


@pytest.mark.parametrize("how", ["the connection is lost", "the stream's member is lost"])
async def test_f69_who_loses_its_subscription_is_inactive_at_once(cluster: FakeCluster, how: str) -> None:
    fill(cluster, 2)
    async with connected(cluster) as client, watching(client) as seen, member(client) as consumer:
        assert await take(consumer, 3) == [0, 1, 2]
        hold = cluster.hold(c.Subscribe)
        if how == "the connection is lost":
            subscription(cluster)[0].drop()
        else:
            cluster.move_leader("s", 0)
        await until(lambda: not consumer.active)
        assert consumer.take() is None, "what had arrived was dispatched"
        await until(lambda: hold.waiting)
        assert not consumer.active
        (told,) = [event for event in seen if isinstance(event, events.SacDeactivated)]
        assert not told.clean
        assert told.reason
        hold.release()
        assert await take(consumer, 7) == list(range(3, 10))


async def test_f68_a_member_begins_anew_only_when_nothing_from_before_is_in_hand(cluster: FakeCluster) -> None:
    """And what it had in hand meanwhile is not repeated: it was done in the end."""
    fill(cluster, 2)
    async with alone(cluster) as consumer:
        assert await take(consumer, 3) == [0, 1, 2]
        subscription(cluster)[0].drop()
        await until(lambda: len(cluster.heard(c.Subscribe)) == 2)
        await settle(200)
        assert len(answers(cluster)) == 1
        assert not consumer.active, "a handler can see that it is not the only one any more"
        assert await take(consumer, 7) == list(range(3, 10))
        assert answers(cluster)[1] == at(3)


async def test_f69_a_broker_that_flaps_all_the_time_repeats_and_skips_nothing(cluster: FakeCluster) -> None:
    total = fill(cluster, 40)
    async with alone(cluster, credit=3) as consumer:
        seen: list[int] = []
        while len(seen) < total:
            seen += await take(consumer, min(7, total - len(seen)))
            if len(seen) % 3 == 0:
                for peer in cluster.connections():
                    if peer.subscriptions:
                        peer.drop()
            elif len(seen) % 5 == 0 and subscriptions(cluster):
                tell(cluster, active=False)
        assert seen == list(range(total))


def subscriptions(cluster: FakeCluster) -> int:
    return sum(len(peer.subscriptions) for peer in cluster.connections())


# The coordinator itself


async def test_a_coordinator_that_fails_leaves_no_update_unanswered(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cluster, 2)
    finished = SacCoordinator._finished
    failures = 2

    async def fail(self: SacCoordinator, *args: Any) -> bool:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("a bug")
        return await finished(self, *args)

    async with alone(cluster) as consumer:
        monkeypatch.setattr(SacCoordinator, "_finished", fail)
        await take(consumer, 3)
        consumer.complete()
        tell(cluster, active=False)
        await until(lambda: len(answers(cluster)) == 3)
        assert failures == 0
        assert await take(consumer, 7) == list(range(3, 10))


async def test_a_coordinator_that_fails_for_good_ends_its_consumer(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: Any) -> bool:
        raise RuntimeError("a bug")

    async with alone(cluster) as consumer:
        monkeypatch.setattr(SacCoordinator, "_finished", fail)
        tell(cluster, active=False)
        with pytest.raises(errors.RestartIntensityExceeded):
            await take(consumer, 1)


async def test_an_older_broker_is_named_with_what_it_lacks() -> None:
    cluster = FakeCluster(version="3.10.25")
    cluster.create("s")
    async with connected(cluster) as client:
        with pytest.raises(errors.UnsupportedByBroker, match=r"single active consumer needs RabbitMQ 3\.11"):
            await client.consumer("s", name=GROUP, single_active=True)


async def test_f74_all_that_a_group_is_known_by_is_sent_as_strings(cluster: FakeCluster) -> None:
    async with alone(cluster):
        (command,) = cluster.heard(c.Subscribe)
        assert dict(command.properties) == {"single-active-consumer": "true", "name": GROUP}


# Handlers


async def test_f66_handlers_side_by_side_finish_and_what_is_not_begun_is_not_begun(cluster: FakeCluster) -> None:
    fill(cluster, 4)
    begun: list[int] = []
    go_on = asyncio.Event()

    async def handle(message: Message) -> None:
        begun.append(message.offset)
        await go_on.wait()

    async with alone(cluster) as consumer:
        running = asyncio.create_task(consumer.run(handle, workers=3))
        await until(lambda: len(begun) == 3)
        hold = cluster.hold(c.ConsumerUpdateResponse)
        tell(cluster, active=False)
        await until(lambda: not consumer.active)
        await settle()
        assert not hold.waiting
        go_on.set()
        await until(lambda: hold.waiting)
        assert begun == [0, 1, 2]
        assert cluster.stream("s").offsets == {GROUP: 2}
        hold.release()
        await until(lambda: len(begun) == 20)
        await consumer.close()
        await running
    assert sorted(begun) == list(range(20))


async def test_f57_a_handler_that_fails_while_stepping_down_loses_no_message(cluster: FakeCluster) -> None:
    fill(cluster, 1)
    handled: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        if message.offset == 2 and not go_on.is_set():
            begun.set()
            await go_on.wait()
            raise ValueError("not now")
        handled.append(message.offset)

    async with alone(cluster) as consumer:
        running = asyncio.create_task(consumer.run(handle))
        await begun.wait()
        tell(cluster, active=False)
        await until(lambda: not consumer.active)
        go_on.set()
        with pytest.raises(errors.HandlerFailed):
            await running
        await until(lambda: consumer.active)
        assert cluster.stream("s").offsets == {GROUP: 1}
        running = asyncio.create_task(consumer.run(handle))
        await until(lambda: len(handled) == 5)
        await consumer.close()
        await running
    assert handled == [0, 1, 2, 3, 4]


async def test_a_callback_is_told_what_is_stored_and_what_was_done_here(cluster: FakeCluster) -> None:
    fill(cluster, 4)
    told: list[Activation] = []
    async with alone(cluster, on_activation=told.append) as consumer:
        await take(consumer, 3)
        consumer.complete()
        await there_and_back(cluster)
        assert await take(consumer, 1) == [3]
    assert [(one.stored, one.completed, str(one.offset)) for one in told] == [
        (None, None, "first"),
        (2, 2, "offset(3)"),
    ]


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[list[events.Event]]:
    seen: list[events.Event] = []
    listening = client.events()

    async def listen() -> None:
        async for event in listening:
            seen.append(event)  # noqa: PERF401 - each as it comes

    task = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
