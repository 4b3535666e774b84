"""A clock that tests move by hand, and a way to wait for what is on its way without naming a time."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 5.0


class ManualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A `Clock` whose time stands still until `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> ManualTimer:
        timer = ManualTimer(lambda: callback(*args))
        heapq.heappush(self._timers, (self.now + delay, next(self._numbers), timer))
        return timer

    @property
    def pending(self) -> list[float]:
        """Seconds from now until each timer that is set."""
        return sorted(due - self.now for due, _, timer in self._timers if timer.callback is not None)

    def advance(self, seconds: float) -> None:
        """Let time pass, calling what falls due on the way; on the loop's thread."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                callback()
        self.now = end


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Let the loop run until `condition` holds; fails after some seconds of real time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true in {DEADLINE_S} s: {what or condition}")
        await asyncio.sleep(0)


async def settle(rounds: int = 50) -> None:
    """Let everything happen that can happen without time passing: for asserting that something did *not* happen."""
    for _ in range(rounds):
        await asyncio.sleep(0)
