"""A place in the tree: what survives an actor's incarnations. As in Akka, and unlike an OTP pid, refs belong to it.

A place has a name, a urn, an inbox and one `ActorRef`. Incarnations move in one after the other and adopt all of these,
so that refs and proxies stay valid, and what was told between two lives is handled by the next. A place is dead only
when it is closed, by its supervisor or with the root; then everything asked of it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from actorstream.actors.flag import Flag
from actorstream.actors.future import LoopFuture
from actorstream.actors.home import Home
from actorstream.actors.reasons import as_answer, cause_of

logger = logging.getLogger("actorstream.actors")

A = TypeVar("A", bound=pykka.Actor)


@dataclass(frozen=True, slots=True)
class Fenced:
    """A message for one incarnation only: an actor of another generation drops it (F10, F11)."""

    generation: int
    message: object


class Stop:
    """Pykka's stop message in an inbox: in order, and void when the incarnation it was meant for has ended."""

    __slots__ = ("void",)

    def __init__(self) -> None:
        self.void = False


@runtime_checkable
class Answerable(Protocol):
    """A message that has an outcome also when it is told: somebody else than who asks waits for it."""

    def never_handled(self, reason: Exception, *, was_asked: bool) -> None:
        """The actor ended for good, and has not seen it. On any thread."""


class Keeper(Protocol):
    """Who has put the place there, and judges the ends of those who live in it: `child.Child`."""

    def running(self) -> None:
        """An incarnation has started."""

    def ended(self, reason: BaseException | None) -> None:
        """An incarnation has ended."""


class Watcher(Protocol):
    """Who wants to hear of an end: `belongings.Belongings`."""

    def gone(self, place: Place, generation: int, reason: BaseException | None) -> None:
        """The incarnation that lived in `place` has ended."""


