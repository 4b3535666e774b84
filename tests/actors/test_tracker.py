"""The tracker of a named consumer, over a store that loses, fails and hesitates: what is stored was completed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from actorstream import AutoTracking, BackoffPolicy, errors, events, offset
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.cursor import Cursor
from actorstream.actors.runtime import Home
from actorstream.actors.supervisor import ChildSpec, StartChild, StopChild, start_root
from actorstream.actors.tracker import CHECK_S, OffsetTracker, StoredOffset, TrackerState
from actorstream.offset import OffsetSpecification
from tests.actors.clock import ManualClock, settle, until

QUICK = BackoffPolicy(base_s=0.001, cap_s=0.01)
EVERY_SECOND = AutoTracking(every=10, interval_s=1.0)


class Broker:
    """A store as the broker is one: it takes what it is sent, or loses it, and does not say which."""

    answers = False

    def __init__(self, held: int | None = None) -> None:
        self.held = held
        self.sent: list[int] = []
        self.loads = 0
        self.loses = 0
        self.errors: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def holds(self, offset: int) -> bool:
        return self.held == offset

    async def load(self) -> int | None:
        await self.gate.wait()
        self.loads += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.held

    async def store(self, offset: int) -> None:
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(offset)
        if self.loses:
            self.loses -= 1
        else:
            self.held = offset


class Answering(Broker):
    """A store that says when it has stored, as a user's does."""

    answers = True


def state_of(
    policy: AutoTracking | None = EVERY_SECOND, *, begin: OffsetSpecification | None = None, name: str = "app"
) -> TrackerState:
    specification = begin or offset.first()
    return TrackerState(name, "s", specification, Cursor(specification), policy)


@asynccontextmanager
async def tracking(
    state: TrackerState, store: Broker, told: list[events.Event] | None = None, clock: ManualClock | None = None
) -> AsyncIterator[m.Ref]:
    heard = told if told is not None else []

    def make() -> OffsetTracker:
        return OffsetTracker(state=state, store=store, backoff=QUICK, emit=heard.append)

    root = start_root(Home.here(clock=clock), on_event=heard.append)
    try:
        yield await call(root, StartChild(ChildSpec(name="app", factory=make, shutdown_s=0.1)))
    finally:
        await call(root, StopChild("app"))
        await root.stop(block=False)


async def begin(ref: m.Ref, state: TrackerState) -> OffsetSpecification:
    """Start as the handle does."""
    specification: OffsetSpecification = await call(ref, m.StartingOffset())
    state.cursor.restart(specification)
    return specification


def complete(state: TrackerState, value: int) -> None:
    state.cursor.progress.completed = value
    state.cursor.progress.position = value + 1


def failures(told: list[events.Event]) -> list[events.OffsetNotStored]:
    return [one for one in told if isinstance(one, events.OffsetNotStored)]


# Where it starts


@pytest.mark.parametrize(("stored", "expected"), [(0, 1), (41, 42), (2**63, 2**63 + 1)])
async def test_a_consumer_starts_after_its_stored_offset_and_0_is_one(stored: int, expected: int) -> None:
    state = state_of(begin=offset.next())
    async with tracking(state, Broker(stored)) as ref:
        assert await begin(ref, state) == offset.at(expected)


@pytest.mark.parametrize("wanted", [offset.first(), offset.next(), offset.at(7)])
async def test_without_a_stored_offset_it_starts_where_its_user_said(wanted: OffsetSpecification) -> None:
    state = state_of(begin=wanted)
    async with tracking(state, Broker(None)) as ref:
        assert await begin(ref, state) == wanted


async def test_f53_an_answer_that_is_none_is_waited_for_and_never_taken_for_nothing_stored() -> None:
    store, state = Broker(99), state_of()
    store.errors = [
        errors.RequestTimeout("QueryOffset", 1.0),
        errors.StreamNotAvailable("s"),
        errors.ConnectionLost("away"),
        errors.InternalError("s"),
    ]
    async with tracking(state, store) as ref:
        assert await begin(ref, state) == offset.at(100)
        assert store.loads == 5


@pytest.mark.parametrize("error", [errors.AccessRefused("s"), errors.StreamDoesNotExist("s")])
async def test_f53_a_refusal_that_stays_is_raised(error: errors.ResponseError) -> None:
    store, state = Broker(99), state_of()
    store.errors = [error]
    async with tracking(state, store) as ref:
        with pytest.raises(type(error)):
            await begin(ref, state)
        assert state.resting


async def test_a_tracker_is_stopped_at_once_while_it_waits_for_where_to_start() -> None:
    store, state = Broker(1), state_of()
    store.gate.clear()
    async with tracking(state, store) as ref:
        starting = asyncio.create_task(begin(ref, state))
        await settle()
    with pytest.raises(errors.ActorStreamError):
        await starting


