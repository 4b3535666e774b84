"""What outlives a publisher's incarnations: every message that has no outcome yet, in order, with its publishing id.

A plain object with two sides. Messages are *offered* by the handle, and by the actor itself for those who tell it to
publish; the *publisher actor* alone takes them, and settles them when the broker has spoken. The two may live on
different threads: a lock guards what is counted when a message is offered, everything else has one writer.

An entry is `pending` (accepted, without an id), then in the `window` (has an id, was or will be sent), then settled.
It leaves with exactly one outcome. A named publisher keeps an entry whose deadline has passed in the window, since a
gap in the replay would let the broker take a later id for the highest and drop what is sent again (F26, F38).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from actorstream.actors.future import LoopFuture
from actorstream.errors import InvalidArgument, MessageTooLarge, PublishError, PublishRejected, Unconfirmed
from actorstream.wire.message import Message
from actorstream.wire.publish import PUBLISH_OVERHEAD, data_entry, raw_entry

PUBLISHING_ID_MAX = 2**64 - 1
NEVER = float("inf")


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


Body = bytes | bytearray | memoryview | str | Message
"""What can be published: bytes, text (stored as UTF-8), or a whole AMQP 1.0 message."""


def encode_entry(body: Body, *, raw: bool) -> bytes:
    """A message as it stands in a Publish frame, after its publishing id.

    `raw` stores bytes and text as they are, not as the data section of an AMQP 1.0 message.

    Raises:
        InvalidArgument, MessageCodecError: it cannot be encoded.
    """
    if isinstance(body, Message):
        if raw:
            raise InvalidArgument("a raw producer takes bytes: encode the message, or make the producer without raw")
        return raw_entry(body.encode())
    if isinstance(body, str):
        body = body.encode()
    elif isinstance(body, (bytearray, memoryview)):
        body = bytes(body)
    if not isinstance(body, bytes):
        raise InvalidArgument(f"a message is bytes, text or a Message, not {type(body).__name__}")
    return raw_entry(body) if raw else data_entry(body)


class Outbox:
    """The unconfirmed window of one logical publisher; see the module."""

    def __init__(
        self,
        *,
        named: bool,
        max_messages: int,
        max_bytes: int,
        on_settled: Callable[[list[Receipt]], None] | None = None,
    ) -> None:
        self.named = named
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.on_settled = on_settled
        self.frame_max = 0
        self.confirmed = 0
        self.failed = 0
        self._pending: deque[Receipt] = deque()
        self._window: dict[int, Receipt] = {}
        self._last_id = 0
        self._last_given = -1
        # Written under the lock, by whoever offers:
        self._offering = threading.Lock()
        self._accepted = 0
        self._accepted_bytes = 0
        # Written by the actor's side alone:
        self._released = 0
        self._released_bytes = 0
        self._waiters: deque[LoopFuture[None]] = deque()

    # Whoever offers ------------------------------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Whether an entry of so many bytes may be offered. An entry above the byte limit gets in alone."""
        held = self._accepted - self._released
        if held == 0:
            return True
        return held < self.max_messages and self._accepted_bytes - self._released_bytes + size <= self.max_bytes

    def check_size(self, wire: bytes) -> None:
        """Raise `MessageTooLarge` for an entry that would not fit a frame of its own."""
        if self.frame_max and len(wire) + PUBLISH_OVERHEAD - 4 > self.frame_max:
            raise MessageTooLarge(len(wire) + PUBLISH_OVERHEAD - 4, self.frame_max)

    def offer(self, wire: bytes, deadline: float, publishing_id: int = -1) -> Receipt:
        """Accept an entry. The caller has made sure of room, and flushes when `is_first` said so before.

        Args:
            wire: the entry's bytes after the publishing id.
            deadline: when its receipt gives up, on the clock of the tree's loop; `NEVER` for never.
            publishing_id: given by the user, above all earlier ones; -1 lets the outbox count.
        """
        receipt = Receipt(wire, deadline, publishing_id)
        with self._offering:
            if publishing_id >= 0:
                self._check_given(publishing_id)
            elif self._last_given >= 0:
                raise InvalidArgument(
                    "this producer's publishing ids are given by its user: give one with each message"
                )
            self._accepted += 1
            self._accepted_bytes += len(wire)
            self._pending.append(receipt)
        return receipt

    def _check_given(self, publishing_id: int) -> None:
        if publishing_id > PUBLISHING_ID_MAX:
            raise InvalidArgument(f"a publishing id is an integer from 0 to 2**64-1, not {publishing_id}")
        if self._accepted and self._last_given < 0:
            raise InvalidArgument("this producer counts its publishing ids itself: give one from the first message on")
        if publishing_id <= self._last_given:
            raise InvalidArgument(
                f"publishing id {publishing_id} does not exceed the one before it ({self._last_given}): "
                "the broker would take the message for a duplicate and drop it"
            )
        self._last_given = publishing_id

    def change(self) -> LoopFuture[None]:
        """A future that is set when some message has got its outcome or given up its room."""
        future: LoopFuture[None] = LoopFuture()
        self._waiters.append(future)
        return future

    def ignore(self, future: LoopFuture[None]) -> None:
        """Withdraw a `change` that nobody waits for any more."""
        with contextlib.suppress(ValueError):  # it was set
            self._waiters.remove(future)

    @property
    def undecided(self) -> int:
        """Messages without an outcome."""
        return self._accepted - self.confirmed - self.failed

    @property
    def held(self) -> int:
        """Messages that hold room: queued, in flight, or kept for the replay although their deadline has passed."""
        return self._accepted - self._released

    @property
    def held_bytes(self) -> int:
        """Bytes that these messages hold."""
        return self._accepted_bytes - self._released_bytes

    @property
    def queued(self) -> int:
        """Messages that were not sent yet."""
        return len(self._pending)

    # The actor's side -------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Messages in the window: sent, or to be sent again."""
        return len(self._window)

    @property
    def last_id(self) -> int:
        """The highest publishing id used or seen; 0 when there is none."""
        return self._last_id

    def continue_after(self, sequence: int) -> None:
        """Number new entries above what the broker has stored under this name (F26); never below our own window."""
        self._last_id = max(self._last_id, sequence)

    def take(self) -> list[Receipt]:
        """Move all that is pending into the window, each with its publishing id, in the order accepted."""
        taken: list[Receipt] = []
        pending, window = self._pending, self._window
        last_id = self._last_id
        while pending:
            receipt = pending.popleft()
            if receipt._settled:  # noqa: SLF001 - expired before it was sent: it must not be sent any more
                continue
            if receipt.publishing_id < 0:
                receipt.publishing_id = last_id + 1
            last_id = receipt.publishing_id
            window[last_id] = receipt
            taken.append(receipt)
        self._last_id = last_id
        return taken

    def replay(self) -> list[Receipt]:
        """The whole window in its order, to be sent before anything new, under the same ids."""
        return list(self._window.values())

    def confirm(self, ids: Iterable[int]) -> None:
        """The broker confirmed these ids: a set, never cumulative. Unknown ones (late, repeated) are ignored."""
        pop = self._window.pop
        settled: list[Receipt] = []
        size = count = 0
        for publishing_id in ids:
            receipt = pop(publishing_id, None)
            if receipt is not None:
                count += 1
                size += len(receipt.wire)
                if receipt.settle():
                    settled.append(receipt)
        self.confirmed += len(settled)
        self._release(count, size, settled)

    def reject(self, failures: Iterable[tuple[int, int]]) -> None:
        """The broker refused these (publishing id, code); they are not replayed (F43)."""
        self._fail(
            (receipt, PublishRejected(code))
            for publishing_id, code in failures
            if (receipt := self._window.pop(publishing_id, None)) is not None
        )

    def fail_window(self, make: Callable[[], PublishError]) -> None:
        """Give everything that was sent its outcome: the fate is unknown and nobody will ask again."""
        window, self._window = self._window, {}
        self._fail((receipt, make()) for receipt in window.values())

    def fail_all(self, make: Callable[[], PublishError]) -> None:
        """Give everything its outcome, sent or not. For the end of the publisher."""
        self.fail_window(make)
        pending, self._pending = self._pending, deque()
        self._fail((receipt, make()) for receipt in pending)

    def fail_oversized(self) -> None:
        """Fail what does not fit the frames of a new connection, whose broker may allow less than the last one."""
        too_large: list[tuple[Receipt, MessageTooLarge]] = []
        for receipt in self._window.values():
            try:
                self.check_size(receipt.wire)
            except MessageTooLarge as error:
                too_large.append((receipt, error))
        for receipt, _ in too_large:
            del self._window[receipt.publishing_id]
        self._fail(iter(too_large))

    def expire(self, now: float) -> bool:
        """Settle what has passed its deadline as `Unconfirmed`; True when something that was sent is among it."""
        sent: list[Receipt] = []
        for receipt in self._window.values():
            if receipt.deadline > now:
                break
            if not receipt.done:
                sent.append(receipt)
        if sent and not self.named:
            for receipt in sent:
                del self._window[receipt.publishing_id]
            self._fail((receipt, Unconfirmed("no confirm by the deadline: it may be stored")) for receipt in sent)
        elif sent:
            settled = [r for r in sent if r.settle(Unconfirmed("no confirm by the deadline: it may be stored"))]
            self.failed += len(settled)
            self._release(0, 0, settled)
        unsent: list[Receipt] = []
        while self._pending and self._pending[0].deadline <= now:
            unsent.append(self._pending.popleft())
        self._fail((receipt, Unconfirmed("it was not sent by the deadline, and will not be")) for receipt in unsent)
        return bool(sent)

    def next_deadline(self) -> float:
        """When `expire` has something to do; `NEVER` when nothing waits."""
        for receipt in self._window.values():
            if not receipt.done:
                return min(receipt.deadline, self._pending[0].deadline if self._pending else NEVER)
        return self._pending[0].deadline if self._pending else NEVER

    def _fail(self, failures: Iterable[tuple[Receipt, PublishError | MessageTooLarge]]) -> None:
        settled: list[Receipt] = []
        count = size = 0
        for receipt, error in failures:
            count += 1
            size += len(receipt.wire)
            if receipt.settle(error):
                settled.append(receipt)
        self.failed += len(settled)
        self._release(count, size, settled)

    def _release(self, count: int, size: int, settled: list[Receipt]) -> None:
        self._released += count
        self._released_bytes += size
        if settled and self.on_settled is not None:
            self.on_settled(settled)
        # All who wait: each looks for himself again, in the order in which they came.
        while self._waiters:
            try:
                future = self._waiters.popleft()
            except IndexError:  # the handle's side withdrew the last one meanwhile
                return
            future.try_set(None)
