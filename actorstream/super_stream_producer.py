"""What a user publishes to a super stream with: a producer for each partition, and a routing among them."""

# ruff: noqa: SLF001 - a handle, those of its partitions and their client are one thing in several classes

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from actorstream.actors import messages as m
from actorstream.actors.batch import BatchReceipt
from actorstream.actors.calls import call, tell
from actorstream.actors.encoding import Body, several
from actorstream.actors.intake import Unplaced
from actorstream.actors.receipt import Receipt
from actorstream.actors.router import Outlet, SuperStreamState
from actorstream.actors.routing_table import Ask, RoutingTable
from actorstream.actors.spread import Sorted, Spread
from actorstream.actors.tree import Gone, Tree
from actorstream.base_producer import BaseProducer
from actorstream.compression import Compression
from actorstream.errors import (
    ActorStreamError,
    Closed,
    PartitionsChanged,
)
from actorstream.options import OnPartitionsChanged, SuperStreamProducerOptions
from actorstream.options.checks import require
from actorstream.partition_producers import PartitionProducers, Parts, all_of, offer, offer_loads, offer_when_room
from actorstream.producer import Producer
from actorstream.routed_receipt import RoutedBatchReceipt

if TYPE_CHECKING:
    from actorstream.client import Client

YIELD_EVERY = 2_048
"""Messages after which `send` lets the loop turn. More than for one stream: with each turn, every partition sends what
has come in for it, and to send ten messages costs nearly as much as to send a hundred."""


