"""What outlives a publisher's incarnations: every message that has no outcome yet, in order, with its publishing id.

A plain object with two sides. Messages are *offered* by the handle, and by the actor itself for those who tell it to
publish; the *publisher actor* alone takes them, and settles them when the broker has spoken. The two may live on
different threads: a lock makes each offer one step (is there room, is it open, is its id in order, who wakes the
actor), everything else has one writer.

An entry is `pending` (accepted, without an id), then in the `window` (has an id, was or will be sent), then settled.
It leaves with exactly one outcome. A named publisher keeps an entry whose deadline has passed in the window, since a
gap in the replay would let the broker take a later id for the highest and drop what is sent again (F26, F38).
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable

from actorstream.actors.future import LoopFuture
from actorstream.actors.receipt import Receipt
from actorstream.errors import (
    Closed,
    InvalidArgument,
    MessageTooLarge,
    PublisherFenced,
    PublishError,
    PublishRejected,
    Unconfirmed,
)
from actorstream.wire.message import Message
from actorstream.wire.publish import PUBLISH_OVERHEAD, data_entry, raw_entry

PUBLISHING_ID_MAX = 2**64 - 1
NEVER = float("inf")
_ALONE = PUBLISH_OVERHEAD - 4
"""What counts against frame_max besides the entry, when it is alone in its frame."""


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
        try:
            body = body.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the text cannot be encoded in UTF-8: {error}") from None
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
        self._last_sent = -1
        self._found = 0  # which is no news: who gives ids may begin with some that are stored, to have them dropped
        self._last_given = -1
        # Written under the lock, by whoever offers:
        self._offering = threading.Lock()
        self._ended = False
        self._accepted = 0
        self._accepted_bytes = 0
        # Written by the actor's side alone:
        self._released = 0
        self._released_bytes = 0
        # Written by both:
        self._waiting = threading.Lock()
        self._waiters: deque[LoopFuture[None]] = deque()
        self._room_waiters: deque[tuple[int, LoopFuture[None]]] = deque()

    # Whoever offers: any thread ----------------------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Whether an entry of so many bytes would be accepted now. An entry above the byte limit gets in alone."""
        return self._fits(self.held, self.held_bytes, size)

    def _fits(self, held: int, held_bytes: int, size: int) -> bool:
        return held == 0 or (held < self.max_messages and held_bytes + size <= self.max_bytes)

    def check_size(self, wire: bytes) -> None:
        """Raise `MessageTooLarge` for an entry that would not fit a frame of its own."""
        if self.frame_max and len(wire) + _ALONE > self.frame_max:
            raise MessageTooLarge(len(wire) + _ALONE, self.frame_max)

    def offer(self, wire: bytes, deadline: float, publishing_id: int | None = None) -> tuple[Receipt, bool] | None:
        """Accept an entry; None when there is no room for it.

        Args:
            wire: the entry's bytes after the publishing id.
            deadline: when its receipt gives up, on the clock of the tree's loop; `NEVER` for never.
            publishing_id: given by the user, above all earlier ones; None lets the outbox count.

        Returns:
            Its receipt, and whether the caller has to wake the actor: it is the first that waits.

        Raises:
            Closed: `end` was called.
            InvalidArgument: the id does not fit.
        """
        receipt = Receipt(wire, deadline, -1 if publishing_id is None else publishing_id)
        with self._offering:
            if self._ended:
                raise Closed("the producer is closed")
            if not self.has_room(len(wire)):
                return None
            if publishing_id is not None:
                self._check_given(publishing_id)
            elif self._last_given >= 0:
                raise InvalidArgument(
                    "this producer's publishing ids are given by its user: give one with each message"
                )
            self._accepted += 1
            self._accepted_bytes += len(wire)
            self._pending.append(receipt)
            # Looked at after the append: whoever was there before is still to be taken, and the actor looks again after
            # each one that it takes. Under the lock, or of two who append at once each would leave it to the other.
            return receipt, len(self._pending) == 1

    def _check_given(self, publishing_id: int) -> None:
        is_integer = isinstance(publishing_id, int) and not isinstance(publishing_id, bool)
        if not is_integer or not 0 <= publishing_id <= PUBLISHING_ID_MAX:
            raise InvalidArgument(f"a publishing id is an integer from 0 to 2**64-1, not {publishing_id!r}")
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

    def room(self, size: int, *, again: bool = False) -> LoopFuture[None]:
        """A future that is set when it is this one's turn, and there is room for so many bytes.

        In turn, and no more of them than find room: if all who wait were woken with each confirm, to look and to wait
        again, the time that they take would grow with their square. Whoever was woken and found that somebody else had
        been faster waits `again`: at the head.
        """
        future: LoopFuture[None] = LoopFuture()
        with self._waiting:
            (self._room_waiters.appendleft if again else self._room_waiters.append)((size, future))
        self.wake_for_room()  # it may have come up before we stood in the queue
        return future

    def leave_room(self, size: int, future: LoopFuture[None]) -> None:
        """Withdraw a `room` that was not used: whoever is next in the queue may have it."""
        with self._waiting, contextlib.suppress(ValueError):
            if not future.done():
                self._room_waiters.remove((size, future))
        self.wake_for_room()

    def wake_for_room(self) -> None:
        """Set as many of `room`, from the head of the queue, as there is room for; all of them after `end`."""
        if not self._room_waiters:
            return
        woken: list[LoopFuture[None]] = []
        with self._waiting:
            waiters, count, size = self._room_waiters, self.held, self.held_bytes
            while waiters and (self._ended or self._fits(count, size, waiters[0][0])):
                entry, future = waiters.popleft()
                count, size = count + 1, size + entry
                woken.append(future)
        for future in woken:
            future.try_set(None)

    def wake(self) -> None:
        """Set every `change` and `room`: something else has happened that those who wait should look at."""
        self._wake_changes()
        with self._waiting:
            woken = [future for _, future in self._room_waiters]
            self._room_waiters.clear()
        for future in woken:
            future.try_set(None)

    def _wake_changes(self) -> None:
        for _ in range(len(self._waiters)):  # not those who look, and then wait again, meanwhile
            try:
                future = self._waiters.popleft()
            except IndexError:  # another thread was faster
                return
            future.try_set(None)

    @property
    def accepted(self) -> int:
        """Messages accepted so far."""
        return self._accepted

    @property
    def undecided(self) -> int:
        """Messages without an outcome."""
        return self._accepted - self.confirmed - self.failed

    def without_outcome(self) -> list[Receipt]:
        """What was accepted so far and has no outcome yet, in its order."""
        queued = list(self._pending)  # before the window: what moves meanwhile is in both, and not in neither
        return [receipt for receipt in (*self._window.values(), *queued) if not receipt.done]

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
        """Number new entries above what the broker has stored under this name (F26); never below our own window.

        Raises:
            PublisherFenced: the broker has a higher id under this name than any that we have sent.
        """
        if self._last_sent >= 0 and sequence > max(self._last_sent, self._found):
            raise PublisherFenced(sequence, self._last_sent)
        self._found = sequence
        self._last_id = max(self._last_id, sequence)

    def take(self) -> list[Receipt]:
        """Move all that is pending into the window, each with its publishing id, in the order accepted.

        One that does not fit a frame fails here: it was queued when the broker before this one allowed larger ones.
        """
        taken: list[Receipt] = []
        oversized: list[Receipt] = []
        pending, window = self._pending, self._window
        last_id = self._last_id
        limit = self._limit
        while pending:
            receipt = pending[0]
            if len(receipt.wire) > limit:
                oversized.append(receipt)
            else:
                if receipt.publishing_id < 0:
                    receipt.publishing_id = last_id + 1
                last_id = receipt.publishing_id
                window[last_id] = receipt
                taken.append(receipt)
            pending.popleft()  # only now: another thread that looks finds it in the one or in the other
        self._last_id = last_id
        if taken:
            self._last_sent = last_id
        if oversized:
            self._fail((r, MessageTooLarge(len(r.wire) + _ALONE, self.frame_max)) for r in oversized)
        return taken

    def replay(self) -> list[Receipt]:
        """The whole window in its order, to be sent before anything new, under the same ids.

        One that does not fit a frame of the new connection cannot be sent again: its fate stays unknown.
        """
        oversized = [receipt for receipt in self._window.values() if len(receipt.wire) > self._limit]
        for receipt in oversized:
            del self._window[receipt.publishing_id]
        if oversized:
            text = f"it may be stored, and does not fit this broker's frame_max of {self.frame_max} to be sent again"
            self._fail((receipt, Unconfirmed(text)) for receipt in oversized)
        return list(self._window.values())

    @property
    def _limit(self) -> float:
        """Bytes of the largest entry that may be sent."""
        return self.frame_max - _ALONE if self.frame_max else math.inf

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

    def end(self, make: Callable[[], PublishError]) -> None:
        """Accept nothing any more, and give everything its outcome, sent or not. When the actor is gone; repeatable."""
        with self._offering:  # whoever offers at this moment gets in before, and has an outcome, or is told
            self._ended = True
        self.fail_window(make)
        pending, self._pending = self._pending, deque()
        self._fail((receipt, make()) for receipt in pending)

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
        self._wake_changes()
        self.wake_for_room()
