"""Who knows the partitions of one super stream, and where the broker routes a key.

There is no notice of a partition that is added, removed or bound anew: the router looks again and again, and whenever
its owner has reason to ask for it (F45). What it knows is in a `SuperStreamState`, which outlives its incarnations, so
that a change that happens while it is away is a change too. What becomes of keys then is its owner's business.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.future import LoopFuture
from actorstream.actors.runtime import StreamActor, Timer
from actorstream.errors import ActorStreamError, StreamDoesNotExist
from actorstream.routing import Routes
from actorstream.wire import commands as c

JITTER = 0.2
"""Many clients should not look in step: each pause is longer or shorter by up to this part of it."""


@dataclass(slots=True, kw_only=True)
class SuperStreamState:
    """What outlives a router's incarnations. Written on the tree's loop; a tuple may be read on any.

    Attributes:
        super_stream: its name.
        refresh_s: seconds between two looks at the partitions.
        routes: what the broker has said of keys. Forgotten with each look, since a binding may have changed.
        on_changed: called on the tree's loop with all partitions when they are other ones than at the look before.
        partitions: as the broker ordered them at the last look; () before the first.
        ready: set with the first look.
    """

    super_stream: str
    refresh_s: float
    routes: Routes
    on_changed: Callable[[tuple[str, ...]], None]
    partitions: tuple[str, ...] = ()
    ready: LoopFuture[None] = field(default_factory=LoopFuture)


class SuperStreamRouter(StreamActor):
    """The actor; see the module."""

    def __init__(self, *, state: SuperStreamState, locator: m.Ref, emit: Callable[[events.Event], None]) -> None:
        super().__init__()
        self._state = state
        self._locator = locator
        self._emit = emit
        self._looking: asyncio.Task[None] | None = None
        self._look_again = False
        self._next_look: Timer | None = None
        self._asked: dict[str, LoopFuture[tuple[str, ...]]] = {}

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        state = self._state
        return {
            "super_stream": state.super_stream,
            "partitions": len(state.partitions),
            "routes": len(state.routes),
            "asking_for": len(self._asked),
        }

    def on_start(self) -> None:
        """Look at once: what happened before is not known."""
        self._look()

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To a SuperStreamRouter"."""
        match message:
            case m.Route(key=key):
                return self._route(key)
            case m.RefreshPartitions():
                self._look()
            case _:
                return super().on_receive(message)
        return None

    # Partitions ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look, unless a look is under way: that one may be too early, and another one comes after it."""
        if self._looking is not None:
            self._look_again = True
            return
        if self._next_look is not None:
            self._next_look.cancel()
        self._looking = self.spawn(self._look_now())

    async def _look_now(self) -> None:
        """Weather ends this incarnation, like any actor's: the next one looks after a pause.

        So does a super stream that is gone, and then there is no next one.
        """
        state = self._state
        response = await call(self._locator, m.Administer(c.Partitions(state.super_stream), repeatable=True))
        assert isinstance(response, c.PartitionsResponse)
        if not response.streams:
            raise StreamDoesNotExist(f"{state.super_stream!r} has no partitions: it is no super stream")
        state.routes.clear()
        before, state.partitions = state.partitions, response.streams
        if before and before != response.streams:
            self._changed(before)
        state.ready.try_set(None)
        self._looking = None
        if self._look_again:
            self._look_again = False
            self._look()
        else:
            pause = state.refresh_s * random.uniform(1 - JITTER, 1 + JITTER)
            self._next_look = self.call_later(pause, m.RefreshPartitions())

    def _changed(self, before: tuple[str, ...]) -> None:
        partitions = self._state.partitions
        self._emit(
            events.PartitionsChanged(
                path=self.path,
                super_stream=self._state.super_stream,
                partitions=partitions,
                added=tuple([name for name in partitions if name not in before]),
                removed=tuple([name for name in before if name not in partitions]),
            )
        )
        self._state.on_changed(partitions)

    # Routes -------------------------------------------------------------------------------------------------------

    def _route(self, key: str) -> LoopFuture[tuple[str, ...]]:
        """Ask once, however many want to know."""
        reply = self._asked.get(key)
        if reply is None:
            reply = self._asked[key] = LoopFuture()
            self.spawn(self._ask_route(key, reply))
        return reply

    async def _ask_route(self, key: str, reply: LoopFuture[tuple[str, ...]]) -> None:
        try:
            command = c.Route(key, self._state.super_stream)
            response = await call(self._locator, m.Administer(command, repeatable=True))
        except ActorStreamError as error:
            reply.try_set_exception(error)  # whoever asked decides; the partitions are looked at all the same
        else:
            assert isinstance(response, c.RouteResponse)
            self._state.routes.put(key, response.streams)
            reply.try_set(response.streams)
        finally:
            self._asked.pop(key, None)
