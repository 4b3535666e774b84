"""What `send` returns: the outcome of one entry, that anybody may await on any loop, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from actorstream.actors.entries import NEVER, Entries, Failure, Outgoing, Settlement
from actorstream.actors.future import LoopFuture
from actorstream.errors import InvalidArgument, PublishError

making_futures = threading.RLock()
"""Of two threads that are the first to wait for one outcome, each would make a future, and one of these is never set.

One for all, since a future is made once for each, if at all. Re-entrant, because a collection of garbage may run a
finalizer that waits, too.
"""


class Receipt:
    """The outcome of one `send`: await it to learn that the message is confirmed, or why not.

    It may be awaited any number of times, from any loop, or not at all. Cancelling a wait leaves the message and its
    outcome as they are.

    To the outbox it is the lot and the entry at once: most messages are sent one by one, and a second object for each
    would cost more than all that is done with it.
    """

    __slots__ = (
        "_error",
        "_future",
        "_settled",
        "deadline",
        "given_id",
        "messages",
        "publishing_id",
        "version",
        "wire",
    )

    def __init__(
        self,
        wire: bytes,
        publishing_id: Any = None,  # checked, with what there is to be said, when it is offered
        *,
        messages: int = 1,
        version: int = 1,
        deadline: float = NEVER,
    ) -> None:
        self.wire = wire
        self.deadline = deadline
        self.version = version
        self.messages = messages
        """How many messages it stands for: more than one for a sub-entry."""
        self.given_id: Any = publishing_id
        self.publishing_id: int = publishing_id if isinstance(publishing_id, int) else -1
        """The id under which the broker confirms it; -1 until it has one."""
        self._settled = False
        self._error: PublishError | InvalidArgument | None = None
        self._future: LoopFuture[None] | None = None

    @property
    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._settled

    @property
    def error(self) -> PublishError | InvalidArgument | None:
        """Why the message is not confirmed; None while the outcome is unknown, and when it is confirmed."""
        return self._error

    @property
    def confirmed(self) -> bool:
        """Whether a quorum has the message."""
        return self._settled and self._error is None

    def result(self, timeout: float | None = None) -> None:
        """Block for the outcome, from any thread but the tree's loop; for `actorstream.blocking`.

        Raises:
            PublishError: the message is not confirmed.
            MessageTooLarge: it no longer fits a frame of the connection that came after the one it was accepted for.
            pykka.Timeout: no outcome within so many seconds; the message goes on.
            WrongLoop: it would block the loop that has to bring the outcome.
        """
        self.outcome().get(timeout=timeout)
        if self._error is not None:
            raise self._error

    def add_done_callback(self, callback: Callable[[Receipt], None]) -> None:
        """Call back once the outcome is known: at once if it is, else on the tree's loop."""
        self.outcome().add_done_callback(lambda _: callback(self))

    def __await__(self) -> Generator[Any, None, None]:
        if not self._settled:
            yield from self.outcome().__await__()
        if self._error is not None:
            raise self._error

    def __repr__(self) -> str:
        state = "waiting" if not self._settled else "confirmed" if self._error is None else repr(self._error)
        return f"<Receipt {self.publishing_id if self.publishing_id >= 0 else 'queued'}: {state}>"

    # As a lot, and as an entry: for the outbox alone ----------------------------------------------------------------

    def settle(self, error: PublishError | InvalidArgument | None = None) -> bool:
        """Give the message its outcome; only the first call counts, and tells so by returning True."""
        if self._settled:
            return False
        self._error = error
        self._settled = True
        if self._future is not None:
            _wake(self._future)
        return True

    def outcome(self) -> LoopFuture[None]:
        """A future that is set once the outcome is known."""
        future = self._future
        if future is None:
            with making_futures:
                future = self._future = self._future or LoopFuture()
        # The other side may have settled just before it could see the future: then nobody else wakes it.
        if self._settled:
            _wake(future)
        return future

    def receipts(self) -> list[Receipt]:
        """Itself."""
        return [self]

    @property
    def undecided(self) -> int:
        """Messages without an outcome."""
        return 0 if self._settled else self.messages

    @property
    def size(self) -> int:
        """Bytes of the entry."""
        return len(self.wire)

    @property
    def entries(self) -> Sequence[bytes]:
        """The one entry."""
        return (self.wire,)

    @property
    def lots(self) -> Sequence[Receipt]:
        """Itself."""
        return (self,)

    def wire_of(self, publishing_id: int) -> bytes:  # noqa: ARG002 - there is one
        """What stands behind its id in the frame."""
        return self.wire

    def enter(self, window: dict[int, Entries], last_id: int, outgoing: Outgoing) -> int:
        """See `Lot`."""
        publishing_id = self.publishing_id
        if publishing_id < 0:
            publishing_id = self.publishing_id = last_id + 1
        window[publishing_id] = self
        outgoing.append(self.version, publishing_id, self.wire)
        return publishing_id

    def drop_above(self, limit: float, failure: Callable[[int], InvalidArgument], into: Settlement) -> bool:
        """See `Lot`."""
        if len(self.wire) <= limit:
            return True
        size = len(self.wire)
        self.refuse(lambda: failure(size), into)
        return False

    def decide(self, ids: Sequence[int], failure: Failure | None, into: Settlement) -> None:  # noqa: ARG002
        """See `Entries`."""
        into.released += self.messages
        into.released_bytes += len(self.wire)
        self.wire = b""  # whoever keeps the receipt keeps no message
        if not self._settled:
            self.decide_part(0, 1, failure, into)

    def decide_part(self, start: int, end: int, failure: Failure | None, into: Settlement) -> None:  # noqa: ARG002
        """See `Lot`."""
        if not self._settled:
            self.settle(None if failure is None else failure())
            into.settled += self.messages
            if into.receipts is not None:
                into.receipts.append(self)

    def refuse(self, failure: Failure, into: Settlement) -> None:
        """See `Lot`."""
        self.decide((), failure, into)

    def give_up(self, now: float, failure: Failure, into: Settlement) -> bool:
        """See `Entries`."""
        if self.deadline <= now:
            self.decide_part(0, 1, failure, into)
        return self._settled

    def join(self, start: int, end: int, publishing_id: int) -> None:  # noqa: ARG002
        """See `Lot`."""
        self.publishing_id = publishing_id
        self.wire = b""


def _wake(future: LoopFuture[None]) -> None:
    # The outcome itself is read from the receipt: an exception set on a future that nobody awaits would be noise.
    future.try_set(None)
