"""LoopFuture: settled by any thread, awaited on any loop, and never a way to hang."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pykka
import pytest

from actorstream.actors.future import LoopFuture
from actorstream.errors import WrongLoop
from tests.actors.clock import until


class Boom(Exception):
    pass


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


# Settling


def test_a_value_is_there_as_often_as_it_is_asked_for() -> None:
    future: LoopFuture[int] = LoopFuture()
    assert not future.done()
    future.set(7)
    assert future.done()
    assert [future.get(), future.get(timeout=0)] == [7, 7]


def test_it_is_settled_once() -> None:
    future: LoopFuture[int] = LoopFuture()
    assert future.try_set(1)
    assert not future.try_set(2)
    assert not future.try_set_exception(Boom())
    with pytest.raises(asyncio.InvalidStateError):
        future.set(3)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(Boom())
    with pytest.raises(asyncio.InvalidStateError):
        future.set_get_hook(lambda _timeout: 4)
    assert future.get() == 1


def test_of_many_threads_that_settle_one_wins() -> None:
    future: LoopFuture[int] = LoopFuture()
    barrier = threading.Barrier(8)

    def settle(number: int) -> bool:
        barrier.wait()
        return future.try_set(number)

    with ThreadPoolExecutor(8) as pool:
        winners = list(pool.map(settle, range(8)))
    assert winners.count(True) == 1
    assert future.get() == winners.index(True)


@pytest.mark.parametrize("how", ["exception", "triple", "class", "handled"])
def test_an_error_is_set_in_every_form_that_pykka_knows(how: str) -> None:
    future: LoopFuture[int] = LoopFuture()
    error = Boom()
    match how:
        case "exception":
            future.set_exception(error)
        case "triple":
            future.set_exception((Boom, error, None))
        case "class":
            future.set_exception((Boom, None, None))
        case "handled":
            try:
                raise error
            except Boom:
                future.set_exception()
    with pytest.raises(Boom):
        future.get()


def test_set_exception_without_an_error_is_refused() -> None:
    with pytest.raises(TypeError):
        LoopFuture[int]().set_exception()


def test_the_traceback_does_not_grow_with_each_raise() -> None:
    future: LoopFuture[int] = LoopFuture()
    error = Boom()
    future.set_exception(error)

    def depth() -> int:
        count, trace = 0, error.__traceback__
        while trace is not None:
            count, trace = count + 1, trace.tb_next
        return count

    depths = set()
    for _ in range(3):
        with pytest.raises(Boom):
            future.get()
        depths.add(depth())
    assert len(depths) == 1


def test_its_state_is_seen_in_its_repr() -> None:
    future: LoopFuture[int] = LoopFuture()
    assert repr(future) == "<LoopFuture pending>"
    assert repr(future.map(str)) == "<LoopFuture hook>"
    future.set(1)
    assert repr(future) == "<LoopFuture done>"
    failed: LoopFuture[int] = LoopFuture()
    failed.set_exception(Boom())
    assert repr(failed) == "<LoopFuture error>"


# Blocking


def test_get_blocks_until_another_thread_settles() -> None:
    future: LoopFuture[int] = LoopFuture()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(future.get)
        future.set(3)
        assert waiting.result(5) == 3


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
def test_get_gives_up_in_time_and_leaves_nothing_behind(timeout: float) -> None:
    future: LoopFuture[int] = LoopFuture()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=timeout)
    assert not future._callbacks


async def test_get_on_a_loop_is_refused_instead_of_hanging() -> None:
    future: LoopFuture[int] = LoopFuture()
    with pytest.raises(WrongLoop, match="await"):
        future.get()
    with pytest.raises(WrongLoop):
        future.get(timeout=1000)
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0)
    future.set(1)
    assert future.get() == 1


class Elsewhere:
    def runs_on(self, _loop: asyncio.AbstractEventLoop, /) -> bool:
        return False

    def is_waiting(self, _task: asyncio.Task[object] | None, /) -> bool:
        return False


async def test_get_on_a_loop_that_is_not_needed_blocks_as_asked() -> None:
    future: LoopFuture[int] = LoopFuture()
    future.producer = Elsewhere()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0.001)
    threading.Timer(0.01, future.set, (5,)).start()
    assert future.get(timeout=5) == 5


# Awaiting


async def test_it_is_awaited_by_many_and_more_than_once() -> None:
    future: LoopFuture[int] = LoopFuture()

    async def wait() -> int:
        return await future

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await until(lambda: len(future._callbacks) == 3)
    future.set(9)
    assert await asyncio.gather(*waiting) == [9, 9, 9]
    assert await future == 9


async def test_a_foreign_thread_wakes_the_loop() -> None:
    future: LoopFuture[int] = LoopFuture()
    thread = threading.Timer(0.0, future.set, (4,))
    thread.start()
    assert await asyncio.wait_for(future, 5) == 4


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    future: LoopFuture[int] = LoopFuture()
    asyncio.get_running_loop().call_soon(future.set_exception, Boom())
    with pytest.raises(Boom):
        await future


async def test_f79_an_await_that_is_cancelled_leaves_the_future_usable() -> None:
    future: LoopFuture[int] = LoopFuture()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0)
    assert not future._callbacks
    task = asyncio.ensure_future(future)
    await until(lambda: future._callbacks)
    task.cancel()
    future.set(2)  # between the cancellation and the task's next step
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await future == 2


async def test_f91_settling_what_a_closed_loop_awaited_harms_nobody() -> None:
    future: LoopFuture[int] = LoopFuture()

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        future._add(loop, lambda _future: None)
        loop.close()

    await asyncio.to_thread(elsewhere)
    assert future.try_set(1)
    assert await future == 1


def test_a_finalizer_may_settle_a_future_while_another_is_being_settled() -> None:
    other: LoopFuture[int] = LoopFuture()

    class Finalized:
        def __del__(self) -> None:
            other.set(1)

    class Value(list[object]):
        pass

    cycle = Value()
    cycle.append((cycle, Finalized()))
    del cycle
    future: LoopFuture[int] = LoopFuture()
    from actorstream.actors import future as module

    with module._lock:
        gc.collect()
    future.set(2)
    assert other.get(timeout=0) == 1


# Get hooks: what `stop`, `map`, `join`, `filter` and `reduce` of Pykka make


async def test_a_get_hook_is_awaited_without_blocking_the_loop() -> None:
    release = threading.Event()
    ran_in = []

    def hook(timeout: float | None) -> int:
        ran_in.append(threading.get_ident())
        assert release.wait(5)
        return 6

    future: LoopFuture[int] = LoopFuture()
    future.set_get_hook(hook)
    waiting = asyncio.ensure_future(future)
    await until(lambda: ran_in)
    assert not waiting.done()
    release.set()
    assert await waiting == 6
    assert await future == 6
    assert ran_in != [threading.get_ident()]
    assert len(ran_in) == 1, "the value is kept"


async def test_map_join_filter_and_reduce_are_awaited() -> None:
    one, two = LoopFuture[Iterable[int]](), LoopFuture[Iterable[int]]()
    mapped, joined = one.map(lambda items: len(list(items))), one.join(two)
    filtered, reduced = one.filter(lambda item: item > 1), one.reduce(lambda a, b: a + b, 10)
    asyncio.get_running_loop().call_soon(one.set, [1, 2, 3])
    asyncio.get_running_loop().call_soon(two.set, [])
    assert await mapped == 3
    assert await joined == [[1, 2, 3], []]
    assert await filtered == [2, 3]
    assert await reduced == 16


async def test_an_error_of_a_hook_is_raised_where_it_is_awaited_and_not_kept() -> None:
    errors = [Boom()]

    def hook(_timeout: float | None) -> int:
        if errors:
            raise errors.pop()
        return 1

    future: LoopFuture[int] = LoopFuture()
    future.set_get_hook(hook)
    with pytest.raises(Boom):
        await future
    assert await future == 1


def test_a_hook_that_runs_already_is_waited_for_no_longer_than_asked() -> None:
    entered, release = threading.Event(), threading.Event()

    def hook(_timeout: float | None) -> int:
        entered.set()
        assert release.wait(5)
        return 1

    future: LoopFuture[int] = LoopFuture()
    future.set_get_hook(hook)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(future.get)
        assert entered.wait(5)
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.001)
        release.set()
        assert first.result(5) == 1
    assert not future.try_set(2)


# Callbacks


async def test_a_callback_added_on_a_loop_is_called_on_that_loop() -> None:
    future: LoopFuture[int] = LoopFuture()
    called: list[tuple[int, int]] = []
    future.add_done_callback(lambda settled: called.append((settled.get(timeout=0), threading.get_ident())))
    await asyncio.to_thread(in_thread, lambda: future.set(1))
    await until(lambda: called)
    assert called == [(1, threading.get_ident())]


async def test_a_callback_is_called_at_once_when_it_is_settled_on_the_same_loop_or_was_before() -> None:
    future: LoopFuture[int] = LoopFuture()
    called: list[str] = []
    future.add_done_callback(lambda _future: called.append("before"))
    future.set(1)
    future.add_done_callback(lambda _future: called.append("after"))
    assert called == ["before", "after"]


def test_without_a_loop_a_callback_is_called_in_the_settling_thread() -> None:
    future: LoopFuture[int] = LoopFuture()
    called: list[int] = []
    future.add_done_callback(lambda _future: called.append(threading.get_ident()))
    idents: list[int] = []

    def settle() -> None:
        idents.append(threading.get_ident())
        future.set(1)

    in_thread(settle)
    assert called == idents


async def test_a_callback_of_a_future_with_a_hook_is_called_too() -> None:
    future: LoopFuture[int] = LoopFuture()
    called: list[int] = []
    mapped = future.map(lambda value: value + 1)
    assert isinstance(mapped, LoopFuture)
    mapped.add_done_callback(lambda settled: called.append(settled.get(timeout=0)))
    future.set(1)
    await until(lambda: called)
    assert called == [2]


def test_a_callback_that_raises_is_logged_and_keeps_nobody_from_the_result(caplog: pytest.LogCaptureFixture) -> None:
    future: LoopFuture[int] = LoopFuture()
    called: list[int] = []
    future.add_done_callback(lambda _future: 1 / 0)
    future.add_done_callback(lambda settled: called.append(settled.get()))
    with caplog.at_level(logging.ERROR):
        future.set(3)
    assert called == [3]
    assert "callback" in caplog.text
