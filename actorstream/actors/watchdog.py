"""Who notices that the loop stood still: whatever blocks it keeps heartbeats from going out, and does not say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from actorstream import events
from actorstream.actors.runtime import StreamActor

INTERVAL_S = 0.25
TOLERANCE_S = 0.5
"""A loop that is so late was blocked; less is an ordinary busy loop."""


@dataclass(frozen=True, slots=True)
class _Look:
    due: float


class Watchdog(StreamActor):
    """Looks at the clock in a fixed rhythm, and emits `EventLoopBlocked` when it comes to that too late."""

    def __init__(self, *, emit: Callable[[events.Event], None]) -> None:
        super().__init__()
        self._emit = emit
        self._longest_s = 0.0

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {"longest_block_s": round(self._longest_s, 3)}

    def on_start(self) -> None:
        """Begin."""
        self._look_again()

    def on_receive(self, message: object) -> object:
        """Handle its own timer."""
        match message:
            case _Look(due=due):
                late = self.home.clock.time() - due
                if late > TOLERANCE_S:
                    self._longest_s = max(self._longest_s, late)
                    self._emit(events.EventLoopBlocked(path=self.path, seconds=late))
                self._look_again()
                return None
            case _:
                return super().on_receive(message)

    def _look_again(self) -> None:
        self.call_later(INTERVAL_S, _Look(self.home.clock.time() + INTERVAL_S))
