"""One incarnation's life: start, messages one at a time, end. All of it on the home's loop.

    starting ──on_start──> running ──exit, stop, failure──> stopping ──on_failure, on_stop──> stopped
        └─────────────────── exit, stop, failure ──────────────┘

Plain handlers are run straight from a callback of the loop, a batch at a time; only a handler that is a coroutine costs
a task, and the next message waits until it has ended. Nothing here waits without a bound, whatever hooks and handlers
do: what does not end when it is cancelled is left behind.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Callable
from types import CoroutineType
from typing import Any

import pykka
from pykka._envelope import Envelope

from actorstream.actors.belongings import GRACE_S, Belongings, put_away, wait
from actorstream.actors.future import LoopFuture
from actorstream.actors.home import Home, TimerHandle
from actorstream.actors.place import Fenced, Place, Stop, settle, settle_error
from actorstream.actors.reasons import Shutdown, as_answer, as_exception, forget_frames

logger = logging.getLogger("actorstream.actors")

BATCH = 64
"""Messages handled in one callback, before the loop gets to do something else."""


class Life:
    """See the module.

    Attributes:
        generation: which incarnation of its place this is, from 1.
        state: "starting", "running", "stopping" or "stopped".
        belongings: what ends with it.
    """

    __slots__ = (
        "_actor",
        "_deadline",
        "_finishing",
        "_hook_task",
        "_killer",
        "_leaving",
        "_place",
        "_raised",
        "_reason",
        "_task",
        "belongings",
        "generation",
        "state",
    )

    def __init__(self, actor: pykka.Actor, place: Place) -> None:
        self._actor = actor
        self._place = place
        self.generation = place.adopt(actor, self)
        self.state = "starting"
        self.belongings = Belongings(place, self)
        self._task: asyncio.Task[Any] | None = None  # of on_start, or of the handler that is running
        self._leaving = False
        self._reason: Exception | None = None
        self._raised = False
        self._deadline: float | None = None
        self._killer: TimerHandle | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._hook_task: asyncio.Task[Any] | None = None  # of on_failure or on_stop

    @property
    def home(self) -> Home:
        """Where it runs."""
        assert self._place.home is not None, "an actor has a home from on_start on"
        return self._place.home

    @property
    def reason(self) -> Exception | None:
        """Why it is going to end, or has ended."""
        return self._reason

    @property
    def is_working(self) -> bool:
        """Whether messages are handled."""
        return self.state == "running" and not self._leaving

    def tell(self, message: object) -> None:
        """Tell this incarnation; the next one drops the message."""
        self._place.put(Envelope(Fenced(self.generation, message)))

    def is_handling_in(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` runs the current hook or handler."""
        return self._task is task

    # Start

    def start(self) -> None:
        """Run `on_start`; in a callback of the loop, where nobody is in its way."""
        if self._leaving:  # killed before it began
            return
        try:
            result: object = self._actor.on_start()  # type: ignore[func-returns-value]
        except BaseException as error:
            self.leave(error, raised=True)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            return
        if inspect.iscoroutine(result):
            self._task = self.home.loop.create_task(result, name=f"{self._place.path}: on_start")
            self._task.add_done_callback(self._started)
            if self._place.stop_requested:
                self.leave(None)
        else:
            self._run()

    def _started(self, task: asyncio.Task[Any]) -> None:
        error = _error_of(task)
        if self._task is not task:  # left behind
            return
        self._task = None
        if self._leaving:
            self._finish_if_idle()
        elif error is not None:
            self.leave(error, raised=True)
        else:
            self._run()

    def _run(self) -> None:
        if not self._leaving:
            self.state = "running"
            if self._place.keeper is not None:
                self._place.keeper.running()
            self.work()

    # Messages

    def work(self) -> None:
        """Handle what is in the inbox, up to a handler that awaits."""
        if self.state != "running" or self._task is not None or self._leaving:
            return  # whoever ends that condition calls again
        place = self._place
        for _ in range(BATCH):
            if place.rest():
                return
            self._handle(place.get())
            if self._task is not None or self._leaving:
                return
        self.home.loop.call_soon(self.work)

    def _handle(self, envelope: Envelope[Any]) -> None:
        message, reply = envelope.message, envelope.reply_to
        if type(message) is Fenced:
            if message.generation != self.generation:
                if reply is not None:
                    settle_error(reply, pykka.ActorDeadError(f"{self._place.path}: that incarnation has ended"))
                return
            message = message.message
        elif type(message) is Stop:
            if not message.void:
                self.leave(None)
            return
        try:
            result = self._actor._handle_receive(message)  # noqa: SLF001 - what Pykka's own runtime calls
        except BaseException as error:
            self._failed(error, reply)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            return
        if type(result) is CoroutineType:
            self._task = self.home.loop.create_task(result, name=f"{self._place.path}: {type(message).__name__}")
            self._task.add_done_callback(lambda task: self._handled(task, reply))
        elif reply is not None:
            self._answer(reply, result)

    def _handled(self, task: asyncio.Task[Any], reply: pykka.Future[Any] | None) -> None:
        error = _error_of(task)
        if error is None:
            if reply is not None:
                self._answer(reply, task.result())
        elif self._leaving and task.cancelled():
            if reply is not None:
                settle_error(reply, as_answer(self._reason, self._place.path))
        else:
            self._failed(error, reply)
        if self._task is not task:  # left behind
            return
        self._task = None
        if self._leaving:
            self._finish_if_idle()
        else:
            self.work()

    def _answer(self, reply: pykka.Future[Any], result: object) -> None:
        if isinstance(result, LoopFuture):
            self.belongings.promise(reply, result)
        else:
            settle(reply, result)

    def _failed(self, error: BaseException, reply: pykka.Future[Any] | None) -> None:
        """A handler raised: the asker's business if there is one, and if it is an ordinary exception."""
        if reply is not None:
            if isinstance(error, Exception):
                settle_error(reply, error)
                return
            settle_error(reply, as_answer(as_exception(error, self._place.path), self._place.path))
        self.leave(error, raised=True)

    # End

    def leave(self, reason: BaseException | None, *, raised: bool = False) -> None:
        """End after the handler that is running; the first reason counts. `raised`: `on_failure` is due."""
        if self._leaving:
            return
        self._leaving = True
        self._raised = raised
        if reason is not None and not isinstance(reason, Shutdown):
            self._reason = as_exception(reason, self._place.path)
        self._arm_deadline()
        if self._task is not None and self.state == "starting":
            self._task.cancel()
        # Not here: whoever calls may be in the middle of a handler, or of a transport's callback.
        self.home.loop.call_soon(self._finish_if_idle)

    def heed_stop(self) -> None:
        """A stop message is in the inbox. It takes its turn there, except that `on_start` is not waited for."""
        self._arm_deadline()  # for what is running, and for all messages before it
        if self.state == "running":
            self.work()
        elif self._task is not None:
            self.leave(None)

    def kill(self) -> None:
        """End now: what runs is cancelled, and what is in the inbox is not handled. `on_stop` still has `GRACE_S`."""
        self.leave(None)
        self._deadline = self.home.clock.time()
        if self._task is not None:
            self._task.cancel()
            self._set_killer(GRACE_S, self._leave_behind)
        elif self._hook_task is not None:
            self._set_killer(GRACE_S, self._hook_task.cancel)

    def _leave_behind(self) -> None:
        if self._task is not None:
            logger.error("%s does not end although it was cancelled; left behind", self._task.get_name())
            self._task = None
            self._finish_if_idle()

    def _arm_deadline(self) -> None:
        if self._deadline is None:
            patience = self._place.shutdown_s
            self._deadline = self.home.clock.time() + patience
            if patience != math.inf:
                self._set_killer(patience, self.kill)

    def _set_killer(self, seconds: float, callback: Callable[[], object]) -> None:
        if self._killer is not None:
            self._killer.cancel()
        self._killer = self.home.clock.call_later(seconds, callback)

    def _finish_if_idle(self) -> None:
        if self._task is None and self._finishing is None:
            self.state = "stopping"
            self._finishing = self.home.loop.create_task(self._finish(), name=f"{self._place.path}: end")

    async def _finish(self) -> None:
        clock, actor, error = self.home.clock, self._actor, self._reason
        try:
            await self.belongings.put_away(clock)
            if self._raised and error is not None:
                await self._hook(lambda: actor.on_failure(type(error), error, error.__traceback__))
            await self._hook(actor.on_stop)
            await self.belongings.put_away(clock)  # what the hooks have spawned
        finally:
            # Also when this task is cancelled, as at the end of asyncio.run(): nobody is left waiting.
            self.state = "stopped"
            if self._killer is not None:
                self._killer.cancel()
            self.belongings.release(self._reason)
            forget_frames(self._reason)
            self._place.ended(self, self._reason)

    async def _hook(self, hook: Callable[[], object]) -> None:
        """Run a hook within what is left of the deadline, but at least `GRACE_S`; what it raises is logged."""
        try:
            result = hook()
        except Exception:
            logger.exception("a hook of %s failed", self._place.path)
            return
        if not inspect.iscoroutine(result):
            return
        clock = self.home.clock
        task = self._hook_task = self.home.loop.create_task(result, name=f"{self._place.path}: {result.__qualname__}")
        assert self._deadline is not None  # armed when it was decided to end
        try:
            late = await wait(clock, {task}, max(self._deadline - clock.time(), GRACE_S))
        finally:
            self._hook_task = None
            if not task.done():
                task.cancel()
        if late or task.cancelled():
            logger.error("a hook of %s took too long, and was cancelled", self._place.path)
            await put_away(clock, {task})
        elif (error := task.exception()) is not None:
            logger.error("a hook of %s failed", self._place.path, exc_info=error)


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()
