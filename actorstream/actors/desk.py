"""Where a user's own actors turn to: the client as an actor. It takes requests, and has the client carry them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actorstream.actors.future import LoopFuture
from actorstream.actors.mailbox import ClientRequest
from actorstream.actors.runtime import StreamActor

CarryOut = Callable[[Any], LoopFuture[Any]]
"""Has a request carried out where that belongs, and returns its answer to come. From any thread."""


class Desk(StreamActor):
    """The actor; see the module. Requests are under way side by side: each is answered when it is done."""

    def __init__(self, *, carry_out: CarryOut) -> None:
        super().__init__()
        self._carry_out = carry_out
        self._requests = 0

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {"requests": self._requests}

    def on_receive(self, message: object) -> object:
        """Handle a request of `mailbox`, section "To a client's ref"."""
        if isinstance(message, ClientRequest):
            self._requests += 1
            return self._carry_out(message)
        return super().on_receive(message)
