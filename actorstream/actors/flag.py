"""What Pykka keeps an event for in every actor: a flag that is set once, and that hardly anybody waits for."""

from __future__ import annotations

import threading

_making_events = threading.Lock()


class Flag:
    """As much of `threading.Event` as an actor's end needs. An event is made for whoever waits, and for nobody else.

    An event with its condition, lock and queue takes more memory than the rest of an actor's place.
    """

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: threading.Event | None = None

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake whoever waits. Any thread."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is set, or for so many seconds; whether it is set. Any thread but the one that sets it."""
        with _making_events:
            event = self._event = self._event or threading.Event()
        # It may have been set just before the event could be seen: then nobody else sets that.
        if self._is_set:
            event.set()
        return event.wait(timeout)
