"""Steps of an actor that are taken without a message, by whoever is on its loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Working(Protocol):
    """Whose step it is: `life.Life`."""

    @property
    def is_working(self) -> bool:
        """Whether messages are handled."""

    def leave(self, reason: BaseException | None, *, raised: bool = False) -> None:
        """A step has failed."""


class Direct(Generic[T]):
    """A plain function of an actor, for what comes with every batch: a message for it would cost more than all it does.

    It is as if the actor had been told and had handled it at once, ahead of what is in its inbox: once the incarnation
    is ending, nothing is done, and what the step raises ends the actor, and not who calls. So it is for steps whose
    order among the actor's messages is of no matter. The function must not wait, and handlers of that actor must not
    wait in the middle of what it changes.
    """

    __slots__ = ("_life", "_step", "_thread")

    def __init__(self, life: Working, step: Callable[[T], object]) -> None:
        self._life = life
        self._step = step
        self._thread = threading.get_ident()

    def __call__(self, argument: T) -> bool:
        """Take the step; False: it was not taken, since this is another thread, or the incarnation is ending."""
        if threading.get_ident() != self._thread or not self._life.is_working:
            return False
        try:
            self._step(argument)
        except Exception as error:  # noqa: BLE001 - as if a handler had raised it
            self._life.leave(error, raised=True)
        return True
