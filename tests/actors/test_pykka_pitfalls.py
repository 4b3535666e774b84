"""Where Pykka would surprise a supervisor: what Pykka does, and what we decided. See the list in `actors.runtime`."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pykka
import pytest
import pytest_asyncio

from actorstream.actors.runtime import Home, StreamActor, ask, start_in
from actorstream.actors.supervisor import ChildSpec, StartChild, Supervisor, start_root
from tests.actors.clock import settle, until


class Thing:
    """Attributes and methods of an actor, whichever runtime it has."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.colour = "red"

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message

    def on_failure(self, *_: object) -> None:
        self.log.append("failure")

    def on_stop(self) -> None:
        self.log.append("stop")

    def double(self, number: int) -> int:
        return 2 * number

    def fail(self) -> None:
        raise ValueError("fail")


class Ours(Thing, StreamActor):
    async def treble(self, number: int) -> int:
        await asyncio.sleep(0)
        return 3 * number


class Theirs(Thing, pykka.ThreadingActor):
    pass


@pytest.fixture
def theirs() -> Iterator[pykka.ActorRef[Theirs]]:
    ref = Theirs.start()
    yield ref
    ref.stop(timeout=5)


@pytest_asyncio.fixture(params=["here", "thread"])
async def home(request: pytest.FixtureRequest) -> AsyncIterator[Home]:
    home = Home.here() if request.param == "here" else Home.in_thread()
    yield home
    assert await home.close()


# on_start


async def test_a_raise_in_on_start_is_a_failure_like_any_other(home: Home) -> None:
    """Pykka: `start` gives a ref that is dead, `on_failure` is not called, and what was asked is not answered."""
    log: list[str] = []
    gone: list[BaseException | None] = []

    class Failing(StreamActor):
        def on_start(self) -> None:
            raise ValueError("no")

        def on_failure(self, *_: object) -> None:
            log.append("failure")

        def on_stop(self) -> None:
            log.append("stop")

    ref = start_in(home, Failing, name="failing", on_gone=gone.append)
    with pytest.raises(pykka.ActorDeadError, match="no"):
        await ask(ref, 1)
    await until(lambda: gone)
    assert log == ["failure", "stop"]
    assert isinstance(gone[0], ValueError)


# Exceptions


async def test_a_raise_during_an_ask_goes_to_the_asker_and_the_actor_lives(home: Home) -> None:
    """As in Pykka."""
    ref = start_in(home, Ours, name="ours")
    with pytest.raises(ValueError, match="asked"):
        await ask(ref, ValueError("asked"))
    assert await ask(ref, 1) == 1
    await ref.stop(block=False)


async def test_a_raise_during_a_tell_ends_the_actor(home: Home) -> None:
    """As in Pykka; but then `on_stop` runs too, so that letting go of things needs one place only."""
    actors: list[Ours] = []
    ref = start_in(home, lambda: _kept(actors), name="ours")
    ref.tell(ValueError("told"))
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, 1)
    assert actors[0].log == ["failure", "stop"]


def _kept(actors: list[Ours]) -> Ours:
    actors.append(Ours())
    return actors[-1]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), BaseException("base")])
@pytest.mark.parametrize("way", ["ask", "tell"])
async def test_a_base_exception_ends_this_actor_and_no_other(home: Home, error: BaseException, way: str) -> None:
    """Pykka calls ActorRegistry.stop_all(), and who asked waits for ever."""
    gone: list[BaseException | None] = []
    bystander = Theirs.start()
    sibling = start_in(home, Ours, name="sibling")
    ref = start_in(home, Ours, name="ours", on_gone=gone.append)
    try:
        if way == "ask":
            with pytest.raises(pykka.ActorDeadError):
                await ask(ref, error)
        else:
            ref.tell(error)
        await until(lambda: gone)
        assert isinstance(gone[0], RuntimeError), "not a cancellation of whoever is told"
        assert gone[0].__cause__ is error
        assert await ask(sibling, 1) == 1
        assert bystander.is_alive()
    finally:
        await sibling.stop(block=False)
        await asyncio.to_thread(bystander.stop)


