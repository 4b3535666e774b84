"""Supervision, rule by rule. The clock is moved by hand; nothing sleeps."""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pykka
import pytest
import pytest_asyncio

from actorstream.actors.belongings import GRACE_S
from actorstream.actors.reasons import Verdict, as_answer, cause_of, classify
from actorstream.actors.restart import IntensityWindow, is_restarted
from actorstream.actors.runtime import Again, Down, Fatal, Home, Retry, Shutdown, StreamActor, ask
from actorstream.actors.supervisor import (
    ChildSpec,
    Node,
    RestartIntensity,
    RestartPolicy,
    RetryNow,
    Snapshot,
    StartChild,
    StopChild,
    Strategy,
    Supervisor,
    start_root,
)
from actorstream.backoff import BackoffPolicy
from actorstream.errors import (
    ConnectionLost,
    InvalidArgument,
    RestartIntensityExceeded,
    StreamDoesNotExist,
    StreamNotAvailable,
)
from actorstream.events import ActorGaveUp, ActorRestarting, ActorStarted, ActorStopped, Event
from tests.actors.clock import ManualClock, settle, until

WEATHER = ConnectionLost("cut")
BUG = ValueError("bug")


class Highest(random.Random):
    def uniform(self, _a: float, b: float) -> float:
        return b


class Worker(StreamActor):
    """Notes in `log` when it starts and stops; called with itself by each message."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def on_start(self) -> Any:
        self.log.append(f"+{self.name}")

    def on_receive(self, message: Any) -> Any:
        return message(self)

    def on_stop(self) -> Any:
        self.log.append(f"-{self.name}")

    def describe(self) -> dict[str, object]:
        return {"generation": self.generation}


class Stuck(Worker):
    """Ends only when its deadline is over."""

    async def on_stop(self) -> None:  # type: ignore[override]
        self.log.append(f"-{self.name}")
        await asyncio.Event().wait()


def generation(actor: StreamActor) -> int:
    return actor.generation


def end(reason: BaseException | None) -> Callable[[StreamActor], None]:
    return lambda actor: actor.exit(reason)


class Grove:
    """A root supervisor, its children, and all that is seen of them."""

    def __init__(self, home: Home, clock: ManualClock) -> None:
        self.home = home
        self.clock = clock
        self.log: list[str] = []
        self.events: list[Event] = []
        self.gone: dict[str, BaseException | None] = {}
        self.root: pykka.ActorRef[Supervisor]

    def grow(self, *children: ChildSpec, **options: Any) -> None:
        self.root = start_root(
            self.home,
            children=children,
            on_event=self.events.append,
            on_gone=lambda reason: self.gone.update(root=reason),
            rng=Highest(),
            **options,
        )

    def spec(self, name: str, factory: Callable[[list[str]], StreamActor] = Worker, **options: Any) -> ChildSpec:
        return ChildSpec(
            name=name,
            factory=lambda: factory(self.log),
            on_gone=lambda reason: self.gone.update({name: reason}),
            **options,
        )

    async def start(self, name: str, factory: Callable[[list[str]], StreamActor] = Worker, **options: Any) -> Any:
        return await ask(self.root, StartChild(self.spec(name, factory, **options)))

    async def snapshot(self) -> dict[str, Node]:
        root: Node = await ask(self.root, Snapshot())
        return {node.name: node for node in root.children}

    async def restarts(self, count: int) -> None:
        """Wait until so many restarts have been announced."""
        await until(lambda: len(self.of(ActorRestarting)) >= count)

    async def ref(self, name: str) -> pykka.ActorRef[Any]:
        place = self.root.actor_inbox.children[name]  # type: ignore[attr-defined]
        return place.ref  # type: ignore[no-any-return]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def take_log(self) -> list[str]:
        taken = self.log[:]
        self.log.clear()
        return taken


@pytest_asyncio.fixture
async def grove() -> AsyncIterator[Grove]:
    clock = ManualClock()
    it = Grove(Home.here(clock=clock), clock)
    yield it
    stopped = asyncio.ensure_future(it.root.stop(block=False))
    while not stopped.done():
        await settle()
        it.clock.advance(GRACE_S)
    await settle()
    it.clock.advance(GRACE_S)  # for what a supervisor had to leave dying when its own bound was over
    await until(lambda: clock.pending == [])


@pytest.fixture(autouse=True)
def no_bugs_of_ours(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as failed but what a test makes fail."""
    yield
    for record in caplog.get_records("call"):
        assert record.exc_info is None or "crashed" in record.message or "on_event" in record.message, record


# Starting


async def test_children_start_in_order_and_none_waits_for_another(grove: Grove) -> None:
    class Slow(Worker):
        def on_start(self) -> Any:
            self.log.append(f"+{self.name}")
            return asyncio.Event().wait()

    grove.grow(grove.spec("a", Slow), grove.spec("b"), grove.spec("c"))
    await until(lambda: len(grove.log) == 3)
    assert grove.log == ["+a", "+b", "+c"]
    nodes = await grove.snapshot()
    assert [node.state for node in nodes.values()] == ["starting", "running", "running"]
    assert grove.of(ActorStarted) == [
        ActorStarted(path="root/b", generation=1),
        ActorStarted(path="root/c", generation=1),
    ]


