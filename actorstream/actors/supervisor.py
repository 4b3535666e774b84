"""A supervisor, as in OTP: starts children, starts them again when they fail, and gives up when that does not help.

It knows nothing of what its children do. Two ways of failing are kept apart (F83):

 - weather (a broker is away, a leader moves): started again after a pause that grows, as long as it takes;
 - a crash (a bug): started again at once, and counted. Too many in too short a time remove the child, if it has an
   intensity of its own, or else end the supervisor with `RestartIntensityExceeded`, which its own supervisor counts as
   one crash. At the root that is the end, and `on_gone` tells.

Where a strategy restarts several children together, one restart is under way at a time: it stops them in reverse
order, waits out the pause, and starts them in order. What fails meanwhile is part of it and counts nothing.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pykka

from actorstream.actors.child import Child, ChildEnded, Node, StartNow, node_of
from actorstream.actors.future import LoopFuture
from actorstream.actors.home import Home
from actorstream.actors.reasons import Verdict, cause_of
from actorstream.actors.restart import (
    ChildSpec,
    IntensityWindow,
    RestartIntensity,
    RestartPolicy,
    Strategy,
    is_restarted,
)
from actorstream.actors.runtime import StreamActor, start_in
from actorstream.backoff import BackoffPolicy
from actorstream.errors import InvalidArgument, RestartIntensityExceeded
from actorstream.events import ActorGaveUp, ActorRestarting, ActorStarted, ActorStopped, Event

__all__ = [
    "ChildSpec",
    "Node",
    "RestartIntensity",
    "RestartPolicy",
    "RetryNow",
    "Snapshot",
    "StartChild",
    "StopChild",
    "Strategy",
    "Supervisor",
    "start_root",
]

logger = logging.getLogger("actorstream.actors")

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class StartChild:
    """Ask: add a child. -> its ref, at once: `on_start` is still to come. Raises InvalidArgument: the name is taken."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class StopChild:
    """Ask: stop a child and remove it. -> True when it is gone, False if there is none of that name.

    It takes its turn behind what the child was told before; the child's `shutdown_s` is the bound. `on_gone` and asks
    that still wait get the reason.
    """

    name: str
    reason: BaseException | None = None