class SuperStreamProducer(BaseProducer):
    """Publishes to a super stream; made by `Client.super_stream_producer`. Used like a `Producer`.

    Behind it is one producer for each partition. Each has the bounds and the deadlines of the options to itself, and
    recovers by itself: while one partition has no leader, `send` goes on for the others, and for this one queues up to
    its bounds.

    Order: messages reach each partition in the order in which `send` accepted them.
    A message that is routed to several partitions counts once for each of them, in `confirmed` and the like.
    """

    _yield_every = YIELD_EVERY

    def __init__(
        self,
        client: Client,
        table: RoutingTable,
        options: SuperStreamProducerOptions,
        make: Callable[[str], Producer],
        closing_s: float,
    ) -> None:
        super().__init__(options.name, closing_s)
        self._client = client
        self._table = table
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._spread = Spread(table)
        self._outlet = Outlet(table)
        self._state = SuperStreamState(
            super_stream=table.super_stream,
            refresh_s=options.refresh_s,
            routes=table.routes,
            on_looked=self._told_of_look,
            outlet=self._outlet,
        )
        self._router: m.Ref | None = None
        self._producers = PartitionProducers(make, client._begin, self._partition_gone)
        self._wanted: tuple[str, ...] = ()
        self._following: asyncio.Task[None] | None = None
        self._renewed_at: dict[str, float] = {}

    @property
    def super_stream(self) -> str:
        """The super stream's name."""
        return self._table.super_stream

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions that messages are spread over, in the broker's order."""
        return self._table.partitions

    @property
    def unsettled(self) -> int:
        """Messages accepted that have no outcome yet."""
        return self._producers.counts.unsettled

    @property
    def confirmed(self) -> int:
        """Messages confirmed so far."""
        return self._producers.counts.confirmed

    @property
    def failed(self) -> int:
        """Messages that ended refused or unconfirmed so far."""
        return self._producers.counts.failed

    @property
    def accepted_bytes(self) -> int:
        """See `BaseProducer`."""
        return self._producers.counts.accepted_bytes

    @property
    def confirmed_bytes(self) -> int:
        """See `BaseProducer`."""
        return self._producers.counts.confirmed_bytes

    @property
    def ref(self) -> m.Ref:
        """The router, which takes `Publish` too; valid across restarts, dead once the producer is closed."""
        if self._router is None:
            raise Closed(f"the producer of super stream {self.super_stream!r} was never started")
        return self._router

    # Sending ------------------------------------------------------------------------------------------------------

    async def send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt:
        """Queue one message for its partitions, and return its receipt as soon as it is accepted; see `Producer.send`.

        Of several partitions, all accept the message or none does, under the same publishing id; the receipt is settled
        when all have its outcome.

        Raises:
            NoRoute: the routing found no partition; nothing was queued.
            PartitionsChanged: they have, and `on_partitions_changed` says to raise that; nothing was queued.
            ConnectionLost, RequestTimeout: no broker could say where its key goes; nothing was queued.
            Closed: the producer is closed, or its partition is gone; the error that ended it is chained.
            and whatever `Producer.send` and the routing raise.
        """
        self._since_yield += 1
        if self._since_yield >= self._yield_every:
            await self._let_others_work(0)
        if self._closed is not None:
            self._check()
        placed = self._spread.place(message, publishing_id, filter_value, in_turn=True)
        if isinstance(placed, Receipt):
            return placed
        if isinstance(placed, Unplaced):
            (producer,) = self._producers.of((placed.intake.stream,))
            return await producer._offer_when_room(placed.receipt)
        producers = self._producers.of(await self._ask(placed) if isinstance(placed, Ask) else placed)
        if len(producers) == 1:
            return await producers[0].send(message, publishing_id=publishing_id, filter_value=filter_value)
        await self._let_others_work(len(producers))
        return await offer_when_room(_parts(producers, message, publishing_id, filter_value))

    def try_send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt | None:
        """Queue one message if its partitions have room at this moment, from any thread; None when one has none.

        None, too, for a key whose route the broker has to be asked for first, which is done then: `send` waits for it.

        Raises:
            as `send`.
        """
        self._check()
        placed = self._spread.place(message, publishing_id, filter_value, in_turn=False)
        if isinstance(placed, Receipt):
            return placed
        if isinstance(placed, Unplaced):
            return None
        if isinstance(placed, Ask):
            tell(self._router, m.Route(placed.key))
            return None
        return offer(_parts(self._producers.of(placed), message, publishing_id, filter_value))

    async def send_batch(self, messages: Iterable[Body]) -> BatchReceipt:
        """Queue many messages, and return one receipt for all of them as soon as they are accepted.

        All are encoded and routed before the first is queued, so that a bad one leaves nothing behind. The partitions
        take their messages side by side: one without room holds up its own ones only. When it is cancelled, or raises
        `OutboxFull`, while waiting for room, those that were queued before go on.

        Raises:
            as `send`.
        """
        found = await self._sorted(messages)
        producers = self._producers.of(found.parts)
        loads = [one._intake.load(part) for one, (_, part) in zip(producers, found.parts.values(), strict=True)]
        await self._let_others_work(found.count)
        await offer_loads(list(zip(producers, loads, strict=True)))
        places = [places for places, _ in found.parts.values()]
        return RoutedBatchReceipt(found.count, [(where, load.runs) for where, load in zip(places, loads, strict=True)])

    async def send_sub_entry(
        self,
        messages: Iterable[Body],
        *,
        compression: Compression | str | None = None,
        publishing_id: int | None = None,
    ) -> Receipt:
        """Queue messages as one sub-entry in each partition that some of them go to; see `Producer.send_sub_entry`.

        All partitions accept theirs or none does, under the same publishing id; the receipt is settled when all have
        the outcome.

        Raises:
            as `send`, and `Producer.send_sub_entry`.
        """
        found = await self._sorted(messages)
        require(found.count > 0, "a sub-entry holds one message at least")
        await self._let_others_work(found.count)
        parts = [
            (producer, producer._encode_sub_entry(part, compression, publishing_id))
            for producer, (_, part) in zip(self._producers.of(found.parts), found.parts.values(), strict=True)
        ]
        return await offer_when_room(parts, found.count)

    async def _sorted(self, messages: Iterable[Body]) -> Sorted:
        """The messages by their partitions."""
        found, left = Sorted(), several(messages)
        self._check()
        while (unknown := self._spread.sort(left, found)) is not None:
            message, wanted = unknown
            found.add(message, await self._ask(wanted))
        return found

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every message accepted so far has its outcome; what is sent meanwhile is not waited for.

        Raises:
            TimeoutError: not within so many seconds; the messages go on.
        """
        await all_of(producer.flush(timeout) for producer in self._producers.all)

    async def last_publishing_id(self) -> int:
        """The publishing id after which to go on with ids of one's own, after a restart; 0 for the beginning.

        It is the lowest of `last_publishing_ids`: whatever has an id up to this one is stored, wherever it was routed.
        What is sent again above it and was stored already is a duplicate in its partition, and dropped. (The highest
        one would skip what was on its way to a partition that had got less far.) That holds if ids were given in rising
        order over all partitions, and a message is routed as it was the first time.

        Raises:
            InvalidArgument: the producer has no name.
        """
        return min((await self.last_publishing_ids()).values())

    async def last_publishing_ids(self) -> dict[str, int]:
        """For each partition the highest publishing id that it holds under this producer's name; 0 when there is none.

        Raises:
            InvalidArgument: the producer has no name.
        """
        partitions = self.partitions
        ids = await all_of(producer.last_publishing_id() for producer in self._producers.of(partitions))
        return dict(zip(partitions, ids, strict=True))

    # Routing ------------------------------------------------------------------------------------------------------

    async def _ask(self, wanted: Ask) -> tuple[str, ...]:
        """The partitions for a key that was not known."""
        route = await call(self.ref, m.Route(wanted.key))
        self._check()
        return self._table.accept(wanted.key, route)

    def _check(self) -> None:
        if self._closed is not None:
            raise Closed(f"the producer of super stream {self.super_stream!r} is closed") from self._closed
        self._table.check()

    # Partitions ---------------------------------------------------------------------------------------------------

    async def _start(self, tree: Tree, child: str, gone: Gone) -> None:
        """Start the router, then a producer for each partition, until the first one is attached."""
        self._router = await tree.start_router(child, self._state, gone)
        await self._state.ready
        partitions = self._state.partitions
        await self._use(partitions)
        if self._state.partitions != partitions:  # already
            self._on_look(self._state.partitions)
        await self._producers.attached(asyncio.FIRST_COMPLETED)

    async def _rest_attached(self, deadline: float | None) -> None:
        """Wait for all partitions, but not for ever: one without a leader must not hold up the others (F44)."""
        seconds = None if deadline is None else max(deadline - self._loop.time(), 0.0)
        await self._producers.attached(asyncio.FIRST_EXCEPTION, seconds)

    async def _use(self, partitions: tuple[str, ...]) -> None:
        """Spread messages over these partitions from now on."""
        await self._producers.have(partitions)
        self._outlet.publishers = self._producers.refs
        self._spread.use(self._producers.intakes, partitions)

    def _partition_gone(self) -> None:
        """A partition's producer ended for good (on the tree's loop): perhaps the partition was removed."""
        tell(self._router, m.RefreshPartitions())

    def _told_of_look(self, partitions: tuple[str, ...]) -> None:
        """The router has looked (on the tree's loop)."""
        with contextlib.suppress(RuntimeError):  # the user's loop is closed
            self._loop.call_soon_threadsafe(self._on_look, partitions)

    def _on_look(self, partitions: tuple[str, ...]) -> None:
        known = self._table.partitions
        if not known or self._table.refusal is not None:
            return  # it is still starting, and looks at the end of that; or it publishes nothing any more
        if self._options.on_partitions_changed is OnPartitionsChanged.RAISE and partitions != known:
            self._table.refusal = PartitionsChanged(
                self.super_stream,
                tuple(name for name in partitions if name not in known),
                tuple(name for name in known if name not in partitions),
            )
        elif self._options.on_partitions_changed is OnPartitionsChanged.FOLLOW:
            self._wanted = partitions
            if self._following is None or self._following.done():
                self._following = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        """Use the newest partitions; what cannot be followed is raised by the next `send`."""
        while self._is_open and (self._wanted != self._table.partitions or self._renewable()):
            self._renewed_at = {name: at for name, at in self._renewed_at.items() if name in self._wanted}
            self._renewed_at |= dict.fromkeys(self._producers.ended(self._wanted), self._loop.time())
            try:
                await self._use(self._wanted)
                await self._producers.close_all_but(self._table.partitions)
            except ActorStreamError as error:
                self._table.refusal = error
                return

    def _renewable(self) -> set[str]:
        """Partitions that are there although their producers have ended: deleted and made anew between two looks.

        One that ends again, since it may not be written to perhaps, has its next chance after the time of a look.
        """
        due = self._loop.time() - self._options.refresh_s
        return {name for name in self._producers.ended(self._wanted) if self._renewed_at.get(name, due) <= due}

    # End ----------------------------------------------------------------------------------------------------------

    async def _close(self, timeout: float) -> None:
        try:
            if self._closed is None:
                self._closed = Closed(f"the producer of super stream {self.super_stream!r} was closed")
            if self._following is not None:
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)
            await self._producers.close(timeout)
        finally:
            try:
                with contextlib.suppress(Closed):  # the whole tree is gone, and the router with it
                    await self._client._stop_child(self)
            finally:
                self._client._forget(self)

    def _gone(self, reason: BaseException | None) -> None:
        """The router ended for good (called on the tree's loop): the super stream was deleted, or all is lost."""
        if self._closed is None:
            self._closed = reason if isinstance(reason, ActorStreamError) else Closed(f"the router ended: {reason!r}")

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return (
            f"<SuperStreamProducer of {self.super_stream!r}: {state}, {len(self.partitions)} partitions, "
            f"{self.confirmed} confirmed, {self.unsettled} unsettled>"
        )


def _parts(producers: list[Producer], message: Body, publishing_id: int | None, filter_value: str | None) -> Parts:
    """One message, encoded for each of several partitions."""
    return [(one, one._intake.encode(message, publishing_id, filter_value)) for one in producers]