async def test_a_ref_is_there_before_on_start_is_done_and_asks_wait(grove: Grove) -> None:
    release = asyncio.Event()

    class Slow(Worker):
        async def on_start(self) -> None:  # type: ignore[override]
            await release.wait()

    grove.grow()
    ref = await grove.start("a", Slow)
    answer = ask(ref, generation)
    await settle()
    assert not answer.done()
    release.set()
    assert await answer == 1


async def test_two_children_of_one_name_are_refused(grove: Grove) -> None:
    grove.grow()
    await grove.start("a")
    with pytest.raises(InvalidArgument, match="'a' already"):
        await grove.start("a")


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "a/b"}, {"shutdown_s": -1.0}])
def test_a_spec_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        ChildSpec(**{"name": "a", "factory": StreamActor, **wrong})


@pytest.mark.parametrize("wrong", [{"max_restarts": -1}, {"within_s": 0.0}])
def test_an_intensity_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        RestartIntensity(**wrong)


# Whether a child is started again


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (None, Verdict.NORMAL),
        (Shutdown(), Verdict.NORMAL),
        (Again(), Verdict.AGAIN),
        (Retry(BUG), Verdict.WEATHER),
        (Fatal(WEATHER), Verdict.FATAL),
        (WEATHER, Verdict.WEATHER),
        (StreamNotAvailable(), Verdict.WEATHER),
        (StreamDoesNotExist(), Verdict.FATAL),
        (pykka.ActorDeadError(), Verdict.WEATHER),
        (RestartIntensityExceeded("a", 6, 30.0), Verdict.CRASH),
        (BUG, Verdict.CRASH),
    ],
)
def test_the_reason_says_what_it_asks_for(reason: BaseException | None, verdict: Verdict) -> None:
    assert classify(reason) is verdict


def test_reasons_are_told_without_their_wrapping() -> None:
    assert cause_of(Shutdown()) is cause_of(Again()) is None
    assert cause_of(Fatal(BUG)) is cause_of(Retry(BUG)) is cause_of(BUG) is BUG
    assert as_answer(Fatal(WEATHER), "it") is WEATHER
    assert str(Fatal(KeyError())) == "KeyError"
    assert str(Retry(WEATHER)) == "cut"


@pytest.mark.parametrize("restart", RestartPolicy)
@pytest.mark.parametrize("verdict", Verdict)
def test_policies(restart: RestartPolicy, verdict: Verdict) -> None:
    expected = {
        RestartPolicy.PERMANENT: {Verdict.NORMAL, Verdict.AGAIN, Verdict.WEATHER, Verdict.CRASH},
        RestartPolicy.TRANSIENT: {Verdict.AGAIN, Verdict.WEATHER, Verdict.CRASH},
        RestartPolicy.TEMPORARY: set[Verdict](),
    }
    assert is_restarted(restart, verdict) is (verdict in expected[restart])


@pytest.mark.parametrize("reason", [None, WEATHER, BUG])
@pytest.mark.parametrize("restart", [RestartPolicy.PERMANENT, RestartPolicy.TRANSIENT])
async def test_a_child_is_started_again_at_the_same_place(
    grove: Grove, reason: BaseException | None, restart: RestartPolicy
) -> None:
    grove.grow()
    ref = await grove.start("a", restart=restart)
    ref.tell(end(reason))
    if restart is RestartPolicy.TRANSIENT and reason is None:
        await until(lambda: "a" in grove.gone)
        assert grove.gone["a"] is None
        assert not ref.is_alive()
        assert grove.of(ActorStopped) == [ActorStopped(path="root/a", reason=None)]
        return
    assert await ask(ref, generation) == 2
    assert grove.of(ActorRestarting) == [ActorRestarting(path="root/a", reason=reason, attempt=1, delay_s=0.0)]
    assert not grove.gone


