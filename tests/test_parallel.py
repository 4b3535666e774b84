"""Several messages at a time, over a source that is a list: order, bounds, failures, and what comes again."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self, cast

import pytest
from hypothesis import given, strategies as st

from actorstream import BackoffPolicy, Message, Producer, errors, handling
from actorstream.actors.progress import Progress
from actorstream.handling import Consumable, ErrorPolicy, Handler, Park, Skip, Workers
from actorstream.parallel import Lanes
from tests.peer import until

AT_ONCE = BackoffPolicy(base_s=0.001, cap_s=0.001)


# Lanes


@given(st.lists(st.integers(0, 3)), st.randoms(use_true_random=False))
def test_of_each_key_one_is_in_work_at_a_time_and_in_order(keys: list[int], rng: random.Random) -> None:
    lanes: Lanes[tuple[int, int]] = Lanes()
    to_add = [(key, number) for number, key in enumerate(keys)]
    in_work: list[tuple[int, int]] = []
    done: list[tuple[int, int]] = []
    while len(done) < len(keys):
        match rng.randrange(3):
            case 0 if to_add:
                item = to_add.pop(0)
                lanes.add(item[0], item)
            case 1:
                begun = lanes.begin()
                busy = {key for key, _ in in_work}
                waiting = {key for key, number in enumerate_added(keys, to_add) if (key, number) not in in_work + done}
                assert (begun is None) == (not waiting - busy), "whatever may be begun is"
                if begun is not None:
                    assert begun[0] == begun[1][0]
                    assert begun[0] not in busy
                    in_work.append(begun[1])
            case 2 if in_work:
                item = in_work.pop(rng.randrange(len(in_work)))
                lanes.end(item[0])
                done.append(item)
    for key in set(keys):
        numbers = [number for one, number in done if one == key]
        assert numbers == sorted(numbers)
    assert lanes._lanes == {}, "and nothing of them is kept"


def enumerate_added(keys: list[int], to_add: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(key, number) for number, key in enumerate(keys)][: len(keys) - len(to_add)]


def test_a_key_takes_its_turn_behind_those_that_waited_before_it() -> None:
    lanes: Lanes[int] = Lanes()
    for number in range(3):
        lanes.add("a", number)
    lanes.add("b", 10)
    assert lanes.begin() == ("a", 0)
    lanes.end("a")
    assert lanes.begin() == ("b", 10)
    assert lanes.begin() == ("a", 1)
    assert lanes.begin() is None


# Runs


class Listed:
    """Messages `0 … count-1` in chunks of four; a list of several streams makes it a source of them all, in turn."""

    stream = "orders"

    def __init__(self, count: int, *, streams: tuple[str, ...] = ("orders",), endless: bool = False) -> None:
        self.progress = {stream: Progress(0) for stream in streams}
        self.rest = [self.make(number, stream) for number in range(count) for stream in streams]
        self.in_hand: list[Message] = []
        self.taken = 0
        self.came_again: dict[str, list[int]] = {}
        self.was_closed = False
        self.endless = endless
        self.error: Exception | None = None
        self.comes = asyncio.Event()

    def more(self, messages: list[Message]) -> None:
        """Of an endless one: what it waited for."""
        self.rest += messages
        self.comes.set()

    @staticmethod
    def make(number: int, stream: str) -> Message:
        message = Message(b"%d" % number)
        message.offset, message.stream = number, stream
        return message

    def take_ahead(self) -> tuple[Message, Progress] | None:
        if not self.in_hand or self.was_closed:
            return None
        self.taken += 1
        message = self.in_hand.pop(0)
        self.progress[message.stream].position = message.offset + 1
        return message, self.progress[message.stream]

    async def fetch(self) -> None:
        await asyncio.sleep(0)
        if self.was_closed:
            raise StopAsyncIteration
        if not self.rest:
            if self.error is not None:
                raise self.error
            if not self.endless:
                raise StopAsyncIteration
            self.comes.clear()
            await self.comes.wait()
        self.in_hand, self.rest = self.rest[:4], self.rest[4:]

    def put_back(self, messages: list[Message], progress: Progress) -> None:
        stream = messages[0].stream
        assert progress is self.progress[stream]
        progress.position = messages[0].offset
        self.came_again[stream] = [message.offset for message in messages]

    def completed(self, stream: str = "orders") -> int | None:
        return self.progress[stream].completed


async def run(
    source: Listed,
    handler: Handler,
    policy: ErrorPolicy | None = None,
    make: Callable[[str], Awaitable[Producer]] | None = None,
    **workers: Any,
) -> None:
    async with asyncio.timeout(20):
        await handling.consume(
            cast(Consumable, source),
            make or cast(Any, None),
            handler,
            policy or ErrorPolicy(),
            Workers(**{"count": 4, **workers}),
        )


class Gates:
    """A handler whose calls wait until each is let go."""

    def __init__(self, *fails: int) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.fails = set(fails)
        self._gates: dict[int, asyncio.Event] = {}

    async def __call__(self, message: Message) -> None:
        self.begun.append(message.offset)
        await self._gates.setdefault(message.offset, asyncio.Event()).wait()
        if message.offset in self.fails:
            raise ValueError(f"not {message.offset}")
        self.ended.append(message.offset)

    def open(self, *offsets: int) -> None:
        for offset in offsets:
            self._gates.setdefault(offset, asyncio.Event()).set()

    async def until_begun(self, *offsets: int) -> None:
        await until(lambda: self.begun == list(offsets))


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_as_many_are_handled_at_a_time_as_there_are_workers() -> None:
    source, gates = Listed(6), Gates()
    running = asyncio.create_task(run(source, gates, count=3))
    await gates.until_begun(0, 1, 2)
    await turns()
    assert gates.begun == [0, 1, 2]
    gates.open(1)
    await gates.until_begun(0, 1, 2, 3)
    assert source.completed() is None, "0 is not completed"
    gates.open(0, 2, 3, 4, 5)
    await running
    assert source.completed() == 5
    assert source.came_again == {}


async def test_messages_of_one_key_come_one_after_the_other_and_hold_up_no_other_key() -> None:
    source, gates = Listed(8), Gates()
    running = asyncio.create_task(run(source, gates, key=lambda message: message.offset % 2))
    await gates.until_begun(0, 1)
    gates.open(1, 3, 5, 7)
    await gates.until_begun(0, 1, 3, 5, 7)
    assert gates.ended == [1, 3, 5, 7]
    gates.open(0, 2, 4, 6)
    await running
    assert gates.ended == [1, 3, 5, 7, 0, 2, 4, 6]
    assert source.completed() == 7


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_the_timing_order_bounds_and_completion_hold(seed: int) -> None:
    rng = random.Random(seed)
    count, workers = rng.randrange(1, 60), rng.randrange(2, 7)
    keys = [rng.randrange(5) for _ in range(count)]
    max_in_flight = workers + rng.randrange(20)
    fails = {offset: rng.randrange(3) for offset in range(count) if rng.random() < 0.3}
    source = Listed(count)
    at_work: list[int] = []
    done: list[int] = []

    async def handle(message: Message) -> None:
        at_work.append(message.offset)
        first_open = next(offset for offset in range(count) if offset not in done)
        assert source.completed() == (first_open - 1 if first_open else None)
        assert len(at_work) <= workers
        assert len({keys[offset] for offset in at_work}) == len(at_work), "one of each key"
        assert source.taken - first_open <= max_in_flight
        await turns(rng.randrange(4))
        at_work.remove(message.offset)
        if fails.get(message.offset, 0) > 0:
            fails[message.offset] -= 1
            raise ValueError
        done.append(message.offset)

    await run(
        source,
        handle,
        ErrorPolicy(retries=3, backoff=AT_ONCE),
        count=workers,
        key=lambda message: keys[message.offset],
        max_in_flight=max_in_flight,
    )
    assert sorted(done) == list(range(count))
    for key in set(keys):
        of_key = [offset for offset in done if keys[offset] == key]
        assert of_key == sorted(of_key)
    assert source.completed() == count - 1


async def test_no_more_are_taken_than_may_be_beyond_one_that_is_not_completed() -> None:
    source, gates = Listed(40), Gates()
    running = asyncio.create_task(run(source, gates, max_in_flight=10))
    gates.open(*range(1, 40))
    await gates.until_begun(*range(10))
    await turns()
    assert (source.taken, gates.ended) == (10, list(range(1, 10)))
    gates.open(0)
    await running
    assert source.completed() == 39


async def test_several_streams_each_have_a_completion_of_their_own() -> None:
    source = Listed(5, streams=("a", "b"))
    stuck = asyncio.Event()

    async def handle(message: Message) -> None:
        if (message.stream, message.offset) == ("a", 1):
            await stuck.wait()
        if (message.stream, message.offset) == ("b", 4):
            stuck.set()
            assert source.completed("a") == 0
            assert source.completed("b") == 3

    await run(source, handle)
    assert (source.completed("a"), source.completed("b")) == (4, 4)


async def test_f57_stop_begins_nothing_more_lets_the_others_end_and_counts_nothing_beyond() -> None:
    source, gates = Listed(10), Gates(1)
    running = asyncio.create_task(run(source, gates, count=3))
    await gates.until_begun(0, 1, 2)
    gates.open(0, 1)
    await turns()
    assert not running.done(), "2 is still at work"
    assert gates.begun in ([0, 1, 2, 3], [0, 1, 2])
    gates.open(2, 3)
    with pytest.raises(errors.HandlerFailed) as caught:
        await running
    assert (caught.value.stream, caught.value.offset) == ("orders", 1)
    assert isinstance(caught.value.__cause__, ValueError)
    assert 2 in gates.ended
    assert source.completed() == 0
    assert source.progress["orders"].position == 1
    assert source.came_again["orders"][0] == 1
    assert source.came_again["orders"] == list(range(1, source.taken))


async def test_f57_stop_while_nothing_more_comes_does_not_wait_for_more() -> None:
    source, gates = Listed(2, endless=True), Gates(1)
    gates.open(0, 1)
    with pytest.raises(errors.HandlerFailed):
        await run(source, gates)
    assert source.came_again == {"orders": [1]}


async def test_f57_a_second_failure_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    source, gates = Listed(2), Gates(0, 1)
    running = asyncio.create_task(run(source, gates))
    await gates.until_begun(0, 1)
    gates.open(1)
    await turns()
    gates.open(0)
    with pytest.raises(errors.HandlerFailed) as caught:
        await running
    assert caught.value.offset == 1
    assert "offset 0 of stream 'orders'" in caplog.text
    assert source.came_again == {"orders": [0, 1]}


async def test_f57_retry_keeps_its_key_waiting_and_no_other() -> None:
    source = Listed(6)
    tries: list[int] = []

    def handle(message: Message) -> None:
        tries.append(message.offset)
        if message.offset == 0 and tries.count(0) < 3:
            raise ValueError

    policy = ErrorPolicy(retries=2, backoff=BackoffPolicy(base_s=0.05, cap_s=0.05))
    await run(source, handle, policy, key=lambda message: message.offset % 2)
    assert [offset for offset in tries if offset % 2 == 0] == [0, 0, 0, 2, 4]
    assert tries.index(5) < tries.index(2)
    assert source.completed() == 5


async def test_f57_skip_and_park_complete_what_failed() -> None:
    class Parking:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_error: object) -> None:
            assert len(parked) == 3

        async def send_wait(self, message: Message) -> None:
            await turns(3)
            parked.append(message.application_properties["x-origin-offset"])

    async def make(_stream: str) -> Producer:
        return cast(Producer, Parking())

    def handle(message: Message) -> None:
        if message.offset % 2:
            raise ValueError

    parked: list[int] = []
    for then in (Skip(), Park("parked")):
        source = Listed(6)
        await run(source, handle, ErrorPolicy(then=then), make)
        assert source.completed() == 5
    assert sorted(parked) == [1, 3, 5]


@pytest.mark.parametrize("key", [lambda _message: [], lambda message: message.no_such_name])
async def test_f57_a_message_whose_key_cannot_be_told_fails_under_the_same_policy(key: Any) -> None:
    source, handled = Listed(3), list[int]()
    with pytest.raises(errors.HandlerFailed) as caught:
        await run(source, lambda message: handled.append(message.offset), ErrorPolicy(retries=3), key=key)
    assert isinstance(caught.value.__cause__, TypeError | AttributeError)
    assert handled == []
    source = Listed(3)
    await run(source, lambda message: handled.append(message.offset), ErrorPolicy(then=Skip()), key=key)
    assert (handled, source.completed()) == ([], 2)


async def test_f57_a_cancelled_run_cancels_its_handlers_and_all_that_is_not_completed_comes_again() -> None:
    source, gates = Listed(10, endless=True), Gates()
    running = asyncio.create_task(run(source, gates, count=3))
    await gates.until_begun(0, 1, 2)
    gates.open(0, 2)
    await gates.until_begun(0, 1, 2, 3, 4)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert gates.ended == [0, 2]
    assert source.completed() == 0
    assert source.came_again == {"orders": list(range(1, 10))}


async def test_a_source_that_is_closed_ends_the_run_after_the_handlers_at_work() -> None:
    source, gates = Listed(30), Gates()
    running = asyncio.create_task(run(source, gates, count=2, max_in_flight=4))
    await gates.until_begun(0, 1)
    source.was_closed = True
    await turns()
    assert not running.done()
    gates.open(0, 1)
    await running
    assert gates.begun == [0, 1]
    assert source.completed() == 1
    assert source.came_again == {"orders": [2, 3]}


async def test_f80_what_ends_a_source_is_raised_after_what_was_taken_has_been_handled() -> None:
    source, handled = Listed(6), list[int]()
    source.error = errors.StreamDoesNotExist("orders")
    with pytest.raises(errors.StreamDoesNotExist):
        await run(source, lambda message: handled.append(message.offset))
    assert handled == list(range(6))
    assert source.completed() == 5


async def test_a_failure_counts_more_than_the_end_of_its_source() -> None:
    source, gates = Listed(6), Gates(*range(6))
    gates.open(*range(6))
    source.error = errors.StreamDoesNotExist("orders")
    with pytest.raises(errors.HandlerFailed):
        await run(source, gates)


async def test_f57_an_error_that_is_none_of_exception_ends_the_run_as_it_is() -> None:
    def handle(_message: Message) -> None:
        raise GeneratorExit

    source = Listed(3)
    with pytest.raises(GeneratorExit):
        await run(source, handle, ErrorPolicy(retries=9, then=Skip()))
    assert source.completed() is None


async def test_what_is_late_for_a_place_that_was_given_up_moves_nothing_of_the_new_one() -> None:
    source, gates = Listed(2, endless=True), Gates()
    running = asyncio.create_task(run(source, gates))
    await gates.until_begun(0, 1)
    old, new = source.progress["orders"], Progress(5)
    source.progress["orders"] = new
    source.more([source.make(5, "orders"), source.make(6, "orders")])
    await gates.until_begun(0, 1, 5, 6)
    gates.open(5)
    await turns()
    assert (old.completed, new.completed) == (None, 5)
    gates.open(0, 1)
    await turns()
    assert (old.completed, new.completed) == (1, 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert source.came_again == {"orders": [6]}


async def test_what_was_not_begun_when_the_place_was_given_up_is_never_begun() -> None:
    source, begun = Listed(1, endless=True), list[int]()
    old = source.progress["orders"]

    def leave() -> None:
        old.left = True
        source.progress["orders"] = Progress(5)
        source.more([source.make(5, "orders")])

    def key(message: Message) -> int:
        if message.offset == 0:
            asyncio.get_running_loop().call_soon(leave)  # behind it, the task of this message is made
        return message.offset

    running = asyncio.create_task(run(source, lambda message: begun.append(message.offset), key=key, max_in_flight=4))
    await until(lambda: source.completed() == 5)
    assert (begun, old.completed) == ([5], None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# Threads


async def test_in_threads_plain_handlers_block_side_by_side() -> None:
    source, together = Listed(8), threading.Barrier(4, timeout=10)
    names: set[str] = set()

    def handle(_message: Message) -> None:
        names.add(threading.current_thread().name)
        together.wait()

    await run(source, handle, threads=True)
    assert source.completed() == 7
    assert len(names) == 4
    assert threading.current_thread().name not in names


async def test_one_thread_keeps_the_order() -> None:
    source, handled = Listed(20), list[int]()
    await run(source, lambda message: handled.append(message.offset), count=1, threads=True)
    assert handled == list(range(20))


async def test_a_cancelled_run_waits_for_its_threads_and_counts_what_they_complete() -> None:
    source = Listed(10, endless=True)
    begun, finish = threading.Barrier(3, timeout=10), threading.Event()
    handled: list[int] = []

    def handle(message: Message) -> None:
        begun.wait()
        finish.wait(10)
        if message.offset == 1:
            raise ValueError
        handled.append(message.offset)

    running = asyncio.create_task(run(source, handle, ErrorPolicy(retries=3), count=2, threads=True))
    await asyncio.to_thread(begun.wait)
    running.cancel()
    await turns()
    assert not running.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert handled == [0]
    assert source.completed() == 0
    assert source.came_again["orders"][0] == 1


async def test_a_handler_in_threads_is_a_plain_function() -> None:
    async def handle(_message: Message) -> None:
        raise AssertionError

    with pytest.raises(errors.InvalidArgument, match="plain functions"):
        await run(Listed(1), handle, threads=True)


async def test_a_handler_in_threads_does_not_hold_up_the_loop() -> None:
    source, begun, let_go = Listed(1), threading.Event(), threading.Event()

    def handle(_message: Message) -> None:
        begun.set()
        assert let_go.wait(10), "the loop stands still"

    running = asyncio.create_task(run(source, handle, threads=True, count=1))
    await until(begun.is_set)
    let_go.set()
    await running
    assert source.completed() == 0


# Arguments


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 1.5},
        {"count": True},
        {"count": 1_001},
        {"key": "customer"},
        {"count": 5, "max_in_flight": 4},
        {"max_in_flight": 0},
    ],
)
def test_workers_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        Workers(**wrong)


async def test_a_handler_that_is_none_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="function of a message"):
        await run(Listed(1), cast(Handler, "handle"))