class Lived(Protocol):
    """What a place knows of the life in it: `life.Life`."""

    @property
    def state(self) -> str:
        """How far it is."""

    def start(self) -> None:
        """Run `on_start`."""

    def work(self) -> None:
        """Handle what is in the inbox, if it is time for that."""

    def heed_stop(self) -> None:
        """A stop message has come."""

    def kill(self) -> None:
        """End at once."""

    def is_handling_in(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` runs its current hook or handler."""


class PlaceRef(pykka.ActorRef[A]):
    """A ref that is there before its first actor; everything else is Pykka's."""

    def __init__(self, place: Place, actor_class: type[A]) -> None:
        self.actor_class = actor_class
        self.actor_urn = place.urn
        self.actor_inbox = place
        self.actor_stopped = place.stopped  # type: ignore[assignment]
        self._actor_weakref = _nobody  # type: ignore[assignment]

    def repoint(self, actor: A) -> None:
        """Proxies are made from this instance from now on."""
        self.actor_class = type(actor)
        self._actor_weakref = weakref.ref(actor)


def _nobody() -> None:
    return None


# The place whose actor is being constructed: its constructor may use its ref already, as everywhere in Pykka.
_vacant: contextvars.ContextVar[Place | None] = contextvars.ContextVar("vacant", default=None)


class Place:
    """See the module. `put` may be called by any thread; everything else belongs to the home's loop.

    Attributes:
        name, path: its own name, and the names from the root to here, joined by slashes.
        children: the places below this one, which survive a supervisor's incarnations as this one survives its actor's.
        generation: how many incarnations there were.
        actor: the latest one; kept when it has ended, so that proxies can be made between two lives.
        alive: whether it lives, from before `on_start` until after `on_stop`.
        reason: why the latest one ended.
        since: when it began, or when it ended if it has (the clock's seconds).
        shutdown_s: how long an actor that has to end may go on with what it is doing.
        keeper: the supervisor's side of it. Without one, the place ends with its actor.
        on_gone: called once when the place closes, with the cause or None.
    """

    __slots__ = (
        "__weakref__",
        "_awake",
        "_life",
        "_parent",
        "_queue",
        "_stops",
        "_watchers",
        "actor",
        "alive",
        "children",
        "generation",
        "home",
        "keeper",
        "name",
        "on_gone",
        "path",
        "reason",
        "ref",
        "shutdown_s",
        "since",
        "stopped",
        "urn",
    )

    def __init__(
        self,
        actor_class: type[pykka.Actor],
        *,
        name: str,
        home: Home | None = None,
        parent: Place | None = None,
        shutdown_s: float = 5.0,
        on_gone: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        self.name = name
        self.path: str = name if parent is None else f"{parent.path}/{name}"
        self.home = home
        self.children: dict[str, Place] = {}
        self.urn = uuid.uuid4().urn
        self.stopped = Flag()
        self.ref: PlaceRef[Any] = PlaceRef(self, actor_class)
        self.generation = 0
        self.actor: pykka.Actor | None = None
        self._life: Lived | None = None
        self.alive = False
        self.reason: BaseException | None = None
        self.since = 0.0
        self.shutdown_s = shutdown_s
        self.keeper: Keeper | None = None
        self.on_gone = on_gone
        self._parent = parent
        self._queue: deque[Envelope[Any]] = deque()
        # Whether somebody will look into the queue without being told. Whoever sets it back has to look once more.
        self._awake = False
        self._stops: list[tuple[Stop, pykka.Future[Any] | None]] = []
        self._watchers: list[Watcher] = []

    def __repr__(self) -> str:
        return f"<Place {self.path} generation {self.generation}>"

    # The inbox: any thread

    def put(self, envelope: Envelope[Any], /) -> None:
        """Append to the inbox; after the place has closed, answer with why."""
        if envelope.reply_to is not None and isinstance(envelope.reply_to, LoopFuture):
            envelope.reply_to.producer = self
        if type(envelope.message) is _ActorStop:
            self._put_stop(envelope)
            return
        self._queue.append(envelope)
        if not self._awake:
            self._awake = True
            self._call_soon(self._look, envelope)

    def get(self) -> Envelope[Any]:
        """The next envelope. Raises IndexError when there is none: nothing blocks here."""
        return self._queue.popleft()

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._queue

    def _put_stop(self, envelope: Envelope[Any]) -> None:
        stop = Stop()
        self._stops.append((stop, envelope.reply_to))
        self._queue.append(Envelope(stop, envelope.reply_to))
        self._call_soon(self._heed_stop, envelope)

    def _call_soon(self, callback: Callable[[], None], envelope: Envelope[Any]) -> None:
        if self.home is None:  # not started: that will look into the queue
            return
        try:
            self.home.call_soon(callback)
        except RuntimeError as error:
            # The loop was closed with its actors still on it, or stayed behind in a parent process: nobody will come.
            self.stopped.set()
            self.reason = self.reason or pykka.ActorDeadError(f"{self.path}: {error}")
            if envelope.reply_to is None:  # whoever tells it hears it here, and only here
                with contextlib.suppress(ValueError):
                    self._queue.remove(envelope)
            self._bury()
            if envelope.reply_to is None:
                raise pykka.ActorDeadError(f"{self.path}: {error}") from error

    def _look(self) -> None:
        if self.stopped.is_set():
            self._bury()
        elif self.alive and self._life is not None:
            self._life.work()

    def _heed_stop(self) -> None:
        if self.stopped.is_set():
            self._bury()
        elif self.alive and self._life is not None:
            self._life.heed_stop()

    def rest(self) -> bool:
        """Whether the inbox is empty, and the next message has to wake the actor."""
        if self._queue:
            return False
        self._awake = False
        if self._queue:  # put while we looked, by somebody who took us to be awake
            self._awake = True
            return False
        return True

    # Whom a reply waits for: `future.Producer`

    def runs_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the actor lives on `loop`."""
        return self.home is not None and self.home.loop is loop

    def is_waiting(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether the actor's own handler is `task`."""
        return self.alive and self._life is not None and task is not None and self._life.is_handling_in(task)

    # Incarnations: the loop's thread

    def house(self, factory: Callable[[], A]) -> A:
        """A new incarnation, made by `factory`; it does not begin yet. Raises whatever the factory does."""
        before = self.generation
        token = _vacant.set(self)
        try:
            actor = factory()
        finally:
            _vacant.reset(token)
        if self.generation == before or self.actor is not actor:
            raise TypeError(f"the factory of {self.path} has to make a new StreamActor each time, not {actor!r}")
        return actor

    def begin(self) -> None:
        """Start the latest incarnation. Any thread."""
        assert self.home is not None
        assert self._life is not None
        self.alive = True
        self.since = self.home.clock.time()
        self.home.call_soon(self._life.start)

    def adopt(self, actor: pykka.Actor, life: Lived) -> int:
        """Have `actor` live here, from its constructor on; its generation."""
        self.actor = actor
        self._life = life
        self.ref.repoint(actor)
        self.generation += 1
        return self.generation

    def ended(self, life: Lived, reason: BaseException | None) -> None:
        """An incarnation has ended: answer who stopped it, and tell who watched it."""
        if life is not self._life:  # it was left behind, and the next one lives here already
            return
        self.alive = False
        self.reason = reason
        assert self.home is not None
        self.since = self.home.clock.time()
        stops, self._stops = self._stops, []
        for stop, reply in stops:
            stop.void = True
            if reply is not None:
                settle(reply, None)
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.gone(self, self.generation, reason)
        if self.keeper is not None:
            self.keeper.ended(reason)
        else:
            self.close(reason)

    @property
    def state(self) -> str:
        """Of the latest incarnation: "starting", "running", "stopping" or "stopped"."""
        return "stopped" if self._life is None else self._life.state

    def request_stop(self) -> None:
        """Have the incarnation end when it has handled what it was told before, within `shutdown_s`."""
        self.put(Envelope(_ActorStop()))

    def kill(self) -> None:
        """Have the incarnation end at once."""
        if self.alive and self._life is not None:
            self._life.kill()

    @property
    def stop_requested(self) -> bool:
        """Whether a stop message waits."""
        return bool(self._stops)

    def watch(self, watcher: Watcher) -> None:
        """Have it hear when the current incarnation ends; at once when there is none."""
        if not self.alive:
            watcher.gone(self, self.generation, self.reason)
        elif watcher not in self._watchers:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Forget a watcher; one that is unknown is none."""
        with contextlib.suppress(ValueError):
            self._watchers.remove(watcher)

    def child(self, name: str, home: Home, actor_class: type[pykka.Actor]) -> Place:
        """The place below this one of that name; made if there is none."""
        place = self.children.get(name)
        if place is None:
            place = self.children[name] = Place(actor_class, name=name, home=home, parent=self)
        return place

    def close(self, reason: BaseException | None) -> None:
        """No further incarnation: the places below close too, what waits is answered, and the owner is told. Once."""
        if self.stopped.is_set():
            return
        for child in tuple(self.children.values()):
            child.close(reason)
        self.reason = reason
        self.stopped.set()
        self._bury()
        pykka.ActorRegistry.unregister(self.ref)
        if self._parent is not None and self._parent.children.get(self.name) is self:
            del self._parent.children[self.name]
        if self.on_gone is not None:
            try:
                self.on_gone(cause_of(reason))
            except Exception:
                logger.exception("on_gone of %s failed", self.path)

    def _bury(self) -> None:
        self._awake = False  # first, so that what is put from here on wakes us again
        while True:
            try:
                envelope = self._queue.popleft()
            except IndexError:
                return
            if isinstance(envelope.message, Answerable):
                self._tell_of_the_end(envelope.message, was_asked=envelope.reply_to is not None)
            if envelope.reply_to is None:
                continue
            if isinstance(envelope.message, Stop):
                settle(envelope.reply_to, None)
            else:
                settle_error(envelope.reply_to, as_answer(self.reason, self.path))

    def _tell_of_the_end(self, message: Answerable, *, was_asked: bool) -> None:
        try:
            message.never_handled(as_answer(self.reason, self.path), was_asked=was_asked)
        except Exception:
            logger.exception("a message to %s could not be answered", self.path)


def take_vacant_place() -> Place | None:
    """The place whose actor is being constructed, once: actors that this one makes have places of their own."""
    place = _vacant.get()
    _vacant.set(None)
    return place


def settle(reply: pykka.Future[Any], value: object) -> None:
    """Answer, unless somebody did already."""
    if isinstance(reply, LoopFuture):
        reply.try_set(value)
    else:
        reply.set(value)


def settle_error(reply: pykka.Future[Any], error: BaseException) -> None:
    """Answer with an error, unless somebody answered already."""
    if isinstance(reply, LoopFuture):
        reply.try_set_exception(error)
    else:
        reply.set_exception((type(error), error, error.__traceback__))
