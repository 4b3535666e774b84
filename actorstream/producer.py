"""What a user publishes with. The work is done by a `Publisher` actor; this handle encodes, and keeps within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from actorstream.actors import messages as m
from actorstream.actors.batch import BatchReceipt
from actorstream.actors.calls import call
from actorstream.actors.encoding import Body, Encoder
from actorstream.actors.future import LoopFuture
from actorstream.actors.intake import Intake, Load
from actorstream.actors.outbox import Outbox
from actorstream.actors.receipt import Receipt
from actorstream.actors.tree import Tree
from actorstream.base_producer import YIELD_EVERY, BaseProducer
from actorstream.compression import Compression, parse as parse_compression
from actorstream.errors import ActorStreamError, Closed, InvalidArgument, Unconfirmed
from actorstream.handles import on_gone
from actorstream.options import ProducerOptions
from actorstream.waiting import until, when_room

if TYPE_CHECKING:
    from actorstream.client import Client

FENCE_CHECK_S = 1.0
"""How long `close` may wait for the broker's word on whether somebody else has used the producer's name."""


class Producer(BaseProducer):
    """Publishes to one stream; made by `Client.producer`. Safe for any number of tasks on the loop that made it.

    Order: messages reach the stream in the order in which `send` accepted them, also over lost connections.
    Every message has exactly one outcome, told by its `Receipt`: confirmed, refused with a code, or unconfirmed.
    """

    def __init__(self, client: Client, stream: str, options: ProducerOptions, outbox: Outbox, closing_s: float) -> None:
        super().__init__(options.name, closing_s)
        self._client = client
        self._stream = stream
        self._options = options
        self._outbox = outbox
        self._encoder = Encoder(options)
        now = _clock_of(asyncio.get_running_loop())
        self._intake = Intake(stream, outbox, self._encoder, options.confirm_timeout_s, now)
        self._ref: m.Ref | None = None
        self._ready: LoopFuture[None] = LoopFuture()
        self._on_gone: Callable[[], None] | None = None

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._stream

    @property
    def unsettled(self) -> int:
        """Messages accepted that have no outcome yet."""
        return self._outbox.undecided

    @property
    def confirmed(self) -> int:
        """Messages confirmed so far."""
        return self._outbox.confirmed

    @property
    def failed(self) -> int:
        """Messages that ended refused or unconfirmed so far."""
        return self._outbox.failed

    @property
    def accepted_bytes(self) -> int:
        """See `BaseProducer`."""
        return self._outbox.room.accepted_bytes

    @property
    def confirmed_bytes(self) -> int:
        """See `BaseProducer`."""
        return self._outbox.confirmed_bytes

    @property
    def ref(self) -> m.Ref:
        """The actor behind this producer; valid across restarts, dead once the producer is closed."""
        if self._ref is None:
            raise Closed(f"the producer of {self._stream!r} was never started")
        return self._ref

    async def send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt:
        """Queue one message, and return its receipt as soon as it is accepted.

        Waits while `max_unconfirmed` messages (or bytes) have no outcome. Await the receipt to learn the outcome.
        Cancelling a `send` that waits means that the message was not accepted.

        Args:
            message: bytes, text, or a `Message`.
            publishing_id: for deduplication by the caller's own numbers: above all earlier ones of this producer's
                name. A producer takes all its ids from the caller, or none.
            filter_value: what consumers may filter the stream by; instead of the one that the producer's option
                `filter_value` would find. Needs RabbitMQ 3.13.

        Raises:
            InvalidArgument: it cannot be encoded, or the id or the filter value does not fit; nothing was queued.
            MessageTooLarge: it does not fit a frame; nothing was queued.
            OutboxFull: no room within `send_timeout_s`; nothing was queued.
            BrokerAway: there is no connection, and the option `when_away` says to fail then; nothing was queued.
            UnsupportedByBroker: it does not know filter values; nothing was queued.
            Closed: the producer is closed; the error that ended it is chained.
        """
        self._since_yield += 1
        if self._since_yield >= YIELD_EVERY:
            await self._let_others_work(0)
        placed = self._intake.place(message, publishing_id, filter_value, in_turn=True)
        return placed if isinstance(placed, Receipt) else await self._offer_when_room(placed.receipt)

    async def send_wait(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> None:
        """See `BaseProducer`. Where nothing else is under way, the message is sent before the loop turns."""
        await self._let_others_work()
        placed = self._intake.place(message, publishing_id, filter_value, in_turn=True, awaited=True)
        await (placed if isinstance(placed, Receipt) else await self._offer_when_room(placed.receipt))

    def try_send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt | None:
        """Queue one message if there is room at this moment, from any thread; None when there is none.

        Raises:
            InvalidArgument, MessageTooLarge, BrokerAway, UnsupportedByBroker, Closed: as `send`.
        """
        placed = self._intake.place(message, publishing_id, filter_value, in_turn=False)
        return placed if isinstance(placed, Receipt) else None

    async def send_batch(self, messages: Iterable[Body]) -> BatchReceipt:
        """Queue many messages, and return one receipt for all of them as soon as they are accepted.

        All are encoded before the first is queued, so that a bad one leaves nothing behind. As many as there is room
        for are accepted in one step. When it is cancelled, or raises `OutboxFull`, while waiting for room for the
        others, those that were queued before go on.

        Raises:
            InvalidArgument, MessageTooLarge: one cannot be sent; nothing was queued.
            OutboxFull, BrokerAway, Closed: as for `send`.
        """
        load = self._intake.load(messages)
        await self._offer_all(load)
        return BatchReceipt(load.runs)

    async def send_sub_entry(
        self,
        messages: Iterable[Body],
        *,
        compression: Compression | str | None = None,
        publishing_id: int | None = None,
    ) -> Receipt:
        """Queue many messages as one sub-entry: they share a publishing id, a confirm, and an outcome.

        They are stored together, or dropped together as a duplicate. Compression is done here and now, and takes its
        time on the caller's loop: some 20 ms for a megabyte with gzip, far less with lz4.

        Args:
            messages: 1 to 65,535 of them, of 64 MiB at most; they have no filter values.
            compression: "none", "gzip", "snappy", "lz4", "zstd"; by default the producer's option `compression`.
            publishing_id: as for `send`, for all of them.

        Raises:
            InvalidArgument: one cannot be encoded, there are none or too many, or the producer filters.
            CompressionError: the codec is not installed.
            MessageTooLarge: the sub-entry does not fit a frame; nothing was queued.
            OutboxFull, BrokerAway, Closed: as for `send`.
        """
        receipt = self._encode_sub_entry(messages, compression, publishing_id)
        await self._let_others_work(receipt.messages)
        if not self._outbox.room.others_first and self._offer(receipt):
            return receipt
        return await self._offer_when_room(receipt)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every message accepted so far has its outcome; what is sent meanwhile is not waited for.

        Raises:
            TimeoutError: not within so many seconds; the messages go on.
        """
        outbox = self._outbox
        accepted = outbox.room.accepted
        async with asyncio.timeout(timeout):
            for lot in reversed(outbox.without_outcome()):  # the last one first: few are left to wait for then
                await lot.outcome()
            await until(
                self._outbox, lambda: outbox.room.accepted - outbox.undecided >= accepted
            )  # they are counted, too

    async def last_publishing_id(self) -> int:
        """The highest publishing id that the broker holds under this producer's name; 0 when there is none.

        Raises:
            InvalidArgument: the producer has no name.
        """
        if not self._options.name:
            raise InvalidArgument("only a producer with a name has a publishing sequence on the broker")
        return await self._client.publishing_sequence(self._options.name, self._stream)

    async def _close(self, timeout: float) -> None:
        try:
            if self._closed is None:
                self._end_with(Closed(f"the producer of {self._stream!r} was closed"))
                self._outbox.room.wake_all()
                await self._drain(timeout)
        finally:
            try:
                with contextlib.suppress(Closed):  # the whole tree is gone, and the actor with it
                    await self._client._stop_child(self)  # noqa: SLF001 - a handle and its client are one thing
            finally:
                self._outbox.end(_closed_before_the_confirm)
                self._client._forget(self)  # noqa: SLF001

    async def _drain(self, timeout: float) -> None:
        """Wait for outcomes; those that do not come in time, `_close` gives."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await until(self._outbox, lambda: not self._outbox.undecided)
            if self.name and self._outbox.confirmed and self._ref is not None:
                async with asyncio.timeout(min(timeout, FENCE_CHECK_S)):
                    with contextlib.suppress(Closed):
                        await call(self._ref, m.CheckFence(), dead=Closed)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Producer of {self._stream!r}: {state}, {self.confirmed} confirmed, {self.unsettled} unsettled>"

    # Inside -------------------------------------------------------------------------------------------------------

    async def _start(self, tree: Tree, child: str) -> None:
        """Start the actor."""
        self._ref = await tree.start_publisher(
            child,
            self._stream,
            self._options,
            self._outbox,
            self._ready,
            self._actor_gone,
        )
        self._intake.ref = self._ref

    def _actor_gone(self, reason: BaseException | None) -> None:
        on_gone(self, self._ready, reason)

    async def _attached(self) -> None:
        """Wait until the actor has been attached for the first time; raises why it never will be."""
        await self._ready

    def _encode_sub_entry(
        self, messages: Iterable[Body], compression: Compression | str | None, publishing_id: int | None
    ) -> Receipt:
        codec = self._options.codec if compression is None else parse_compression(compression)
        wire, count = self._encoder.encode_sub_entry(messages, codec)
        self._outbox.check_size(len(wire))
        return Receipt(wire, publishing_id, messages=count)

    def _offer(self, receipt: Receipt) -> bool:
        """Have it accepted, if there is room."""
        return self._intake.offer(receipt)

    def _would_take(self, receipt: Receipt) -> bool:
        """Whether `_offer` would have it accepted at this moment; raises what that would raise."""
        return self._intake.would_take(receipt)

    async def _until_room(self, receipt: Receipt) -> None:
        """Wait in turn until there is room, and leave it to whoever comes first."""
        self._intake.check_open()
        outbox = self._outbox
        await when_room(outbox, receipt.messages, receipt.size, lambda: True, self._options.send_timeout_s)
        outbox.room.wake()

    async def _offer_when_room(self, receipt: Receipt) -> Receipt:
        timeout = self._options.send_timeout_s
        await when_room(self._outbox, receipt.messages, receipt.size, lambda: self._offer(receipt), timeout)
        return receipt

    async def _offer_all(self, load: Load) -> None:
        """Have all of it accepted that is not yet: at once what there is room for, the rest as room comes up."""
        while load.left:
            await self._let_others_work(YIELD_EVERY if load.runs else load.left)
            if not load.offer_in_turn():
                await when_room(self._outbox, 1, load.next_size, load.offer, self._options.send_timeout_s)

    def _end_with(self, reason: ActorStreamError) -> None:
        """Accept nothing any more."""
        self._closed = self._intake.closed = reason

    def _gone(self, reason: BaseException | None) -> None:
        """The actor ended for good (called on the tree's loop)."""
        if self._on_gone is not None:
            self._on_gone()
        if self._closed is None:
            self._end_with(
                reason if isinstance(reason, ActorStreamError) else Closed(f"the publisher ended: {reason!r}")
            )
        if reason is None:
            self._outbox.end(_closed_before_the_confirm)
        else:
            self._outbox.end(lambda: Unconfirmed(f"the producer ended ({reason}): the message may be stored"))


def _closed_before_the_confirm() -> Unconfirmed:
    return Unconfirmed("the producer was closed before the confirm: the message may be stored")


def _clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The seconds by which a loop keeps deadlines; asyncio's own passes `time.monotonic` on, in a frame of Python."""
    return time.monotonic if getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time else loop.time


def confirm_dispatcher(
    loop: asyncio.AbstractEventLoop,
    on_confirm: Callable[[Receipt], Awaitable[None] | None],
) -> Callable[[list[Receipt]], None]:
    """A callback's way from the tree's loop to the loop of its user, once per batch."""
    tasks: set[asyncio.Future[Any]] = set()

    def run(receipts: list[Receipt]) -> None:
        for receipt in receipts:
            try:
                result = on_confirm(receipt)
            except Exception as error:  # noqa: BLE001 - the user's; it must not stop the confirms of others
                complain(error)
                continue
            if inspect.isawaitable(result):
                task = asyncio.ensure_future(result)
                tasks.add(task)
                task.add_done_callback(done)

    def done(task: asyncio.Future[Any]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            complain(error)

    def complain(error: BaseException) -> None:
        loop.call_exception_handler({"message": "an on_confirm callback raised", "exception": error})

    def dispatch(receipts: list[Receipt]) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody is left to be called (F91)
            loop.call_soon_threadsafe(run, receipts)

    return dispatch
