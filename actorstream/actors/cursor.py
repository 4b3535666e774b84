"""What outlives a subscriber's incarnations: how far the consumer has come, and where a new subscription starts.

A plain object with two sides. The *handle* moves a `Progress` while it dispatches; the *subscriber actor* reads it
when it subscribes anew, and keeps the ledger of credit. Each field has one writer, so that the two may live on
different threads. When the place is given up (the stream is another one now), the cursor gets a new progress: what the
handle still writes to the old one changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from actorstream import offset
from actorstream.actors.gate import Gate
from actorstream.actors.progress import Progress
from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire.chunk import Chunk


@dataclass(frozen=True, slots=True)
class Delivery:
    """One chunk on its way from the subscriber to the consumer.

    `attachment` names the subscription that brought it, whose credit it used; `progress` is what it advances.
    """

    chunk: Chunk
    attachment: int
    progress: Progress
    committed_chunk_id: int | None


class Cursor:
    """The place of one logical consumer in its stream; see the module."""

    def __init__(self, specification: OffsetSpecification, gate: Gate | None = None) -> None:
        self._gate = gate
        self.specification = specification
        """What the user asked for."""
        self.progress = self._begin(specification)
        self.last_chunk_id = -1
        """The newest chunk that was received, or is known to have been there: the stream can never end before it."""
        self.reached: int | None = None
        """The last offset that was completed before the present progress began; see `activate`."""
        self.restarts = 0
        """How often the place was given up."""
        self._pin: OffsetSpecification | None = None
        self._skip_through = -1

    def _begin(self, specification: OffsetSpecification) -> Progress:
        return Progress(specification.value if specification.type is OffsetType.OFFSET else 0, self._gate)

    def pin(self, specification: OffsetSpecification, *, skip_through: int = -1) -> None:
        """Replace a specification that means something else later ("next", "last") by what it meant at first.

        `skip_through`: the chunk up to which everything was there before the consumer came, and is not for it.
        """
        self._pin = specification
        self._skip_through = skip_through
        self.last_chunk_id = max(self.last_chunk_id, skip_through)

    @property
    def pinned(self) -> bool:
        """Whether a new subscription would start at a place of its own, not at the user's specification."""
        return self._pin is not None or self.last_chunk_id >= 0

    @property
    def origin(self) -> OffsetSpecification:
        """Where the user wanted to begin; "next" and "last" as they were meant when the consumer was made."""
        return self._pin or self.specification

    def resume(self) -> OffsetSpecification:
        """Where a new subscription starts: after all that was dispatched, else where the first one was meant to."""
        if self.progress.position > 0 and self.last_chunk_id >= 0:
            return offset.at(self.progress.position)
        return self.origin

    def received(self, chunk: Chunk) -> None:
        """A chunk came in (the subscriber's side)."""
        type_ = self.specification.type
        # The chunk that "last" means may lie before where it was pinned, behind chunks of the broker's own.
        free = self._pin is None or (type_ is OffsetType.LAST and self._pin.value > chunk.chunk_id)
        if self.last_chunk_id < 0 and free and type_ is not OffsetType.OFFSET:
            # "first", "last" and a timestamp mean this chunk from now on, even when the stream moves on meanwhile.
            self._pin = offset.at(chunk.chunk_id)
        self.last_chunk_id = max(self.last_chunk_id, chunk.chunk_id)

    def start_in(self, chunk: Chunk) -> int:
        """The first offset of a chunk that is still to be dispatched (the handle's side)."""
        if chunk.chunk_id <= self._skip_through:
            return chunk.next_offset
        return max(self.progress.position, chunk.chunk_id)

    @property
    def completed(self) -> int | None:
        """The last offset whose processing ended, whether in the present progress or before it."""
        completed = self.progress.completed
        return self.reached if completed is None else completed

    def activate(self, start: OffsetSpecification | None) -> None:
        """A single active consumer begins anew: at `start`, or, for None, where the first one was meant to begin.

        What the handle has in hand from before does not count any more: it moves a progress that is nobody's now.
        """
        self.reached = self.completed
        if start is not None:
            self._pin = start
            self._skip_through = -1
        self.progress = self._begin(self._pin or self.specification)

    def fence(self) -> None:
        """What the handle has in hand does not count any more; everything else stays."""
        self.reached = self.completed
        self.progress = Progress(self.progress.position if self.reached is None else self.reached + 1, self._gate)

    def restart(self, specification: OffsetSpecification) -> None:
        """Forget the place: the stream is another one now, or was cut off. What is under way is dropped."""
        self.specification = specification
        self.progress = self._begin(specification)
        self.restarts += 1
        self.reached = None
        self.last_chunk_id = -1
        self._pin = None
        self._skip_through = -1


class CreditLedger:
    """Credit of one subscription: granted - delivered == what the broker may still send. One credit is one chunk.

    What is done is granted again in portions, of a quarter of the initial credit: each is a frame, a system call here,
    and somebody who wakes up at the other end. Since RabbitMQ 3.12, a broker that has sent all it may does nothing
    until it has more than half of the initial credit again: what comes to less is held until it is enough, and given
    at once then. What is held when no more comes has to be granted, too, after a moment (`grant`): only a grant tells
    whether the broker still knows the subscription.
    """

    __slots__ = ("_limit", "_portion", "delivered", "granted", "held", "paused", "returned")

    def __init__(self, initial: int) -> None:
        self._limit = initial // 2
        self._portion = (initial + 2) // 4
        self.granted = initial
        self.delivered = 0
        self.returned = 0
        self.held = 0
        """Chunks that are done and not granted again: too few yet, or all of them while the consumer pauses."""
        self.paused = False

    @property
    def outstanding(self) -> int:
        """Chunks the broker may still send."""
        return self.granted - self.delivered

    @property
    def in_hand(self) -> int:
        """Chunks that were delivered and are not done."""
        return self.delivered - self.returned

    def deliver(self) -> None:
        """A chunk arrived."""
        self.delivered += 1

    def give_back(self, count: int) -> int:
        """So many chunks are done; returns the credit to grant now."""
        self.returned += count
        self.held += count
        outstanding = self.outstanding
        if outstanding + self.held <= self._limit or (outstanding > self._limit and self.held < self._portion):
            return 0
        return self.grant()

    def pause(self) -> None:
        """Stop granting; what the broker may still send goes on arriving."""
        self.paused = True

    def resume(self) -> int:
        """Grant again; returns the credit to grant now."""
        self.paused = False
        return self.grant()

    def grant(self) -> int:
        """Hold nothing back any longer, unless it pauses; returns the credit to grant now."""
        if self.paused:
            return 0
        count, self.held = self.held, 0
        self.granted += count
        return count