async def test_a_child_that_asks_for_its_next_life_gets_it_at_once_and_as_often_as_it_likes(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a")
    for lives in range(2, 22):
        ref.tell(end(Again()))
        assert await ask(ref, generation) == lives
    assert not grove.of(ActorRestarting)
    assert not grove.gone


@pytest.mark.parametrize("reason", [None, WEATHER, BUG, Fatal(BUG)])
async def test_a_temporary_child_is_not_started_again_and_its_owner_is_told(
    grove: Grove, reason: BaseException | None
) -> None:
    grove.grow()
    ref = await grove.start("a", restart=RestartPolicy.TEMPORARY)
    ref.tell(end(reason))
    await until(lambda: "a" in grove.gone)
    assert grove.gone["a"] is cause_of(reason)
    # A lost connection is an ordinary end for a child that nobody meant to start again; a bug never is.
    assert bool(grove.of(ActorGaveUp)) == (reason is BUG)
    assert bool(grove.of(ActorStopped)) == (reason is not BUG)
    assert not ref.is_alive()
    assert await grove.snapshot() == {}
    assert (await grove.start("a", restart=RestartPolicy.TEMPORARY)).actor_urn != ref.actor_urn


async def test_f87_what_another_try_does_not_change_is_not_tried_again(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a")
    error = StreamDoesNotExist("orders")
    ref.tell(end(error))
    await until(lambda: "a" in grove.gone)
    assert grove.gone["a"] is error
    assert grove.of(ActorGaveUp) == [ActorGaveUp(path="root/a", reason=error)]
    assert grove.of(ActorRestarting) == []


async def test_a_spec_may_judge_reasons_by_itself(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a", classify=lambda reason: Verdict.FATAL if reason is BUG else Verdict.NORMAL)
    ref.tell(end(BUG))
    await until(lambda: grove.gone == {"a": BUG})


@pytest.mark.parametrize("where", ["factory", "on_start", "async on_start"])
async def test_a_child_that_fails_to_start_follows_the_same_rules_as_one_that_fails_later(
    grove: Grove, where: str
) -> None:
    tries: list[int] = []

    class Failing(Worker):
        def on_start(self) -> Any:
            async def fail() -> None:
                raise WEATHER

            if where == "async on_start":
                return fail()
            raise WEATHER

    def factory(log: list[str]) -> StreamActor:
        tries.append(1)
        if len(tries) > 3:
            return Worker(log)
        if where == "factory":
            raise WEATHER
        return Failing(log)

    grove.grow(backoff=BackoffPolicy(base_s=1.0, factor=2.0))
    ref = await grove.start("a", factory)
    answer = ask(ref, generation)
    for number, delay in enumerate((0.0, 1.0, 2.0), 1):
        await grove.restarts(number)
        assert grove.of(ActorRestarting)[number - 1].delay_s == delay
        grove.clock.advance(delay)
    assert await answer in (1, 4), "the first that could be made"
    assert len(tries) == 4


async def test_a_factory_that_always_fails_for_a_bug_is_given_up(grove: Grove) -> None:
    def cannot(_log: list[str]) -> StreamActor:
        raise BUG

    grove.grow()
    ref = await grove.start("a", cannot, intensity=RestartIntensity(max_restarts=2))
    with pytest.raises(RestartIntensityExceeded):
        await ask(ref, generation)
    assert grove.gone["a"].__cause__ is BUG  # type: ignore[union-attr]


# What survives


async def test_what_is_told_and_asked_between_two_lives_is_handled_by_the_next(grove: Grove) -> None:
    grove.grow(backoff=BackoffPolicy(base_s=1.0))
    ref = await grove.start("a")
    told: list[int] = []
    for _ in range(2):  # the first retry is at once, the second waits
        ref.tell(end(WEATHER))
    await grove.restarts(2)
    ref.tell(lambda actor: told.append(actor.generation))
    answer = ask(ref, generation)
    await settle()
    assert not told
    assert not answer.done()
    assert ref.is_alive()
    proxy = ref.proxy()
    grove.clock.advance(1.0)
    assert await answer == 3
    assert told == [3]
    assert await proxy.generation == 3


async def test_f10_a_timer_of_an_earlier_incarnation_is_not_heard(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a")
    heard: list[int] = []

    def leave_messages(actor: StreamActor) -> None:
        actor.call_later(1.0, lambda _actor: heard.append(1))
        actor.tell_self(lambda _actor: heard.append(2))
        actor.exit(WEATHER)

    ref.tell(leave_messages)
    assert await ask(ref, generation) == 2
    grove.clock.advance(2.0)
    await settle()
    assert not heard


async def test_who_monitors_is_told_of_each_incarnation_by_its_generation(grove: Grove) -> None:
    downs: list[object] = []

    class Watcher(StreamActor):
        def on_receive(self, message: Any) -> None:
            if isinstance(message, Down):
                downs.append(message)
            else:
                self.monitor(ref)

    grove.grow()
    ref = await grove.start("a")
    watcher = await grove.start("watcher", lambda _log: Watcher())
    await ask(watcher, "begin")
    for reason in (WEATHER, BUG):
        ref.tell(end(reason))
        await ask(ref, generation)
        await ask(watcher, "again")
    assert downs == [Down(ref, 1, WEATHER), Down(ref, 2, BUG)]


# Weather


async def test_f83_weather_pauses_grow_and_never_count_as_intensity(grove: Grove) -> None:
    grove.grow(intensity=RestartIntensity(max_restarts=0), backoff=BackoffPolicy(base_s=0.5, factor=2.0, cap_s=3.0))
    ref = await grove.start("a")
    for attempt, expected in enumerate([0.0, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0], 1):
        ref.tell(end(Retry(WEATHER)))
        await until(lambda: len(grove.of(ActorRestarting)) == attempt)  # noqa: B023
        event = grove.of(ActorRestarting)[-1]
        assert (event.delay_s, event.reason) == (expected, WEATHER)
        grove.clock.advance(expected)
        await ask(ref, generation)
    assert [event.attempt for event in grove.of(ActorRestarting)] == [1, 2, 3, 4, 5, 6, 7]
    grove.clock.advance(30.0)
    ref.tell(end(WEATHER))
    await ask(ref, generation)
    assert grove.of(ActorRestarting)[-1].delay_s == 0.0, "it was up for a stable period"


async def test_f82_each_child_has_a_pause_of_its_own(grove: Grove) -> None:
    grove.grow(backoff=BackoffPolicy(base_s=5.0))
    one = await grove.start("one")
    other = await grove.start("other", backoff=BackoffPolicy(base_s=7.0))
    for ref in (one, one, other, other):
        ref.tell(end(WEATHER))
    await grove.restarts(4)
    nodes = await grove.snapshot()
    assert {name: (node.state, node.next_retry_s) for name, node in nodes.items()} == {
        "one": ("waiting", 5.0),
        "other": ("waiting", 7.0),
    }


async def test_f85_a_slow_child_delays_nobody(grove: Grove) -> None:
    class Slow(Worker):
        async def on_start(self) -> None:  # type: ignore[override]
            if self.generation > 1:
                await asyncio.Event().wait()

    grove.grow()
    slow, other = await grove.start("slow", Slow), await grove.start("other")
    slow.tell(end(WEATHER))
    other.tell(end(WEATHER))
    assert await ask(other, generation) == 2


async def test_a_pause_is_cut_short_on_demand(grove: Grove) -> None:
    grove.grow(backoff=BackoffPolicy(base_s=100.0, cap_s=100.0))
    ref = await grove.start("a")
    ref.tell(end(WEATHER))
    ref.tell(end(WEATHER))
    await grove.restarts(2)
    assert await ask(grove.root, RetryNow("a")) is True
    assert await ask(ref, generation) == 3
    assert await ask(grove.root, RetryNow("a")) is False
    assert await ask(grove.root, RetryNow("b")) is False
    assert grove.clock.pending == []


async def test_a_pause_that_ends_while_a_stop_is_on_its_way_starts_nothing(grove: Grove) -> None:
    grove.grow(backoff=BackoffPolicy(base_s=1.0))
    ref = await grove.start("a")
    ref.tell(end(WEATHER))
    ref.tell(end(WEATHER))
    await grove.restarts(2)
    stopped = ask(grove.root, StopChild("a"))
    grove.clock.advance(1.0)  # its message is behind the stop
    assert await stopped is True
    await settle()
    assert not ref.is_alive()
    assert grove.log[-1] == "-a"


# Intensity


async def test_crashes_restart_at_once_and_one_too_many_removes_a_child_with_its_own_intensity(grove: Grove) -> None:
    grove.grow()
    sibling = await grove.start("sibling")
    ref = await grove.start("a", intensity=RestartIntensity(max_restarts=2, within_s=10.0))
    for number in range(3):
        ref.tell(end(ValueError(number)))
    with pytest.raises(RestartIntensityExceeded, match="root/a failed 3 times within 10 s"):
        await ask(ref, generation)
    gone = grove.gone["a"]
    assert isinstance(gone, RestartIntensityExceeded)
    assert str(gone.__cause__) == "2"
    assert [event.delay_s for event in grove.of(ActorRestarting)] == [0.0, 0.0]
    assert grove.of(ActorGaveUp) == [ActorGaveUp(path="root/a", reason=gone)]
    assert await ask(sibling, generation) == 1


async def test_crashes_that_are_far_apart_are_forgiven(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a", intensity=RestartIntensity(max_restarts=1, within_s=10.0))
    for count in range(2, 6):
        ref.tell(end(BUG))
        assert await ask(ref, generation) == count
        grove.clock.advance(10.0)


def test_the_window_slides() -> None:
    window = IntensityWindow(RestartIntensity(max_restarts=2, within_s=10.0))
    assert [window.failed(now) for now in (0.0, 5.0, 10.0, 14.9, 24.0)] == [False, False, False, True, False]
    assert window.count == 2


async def test_a_permanent_child_that_keeps_ending_normally_is_given_up_too(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a", intensity=RestartIntensity(max_restarts=1))
    ref.tell(end(None))
    ref.tell(end(None))
    await until(lambda: "a" in grove.gone)
    assert isinstance(grove.gone["a"], RestartIntensityExceeded)
    assert grove.gone["a"].__cause__ is None


async def test_f81_the_supervisors_intensity_ends_the_tree_and_every_owner_is_told_why(grove: Grove) -> None:
    grove.grow(intensity=RestartIntensity(max_restarts=1))
    ref, sibling = await grove.start("a"), await grove.start("sibling")
    ref.tell(end(BUG))
    ref.tell(end(BUG))
    await until(lambda: "root" in grove.gone)
    reason = grove.gone["root"]
    assert isinstance(reason, RestartIntensityExceeded)
    assert reason.__cause__ is BUG
    assert grove.gone == {"root": reason, "a": reason, "sibling": reason}
    assert grove.log[-1] == "-sibling"
    assert grove.of(ActorGaveUp) == [ActorGaveUp(path="root", reason=reason)]
    for dead in (ref, sibling, grove.root):
        with pytest.raises(RestartIntensityExceeded):
            await ask(dead, generation)


async def test_a_nested_supervisor_that_gives_up_is_one_crash_of_its_parents_child(grove: Grove) -> None:
    """Its own children come back at their old places; those added later are gone, and their owners know."""
    static = grove.spec("static")

    def nested(_log: list[str]) -> StreamActor:
        return Supervisor([static], intensity=RestartIntensity(max_restarts=0), on_event=grove.events.append)

    grove.grow(intensity=RestartIntensity(max_restarts=1))
    branch = await grove.start("branch", nested, shutdown_s=math.inf)
    leaf = await ask(branch, StartChild(grove.spec("leaf")))
    [node] = (await grove.snapshot())["branch"].children[:1]
    assert node.name == "static"
    static_ref = branch.actor_inbox.children["static"].ref
    answer = ask(static_ref, generation)
    assert await answer == 1
    leaf.tell(end(BUG))
    await until(lambda: "leaf" in grove.gone)
    assert isinstance(grove.gone["leaf"], RestartIntensityExceeded)
    assert await ask(static_ref, generation) == 2
    assert static_ref.is_alive()
    assert not leaf.is_alive()
    snapshot = (await grove.snapshot())["branch"]
    assert (snapshot.generation, snapshot.restarts) == (2, 1)
    assert snapshot.last_reason == "root/branch/leaf failed 1 times within 30 s"
    assert [child.name for child in snapshot.children] == ["static"]
    static_ref.tell(end(BUG))
    await until(lambda: "root" in grove.gone)
    assert set(grove.gone) == {"root", "branch", "leaf", "static"}
    reason = grove.gone["root"]
    assert isinstance(reason, RestartIntensityExceeded)
    assert isinstance(reason.__cause__, RestartIntensityExceeded)
    assert reason.__cause__.__cause__ is BUG


# Strategies


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["-b", "+b"]),
        (Strategy.ONE_FOR_ALL, ["-b", "-d", "-c", "-a", "+a", "+b", "+c", "+d"]),
        (Strategy.REST_FOR_ONE, ["-b", "-d", "-c", "+b", "+c", "+d"]),
    ],
)
@pytest.mark.parametrize("reason", [BUG, WEATHER])
async def test_strategies_stop_in_reverse_order_and_start_in_order(
    grove: Grove, strategy: Strategy, expected: list[str], reason: BaseException
) -> None:
    grove.grow(*[grove.spec(name) for name in "abcd"], strategy=strategy)
    await until(lambda: len(grove.of(ActorStarted)) == 4)
    grove.take_log()
    (await grove.ref("b")).tell(end(reason))
    await until(lambda: len(grove.log) == len(expected))
    assert grove.take_log() == expected
    assert [event.path for event in grove.of(ActorRestarting)] == ["root/b"]


async def test_a_group_waits_out_the_pause_together(grove: Grove) -> None:
    grove.grow(*[grove.spec(name) for name in "abc"], strategy=Strategy.REST_FOR_ONE, backoff=BackoffPolicy(base_s=4.0))
    b = None
    for _ in range(2):
        await until(lambda: len(grove.log) >= 3)
        await settle()
        b = await grove.ref("b")
        b.tell(end(WEATHER))
        await settle()
    nodes = await grove.snapshot()
    assert {name: (node.state, node.next_retry_s) for name, node in nodes.items()} == {
        "a": ("running", None),
        "b": ("waiting", 4.0),
        "c": ("waiting", 4.0),
    }
    assert await ask(grove.root, RetryNow("c")) is True
    assert b is not None
    assert await ask(b, generation) == 3
    assert grove.clock.pending == []


async def test_a_pause_of_a_group_ends_by_itself(grove: Grove) -> None:
    grove.grow(grove.spec("a"), grove.spec("b"), strategy=Strategy.ONE_FOR_ALL, backoff=BackoffPolicy(base_s=4.0))
    await settle()
    for _ in range(2):
        (await grove.ref("a")).tell(end(WEATHER))
        await settle()
    grove.take_log()
    grove.clock.advance(3.9)
    await settle()
    assert grove.log == []
    grove.clock.advance(0.2)
    await until(lambda: grove.log == ["+a", "+b"])


@pytest.mark.parametrize("second", [BUG, WEATHER])
async def test_f10_children_that_fail_at_the_same_moment_are_restarted_once(grove: Grove, second: Exception) -> None:
    grove.grow(
        *[grove.spec(name) for name in "abc"],
        strategy=Strategy.ONE_FOR_ALL,
        intensity=RestartIntensity(max_restarts=1),
    )
    await until(lambda: len(grove.of(ActorStarted)) == 3)
    (await grove.ref("a")).tell(end(BUG))
    (await grove.ref("c")).tell(end(second))
    await until(lambda: len(grove.of(ActorStarted)) == 6)
    await settle()
    assert [event.generation for event in grove.of(ActorStarted)] == [1, 1, 1, 2, 2, 2]
    assert len(grove.of(ActorRestarting)) == 1
    assert "root" not in grove.gone


async def test_f10_a_child_that_fails_while_its_group_is_being_stopped_is_part_of_the_same_restart(
    grove: Grove,
) -> None:
    grove.grow(
        grove.spec("a"),
        grove.spec("b"),
        grove.spec("c", Stuck, shutdown_s=2.0),
        strategy=Strategy.ONE_FOR_ALL,
        intensity=RestartIntensity(max_restarts=1),
    )
    await until(lambda: len(grove.of(ActorStarted)) == 3)
    (await grove.ref("b")).tell(end(BUG))
    await until(lambda: "-c" in grove.log)  # it takes its time to stop
    (await grove.ref("a")).tell(end(BUG))
    await until(lambda: "-a" in grove.log)
    assert (await grove.snapshot())["c"].state == "stopping", "the supervisor answers meanwhile"
    grove.clock.advance(2.0)
    await until(lambda: len(grove.of(ActorStarted)) == 6)
    assert [event.generation for event in grove.of(ActorStarted)] == [1, 1, 1, 2, 2, 2]
    assert "root" not in grove.gone


async def test_a_group_grows_when_a_child_further_up_fails_meanwhile(grove: Grove) -> None:
    grove.grow(*[grove.spec(name) for name in "abc"], strategy=Strategy.REST_FOR_ONE, backoff=BackoffPolicy(base_s=4.0))
    await until(lambda: len(grove.of(ActorStarted)) == 3)
    for _ in range(2):
        (await grove.ref("c")).tell(end(WEATHER))
        await settle()
    grove.take_log()
    (await grove.ref("a")).tell(end(WEATHER))
    await settle()
    assert grove.take_log() == ["-a", "-b"]
    assert {node.state for node in (await grove.snapshot()).values()} == {"waiting"}
    grove.clock.advance(4.0)
    await until(lambda: grove.log == ["+a", "+b", "+c"])


async def test_a_temporary_sibling_ends_with_its_group_and_does_not_come_back(grove: Grove) -> None:
    grove.grow(grove.spec("a"), grove.spec("b", restart=RestartPolicy.TEMPORARY), strategy=Strategy.ONE_FOR_ALL)
    await until(lambda: len(grove.of(ActorStarted)) == 2)
    (await grove.ref("a")).tell(end(BUG))
    await until(lambda: grove.log == ["+a", "+b", "-a", "-b", "+a"])
    assert grove.gone == {"b": BUG}


async def test_a_child_that_is_stopped_for_good_leaves_its_group(grove: Grove) -> None:
    grove.grow(*[grove.spec(name) for name in "ab"], strategy=Strategy.ONE_FOR_ALL, backoff=BackoffPolicy(base_s=4.0))
    await settle()
    for _ in range(2):
        (await grove.ref("a")).tell(end(WEATHER))
        await settle()
    assert await ask(grove.root, StopChild("a")) is True
    assert (await grove.snapshot())["b"].next_retry_s == 4.0
    grove.take_log()
    grove.clock.advance(4.0)
    await until(lambda: grove.log == ["+b"])
    b = await grove.ref("b")
    b.tell(end(WEATHER))
    assert await ask(b, generation) == 4


async def test_a_group_of_which_nobody_is_left_is_forgotten(grove: Grove) -> None:
    grove.grow(grove.spec("a"), strategy=Strategy.ONE_FOR_ALL, backoff=BackoffPolicy(base_s=4.0))
    await settle()
    for _ in range(2):
        (await grove.ref("a")).tell(end(WEATHER))
        await settle()
    assert await ask(grove.root, StopChild("a")) is True
    assert grove.clock.pending == []
    ref = await grove.start("a")
    ref.tell(end(WEATHER))
    assert await ask(ref, generation) == 2


async def test_a_member_that_ends_for_good_during_its_groups_restart_is_removed(grove: Grove) -> None:
    grove.grow(grove.spec("a"), grove.spec("b"), grove.spec("c", Stuck, shutdown_s=2.0), strategy=Strategy.ONE_FOR_ALL)
    await until(lambda: len(grove.of(ActorStarted)) == 3)
    (await grove.ref("b")).tell(end(BUG))
    await until(lambda: "-c" in grove.log)
    (await grove.ref("a")).tell(end(Fatal(BUG)))
    await until(lambda: "a" in grove.gone)
    grove.clock.advance(2.0)
    await until(lambda: len(grove.of(ActorStarted)) == 5)
    assert set(await grove.snapshot()) == {"b", "c"}


# Stopping


async def test_a_child_is_stopped_behind_what_it_was_told_and_removed(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a")
    ref.tell(lambda actor: actor.log.append("told"))
    assert await ask(grove.root, StopChild("a")) is True
    assert grove.log == ["+a", "told", "-a"]
    assert grove.gone == {"a": None}
    assert grove.of(ActorStopped) == [ActorStopped(path="root/a", reason=None)]
    assert await ask(grove.root, StopChild("a")) is False


async def test_the_reason_of_a_stop_is_what_the_owner_and_late_asks_get(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a")
    reason = ConnectionLost("nobody needs it")
    await ask(grove.root, StopChild("a", reason))
    assert grove.gone == {"a": reason}
    with pytest.raises(ConnectionLost, match="nobody"):
        await ask(ref, generation)


async def test_two_stops_of_one_child_are_both_answered(grove: Grove) -> None:
    grove.grow()
    await grove.start("a", Stuck, shutdown_s=2.0)
    answers = [ask(grove.root, StopChild("a")) for _ in range(2)]
    await settle()
    grove.clock.advance(2.0)
    assert [await answer for answer in answers] == [True, True]


async def test_a_crash_during_an_ordered_stop_is_a_stop(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a", intensity=RestartIntensity(max_restarts=0))
    ref.tell(end(BUG))
    assert await ask(grove.root, StopChild("a")) is True
    assert grove.gone == {"a": None}


@pytest.mark.parametrize("stuck_in", ["handler", "on_start", "on_stop"])
async def test_f76_a_stuck_child_cannot_hang_its_supervisor(grove: Grove, stuck_in: str) -> None:
    class StuckSomewhere(Worker):
        async def _stick(self, where: str) -> None:
            if where == stuck_in:
                self.log.append(f"stuck in {where}")
                await asyncio.Event().wait()

        async def on_start(self) -> None:  # type: ignore[override]
            await self._stick("on_start")

        async def on_receive(self, _message: object) -> None:
            await self._stick("handler")

        async def on_stop(self) -> None:  # type: ignore[override]
            await self._stick("on_stop")

    grove.grow()
    sibling = await grove.start("sibling")
    ref = await grove.start("a", StuckSomewhere, shutdown_s=3.0)
    ref.tell("go")
    if stuck_in != "on_stop":
        await until(lambda: f"stuck in {stuck_in}" in grove.log)
    else:
        await until(lambda: len(grove.of(ActorStarted)) == 2)
    assert (await grove.snapshot())["a"].state == ("starting" if stuck_in == "on_start" else "running")
    stopped = ask(grove.root, StopChild("a"))
    assert await ask(sibling, generation) == 1
    if stuck_in == "on_start":
        assert await stopped is True, "an on_start is not waited for"
        return
    await settle()
    assert (await grove.snapshot())["a"].state == ("running" if stuck_in == "handler" else "stopping")
    assert not stopped.done()
    grove.clock.advance(3.0)
    assert await stopped is True


async def test_f76_stopping_the_root_while_children_start_and_wait_is_prompt(grove: Grove) -> None:
    class Slow(Worker):
        async def on_start(self) -> None:  # type: ignore[override]
            await asyncio.Event().wait()

    grove.grow(backoff=BackoffPolicy(base_s=100.0, cap_s=100.0))
    await grove.start("starting", Slow)
    waiting = await grove.start("waiting")
    waiting.tell(end(WEATHER))
    waiting.tell(end(WEATHER))
    await grove.restarts(2)
    answer = ask(waiting, generation)
    assert await grove.root.stop(block=False)
    assert grove.gone == {"starting": None, "waiting": None, "root": None}
    with pytest.raises(pykka.ActorDeadError):
        await answer


async def test_the_root_stops_its_children_in_reverse_order_each_within_its_bound(grove: Grove) -> None:
    grove.grow(grove.spec("a"), grove.spec("b", Stuck, shutdown_s=2.0))
    await grove.start("c")
    await grove.start("d", Stuck, shutdown_s=3.0)
    grove.take_log()
    stopped = asyncio.ensure_future(grove.root.stop(block=False))
    await until(lambda: grove.log == ["-d"])
    grove.clock.advance(3.0)
    await until(lambda: grove.log == ["-d", "-c", "-b"])
    assert not stopped.done()
    grove.clock.advance(2.0)
    assert await stopped
    assert grove.log == ["-d", "-c", "-b", "-a"]
    assert grove.gone == dict.fromkeys(["a", "b", "c", "d", "root"])


async def test_children_that_do_not_need_each_other_are_stopped_together(grove: Grove) -> None:
    grove.grow()
    branch = await grove.start("branch", lambda _log: Supervisor(together=True))
    for name in "abc":
        await ask(branch, StartChild(grove.spec(name, Stuck, shutdown_s=3.0)))
    stopped = asyncio.ensure_future(grove.root.stop(block=False))
    await until(lambda: grove.log.count("-a") + grove.log.count("-b") + grove.log.count("-c") == 3)
    grove.clock.advance(3.0)
    assert await stopped


async def test_a_supervisor_whose_own_bound_is_over_ends_what_is_left_at_once(grove: Grove) -> None:
    grove.grow()
    branch = await grove.start("branch", lambda _log: Supervisor(), shutdown_s=2.0)
    for name in "abc":
        await ask(branch, StartChild(grove.spec(name, Stuck, shutdown_s=50.0)))
    stopped = ask(grove.root, StopChild("branch"))
    await until(lambda: "-c" in grove.log)
    grove.clock.advance(2.0)
    assert await stopped is True
    assert set(grove.gone) == {"a", "b", "c", "branch"}
    await until(lambda: "-a" in grove.log)
    grove.clock.advance(GRACE_S)
    await settle()
    assert grove.clock.pending == []


async def test_f76_nothing_is_restarted_once_the_supervisor_is_ending(grove: Grove) -> None:
    grove.grow(grove.spec("a"), grove.spec("b", Stuck, shutdown_s=2.0))
    await settle()
    a = await grove.ref("a")
    stopped = asyncio.ensure_future(grove.root.stop(block=False))
    await until(lambda: "-b" in grove.log)
    a.tell(end(BUG))
    await until(lambda: "-a" in grove.log)
    grove.clock.advance(2.0)
    assert await stopped
    assert grove.log == ["+a", "+b", "-b", "-a"]


async def test_a_stop_of_a_child_that_is_pending_when_the_root_stops_is_answered(grove: Grove) -> None:
    grove.grow()
    await grove.start("a", Stuck, shutdown_s=2.0)
    child_stopped = ask(grove.root, StopChild("a", WEATHER))
    root_stopped = asyncio.ensure_future(grove.root.stop(block=False))
    await settle()
    grove.clock.advance(2.0)
    assert await child_stopped is True
    assert await root_stopped
    assert grove.gone == {"a": WEATHER, "root": None}


async def test_a_stop_that_a_stranger_asks_of_a_child_is_an_ordinary_end(grove: Grove) -> None:
    grove.grow()
    permanent, transient = await grove.start("p"), await grove.start("t", restart=RestartPolicy.TRANSIENT)
    assert await permanent.stop(block=False)
    assert await transient.stop(block=False)
    assert await ask(permanent, generation) == 2
    await until(lambda: grove.gone == {"t": None})


async def test_a_stop_that_was_meant_for_an_incarnation_that_crashed_spares_the_next(grove: Grove) -> None:
    grove.grow()
    ref = await grove.start("a")
    ref.tell(end(BUG))
    assert await ref.stop(block=False)
    assert await ask(ref, generation) == 2
    assert len(grove.of(ActorRestarting)) == 1


async def test_a_stop_that_a_stranger_asks_between_two_lives_ends_the_next(grove: Grove) -> None:
    grove.grow(backoff=BackoffPolicy(base_s=1.0))
    ref = await grove.start("a", restart=RestartPolicy.TRANSIENT)
    ref.tell(end(WEATHER))
    ref.tell(end(WEATHER))
    await grove.restarts(2)
    told: list[int] = []
    ref.tell(lambda actor: told.append(actor.generation))
    stopped = asyncio.ensure_future(ref.stop(block=False))
    await settle()
    grove.clock.advance(1.0)
    assert await stopped
    await until(lambda: grove.gone == {"a": None})
    assert told == [3]


async def test_an_incarnation_that_was_left_behind_does_not_disturb_the_next(
    grove: Grove, caplog: pytest.LogCaptureFixture
) -> None:
    """A supervisor that was killed comes back while a child of its former life is still ending."""
    static = grove.spec("static", Stuck, shutdown_s=50.0)
    grove.grow()
    branch = await grove.start("branch", lambda _log: Supervisor([static]), shutdown_s=2.0)
    await until(lambda: "+static" in grove.log)
    ref = branch.actor_inbox.children["static"].ref
    branch.tell(pykka.messages.ProxyCall(("exit",), (BUG,), {}))
    await until(lambda: "-static" in grove.log)
    grove.clock.advance(2.0)
    assert await ask(ref, generation) == 2
    grove.clock.advance(GRACE_S)
    await settle()
    assert await ask(ref, generation) == 2
    assert ref.is_alive()
    assert len(grove.of(ActorRestarting)) == 1


# Seeing


async def test_a_snapshot_shows_the_whole_tree(grove: Grove) -> None:
    grove.grow()
    branch = await grove.start("branch", lambda _log: Supervisor())
    leaf = await ask(branch, StartChild(grove.spec("leaf")))

    def branch_nodes() -> tuple[Node, ...]:
        return branch.actor_inbox.actor.nodes()  # type: ignore[no-any-return]

    leaf.tell(end(ConnectionLost("cut")))
    leaf.tell(end(ConnectionLost("")))
    await until(lambda: any(node.next_retry_s for node in branch_nodes()))
    grove.clock.advance(20.0)
    await ask(leaf, generation)
    grove.clock.advance(3.0)
    root = await ask(grove.root, Snapshot())
    assert (root.name, root.kind, root.state, root.generation, root.age_s) == ("root", "Supervisor", "running", 1, 23.0)
    [branch_node] = root.children
    [leaf_node] = branch_node.children
    assert leaf_node == Node(
        name="leaf",
        kind="Worker",
        state="running",
        generation=3,
        restarts=2,
        last_reason="ConnectionLost",
        age_s=leaf_node.age_s,
        details={"generation": 3},
    )
    assert 3.0 <= leaf_node.age_s <= 23.0


async def test_a_snapshot_survives_an_actor_that_cannot_describe_itself(grove: Grove) -> None:
    class Shy(Worker):
        def describe(self) -> dict[str, object]:
            raise BUG

    grove.grow()
    await grove.start("a", Shy)
    assert (await grove.snapshot())["a"].details == {"describe": repr(BUG)}


async def test_a_snapshot_shows_a_place_that_nobody_could_live_in(grove: Grove) -> None:
    def cannot(_log: list[str]) -> StreamActor:
        raise WEATHER

    grove.grow(backoff=BackoffPolicy(base_s=5.0))
    await grove.start("a", cannot)
    await grove.restarts(2)
    node = (await grove.snapshot())["a"]
    assert (node.kind, node.state, node.generation, node.last_reason) == ("", "waiting", 0, "cut")


async def test_a_listener_that_raises_harms_nobody(grove: Grove, caplog: pytest.LogCaptureFixture) -> None:
    def listener(_event: Event) -> None:
        raise BUG

    grove.grow()
    branch = await grove.start("branch", lambda _log: Supervisor(on_event=listener))
    leaf = await ask(branch, StartChild(grove.spec("leaf")))
    assert await ask(leaf, generation) == 1
    assert "on_event" in caplog.text


async def test_an_owner_that_raises_harms_nobody(grove: Grove, caplog: pytest.LogCaptureFixture) -> None:
    def owner(_reason: BaseException | None) -> None:
        raise RuntimeError("crashed")

    grove.grow()
    spec = ChildSpec(name="a", factory=lambda: Worker(grove.log), on_gone=owner)
    await ask(grove.root, StartChild(spec))
    with caplog.at_level(logging.ERROR):
        assert await ask(grove.root, StopChild("a")) is True
    assert "on_gone of root/a failed" in caplog.text
    caplog.clear()


async def test_a_message_that_a_supervisor_does_not_know_harms_nobody(grove: Grove) -> None:
    grove.grow()
    assert await ask(grove.root, "what?") is None


async def test_a_supervisor_lives_in_a_thread_too() -> None:
    home = Home.in_thread()
    log: list[str] = []
    gone: list[BaseException | None] = []
    root = start_root(home, on_gone=gone.append)
    ref = await ask(root, StartChild(ChildSpec(name="a", factory=lambda: Worker(log))))
    for count in range(2, 5):
        ref.tell(end(BUG))
        assert await ask(ref, generation) == count
    assert await root.stop(block=False)
    await until(lambda: gone == [None])
    assert await home.close()
