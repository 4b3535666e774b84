"""Whether a single active consumer may be handed messages: between its handle and the tree, on any two threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from actorstream.actors.future import LoopFuture

if TYPE_CHECKING:
    from actorstream.actors.progress import Progress


class Gate:
    """Open while the broker has this consumer as the active one, and for the messages of that activation only.

    The handle enters before it hands out a message, and leaves when that is completed or put back. The tree shuts the
    gate, and then waits until nobody is inside. The handle first says that it is inside, and looks then; the tree first
    shuts, and looks then: so at least one of them sees the other, without a lock on every message.
    """

    __slots__ = ("_admitted", "_emptied", "_inside", "_lock")

    def __init__(self) -> None:
        self._admitted: Progress | None = None
        self._inside = 0
        self._lock = threading.Lock()
        self._emptied: LoopFuture[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages may be handed out."""
        return self._admitted is not None

    def admits(self, progress: Progress) -> bool:
        """Whether messages of this progress may be handed out."""
        return self._admitted is progress

    # The handle's side

    def enter(self, progress: Progress) -> bool:
        """A message of this progress is about to be handed out; False: it must not be."""
        self._inside += 1
        if self._admitted is progress:
            return True
        self.leave()
        return False

    def leave(self) -> None:
        """What was handed out is not in hand any more."""
        self._inside -= 1
        if self._inside == 0 and self._emptied is not None:
            self._emptied.try_set()

    def empty(self) -> LoopFuture[None]:
        """Settled once nothing is in hand; from any thread, and for all who wait."""
        with self._lock:
            if self._emptied is None or self._emptied.done():
                self._emptied = LoopFuture()
            emptied = self._emptied
        if self._inside == 0:
            emptied.try_set()
        return emptied

    # The tree's side

    def admit(self, progress: Progress) -> None:
        """Open for what advances this progress, and nothing else."""
        self._admitted = progress

    def shut(self) -> None:
        """Hand out nothing any more."""
        self._admitted = None
