"""Several messages at a time: which of them may be handled side by side, and how far that has come.

Messages are taken from their source in order, ahead of those that are being handled. Those of one key are handled one
after the other, in order; a key that takes long, or that waits for its next try, holds up no other, until as many are
taken as may be. What is completed counts in order, by a `CompletionWindow` for each place in a stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from actorstream.actors.completion import CompletionWindow
from actorstream.actors.progress import Progress
from actorstream.wire.message import Message

Key = Callable[[Message], Hashable]
"""Messages for which it gives equal values are handled one after the other, in order."""

Handle = Callable[[Message, Exception | None], Awaitable[None]]
"""Has one message handled, which is completed when it returns; the error is that of its key, if there was one."""

T = TypeVar("T")

logger = logging.getLogger("actorstream.handling")


class Source(Protocol):
    """What messages are taken from: a `Consumer`, or whatever reads several streams."""

    @property
    def was_closed(self) -> bool:
        """Whether its owner closed it: what was taken and not begun is not wanted any more."""

    def take_ahead(self) -> tuple[Message, Progress] | None:
        """The next message in hand, and the place that it advances; completes nothing."""

    async def fetch(self) -> None:
        """Have more in hand. Raises StopAsyncIteration at the end. Cancelling it loses nothing."""

    def put_back(self, messages: list[Message], progress: Progress | None = None) -> None:
        """The messages taken from this place last come again."""


class Lanes(Generic[T]):
    """What may be begun next: of each key one at a time, in order; keys in the order in which their turn came."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[T]] = {}
        self._ready: deque[Hashable] = deque()

    def add(self, key: Hashable, item: T) -> None:
        """Put an item behind the others of its key."""
        lane = self._lanes.get(key)
        if lane is None:  # a key that is here and not ready has one in work
            lane = self._lanes[key] = deque()
            self._ready.append(key)
        lane.append(item)

    def begin(self) -> tuple[Hashable, T] | None:
        """Take an item whose key has none in work; None when there is none. `end` has to be called for its key."""
        if not self._ready:
            return None
        key = self._ready.popleft()
        return key, self._lanes[key].popleft()

    def end(self, key: Hashable) -> None:
        """The item of this key that was begun is done: it is the next one's turn."""
        if self._lanes[key]:
            self._ready.append(key)
        else:
            del self._lanes[key]


@dataclass(frozen=True, slots=True)
class _Work:
    message: Message
    window: CompletionWindow
    key_error: Exception | None


class ParallelRun:
    """One run over a source; see the module.

    Args:
        source: where messages come from.
        handle: what is called for each of them, in a task.
        workers: how many at a time.
        key: None: any message may be handled beside any other.
        max_in_flight: how many may be taken from the first one on that is not completed.
    """

    def __init__(self, source: Source, handle: Handle, *, workers: int, key: Key | None, max_in_flight: int) -> None:
        self._source = source
        self._handle = handle
        self._workers = workers
        self._key = key
        self._max_in_flight = max_in_flight
        self._lanes: Lanes[_Work] = Lanes()
        self._windows: dict[Progress, CompletionWindow] = {}
        self._in_flight = 0
        self._room = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._feeding: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Have everything handled until the source ends.

        When one fails, nothing is begun any more; those in work go on to their end, and the failure is raised. When
        this is cancelled, they are cancelled too. In both cases, and when the source was closed, all from the first
        message on that is not completed come again.
        """
        feeding = self._feeding = asyncio.create_task(self._feed())
        try:
            await self._all_done(feeding)
        except asyncio.CancelledError as cancelled:
            self._failure = cancelled
            for task in (feeding, *self._running):
                task.cancel()
            await self._all_done(feeding)
            raise
        finally:
            self._put_back()
        ended_by = None if feeding.cancelled() else feeding.exception()
        if error := self._failure or ended_by:
            raise error

    async def _all_done(self, feeding: asyncio.Task[None]) -> None:
        await asyncio.wait({feeding})
        while self._running:  # each that ends may begin the next
            await asyncio.wait(self._running)

    async def _feed(self) -> None:
        """Take messages as long as there is room."""
        while True:
            while self._in_flight >= self._max_in_flight:
                self._room.clear()
                await self._room.wait()
            taken = self._source.take_ahead()
            if taken is not None:
                self._add(*taken)
                self._begin()
                continue
            try:
                await self._source.fetch()
            except StopAsyncIteration:
                return

    def _add(self, message: Message, progress: Progress) -> None:
        window = self._windows.get(progress)
        if window is None:
            # Places that were given up are forgotten once nothing of them is in work.
            self._windows = {place: window for place, window in self._windows.items() if window}
            window = self._windows[progress] = CompletionWindow(progress)
        window.begin(message)
        self._in_flight += 1
        key: Hashable = message  # no two are equal
        key_error: Exception | None = None
        if self._key is not None:
            try:
                key = self._key(message)
                hash(key)
            except Exception as error:  # noqa: BLE001 - the user's code; its message is handled as one that fails
                key, key_error = message, error
        self._lanes.add(key, _Work(message, window, key_error))

    def _begin(self) -> None:
        while len(self._running) < self._workers and self._failure is None and not self._source.was_closed:
            begun = self._lanes.begin()
            if begun is None:
                return
            if not begun[1].window.enter():
                self._give_up(*begun)
                continue
            task = asyncio.create_task(self._work(*begun))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _give_up(self, key: Hashable, work: _Work) -> None:
        """The consumer was sent elsewhere, or is not the active one any more: all taken there is not wanted."""
        self._lanes.end(key)
        self._in_flight -= work.window.abandon()
        self._windows = {place: window for place, window in self._windows.items() if window is not work.window}
        self._room.set()

    async def _work(self, key: Hashable, work: _Work) -> None:
        try:
            if not work.window.is_wanted:  # between the making of this task and its first step
                self._give_up(key, work)
                return
            await self._handle(work.message, work.key_error)
            self._lanes.end(key)
            self._in_flight -= work.window.complete(work.message.offset)
        finally:
            work.window.leave()
        self._room.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._begin()
        elif self._failure is None:
            self._failure = error
        elif not isinstance(error, asyncio.CancelledError):
            logger.warning("another handler failed while the run ended: %s", error, exc_info=error.__cause__)
        if (self._failure is not None or self._source.was_closed) and self._feeding is not None:
            self._feeding.cancel()

    def _put_back(self) -> None:
        for progress, window in self._windows.items():
            if window:
                self._source.put_back(window.unfinished(), progress)
