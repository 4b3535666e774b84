"""Who knows the partitions of one super stream, and where the broker routes a key.

There is no notice of a partition that is added, removed or bound anew: the router looks again and again, and whenever
its owner has reason to ask for it (F45). What it knows is in a `SuperStreamState`, which outlives its incarnations, so
that a change that happens while it is away is a change too. What becomes of keys then is its owner's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.answer import Answer, Gathering
from actorstream.actors.calls import call, tell
from actorstream.actors.encoding import several
from actorstream.actors.future import LoopFuture
from actorstream.actors.mailbox import Publish, PublishBatch, Published
from actorstream.actors.routing_table import Ask, Routes, RoutingTable
from actorstream.actors.runtime import StreamActor, Timer
from actorstream.errors import ActorStreamError, Closed, ConnectionLost, StreamDoesNotExist
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode

JITTER = 0.2
"""Many clients should not look in step: each pause is longer or shorter by up to this part of it."""

# A broker that starts serves before it has all its bindings again: RabbitMQ 4.0.5 was seen to list no partition for the
# first 0.3 s after a kill, and all of them then. What it lists is believed when it has been the same for a while.
FIRST_S = 0.1
"""For so long, where nothing is known yet: a part of the partitions would send keys to wrong ones."""
NOTHING_S = 1.0
"""For so long, where nothing is known yet, and the broker knows nothing of that name."""
NONE_S = 10.0
"""For so long, where nothing is known yet, and the broker lists no partition of what it knows: no user makes such a
thing, and a member of a group that was started while nodes of its cluster were took it for the end."""
FEWER_S = 5.0
"""For so long, where partitions are missing that there were, although their streams exist."""
AGAIN_S = 0.1
"""The pause before it is asked again."""


@dataclass(slots=True)
class Outlet:
    """What a router needs besides, to publish for a user's actors.

    Attributes:
        table: where messages go.
        publishers: who publishes to each partition; replaced, and never changed.
    """

    table: RoutingTable
    publishers: Mapping[str, m.Ref] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class SuperStreamState:
    """What outlives a router's incarnations. Written on the tree's loop; a tuple may be read on any.

    Attributes:
        super_stream: its name.
        refresh_s: seconds between two looks at the partitions.
        routes: what the broker has said of keys. Forgotten with each look, since a binding may have changed.
        on_looked: called on the tree's loop with all partitions after each look but the first, also when they are the
            same: one that was made anew between two looks is not seen here, but by whoever lost it.
        outlet: for a producer's router.
        partitions: as the broker ordered them at the last look; () before the first.
        ready: set with the first look.
    """

    super_stream: str
    refresh_s: float
    routes: Routes
    on_looked: Callable[[tuple[str, ...]], None]
    outlet: Outlet | None = None
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

    def on_stop(self) -> None:
        """Nobody is left waiting for a route: the next incarnation knows nothing of who asked this one."""
        for reply in self._asked.values():
            reply.try_set_exception(ConnectionLost("the router ended before it answered"))

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To a SuperStreamRouter"."""
        match message:
            case m.Route(key=key):
                return self._route(key)
            case m.RefreshPartitions():
                self._look()
            case Publish() if self._state.outlet is not None:
                return self._publish(message, self._state.outlet)
            case PublishBatch() if self._state.outlet is not None:
                return self._publish_all(message, self._state.outlet)
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
        listed = await self._believed()
        if not listed:
            raise StreamDoesNotExist(f"{state.super_stream!r} has no partitions: it is no super stream")
        state.routes.clear()
        before, state.partitions = state.partitions, listed
        if before:
            self._tell_looked(before)
        state.ready.try_set(None)
        self._looking = None
        if self._look_again:
            self._look_again = False
            self._look()
        else:
            pause = state.refresh_s * random.uniform(1 - JITTER, 1 + JITTER)
            self._next_look = self.call_later(pause, m.RefreshPartitions())

    async def _believed(self) -> tuple[str, ...]:
        """The partitions, in order, as the broker lists them for long enough to be believed."""
        clock = asyncio.get_running_loop().time
        listed, since = await self._list(), clock()
        while not await self._believable(listed, clock() - since):
            await asyncio.sleep(AGAIN_S)
            before, listed = listed, await self._list()
            if listed != before:
                since = clock()
        return listed or ()

    async def _list(self) -> tuple[str, ...] | None:
        """What the broker lists at this moment; None: it knows nothing of that name."""
        command = c.Partitions(self._state.super_stream)
        try:
            response = await call(self._locator, m.Administer(command, repeatable=True))
        except StreamDoesNotExist:
            return None
        assert isinstance(response, c.PartitionsResponse)
        return response.streams

    async def _believable(self, listed: tuple[str, ...] | None, unchanged_s: float) -> bool:
        known = self._state.partitions
        if not known:
            return unchanged_s >= (NOTHING_S if listed is None else FIRST_S if listed else NONE_S)
        missing = tuple([name for name in known if not listed or name not in listed])
        if not missing or unchanged_s >= FEWER_S:
            return True
        states: dict[str, m.StreamState] = await call(self._locator, m.Metadata(missing))
        return all(state.code == ResponseCode.STREAM_DOES_NOT_EXIST for state in states.values())

    def _tell_looked(self, before: tuple[str, ...]) -> None:
        partitions = self._state.partitions
        if partitions != before:
            self._emit(
                events.PartitionsChanged(
                    path=self.path,
                    super_stream=self._state.super_stream,
                    partitions=partitions,
                    added=tuple([name for name in partitions if name not in before]),
                    removed=tuple([name for name in before if name not in partitions]),
                )
            )
        self._state.on_looked(partitions)

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
            streams: tuple[str, ...] = ()
            with contextlib.suppress(StreamDoesNotExist):
                streams = await self._routed(key)
            if not streams:  # perhaps of a broker that does not know its bindings yet
                await self._believed()
                streams = await self._routed(key)
        except ActorStreamError as error:
            reply.try_set_exception(error)  # whoever asked decides; the partitions are looked at all the same
        else:
            self._state.routes.put(key, streams)
            reply.try_set(streams)
        del self._asked[key]  # not when it is cancelled, perhaps before it began: `on_stop` answers then

    async def _routed(self, key: str) -> tuple[str, ...]:
        command = c.Route(key, self._state.super_stream)
        response = await call(self._locator, m.Administer(command, repeatable=True))
        assert isinstance(response, c.RouteResponse)
        return response.streams

    # Publishing, for a user's actors --------------------------------------------------------------------------------

    def _publish(self, message: Publish, outlet: Outlet) -> LoopFuture[None]:
        """Have the publishers of its partitions publish a message, whatever becomes of it."""
        answer = Answer(message, self._publish_failed)

        def forward() -> None:
            targets = outlet.table.find(message.body)
            if not isinstance(targets, Ask):
                _hand_out(message, answer, targets, outlet)
                return
            # Messages with one key come out in the order in which they went in: they wait for one answer.
            key, route = targets.key, self._route(targets.key)
            route.add_done_callback(lambda known: self._attempt(answer, lambda: go_on(key, known)))

        def go_on(key: str, known: LoopFuture[tuple[str, ...]]) -> None:
            _hand_out(message, answer, outlet.table.accept(key, known.get(timeout=0)), outlet)

        self._attempt(answer, forward)
        return answer.done

    def _publish_all(self, message: PublishBatch, outlet: Outlet) -> LoopFuture[None]:
        answer = Answer(message, self._publish_failed)

        def forward() -> None:
            bodies = list(several(message.bodies))
            if not bodies:
                answer.settle(None)
            gathering = Gathering(answer, bodies)
            for body in bodies:
                self._publish(Publish(body, reply_to=gathering), outlet)

        self._attempt(answer, forward)
        return answer.done

    @staticmethod
    def _attempt(answer: Answer, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever sent the message, and ends no actor (F35)
            answer.settle(error)

    def _publish_failed(self, reason: BaseException) -> None:
        self._emit(events.PublishFailed(path=self.path, stream=self._state.super_stream, reason=reason))


def _hand_out(message: Publish, answer: Answer, partitions: tuple[str, ...], outlet: Outlet) -> None:
    """Tell each partition's publisher, which answers for itself."""
    parts = [outlet.publishers[partition] for partition in partitions]
    gathering = Gathering(answer, parts)
    for part in parts:
        if not tell(part, replace(message, reply_to=gathering, context=None)):
            gathering.tell(Published(None, Closed("the partition cannot be published to any more")))
