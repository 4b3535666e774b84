"""Several consumers read as one: in turns, and in order within each.

A turn is a number of messages, so that a partition with a long backlog does not hold up one with a single message.
Chunks are fetched for all that have none in hand at the same time, since any of them may be the next to get one; and
after each turn it is looked whether one did.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from actorstream.actors.progress import Progress
from actorstream.consumer import Consumer
from actorstream.wire.message import Message

TURN = 100
"""Messages of one consumer, before it is the turn of the next that has some in hand."""


class Merge:
    """See the module. Read by one task at a time, as a consumer is; all but the taking belongs to that task's loop.

    Args:
        ended: told of each consumer that comes to its end, with the error if it was one. What it raises goes to the
            reader; when it returns, the others go on.
    """

    def __init__(self, ended: Callable[[Consumer, BaseException | None], None]) -> None:
        self._ended = ended
        self._parts: dict[str, Consumer] = {}
        self._known: dict[str, Consumer] = {}  # those that came to their end, too
        self._ready: deque[Consumer] = deque()
        self._dry: list[Consumer] = []
        self._fetching: dict[asyncio.Task[bool], Consumer] = {}
        self._cancelled: set[asyncio.Task[bool]] = set()
        self._current: Consumer | None = None
        self._left = 0
        self._looked = False
        self._bell = asyncio.Event()

    def add(self, part: Consumer) -> None:
        """Read this one too."""
        self._parts[part.stream] = self._known[part.stream] = part
        self._dry.append(part)
        self.wake()

    def wake(self) -> None:
        """Have a fetch that waits return."""
        self._bell.set()

    # Taking -------------------------------------------------------------------------------------------------------

    def take(self) -> Message | None:
        """The next message that is in hand; the one before is completed. None when something has to be fetched."""
        while True:
            if self._left and self._current is not None:
                message = self._current.take()
                if message is not None:
                    self._left -= 1
                    return message
            if not self._next_turn():
                return None

    def take_ahead(self) -> tuple[Message, Progress] | None:
        """As `take`; completes nothing: see `Consumer.take_ahead`."""
        while True:
            if self._left and self._current is not None:
                taken = self._current.take_ahead()
                if taken is not None:
                    self._left -= 1
                    return taken
            if not self._next_turn():
                return None

    def take_batch(self, max_size: int | None) -> list[Message]:
        """What one of them has in hand, its turn over with that; the batch before is completed."""
        while self._next_turn():
            assert self._current is not None
            batch = self._current.take_batch(max_size)
            if batch:
                return batch
        return []

    def _next_turn(self) -> bool:
        """Whoever has something in hand next; False if nobody has, or some have to be looked after first.

        The message before is completed.
        """
        current, self._current = self._current, None
        if current is not None:
            current.complete()
            self._ready.append(current)
        if not self._looked and (self._dry or self._fetching):
            return False
        while self._ready:
            part = self._ready.popleft()
            if part.has_messages:
                self._current, self._left = part, TURN
                self._looked = False
                return True
            if part.stream in self._parts:
                self._dry.append(part)
        return False

    def complete(self) -> None:
        """What was dispatched last is completed."""
        if self._current is not None:
            self._current.complete()

    def put_back(self, messages: list[Message], progress: Progress | None = None) -> None:
        """Messages of one consumer, dispatched last by it, come again."""
        part = self._known[messages[0].stream]
        for task in [task for task, whose in self._fetching.items() if whose is part and not task.done()]:
            # What it would fetch would take the place of what is put back. From here on, it never gets to that.
            del self._fetching[task]
            task.cancel()
            self._cancelled.add(task)
            task.add_done_callback(self._cancelled.discard)
            self._dry.append(part)
        part.put_back(messages, progress)
        if part in self._dry and part.has_messages:
            self._dry.remove(part)
            self._ready.appendleft(part)
        elif part.stream not in self._parts and part.has_messages:  # it was read to its end, and is not at its end now
            self._parts[part.stream] = part
            self._ready.appendleft(part)

    # Fetching -----------------------------------------------------------------------------------------------------

    async def fetch(self) -> None:
        """Wait until one of them has something in hand, or has ended, or for `wake`. Cancelling it loses nothing.

        Raises:
            StopAsyncIteration: all of them have ended.
            and what `ended` raises.
        """
        self._looked = True
        self._bell.clear()
        dry, self._dry = self._dry, []
        for part in dry:
            self._fetching[asyncio.ensure_future(_fetched(part))] = part
        if self._ready:
            await asyncio.sleep(0)  # what has arrived is taken in, and nothing is waited for
        elif not self._parts:
            raise StopAsyncIteration
        else:
            await self._first()
        self._settle()

    async def _first(self) -> None:
        ringing = asyncio.ensure_future(self._bell.wait())
        try:
            await asyncio.wait({*self._fetching, ringing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ringing.cancel()

    def _settle(self) -> None:
        for task in [task for task in self._fetching if task.done()]:
            part = self._fetching.pop(task)
            error = None if task.cancelled() else task.exception()
            # At its end, it may have something in hand again: what was put back meanwhile.
            if part.has_messages or (error is None and not task.cancelled() and task.result()):
                self._ready.append(part)
                continue
            del self._parts[part.stream]
            self._ended(part, error)

    async def close(self) -> None:
        """Fetch no more: a fetch that waits ends."""
        self._parts.clear()
        self._dry.clear()
        self.wake()
        fetching = [*self._fetching, *self._cancelled]
        self._fetching.clear()
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)


async def _fetched(part: Consumer) -> bool:
    """Fetch its next chunk; False when there will be none."""
    try:
        await part.fetch()
    except StopAsyncIteration:
        return False
    return True
