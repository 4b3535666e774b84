"""How much may be unconfirmed, and who waits until there is less.

Messages and bytes are counted where they come in (by those who offer, under the outbox's lock) and where they go out
(by the publisher actor alone), each count with one writer. Those who wait stand in a queue with a lock of its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence

from actorstream.actors.future import LoopFuture

_bells = threading.RLock()
"""One for all bells: what it guards takes some instructions. Re-entrant, because a collection of garbage may run a
finalizer that rings another one."""


class Room:
    """The bounds of one outbox, what they hold, and the queue in front of it."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.accepted = 0
        """Messages that came in so far."""
        self.accepted_bytes = 0
        """The bytes of these messages."""
        self._released = 0
        self._released_bytes = 0
        self._ended = False
        self._lock = threading.Lock()
        # Made for the first who waits: a producer whose confirms keep up never has any.
        self._queue: deque[tuple[int, int, LoopFuture[None], bool]] | None = None
        self._overtaken = 0
        self._kept = 0
        self._kept_bytes = 0

    @property
    def held(self) -> int:
        """Messages that came in and have not gone out."""
        return self.accepted - self._released

    @property
    def held_bytes(self) -> int:
        """The bytes of these messages."""
        return self.accepted_bytes - self._released_bytes

    def fits(self, messages: int, size: int) -> bool:
        """Whether an entry of so many messages and bytes would get in now. One above a bound gets in alone."""
        return _fits(self, self.held, self.held_bytes, messages, size)

    def how_many(self, sizes: Sequence[int]) -> int:
        """How many of these messages, from the first on, would get in now, one after the other."""
        held, held_bytes, count = self.held, self.held_bytes, 0
        if held + len(sizes) <= self.max_messages and held_bytes + sum(sizes) <= self.max_bytes:
            return len(sizes)
        for size in sizes:
            if not _fits(self, held, held_bytes, 1, size):
                break
            held, held_bytes, count = held + 1, held_bytes + size, count + 1
        return count

    def take(self, messages: int, size: int) -> None:
        """They come in."""
        self.accepted += messages
        self.accepted_bytes += size

    def take_if_fits(self, messages: int, size: int) -> bool:
        """They come in, if there is room for them; in one step, since most messages come one by one."""
        held = self.accepted - self._released
        if held and (
            held + messages > self.max_messages or self.accepted_bytes - self._released_bytes + size > self.max_bytes
        ):
            return False
        self.accepted += messages
        self.accepted_bytes += size
        return True

    def release(self, messages: int, size: int) -> None:
        """They go out: whoever is next in the queue may come in."""
        self._released += messages
        self._released_bytes += size
        self.wake()

    # The queue: any thread ------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many stand in the queue."""
        return len(self._queue) if self._queue else 0

    @property
    def others_first(self) -> bool:
        """Whether somebody who waits should not be overtaken.

        Whoever stands in the queue waits for more room than there is: if those that need less went ahead, there would
        never be as much. Whoever was overtaken between his turn and his offer is not overtaken twice.
        """
        return bool(self._queue) or self._overtaken > 0

    def is_large(self, messages: int, size: int) -> bool:
        """Whether an entry needs more than the share of one message, and so may be overtaken again and again.

        Room is kept for these alone: to have all take turns would cost those who send in a tight loop most of their
        rate, and where all need the same, there is always room for whoever is next.
        """
        return messages > 1 or size * self.max_messages > self.max_bytes

    def overtaken(self, by: int) -> None:
        """One more, or one less, of those who wait was overtaken when it was his turn."""
        with self._lock:
            self._overtaken += by

    def turn_over(self, messages: int, size: int, *, again: bool) -> None:
        """Whoever had his turn has used his room, or not: it is not kept any more."""
        if again and self.is_large(messages, size):
            with self._lock:
                self._keep(-messages, -size)
            self.wake()

    def wait(self, messages: int, size: int, *, again: bool = False) -> LoopFuture[None]:
        """A future that is set when it is this one's turn, and there is room for it.

        In turn, and no more of them than find room: if all who wait were woken with each confirm, to look and to wait
        again, the time that they take would grow with their square. Whoever was woken and found that somebody else had
        been faster waits `again`: at the head.
        """
        future: LoopFuture[None] = LoopFuture()
        with self._lock:
            if self._queue is None:
                self._queue = deque()
            (self._queue.appendleft if again else self._queue.append)(
                (messages, size, future, again and self.is_large(messages, size))
            )
        self.wake()  # room may have come up before we stood in the queue
        return future

    def leave(self, future: LoopFuture[None], messages: int, size: int, *, again: bool) -> None:
        """Withdraw a `wait` that was not used: whoever is next in the queue may have its room."""
        with self._lock:
            queue = self._queue or deque()
            for entry in () if future.done() else tuple(queue):
                if entry[2] is future:
                    queue.remove(entry)
                    break
            else:  # it had its turn
                if again and self.is_large(messages, size):
                    self._keep(-messages, -size)
        self.wake()

    def wake(self) -> None:
        """Set as many, from the head of the queue, as there is room for; all of them after `end`."""
        if not self._queue:
            return
        woken: list[LoopFuture[None]] = []
        with self._lock:
            # What is kept for whoever was overtaken, and has not offered yet, is not there for others.
            queue, held, held_bytes = self._queue, self.held + self._kept, self.held_bytes + self._kept_bytes
            while queue and (self._ended or _fits(self, held, held_bytes, queue[0][0], queue[0][1])):
                messages, size, future, is_kept = queue.popleft()
                held, held_bytes = held + messages, held_bytes + size
                if is_kept:
                    self._keep(messages, size)
                woken.append(future)
        for future in woken:
            future.try_set(None)

    def _keep(self, messages: int, size: int) -> None:
        self._kept += messages
        self._kept_bytes += size

    def wake_all(self) -> None:
        """Set all of them: something else has happened that they should look at."""
        with self._lock:
            queue, self._queue = self._queue or deque(), None
            woken = [future for _, _, future, _ in queue]
            for messages, size, _, is_kept in queue:
                if is_kept:
                    self._keep(messages, size)
        for future in woken:
            future.try_set(None)

    def end(self) -> None:
        """From now on nobody waits."""
        self._ended = True
        self.wake()


class Bell:
    """Wakes everybody who waits for a change; what they wait for, they look at themselves."""

    def __init__(self) -> None:
        self._waiters: list[LoopFuture[None]] = []

    def wait(self) -> LoopFuture[None]:
        """A future that is set at the next change."""
        future: LoopFuture[None] = LoopFuture()
        with _bells:
            self._waiters.append(future)
        return future

    def ignore(self, future: LoopFuture[None]) -> None:
        """Withdraw a `wait`."""
        with _bells, contextlib.suppress(ValueError):  # it was set
            self._waiters.remove(future)

    def ring(self) -> None:
        """Something has changed."""
        if not self._waiters:
            return
        with _bells:
            woken, self._waiters = self._waiters, []
        for future in woken:
            future.try_set(None)


def _fits(room: Room, held: int, held_bytes: int, messages: int, size: int) -> bool:
    return held == 0 or (held + messages <= room.max_messages and held_bytes + size <= room.max_bytes)
