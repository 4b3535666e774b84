"""A supervisor's view of one child: its spec, its place, and what must outlive its incarnations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from actorstream.actors.belongings import Timer
from actorstream.actors.future import LoopFuture
from actorstream.actors.place import Place
from actorstream.actors.reasons import cause_of
from actorstream.actors.restart import ChildSpec, IntensityWindow
from actorstream.actors.runtime import StreamActor
from actorstream.backoff import Backoff, BackoffPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One actor in a snapshot of the tree.

    Attributes:
        name: among its siblings.
        kind: the class of the actor.
        state: "starting", "running", "waiting" (until the next try), "stopping" or "stopped".
        generation: which incarnation it is, from 1; 0: there was none yet.
        restarts: how many incarnations there were before this one.
        last_reason: why the one before ended; "" if there was none, or if it ended normally.
        age_s: seconds since this incarnation began, or, when there is none, since the last one ended.
        next_retry_s: seconds until the next try; None when it does not wait for one.
        details: what the actor says of itself.
        children: those below it, in the order in which they were started.
    """

    name: str
    kind: str
    state: str
    generation: int
    restarts: int
    last_reason: str
    age_s: float
    next_retry_s: float | None = None
    details: dict[str, object] = field(default_factory=dict)
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """Told by a child to its supervisor: its incarnation ended."""

    child: Child
    reason: BaseException | None


@dataclass(frozen=True, slots=True)
class StartNow:
    """Told by a supervisor to itself: a child's pause is over."""

    child: Child


class Parent(Protocol):
    """The supervisor, as its children see it."""

    def tell_self(self, message: object) -> None:
        """Take a message of a child, in turn."""

    def child_started(self, child: Child) -> None:
        """An incarnation is running."""


class Child:
    """See the module. Its end is told to the supervisor as a message, so that it is judged between two others.

    Attributes:
        dynamic: whether it was added by `StartChild`, and does not come back with the supervisor's next incarnation.
        stopping: whether its current incarnation was told to stop; its end is no failure then.
        removal: set when it shall be removed as soon as it is down; holds the reason.
        retry_at: when it is started again (the clock's seconds); None when it does not wait for that.
    """

    __slots__ = (
        "_down",
        "_end_is_told",
        "_parent",
        "_removed",
        "_timer",
        "backoff",
        "dynamic",
        "place",
        "removal",
        "retry_at",
        "spec",
        "stopping",
        "window",
    )

    def __init__(
        self,
        spec: ChildSpec,
        place: Place,
        *,
        dynamic: bool,
        policy: BackoffPolicy,
        rng: random.Random,
        parent: Parent,
    ) -> None:
        self.spec = spec
        self.place = place
        self.dynamic = dynamic
        self.backoff = Backoff(spec.backoff or policy, rng)
        self.window = None if spec.intensity is None else IntensityWindow(spec.intensity)
        self.stopping = False
        self.removal: tuple[BaseException | None] | None = None
        self.retry_at: float | None = None
        self._timer: Timer | None = None
        self._end_is_told = False
        self._down: asyncio.Future[None] | None = None
        self._removed: LoopFuture[bool] | None = None
        self._parent = parent
        place.shutdown_s = spec.shutdown_s
        place.on_gone = spec.on_gone
        place.keeper = self

    @property
    def removed(self) -> LoopFuture[bool]:
        """Settled when it is gone for good."""
        if self._removed is None:
            self._removed = LoopFuture()
        return self._removed

    @property
    def is_down(self) -> bool:
        """Whether there is no incarnation, and the end of the last one has been judged."""
        return not self.place.alive and not self._end_is_told

    def start(self) -> None:
        """Begin the next incarnation. One that cannot even be made has ended, like one that fails later."""
        self._cancel_timer()
        self.stopping = False
        try:
            self.place.house(self.spec.factory)
        except Exception as error:  # noqa: BLE001 - judged like any other reason
            self.place.reason = error
            self.ended(error)
        else:
            self.place.begin()

    def start_at(self, due: float, timer: Timer) -> None:
        """It will be started at `due`; the timer is cancelled when that changes."""
        self._cancel_timer()
        self.retry_at = due
        self._timer = timer

    def stop(self) -> None:
        """Have the incarnation end, behind what it was told before and within its bound; or keep it from beginning."""
        self._cancel_timer()
        if not self.stopping:
            self.stopping = True
            if self.place.alive:
                self.place.request_stop()

    def kill(self) -> None:
        """Have it end at once."""
        self.stop()
        self.place.kill()

    def judged(self) -> None:
        """The supervisor has handled `ChildEnded`."""
        self._end_is_told = False

    async def down(self) -> None:
        """Wait until there is no incarnation."""
        while self.place.alive:
            self._down = asyncio.get_running_loop().create_future()
            await self._down

    def close(self, reason: BaseException | None) -> None:
        """Gone for good."""
        self._cancel_timer()
        self.place.keeper = None
        self.place.close(reason)
        self.removed.try_set(True)

    def running(self) -> None:
        """See `place.Keeper`."""
        self._parent.child_started(self)

    def ended(self, reason: BaseException | None) -> None:
        """See `place.Keeper`."""
        self._end_is_told = True
        self._parent.tell_self(ChildEnded(self, reason))
        if self._down is not None and not self._down.done():
            self._down.set_result(None)

    def _cancel_timer(self) -> None:
        self.retry_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def node(self, now: float, below: Callable[[StreamActor], tuple[Node, ...]]) -> Node:
        """What a snapshot shows of it."""
        return node_of(self.place, now, below, self.retry_at)


def node_of(
    place: Place, now: float, below: Callable[[StreamActor], tuple[Node, ...]], retry_at: float | None = None
) -> Node:
    """What a snapshot shows of a place. It reads, and asks nobody, so that a stuck actor cannot hold it up."""
    actor = place.actor if isinstance(place.actor, StreamActor) else None
    state = place.state if place.alive else "waiting" if retry_at is not None else "stopped"
    details: dict[str, object] = {}
    if actor is not None and place.alive:
        try:
            details = actor.describe()
        except Exception as error:  # noqa: BLE001 - one actor's bug must not hide all others
            details = {"describe": repr(error)}
    reason = cause_of(place.reason)
    return Node(
        name=place.name,
        kind="" if actor is None else type(actor).__name__,
        state=state,
        generation=place.generation,
        restarts=max(place.generation - 1, 0),
        last_reason="" if reason is None else str(reason) or type(reason).__name__,
        age_s=now - place.since,
        next_retry_s=None if retry_at is None else max(retry_at - now, 0.0),
        details=details,
        children=() if actor is None or not place.alive else below(actor),
    )
