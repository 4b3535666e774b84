"""StreamActor in both homes: messages, hooks, ends, tasks, timers, monitors, generations."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pykka
import pytest
import pytest_asyncio

from actorstream.actors import life
from actorstream.actors.belongings import GRACE_S
from actorstream.actors.future import LoopFuture
from actorstream.actors.place import Place
from actorstream.actors.runtime import Down, Fenced, Home, Shutdown, StreamActor, ask, start_in
from actorstream.errors import ConnectionLost, InvalidArgument, StreamDoesNotExist, WrongLoop
from tests.actors.clock import ManualClock, settle, until


class Recorder(StreamActor):
    """Does what it is told: a callable is called with the actor, everything else is recorded."""

    def __init__(self, log: list[Any] | None = None) -> None:
        super().__init__()
        self.log: list[Any] = [] if log is None else log

    def on_start(self) -> Any:
        self.log.append("start")

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.log.append(message)
        return message

    def on_failure(self, *error: Any) -> Any:
        self.log.append(("failure", error[1]))

    def on_stop(self) -> Any:
        self.log.append("stop")


def boom(_actor: StreamActor) -> None:
    raise ValueError("boom")


class Trial:
    """A home with a clock in hand, and what became of the actors started in it."""

    def __init__(self, home: Home, clock: ManualClock) -> None:
        self.home = home
        self.clock = clock
        self.gone: list[BaseException | None] = []
        self.refs: list[pykka.ActorRef[Any]] = []

    def start(self, factory: Callable[[], StreamActor], *, shutdown_s: float = 5.0) -> pykka.ActorRef[Any]:
        ref = start_in(self.home, factory, name="it", on_gone=self.gone.append, shutdown_s=shutdown_s)
        self.refs.append(ref)
        return ref


@pytest_asyncio.fixture(params=["here", "thread"])
async def trial(request: pytest.FixtureRequest) -> AsyncIterator[Trial]:
    clock = ManualClock()
    home = Home.here(clock=clock) if request.param == "here" else Home.in_thread("home", clock=clock)
    it = Trial(home, clock)
    yield it
    for ref in it.refs:
        await ref.stop(block=False)
    assert await home.close()


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Trial]:
    it = Trial(Home.here(clock=(clock := ManualClock())), clock)
    yield it
    for ref in it.refs:
        await ref.stop(block=False)


# Messages


async def test_messages_are_handled_in_order_and_asks_are_answered(trial: Trial) -> None:
    log: list[Any] = []
    ref = trial.start(lambda: Recorder(log))
    for number in range(3 * life.BATCH):
        ref.tell(number)
    assert await ask(ref, "last") == "last"
    assert await ref.ask("again", block=False) == "again"
    assert log == ["start", *range(3 * life.BATCH), "last", "again"]


async def test_a_coroutine_handler_ends_before_the_next_message_is_taken(trial: Trial) -> None:
    log: list[Any] = []

    async def slow(actor: Recorder) -> str:
        log.append("slow begins")
        for _ in range(5):
            await asyncio.sleep(0)
        log.append("slow ends")
        return "slow"

    ref = trial.start(lambda: Recorder(log))
    first, second = ask(ref, slow), ask(ref, "quick")
    assert await second == "quick"
    assert await first == "slow"
    assert log == ["start", "slow begins", "slow ends", "quick"]


async def test_many_messages_do_not_starve_the_loop(here: Trial) -> None:
    done: list[int] = []
    ref = here.start(Recorder)
    await ask(ref, 0)
    for _ in range(10 * life.BATCH):
        ref.tell(lambda _actor: done.append(1))
    seen: list[int] = []
    while len(done) < 10 * life.BATCH:
        await asyncio.sleep(0)
        seen.append(len(done))
    assert len(seen) >= 10


async def test_telling_from_many_threads_loses_nothing(trial: Trial) -> None:
    log: list[Any] = []
    ref = trial.start(lambda: Recorder(log))

    def tell(number: int) -> None:
        for i in range(300):
            ref.tell((number, i))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    await until(lambda: len(log) == 1 + 4 * 300)
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [message[1] for message in log[1:] if message[0] == number] == list(range(300))


async def test_an_actor_may_tell_itself_in_its_constructor(trial: Trial) -> None:
    class Eager(Recorder):
        def __init__(self, log: list[Any]) -> None:
            super().__init__(log)
            self.actor_ref.tell("early")

    log: list[Any] = []
    assert await ask(trial.start(lambda: Eager(log)), "late") == "late"
    assert log == ["start", "early", "late"]


async def test_an_actor_started_in_pykkas_own_way_may_tell_itself_in_its_constructor_too() -> None:
    class Eager(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("early")

    ref = Eager.start()
    assert await ref.proxy().log == ["start", "early"]
    await ref.stop(block=False)


async def test_a_reply_may_be_a_future_of_another_runtime(trial: Trial) -> None:
    ref = trial.start(Recorder)
    answer, failed, dead = pykka.ThreadingFuture[Any](), pykka.ThreadingFuture[Any](), pykka.ThreadingFuture[Any]()
    ref.actor_inbox.put(pykka._envelope.Envelope(1, answer))
    ref.actor_inbox.put(pykka._envelope.Envelope(boom, failed))
    assert await asyncio.to_thread(lambda: answer.get(timeout=5)) == 1
    with pytest.raises(ValueError, match="boom"):
        await asyncio.to_thread(lambda: failed.get(timeout=5))
    await ref.stop(block=False)
    ref.actor_inbox.put(pykka._envelope.Envelope(2, dead))
    with pytest.raises(pykka.ActorDeadError):
        await asyncio.to_thread(lambda: dead.get(timeout=5))


async def test_a_handler_may_answer_later_and_take_messages_meanwhile(trial: Trial) -> None:
    promised: LoopFuture[str] = LoopFuture()
    ref = trial.start(Recorder)
    answer = ask(ref, lambda _actor: promised)
    assert await ask(ref, "meanwhile") == "meanwhile"
    assert not answer.done()
    promised.set("late")
    assert await answer == "late"


async def test_a_late_answer_may_be_an_error(trial: Trial) -> None:
    promised: LoopFuture[str] = LoopFuture()
    answer = ask(trial.start(Recorder), lambda _actor: promised)
    promised.set_exception(StreamDoesNotExist())
    with pytest.raises(StreamDoesNotExist):
        await answer


async def test_a_cancellation_that_was_promised_is_not_the_askers(trial: Trial) -> None:
    promised: LoopFuture[str] = LoopFuture()
    answer = ask(trial.start(Recorder), lambda _actor: promised)
    promised.set_exception(asyncio.CancelledError())
    with pytest.raises(RuntimeError, match="CancelledError"):
        await answer


async def test_an_answer_that_is_still_promised_at_the_end_is_an_error(trial: Trial) -> None:
    ref = trial.start(Recorder)
    answer = ask(ref, lambda _actor: LoopFuture())
    ref.tell(lambda actor: actor.exit(ConnectionLost("cut")))
    with pytest.raises(ConnectionLost, match="cut"):
        await answer


async def test_a_users_threading_actor_is_asked_without_blocking_the_loop(trial: Trial) -> None:
    release = threading.Event()

    class Theirs(pykka.ThreadingActor):
        def on_receive(self, message: object) -> object:
            assert release.wait(5)
            return message

    theirs = Theirs.start()
    try:
        answer = asyncio.ensure_future(ask(theirs, 1))
        await settle()
        assert not answer.done()
        release.set()
        assert await answer == 1
    finally:
        await asyncio.to_thread(theirs.stop)


async def test_a_blocking_ask_works_from_a_thread_and_is_refused_on_the_actors_loop(trial: Trial) -> None:
    ref = trial.start(Recorder)
    assert await asyncio.to_thread(ref.ask, 1, timeout=5) == 1

    def block(actor: Recorder) -> object:
        return actor.actor_ref.ask("myself", timeout=5)

    with pytest.raises(WrongLoop):
        await ask(ref, block)
    if trial.home.own_thread:
        assert ref.ask(2, timeout=5) == 2
    else:
        with pytest.raises(WrongLoop):
            ref.ask(2)


async def test_f86_an_actor_that_waits_for_itself_is_told_so(trial: Trial) -> None:
    async def wait(actor: Recorder) -> object:
        return await ask(actor.actor_ref, "myself")

    ref = trial.start(Recorder)
    with pytest.raises(WrongLoop, match="own answer"):
        await ask(ref, wait)

    async def beside(actor: Recorder) -> object:
        return await ask(actor.actor_ref, "myself")

    log: list[Any] = []
    other = trial.start(lambda: Recorder(log))
    other.tell(lambda actor: actor.spawn(beside(actor)) and None)
    await until(lambda: "myself" in log)


# How it ends


@pytest.mark.parametrize("reason", [None, Shutdown()])
async def test_a_normal_end_has_no_reason(trial: Trial, reason: BaseException | None) -> None:
    log: list[Any] = []
    ref = trial.start(lambda: Recorder(log))
    ref.tell(lambda actor: actor.exit(reason))
    await until(lambda: trial.gone)
    assert trial.gone == [None]
    assert log == ["start", "stop"]
    assert not ref.is_alive()


async def test_exit_ends_it_after_this_message_and_before_the_next(trial: Trial) -> None:
    log: list[Any] = []

    async def leave(actor: Recorder) -> str:
        actor.exit(ConnectionLost("cut"))
        actor.exit(ValueError("the first reason counts"))
        await asyncio.sleep(0)
        return "still answered"

    ref = trial.start(lambda: Recorder(log))
    answer, too_late = ask(ref, leave), ask(ref, "not handled")
    assert await answer == "still answered"
    with pytest.raises(ConnectionLost, match="cut"):
        await too_late
    await until(lambda: trial.gone)
    assert isinstance(trial.gone[0], ConnectionLost)
    assert log == ["start", "stop"]


async def test_asks_after_the_end_are_answered_with_the_reason(trial: Trial) -> None:
    ref = trial.start(Recorder)
    ref.tell(lambda actor: actor.exit(ConnectionLost("cut")))
    await until(lambda: trial.gone)
    with pytest.raises(ConnectionLost, match="cut"):
        await ask(ref, 1)
    with pytest.raises(pykka.ActorDeadError):
        await ref.ask(1, block=False)
    with pytest.raises(pykka.ActorDeadError):
        ref.tell(1)


async def test_f80_an_ask_that_races_with_the_end_is_answered(trial: Trial) -> None:
    """The asker saw a living actor, and its message comes when the inbox has been cleared already."""
    ref = trial.start(Recorder)
    await ref.stop(block=False)
    await until(lambda: trial.gone)
    late: LoopFuture[Any] = LoopFuture()
    late_stop: LoopFuture[Any] = LoopFuture()
    ref.actor_inbox.put(pykka._envelope.Envelope("late", late))
    ref.actor_inbox.put(pykka._envelope.Envelope(pykka.messages._ActorStop(), late_stop))
    ref.actor_inbox.put(pykka._envelope.Envelope("told"))
    with pytest.raises(pykka.ActorDeadError):
        await late
    assert await late_stop is None
    await until(ref.actor_inbox.empty)


async def test_a_crash_is_answered_with_actordeaderror_from_it(trial: Trial) -> None:
    ref = trial.start(Recorder)
    ref.tell(boom)
    with pytest.raises(pykka.ActorDeadError, match="boom") as caught:
        await ask(ref, 1)
    assert isinstance(caught.value.__cause__, ValueError)


async def test_f76_a_stop_cancels_an_on_start_that_is_still_running(trial: Trial) -> None:
    log: list[Any] = []

    class Slow(Recorder):
        async def on_start(self) -> None:  # type: ignore[override]
            self.log.append("begun")
            try:
                await asyncio.Event().wait()
            finally:
                self.log.append("cancelled")

    ref = trial.start(lambda: Slow(log))
    queued = ask(ref, 1)
    await until(lambda: log)
    assert await ref.stop(block=False)
    with pytest.raises(pykka.ActorDeadError):
        await queued
    assert log == ["begun", "cancelled", "stop"]
    assert trial.gone == [None]


async def test_a_stop_right_after_the_start_takes_its_turn_too(here: Trial) -> None:
    log: list[Any] = []
    ref = here.start(lambda: Recorder(log))
    ref.tell(1)
    assert await ref.stop(block=False)
    assert log == ["start", 1, "stop"]


async def test_a_stop_before_a_coroutine_on_start_has_begun_cancels_it(here: Trial) -> None:
    class Slow(Recorder):
        async def on_start(self) -> None:  # type: ignore[override]
            await asyncio.Event().wait()

    assert await here.start(Slow).stop(block=False)


async def test_one_that_is_killed_before_it_begins_does_not_begin(here: Trial) -> None:
    log: list[Any] = []
    ref = here.start(lambda: Recorder(log))
    place = ref.actor_inbox
    assert isinstance(place, Place)
    place.kill()
    await until(lambda: here.gone)
    assert log == ["stop"]


async def test_exit_cancels_an_on_start_that_is_still_running(here: Trial) -> None:
    log: list[Any] = []

    class Slow(Recorder):
        async def on_start(self) -> None:  # type: ignore[override]
            asyncio.get_running_loop().call_soon(self.exit, ConnectionLost("cut"))
            await asyncio.Event().wait()

    here.start(lambda: Slow(log))
    await until(lambda: here.gone)
    assert isinstance(here.gone[0], ConnectionLost)
    assert log == ["stop"]


async def test_exit_in_on_start_ends_it_before_any_message(here: Trial) -> None:
    log: list[Any] = []

    class Brief(Recorder):
        def on_start(self) -> None:
            self.exit()

    ref = here.start(lambda: Brief(log))
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, 1)
    assert log == ["stop"]


async def test_exit_in_a_coroutine_on_start_counts_more_than_its_own_cancellation(here: Trial) -> None:
    class Brief(Recorder):
        async def on_start(self) -> None:  # type: ignore[override]
            self.exit(ConnectionLost("cut"))

    here.start(Brief)
    await until(lambda: here.gone)
    assert isinstance(here.gone[0], ConnectionLost)


async def test_a_stop_gives_a_handler_its_time_and_cancels_it_then(here: Trial) -> None:
    log: list[Any] = []

    async def stuck(_actor: Recorder) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cancelled")

    ref = here.start(lambda: Recorder(log), shutdown_s=5.0)
    answer = ask(ref, stuck)
    await settle()
    stopped = asyncio.ensure_future(ref.stop(block=False))
    await settle()
    here.clock.advance(4.9)
    await settle()
    assert log == ["start"]
    here.clock.advance(0.2)
    assert await stopped
    assert log == ["start", "cancelled", "stop"]
    with pytest.raises(pykka.ActorDeadError):
        await answer


async def test_a_handler_that_is_done_in_time_is_not_cancelled_by_a_stop(here: Trial) -> None:
    log: list[Any] = []
    release = asyncio.Event()

    async def slow(_actor: Recorder) -> str:
        await release.wait()
        return "done"

    ref = here.start(lambda: Recorder(log))
    answer = ask(ref, slow)
    ref.tell("told before the stop")
    stopped = asyncio.ensure_future(ref.stop(block=False))
    await settle()
    release.set()
    assert await answer == "done"
    assert await stopped
    assert log == ["start", "told before the stop", "stop"]
    assert here.clock.pending == []


async def test_what_does_not_end_when_cancelled_is_left_behind(here: Trial, caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def deaf(_actor: Recorder) -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    ref = here.start(Recorder, shutdown_s=5.0)
    answer = ask(ref, deaf)
    await settle()
    stopped = asyncio.ensure_future(ref.stop(block=False))
    await settle()
    here.clock.advance(5.0)
    await settle()
    assert not here.gone
    here.clock.advance(GRACE_S)
    assert await stopped
    assert "left behind" in caplog.text
    release.set()
    assert await answer == "late", "an ask is answered whatever happens"


async def test_an_on_start_that_does_not_end_when_cancelled_is_left_behind(here: Trial) -> None:
    release = asyncio.Event()

    class Deaf(Recorder):
        async def on_start(self) -> None:  # type: ignore[override]
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    ref = here.start(Deaf, shutdown_s=5.0)
    await settle()
    stopped = asyncio.ensure_future(ref.stop(block=False))
    await settle()
    here.clock.advance(5.0)
    here.clock.advance(GRACE_S)
    assert await stopped
    release.set()
    await settle()
    assert here.gone == [None]


async def test_a_handler_and_an_on_stop_that_are_both_stuck_have_their_bounds_one_after_the_other(here: Trial) -> None:
    log: list[Any] = []

    async def stuck(*_: object) -> None:
        log.append("stuck")
        await asyncio.Event().wait()

    actor = type("Stuck", (Recorder,), {"on_stop": stuck})
    ref = here.start(actor, shutdown_s=5.0)
    ref.tell(stuck)
    await until(lambda: log)
    stopped = asyncio.ensure_future(ref.stop(block=False))
    await settle()
    here.clock.advance(5.0)
    await until(lambda: len(log) == 2)
    here.clock.advance(GRACE_S)
    assert await stopped
    assert here.clock.pending == []


@pytest.mark.parametrize("hook", ["on_stop", "on_failure"])
async def test_a_hook_at_the_end_is_bounded(here: Trial, hook: str, caplog: pytest.LogCaptureFixture) -> None:
    async def stuck(*_: object) -> None:
        await asyncio.Event().wait()

    actor = type("Stuck", (Recorder,), {hook: stuck})
    ref = here.start(actor, shutdown_s=3.0)
    ref.tell(boom)
    await settle()
    assert not here.gone
    here.clock.advance(3.0)
    await until(lambda: here.gone)
    assert "took too long" in caplog.text


async def test_on_stop_has_its_second_even_when_the_deadline_is_over(here: Trial) -> None:
    log: list[Any] = []

    class Polite(Recorder):
        async def on_stop(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.log.append("good bye")

    ref = here.start(lambda: Polite(log), shutdown_s=0.0)
    await ask(ref, 1)
    await ref.stop(block=False)
    assert log[-1] == "good bye"


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_hook_at_the_end_that_raises_is_logged(
    here: Trial, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        def on_stop(self) -> Any:
            async def fail() -> None:
                raise ValueError("oops")

            if kind == "async":
                return fail()
            raise ValueError("oops")

    ref = here.start(Failing)
    await ref.stop(block=False)
    assert "oops" in caplog.text
    assert here.gone == [None]


async def test_an_end_that_is_cancelled_from_outside_still_ends_it(here: Trial) -> None:
    """As asyncio.run() does with every task when its main function is done."""

    class Slow(Recorder):
        async def on_stop(self) -> None:  # type: ignore[override]
            await asyncio.Event().wait()

    before = asyncio.all_tasks()
    ref = here.start(Slow)
    ref.tell(lambda actor: actor.exit())
    await until(lambda: len(asyncio.all_tasks() - before) == 2)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await until(lambda: here.gone)


# Tasks and timers


async def test_a_spawned_task_ends_with_the_actor(trial: Trial) -> None:
    log: list[Any] = []

    async def forever() -> None:
        log.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cancelled")

    ref = trial.start(lambda: Recorder(log))
    ref.tell(lambda actor: actor.spawn(forever()) and None)
    await until(lambda: "begun" in log)
    await ref.stop(block=False)
    assert log == ["start", "begun", "cancelled", "stop"]


async def test_the_failure_of_a_spawned_task_is_the_actors(trial: Trial) -> None:
    log: list[Any] = []
    error = ConnectionLost("cut")

    async def fail() -> None:
        raise error

    ref = trial.start(lambda: Recorder(log))
    ref.tell(lambda actor: actor.spawn(fail()) and None)
    await until(lambda: trial.gone)
    assert trial.gone == [error]
    assert log == ["start", ("failure", error), "stop"]


async def test_a_spawned_task_that_is_cancelled_or_done_harms_nobody(here: Trial) -> None:
    ref = here.start(Recorder)

    async def forever() -> None:
        await asyncio.Event().wait()

    def spawn_and_cancel(actor: Recorder) -> None:
        actor.spawn(forever()).cancel()
        actor.spawn(asyncio.sleep(0))

    ref.tell(spawn_and_cancel)
    await settle()
    assert await ask(ref, 1) == 1


async def test_a_task_spawned_after_the_end_does_not_run(here: Trial) -> None:
    ran: list[int] = []
    actors: list[Recorder] = []

    async def late() -> None:
        ran.append(1)

    ref = here.start(lambda: actors.append(Recorder()) or actors[0])  # type: ignore[func-returns-value]
    await ref.stop(block=False)
    task = actors[0].spawn(late())
    await settle()
    assert task.cancelled()
    assert not ran


async def test_a_task_spawned_in_on_stop_is_put_away_too(here: Trial) -> None:
    class Spawning(Recorder):
        def on_stop(self) -> None:
            self.spawn(asyncio.Event().wait())

    await here.start(Spawning).stop(block=False)
    assert here.gone == [None]


async def test_a_timer_tells_the_actor_itself(here: Trial) -> None:
    log: list[Any] = []
    ref = here.start(lambda: Recorder(log))
    await ask(ref, lambda actor: actor.call_later(2.0, "ding") and None)
    cancelled = await ask(ref, lambda actor: actor.call_later(1.0, "never"))
    cancelled.cancel()
    here.clock.advance(1.9)
    await settle()
    assert log == ["start"]
    here.clock.advance(0.1)
    await until(lambda: log == ["start", "ding"])
    cancelled.cancel()


async def test_timers_end_with_the_actor(here: Trial) -> None:
    ref = here.start(Recorder)
    await ask(ref, lambda actor: actor.call_later(2.0, "ding") and None)
    await ref.stop(block=False)
    assert here.clock.pending == []


# Generations and monitors


async def test_f10_a_message_for_another_generation_is_dropped(here: Trial) -> None:
    log: list[Any] = []
    ref = here.start(lambda: Recorder(log))
    ref.tell(Fenced(1, "mine"))
    ref.tell(Fenced(0, "an older one's"))
    assert await ask(ref, Fenced(1, "asked")) == "asked"
    with pytest.raises(pykka.ActorDeadError, match="incarnation"):
        await ask(ref, Fenced(2, "of the future"))
    assert log == ["start", "mine", "asked"]


async def test_who_monitors_is_told_of_the_end_once(trial: Trial) -> None:
    log: list[Any] = []
    watched = trial.start(Recorder)
    watcher = trial.start(lambda: Recorder(log))
    for _ in range(2):
        await ask(watcher, lambda actor: actor.monitor(watched))
    error = ConnectionLost("cut")
    watched.tell(lambda actor: actor.exit(error))
    await until(lambda: len(log) == 2)
    await ask(watcher, "end")
    assert log == ["start", Down(watched, 1, error), "end"]


async def test_monitoring_what_is_dead_tells_at_once(trial: Trial) -> None:
    log: list[Any] = []
    watched = trial.start(Recorder)
    await watched.stop(block=False)
    watcher = trial.start(lambda: Recorder(log))
    await ask(watcher, lambda actor: actor.monitor(watched))
    await until(lambda: len(log) == 2)
    assert log == ["start", Down(watched, 1, None)]


async def test_who_does_not_monitor_any_more_is_not_told(here: Trial) -> None:
    log: list[Any] = []
    watched = here.start(Recorder)
    watcher = here.start(lambda: Recorder(log))

    def look_away(actor: Recorder) -> None:
        actor.monitor(watched)
        actor.demonitor(watched)
        actor.demonitor(watched)

    await ask(watcher, look_away)
    await watched.stop(block=False)
    await settle()
    assert log == ["start"]


async def test_a_watcher_that_ended_is_forgotten(here: Trial) -> None:
    watched, watcher = here.start(Recorder), here.start(Recorder)
    await ask(watcher, lambda actor: actor.monitor(watched))
    place = watched.actor_inbox
    assert isinstance(place, Place)
    assert place._watchers
    await watcher.stop(block=False)
    assert not place._watchers


async def test_only_actors_of_the_same_loop_can_be_monitored(here: Trial) -> None:
    class Theirs(pykka.ThreadingActor):
        pass

    theirs = Theirs.start()
    elsewhere = Home.in_thread("elsewhere")
    other = start_in(elsewhere, Recorder, name="other")
    ref = here.start(Recorder)
    try:
        for stranger in (theirs, other):
            with pytest.raises(InvalidArgument):
                await ask(ref, lambda actor, stranger=stranger: actor.monitor(stranger))
    finally:
        await asyncio.to_thread(theirs.stop)
        await other.stop(block=False)
        await elsewhere.close()


# Homes


async def test_actors_run_where_their_home_is(trial: Trial) -> None:
    ref = trial.start(Recorder)
    ident = await ask(ref, lambda _actor: threading.get_ident())
    assert (ident == threading.get_ident()) is not trial.home.own_thread
    assert await ask(ref, lambda actor: (actor.name, actor.path, actor.generation, actor.home is trial.home)) == (
        "it",
        "it",
        1,
        True,
    )
    assert await ask(ref, lambda actor: actor.describe()) == {}


async def test_a_home_is_closed_again_without_harm_and_not_from_within() -> None:
    home = Home.in_thread("home")
    ref = start_in(home, Recorder, name="it")
    with pytest.raises(WrongLoop):
        await ask(ref, lambda actor: actor.home.join())
    await ref.stop(block=False)
    assert await home.close()
    assert await home.close()
    home.stop()
    assert home.join()


async def test_a_home_that_is_stuck_is_not_waited_for_longer_than_asked() -> None:
    home = Home.in_thread("home")
    release = threading.Event()
    home.call_soon(lambda: release.wait(5))
    assert not await home.close(0.01)
    release.set()
    assert await home.close()


async def test_what_is_due_because_of_a_call_comes_in_the_same_turn_of_the_loop_and_all_else_in_order() -> None:
    home, loop = Home.here(), asyncio.get_running_loop()
    seen: list[str] = []

    def tell_on() -> None:
        seen.append("one")
        loop.call_soon(seen.append, "woken")
        home.call_soon(lambda: seen.append("told by one"))
        seen.append("end of one")

    home.call_soon(tell_on)
    loop.call_soon(seen.append, "of the loop")
    home.call_soon(lambda: seen.append("two"))
    await asyncio.sleep(0)
    assert seen == ["one", "end of one", "told by one", "of the loop", "two"]
    await asyncio.sleep(0)
    assert seen[-1] == "woken"


async def test_what_is_due_again_and_again_leaves_the_loop_its_turn_and_an_error_holds_up_nothing() -> None:
    home, loop = Home.here(), asyncio.get_running_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
    turns, calls = 0, 0

    def again() -> None:
        nonlocal calls
        calls += 1
        if turns < 3:
            home.call_soon(again)

    home.call_soon(again)
    while turns < 3:
        await asyncio.sleep(0)
        turns += 1
    await asyncio.sleep(0)
    assert 3 < calls < 1000

    def fail() -> None:
        home.call_soon(lambda: errors.append("after it"))
        raise error

    error = ValueError("a bug")
    home.call_soon(fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert errors == [error, "after it"]


def test_a_home_is_joined_without_a_loop() -> None:
    home = Home.in_thread("home")
    ref = start_in(home, Recorder, name="it")
    assert ref.ask(1, timeout=5) == 1
    assert ref.stop()
    assert home.join()


async def test_f91_a_loop_that_was_closed_answers_instead_of_hanging() -> None:
    home = Home.in_thread("home")
    ref = start_in(home, Recorder, name="it")
    await ask(ref, 1)
    assert await home.close()
    with pytest.raises(pykka.ActorDeadError, match="closed"):
        await ask(ref, 2)
    assert not ref.is_alive()

    home = Home.in_thread("home")
    ref = start_in(home, Recorder, name="it")
    await ask(ref, 1)
    assert await home.close()
    with pytest.raises(pykka.ActorDeadError, match="closed"):
        ref.tell(2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on: just what this is about
def test_f91_a_forked_process_is_told_to_connect_again() -> None:
    home = Home.in_thread("home")
    ref = start_in(home, Recorder, name="it")
    assert ref.ask(1, timeout=5) == 1
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            ref.ask(2, timeout=5)
        except pykka.ActorDeadError as error:
            said = str(error)
        finally:
            home.stop()
            os.write(writer, f"{said} {home.join()}".encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "it: this process was forked: connect again in the child True"
    assert ref.ask(3, timeout=5) == 3
    ref.stop()
    home.join()


async def test_a_factory_has_to_make_a_new_actor(here: Trial) -> None:
    actors: list[StreamActor] = []
    ref = here.start(lambda: actors.append(Recorder()) or actors[0])  # type: ignore[func-returns-value]
    with pytest.raises(TypeError, match="new StreamActor"):
        here.start(lambda: actors[0])
    assert await ask(ref, 1) == 1


async def test_an_actor_made_inside_a_factory_has_a_place_of_its_own(here: Trial) -> None:
    class Outer(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Recorder()

    ref = here.start(Outer)
    assert await ask(ref, lambda actor: actor.actor_ref is not actor.inner.actor_ref)


async def test_an_idle_actor_costs_the_loop_nothing(here: Trial) -> None:
    ref = here.start(Recorder)
    await ask(ref, 1)
    await settle()
    assert not asyncio.all_tasks() - {asyncio.current_task()}
    place = ref.actor_inbox
    assert isinstance(place, Place)
    assert place.empty()
    assert not place._awake