async def test_a_cancellation_inside_a_coroutine_handler_is_answered(home: Home) -> None:
    class Cancelled(StreamActor):
        async def on_receive(self, _message: object) -> object:
            raise asyncio.CancelledError

    ref = start_in(home, Cancelled, name="cancelled")
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("where", ["handler", "on_start"])
def test_an_interrupt_goes_on_to_the_callers_loop(error: BaseException, where: str) -> None:
    gone: list[BaseException | None] = []

    class Interrupted(Ours):
        def on_start(self) -> None:
            if where == "on_start":
                raise error

    async def main() -> None:
        ref = start_in(Home.here(), Interrupted, name="ours", on_gone=gone.append)
        ref.tell(error)
        await asyncio.Event().wait()

    with pytest.raises(type(error)):
        asyncio.run(main())
    assert isinstance(gone[0], RuntimeError)


async def test_sys_exit_in_a_handler_does_not_end_a_thread_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    home = Home.in_thread()
    sibling = start_in(home, Ours, name="sibling")
    ref = start_in(home, Ours, name="ours")
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, SystemExit(3))
    assert await ask(sibling, 1) == 1
    await sibling.stop(block=False)
    assert await home.close()


# The registry


async def test_supervised_actors_are_not_in_the_registry(home: Home) -> None:
    """So that a user's `stop_all`, and the one that Pykka calls when an actor of the user's dies, spare our tree."""
    root = start_root(home)
    child = await ask(root, StartChild(ChildSpec(name="child", factory=Ours)))
    assert pykka.ActorRegistry.get_all() == []
    await asyncio.to_thread(pykka.ActorRegistry.stop_all)
    pykka.ActorRegistry.broadcast("hello", Ours)
    assert await ask(child, 1) == 1
    await root.stop(block=False)


async def test_a_users_dying_actor_does_not_reach_into_our_tree(home: Home) -> None:
    ref = start_in(home, Ours, name="ours")
    dying = Theirs.start()
    dying.tell(asyncio.CancelledError())
    await until(lambda: not dying.is_alive())
    assert await ask(ref, 1) == 1
    await ref.stop(block=False)


async def test_an_actor_started_in_pykkas_own_way_is_registered_while_it_lives() -> None:
    ref = Ours.start()
    assert pykka.ActorRegistry.get_all() == [ref]
    assert await ask(ref, 1) == 1
    assert await ask(ref, pykka.messages.ProxyGetAttr(("path",))) == "Ours"
    ref.tell(ValueError())
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, 2)
    assert pykka.ActorRegistry.get_all() == []


def test_an_actor_needs_a_loop_to_start_in_pykkas_own_way() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        Ours.start()
    for ref in pykka.ActorRegistry.get_all():
        pykka.ActorRegistry.unregister(ref)


# stop and futures with a get hook


async def test_stop_is_awaited_without_blocking_the_loop_and_says_whether_it_lived(home: Home) -> None:
    """Pykka's `stop(block=False)` gives a future with a get hook, and its `await` would block in it."""
    ref = start_in(home, Ours, name="ours")
    assert await ref.stop(block=False)
    assert not ref.is_alive()
    assert not await ref.stop(block=False)


async def test_stops_that_cross_are_all_answered(home: Home) -> None:
    ref = start_in(home, Ours, name="ours")
    answers = [ref.stop(block=False) for _ in range(3)]
    first, *others = await asyncio.gather(*answers)
    assert first
    assert all(isinstance(other, bool) for other in others), "False where it had ended before it was told"


async def test_stop_takes_its_turn_and_what_comes_after_it_is_answered(home: Home) -> None:
    ref = start_in(home, Ours, name="ours")
    before, stopped, after = ask(ref, 1), ref.stop(block=False), ask(ref, 2)
    assert await before == 1
    assert await stopped
    with pytest.raises(pykka.ActorDeadError):
        await after


async def test_stop_all_of_pykka_and_get_all_work_on_our_futures(home: Home) -> None:
    ref = start_in(home, Ours, name="ours")
    answers = [ref.ask(number, block=False) for number in range(3)]
    assert await asyncio.to_thread(pykka.get_all, answers, timeout=5) == [0, 1, 2]
    await ref.stop(block=False)


# Proxies


