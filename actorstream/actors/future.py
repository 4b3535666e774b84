"""Two things that cross threads and loops: a future, and a FIFO. All other crossing is in a place's inbox.

Both wake a task that waits on whichever loop it runs, and both survive that such a task is cancelled: a future keeps
its result, a channel its items.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import pykka

from actorstream.errors import Closed, WrongLoop

logger = logging.getLogger("actorstream.actors")

T = TypeVar("T")

ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

# One lock for all futures: what it guards takes some instructions, and a lock for each would double the cost of an ask.
# Re-entrant, because a collection of garbage may run a finalizer, anywhere, that settles another future.
_lock = threading.RLock()


class Producer(Protocol):
    """Who will settle a future: lets it see that a wait for it could never end."""

    def runs_on(self, loop: asyncio.AbstractEventLoop, /) -> bool:
        """Whether `loop` has to run for the future to be settled."""

    def is_waiting(self, task: asyncio.Task[Any] | None, /) -> bool:
        """Whether `task` is the very handler that has to end before the future can be settled."""


class LoopFuture(pykka.Future[T], Generic[T]):
    """A Pykka future that any thread may settle, any loop may await, and any thread without a loop may block on.

    An await that is cancelled leaves the future as it was: others, or the same task later, can await it again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._callbacks: list[tuple[asyncio.AbstractEventLoop | None, Callable[[LoopFuture[T]], object]]] = []
        self._hook_lock: threading.Lock | None = None
        self.producer: Producer | None = None

    def __repr__(self) -> str:
        state = (
            "error" if self._error is not None else "done" if self._done else "hook" if self._get_hook else "pending"
        )
        return f"<LoopFuture {state}>"

    def done(self) -> bool:
        """Whether a result or an error is there (never so with a get hook)."""
        return self._done

    # Settling: any thread

    def set(self, value: T | None = None) -> None:
        """Settle with a value.

        Raises:
            asyncio.InvalidStateError: it is settled already, or has a get hook.
        """
        if not self.try_set(value):
            raise asyncio.InvalidStateError("the future is settled already")

    def set_exception(self, exc_info: ExcInfo | BaseException | None = None) -> None:
        """Settle with an error: the one given, or the one being handled. Pykka's triple is taken as well.

        Raises:
            asyncio.InvalidStateError: it is settled already, or has a get hook.
        """
        if not self.try_set_exception(exc_info):
            raise asyncio.InvalidStateError("the future is settled already")

    def try_set(self, value: T | None = None) -> bool:
        """Settle with a value, unless it is settled already; whether it was this call that did it."""
        return self._settle(value, None)

    def try_set_exception(self, exc_info: ExcInfo | BaseException | None = None) -> bool:
        """Settle with an error, as `set_exception`; whether it was this call that did it."""
        error = exc_info if isinstance(exc_info, BaseException) else _exception_of(exc_info or sys.exc_info())
        return self._settle(None, error)

    def _settle(self, value: T | None, error: BaseException | None) -> bool:
        with _lock:
            if self._done or self._get_hook is not None:
                return False
            self._value = value
            if error is not None:
                self._error = error
                self._traceback = error.__traceback__
            self._done = True
            callbacks, self._callbacks = self._callbacks, []
        for loop, callback in callbacks:
            self._call(loop, callback)
        return True

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Have `func(timeout)` make the value when it is first wanted, as Pykka's `stop`, `map` and `join` do."""
        with _lock:
            if self._done:
                raise asyncio.InvalidStateError("the future is settled already")
            self._hook_lock = threading.Lock()
            super().set_get_hook(func)

    # Waiting

    def get(self, *, timeout: float | None = None) -> T:
        """Block for the value (seconds; None: as long as it takes), and raise if it is an error.

        On a thread that runs an event loop this gives what is there, and never blocks a loop that is needed to settle
        the future: await it instead.

        Raises:
            pykka.Timeout: it was not settled in time.
            WrongLoop: waiting here would hang.
        """
        if not self._done:
            if self._get_hook is not None:
                return self._get_by_hook(timeout)
            self._block(timeout)
        return self._result()

    def _block(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            raise pykka.Timeout(f"{timeout} seconds")
        loop = _running_loop()
        # An unknown producer is taken to need this loop: an error that is loud beats a program that hangs.
        if loop is not None and (self.producer is None or self.producer.runs_on(loop)):
            raise WrongLoop("get() would block the event loop that has to produce the value: await the future instead")
        settled = threading.Event()

        def wake(_future: LoopFuture[T]) -> None:
            settled.set()

        if self._add(None, wake):
            try:
                if not settled.wait(timeout):
                    raise pykka.Timeout(f"{timeout} seconds")
            finally:
                self._remove(None, wake)

    def _get_by_hook(self, timeout: float | None) -> T:
        assert self._hook_lock is not None
        # The hook runs once at a time, as in Pykka, and its value is kept; an error (a timeout!) is not.
        if not self._hook_lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            raise pykka.Timeout(f"{timeout} seconds")
        try:
            return super().get(timeout=timeout)
        finally:
            self._hook_lock.release()

    def _result(self) -> T:
        if self._error is not None:
            # With the traceback it had when it was set: each raise would otherwise add to it.
            raise self._error.with_traceback(self._traceback)
        return self._value  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, None, T]:
        """Wait without blocking the loop; cancellation-safe.

        Raises:
            WrongLoop: an actor's handler waits for what only the same actor can do after that handler (F86).
        """
        if self._done:
            return self._result()
        if self._get_hook is not None:
            return (yield from self._run_hook().__await__())
        loop = asyncio.get_running_loop()
        if self.producer is not None and self.producer.is_waiting(asyncio.current_task()):
            raise WrongLoop("an actor waits in a handler for its own answer, which can only come after the handler")
        waiter = loop.create_future()

        def wake(_future: LoopFuture[T]) -> None:
            if not waiter.done():  # cancelled meanwhile (F79)
                waiter.set_result(None)

        if self._add(loop, wake):
            try:
                yield from waiter
            finally:
                self._remove(loop, wake)
        return self._result()

    __iter__ = __await__

    def _run_hook(self) -> LoopFuture[T]:
        """Run the get hook where it may block: in a thread of its own.

        Not in the loop's executor: a hook that waits for long would hold one of its few threads, and the loop's end.
        """
        outcome: LoopFuture[T] = LoopFuture()

        def run() -> None:
            try:
                outcome.try_set(self.get())
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits
                outcome.try_set_exception(error)

        threading.Thread(target=run, name="actorstream-get-hook", daemon=True).start()
        return outcome

    # Callbacks

    def add_done_callback(self, callback: Callable[[LoopFuture[T]], object]) -> None:
        """Call `callback(future)` once it is settled; at once if it is.

        Added on a running loop, it is called on that loop, else in the thread that settles the future. What it raises
        is logged.
        """
        if self._get_hook is not None:
            self._run_hook().add_done_callback(callback)
            return
        loop = _running_loop()
        if not self._add(loop, callback):
            self._call(loop, callback)

    def _add(self, loop: asyncio.AbstractEventLoop | None, callback: Callable[[LoopFuture[T]], object]) -> bool:
        with _lock:
            if not self._done:
                self._callbacks.append((loop, callback))
            return not self._done

    def _remove(self, loop: asyncio.AbstractEventLoop | None, callback: Callable[[LoopFuture[T]], object]) -> None:
        if not self._done:  # it was not settled, and whoever polls would otherwise leave a callback behind each time
            with _lock:
                if (loop, callback) in self._callbacks:
                    self._callbacks.remove((loop, callback))

    def _call(self, loop: asyncio.AbstractEventLoop | None, callback: Callable[[LoopFuture[T]], object]) -> None:
        if loop is not None and loop is not _running_loop():
            _call_on(loop, self._call, None, callback)
            return
        try:
            callback(self)
        except Exception:
            logger.exception("a callback of a future failed")


