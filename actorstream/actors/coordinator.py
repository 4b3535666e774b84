"""What a single active consumer does when the broker makes it active, or not any more (protocol section 4.4).

One coordinator for each consumer that a user has: of one stream, or of all partitions of a super stream. A subscriber
hears from the broker, stops dispatch at once where that is what the broker says, and tells the coordinator, which does
what takes time and has the broker answered.

 - Activation: waits until nothing of an earlier activation is in hand, then finds where to begin: after the last offset
   that is stored, or that this consumer completed itself, whichever is further; else where the user said; never at an
   invented "next" (F70). Both say of everything before them that the group has processed it, so the further one skips
   nothing; and what another member did meanwhile is in what it stored.
 - Step-down: what is in hand is finished, its offset stored and verified, and only then is the broker answered, which
   lets the next one begin (F66). When that takes longer than the budget, the broker is answered nonetheless, since it
   would otherwise drop the connection; what completes after that is neither counted nor stored.

Work of an epoch that is over is cancelled (F75).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pykka

from actorstream import events, offset
from actorstream.actors import messages as m
from actorstream.actors.calls import tell
from actorstream.actors.membership import Membership, Role, answer
from actorstream.actors.runtime import Retry, StreamActor, ask
from actorstream.actors.tracker import TrackerState
from actorstream.errors import ActivationFailed, ActorStreamError, OffsetStoreFailed, RequestTimeout
from actorstream.offset import OffsetSpecification


@dataclass(frozen=True, slots=True)
class Activation:
    """What an `on_activation` callback is told: this consumer is about to be the active one of its group.

    Attributes:
        stream: the stream, or partition.
        group: the name of the consumers that share it.
        stored: the offset that is stored under that name; None when there is none.
        completed: the last offset that this consumer completed itself; None when there is none.
        offset: where it begins when the callback returns None.
    """

    stream: str
    group: str
    stored: int | None
    completed: int | None
    offset: OffsetSpecification


Decide = Callable[[Activation], Awaitable[OffsetSpecification | None]]
"""Asks the user where to begin; None for where it would begin anyway. Wherever it is called, it runs on their loop."""


@dataclass(slots=True)
class Member:
    """One consumer of a group, as its coordinator knows it.

    Attributes:
        restarts: of the cursor, as of the last activation.
        seen: what was stored at the last activation.
        void: what was stored when the stream turned out to be another one.
    """

    membership: Membership
    tracked: TrackerState
    tracker: m.Ref
    subscriber: m.Ref | None = None
    restarts: int = 0
    seen: int | None = None
    void: int | None = None

    def stored(self) -> int | None:
        """What is stored, unless that led beyond the end: a store of the user's outlives a stream that is made anew."""
        cursor, stored = self.tracked.cursor, self.tracked.stored
        if self.restarts != cursor.restarts:
            self.restarts, self.void = cursor.restarts, self.seen
        self.seen = stored.value
        if self.seen is not None and self.seen == self.void:
            stored.forget()  # what is stored next need not be above it
            return None
        return self.seen


@dataclass(frozen=True, slots=True)
class Join:
    """Ask: know a member, which is going to subscribe. It takes the place of one whose partition was deleted."""

    member: Member


@dataclass(slots=True)
class Coordination:
    """What outlives a coordinator's incarnations.

    `budget_s`: how long a step-down may take; and so long each of the two parts of an activation, which are to wait for
    what is in hand, and to find where to begin.
    """

    group: str
    budget_s: float
    decide: Decide | None = None
    members: dict[str, Member] = field(default_factory=dict)


def starting_offset(stored: int | None, completed: int | None) -> OffsetSpecification | None:
    """Where an activated consumer begins; None when nobody is known to have processed anything."""
    known = [one for one in (stored, completed) if one is not None]
    return offset.at(max(known) + 1) if known else None


