"""What a client and the handles that it makes know of each other: they are one thing in several classes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from actorstream.actors.future import LoopFuture
from actorstream.errors import ActorStreamError, Closed

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
