"""How far a consumer has come in its stream, and the messages that it has in hand.

Compiled where that is possible: what is done here is done for each message. `async for` calls nothing else until a
chunk is used up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from actorstream.wire.message import Message

if TYPE_CHECKING:
    from actorstream.actors.gate import Gate

NOTHING: Final = -1
"""No offset."""


class Progress:
    """How far the consumer has come. Offsets count records."""

    __slots__ = ("begin", "completed", "gate", "left", "position")

    def __init__(self, position: int, gate: Gate | None = None) -> None:
        self.begin = position
        """Where it began."""
        self.position = position
        """The next offset to be dispatched. All below was dispatched or is not wanted: a chunk that the broker sends
        again is cut here."""
        self.completed: int | None = None
        """The last offset whose processing ended: what may be stored. The two differ by what is in hand."""
        self.left = False
        """Whether the user sent the consumer elsewhere: what was taken in this place and not begun is not wanted."""
        self.gate: Any = gate
        """Who says whether what advances this progress may be handed out (a `Gate`); None: it may."""

    @property
    def is_ahead(self) -> bool:
        """Whether something was dispatched that is not completed."""
        return self.position != (self.begin if self.completed is None else self.completed + 1)


class Hand:
    """Messages of one chunk, the first of which may be dispatched already. They are completed in order, one by one.

    Attributes:
        messages: those of the chunk, none when there is none in hand.
        index: how many of them were dispatched.
        received: messages dispatched, of all chunks; those that came again count again.
        returned: how many of them were put back.
        dispatched: the offset of the last one, as long as it is not completed; else `NOTHING`.
        progress: what they advance.
        store_due: when so many are received, `on_due` is called after the next one that is completed.
    """

    __slots__ = ("dispatched", "index", "messages", "on_due", "progress", "received", "returned", "store_due")

    def __init__(self, progress: Progress, store_due: int, on_due: Callable[[], None]) -> None:
        self.progress = progress
        self.store_due = store_due
        self.on_due = on_due
        self.messages: list[Message] = []
        self.index = 0
        self.received = 0
        self.returned = 0
        self.dispatched = NOTHING

    def hold(self, messages: list[Message]) -> None:
        """Have these in hand, and nothing else."""
        self.messages = messages
        self.index = 0

    def take(self) -> Message | None:
        """The next one; the one before is completed. None when there is none."""
        if self.dispatched >= 0:
            self.complete()
        index, messages = self.index, self.messages  # which may be replaced, perhaps from another thread
        if index >= len(messages):
            return None
        message = messages[index]
        self.index = index + 1
        self.received += 1
        self.dispatched = message.offset
        self.progress.position = message.offset + 1
        return message

    def take_batch(self, max_size: int | None) -> list[Message]:
        """As `take`, with all that are left, or so many of them."""
        self.complete()
        start, messages = self.index, self.messages
        batch = messages[start:] if max_size is None else messages[start : start + max_size]
        if batch:
            self.index = start + len(batch)
            self.received += len(batch)
            self.dispatched = batch[-1].offset
            self.progress.position = batch[-1].offset + 1
        return batch

    def complete(self) -> None:
        """What was dispatched last is completed."""
        if self.dispatched >= 0:
            self.progress.completed = self.dispatched
            self.dispatched = NOTHING
            if self.received >= self.store_due:
                self.on_due()

    def put_back(self, messages: list[Message], *, wanted: bool) -> None:
        """These, dispatched last, come again, if they are still wanted."""
        self.returned += len(messages)
        self.store_due += len(messages)
        self.progress.position = messages[0].offset
        if wanted:
            self.hold(messages + self.messages[self.index :])


class Iteration:
    """What `async for` uses: it takes from a hand, and has it filled again.

    Apart from the hand, since a coroutine that mypyc has made takes a third of the time of one that is interpreted.
    """

    __slots__ = ("_fetch", "_hand")

    def __init__(self, hand: Hand, fetch: Callable[[], Awaitable[None]]) -> None:
        self._hand = hand
        self._fetch = fetch

    def __aiter__(self) -> Iteration:
        return self

    async def __anext__(self) -> Message:
        """See `Reader`."""
        while True:
            message = self._hand.take()
            if message is not None:
                return message
            await self._fetch()
