"""Where actors run: the caller's loop, or one in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, Self

from actorstream.actors.future import LoopFuture
from actorstream.errors import WrongLoop

logger = logging.getLogger("actorstream.actors")

DUE_IN_A_TURN = 64
"""Actors that tell each other things for ever leave the loop its turn after so many inboxes."""


class TimerHandle(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Take it back; harmless when it was made already."""


class Clock(Protocol):
    """Monotonic seconds, and calls after a delay; an asyncio loop is one. Tests have one that they move by hand."""

    def time(self) -> float:
        """Now."""

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> TimerHandle:
        """Call on the loop after `delay` seconds."""


class Home:
    """An event loop for actors. Made by `here` or `in_thread`.

    Attributes:
        loop: the loop.
        clock: all timing of the actors goes through it.
        own_thread: whether the loop runs in a thread of its own, which `close` ends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock | None, thread: threading.Thread | None) -> None:
        self.loop = loop
        self.clock: Clock = clock if clock is not None else loop
        self.own_thread = thread is not None
        self._thread = thread
        self._thread_id = threading.get_ident()
        self._ended: LoopFuture[None] = LoopFuture()
        self._stopping = False
        self._forked = False
        self._due: deque[Callable[[], object]] | None = None  # while something is called that was due
        _homes.add(self)

    @classmethod
    def here(cls, *, clock: Clock | None = None) -> Self:
        """The running loop."""
        return cls(asyncio.get_running_loop(), clock, None)

    @classmethod
    def in_thread(
        cls,
        name: str = "actorstream",
        *,
        clock: Clock | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> Self:
        """A loop of its own in a new thread; it runs when this returns.

        The thread is a daemon: a program that forgot to close its client must be able to end.
        """
        running = threading.Event()
        # The runner ends what is left on the loop, closes its generators and executor, and then the loop.
        runner = asyncio.Runner(loop_factory=loop_factory)
        thread = threading.Thread(target=lambda: home._run(runner, running), name=name, daemon=True)
        home = cls(runner.get_loop(), clock, thread)
        thread.start()
        running.wait()
        return home

    def _run(self, runner: asyncio.Runner, running: threading.Event) -> None:
        self._thread_id = threading.get_ident()
        with runner:
            self.loop.call_soon(running.set)
            while not self._stopping:
                # A handler that calls sys.exit() ends its actor; asyncio passes it on to here, and the others go on.
                try:
                    self.loop.run_forever()
                except (KeyboardInterrupt, SystemExit):
                    logger.exception("not for this thread; its actors go on")
        self._ended.set(None)

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is the one of this loop."""
        return threading.get_ident() == self._thread_id

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call on the loop, from any thread, but never from within this call.

        What is due because of such a call comes right after it, in the same turn of the loop, up to a bound: a message
        that one actor tells another because of a message would otherwise cost a turn, and the system call in it. All
        else keeps its order among the loop's callbacks: an answer wakes who waits for it before what was told later.

        Raises:
            RuntimeError: the loop is closed, or this process was forked and the loop stayed with its parent (F91).
        """
        if self._forked:
            raise RuntimeError("this process was forked: connect again in the child")
        if threading.get_ident() != self._thread_id:
            self.loop.call_soon_threadsafe(self._run_due, callback)
        elif self._due is None:
            self.loop.call_soon(self._run_due, callback)
        else:
            self._due.append(callback)

    def _run_due(self, callback: Callable[[], object]) -> None:
        due = self._due = deque((callback,))
        try:
            for _ in range(DUE_IN_A_TURN):
                due.popleft()()
                if not due:
                    return
        finally:
            self._due = None
            for left in due:
                self.loop.call_soon(self._run_due, left)

    def stop(self) -> None:
        """Ask the thread of `in_thread` to end, whatever runs on its loop. Any thread; does not wait."""
        if self.own_thread and not self._forked:
            self._stopping = True
            with contextlib.suppress(RuntimeError):  # closed already
                self.loop.call_soon_threadsafe(self.loop.stop)

    async def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread of `in_thread` and wait for it without blocking the calling loop; `here`: nothing to do.

        Returns:
            Whether it ended in time. One that is stuck in a blocking call is left to itself.

        Raises:
            WrongLoop: called on the very loop that should end; use `stop` there.
        """
        if not self.own_thread:
            return True
        self._refuse_self()
        self.stop()
        try:
            await asyncio.wait_for(self._ended, timeout_s)
        except TimeoutError:
            return False
        return self.join(timeout_s)  # the thread has a few instructions left

    def join(self, timeout_s: float = 5.0) -> bool:
        """As `close`, for callers without a loop: block until the thread has ended."""
        self._refuse_self()
        self.stop()
        if self._thread is None or self._forked:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _refuse_self(self) -> None:
        if self.own_thread and self.is_current:
            raise WrongLoop("a loop cannot wait for its own end")


_homes: weakref.WeakSet[Home] = weakref.WeakSet()


def _after_fork() -> None:
    for home in _homes:
        home._forked = True  # noqa: SLF001


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
