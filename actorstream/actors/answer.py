"""Who is told what became of a `Publish`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actorstream.actors.future import LoopFuture
from actorstream.actors.mailbox import Publish, PublishBatch, Published


class Answer:
    """The outcome of a `Publish` or `PublishBatch`: the answer to an ask, and what `reply_to` is told; else an event.

    Attributes:
        done: the answer.
    """

    def __init__(self, message: Publish | PublishBatch, failed: Callable[[BaseException], None]) -> None:
        """`failed` emits the event."""
        self.done: LoopFuture[None] = LoopFuture()
        self._message = message
        self._failed = failed

    def settle(self, error: Exception | None) -> None:
        """Tell everybody; once."""
        if error is None:
            self.done.try_set(None)
        else:
            self.done.try_set_exception(error)
        if self._message.reply_to is not None:
            try:
                self._message.reply_to.tell(Published(self._message.context, error))
            except Exception as lost:  # noqa: BLE001 - the user's; no message may end the actor (F35)
                self._failed(error or lost)
        elif error is not None:
            self._failed(error)


class Gathering:
    """Settles an answer when all parts of a message have their outcome: with the first error of them.

    Told like an actor, as `reply_to` of the parts, on the tree's loop.
    """

    def __init__(self, answer: Answer, parts: Sequence[object]) -> None:
        self._answer = answer
        self._left = len(parts)
        self._error: Exception | None = None

    def tell(self, message: Published) -> None:
        """One part has its outcome."""
        self._error = self._error or message.error
        self._left -= 1
        if not self._left:
            self._answer.settle(self._error)
