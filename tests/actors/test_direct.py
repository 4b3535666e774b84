"""Steps of an actor that are taken without telling it."""

from __future__ import annotations

import asyncio

import pykka

from actorstream.actors.direct import Direct
from actorstream.actors.runtime import Home, StreamActor, start_in
from tests.actors.clock import until

Step = Direct[int]


class Stepping(StreamActor):
    """Takes steps, and tells what becomes of it."""

    def __init__(self, seen: list[object], steps: list[Step]) -> None:
        super().__init__()
        self._seen = seen
        steps.append(self.direct(self._step))

    def _step(self, number: int) -> None:
        if number < 0:
            raise ValueError(number)
        self._seen.append(number)

    def on_receive(self, message: object) -> None:
        if message == "end":
            self.exit()

    def on_failure(self, _kind: object, error: object, _traceback: object) -> None:
        self._seen.append(error)


async def stepping(seen: list[object]) -> tuple[pykka.ActorRef[Stepping], Step]:
    steps: list[Step] = []
    ref = start_in(Home.here(), lambda: Stepping(seen, steps), name="stepping")
    assert not steps[0](0), "it has not begun"
    await until(lambda: steps[0](0))
    seen.clear()
    return ref, steps[0]


async def test_a_step_is_taken_at_once() -> None:
    seen: list[object] = []
    ref, step = await stepping(seen)
    assert step(1)
    assert seen == [1]
    await ref.stop(block=False)


async def test_no_step_is_taken_once_the_incarnation_is_ending() -> None:
    seen: list[object] = []
    ref, step = await stepping(seen)
    ref.tell("end")
    await until(lambda: not step(1))
    seen.clear()
    assert not step(2)
    assert seen == []
    await until(lambda: not ref.is_alive())
    assert not step(3)


async def test_what_a_step_raises_ends_the_actor_and_not_who_calls() -> None:
    seen: list[object] = []
    ref, step = await stepping(seen)
    assert step(-1)
    await until(lambda: not ref.is_alive())
    (error,) = seen
    assert isinstance(error, ValueError)


async def test_another_thread_has_to_tell() -> None:
    seen: list[object] = []
    ref, step = await stepping(seen)
    assert not await asyncio.to_thread(step, 1)
    assert seen == []
    await ref.stop(block=False)
