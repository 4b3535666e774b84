"""What one incarnation owns, and what ends with it: tasks, timers, monitors, and replies it has promised."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

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


class Owner(Protocol):
    """Whose belongings these are: `life.Life`."""

    def tell(self, message: object) -> None:
        """Tell this incarnation, and no later one."""

    def leave(self, reason: BaseException | None, *, raised: bool = False) -> None:
        """A task has failed."""


class Timer:
    """A message that an actor has told itself for later; see `StreamActor.call_later`."""

    __slots__ = ("_belongings", "_handle", "_message")

    def __init__(self, clock: Clock, delay: float, message: object, belongings: Belongings) -> None:
        self._message = message
        self._belongings = belongings
        self._handle: TimerHandle = clock.call_later(max(delay, 0.0), self._fire)

    def cancel(self) -> None:
        """Take it back; harmless when it was told already."""
        self._belongings.forget_timer(self)
        self._handle.cancel()

    def _fire(self) -> None:
        self._belongings.forget_timer(self)
        self._belongings.owner.tell(self._message)


class Belongings:
    """See the module. `place` is the owner's.

    Each kind has its set only while there is one of it: three empty sets take more than the rest of an actor's life,
    and of actors there may be thousands.
    """

    __slots__ = ("_monitored", "_place", "_promised", "_released", "_tasks", "_timers", "owner")

    def __init__(self, place: Place, owner: Owner) -> None:
        self.owner = owner
        self._place = place
        self._tasks: set[asyncio.Task[Any]] | None = None
        self._timers: set[Timer] | None = None
        self._monitored: dict[str, Place] = {}
        self._promised: set[pykka.Future[Any]] | None = None
        self._released = False

    def spawn(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run a coroutine; one that comes after the end is cancelled at once."""
        task = loop.create_task(work, name=f"{self._place.path}: {getattr(work, '__qualname__', 'work')}")
        if self._released:
            task.cancel()
        else:
            if self._tasks is None:
                self._tasks = set()
            self._tasks.add(task)
            task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        if self._tasks is not None:
            self._tasks.discard(task)
            self._tasks = self._tasks or None
        # One that was cancelled was cancelled by whoever has the task; that is no failure.
        if not task.cancelled() and (error := task.exception()) is not None:
            self.owner.leave(error, raised=True)

    def set_timer(self, clock: Clock, delay: float, message: object) -> Timer:
        """Tell the owner `message` after `delay` seconds."""
        timer = Timer(clock, delay, message, self)
        if self._timers is None:
            self._timers = set()
        self._timers.add(timer)
        return timer

    def forget_timer(self, timer: Timer) -> None:
        """It was told, or taken back."""
        if self._timers is not None:
            self._timers.discard(timer)
            self._timers = self._timers or None

    def monitor(self, ref: pykka.ActorRef[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Tell the owner `Down` when the current incarnation of `ref` ends, or at once."""
        place = ref.actor_inbox
        # Across loops the end and the wish to hear of it could miss each other.
        if not isinstance(place, Place) or not place.runs_on(loop):
            raise InvalidArgument(f"only actors of this runtime and loop can be monitored, not {ref}")
        self._monitored[ref.actor_urn] = place
        place.watch(self)

    def gone(self, place: Place, generation: int, reason: BaseException | None) -> None:
        """See `place.Watcher`."""
        self._monitored.pop(place.urn, None)
        self.owner.tell(Down(place.ref, generation, reason))

    def demonitor(self, ref: pykka.ActorRef[Any]) -> None:
        """Undo `monitor`."""
        place = self._monitored.pop(ref.actor_urn, None)
        if place is not None:
            place.unwatch(self)

    def promise(self, reply: pykka.Future[Any], result: LoopFuture[Any]) -> None:
        """Answer `reply` with what `result` will be, or with why the owner ended before."""
        if self._promised is None:
            self._promised = set()
        self._promised.add(reply)

        def keep(future: LoopFuture[Any]) -> None:
            if self._promised is not None:
                self._promised.discard(reply)
            try:
                settle(reply, future.get(timeout=0))
            except BaseException as error:  # noqa: BLE001 - it belongs to the asker
                settle_error(reply, as_exception(error, self._place.path))

        result.add_done_callback(keep)

    async def put_away(self, clock: Clock) -> None:
        """Cancel timers and tasks, and wait for the tasks, but not for ever."""
        for timer in tuple(self._timers or ()):
            timer.cancel()
        await put_away(clock, self._tasks or set())

    def release(self, reason: BaseException | None) -> None:
        """The owner has ended: let go of all that is left, and break what was promised."""
        self._released = True
        for place in self._monitored.values():
            place.unwatch(self)
        promised, self._promised = self._promised, None
        for reply in promised or ():
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
