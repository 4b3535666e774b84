"""A subscriber in a group of single active consumers: the broker sends to it only while it is the active one.

What the broker says of that arrives here, with the chunks and in their order. Dispatch stops here, at once; what takes
time is the coordinator's, which also says where an activated consumer begins.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.calls import tell
from actorstream.actors.future import LoopFuture
from actorstream.actors.membership import Membership, answer
from actorstream.actors.subscriber import Subscriber
from actorstream.actors.subscriber_state import SubscriberState
from actorstream.offset import OffsetSpecification
from actorstream.options import ConsumerOptions


class SacSubscriber(Subscriber):
    """The actor; see the module."""

    def __init__(
        self,
        *,
        stream: str,
        options: ConsumerOptions,
        state: SubscriberState,
        membership: Membership,
        coordinator: m.Ref,
        locator: m.Ref,
        pool: m.Ref,
        emit: Callable[[events.Event], None],
    ) -> None:
        super().__init__(stream=stream, options=options, state=state, locator=locator, pool=pool, emit=emit)
        self._membership = membership
        self._coordinator = coordinator

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return super().describe() | {"role": self._membership.role.value}

    def _begin_attachment(self) -> None:
        super()._begin_attachment()
        self._membership.attached(self._attachment)

    async def _first_specification(self, slot: m.Slot) -> OffsetSpecification:
        """Only what "next" and "last" mean now: the place is decided when it is active, and compared then.

        Until then, retention may pass by where this one stopped, without anything being lost: others read on.
        """
        cursor = self._state.cursor
        if not cursor.pinned and (extent := await self._extent(slot)) is not None:
            self._pin(extent)
        return cursor.origin

    def _properties(self) -> dict[str, str]:
        # Strings all of them: a broker takes anything else for no single active consumer, and delivers to all (F74).
        group = {"single-active-consumer": "true", "name": self._membership.group}
        if self._membership.super_stream:
            group["super-stream"] = self._membership.super_stream
        return super()._properties() | group

    # Leaving ------------------------------------------------------------------------------------------------------

    def exit(self, reason: BaseException | None = None) -> None:
        """As everywhere. The consumer is inactive from here on, whatever takes its time to end (F69)."""
        self._leave_group(reason)
        super().exit(reason)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,  # noqa: ARG002 - Pykka's signature
        exception_value: BaseException | None,
        traceback: TracebackType | None,  # noqa: ARG002
    ) -> None:
        """What it raised is why it leaves its group."""
        self._leave_group(exception_value)

    def on_stop(self) -> None:
        """As every subscriber; its group hears of it."""
        self._leave_group(None)
        super().on_stop()

    def _leave_group(self, reason: BaseException | None) -> None:
        if self._membership.attachment != -1:
            was_active = self._membership.lost()
            tell(self._coordinator, m.MembershipLost(self._stream, was_active, reason))

    # Messages -----------------------------------------------------------------------------------------------------

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, sections "To a Subscriber" and "To a SacSubscriber"."""
        match message:
            case m.ConsumerUpdated():
                self._on_update(message)
            case m.BeginActive(epoch=epoch, start=start):
                begun: LoopFuture[OffsetSpecification | None] = LoopFuture()
                self.spawn(self._begin_active(epoch, start, begun))
                return begun
            case m.LeaveGroup(epoch=epoch, reason=reason):
                if self._membership.epoch == epoch:
                    self.exit(reason)
            case _:
                return super().on_receive(message)
        return None

    def _on_update(self, update: m.ConsumerUpdated) -> None:
        work = self._membership.updated(update)
        for void in work.void:
            answer(void)
        if work.again is not None:
            answer(work.again, self._state.cursor.resume())
        if work.epoch is not None:
            self._ledger.pause()
            self._ledger.give_back(self._drop_queued())
            tell(self._coordinator, m.RoleChanged(self.actor_ref, self._stream, work.epoch))

    async def _begin_active(
        self, epoch: int, start: OffsetSpecification | None, begun: LoopFuture[OffsetSpecification | None]
    ) -> None:
        """Set the cursor, compare it with the stream as at every subscription, and have the broker begin there."""
        if self._slot is None or self._membership.epoch != epoch:
            begun.set(None)
            return
        self._state.cursor.activate(start)
        specification = await self._specification(self._slot)
        updates = self._membership.begun(epoch, self._state.cursor.progress)
        for update in updates:
            answer(update, specification)
        if updates:
            self._resume_granting()
        begun.set(specification if updates else None)

    @property
    def _delivered(self) -> Callable[[m.Delivered | m.ChunkBroken], object]:
        """By message: in their order among what the broker says of our role."""
        return self.tell_self

    def _grant(self, count: int) -> None:
        """By message: never ahead of an answer that the broker waits for."""
        self._tell_to_grant(count)

    def _on_delivered(self, message: m.Delivered) -> None:
        if message.attachment != self._attachment or self._membership.gate.is_open:
            super()._on_delivered(message)
            return
        # It was on its way when the broker let go of us: whoever is active next reads it. Its credit counts.
        self._ledger.deliver()
        self._give_back(1)

    @property
    def _may_grant(self) -> bool:
        """Not while another one is active: brokers before 3.12 lose what they are granted then (W9)."""
        return super()._may_grant and self._membership.gate.is_open
