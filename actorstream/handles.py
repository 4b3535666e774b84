"""What a client and the handles that it makes know of each other: they are one thing in several classes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from actorstream.actors.future import LoopFuture
from actorstream.actors.tree import Tree
from actorstream.errors import ActorStreamError, Closed
from actorstream.options import ConnectionOptions

if TYPE_CHECKING:
    from actorstream.base_producer import BaseProducer
    from actorstream.client import Client
    from actorstream.reading import Reader

T = TypeVar("T")


class Handle(Protocol):
    """A producer or a consumer, as its client sees it."""

    async def close(self) -> None:
        """End it; bounded."""

    def _gone(self, reason: BaseException | None) -> None:
        """Its actor ended for good."""


def on_gone(handle: Handle, ready: LoopFuture[None], reason: BaseException | None) -> None:
    """A handle's actor is gone for good (on the tree's loop); `ready` is what its start waits for."""
    if reason is not None:  # None: its owner closes it, or all of the tree ends, and `Client._escalated` tells why
        handle._gone(reason)  # noqa: SLF001 - one thing in two classes
    error = reason if isinstance(reason, ActorStreamError) else Closed(f"{handle!r} ended: {reason!r}")
    ready.try_set_exception(error)


async def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run code of the user's on the user's loop, from whichever loop this is. Cancelling it cancels that.

    Raises:
        RuntimeError: that loop is closed.
    """
    if asyncio.get_running_loop() is loop:
        return await work
    try:
        future = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:
        work.close()
        raise
    return await asyncio.wrap_future(future)


class HandleFactory(ABC):
    """What the makers of handles, which are parts of a `Client`, need of it."""

    _options: ConnectionOptions
    _close_timeout_s: float
    _handles: dict[BaseProducer | Reader, str]
    """Each with the name of its actor in the tree."""

    @property
    @abstractmethod
    def _grown(self) -> Tree:
        """The running tree."""

    @property
    @abstractmethod
    def _client(self) -> Client:
        """The client itself."""

    @abstractmethod
    def _starting(
        self, handle: BaseProducer | Reader, child: str, what: str, seconds: float
    ) -> AbstractAsyncContextManager[asyncio.Timeout]:
        """Start a handle in time, or close it."""

    @abstractmethod
    def _name(self, base: str) -> str:
        """A name for a child of the tree."""
