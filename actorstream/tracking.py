"""A consumer with a name: its offset is stored while it goes on, and who comes under that name goes on after it.

The work is done by an `OffsetTracker`, an actor beside the subscriber. Here is the handle's side of it, and the way
from the actors' loop to an `OffsetStore` of the user's, which runs on the user's loop.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

from actorstream import offset as offset_module
from actorstream.actors import messages as m
from actorstream.actors.calls import call, tell
from actorstream.actors.tracker import TrackerState
from actorstream.errors import ActorStreamError, Closed, InvalidArgument, OffsetStoreFailed, RequestTimeout
from actorstream.handles import run_on
from actorstream.offset import OffsetSpecification
from actorstream.options import OffsetStore

T = TypeVar("T")

NEVER = sys.maxsize
"""More messages than any consumer completes."""

logger = logging.getLogger("actorstream.tracking")


class Tracking:
    """What a named consumer's handle knows of its tracker.

    Attributes:
        every: tell the tracker after so many completed messages.
        ref: the tracker, once it is started.
    """

    def __init__(self, state: TrackerState, within_s: float) -> None:
        self._state = state
        self._within_s = within_s
        policy = state.policy
        self.every: int = NEVER if policy is None or policy.every is None else policy.every
        self.ref: m.Ref | None = None

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._state.name

    @property
    def stored_last(self) -> int | None:
        """What is known to be stored, as of the last answer of the store; None for nothing, or before that."""
        return self._state.stored.value

    @property
    def _tracker(self) -> m.Ref:
        if self.ref is None:
            raise Closed(f"the consumer {self.name!r} of {self._state.stream!r} was never started")
        return self.ref

    async def starting_offset(self) -> OffsetSpecification:
        """After what is stored, else where the user said; waits for as long as the store does not answer."""
        specification: OffsetSpecification = await call(self._tracker, m.StartingOffset(), dead=Closed)
        return specification

    def rest(self) -> None:
        """Store nothing any more (on the tree's loop)."""
        self._state.resting = True

    def some_completed(self) -> None:
        """As many as the policy says."""
        tell(self.ref, m.StoreCompleted())

    async def store(self, value: int) -> None:
        """See `NamedConsumer.store_offset`."""
        await call(self._tracker, m.StoreThis(value), dead=Closed)

    async def stored(self) -> int | None:
        """See `NamedConsumer.stored_offset`."""
        value: int | None = await call(self._tracker, m.StoredNow(), dead=Closed)
        return value

    async def flush(self) -> None:
        """Store the last completed offset and make sure of it, before the consumer goes. Bounded; what fails is logged.

        What could not be stored comes again to whoever goes on under the name; the consumer is closed all the same.
        """
        state = self._state
        if self.ref is None or (state.given is None and state.cursor.progress.completed is None):
            return
        try:
            async with asyncio.timeout(self._within_s):
                await call(self.ref, m.FlushOffsets(self._within_s, rest=True), dead=Closed)
        except TimeoutError:
            cause = RequestTimeout("storing an offset", self._within_s)
            logger.warning("%s", OffsetStoreFailed(state.name, state.stream, "stored", cause))
        except ActorStreamError as error:
            logger.warning("%s", error)


class NamedConsumer(ABC):
    """What a consumer with a name offers beside its iteration."""

    _tracking: Tracking | None

    @property
    @abstractmethod
    def stream(self) -> str:
        """The stream's name."""

    @property
    @abstractmethod
    def position(self) -> int:
        """The next offset to be dispatched."""

    @property
    @abstractmethod
    def completed(self) -> int | None:
        """The last offset whose processing completed; None before that."""

    @property
    def name(self) -> str:
        """The name under which the offset is stored; "" for none."""
        return "" if self._tracking is None else self._tracking.name

    async def store_offset(self, offset: int | None = None) -> None:
        """Have an offset stored: whoever goes on under this consumer's name begins after it. May be used in a handler.

        The broker does not answer a store. When this returns, it was sent; what got lost is sent again, and when the
        consumer is closed, what is stored was read back. An offset below one that was stored here before is left out.
        With an `OffsetStore`, it is stored when this returns.

        Args:
            offset: one that was dispatched, such as that of the message in hand; None for the last completed one, and
                nothing is stored if there is none.

        Raises:
            InvalidArgument: the consumer has no name, or the offset was not dispatched yet.
            Closed: the consumer is closed.
            OffsetStoreFailed: the user's store raised.
            ConnectionLost, RequestTimeout: no broker could be reached; it is tried again.
        """
        tracking = self._named("an offset is stored")
        if offset is None:
            offset = self.completed
        elif offset_module.at(offset).value >= self.position:
            raise InvalidArgument(
                f"offset {offset} was not dispatched yet (the next one is {self.position}): who goes on after it would "
                "miss messages"
            )
        if offset is not None:
            await tracking.store(offset)

    async def stored_offset(self) -> int | None:
        """The offset that is stored under this consumer's name at this moment; None when there is none.

        Raises:
            InvalidArgument: the consumer has no name.
            Closed: the consumer is closed.
            OffsetStoreFailed: the user's store raised.
            ConnectionLost, RequestTimeout: no broker could be reached.
        """
        return await self._named("an offset is found").stored()

    def _named(self, what: str) -> Tracking:
        if self._tracking is None:
            raise InvalidArgument(f"{what} under a consumer's name: client.consumer({self.stream!r}, name=...)")
        return self._tracking


class UserStore:
    """An `OffsetStore` of the user's as its tracker sees it: called on the user's loop, wherever the tracker runs.

    Each call is bounded: one that hung would keep the next from being made, which may find the store well again.
    """

    answers = True

    def __init__(
        self, store: OffsetStore, name: str, stream: str, loop: asyncio.AbstractEventLoop, within_s: float
    ) -> None:
        self._store = store
        self._name = name
        self._stream = stream
        self._loop = loop
        self._within_s = within_s

    async def load(self) -> int | None:
        """See `OffsetStore.load`.

        Raises:
            OffsetStoreFailed: it raised, took too long, or what it gave is no offset.
        """
        try:
            value = await self._in_time(self._store.load(self._name, self._stream))
            return None if value is None else offset_module.at(value).value
        except Exception as error:
            raise OffsetStoreFailed(self._name, self._stream, "loaded", error) from error

    async def store(self, offset: int) -> None:
        """See `OffsetStore.store`.

        Raises:
            OffsetStoreFailed: it raised, or took too long.
        """
        try:
            await self._in_time(self._store.store(self._name, self._stream, offset))
        except Exception as error:
            raise OffsetStoreFailed(self._name, self._stream, "stored", error) from error

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._within_s) as bound:
                return await run_on(self._loop, work)
        except TimeoutError as error:
            if not bound.expired():
                raise
            raise RequestTimeout("the offset store", self._within_s) from error
