"""Running coroutines on a loop in another thread, for a caller that blocks."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from actorstream.actors.runtime import Home
from actorstream.errors import ActorStreamError, Closed, WrongLoop

T = TypeVar("T")

CANCEL_S = 1.0
"""How long what Ctrl-C interrupts may take to end, before it is left to itself."""


class _Call(Generic[T]):
    """A coroutine on its way to the loop and back. All but the making belongs to the loop."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.work = work
        self.outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.work)
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        if self._task is None:
            self.work.close()
            self._cancelled()
        else:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._cancelled()
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())

    def _cancelled(self) -> None:
        self.outcome.cancel()
        self.outcome.set_running_or_notify_cancel()  # else `concurrent.futures.wait` goes on waiting


class Runner:
    """Runs coroutines on the thread's loop, for a caller that blocks."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it, and block until it has ended.

        Raises:
            Closed: the client is closed.
            WrongLoop: called in a handler that runs on the loop itself, which would wait for itself for ever.
        """
        refusal: ActorStreamError | None = None
        if self.closed:
            refusal = Closed("the client is closed")
        elif self._home.is_current:
            refusal = WrongLoop("a blocking call on the thread of the loop: use the handle's `asynchronous` there")
        if refusal is not None:
            work.close()
            raise refusal
        call = _Call(work)
        try:
            self._home.loop.call_soon_threadsafe(call.begin)
            return call.outcome.result()
        except concurrent.futures.CancelledError:
            raise Closed("the client was closed meanwhile") from None
        except BaseException:
            if not call.outcome.done():
                self._cancel(call)
            raise

    def _cancel(self, call: _Call[Any]) -> None:
        """Ctrl-C: what nobody waits for any more should not go on, neither beside what comes next nor at the very end.

        An interpreter that ends in between destroys it as it is, and says so.
        """
        try:
            self._home.loop.call_soon_threadsafe(call.cancel)
        except RuntimeError:  # the loop is closed, and nothing was begun
            call.work.close()
            return
        concurrent.futures.wait([call.outcome], CANCEL_S)

    def close(self) -> None:
        """End the thread; safe to call again."""
        self.closed = True
        self._home.join()