class SacCoordinator(StreamActor):
    """The actor; see the module."""

    def __init__(self, *, state: Coordination, emit: Callable[[events.Event], None]) -> None:
        super().__init__()
        self._state = state
        self._emit = emit
        self._working: dict[str, asyncio.Task[None]] = {}

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {
            "group": self._state.group,
            **{stream: member.membership.role.value for stream, member in self._state.members.items()},
        }

    def on_start(self) -> None:
        """Take up what an earlier incarnation left undone: the broker waits for an answer."""
        for member in self._state.members.values():
            self._work(member)

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To a SacCoordinator"."""
        match message:
            case m.RoleChanged(subscriber=subscriber, stream=stream, epoch=epoch):
                known = self._state.members.get(stream)
                if known is not None and known.membership.epoch == epoch:
                    known.subscriber = subscriber
                    self._work(known)
            case m.MembershipLost(stream=stream, was_active=was_active, reason=reason):
                self._cancel(stream)
                if was_active:
                    self._tell_deactivated(stream, str(reason) if reason is not None else "closed")
            case Join(member=member):
                self._state.members[member.membership.stream] = member
            case _:
                return super().on_receive(message)
        return None

    def _work(self, member: Member) -> None:
        """Do what the role asks for, instead of what an earlier one asked for."""
        membership = member.membership
        self._cancel(membership.stream)
        if membership.role is Role.ACTIVATING:
            self._begin(membership.stream, self._activate(member, membership.epoch))
        elif membership.role is Role.STEPPING_DOWN:
            self._begin(membership.stream, self._step_down(member, membership.epoch))

    def _begin(self, stream: str, work: Coroutine[Any, Any, None]) -> None:
        self._working[stream] = self.spawn(work)

    def _cancel(self, stream: str) -> None:
        task = self._working.pop(stream, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    # Activation ---------------------------------------------------------------------------------------------------

    async def _activate(self, member: Member, epoch: int) -> None:
        await self._finished(member, self._state.budget_s)
        try:
            start = await self._start(member)
            begun: OffsetSpecification | None = await ask(_ref(member), m.BeginActive(epoch, start))
        except ActorStreamError as error:
            # A store of the user's that is away comes back, like a broker; until then others are active.
            passing = isinstance(error, OffsetStoreFailed)
            tell(member.subscriber, m.LeaveGroup(epoch, Retry(error) if passing else error))
        except pykka.ActorDeadError as error:  # one of the two is between two lives
            tell(member.subscriber, m.LeaveGroup(epoch, Retry(error)))
        else:
            if begun is not None:
                stream, group = member.membership.stream, self._state.group
                self._emit(events.SacActivated(path=self.path, stream=stream, group=group, offset=str(begun)))

    async def _start(self, member: Member) -> OffsetSpecification | None:
        """Where to begin.

        Raises:
            RequestTimeout: the offset could not be found in time; nothing is assumed in its place (F53).
            ActivationFailed: the user's callback raised.
        """
        stream, budget_s = member.membership.stream, self._state.budget_s
        decide = self._state.decide
        stored_is_known = False
        try:
            async with asyncio.timeout(budget_s) as budget:
                await ask(member.tracker, m.StartingOffset())
                stored_is_known = True
                stored, completed = member.stored(), member.tracked.cursor.completed
                start = starting_offset(stored, completed)
                if decide is None:
                    return start
                begin = start or member.tracked.cursor.origin
                chosen = await _decision(decide, Activation(stream, self._state.group, stored, completed, begin))
                return start if chosen is None else chosen
        except TimeoutError as error:
            assert budget.expired(), "what else is raised in there is an error of ours"
            if stored_is_known:
                raise ActivationFailed(stream, f"it did not return within {budget_s:g} s") from error
            raise RequestTimeout(f"the stored offset of {self._state.group!r} on {stream!r}", budget_s) from None

    # Step-down ----------------------------------------------------------------------------------------------------

    async def _step_down(self, member: Member, epoch: int) -> None:
        membership = member.membership
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._state.budget_s
        reason = ""
        if not await self._finished(member, self._state.budget_s):
            reason = f"what is in hand was not finished within {self._state.budget_s:g} s"
        elif (failure := await self._flushed(member, deadline - loop.time())) is not None:
            reason = f"the offset could not be stored: {failure}"
        if membership.epoch != epoch:  # lost meanwhile: the broker has given the role to another one, unasked
            return
        member.tracked.cursor.fence()
        for update in membership.stepped_down(epoch):
            answer(update)
        self._tell_deactivated(membership.stream, reason)
        following = membership.take_next()
        if following is not None:
            membership.updated(following)
            self._work(member)

    async def _flushed(self, member: Member, budget_s: float) -> BaseException | None:
        """Store what is completed; None when it is stored, else why not."""
        try:
            async with asyncio.timeout(budget_s):
                await ask(member.tracker, m.FlushOffsets(budget_s))
        except (TimeoutError, ActorStreamError, pykka.ActorDeadError) as error:
            return error
        return None

    async def _finished(self, member: Member, budget_s: float) -> bool:
        """Wait until nothing is in hand; whether that was so in time."""
        try:
            async with asyncio.timeout(budget_s):
                await member.membership.gate.empty()
        except TimeoutError:
            return False
        return True

    def _tell_deactivated(self, stream: str, reason: str) -> None:
        self._emit(
            events.SacDeactivated(
                path=self.path, stream=stream, group=self._state.group, clean=not reason, reason=reason
            )
        )


async def _decision(decide: Decide, activation: Activation) -> OffsetSpecification | None:
    """What the user's callback says.

    Raises:
        ActivationFailed: it raised. Retryable errors of ours pass as they are: the broker that it asked is away.
    """
    try:
        return await decide(activation)
    except Exception as error:
        if isinstance(error, ActorStreamError) and error.retryable:
            raise
        raise ActivationFailed(activation.stream, repr(error)) from error


def _ref(member: Member) -> m.Ref:
    assert member.subscriber is not None, "a member is known before it subscribes"
    return member.subscriber
