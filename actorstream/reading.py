"""The ways to read: message by message, in batches, by a handler, or to an actor. All over the same few steps.

A reader has messages in hand, or has to fetch more: of one stream (`Consumer`), or of several.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actorstream import handling
from actorstream.actors.calls import tell
from actorstream.actors.future import LoopFuture
from actorstream.actors.mailbox import Deliver, Tellable, is_alive
from actorstream.actors.progress import Progress
from actorstream.errors import InvalidArgument
from actorstream.handling import ErrorPolicy, Handler
from actorstream.parallel import Key
from actorstream.wire.message import Message

if TYPE_CHECKING:
    from actorstream.producer import Producer

LOOK_AFTER_S = 0.25
"""How often an actor that owes an acknowledgement is looked after: it may have died, and nobody tells us of that."""

_within: contextvars.ContextVar[tuple[Reader, ...]] = contextvars.ContextVar("within", default=())
"""The readers one of whose handlers this is, or was called by."""


class Reader(ABC):
    """What can be read in these ways; see the module. By one task at a time, on the loop that made it."""

    _runs = 0

    @property
    @abstractmethod
    def stream(self) -> str:
        """The name of what is read."""

    @property
    @abstractmethod
    def was_closed(self) -> bool:
        """Whether its owner closed it: what is in hand or under way is not wanted then. After a failure it still is."""

    @abstractmethod
    def take(self) -> Message | None:
        """The next message that is in hand; the one before is completed. None when something has to be fetched."""

    @abstractmethod
    def take_batch(self, max_size: int | None) -> list[Message]:
        """As `take`, with what is in hand of one stream, at most `max_size` messages."""

    @abstractmethod
    def take_ahead(self) -> tuple[Message, Progress] | None:
        """As `take`, with the progress that the message advances; completes nothing: that is for whoever handles it."""

    @abstractmethod
    def put_back(self, messages: list[Message], progress: Progress | None = None) -> None:
        """Those of one stream that were dispatched last were not processed: they come again.

        `progress`: the one they were taken with, unless none was taken since; of a place given up, nothing comes again.
        """

    @abstractmethod
    async def fetch(self) -> None:
        """Have more in hand; perhaps nothing after all. Cancelling it loses nothing.

        Raises:
            StopAsyncIteration: there is no more.
            and what `__anext__` raises.
        """

    @abstractmethod
    def pause(self) -> None:
        """Ask for no more chunks; those that the broker was allowed to send (`credit` at most) still arrive."""

    @abstractmethod
    def resume(self) -> None:
        """Ask for chunks again."""

    @abstractmethod
    async def close(self) -> None:
        """End it. Bounded; safe to call again, and from several tasks."""

    @abstractmethod
    def complete(self) -> None:
        """What was dispatched last is completed, as it is when the next message is asked for."""

    @abstractmethod
    def _gone(self, reason: BaseException | None) -> None:
        """Its actor ended for good. Called on the tree's loop by the client: the two are one thing in two classes."""

    @abstractmethod
    async def _make_producer(self, stream: str) -> Producer:
        """A producer for what is to be parked."""

    # Iterating ----------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        """The next message. Cancelling it while it waits loses nothing.

        Raises:
            StopAsyncIteration: the end that was asked for is reached, or the consumer was closed.
            ConsumeError: a gap or a truncation whose policy says so.
            ActorStreamError: what ended the consumer for good, such as `StreamDoesNotExist`.
        """
        while (message := self.take()) is None:
            await self.fetch()
        return message

    async def batches(self, max_size: int | None = None) -> AsyncIterator[list[Message]]:
        """The messages in lists: what is left of a chunk at a time, at most `max_size` of them; never an empty list.

        A batch counts as completed when the next one is asked for.

        Raises:
            as `__anext__`.
        """
        if max_size is not None and max_size < 1:
            raise InvalidArgument(f"max_size is at least 1, not {max_size!r}")
        while batch := await self._next_batch(max_size):
            yield batch

    async def _next_batch(self, max_size: int | None) -> list[Message]:
        """The next batch; an empty one at the end."""
        try:
            while not (batch := self.take_batch(max_size)):
                await self.fetch()
        except StopAsyncIteration:
            return []
        return batch

    # Other shapes -------------------------------------------------------------------------------------------------

    async def run(
        self,
        handler: Handler,
        *,
        on_error: ErrorPolicy | None = None,
        workers: int = 1,
        key: Key | None = None,
        threads: bool = False,
        max_in_flight: int | None = None,
    ) -> None:
        """Hand every message to a handler until the consumer ends or is closed.

        Args:
            handler: gets a message; plain or `async`. A message is completed when it returns.
            on_error: what happens when it raises; default: `run` raises, and the message is not completed.
            workers: how many messages may be handled at a time. With one, they come in order.
            key: with several workers, messages of equal keys are handled one after the other, in order; without it,
                any may be handled beside any other.
            threads: the handler is a plain function that blocks: it is called in as many threads as there are workers.
                Without it, handlers run on this loop; `await asyncio.to_thread(…)` in one for the part that blocks.
            max_in_flight: with several workers, how many messages may be taken from the first one on that is not
                completed; default: 100 for each worker.

        Raises:
            InvalidArgument: an argument that is none; nothing was handled.
            HandlerFailed: by policy; the handler's error is chained. No message is begun after that, and those that are
                being handled beside it go on to their end.
            and whatever ends the iteration.

        `completed` never passes a message that is not completed, whatever was completed behind it. When `run` raises,
        or is cancelled (and with it the handlers; a thread is waited for), everything from that message on comes again,
        to whatever iterates next: `position` names it.
        """
        outside = _within.set((*_within.get(), self))  # the tasks of handlers have it from here
        self._runs += 1
        try:
            await handling.consume(
                self,
                self._make_producer,
                handler,
                on_error or ErrorPolicy(),
                handling.Workers(count=workers, key=key, threads=threads, max_in_flight=max_in_flight),
            )
        finally:
            self._runs -= 1
            _within.reset(outside)

    @property
    def _is_handled_elsewhere(self) -> bool:
        """Whether handlers are at work that may be waited for: not the one that asks."""
        return self._runs > 0 and self not in _within.get()

    async def deliver_to(self, ref: Tellable, *, max_size: int | None = None) -> None:
        """Tell an actor the messages, batch by batch, each after it acknowledged the one before.

        Until it acknowledges, no more credit is granted than the consumer has, so that a slow actor slows the broker.
        Returns when the consumer ends, or when the actor is dead. A batch that was not acknowledged is not completed:
        it is the first one of whatever iterates next.
        """
        while batch := await self._next_batch(max_size):
            acknowledged: LoopFuture[None] = LoopFuture()
            try:
                if tell(ref, Deliver(batch[0].stream, batch, acknowledged.try_set)):
                    await self._until_acknowledged(acknowledged, ref)
            finally:
                if not acknowledged.done():
                    self.put_back(batch)
            if not acknowledged.done():
                return

    async def _until_acknowledged(self, acknowledged: LoopFuture[None], ref: Tellable) -> None:
        """Wait for the actor; or until it is dead, or the consumer is closed."""
        while not acknowledged.done() and is_alive(ref) and not self.was_closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AFTER_S):
                    await acknowledged

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