async def test_proxies_work(home: Home) -> None:
    ref = start_in(home, Ours, name="ours")
    proxy = ref.proxy()
    assert await proxy.double(4) == 8
    assert await proxy.treble(4) == 12
    assert await proxy.colour == "red"
    await asyncio.to_thread(setattr, proxy, "colour", "blue")  # Pykka's assignment blocks
    assert await proxy.colour == "blue"
    with pytest.raises(ValueError, match="fail"):
        await proxy.fail()
    proxy.double.defer(1)
    assert await asyncio.to_thread(lambda: proxy.double(5).get(timeout=5)) == 10
    await ref.stop(block=False)


class Restarted:
    """A child of a supervisor that was started again after a crash."""

    def __init__(self, root: pykka.ActorRef[Supervisor], ref: pykka.ActorRef[Ours]) -> None:
        self.root = root
        self.ref = ref

    async def crash(self) -> None:
        before = await ask(self.ref, pykka.messages.ProxyGetAttr(("generation",)))
        self.ref.tell(ValueError("crash"))
        assert await ask(self.ref, pykka.messages.ProxyGetAttr(("generation",))) == before + 1


@pytest_asyncio.fixture
async def restarted(home: Home) -> AsyncIterator[Restarted]:
    root = start_root(home)
    it = Restarted(root, await ask(root, StartChild(ChildSpec(name="child", factory=Ours))))
    yield it
    await root.stop(block=False)


async def test_refs_and_proxies_go_on_working_across_restarts(restarted: Restarted) -> None:
    ref, proxy = restarted.ref, restarted.ref.proxy()
    method = proxy.double
    assert await method(1) == 2
    await restarted.crash()
    assert ref.is_alive()
    assert await ask(ref, 1) == 1
    assert await proxy.double(2) == 4
    assert await method(3) == 6
    assert await ref.proxy().generation == 2
    assert repr(ref) == f"<ActorRef for Ours ({ref.actor_urn})>"


async def test_a_users_threading_actor_goes_on_working_with_a_ref_across_restarts(restarted: Restarted) -> None:
    answers: list[object] = []

    class User(pykka.ThreadingActor):
        def __init__(self, ref: pykka.ActorRef[Ours]) -> None:
            super().__init__()
            self.ref = ref
            self.proxy = ref.proxy()

        def on_receive(self, message: Any) -> None:
            answers.append(self.ref.ask(message, timeout=5))
            answers.append(self.proxy.double(message).get(timeout=5))

    user = User.start(restarted.ref)
    try:
        user.tell(1)
        await until(lambda: len(answers) == 2)
        await restarted.crash()
        user.tell(2)
        await until(lambda: len(answers) == 4)
        assert answers == [1, 2, 2, 4]
    finally:
        await asyncio.to_thread(user.stop)


async def test_our_actors_tell_a_users_threading_actor(restarted: Restarted) -> None:
    got: list[object] = []
    threads: set[int] = set()

    class User(pykka.ThreadingActor):
        def on_receive(self, message: object) -> None:
            threads.add(threading.get_ident())
            got.append(message)

    class Teller(StreamActor):
        def on_receive(self, message: Any) -> None:
            message.tell("hello")

    user = User.start()
    teller = await ask(restarted.root, StartChild(ChildSpec(name="teller", factory=Teller)))
    try:
        teller.tell(user)
        await until(lambda: got)
        assert got == ["hello"]
        assert threading.get_ident() not in threads
    finally:
        await asyncio.to_thread(user.stop)


async def test_a_proxy_of_a_place_that_nobody_could_live_in_is_refused(home: Home) -> None:
    def cannot() -> Ours:
        raise ValueError("no")

    root = start_root(home)
    ref = await ask(root, StartChild(ChildSpec(name="child", factory=cannot)))
    with pytest.raises(pykka.ActorDeadError):
        ref.proxy()
    await root.stop(block=False)


# Inboxes


async def test_an_unknown_message_is_logged_and_harms_nobody(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    ref = start_in(home, StreamActor, name="bare")
    assert await ask(ref, "what?") is None
    assert "what?" in caplog.text
    await ref.stop(block=False)


async def test_a_tell_never_blocks_however_slow_the_actor_is(home: Home) -> None:
    """Inboxes are unbounded, as in Pykka: bounds belong to what is sent, such as a publisher's window."""
    release = threading.Event()

    class Slow(StreamActor):
        async def on_receive(self, _message: object) -> None:
            while not release.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0)

    ref = start_in(home, Slow, name="slow")
    for number in range(10_000):
        ref.tell(number)
    await settle()
    release.set()
    await ref.stop(block=False)
