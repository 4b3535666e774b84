"""One logical subscription: reads from a member of the stream, owns the credit, and resumes at its cursor.

An incarnation lives as long as its attachment to one connection, as a publisher's does. The next one compares the
cursor with what the stream holds now, so that retention or a stream made anew is told and never skipped silently, and
subscribes where the consumer stopped. Chunks go to the consumer undecoded, with the number of the attachment whose
credit they used; the consumer sends that back when it is done with them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from actorstream import events, offset
from actorstream.actors import mailbox, messages as m
from actorstream.actors.calls import tell
from actorstream.actors.choosing import choose
from actorstream.actors.cursor import CreditLedger, Delivery
from actorstream.actors.desk import CarryOut
from actorstream.actors.future import LoopFuture
from actorstream.actors.pool import CONSUMING, lease, next_attachment
from actorstream.actors.reaching import reach_leader, reach_member
from actorstream.actors.runtime import Again, Down, Fatal, Retry, StreamActor, ask
from actorstream.actors.subscriber_state import EMPTY, StreamExtent, SubscriberState
from actorstream.errors import (
    ActorStreamError,
    ConnectionLost,
    InvalidArgument,
    OffsetGap,
    StreamNotAvailable,
    StreamTruncated,
    SubscriptionIdAlreadyExists,
    SubscriptionIdDoesNotExist,
    UnsupportedByBroker,
    response_error,
)
from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.options import ConsumerOptions, Endpoint, OnGap, OnTruncated
from actorstream.options.checks import require
from actorstream.wire import commands as c
from actorstream.wire.chunk import Chunk
from actorstream.wire.constants import ResponseCode

BROKEN_CHUNK_TRIES = 3
"""How often a chunk is fetched again that cannot be decoded, before the consumer has to hear of it (F63)."""

GRANT_WITHIN_S = 0.25
"""How long credit may be held back that does not come to a portion."""


class _TimeToGrant:
    """What is held back has been so for long enough."""


class Subscriber(StreamActor):
    """The actor; see the module."""

    def __init__(
        self,
        *,
        stream: str,
        options: ConsumerOptions,
        state: SubscriberState,
        locator: m.Ref,
        pool: m.Ref,
        emit: Callable[[events.Event], None],
    ) -> None:
        super().__init__()
        self._stream = stream
        self._options = options
        self._state = state
        self._locator = locator
        self._pool = pool
        self._emit = emit
        self._slot: m.Slot | None = None
        self._attachment = -1
        self._send: Callable[[c.Command], object] | None = None
        self._ledger = CreditLedger(options.credit)
        self._grant_timer = False
        self._on_leader = False
        self._wanted = 0
        self._last_chunk_id = EMPTY
        self._expected = -1
        self._held: list[m.Delivered] | None = None
        self._doing = "starting"

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {
            "stream": self._stream,
            "broker": str(self._slot.endpoint) if self._slot else "",
            "doing": self._doing,
            "position": self._state.cursor.progress.position,
            "completed": self._state.cursor.progress.completed,
            "credit_outstanding": self._ledger.outstanding,
            "credit_held": self._ledger.held,
            "chunks_in_hand": self._ledger.in_hand,
            "chunks": self._state.chunks,
            "records": self._state.records,
            "bytes": self._state.chunk_bytes,
        }

    # Life ---------------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Attach in a task of its own, so that the tree and the handle get answers meanwhile."""
        self.spawn(self._attach())

    async def _attach(self) -> None:
        """Find a member, compare the cursor with the stream, subscribe."""
        self._doing = "waiting for a member"
        guess = self._guess()
        members: m.Members = await ask(self._locator, m.WhereIs(self._stream, any_member=not self._needs_leader))
        self._state.members = members
        if guess in (members.leader, *members.replicas) and not self._needs_leader:
            endpoint = guess
        else:
            endpoint = members.leader if self._needs_leader else choose(members, self._state.tried)
        # Behind a load balancer, which picks the broker, any member will do, unless it has to be the leader.
        as_good = () if self._needs_leader else (members.leader, *members.replicas)
        self._doing = f"attaching to {endpoint}"
        slot = self._slot = await lease(self._pool, endpoint, CONSUMING, as_good)
        if self._needs_leader:
            negotiated = await reach_leader(slot.connection, self._stream, endpoint, self._locator)
        else:
            is_last = self._state.tried.issuperset((members.leader, *members.replicas))
            negotiated = await reach_member(slot.connection, endpoint, is_last=is_last)
        endpoint = negotiated.endpoint  # behind a load balancer it may be another member
        slot = self._slot = replace(slot, endpoint=endpoint)
        self._on_leader = endpoint == members.leader
        self.monitor(slot.connection)
        specification = await self._first_specification(slot)
        self._begin_attachment()
        try:
            self._send = await ask(slot.connection, self._subscription(slot, specification))
        except SubscriptionIdAlreadyExists as error:
            raise Retry(error) from None  # the pool and the broker disagree about one id: the next lease gives another
        self._doing = "consuming"
        state = self._state
        if not self.is_ending:  # else the first chunk was here before the answer, and perhaps asks for the leader
            state.wants_leader = False
        state.tried = {endpoint}
        if state.last_broker is not None and state.last_broker != endpoint:
            self._emit(
                events.Moved(path=self.path, stream=self._stream, origin=str(state.last_broker), to=str(endpoint))
            )
        state.last_broker = endpoint
        state.ready.try_set(None)

    def _guess(self) -> Endpoint | None:
        """The member that it will be, if they are still the same: the connection is made while that is asked."""
        known = self._state.members
        if known is None:
            return None
        guess = known.leader if self._needs_leader else choose(known, self._state.tried)
        tell(self._pool, m.Prepare(guess, CONSUMING))
        return guess

    @property
    def _needs_leader(self) -> bool:
        return self._options.prefer_leader or self._state.wants_leader

    def _begin_attachment(self) -> None:
        """From here on, the connection gives the slot back, and what older attachments delivered is void."""
        self._attachment = self._state.attachment = next_attachment()
        self._state.chunk_done = self.direct(self._chunk_done)
        if not self._may_grant:
            self._ledger.pause()
        # All that was queued comes again. Kept, it would add up with every attachment while the consumer is busy.
        self._drop_queued()

    def _drop_queued(self) -> int:
        """Forget what the consumer has not taken yet; how many chunks."""
        held, self._held = self._held or [], None
        count = len(held)
        with contextlib.suppress(asyncio.QueueEmpty, ActorStreamError):
            while True:
                self._state.deliveries.get_nowait()
                count += 1
        return count

    def _subscription(self, slot: m.Slot, specification: OffsetSpecification) -> m.AttachSubscriber:
        return m.AttachSubscriber(
            slot,
            self._attachment,
            self.actor_ref,
            self._stream,
            specification,
            self._options.credit,
            self._delivered,
            tuple(self._properties().items()),
        )

    def _properties(self) -> dict[str, str]:
        """What the broker is told of this subscription beside its offset."""
        # The broker makes nothing of the name alone; its lists of consumers show it.
        properties = {"name": self._options.name} if self._options.name else {}
        if self._state.bounded:
            # One that reads up to an end has to see that it got there, also when the broker's own tracking chunks,
            # which take offsets and carry no messages, are the last ones.
            properties["chunk_selector"] = "all"
        return properties if self._options.filter is None else properties | self._options.filter.subscription

    def on_stop(self) -> None:
        """Give back a slot that no subscription came to use."""
        if self._slot is not None and self._attachment == -1:
            tell(self._pool, m.Release(self._slot))

    # Where to start -----------------------------------------------------------------------------------------------

    async def _first_specification(self, slot: m.Slot) -> OffsetSpecification:
        """What to subscribe with."""
        return await self._specification(slot)

    async def _specification(self, slot: m.Slot) -> OffsetSpecification:
        """The specification for this subscription, after the cursor was compared with the stream (F48, F49, F50)."""
        cursor = self._state.cursor
        extent = await self._extent(slot)
        if extent is None:  # a broker before 3.11 has no StreamStats: nothing can be compared
            return cursor.resume()
        if cursor.last_chunk_id > extent.last:
            self._on_beyond_the_end(extent)
        elif not cursor.pinned:
            self._pin(extent)
        resume = cursor.resume()
        filtered = self._options.is_filtered_by_broker
        if resume.type is not OffsetType.OFFSET:
            if filtered and resume.type is OffsetType.LAST:
                # The chunk that it means may never come. The next subscription begins no later than that one is now.
                cursor.pin(offset.at(extent.committed))
            return resume
        if resume.value < extent.first and (cursor.pinned or resume.value > 0):
            self._on_gap(resume.value, extent.first)
        self._wanted = resume.value
        self._last_chunk_id = extent.last
        self._expected = EMPTY if filtered else max(min(resume.value, extent.last), extent.first)
        # Beyond its end, a broker takes any offset for "next". From the last chunk on, what comes first tells where the
        # end is, and whether there is anything left to wait for; `Cursor.start_in` drops what is not wanted.
        return offset.at(min(resume.value, extent.last)) if extent.last != EMPTY else resume

    async def _extent(self, slot: m.Slot) -> StreamExtent | None:
        try:
            response = await ask(slot.connection, m.Request(c.StreamStats(self._stream)))
        except UnsupportedByBroker:
            return None
        if response.code != ResponseCode.OK:
            raise response_error(response.code, f"the statistics of stream {self._stream!r}")
        statistics: Mapping[str, int] = response.stats
        committed = statistics.get("committed_chunk_id", EMPTY)
        # The last chunk, not the committed one, tells what a member has: a new leader learns late what is committed.
        last = max(statistics.get("last_chunk_id", committed), committed)
        return StreamExtent(statistics.get("first_chunk_id", EMPTY), last, committed)

    def _pin(self, extent: StreamExtent) -> None:
        """Give "next" and "last" the meaning they have now, so that an outage does not make them skip anything."""
        cursor = self._state.cursor
        if cursor.specification.type is OffsetType.NEXT:
            if extent.committed == EMPTY:
                cursor.pin(offset.at(0))
            else:
                cursor.pin(offset.at(extent.committed), skip_through=extent.committed)
        elif cursor.specification.type is OffsetType.LAST and extent.committed == EMPTY:
            cursor.pin(offset.at(0))

    def _on_gap(self, wanted: int, first: int) -> None:
        if self._options.on_gap is OnGap.RAISE:
            raise Fatal(OffsetGap(self._stream, wanted, first))
        self._emit(events.OffsetGap(path=self.path, stream=self._stream, wanted=wanted, first=first))

    def _on_beyond_the_end(self, extent: StreamExtent) -> None:
        """The newest chunk we had is not in the stream."""
        self._need_the_leaders_word()
        self._restart_cursor(extent.last)
        if self._options.on_truncated is OnTruncated.NEXT:
            self._pin(extent)

    def _need_the_leaders_word(self) -> None:
        """A replica without what we want may only be behind; its leader is not."""
        if not self._on_leader:
            self._state.wants_leader = True
            raise StreamNotAvailable(f"this replica of stream {self._stream!r} ends before the offset wanted")

    def _restart_cursor(self, last_chunk_id: int) -> None:
        cursor = self._state.cursor
        if self._options.on_truncated is OnTruncated.RAISE:
            raise Fatal(StreamTruncated(self._stream, cursor.progress.position, last_chunk_id))
        self._emit(
            events.StreamTruncated(
                path=self.path, stream=self._stream, wanted=cursor.progress.position, last_chunk_id=last_chunk_id
            )
        )
        cursor.restart(offset.first() if self._options.on_truncated is OnTruncated.FIRST else offset.next())

    def _is_beyond_the_end(self, chunk: Chunk) -> bool:
        """Whether the first chunk shows that the stream ends, or ended a moment ago, before the offset wanted.

        Without this test the consumer would drop everything up to the offset it asked for, in silence (F50).
        """
        wanted, self._wanted = self._wanted, 0
        return self._last_chunk_id <= chunk.chunk_id and chunk.next_offset < wanted

    # Messages -----------------------------------------------------------------------------------------------------

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To a Subscriber"."""
        match message:
            case m.Delivered():
                self._on_delivered(message)
            case m.ChunkDone(attachment=attachment):
                self._chunk_done(attachment)
            case _TimeToGrant():
                self._grant_timer = False
                self._grant(self._ledger.grant())
            case m.Seek(specification=specification):
                self._state.cursor.restart(specification)
                # A subscription has one beginning: the next incarnation makes another one, and this one's is taken back
                # as always when one ends.
                self.exit(Again())
            case mailbox.Where():
                return self._where()
            case mailbox.StoreOffset() if self._state.carry_out is not None:
                return self._state.carry_out(message)
            case mailbox.Seek() if self._state.carry_out is not None:
                return self._sought(message, self._state.carry_out)
            case m.Pause():
                self._state.paused = True
                self._ledger.pause()
            case m.Resume():
                self._state.paused = False
                self._resume_granting()
            case m.ChunkBroken():
                self._on_broken(message)
            case m.CreditRefused(attachment=attachment, code=code):
                if attachment == self._attachment and code == ResponseCode.SUBSCRIPTION_ID_DOES_NOT_EXIST:
                    # The broker lost a subscription that we hold for alive (F60).
                    self.exit(Retry(SubscriptionIdDoesNotExist(f"stream {self._stream!r}")))
            case m.TopologyChanged(attachment=attachment, code=code):
                if attachment == self._attachment:
                    # Whatever the code: whether the stream is still there is for the next metadata query to say.
                    self.exit(Retry(response_error(code, f"stream {self._stream!r} moved")))
            case Down(reason=reason):
                self.exit(reason or ConnectionLost("the connection was closed"))
            case _:
                return super().on_receive(message)
        return None

    def _sought(self, message: mailbox.Seek, carry_out: CarryOut) -> LoopFuture[None]:
        """Answered before it is done: it ends this incarnation, and the answers that it owes with it."""
        answer: LoopFuture[None] = LoopFuture()
        try:
            offset.parse(message.offset)
            require(not self._options.single_active, "a single active consumer has its place from its group")
        except InvalidArgument as error:  # a future, since what is raised at a tell would end the actor
            answer.set_exception(error)
        else:
            carry_out(message)
            answer.set(None)
        return answer

    def _where(self) -> mailbox.Place:
        state = self._state
        cursor = state.cursor
        return mailbox.Place(
            self._stream, cursor.progress.position, cursor.completed, state.committed_chunk_id, state.paused
        )

    @property
    def _delivered(self) -> Callable[[m.Delivered | m.ChunkBroken], object]:
        """Where the connection hands chunks over, those included that it could not read: in their order."""
        return self.direct(self.on_receive)

    def _on_delivered(self, message: m.Delivered) -> None:
        if message.attachment != self._attachment:
            return
        if self._wanted and self._is_beyond_the_end(message.chunk):
            self._on_first_chunk_below(message.chunk)
            return
        self._ledger.deliver()
        self._pass_on(message)

    def _pass_on(self, message: m.Delivered) -> None:
        """Hand a chunk to the consumer; behind a hole, it waits until the hole is explained."""
        chunk = message.chunk
        if self._held is not None:
            self._held.append(message)
            return
        if 0 <= self._expected < chunk.chunk_id:
            self._held = [message]
            self.spawn(self._explain_hole(self._expected))
            return
        if not self._options.is_filtered_by_broker:  # else holes are what was asked for
            self._expected = chunk.next_offset
        state = self._state
        state.cursor.received(chunk)
        state.chunks += 1
        state.records += chunk.records
        state.chunk_bytes += chunk.size
        if message.committed_chunk_id is not None:
            state.committed_chunk_id = message.committed_chunk_id
        state.deliveries.put(Delivery(chunk, message.attachment, state.cursor.progress, message.committed_chunk_id))

    async def _explain_hole(self, wanted: int) -> None:
        """Offsets did not come: the broker's own chunks took them, or else retention did.

        When retention overtakes a subscription, brokers go on with the first chunk there is, and say nothing (F49).
        """
        assert self._slot is not None
        extent = await self._extent(self._slot)
        if extent is not None and wanted < extent.first:
            self._on_gap(wanted, extent.first)
        held, self._held = self._held or [], None
        self._expected = -1
        for message in held:
            self._pass_on(message)

    def _on_first_chunk_below(self, chunk: Chunk) -> None:
        try:
            self._need_the_leaders_word()
            self._restart_cursor(chunk.chunk_id)
        except (StreamNotAvailable, Fatal) as reason:
            self.exit(reason)
            return
        if self._options.on_truncated is OnTruncated.NEXT:
            is_new = chunk.chunk_id > self._last_chunk_id
            self._state.cursor.pin(offset.at(chunk.chunk_id), skip_through=EMPTY if is_new else chunk.chunk_id)
        self.exit(StreamNotAvailable(f"the end of stream {self._stream!r} is below the offset wanted"))

    @property
    def _may_grant(self) -> bool:
        return not self._state.paused

    def _resume_granting(self) -> None:
        if self._may_grant:
            self._grant(self._ledger.resume())

    def _chunk_done(self, attachment: int) -> None:
        if attachment == self._attachment:
            self._give_back(1)

    def _give_back(self, count: int) -> None:
        self._grant(self._ledger.give_back(count))
        if self._ledger.held and not self._ledger.paused and not self._grant_timer:
            self._grant_timer = True
            self.call_later(GRANT_WITHIN_S, _TimeToGrant())

    def _grant(self, count: int) -> None:
        if self._send is None:  # chunks may be done before we know that we are subscribed
            self._tell_to_grant(count)
        elif count and self._slot is not None:
            with contextlib.suppress(ConnectionLost):  # `Down` is on its way
                self._send(c.Credit(self._slot.entity_id, count))

    def _tell_to_grant(self, count: int) -> None:
        if count and self._slot is not None:
            tell(self._slot.connection, m.SendCommand(c.Credit(self._slot.entity_id, count)))

    def _on_broken(self, message: m.ChunkBroken) -> None:
        """A chunk that cannot be decoded is fetched again, from another member if there is one; then it is told."""
        if message.attachment != self._attachment:
            return
        state = self._state
        at = ("chunk", message.chunk_id) if message.chunk_id != EMPTY else ("after", state.cursor.last_chunk_id)
        state.broken_tries = state.broken_tries + 1 if state.broken_at == at else 1
        state.broken_at = at
        # Whatever the error says of itself: it is this count that ends it.
        self.exit(Fatal(message.error) if state.broken_tries >= BROKEN_CHUNK_TRIES else Retry(message.error))
