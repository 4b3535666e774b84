"""Takes messages out of the chunks that a subscriber brings, one or many at a time, and moves the cursor.

What is taken is completed when the next one is asked for, unless whoever takes it says otherwise. What is done for each
message is done by a `Hand`; what can be looked at chunk by chunk is looked at in `fetch`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from actorstream.actors import messages as m
from actorstream.actors.calls import tell
from actorstream.actors.cursor import Cursor, Delivery
from actorstream.actors.gate import Gate
from actorstream.actors.progress import NOTHING, Hand, Iteration, Progress
from actorstream.actors.subscriber_state import EMPTY, SubscriberState
from actorstream.errors import (
    ActorStreamError,
    Closed,
    CompressionError,
    CorruptChunk,
    FilterFailed,
    MessageCodecError,
)
from actorstream.offset import OffsetSpecification
from actorstream.options import ConsumerOptions
from actorstream.reading import Reader
from actorstream.tracking import NEVER, Tracking
from actorstream.wire.message import Message


class ChunkReader(Reader):
    """The half of a `Consumer` that reads; see the module. One task at a time takes and fetches."""

    def __init__(
        self,
        stream: str,
        options: ConsumerOptions,
        state: SubscriberState,
        *,
        until: int | None = None,
        tracking: Tracking | None = None,
    ) -> None:
        self._stream = stream
        self._options = options
        self._state = state
        self._cursor: Cursor = state.cursor
        self._progress: Progress = state.cursor.progress
        self._gate = state.cursor.progress.gate
        self._end = None if until is None else until + 1
        self._until_chunk_id: int | None = None
        self._ref: m.Ref | None = None
        self._closed: ActorStreamError | None = None
        self._delivery: Delivery | None = None
        self._broken_attachment = -1
        self._finished = False
        self._tracking = tracking
        self._predicate = None if options.filter is None else options.filter.predicate
        self._unfiltered: Delivery | None = None
        self._hand = Hand(self._progress, NEVER if tracking is None else tracking.every, self._store_soon)
        self._enter()

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._stream

    @property
    def position(self) -> int:
        """The next offset to be dispatched; 0 before the first message when none was given."""
        return self._cursor.progress.position

    @property
    def completed(self) -> int | None:
        """The last offset whose processing completed; None before that."""
        return self._cursor.completed

    @property
    def received(self) -> int:
        """Messages dispatched so far; those that were put back, since they were not processed, do not count."""
        return self._hand.received - self._hand.returned

    @property
    def dispatched(self) -> int:
        """As `received`, but counting what was put back as often as it was dispatched: it never gets less."""
        return self._hand.received

    @property
    def delivered_messages(self) -> int:
        """Messages that the broker delivered so far: wanted or not, and again after a lost connection."""
        return self._state.records

    @property
    def delivered_bytes(self) -> int:
        """The bytes of these messages, as they are stored: where they are compressed, these bytes are."""
        return self._state.chunk_bytes

    @property
    def delivered_chunks(self) -> int:
        """The chunks in which they came; a chunk is what one credit is good for."""
        return self._state.chunks

    @property
    def committed_chunk_id(self) -> int:
        """The first offset of the newest chunk that a quorum has, as of the last delivery; -1 before it is known.

        Brokers before 3.11 do not tell it.
        """
        return self._state.committed_chunk_id

    @property
    def lag(self) -> int | None:
        """How many offsets the position is behind the newest chunk that a quorum has; None before that is known.

        Exact to within that chunk, and as of the last delivery: `Client.stream_statistics` asks the broker.
        """
        committed = self._state.committed_chunk_id
        return None if committed == EMPTY else max(committed - self.position, 0)

    # Iterating ----------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Message]:
        # Who is let in by a gate has to look at it before each message.
        return Iteration(self._hand, self.fetch) if self._gate is None else self

    def take(self) -> Message | None:
        """The next message that is in hand; the one before is completed. None when a chunk has to be fetched."""
        if self._gate is not None and not self._is_let_in(self._gate):
            return None
        return self._hand.take()

    @property
    def has_messages(self) -> bool:
        """Whether something is in hand that was not dispatched yet."""
        return self._hand.index < len(self._hand.messages)

    def complete(self) -> None:
        """What was dispatched last is completed."""
        was_inside = self._hand.dispatched != NOTHING
        self._hand.complete()
        if was_inside and self._gate is not None:
            self._gate.leave()

    def _drop_dispatched(self) -> None:
        if self._hand.dispatched != NOTHING:
            self._hand.dispatched = NOTHING
            if self._gate is not None:
                self._gate.leave()

    def _is_let_in(self, gate: Gate) -> bool:
        """Whether something is in hand and still for us; else another member of the group reads it, or we do again."""
        self.complete()
        if not self.has_messages:
            return False
        if gate.enter(self._progress):
            return True
        self._let_go()
        return False

    def _store_soon(self) -> None:
        assert self._tracking is not None
        self._hand.store_due = self._hand.received + self._tracking.every
        self._tracking.some_completed()

    def take_batch(self, max_size: int | None) -> list[Message]:
        """As `take`, with what is left of the chunk in hand."""
        if self._gate is not None and not self._is_let_in(self._gate):
            return []
        return self._hand.take_batch(max_size)

    def take_ahead(self) -> tuple[Message, Progress] | None:
        """As `take`, with the progress that the message advances; completes nothing: that is for whoever handles it."""
        message = self.take()
        self._drop_dispatched()
        if self._hand.received >= self._hand.store_due:  # what is stored then is behind by what is in work
            self._store_soon()
        return None if message is None else (message, self._progress)

    def put_back(self, messages: list[Message], progress: Progress | None = None) -> None:
        """Those that were dispatched last were not processed: they come again, and the position is back at them.

        `progress`: the one they were taken with, unless none was taken since; of a place given up, nothing comes again.
        """
        in_hand = self._hand.dispatched
        self._drop_dispatched()
        if progress is not self._progress if progress is not None else in_hand == NOTHING:  # as after `seek`
            return
        self._hand.put_back(messages, wanted=not self.was_closed)

    async def fetch(self) -> None:
        """Have the messages of the next chunk in hand; perhaps none, when it holds nothing for this consumer."""
        self._finish_chunk()
        if self._finished or self.was_closed:
            raise StopAsyncIteration
        delivery, self._unfiltered = self._unfiltered, None
        try:
            delivery = delivery or await self._state.deliveries.get()
        except Closed:
            raise StopAsyncIteration from None
        if self.was_closed:
            raise StopAsyncIteration
        if (
            delivery.progress is not self._cursor.progress  # from before the cursor was set back
            or delivery.attachment != self._state.attachment  # a new subscription brings this chunk again
            or delivery.attachment == self._broken_attachment  # behind a chunk that has to be fetched again first
        ):
            self._give_back(delivery)
            return
        chunk = delivery.chunk
        decode = chunk.raw_messages if self._options.raw else chunk.messages
        try:
            chunk.verify()
            messages = decode(self._cursor.start_in(chunk), self._end, self._stream)
        except (CorruptChunk, CompressionError, MessageCodecError) as error:
            self._broken_attachment = delivery.attachment
            tell(self._ref, m.ChunkBroken(delivery.attachment, chunk.chunk_id, error))
            return
        if self._predicate is not None:
            messages = self._filter(messages, self._predicate, delivery)
        self._delivery = delivery
        self._progress = self._hand.progress = delivery.progress
        end, last = self._end, self._until_chunk_id
        self._hand.hold([] if last is not None and chunk.chunk_id > last else messages)  # sought beyond the end: none
        self._finished = (end is not None and chunk.next_offset >= end) or (last is not None and chunk.chunk_id >= last)

    def _filter(
        self, messages: list[Message], predicate: Callable[[Message], bool], delivery: Delivery
    ) -> list[Message]:
        """Those that are wanted. Where the predicate raises, the chunk stays the next one."""
        wanted: list[Message] = []
        for message in messages:
            try:
                if predicate(message):
                    wanted.append(message)
            except Exception as error:
                self._unfiltered = delivery
                raise FilterFailed(self._stream, message.offset) from error
        return wanted

    @property
    def was_closed(self) -> bool:
        """Whether its owner closed it: what is in hand or under way is not wanted then. After a failure it still is."""
        return isinstance(self._closed, Closed)

    def _finish_chunk(self) -> None:
        """The chunk in hand is done, whatever became of its messages (F59)."""
        delivery = self._let_go()
        if delivery is not None:
            progress, done = delivery.progress, delivery.chunk.next_offset
            done = done if self._end is None else min(done, self._end)
            if self._predicate is not None and not progress.is_ahead:
                # Nothing is in work, and so what the predicate dropped is completed, too: where little is wanted, the
                # offset that is stored would otherwise fall behind retention.
                progress.completed = done - 1
            progress.position = max(progress.position, done)

    def _let_go(self) -> Delivery | None:
        """Have no chunk in hand any more; its credit goes back (F58)."""
        delivery, self._delivery = self._delivery, None
        self._hand.hold([])
        if delivery is not None:
            self._give_back(delivery)
        return delivery

    def _give_back(self, delivery: Delivery) -> None:
        """Its credit may be granted again."""
        done = self._state.chunk_done
        if done is None or not done(delivery.attachment):
            tell(self._ref, m.ChunkDone(delivery.attachment))

    # Where it begins and ends ---------------------------------------------------------------------------------------

    async def _first_timestamp(self) -> int:
        """When the first chunk that comes was written (milliseconds since the epoch)."""
        while self._delivery is None:
            await self.fetch()
        return self._delivery.chunk.timestamp_ms

    def _begin_at(self, specification: OffsetSpecification) -> None:
        """Begin here, and not where the user said: an offset is stored. Called by the client, before the start."""
        self._cursor.restart(specification)
        self._enter()

    def _end_at(self, chunk_id: int) -> None:
        """Deliver nothing beyond this chunk; `EMPTY`: nothing at all. Called by the client, before the start."""
        self._until_chunk_id = chunk_id
        self._enter()

    def _enter(self) -> None:
        """The place is the cursor's; perhaps there is nothing to read from there to the end."""
        self._progress = self._hand.progress = self._cursor.progress
        beyond = self._end is not None and self._progress.position >= self._end
        self._finished = beyond or self._until_chunk_id == EMPTY