async def test_f75_an_activation_that_gave_up_leaves_no_search_behind() -> None:
    class Hanging(Broker):
        waiting = 0

        async def load(self) -> int | None:
            self.waiting += 1
            try:
                return await super().load()
            finally:
                self.waiting -= 1

    store, state = Hanging(1), state_of()
    store.gate.clear()
    async with tracking(state, store) as ref:
        for _ in range(5):
            asking = asyncio.create_task(call(ref, m.StartingOffset()))
            await settle()
            asking.cancel()
        running = [task for task in asyncio.all_tasks() if "_find_start" in task.get_name()]
        assert (store.waiting, len(running)) == (1, 1)
        store.held = 7
        store.gate.set()
        assert await begin(ref, state) == offset.at(8)


# What is stored


async def test_nothing_is_stored_before_something_is_completed() -> None:
    clock, store, state = ManualClock(), Broker(), state_of()
    async with tracking(state, store, clock=clock) as ref:
        await begin(ref, state)
        state.cursor.progress.position = 50
        ref.tell(m.StoreCompleted())
        clock.advance(5.0)
        assert await call(ref, m.FlushOffsets(1.0)) is None
        assert store.sent == []


async def test_the_completed_offset_is_stored_when_the_handle_says_that_it_is_time() -> None:
    store, state = Broker(), state_of()
    async with tracking(state, store) as ref:
        await begin(ref, state)
        for value in (9, 19, 19, 29):
            complete(state, value)
            ref.tell(m.StoreCompleted())
            await until(partial(store.holds, value))
        assert store.sent == [9, 19, 29]


async def test_by_time_only_what_is_new_is_stored() -> None:
    clock, store, state = ManualClock(), Answering(), state_of()
    async with tracking(state, store, clock=clock) as ref:
        await begin(ref, state)
        for value, sent in ((3, [3]), (3, [3]), (3, [3]), (8, [3, 8])):
            complete(state, value)
            clock.advance(1.0)
            await settle()
            assert store.sent == sent


@pytest.mark.parametrize("policy", [AutoTracking(every=10, interval_s=None), None])
async def test_without_an_interval_time_stores_nothing(policy: AutoTracking | None) -> None:
    clock, store, state = ManualClock(), Broker(), state_of(policy)
    async with tracking(state, store, clock=clock) as ref:
        await begin(ref, state)
        complete(state, 5)
        clock.advance(3 * CHECK_S)
        await settle()
        assert store.sent == []


async def test_what_is_completed_while_a_store_is_under_way_is_one_more_store() -> None:
    store, state = Answering(), state_of()
    async with tracking(state, store) as ref:
        await begin(ref, state)
        store.gate.clear()
        for value in range(20):
            complete(state, value)
            ref.tell(m.StoreCompleted())
            await settle(5)
        store.gate.set()
        await until(lambda: store.held == 19)
        assert store.sent == [0, 19]


async def test_without_a_policy_only_what_is_handed_over_is_stored_also_at_the_end() -> None:
    store, state = Broker(), state_of(None)
    async with tracking(state, store) as ref:
        await begin(ref, state)
        complete(state, 9)
        await call(ref, m.StoreThis(4))
        assert store.sent == [4]
        assert await call(ref, m.FlushOffsets(1.0)) == 4
        assert store.sent == [4]


# Never backwards


async def test_f52_a_lower_offset_is_never_sent() -> None:
    store, state = Broker(49), state_of()
    async with tracking(state, store) as ref:
        await begin(ref, state)
        for value in (60, 55, 49, 0, 61):
            await call(ref, m.StoreThis(value))
        assert store.sent == [60, 61]


async def test_f52_of_one_name_the_late_store_of_one_consumer_does_not_take_back_that_of_the_next() -> None:
    store, shared = Broker(), StoredOffset()
    old, new = state_of(), state_of()
    old.stored = new.stored = shared
    async with tracking(old, store) as leaving, tracking(new, store) as coming:
        await begin(leaving, old)
        complete(old, 100)
        await begin(coming, new)
        complete(new, 200)
        coming.tell(m.StoreCompleted())
        await until(lambda: store.held == 200)
        assert await call(leaving, m.FlushOffsets(1.0)) == 200
        assert store.sent == [200]


async def test_a_consumer_that_was_sent_elsewhere_stores_that_place_though_it_is_lower() -> None:
    store, state = Broker(500), state_of()
    store.loses = 1
    async with tracking(state, store) as ref:
        await begin(ref, state)
        complete(state, 600)
        ref.tell(m.StoreCompleted())
        await until(lambda: store.sent == [600])
        store.held = 600
        state.cursor.restart(offset.at(10))
        complete(state, 19)
        store.loses = 1
        assert await call(ref, m.FlushOffsets(2.0)) == 19
        assert store.held == 19
        assert set(store.sent[1:]) == {19}


