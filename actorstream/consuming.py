"""How consumers are made: what is checked first, where they begin and end, and which actors are started for them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Unpack

from actorstream import offset as offset_module
from actorstream.actors.coordinator import Member
from actorstream.actors.cursor import Cursor
from actorstream.actors.future import Channel, LoopFuture
from actorstream.actors.membership import Membership
from actorstream.actors.subscriber_state import EMPTY, SubscriberState
from actorstream.actors.tracker import TrackerState
from actorstream.backoff import Backoff
from actorstream.consumer import Consumer
from actorstream.errors import ActorStreamError, InvalidArgument, NoOffset, RequestTimeout, response_error
from actorstream.groups import Group, OnActivation
from actorstream.handles import HandleFactory, on_gone
from actorstream.offset import OffsetLike, OffsetSpecification, OffsetType
from actorstream.options import (
    ConsumerKeywords,
    ConsumerOptions,
    OffsetStore,
    SuperStreamConsumerKeywords,
    SuperStreamConsumerOptions,
    check_name,
)
from actorstream.serving import ConsumerService, OnLoop
from actorstream.super_stream_consumer import SuperStreamConsumer
from actorstream.tracking import Tracking, UserStore
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode


@dataclass(frozen=True, slots=True)
class _Plan:
    """A consumer, and what its actors are started with."""

    consumer: Consumer
    options: ConsumerOptions
    state: SubscriberState
    tracked: TrackerState | None
    tracking: Tracking | None
    store: UserStore | None
    group: Group | None
    membership: Membership | None

    def gone(self, reason: BaseException | None) -> None:
        """One of its actors ended for good."""
        on_gone(self.consumer, self.state.ready, reason)


class ConsumerFactory(HandleFactory):
    """What `Client` offers to those who read."""

    async def consumer(
        self,
        stream: str,
        offset: OffsetLike = "next",
        *,
        name: str = "",
        until: int | str | None = None,
        offset_store: OffsetStore | None = None,
        on_activation: OnActivation | None = None,
        start_timeout_s: float = 30.0,
        **options: Unpack[ConsumerKeywords],
    ) -> Consumer:
        """A consumer of a stream, once it is subscribed. Use it with `async with`, or close it.

        Args:
            stream: an existing stream.
            offset: where to begin: "first", "last", "next", an offset, an aware datetime, or an `OffsetSpecification`.
            name: goes on after the offset that is stored under this name, and begins at `offset` only if there is none;
                what is completed is stored as `tracking` says, and once more when the consumer is closed.
            until: the last offset to deliver, or "end" for what the stream holds now; None never ends.
            offset_store: where the offset is stored, if not on the broker.
            on_activation: with `single_active`, called with an `Activation` each time that the consumer becomes the
                active one of its group, on the caller's loop, within `hand_over_timeout_s`; plain or `async`. It may
                return where to begin. What it raises is raised by the iteration, as the cause of `ActivationFailed`.
            start_timeout_s: how long the start may take, waiting for a member and for the stored offset included.
            **options: each is described in `ConsumerOptions`.

        Raises:
            InvalidArgument: an offset or an option that is none, or a name that an open consumer of this stream has;
                one that is being closed is waited for.
            StreamDoesNotExist, AccessRefused, …: what the broker says.
            OffsetStoreFailed: the offset store raised.
            UnsupportedByBroker: single active consumers, before RabbitMQ 3.11.
            RequestTimeout: not started in time.
        """
        chosen = ConsumerOptions(name=name, **options)
        last = _last_offset(until)
        _check_together(chosen, until, on_activation)
        group = self._group(chosen, "", on_activation)
        plan = self._plan(stream, offset, chosen, offset_store, group, last=last, is_bounded=until is not None)
        namesakes = self._consumers_named(name, stream, single_active=chosen.single_active)
        child = self._name(stream)
        async with self._starting(plan.consumer, child, f"the start of a consumer of {stream!r}", start_timeout_s):
            for one in namesakes:
                await one.close()  # it may still have an offset to store, after which this one goes on
            if group is not None:
                await group.start(self._grown, child, plan.gone)
            await self._carry_out(plan, child, to_the_end=until == "end")
            await plan.state.ready
        return plan.consumer

    @staticmethod
    def _group(options: ConsumerOptions, super_stream: str, on_activation: OnActivation | None) -> Group | None:
        if not options.single_active:
            return None
        return Group(options.name, super_stream, options.hand_over_timeout_s, on_activation)

    def _plan(
        self,
        stream: str,
        offset: OffsetLike,
        options: ConsumerOptions,
        offset_store: OffsetStore | None,
        group: Group | None,
        *,
        last: int | None = None,
        is_bounded: bool = False,
    ) -> _Plan:
        """A consumer without actors, and what is going to start them."""
        check_name("a stream's name", stream)
        specification = offset_module.parse(offset)
        if offset_store is not None and not options.name:
            raise InvalidArgument("an offset store keeps offsets under a consumer's name: give one with name=...")
        if offset_store is not None and not isinstance(offset_store, OffsetStore):
            raise InvalidArgument(
                f"offset_store has the methods of an OffsetStore, load and store, not {offset_store!r}"
            )
        membership = None if group is None else group.membership(stream)
        cursor = Cursor(specification, None if membership is None else membership.gate)
        state = SubscriberState(cursor, Channel(), LoopFuture(), bounded=is_bounded)
        tracked, tracking = None, None
        if options.name:
            tracked = TrackerState(options.name, stream, specification, cursor, options.tracking, membership=membership)
            tracking = Tracking(tracked, self._close_timeout_s)
        store = None
        if offset_store is not None:
            loop, within_s = asyncio.get_running_loop(), self._options.rpc_timeout_s
            store = UserStore(offset_store, options.name, stream, loop, within_s)
        consumer = Consumer(self._client, stream, options, state, until=last, tracking=tracking)
        state.carry_out = OnLoop(ConsumerService(consumer))
        return _Plan(consumer, options, state, tracked, tracking, store, group, membership)

    async def _carry_out(self, plan: _Plan, child: str, *, to_the_end: bool = False) -> None:
        """Start the actors of a consumer; the state's `ready` tells when it is subscribed."""
        tree, consumer, cursor = self._grown, plan.consumer, plan.state.cursor
        seat = None
        if plan.tracking is not None and plan.tracked is not None:
            tracker = plan.tracking.ref = await tree.start_tracker(child, plan.tracked, plan.store, plan.gone)
            if plan.group is not None and plan.membership is not None:
                # Where it begins is found out each time that it becomes the active one.
                seat = plan.membership, await plan.group.join(Member(plan.membership, plan.tracked, tracker))
            else:
                consumer._begin_at(await plan.tracking.starting_offset())  # noqa: SLF001 - a class and its factory
                plan.tracked.progress = cursor.progress
        if to_the_end:
            consumer._end_at(await self._end_of(consumer.stream, cursor.specification))  # noqa: SLF001
        consumer._ref = await tree.start_subscriber(  # noqa: SLF001
            child, consumer.stream, plan.options, plan.state, plan.gone, seat
        )

    def _consumers_named(self, name: str, stream: str, *, single_active: bool) -> list[Consumer]:
        """The consumers of a stream that have this name, all of them on their way out; unless they may share it."""
        if not name:
            return []
        consumers = [one for one in self._handles if isinstance(one, Consumer)]
        namesakes = [one for one in consumers if (one.name, one.stream) == (name, stream)]
        if single_active and all(one.single_active for one in namesakes):
            return []
        if any(one._is_open for one in namesakes):  # noqa: SLF001
            raise InvalidArgument(
                f"this client has a consumer named {name!r} of {stream!r} already: of two with one name, both would "
                "get all messages, and whoever goes on later would begin where either of them was, missing what the "
                "other one had not done"
            )
        return namesakes

    async def super_stream_consumer(
        self,
        super_stream: str,
        offset: OffsetLike = "next",
        *,
        name: str = "",
        until: str | None = None,
        offset_store: OffsetStore | None = None,
        on_activation: OnActivation | None = None,
        start_timeout_s: float = 30.0,
        **options: Unpack[SuperStreamConsumerKeywords],
    ) -> SuperStreamConsumer:
        """A consumer of all partitions of a super stream, once they are subscribed. Use it with `async with`.

        Args:
            super_stream: an existing super stream.
            offset: where to begin in each partition, as for `consumer`.
            name: likewise; the offset of each partition is stored under it in that partition.
            until: "end" for what the partitions hold now; None never ends.
            offset_store: where the offsets are stored, if not on the broker.
            on_activation: see `consumer`; with `single_active`, called for each partition that this consumer is given.
            start_timeout_s: how long the start may take. Partitions that have no leader until then keep on being waited
                for, while the others are read; when none can be read, that is raised.
            **options: each is described in `SuperStreamConsumerOptions`; most are for each partition. With
                `single_active`, the consumers that have this name share the partitions.

        Raises:
            as `consumer`.
        """
        check_name("a super stream's name", super_stream)
        chosen = SuperStreamConsumerOptions(name=name, **options)
        _check_together(chosen, until, on_activation)
        if until not in (None, "end"):
            raise InvalidArgument(f'until is "end" or None for a super stream, not {until!r}')
        specification = offset_module.parse(offset)
        keeps = specification.type is OffsetType.TIMESTAMP
        group = self._group(chosen, super_stream, on_activation)

        async def begin(partition: str, is_new: bool) -> Consumer:
            where = offset_module.first() if is_new and not keeps else specification
            plan = self._plan(partition, where, chosen, offset_store, group, is_bounded=until is not None)
            namesakes = self._consumers_named(name, partition, single_active=chosen.single_active)
            return await self._begin_partition(plan, namesakes, to_the_end=until == "end")

        consumer = SuperStreamConsumer(
            self._client, super_stream, chosen, group=group, begin=begin, is_bounded=until is not None
        )

        def gone(reason: BaseException | None) -> None:
            on_gone(consumer, consumer._state.ready, reason)  # noqa: SLF001

        child = self._handles[consumer] = self._name(super_stream)
        try:
            await consumer._start(self._grown, child, gone, start_timeout_s)  # noqa: SLF001
        except BaseException:
            await consumer.close()
            raise
        return consumer

    async def _begin_partition(self, plan: _Plan, namesakes: list[Consumer], *, to_the_end: bool) -> Consumer:
        """The consumer of a partition, subscribed; known before, so that whoever closes the client finds it."""
        consumer = plan.consumer
        child = self._handles[consumer] = self._name(consumer.stream)
        try:
            for one in namesakes:
                await one.close()
            await self._carry_out(plan, child, to_the_end=to_the_end)
            await plan.state.ready
        except BaseException:
            await consumer.close()
            raise
        return consumer

    async def _end_of(self, stream: str, begin: OffsetSpecification) -> int:
        """The id of the last chunk that a read from `begin` to the end has to see; `EMPTY` when there is none.

        Asked of the leader: a replica learns a moment later what is committed, and the read would lack messages that
        were confirmed before it began.
        """
        response = await self._ask_leader(stream, c.StreamStats(stream), f"the statistics of stream {stream!r}")
        assert isinstance(response, c.StreamStatsResponse)
        last = response.stats.get("committed_chunk_id", EMPTY)
        if last != EMPTY and begin.type is OffsetType.TIMESTAMP:
            # A broker takes a moment after its last chunk for "next": that read would wait for what is yet to come.
            async with await self.consumer(stream, last, until=last) as reader:
                if await reader._first_timestamp() < begin.value:  # noqa: SLF001
                    return EMPTY
        return last

    async def resolve_offset(self, stream: str, offset: OffsetLike) -> int | None:
        """Where a consumer would begin, as the stream's leader says (protocol section ResolveOffsetSpec).

        What the broker says is the beginning of a chunk, as for its own deliveries: a time is resolved to the first
        chunk written then or later, an offset to the chunk that holds it.

        Args:
            stream: an existing stream.
            offset: as for `consumer`.

        Returns:
            None when the broker knows no such place. In an empty stream it is 0, and beyond the end that of the next
            message.

        Raises:
            InvalidArgument: an offset that is none.
            UnsupportedByBroker: before RabbitMQ 4.3.
            StreamDoesNotExist, AccessRefused, …: what the broker says.
            RequestTimeout: no answer within `rpc_timeout_s`, waiting for a leader included.
        """
        check_name("a stream's name", stream)
        command = c.ResolveOffsetSpec(stream, offset_module.parse(offset))
        seconds = self._options.rpc_timeout_s
        try:
            async with asyncio.timeout(seconds):
                response = await self._ask_leader(stream, command, f"an offset of stream {stream!r}")
        except NoOffset:
            return None
        except TimeoutError:
            raise RequestTimeout("ResolveOffsetSpec", seconds) from None
        assert isinstance(response, c.ResolveOffsetSpecResponse)
        return response.offset.value

    async def _ask_leader(self, stream: str, command: c.Request, what: str) -> c.Response:
        """The answer of the stream's leader; waits for as long as there is none."""
        tree = self._grown
        pauses = Backoff(self._options.backoff, random.Random())
        while True:
            try:
                response = await tree.ask_leader(stream, command)
                if response.code != ResponseCode.OK:
                    raise response_error(response.code, what)
            except ActorStreamError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(pauses.next_delay())
            else:
                return response


def _last_offset(until: int | str | None) -> int | None:
    if isinstance(until, str) and until != "end":
        raise InvalidArgument(f'until is an offset, "end" or None, not {until!r}')
    return None if until is None or isinstance(until, str) else offset_module.at(until).value


def _check_together(options: ConsumerOptions, until: object, on_activation: OnActivation | None) -> None:
    if until is not None and options.is_filtered_by_broker:
        raise InvalidArgument(
            "the broker leaves out chunks without the filter's values, perhaps the last one, and a read to an end "
            "could wait for it for ever: filter it by Filter(predicate=...) alone"
        )
    if options.single_active and until is not None:
        raise InvalidArgument("a single active consumer goes on until it is closed: it has no `until`")
    if on_activation is not None and not options.single_active:
        raise InvalidArgument("on_activation is of single active consumers: give single_active=True as well")
