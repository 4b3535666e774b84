"""`StreamActor`: Pykka actors on an asyncio loop. Hooks and handlers may be plain functions or coroutines.

What Pykka means stays: messages are handled one at a time and in order; an exception during an ask goes to the asker
and the actor lives, during a tell it ends the actor; a stop takes its turn behind what was told before it. Decided
anew, since a supervisor has to rely on it:

 - An exception in `on_start` is a failure like any other (Pykka leaves a dead ref and tells nobody).
 - `on_stop` always runs, after `on_failure` where there was one (in Pykka it is one or the other), within a bound.
 - CancelledError and other BaseExceptions end this actor, never all actors of the process, and whoever asked is
   answered with ActorDeadError. KeyboardInterrupt and SystemExit go on to the loop, as everywhere in asyncio.
 - A stop cancels an `on_start` that is still running. It gives a running handler `shutdown_s`, and cancels it then.
 - A handler may return a `LoopFuture`: the asker gets its result, and the next message is handled meanwhile.
 - Supervised actors are not in Pykka's ActorRegistry, which is the user's: a `stop_all` there, which Pykka itself does
   when an actor of the user's dies of a BaseException, does not reach into our tree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

import pykka
from pykka._envelope import Envelope

from actorstream.actors.belongings import Down, Timer
from actorstream.actors.direct import Direct
from actorstream.actors.future import LoopFuture
from actorstream.actors.home import Clock, Home
from actorstream.actors.life import Life
from actorstream.actors.place import Fenced, Place, take_vacant_place
from actorstream.actors.reasons import Again, Fatal, Retry, Shutdown, Verdict, classify

__all__ = [
    "Again",
    "Clock",
    "Down",
    "Fatal",
    "Fenced",
    "Home",
    "Place",
    "Retry",
    "Shutdown",
    "StreamActor",
    "Timer",
    "Verdict",
    "ask",
    "classify",
    "start_in",
]

A = TypeVar("A", bound="StreamActor")
R = TypeVar("R")
T = TypeVar("T")


class StreamActor(pykka.Actor):
    """An actor on a loop; see the module. All hooks and handlers run on its home's loop, one at a time.

    Subclasses call `super().__init__()` first, and may then use `actor_ref`, `name`, `path` and `generation`; a home
    they have from `on_start` on.
    """

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        assert isinstance(self.actor_inbox, Place)
        # All machinery is behind these two names, so that a subclass is free in its own.
        self._place = place = self.actor_inbox
        self._life = Life(self, place)
        self.actor_urn = place.urn
        self.actor_stopped = place.stopped  # type: ignore[assignment]
        self._actor_ref = place.ref

    @property
    def name(self) -> str:
        """Its name among its siblings."""
        return self._place.name

    @property
    def path(self) -> str:
        """Its name in the tree, such as "root/publishers/orders-1"."""
        return self._place.path

    @property
    def generation(self) -> int:
        """Which incarnation this is, from 1; the constructor of one that failed counts too."""
        return self._life.generation

    @property
    def home(self) -> Home:
        """Where it runs."""
        return self._life.home

    def describe(self) -> dict[str, object]:
        """What a snapshot of the tree shows of it. Called at any time on the loop, also while a handler awaits."""
        return {}

    # Hooks: plain or async. Pykka says that they return nothing; Any lets them return a coroutine.

    def on_start(self) -> Any:
        """Before the first message. What it raises is a failure of the actor. Cancelled when the actor has to end."""

    def on_receive(self, message: Any) -> Any:
        """Handle a message; the value answers an ask, a `LoopFuture` does once it is settled.

        The default logs a warning.
        """
        return super().on_receive(message)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        """After an exception that nobody handled, before `on_stop`."""

    def on_stop(self) -> Any:
        """At the end, whatever the reason, also if `on_start` failed: let go of everything. What it raises is logged.

        Cancelled when the actor's deadline is over, but it has a second at least.
        """

    # For the actor itself, on its loop

    def exit(self, reason: BaseException | None = None) -> None:
        """End this incarnation after the handler that is running; no message is handled in between.

        None and `Shutdown` are a normal end; `classify` says what a supervisor makes of others. A handler that goes on
        is cancelled after `shutdown_s`, an `on_start` at once. The first reason counts.
        """
        self._life.leave(reason)

    @property
    def is_ending(self) -> bool:
        """Whether this incarnation is going to end, and handles no message any more."""
        return not self._life.is_working

    def spawn(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run a coroutine beside the messages: cancelled when the actor ends; its failure is the actor's failure."""
        return self._life.belongings.spawn(self.home.loop, work)

    def call_later(self, delay: float, message: object) -> Timer:
        """Tell itself `message` after `delay` seconds of the home's clock, unless this incarnation ends before."""
        return self._life.belongings.set_timer(self.home.clock, delay, message)

    def tell_self(self, message: object) -> None:
        """Tell this incarnation: the next one would drop the message. Any thread."""
        self._life.tell(message)

    def direct(self, step: Callable[[T], object]) -> Direct[T]:
        """A step of this incarnation that others on its loop may take without telling it; see `Direct`."""
        return Direct(self._life, step)

    def monitor(self, ref: pykka.ActorRef[Any]) -> None:
        """Be told `Down` when the current incarnation of `ref` ends; at once when there is none. Once for each end.

        To monitor the same ref again before that changes nothing.

        Raises:
            InvalidArgument: the actor is not a StreamActor on the same loop.
        """
        self._life.belongings.monitor(ref, self.home.loop)

    def demonitor(self, ref: pykka.ActorRef[Any]) -> None:
        """Undo `monitor`. A `Down` that is in the inbox already is still handled."""
        self._life.belongings.demonitor(ref)

    # For Pykka

    @staticmethod
    def _create_actor_inbox() -> Place:
        return take_vacant_place() or Place(StreamActor, name="actor")

    @staticmethod
    def _create_future() -> LoopFuture[Any]:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        # `SomeActor.start()`, Pykka's own way: without a supervisor, on the running loop, and in the registry.
        self._place.home = Home.here()
        self._place.name = self._place.path = type(self).__name__
        self._place.begin()


def start_in(
    home: Home,
    factory: Callable[[], A],
    *,
    name: str,
    on_gone: Callable[[BaseException | None], None] | None = None,
    shutdown_s: float = 5.0,
) -> pykka.ActorRef[A]:
    """Start an actor that has no supervisor, from any thread; its place closes when it ends.

    The factory is called here and now, as Pykka does; everything else happens on the home's loop, `on_gone` too.
    """
    place = Place(StreamActor, name=name, home=home, shutdown_s=shutdown_s, on_gone=on_gone)
    place.house(factory)
    place.begin()
    return place.ref


def ask(ref: pykka.ActorRef[Any], message: object) -> LoopFuture[Any]:
    """Ask without blocking; await the answer on any loop.

    As `ref.ask(message, block=False)`, with two differences: an actor that ended for a typed reason answers with that
    reason, also when it had ended before; and the answer of a user's ThreadingActor can be awaited without blocking
    the loop.
    """
    inbox = ref.actor_inbox
    answer: LoopFuture[Any] = LoopFuture()
    if isinstance(inbox, Place):
        inbox.put(Envelope(message, answer))
    else:
        foreign = ref.ask(message, block=False)
        answer.set_get_hook(lambda timeout: foreign.get(timeout=timeout))
    return answer
