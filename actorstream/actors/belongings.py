"""What one incarnation owns, and what ends with it: tasks, timers, monitors, and replies it has promised."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pykka

from actorstream.actors.future import LoopFuture
from actorstream.actors.home import Clock, TimerHandle
from actorstream.actors.place import Place, settle, settle_error
from actorstream.actors.reasons import as_answer, as_exception
from actorstream.errors import InvalidArgument

logger = logging.getLogger("actorstream.actors")

R = TypeVar("R")

GRACE_S = 1.0
"""How long what was cancelled may take to end. What takes longer is left behind: it must not hang its supervisor."""


@dataclass(frozen=True, slots=True)
class Down:
    """Told to who monitors an actor: its incarnation `generation` ended. `reason` is None for a normal end."""

    ref: pykka.ActorRef[Any]
    generation: int
    reason: BaseException | None


class Timer:
    """A message that an actor has told itself for later; see `StreamActor.call_later`."""

    __slots__ = ("_handle", "_message", "_tell", "_timers")

    def __init__(
        self, clock: Clock, delay: float, message: object, tell: Callable[[object], None], timers: set[Timer]
    ) -> None:
        self._message = message
        self._tell = tell
        self._timers = timers
        timers.add(self)
        self._handle: TimerHandle = clock.call_later(max(delay, 0.0), self._fire)

    def cancel(self) -> None:
        """Take it back; harmless when it was told already."""
        self._timers.discard(self)
        self._handle.cancel()

    def _fire(self) -> None:
        self._timers.discard(self)
        self._tell(self._message)


class Belongings:
    """See the module. `place` is the owner's, `tell` reaches this incarnation only, `failed` gets a task's failure."""

    def __init__(self, place: Place, tell: Callable[[object], None], failed: Callable[[BaseException], None]) -> None:
        self._place = place
        self._tell = tell
        self._failed = failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: set[Timer] = set()
        self._monitored: dict[str, Place] = {}
        self._promised: set[pykka.Future[Any]] = set()
        self._released = False

    def spawn(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run a coroutine; one that comes after the end is cancelled at once."""
        task = loop.create_task(work, name=f"{self._place.path}: {getattr(work, '__qualname__', 'work')}")
        if self._released:
            task.cancel()
        else:
            self._tasks.add(task)
            task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # One that was cancelled was cancelled by whoever has the task; that is no failure.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def set_timer(self, clock: Clock, delay: float, message: object) -> Timer:
        """Tell the owner `message` after `delay` seconds."""
        return Timer(clock, delay, message, self._tell, self._timers)

    def monitor(self, ref: pykka.ActorRef[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Tell the owner `Down` when the current incarnation of `ref` ends, or at once."""
        place = ref.actor_inbox
        # Across loops the end and the wish to hear of it could miss each other.
        if not isinstance(place, Place) or not place.runs_on(loop):
            raise InvalidArgument(f"only actors of this runtime and loop can be monitored, not {ref}")
        self._monitored[ref.actor_urn] = place

        def down(generation: int, reason: BaseException | None) -> None:
            self._monitored.pop(ref.actor_urn, None)
            self._tell(Down(ref, generation, reason))

        place.watch(self, down)

    def demonitor(self, ref: pykka.ActorRef[Any]) -> None:
        """Undo `monitor`."""
        place = self._monitored.pop(ref.actor_urn, None)
        if place is not None:
            place.unwatch(self)

    def promise(self, reply: pykka.Future[Any], result: LoopFuture[Any]) -> None:
        """Answer `reply` with what `result` will be, or with why the owner ended before."""
        self._promised.add(reply)

        def keep(future: LoopFuture[Any]) -> None:
            self._promised.discard(reply)
            try:
                settle(reply, future.get(timeout=0))
            except BaseException as error:  # noqa: BLE001 - it belongs to the asker
                settle_error(reply, as_exception(error, self._place.path))

        result.add_done_callback(keep)

    async def put_away(self, clock: Clock) -> None:
        """Cancel timers and tasks, and wait for the tasks, but not for ever."""
        for timer in tuple(self._timers):
            timer.cancel()
        await put_away(clock, self._tasks)

    def release(self, reason: BaseException | None) -> None:
        """The owner has ended: let go of all that is left, and break what was promised."""
        self._released = True
        for place in self._monitored.values():
            place.unwatch(self)
        promised, self._promised = self._promised, set()
        for reply in promised:
            settle_error(reply, as_answer(reason, self._place.path))


async def wait(clock: Clock, tasks: set[asyncio.Task[Any]], seconds: float) -> set[asyncio.Task[Any]]:
    """Wait for tasks as `asyncio.wait` does, but by our clock; those that are late. They are not cancelled."""
    if not tasks:
        return tasks
    alarm = asyncio.get_running_loop().create_future()

    def ring() -> None:
        if not alarm.done():
            alarm.set_result(None)

    timer = clock.call_later(seconds, ring) if seconds != math.inf else None
    try:
        while tasks and not alarm.done():
            await asyncio.wait({*tasks, alarm}, return_when=asyncio.FIRST_COMPLETED)
            tasks = {task for task in tasks if not task.done()}
    finally:
        if timer is not None:
            timer.cancel()
    return tasks


async def put_away(clock: Clock, tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, for `GRACE_S` at most."""
    for task in tuple(tasks):
        task.cancel()
    for task in await wait(clock, set(tasks), GRACE_S):
        logger.error("%s does not end although it was cancelled; left behind", task.get_name())
