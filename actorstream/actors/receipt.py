"""What `send` returns: the outcome of one message, or of a batch, that anybody may await on any loop, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from actorstream.actors.future import LoopFuture
from actorstream.errors import InvalidArgument, PublishError


class Receipt:
    """The outcome of one `send`: await it to learn that the message is confirmed, or why not.

    It may be awaited any number of times, from any loop, or not at all. Cancelling a wait leaves the message and its
    outcome as they are.
    """

    __slots__ = ("_error", "_future", "_settled", "deadline", "publishing_id", "wire")

    def __init__(self, wire: bytes, deadline: float, publishing_id: int) -> None:
        self.wire = wire
        self.deadline = deadline
        self.publishing_id = publishing_id
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

    def settle(self, error: PublishError | InvalidArgument | None = None) -> bool:
        """Give the message its outcome; only the first call counts, and tells so by returning True."""
        if self._settled:
            return False
        self._error = error
        self._settled = True
        if self._future is not None:
            _wake(self._future)
        return True

    def result(self, timeout: float | None = None) -> None:
        """Block for the outcome, from any thread but the tree's loop; for `actorstream.blocking`.

        Raises:
            PublishError: the message is not confirmed.
            MessageTooLarge: it no longer fits a frame of the connection that came after the one it was accepted for.
            pykka.Timeout: no outcome within so many seconds; the message goes on.
            WrongLoop: it would block the loop that has to bring the outcome.
        """
        self._wait().get(timeout=timeout)
        if self._error is not None:
            raise self._error

    def add_done_callback(self, callback: Callable[[Receipt], None]) -> None:
        """Call back once the outcome is known: at once if it is, else on the tree's loop."""
        self._wait().add_done_callback(lambda _: callback(self))

    def _wait(self) -> LoopFuture[None]:
        future = self._future
        if future is None:
            future = self._future = LoopFuture()
        # The other side may have settled just before it could see the future: then nobody else wakes it.
        if self._settled:
            _wake(future)
        return future

    def __await__(self) -> Generator[Any, None, None]:
        if not self._settled:
            yield from self._wait().__await__()
        if self._error is not None:
            raise self._error

    def __repr__(self) -> str:
        state = "waiting" if not self._settled else "confirmed" if self._error is None else repr(self._error)
        return f"<Receipt {self.publishing_id if self.publishing_id >= 0 else 'queued'}: {state}>"


class BatchReceipt:
    """The outcome of one `send_batch`: awaiting it raises the first error, if any message has one.

    `receipts` are those of the single messages, in the order given.
    """

    __slots__ = ("receipts",)

    def __init__(self, receipts: Sequence[Receipt]) -> None:
        self.receipts = receipts

    @property
    def done(self) -> bool:
        """Whether every outcome is known."""
        return all(receipt.done for receipt in self.receipts)

    def __await__(self) -> Generator[Any, None, None]:
        error: Exception | None = None
        for receipt in self.receipts:
            try:
                yield from receipt.__await__()
            except (PublishError, InvalidArgument) as failure:
                error = error or failure
        if error is not None:
            raise error

    def __len__(self) -> int:
        return len(self.receipts)

    def __repr__(self) -> str:
        return f"<BatchReceipt of {len(self.receipts)}: {'done' if self.done else 'waiting'}>"


def _wake(future: LoopFuture[None]) -> None:
    # The outcome itself is read from the receipt: an exception set on a future that nobody awaits would be noise.
    future.try_set(None)
