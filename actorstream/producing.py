"""How producers are made: what is checked first, and which actors are started for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Unpack

from actorstream.actors.grouping import Grouping
from actorstream.actors.outbox import Outbox
from actorstream.actors.receipt import Receipt
from actorstream.actors.routing_table import RoutingTable
from actorstream.errors import InvalidArgument, PublisherFenced
from actorstream.handles import HandleFactory, on_gone
from actorstream.options import (
    ProducerKeywords,
    ProducerOptions,
    SuperStreamProducerKeywords,
    SuperStreamProducerOptions,
    check_name,
)
from actorstream.options.checks import require
from actorstream.producer import Producer, confirm_dispatcher
from actorstream.routing import KeyRouting, Routing, check_routing
from actorstream.super_stream_producer import SuperStreamProducer

OnConfirm = Callable[[Receipt], Awaitable[None] | None]


class ProducerFactory(HandleFactory):
    """What `Client` offers to those who publish."""

    async def producer(
        self,
        stream: str,
        *,
        name: str = "",
        on_confirm: OnConfirm | None = None,
        start_timeout_s: float = 30.0,
        **options: Unpack[ProducerKeywords],
    ) -> Producer:
        """A producer for a stream, once it is declared on the stream's leader. Use it with `async with`, or close it.

        Args:
            stream: an existing stream.
            name: the reference for deduplication; one open producer of a stream may have it.
            on_confirm: called with each receipt that is settled, on the caller's loop; may be `async`.
            start_timeout_s: how long the start may take, waiting for a leader included.
            **options: each is described in `ProducerOptions`.

        Raises:
            InvalidArgument: an option that is none, or a name that an open producer of this stream has; one that is
                being closed is waited for.
            StreamDoesNotExist, AccessRefused, …: what the broker says.
            UnsupportedByBroker: there is a function for filter values, and the broker does not know them.
            CompressionError: the codec for sub-entries is not installed.
            RequestTimeout: not started in time.
        """
        producer = self._new_producer(stream, ProducerOptions(name=name, **options), on_confirm)
        child = self._name(stream)
        async with self._starting(producer, child, f"the start of a producer of {stream!r}", start_timeout_s):
            await self._launch(producer)
            await producer._attached()  # noqa: SLF001 - a handle and its client are one thing in two classes
        return producer

    async def super_stream_producer(
        self,
        super_stream: str,
        *,
        routing: Routing | KeyRouting,
        name: str = "",
        on_confirm: OnConfirm | None = None,
        start_timeout_s: float = 30.0,
        **options: Unpack[SuperStreamProducerKeywords],
    ) -> SuperStreamProducer:
        """A producer for a super stream, once its partitions can be published to. Use it with `async with`.

        Args:
            super_stream: an existing super stream.
            routing: which partitions a message goes to: `HashRouting`, `KeyRouting`, or a callable.
            name: the reference for deduplication in each partition; one open producer of them may have it.
            on_confirm: called with each receipt that is settled, of each partition; see `producer`.
            start_timeout_s: how long the start may take. Partitions that have no leader until then keep on being
                waited for, while the others are published to; when there is none of these, that is raised.
            **options: each is described in `SuperStreamProducerOptions`, and in `ProducerOptions` for each partition.

        Raises:
            InvalidArgument: an option that is none, a fallback that is no partition, or a name that an open producer
                of one of the partitions has.
            StreamDoesNotExist, AccessRefused, …: what the broker says.
            RequestTimeout: no partition could be published to in time.
        """
        check_name("a super stream's name", super_stream)
        check_routing(routing)
        chosen = SuperStreamProducerOptions(name=name, **options)
        tree = self._grown
        producer = SuperStreamProducer(
            self._client,
            RoutingTable(super_stream, routing),
            chosen,
            lambda partition: self._new_producer(partition, chosen, on_confirm),
            self._close_timeout_s,
        )

        def gone(reason: BaseException | None) -> None:
            on_gone(producer, producer._state.ready, reason)  # noqa: SLF001 - likewise

        child = self._name(super_stream)
        what = f"the start of a producer of super stream {super_stream!r}"
        async with self._starting(producer, child, what, start_timeout_s) as limit:
            await producer._start(tree, child, gone)  # noqa: SLF001 - likewise
            deadline = limit.when()
            limit.reschedule(None)
            await producer._rest_attached(deadline)  # noqa: SLF001 - likewise
        return producer

    def _new_producer(
        self,
        stream: str,
        options: ProducerOptions,
        on_confirm: OnConfirm | None,
    ) -> Producer:
        """A producer that has no actor yet."""
        check_name("a stream's name", stream)
        if any(one._is_open for one in self._namesakes(options.name, stream)):  # noqa: SLF001 - likewise
            raise InvalidArgument(
                f"this client has a producer named {options.name!r} of {stream!r} already: of two with one name, the "
                "broker would take the messages of one for duplicates of the other's"
            )
        require(
            on_confirm is None or callable(on_confirm),
            f"on_confirm is a function that takes a receipt, not {on_confirm!r}",
        )
        outbox = Outbox(
            named=bool(options.name),
            max_messages=options.max_unconfirmed,
            max_bytes=options.max_unconfirmed_bytes,
            when_away=options.when_away,
            grouping=Grouping(options.sub_entry_size, options.codec) if options.sub_entry_size > 1 else None,
            on_settled=confirm_dispatcher(asyncio.get_running_loop(), on_confirm) if on_confirm else None,
        )
        return Producer(self._client, stream, options, outbox, self._close_timeout_s)

    async def _begin(self, producer: Producer) -> None:
        """Start the producer of a partition; known before it starts, so that whoever closes the client finds it."""
        self._handles[producer] = self._name(producer.stream)
        await self._launch(producer)

    async def _launch(self, producer: Producer) -> None:
        """Start its actor, which is attached later on."""
        for one in self._namesakes(producer.name, producer.stream):
            if one is not producer:
                with contextlib.suppress(PublisherFenced):  # told to whoever closes that one
                    await one.close()  # one that waits for confirms would use the ids that this one counts on from
        await producer._start(self._grown, self._handles[producer])  # noqa: SLF001 - likewise

    def _namesakes(self, name: str, stream: str) -> list[Producer]:
        if not name:
            return []
        producers = [one for one in self._handles if isinstance(one, Producer)]
        return [one for one in producers if (one.name, one.stream) == (name, stream)]
