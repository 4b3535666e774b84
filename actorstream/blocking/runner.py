"""Running coroutines on a loop in another thread, for a caller that blocks."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, TypeVar

from actorstream.actors.runtime import Home
from actorstream.errors import ActorStreamError, Closed, WrongLoop

T = TypeVar("T")


class Runner:
    """Runs coroutines on the thread's loop, for a caller that blocks."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it, and block until it has ended.

        Raises:
            Closed: the client is closed.
            WrongLoop: called in a handler that runs on the loop itself, which would wait for itself for ever.
        """
        refusal: ActorStreamError | None = None
        if self.closed:
            refusal = Closed("the client is closed")
        elif self._home.is_current:
            refusal = WrongLoop("a blocking call on the thread of the loop: use the handle's `asynchronous` there")
        if refusal is not None:
            work.close()
            raise refusal
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._home.loop)
        except BaseException:  # Ctrl-C, before the loop had it
            work.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise Closed("the client was closed meanwhile") from None
        except BaseException:
            future.cancel()  # Ctrl-C: what nobody waits for any more should not go on
            raise

    def close(self) -> None:
        """End the thread; safe to call again."""
        self.closed = True
        self._home.join()
