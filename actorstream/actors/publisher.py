"""One logical publisher: declares itself on the stream's leader, sends what its outbox holds, and settles the answers.

An incarnation lives as long as its attachment to one connection. Whatever ends that (a lost connection, a moved
leader, a refusal that may pass) ends the incarnation; the next one asks where the leader is now, and replays the
outbox's window in order before anything new. All that must survive is in the `Outbox`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pykka

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.answer import Answer
from actorstream.actors.calls import tell
from actorstream.actors.doubt import Doubt
from actorstream.actors.encoding import Encoder, several
from actorstream.actors.entries import NEVER, Outgoing
from actorstream.actors.future import LoopFuture
from actorstream.actors.mailbox import Publish, PublishBatch
from actorstream.actors.outbox import Outbox
from actorstream.actors.pool import PUBLISHING, lease, next_attachment
from actorstream.actors.reaching import reach_leader
from actorstream.actors.receipt import Receipt
from actorstream.actors.runtime import Down, Retry, StreamActor, ask
from actorstream.errors import (
    ActorStreamError,
    ConnectionLost,
    OutboxFull,
    PreconditionFailed,
    PublisherFenced,
    StreamNotAvailable,
    Unconfirmed,
    response_error,
)
from actorstream.options import Endpoint, ProducerOptions, Replay
from actorstream.wire import commands as c
from actorstream.wire.capabilities import Feature
from actorstream.wire.constants import ResponseCode
from actorstream.wire.publish import publish_frames

DEADLINE_GRAIN_S = 0.25
"""How late the outcome of a message may be told after its deadline: deadlines are looked at in steps of this."""


FENCE_CHECK_S = 5.0
"""How often a producer that counts ids under a name asks the broker whether somebody else does, while it publishes."""


@dataclass(frozen=True, slots=True)
class _TimeToCheckFence:
    pass


@dataclass(frozen=True, slots=True)
class _TimeToDoubt:
    members: m.Members
    doubt: Doubt


class Publisher(StreamActor):
    """The actor; see the module."""

    def __init__(
        self,
        *,
        stream: str,
        options: ProducerOptions,
        outbox: Outbox,
        locator: m.Ref,
        pool: m.Ref,
        emit: Callable[[events.Event], None],
        last_broker: list[Endpoint],
        ready: LoopFuture[None],
    ) -> None:
        super().__init__()
        self._stream = stream
        self._options = options
        self._outbox = outbox
        self._encoder = Encoder(options)
        self._locator = locator
        self._pool = pool
        self._emit = emit
        self._last_broker = last_broker
        self._ready = ready
        self._slot: m.Slot | None = None
        self._slot_is_ours = False
        self._connection: m.Ref | None = None
        self._write: Callable[[Sequence[bytes]], object] | None = None
        self._attachment = -1
        self._frame_max = 0
        self._doing = "starting"
        self._deadline_timer = False
        self._confirmed_at_check = 0

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {
            "stream": self._stream,
            "broker": str(self._slot.endpoint) if self._slot else "",
            "doing": self._doing,
            "queued": self._outbox.queued,
            "in_flight": self._outbox.in_flight,
            "confirmed": self._outbox.confirmed,
            "confirmed_bytes": self._outbox.confirmed_bytes,
            "failed": self._outbox.failed,
        }

    # Life ---------------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Attach in a task of its own, so that deadlines are kept while there is no leader to attach to."""
        if not self._options.name and self._options.replay is Replay.FAIL:
            # Now and not when there is a leader again: the caller may have somewhere else to go with them.
            self._outbox.fail_window(
                lambda: Unconfirmed("the connection was lost before the confirm: it may be stored")
            )
        self._check_deadlines()
        self.spawn(self._attach())

    async def _attach(self) -> None:
        """Find the leader, declare, replay the window; only then is anything new sent."""
        self._doing = "waiting for a leader"
        if self._last_broker:  # most often it is still the leader: one handshake less to wait for
            tell(self._pool, m.Prepare(self._last_broker[0], PUBLISHING))
        members: m.Members = await ask(self._locator, m.WhereIs(self._stream))
        self._doing = f"attaching to {members.leader}"
        slot = await lease(self._pool, members.leader, PUBLISHING)
        self._slot, self._slot_is_ours = slot, True
        self._attachment = next_attachment()
        negotiated = await reach_leader(slot.connection, self._stream, members.leader, self._locator)
        self.monitor(slot.connection)
        self._frame_max = self._outbox.frame_max = negotiated.frame_max
        self._outbox.negotiated = negotiated
        if self._outbox.filtered or self._options.filter_value is not None:
            negotiated.require(Feature.FILTERING)  # its brokers before this one may have been newer
        await self._declare(slot)
        if self._options.name:
            await self._continue_sequence(slot)
            self.call_later(FENCE_CHECK_S, _TimeToCheckFence())
        self._connection = slot.connection
        self._outbox.attach(self.direct(lambda _: self._flush()))
        self._doing = "publishing"
        self._moved_to(slot.endpoint)
        doubt = Doubt(self._outbox, negotiated.heartbeat_s)
        self.call_later(doubt.pause_s, _TimeToDoubt(members, doubt))
        self._send(self._outbox.replay())
        self._flush()
        self._ready.try_set(None)

    async def _declare(self, slot: m.Slot) -> None:
        self._slot_is_ours = False  # whatever comes of it, the connection gives the slot back
        try:
            self._write = await ask(
                slot.connection,
                m.AttachPublisher(
                    slot,
                    self._attachment,
                    self.actor_ref,
                    self._stream,
                    self._options.name,
                    # Of an older attachment too: the ids are ours, and what the broker confirmed stays confirmed.
                    self._outbox.confirm,
                ),
            )
        except PreconditionFailed as error:
            # A resource alarm, or our own predecessor that the broker has not buried yet: both pass (F21, W2).
            raise Retry(error) from error

    async def _continue_sequence(self, slot: m.Slot) -> None:
        """Number what is new above what the broker holds under our name; what is in the window keeps its ids (F26)."""
        response = await ask(slot.connection, m.Request(c.QueryPublisherSequence(self._options.name, self._stream)))
        if response.code != ResponseCode.OK:
            raise response_error(response.code, f"the publishing sequence of {self._options.name!r}")
        self._outbox.numbering.continue_after(response.sequence)

    def _moved_to(self, endpoint: Endpoint) -> None:
        if self._last_broker and self._last_broker[0] != endpoint:
            self._emit(
                events.Moved(path=self.path, stream=self._stream, origin=str(self._last_broker[0]), to=str(endpoint))
            )
        self._last_broker[:] = [endpoint]

    def on_stop(self) -> None:
        """The connection takes the publisher off the broker when it sees this actor go; the window stays."""
        self._detach()
        if self._slot is not None and self._slot_is_ours:
            tell(self._pool, m.Release(self._slot))

    # Messages -----------------------------------------------------------------------------------------------------

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To a Publisher"."""
        match message:
            case m.Flush():
                self._flush()
            case Publish() | PublishBatch():
                return self._publish(message)
            case m.Rejected(attachment=attachment, failures=failures):
                self._on_rejected(attachment, failures)
            case m.CheckDeadlines():
                self._check_deadlines()
            case m.CheckFence():
                return self._check_fence()
            case _TimeToCheckFence():
                self._check_fence_if_confirmed()
            case _TimeToDoubt(members=members, doubt=doubt):
                if doubt.arises():
                    self.spawn(self._look_elsewhere(members))
                self.call_later(doubt.pause_s, message)
            case m.TopologyChanged(attachment=attachment, code=code):
                if attachment == self._attachment:
                    self._abandon(response_error(code, f"stream {self._stream!r} moved"))
            case Down(reason=reason):
                self._abandon(reason or ConnectionLost("the connection was closed"))
            case _:
                return super().on_receive(message)
        return None

    def _publish(self, message: Publish | PublishBatch) -> LoopFuture[None]:
        """Publish for a user's actor, whatever becomes of it."""
        answer = Answer(message, self._publish_failed)
        receipts: list[Receipt] = []
        failure: Exception | None = None
        try:
            for receipt in self._received(message):
                receipts.append(receipt)  # noqa: PERF402 - those before one that fails are kept
        except Exception as error:  # noqa: BLE001 - it belongs to whoever sent it, and ends no actor (F35)
            failure = error
        waiting = len(receipts)

        def settled(receipt: Receipt) -> None:
            nonlocal waiting, failure
            waiting -= 1
            failure = failure or receipt.error
            if not waiting:
                answer.settle(failure)

        for receipt in receipts:
            receipt.add_done_callback(settled)
        if not receipts:
            answer.settle(failure)
        return answer.done

    def _publish_failed(self, reason: BaseException) -> None:
        self._emit(events.PublishFailed(path=self.path, stream=self._stream, reason=reason))

    def _received(self, message: Publish | PublishBatch) -> Iterator[Receipt]:
        make = self._encoder.receipt
        if isinstance(message, Publish):
            yield self._accept(make(self._outbox, message.body, message.publishing_id, message.filter_value))
        else:
            for receipt in [
                make(self._outbox, body) for body in several(message.bodies)
            ]:  # a bad one leaves nothing behind
                yield self._accept(receipt)

    def _accept(self, receipt: Receipt) -> Receipt:
        timeout = self._options.confirm_timeout_s
        if timeout is not None:
            receipt.deadline = asyncio.get_running_loop().time() + timeout
        is_first = self._outbox.offer(receipt)
        if is_first is None:
            raise OutboxFull(f"{self._outbox.room.held} messages are unconfirmed")
        if is_first:
            # Told, not done at once: what else is in the inbox goes out in the same frame.
            self.tell_self(m.Flush())
        return receipt

    def _flush(self) -> None:
        if self._connection is not None:
            self._send(self._outbox.take())
            if self._outbox.is_queued:
                # When the loop has turned, and not at once: the inbox is emptied before it turns, and until then these
                # frames are not written, and no confirm is read.
                self.call_later(0.0, m.Flush())
        self._watch_deadlines()  # also of what cannot be sent yet

    def _send(self, outgoing: Outgoing) -> None:
        if not outgoing.count or self._slot is None or self._write is None:
            return
        frames: list[bytes] = []
        for version, ids, wires in outgoing.parts:
            frames += publish_frames(self._slot.entity_id, version, ids, wires, self._frame_max)
        # The window has them, and `Down` is on its way: before that, the pool would give us the same connection again.
        with contextlib.suppress(ConnectionLost):
            self._write(frames)

    def _on_rejected(self, attachment: int, failures: Sequence[tuple[int, int]]) -> None:
        gone = [code for _, code in failures if code == ResponseCode.PUBLISHER_DOES_NOT_EXIST]
        self._outbox.reject([f for f in failures if f[1] != ResponseCode.PUBLISHER_DOES_NOT_EXIST])
        if gone and attachment == self._attachment:
            # The broker dropped us: what it says of these ids holds for all that is unconfirmed (F23), so none of it
            # gets an outcome of its own; the next incarnation replays the window.
            self._abandon(response_error(gone[0], f"stream {self._stream!r}"))

    def _abandon(self, reason: BaseException) -> None:
        """End this incarnation: the window stays for the next one."""
        if self._connection is not None and self._slot is not None and self._outbox.in_flight:
            tell(self._pool, m.LostCredit(self._slot.name, self._outbox.in_flight))
        self._detach()
        self.exit(reason)

    async def _look_elsewhere(self, members: m.Members) -> None:
        """Confirms stay away: leave the broker if most members of the stream say that it is not the leader."""
        with contextlib.suppress(ActorStreamError, pykka.ActorDeadError):  # it is asked again
            if await ask(self._locator, m.IsLedElsewhere(self._stream, members.leader, members)):
                self._abandon(StreamNotAvailable(f"{members.leader} does not lead stream {self._stream!r} any more"))

    def _detach(self) -> None:
        self._connection = self._write = None
        self._outbox.detach()

    # Another producer of the same name ------------------------------------------------------------------------------

    def _check_fence_if_confirmed(self) -> None:
        """Nothing that was dropped was not confirmed: without a confirm there is nothing to be lost."""
        if self._outbox.confirmed != self._confirmed_at_check:
            self._check_fence()
        self.call_later(FENCE_CHECK_S, _TimeToCheckFence())

    def _check_fence(self) -> LoopFuture[None]:
        """The broker refuses nobody for a name; what it holds under the name is all that gives a second owner away.

        Who gives ids means to have some dropped, and is checked with each connection only.
        """
        done: LoopFuture[None] = LoopFuture()
        if self._connection is None or not self._options.name or self._outbox.numbering.is_given:
            done.set(None)
            return done
        self._confirmed_at_check = self._outbox.confirmed

        def answered(future: LoopFuture[Any]) -> None:
            try:
                response = future.get(timeout=0)
                if response.code == ResponseCode.OK:
                    self._outbox.numbering.check_fence(response.sequence)
            except PublisherFenced as fenced:
                done.try_set_exception(fenced)
                self._abandon(fenced)
            except (ActorStreamError, pykka.ActorDeadError):  # the connection is ending, and the next one asks, too
                pass
            done.try_set(None)

        request = m.Request(c.QueryPublisherSequence(self._options.name, self._stream))
        ask(self._connection, request).add_done_callback(answered)
        return done

    # Deadlines ----------------------------------------------------------------------------------------------------

    def _watch_deadlines(self) -> None:
        """Have one timer while anything waits; it looks at the clock in grains, not at each message."""
        if self._deadline_timer:
            return
        deadline = self._outbox.next_deadline()
        if deadline != NEVER:
            self._deadline_timer = True
            delay = max(deadline - asyncio.get_running_loop().time(), DEADLINE_GRAIN_S)
            self.call_later(delay, m.CheckDeadlines())

    def _check_deadlines(self) -> None:
        self._deadline_timer = False
        sent_and_silent = self._outbox.expire(asyncio.get_running_loop().time())
        if sent_and_silent and self._connection is not None and self._slot is not None:
            # The socket lives, and yet a confirm is overdue: an alarm, a stuck member, or credit that the broker
            # lost with an old leader (W5). A fresh connection cures the last of these (F38).
            tell(self._pool, m.Retire(self._slot.name))
            self._abandon(StreamNotAvailable(f"no confirm from {self._slot.endpoint} by the deadline"))
            return
        self._watch_deadlines()
