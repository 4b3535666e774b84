"""A consumer's place in a group of single active consumers (protocol section 4.4): what it is, and what to do about it.

Plain, and outlives the incarnations of the subscriber and of the coordinator, which are its two users, on one loop.

    AWAY ──attached──> INACTIVE ──update(1)──> ACTIVATING ──begun──> ACTIVE
      ^                   ^  ^                     │                   │
      └──lost, at any time┘  └──────update(0)──────┘   update(0)       v
                             └─────────────answered────────── STEPPING_DOWN

Whatever ends what went before begins a new *epoch*: work that was begun in an older one is void (F75).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from actorstream.actors.calls import tell
from actorstream.actors.gate import Gate
from actorstream.actors.messages import AnswerConsumerUpdate, ConsumerUpdated
from actorstream.actors.progress import Progress
from actorstream.offset import OffsetSpecification, OffsetType

NO_MATTER = OffsetSpecification(OffsetType.NONE)
"""Answers an update whose offset nobody will read from."""


class Role(enum.Enum):
    """What a member is at this moment."""

    AWAY = "away"
    """Not subscribed."""
    INACTIVE = "inactive"
    """Subscribed; the broker sends nothing."""
    ACTIVATING = "activating"
    """The broker waits to hear where to start."""
    ACTIVE = "active"
    STEPPING_DOWN = "stepping down"
    """Nothing is dispatched any more; the broker waits until what is in hand is finished and stored."""


@dataclass(frozen=True, slots=True)
class Work:
    """What has to be done about an update.

    Attributes:
        epoch: of the activation or the step-down that has to be carried out; None for neither.
        void: updates that are to be answered at once, and whose offset nobody will read from.
        again: a repeated activation of who is active: to be answered at once with where the reading goes on.
    """

    epoch: int | None = None
    void: tuple[ConsumerUpdated, ...] = ()
    again: ConsumerUpdated | None = None


@dataclass(slots=True)
class Membership:
    """One consumer in the group of one stream; see the module.

    Attributes:
        stream, group: of whom: the group is the consumers of a stream that have one name.
        super_stream: which the stream is a partition of, as far as the group is concerned; "" for none.
        gate: whether messages may be handed out.
        epoch: counts what began anew.
        attachment: of the subscription; -1 for none.
        unanswered: the updates that this epoch will answer, oldest first.
        next: an activation that waits for the step-down before it.
    """

    stream: str
    group: str
    super_stream: str = ""
    gate: Gate = field(default_factory=Gate)
    role: Role = Role.AWAY
    epoch: int = 0
    attachment: int = -1
    unanswered: list[ConsumerUpdated] = field(default_factory=list)
    next: ConsumerUpdated | None = None

    @property
    def may_store(self) -> bool:
        """Whether the offset that is stored for the group is ours to write: from the activation to the answer (F52)."""
        return self.role in (Role.ACTIVE, Role.STEPPING_DOWN)

    def attached(self, attachment: int) -> None:
        """It is about to subscribe. An update may come before the answer to that (F62)."""
        self._begin(Role.INACTIVE)
        self.attachment = attachment

    def lost(self) -> bool:
        """The subscription is gone, in whatever way: inactive at once (F69); whether it was active.

        Whoever loses it answers nothing: that is the connection's business, which may be gone as well.
        """
        was_active = self.may_store
        if self.role is not Role.AWAY:
            self._begin(Role.AWAY)
        self.attachment = -1
        return was_active

    def updated(self, update: ConsumerUpdated) -> Work:
        """The broker says what it is from now on. Dispatch stops before this returns, if that is what it says (F67)."""
        if update.attachment != self.attachment:
            return Work(void=(update,))
        return self._activate(update) if update.active else self._step_down(update)

    def _activate(self, update: ConsumerUpdated) -> Work:
        if self.role is Role.STEPPING_DOWN:
            # The broker waits for that answer first; then this is the next thing to do.
            void = self._drop_next()
            self.next = update
            return Work(void=void)
        if self.role is Role.ACTIVE:
            return Work(again=update)
        if self.role is Role.ACTIVATING:
            self.unanswered.append(update)
            return Work()
        self._begin(Role.ACTIVATING)
        self.unanswered.append(update)
        return Work(self.epoch)

    def _step_down(self, update: ConsumerUpdated) -> Work:
        if self.role is Role.STEPPING_DOWN:
            void = self._drop_next()
            self.unanswered.append(update)
            return Work(void=void)
        if self.role is Role.ACTIVE:
            self._begin(Role.STEPPING_DOWN)
            self.unanswered.append(update)
            return Work(self.epoch)
        return Work(void=(*self._begin(Role.INACTIVE), update))

    def begun(self, epoch: int, progress: Progress) -> Sequence[ConsumerUpdated]:
        """The activation of this epoch is done, what comes now advances this progress, and these are to be answered."""
        if epoch != self.epoch or self.role is not Role.ACTIVATING:
            return ()
        self.role = Role.ACTIVE
        self.gate.admit(progress)
        answered, self.unanswered = self.unanswered, []
        return answered

    def stepped_down(self, epoch: int) -> Sequence[ConsumerUpdated]:
        """The step-down of this epoch is done: these are to be answered, and then `next` is what to do next."""
        if epoch != self.epoch or self.role is not Role.STEPPING_DOWN:
            return ()
        answered, self.unanswered = self.unanswered, []
        self.role = Role.INACTIVE
        return answered

    def take_next(self) -> ConsumerUpdated | None:
        """The activation that waited for a step-down, once."""
        update, self.next = self.next, None
        return update

    def _drop_next(self) -> tuple[ConsumerUpdated, ...]:
        update = self.take_next()
        return () if update is None else (update,)

    def _begin(self, role: Role) -> tuple[ConsumerUpdated, ...]:
        self.gate.shut()
        self.role = role
        self.epoch += 1
        void = (*self.unanswered, *self._drop_next())
        self.unanswered = []
        return void


def answer(update: ConsumerUpdated, begin: OffsetSpecification = NO_MATTER) -> None:
    """Have the broker answered; where the connection is gone, nobody waits."""
    tell(update.connection, AnswerConsumerUpdate(update.attachment, update.correlation_id, begin))