class Channel(Generic[T]):
    """An unbounded FIFO: any thread puts, one task at a time gets, on any loop.

    What has been put before `close` is still read; then `get` raises. An item is never lost to a cancelled `get`.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._lock = threading.RLock()  # re-entrant for the same reason as above
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._closed: Exception | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether it was closed; items may be left."""
        return self._closed is not None

    def put(self, item: T) -> None:
        """Append an item and wake the reader. After `close` the item is dropped: nobody will come for it."""
        with self._lock:
            if self._closed is None:
                self._items.append(item)
                self._wake()

    def close(self, error: Exception | None = None) -> None:
        """Have `get` raise `error` (default: `Closed`) once the items are read. Only the first call counts."""
        with self._lock:
            if self._closed is None:
                self._closed = error if error is not None else Closed("the channel was closed")
                self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            (loop, waiter), self._waiter = self._waiter, None
            if loop is _running_loop():
                _release(waiter)
            else:
                _call_on(loop, _release, waiter)

    def get_nowait(self) -> T:
        """The next item.

        Raises:
            asyncio.QueueEmpty: there is none at this moment.
            Closed: there is none, and there will be none (or the error given to `close`).
        """
        with self._lock:
            if self._items:
                return self._items.popleft()
            if self._closed is not None:
                raise self._closed.with_traceback(None)
            raise asyncio.QueueEmpty

    async def get(self) -> T:
        """The next item, as soon as there is one. Cancellation-safe.

        Raises:
            Closed: there will be none (or the error given to `close`).
            RuntimeError: another task is waiting already; it would be chance who gets which item.
        """
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._closed is not None:
                    raise self._closed.with_traceback(None)
                if self._waiter is not None:
                    raise RuntimeError("another task is reading from this channel")
                loop = asyncio.get_running_loop()
                waiter = loop.create_future()
                self._waiter = (loop, waiter)
            try:
                # Only a signal: the item stays in the channel until there is no await between it and the caller.
                await waiter
            finally:
                with self._lock:
                    if self._waiter is not None and self._waiter[1] is waiter:
                        self._waiter = None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        # That loop is closed, and whoever waited on it is gone with it (F91).
        logger.debug("dropped a wake-up for a closed event loop")


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _exception_of(exc_info: ExcInfo) -> BaseException:
    kind, error, traceback = exc_info
    if kind is None:
        raise TypeError("set_exception() without an error, and none is being handled")
    return (error if error is not None else kind()).with_traceback(traceback)