# Never lost


async def test_f51_a_store_that_was_lost_is_sent_again_when_time_is_up() -> None:
    clock, store, state, told = ManualClock(), Broker(), state_of(), list[events.Event]()
    store.loses = 2
    async with tracking(state, store, told, clock) as ref:
        await begin(ref, state)
        complete(state, 9)
        ref.tell(m.StoreCompleted())
        await settle()
        assert (store.sent, store.held) == ([9], None)
        for _ in range(2):
            clock.advance(1.0)
            await settle()
        assert (store.sent, store.held) == ([9, 9, 9], 9)
        clock.advance(1.0)
        await settle()
        loads = store.loads
        clock.advance(10.0)
        await settle()
        assert store.loads == loads, "what is known to be stored is asked for again"
    assert [one.offset for one in told if isinstance(one, events.OffsetStored)] == [9]


async def test_f51_what_the_user_handed_over_and_the_broker_lost_is_sent_again_too() -> None:
    clock, store, state = ManualClock(), Broker(), state_of(None)
    store.loses = 1
    async with tracking(state, store, clock=clock) as ref:
        await begin(ref, state)
        await call(ref, m.StoreThis(7))
        clock.advance(CHECK_S)
        await until(lambda: store.held == 7)


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_f51_at_the_end_it_is_read_back_and_sent_until_it_is_there(lost: int) -> None:
    store, state = Broker(), state_of()
    async with tracking(state, store) as ref:
        await begin(ref, state)
        complete(state, 9)
        store.loses = lost
        assert await call(ref, m.FlushOffsets(5.0)) == 9
        assert (store.sent, store.held) == ([9] * (lost + 1), 9)


async def test_f51_a_store_that_fails_is_told_once_and_tried_again_with_the_newest() -> None:
    clock, store, state, told = ManualClock(), Answering(), state_of(), list[events.Event]()
    async with tracking(state, store, told, clock) as ref:
        await begin(ref, state)
        store.errors = [errors.ConnectionLost("away"), errors.ConnectionLost("away"), errors.ConnectionLost("away")]
        for value in (9, 19, 29):
            complete(state, value)
            ref.tell(m.StoreCompleted())
            await settle()
        assert len(failures(told)) == 1
        clock.advance(1.0)
        await until(lambda: store.held == 29)
        assert store.sent == [29]


async def test_the_end_waits_no_longer_than_it_may_and_says_what_was_not_stored() -> None:
    store, state, told = Broker(3), state_of(), list[events.Event]()
    async with tracking(state, store, told) as ref:
        await begin(ref, state)
        complete(state, 9)
        store.loses = 10**6
        with pytest.raises(errors.OffsetStoreFailed, match="'app' in stream 's' could not be stored"):
            await call(ref, m.FlushOffsets(0.05))
        assert len(failures(told)) == 1
        store.loses = 0
        assert await call(ref, m.FlushOffsets(2.0)) == 9


async def test_f52_after_a_step_down_nothing_is_stored_until_the_next_start() -> None:
    clock, store, state = ManualClock(), Broker(), state_of()
    async with tracking(state, store, clock=clock) as ref:
        await begin(ref, state)
        complete(state, 9)
        assert await call(ref, m.FlushOffsets(1.0, rest=True)) == 9
        complete(state, 15)
        ref.tell(m.StoreCompleted())
        clock.advance(2.0)
        await settle()
        with pytest.raises(errors.ConsumeError, match="not active"):
            await call(ref, m.StoreThis(15))
        assert await call(ref, m.FlushOffsets(1.0)) == 9
        assert store.sent == [9]

        store.held = 70  # by whoever was active meanwhile
        assert await begin(ref, state) == offset.at(71)
        complete(state, 75)
        assert await call(ref, m.FlushOffsets(1.0)) == 75


async def test_f84_a_tracker_that_crashes_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    store, state, told = Broker(49), state_of(), list[events.Event]()

    async def bug(_offset: int) -> None:
        raise ZeroDivisionError

    async with tracking(state, store, told) as ref:
        await begin(ref, state)
        complete(state, 59)
        with monkeypatch.context() as patch:
            patch.setattr(store, "store", bug)
            ref.tell(m.StoreCompleted())
            await until(lambda: any(isinstance(one, events.ActorRestarting) for one in told))
        await call(ref, m.StoreThis(20))
        assert store.sent == [59]
        assert await call(ref, m.FlushOffsets(1.0)) == 59


def test_a_policy_that_is_none_is_refused() -> None:
    wrong: list[Callable[[], AutoTracking]] = [
        lambda: AutoTracking(every=0),
        lambda: AutoTracking(every=True),
        lambda: AutoTracking(interval_s=0.0),
        lambda: AutoTracking(interval_s=float("nan")),
    ]
    for make in wrong:
        with pytest.raises(errors.InvalidArgument):
            make()
