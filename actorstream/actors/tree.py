"""The whole tree on one page.

    root                             one_for_one; when it gives up, every handle raises the reason
    ├─ credentials                   CredentialsKeeper: who logs in, and the token that all connections share
    ├─ connections                   one_for_one over Connection …: temporary, made on demand by the pool
    ├─ pool                          Pool: who is on which connection
    ├─ locator                       Locator: where streams live
    ├─ watchdog                      Watchdog: notices when the loop stands still
    ├─ desk                          Desk: the client, for a user's own actors
    ├─ publishers                    one_for_one over Publisher …: until its producer is closed
    ├─ trackers                      one_for_one over OffsetTracker …: until its consumer is closed
    ├─ super_streams                 one_for_one over SuperStreamRouter … and SacCoordinator …, likewise
    └─ subscribers                   one_for_one over Subscriber …: until its consumer is closed

Connections are temporary children: whoever lost one asks the Locator where to go now, and leases a slot there. To
restart one blindly would be to insist on a broker that may be gone. Those that work for one handle have a restart
intensity of their own: a bug that hits one of them ends that one, whose handle raises it, and none of its siblings.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from actorstream.actors import messages as m
from actorstream.actors.bus import EventBus
from actorstream.actors.calls import call
from actorstream.actors.coordinator import Coordination, SacCoordinator
from actorstream.actors.credentials import CredentialsKeeper, KeeperState
from actorstream.actors.desk import CarryOut, Desk
from actorstream.actors.dialing import Dialer
from actorstream.actors.future import LoopFuture
from actorstream.actors.locator import Locator
from actorstream.actors.membership import Membership
from actorstream.actors.offset_store import BrokerStore, Store
from actorstream.actors.outbox import Outbox
from actorstream.actors.pool import CONTROL, Pool, PoolState
from actorstream.actors.publisher import Publisher
from actorstream.actors.router import SuperStreamRouter, SuperStreamState
from actorstream.actors.runtime import Home, StreamActor
from actorstream.actors.sac_subscriber import SacSubscriber
from actorstream.actors.subscriber import Subscriber
from actorstream.actors.subscriber_state import SubscriberState
from actorstream.actors.supervisor import (
    ChildSpec,
    Node,
    RestartIntensity,
    Snapshot,
    StartChild,
    StopChild,
    Supervisor,
    start_root,
)
from actorstream.actors.tracker import OffsetTracker, StoredOffset, TrackerState
from actorstream.actors.watchdog import Watchdog
from actorstream.errors import Closed
from actorstream.options import ConnectionOptions, ConsumerOptions, Endpoint, ProducerOptions
from actorstream.transport import Opener
from actorstream.wire import commands as c

Gone = Callable[[BaseException | None], None]

CHILD_INTENSITY = RestartIntensity(max_restarts=5, within_s=30.0)
"""Unexpected errors of one publisher or subscriber before its handle gets to hear of them."""

TRACKER_STOP_S = 0.5
"""How long a tracker may go on with what it does when it has to stop: its consumer has had it store before."""


@dataclass(frozen=True, slots=True)
class _MakePublisher:
    """Makes each incarnation of a publisher. Not a closure, which takes a cell for each thing that it knows."""

    locator: m.Ref
    pool: m.Ref
    bus: EventBus
    stream: str
    options: ProducerOptions
    outbox: Outbox
    ready: LoopFuture[None]
    last_broker: list[Endpoint] = field(default_factory=list)

    def __call__(self) -> StreamActor:
        return Publisher(
            stream=self.stream,
            options=self.options,
            outbox=self.outbox,
            locator=self.locator,
            pool=self.pool,
            emit=self.bus.emit,
            last_broker=self.last_broker,
            ready=self.ready,
        )


@dataclass(frozen=True, slots=True)
class _MakeSubscriber:
    """Makes each incarnation of a subscriber; likewise."""

    locator: m.Ref
    pool: m.Ref
    bus: EventBus
    stream: str
    options: ConsumerOptions
    state: SubscriberState
    group: tuple[Membership, m.Ref] | None

    def __call__(self) -> StreamActor:
        if self.group is None:
            return Subscriber(
                stream=self.stream,
                options=self.options,
                state=self.state,
                locator=self.locator,
                pool=self.pool,
                emit=self.bus.emit,
            )
        membership, coordinator = self.group
        return SacSubscriber(
            stream=self.stream,
            options=self.options,
            state=self.state,
            membership=membership,
            coordinator=coordinator,
            locator=self.locator,
            pool=self.pool,
            emit=self.bus.emit,
        )


class Tree:
    """The running tree of one client. Its methods may be used on any loop; callbacks come on the tree's."""

    def __init__(self, home: Home, options: ConnectionOptions, escalated: Gone) -> None:
        self.bus = EventBus()
        self._options = options
        self._ended: LoopFuture[None] = LoopFuture()

        def gone(reason: BaseException | None) -> None:
            self._ended.try_set()
            escalated(reason)

        self._root: m.Ref = start_root(home, on_event=self.bus.emit, on_gone=gone)
        self._pool: m.Ref
        self._connections = PoolState()
        self.locator: m.Ref
        self.desk: m.Ref
        self._publishers: m.Ref
        self._trackers: m.Ref
        self._super_streams: m.Ref
        self._subscribers: m.Ref
        self._stored: weakref.WeakValueDictionary[tuple[str, str], StoredOffset] = weakref.WeakValueDictionary()

    async def grow(self, seeds: Sequence[Endpoint], opener: Opener, carry_out: CarryOut) -> None:
        """Start everything, top down; nothing is connected yet."""
        options, emit = self._options, self.bus.emit
        kept = KeeperState()

        def make_keeper() -> StreamActor:
            return CredentialsKeeper(state=kept, options=options, emit=emit)

        credentials = await self._start(self._root, ChildSpec(name="credentials", factory=make_keeper))
        connections = await self._start_supervisor("connections")
        dialer = Dialer(seeds=seeds, options=options, opener=opener)

        def make_pool() -> StreamActor:
            return Pool(
                state=self._connections,
                connections=connections,
                credentials=credentials,
                options=options,
                dialer=dialer,
                emit=emit,
            )

        self._pool = pool = await self._start(self._root, ChildSpec(name="pool", factory=make_pool))

        def make_locator() -> StreamActor:
            return Locator(seeds=seeds, options=options, pool=pool, refused_at=self._connections.refused_at)

        self.locator = await self._start(self._root, ChildSpec(name="locator", factory=make_locator))
        await self._start(self._root, ChildSpec(name="watchdog", factory=lambda: Watchdog(emit=emit)))
        self.desk = await self._start(self._root, ChildSpec(name="desk", factory=lambda: Desk(carry_out=carry_out)))
        self._publishers = await self._start_supervisor("publishers")
        # In front of the subscribers, and so stopped after them.
        self._trackers = await self._start_supervisor("trackers")
        self._super_streams = await self._start_supervisor("super_streams")
        self._subscribers = await self._start_supervisor("subscribers")

    async def _start_supervisor(self, name: str) -> m.Ref:
        def make() -> StreamActor:
            return Supervisor(backoff=self._options.backoff, on_event=self.bus.emit, together=True)

        return await self._start(self._root, ChildSpec(name=name, factory=make, shutdown_s=math.inf))

    @staticmethod
    async def _start(parent: m.Ref, spec: ChildSpec) -> m.Ref:
        ref: m.Ref = await call(parent, StartChild(spec), dead=Closed)
        return ref

    async def start_publisher(
        self, name: str, stream: str, options: ProducerOptions, outbox: Outbox, ready: LoopFuture[None], gone: Gone
    ) -> m.Ref:
        """A publisher under its supervisor; at once, before it is attached."""
        make = _MakePublisher(self.locator, self._pool, self.bus, stream, options, outbox, ready)
        return await self._start(
            self._publishers, ChildSpec(name=name, factory=make, intensity=CHILD_INTENSITY, on_gone=gone)
        )

    async def start_subscriber(
        self,
        name: str,
        stream: str,
        options: ConsumerOptions,
        state: SubscriberState,
        gone: Gone,
        group: tuple[Membership, m.Ref] | None = None,
    ) -> m.Ref:
        """A subscriber under its supervisor; at once, before it is attached.

        `group`: the membership and the coordinator of one that is in a group of single active consumers.
        """
        make = _MakeSubscriber(self.locator, self._pool, self.bus, stream, options, state, group)
        return await self._start(
            self._subscribers, ChildSpec(name=name, factory=make, intensity=CHILD_INTENSITY, on_gone=gone)
        )

    async def start_coordinator(self, name: str, state: Coordination, gone: Gone) -> m.Ref:
        """The coordinator of a consumer in groups of single active consumers, under its supervisor.

        `name`: that of the consumer's subscriber, or of its router.
        """

        def make() -> StreamActor:
            return SacCoordinator(state=state, emit=self.bus.emit)

        return await self._start(
            self._super_streams,
            ChildSpec(name=_coordinator_of(name), factory=make, intensity=CHILD_INTENSITY, on_gone=gone),
        )

    async def start_tracker(self, name: str, state: TrackerState, store: Store | None, gone: Gone) -> m.Ref:
        """The tracker of a named consumer under its supervisor; `store` None: the broker's own."""
        state.stored = self._stored.setdefault((state.stream, state.name), state.stored)
        chosen = store if store is not None else BrokerStore(self.locator, state.name, state.stream)

        def make() -> StreamActor:
            return OffsetTracker(state=state, store=chosen, backoff=self._options.backoff, emit=self.bus.emit)

        return await self._start(
            self._trackers,
            ChildSpec(name=name, factory=make, shutdown_s=TRACKER_STOP_S, intensity=CHILD_INTENSITY, on_gone=gone),
        )

    async def start_router(self, name: str, state: SuperStreamState, gone: Gone) -> m.Ref:
        """A super stream's router under its supervisor; at once, before it has looked."""

        def make() -> StreamActor:
            return SuperStreamRouter(state=state, locator=self.locator, emit=self.bus.emit)

        return await self._start(
            self._super_streams, ChildSpec(name=name, factory=make, intensity=CHILD_INTENSITY, on_gone=gone)
        )

    async def ask_leader(self, stream: str, command: c.Request) -> c.Response:
        """The answer of the broker on which the stream's leader is; whatever its code.

        Raises:
            StreamDoesNotExist: and all that a connection may raise; what is retryable may be asked again.
        """
        members: m.Members = await call(self.locator, m.WhereIs(stream), dead=Closed)
        slot: m.Slot = await call(self._pool, m.Lease(members.leader, CONTROL), dead=Closed)
        await call(slot.connection, m.Open())
        response: c.Response = await call(slot.connection, m.Request(command))
        return response

    async def stop_publisher(self, name: str) -> None:
        """Stop a publisher and forget it."""
        await call(self._publishers, StopChild(name), dead=Closed)

    async def stop_consumer(self, name: str) -> None:
        """Stop a subscriber, and its coordinator and its tracker if it has them, and forget them."""
        await call(self._subscribers, StopChild(name), dead=Closed)
        await call(self._super_streams, StopChild(_coordinator_of(name)), dead=Closed)
        await call(self._trackers, StopChild(name), dead=Closed)

    async def stop_super_stream(self, name: str) -> None:
        """Stop a super stream's router, and the coordinator of the same name if there is one, and forget them."""
        await call(self._super_streams, StopChild(_coordinator_of(name)), dead=Closed)
        await call(self._super_streams, StopChild(name), dead=Closed)

    def connections(self) -> list[str]:
        """The role of each connection: "control", "publisher" or "consumer". From any thread."""
        return self._connections.roles()

    async def snapshot(self) -> Node:
        """The tree as it is now."""
        node: Node = await call(self._root, Snapshot(), dead=Closed)
        return node

    async def fell(self, timeout_s: float) -> None:
        """Stop everything, bottom up; each actor has its own bound, and this one is for all of it.

        Raises:
            TimeoutError: something is left, and goes on ending by itself.
        """
        try:
            self._root.stop(block=False)  # its future would take a thread to wait for, which a timeout leaves behind
            async with asyncio.timeout(timeout_s):
                await self._ended
        finally:
            self.bus.close(Closed("the client was closed"))


def _coordinator_of(name: str) -> str:
    return f"{name}-group"