@dataclass(frozen=True, slots=True)
class RetryNow:
    """Ask: cut a child's pause short. -> whether it was waiting."""

    name: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Ask: the tree from here down. -> `Node`."""


@dataclass(frozen=True, slots=True)
class _Continue:
    """To itself: the pause of the group restart is over."""


@dataclass(slots=True, eq=False)
class _GroupRestart:
    """The one restart of several children that is under way."""

    members: set[Child]
    reason: BaseException | None
    due: float


class Supervisor(StreamActor):
    """The actor; see the module.

    Children given to the constructor come back with each incarnation of the supervisor, at the same places: refs to
    them stay valid. Those added by `StartChild` do not; their `on_gone` is told why it ended.

    Args:
        children: to start with, in this order.
        strategy: who is restarted together.
        intensity: for children without one of their own.
        backoff: for children without one of their own.
        on_event: told what happens, on the loop. What it raises is logged.
        rng: for the pauses.
        together: stop all children at the same time when this supervisor stops, instead of one after the other in
            reverse order. For children that do not need each other, and may be many.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: RestartIntensity | None = None,
        backoff: BackoffPolicy | None = None,
        on_event: OnEvent | None = None,
        rng: random.Random | None = None,
        together: bool = False,
    ) -> None:
        super().__init__()
        self._specs = tuple(children)
        self._strategy = strategy
        self._window = IntensityWindow(intensity or RestartIntensity())
        self._policy = backoff or BackoffPolicy()
        self._on_event = on_event
        self._rng = rng or random.Random()
        self._together = together
        self._children: dict[str, Child] = {}
        self._group: _GroupRestart | None = None

    # Life

    def on_start(self) -> None:
        """Start the children in order. None is waited for: a slow one delays only who needs it."""
        for spec in self._specs:
            self._add(spec, dynamic=False)

    async def on_stop(self) -> None:  # type: ignore[override]
        """Stop the children in reverse order, each within its own bound; cut short, all that are left at once."""
        try:
            if self._together:
                for child in self._children.values():
                    child.stop()
            for child in reversed(self._children.values()):
                child.stop()
                await child.down()
        finally:
            reason = self._life.reason
            for child in self._children.values():
                child.kill()
                # Places of children that come back stay open, until this supervisor's own place closes.
                if child.dynamic or child.removal is not None:
                    child.close(child.removal[0] if child.removal else reason)

    def on_receive(self, message: object) -> object:
        """Handle one message; never waits for anything."""
        match message:
            case ChildEnded(child=child, reason=reason):
                child.judged()
                self._on_end(child, reason)
                self._continue_group()
            case StartNow(child=child):
                if child.retry_at is not None:  # not stopped or started meanwhile
                    child.start()
            case _Continue():
                self._continue_group()
            case StartChild(spec=spec):
                return self._add(spec, dynamic=True).place.ref
            case StopChild(name=name, reason=reason):
                return self._stop_child(name, reason)
            case RetryNow(name=name):
                return self._retry_now(name)
            case Snapshot():
                return node_of(self._place, self.home.clock.time(), _below)
            case _:
                return super().on_receive(message)
        return None

    # Adding and removing

    def _add(self, spec: ChildSpec, *, dynamic: bool) -> Child:
        if spec.name in self._children:
            raise InvalidArgument(f"{self.path} has a child {spec.name!r} already")
        place = self._place.child(spec.name, self.home, StreamActor)
        child = self._children[spec.name] = Child(
            spec,
            place,
            dynamic=dynamic,
            policy=self._policy,
            rng=self._rng,
            parent=self,
        )
        child.start()
        return child

    def _stop_child(self, name: str, reason: BaseException | None) -> bool | LoopFuture[bool]:
        child = self._children.get(name)
        if child is None:
            return False
        if child.removal is None:
            child.removal = (reason,)
        child.stop()
        if child.is_down:
            self._remove(child, reason, failed=False)
            self._continue_group()
        return child.removed

    def _remove(self, child: Child, reason: BaseException | None, *, failed: bool) -> None:
        del self._children[child.spec.name]
        if self._group is not None:
            self._group.members.discard(child)
        cause = cause_of(reason)
        event = ActorGaveUp if failed else ActorStopped
        self._emit(event(path=child.place.path, reason=cause))
        child.close(reason)

    # Restarting

    def child_started(self, child: Child) -> None:
        """An incarnation of a child is running."""
        child.backoff.succeeded(self.home.clock.time())
        self._emit(ActorStarted(path=child.place.path, generation=child.place.generation))

    def _on_end(self, child: Child, reason: BaseException | None) -> None:
        """A child's incarnation ended: by itself, or because it was told to."""
        group = self._group
        if child.removal is not None:
            self._remove(child, child.removal[0], failed=False)
            return
        if child.stopping:
            assert group is not None, "only a group's restart stops a child that it does not remove"
            if child.spec.restart is RestartPolicy.TEMPORARY:
                self._remove(child, group.reason, failed=False)
            return
        verdict = child.spec.classify(reason)
        child.backoff.failed(self.home.clock.time())
        if not is_restarted(child.spec.restart, verdict):
            # The end of a child that was never to be started again is no surrender, unless it was a bug.
            temporary = child.spec.restart is RestartPolicy.TEMPORARY
            failed = verdict is Verdict.CRASH if temporary else verdict is not Verdict.NORMAL
            self._remove(child, reason, failed=failed)
        elif group is None or child not in group.members:
            self._restart(child, reason, verdict)

    def _restart(self, child: Child, reason: BaseException | None, verdict: Verdict) -> None:
        if verdict is Verdict.AGAIN:
            child.start()
            return
        now = self.home.clock.time()
        if verdict is Verdict.WEATHER:
            delay = child.backoff.next_delay()
            attempt = child.backoff.attempts
        else:
            window = child.window or self._window
            if verdict is Verdict.CRASH:
                logger.error("%s crashed", child.place.path, exc_info=reason)
            if window.failed(now):
                self._give_up(child, reason, window)
                return
            delay, attempt = 0.0, window.count
        self._emit(ActorRestarting(path=child.place.path, reason=cause_of(reason), attempt=attempt, delay_s=delay))
        if self._strategy is not Strategy.ONE_FOR_ONE:
            self._restart_group(child, reason, now + delay)
        elif delay > 0:
            child.start_at(now + delay, self.call_later(delay, StartNow(child)))
        else:
            child.start()

    def _give_up(self, child: Child, reason: BaseException | None, window: IntensityWindow) -> None:
        error = RestartIntensityExceeded(child.place.path, window.count, window.intensity.within_s)
        error.__cause__ = cause_of(reason)
        if child.window is not None:
            self._remove(child, error, failed=True)
        else:
            self._emit(ActorGaveUp(path=self.path, reason=error))
            self.exit(error)

    def _restart_group(self, child: Child, reason: BaseException | None, due: float) -> None:
        members = list(self._children.values())
        if self._strategy is Strategy.REST_FOR_ONE:
            members = members[members.index(child) :]
        if self._group is None:
            self._group = _GroupRestart(set(members), reason, due)
        else:  # of rest_for_one: a child further up failed while those below it were being restarted
            self._group.members.update(members)
            self._group.due = max(self._group.due, due)

    def _continue_group(self) -> None:
        """Do what can be done now for the group's restart; whatever ends or falls due brings us back here."""
        group = self._group
        if group is None:
            return
        for child in reversed(self._children.values()):
            if child in group.members and not child.is_down:
                child.stop()
                return
        remaining = group.due - self.home.clock.time()
        members = [child for child in self._children.values() if child in group.members]
        if remaining > 0 and members:
            timer = self.call_later(remaining, _Continue())
            for child in members:
                child.start_at(group.due, timer)
            return
        self._group = None
        for child in members:
            child.start()

    def _retry_now(self, name: str) -> bool:
        child = self._children.get(name)
        if child is None or child.retry_at is None:
            return False
        if self._group is not None and child in self._group.members:
            self._group.due = self.home.clock.time()
            self._continue_group()
        else:
            child.start()
        return True

    # Seeing

    def nodes(self) -> tuple[Node, ...]:
        """The children in a snapshot."""
        now = self.home.clock.time()
        return tuple(child.node(now, _below) for child in self._children.values())

    def _emit(self, event: Event) -> None:
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                logger.exception("on_event of %s failed", self.path)


def _below(actor: StreamActor) -> tuple[Node, ...]:
    return actor.nodes() if isinstance(actor, Supervisor) else ()


def start_root(
    home: Home,
    name: str = "root",
    children: Sequence[ChildSpec] = (),
    *,
    on_gone: Callable[[BaseException | None], None] | None = None,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: RestartIntensity | None = None,
    backoff: BackoffPolicy | None = None,
    on_event: OnEvent | None = None,
    rng: random.Random | None = None,
) -> pykka.ActorRef[Supervisor]:
    """Start a supervisor that has none above it, from any thread; the options are those of `Supervisor`.

    `on_gone` is called on the home's loop when all of it has ended: with None after a stop, else with why.
    """

    def factory() -> Supervisor:
        return Supervisor(children, strategy=strategy, intensity=intensity, backoff=backoff, on_event=on_event, rng=rng)

    return start_in(home, factory, name=name, on_gone=on_gone, shutdown_s=math.inf)
