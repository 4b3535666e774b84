"""What a user publishes with. The work is done by a `Publisher` actor; this handle encodes, and keeps within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from actorstream.actors import messages as m
from actorstream.actors.calls import tell
from actorstream.actors.future import LoopFuture
from actorstream.actors.outbox import NEVER, Body, Outbox, encode_entry
from actorstream.actors.receipt import BatchReceipt, Receipt
from actorstream.actors.tree import Tree
from actorstream.base_producer import BaseProducer
from actorstream.errors import ActorStreamError, Closed, InvalidArgument, OutboxFull, PublishError, Unconfirmed
from actorstream.options import ProducerOptions

if TYPE_CHECKING:
    from actorstream.client import Client


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
        self._loop = asyncio.get_running_loop()
        self._ref: m.Ref | None = None
        self._ready: LoopFuture[None] = LoopFuture()

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
    def ref(self) -> m.Ref:
        """The actor behind this producer; valid across restarts, dead once the producer is closed."""
        if self._ref is None:
            raise Closed(f"the producer of {self._stream!r} was never started")
        return self._ref

    async def send(self, message: Body, *, publishing_id: int | None = None) -> Receipt:
        """Queue one message, and return its receipt as soon as it is accepted.

        Waits while `max_unconfirmed` messages (or bytes) have no outcome. Await the receipt to learn the outcome.
        Cancelling a `send` that waits means that the message was not accepted.

        Args:
            message: bytes, text, or a `Message`.
            publishing_id: for deduplication by the caller's own numbers: above all earlier ones of this producer's
                name. A producer takes all its ids from the caller, or none.

        Raises:
            InvalidArgument: it cannot be encoded, or the id does not fit; nothing was queued.
            MessageTooLarge: it does not fit a frame; nothing was queued.
            OutboxFull: no room within `send_timeout_s`; nothing was queued.
            Closed: the producer is closed; the error that ended it is chained.
        """
        await self._let_others_work()
        wire = self._encode(message)
        return self._offer(wire, publishing_id) or await self._offer_when_room(wire, publishing_id)

    def try_send(self, message: Body, *, publishing_id: int | None = None) -> Receipt | None:
        """Queue one message if there is room at this moment, from any thread; None when there is none.

        Raises:
            InvalidArgument, MessageTooLarge, Closed: as `send`.
        """
        return self._offer(self._encode(message), publishing_id)

    async def send_batch(self, messages: Iterable[Body]) -> BatchReceipt:
        """Queue many messages, and return one receipt for all of them as soon as they are accepted.

        All are encoded before the first is queued, so that a bad one leaves nothing behind. When it is cancelled, or
        raises `OutboxFull`, while waiting for room, those that were queued before go on.

        Raises:
            InvalidArgument, MessageTooLarge: one cannot be sent; nothing was queued.
            OutboxFull, Closed: as for `send`.
        """
        wires = [self._encode(message) for message in messages]
        return BatchReceipt([self._offer(wire, None) or await self._offer_when_room(wire, None) for wire in wires])

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every message accepted so far has its outcome; what is sent meanwhile is not waited for.

        Raises:
            TimeoutError: not within so many seconds; the messages go on.
        """
        outbox = self._outbox
        accepted = outbox.accepted
        async with asyncio.timeout(timeout):
            for receipt in reversed(outbox.without_outcome()):  # the last one first: few are left to wait for then
                with contextlib.suppress(PublishError, InvalidArgument):
                    await receipt
            await self._until(lambda: outbox.accepted - outbox.undecided >= accepted)  # they are counted, too

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
                self._closed = Closed(f"the producer of {self._stream!r} was closed")
                self._outbox.wake()  # those who wait for room
                await self._drain(timeout)
        finally:
            try:
                with contextlib.suppress(Closed):  # the whole tree is gone, and the actor with it
                    await self._client._stop_child(self)  # noqa: SLF001 - a handle and its client are one thing
            finally:
                self._outbox.end(_closed_before_the_confirm)
                self._client._forget(self)  # noqa: SLF001

    async def _drain(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._until(lambda: not self._outbox.undecided)
        except TimeoutError:
            return  # the rest gets its outcome from `_close`

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Producer of {self._stream!r}: {state}, {self.confirmed} confirmed, {self.unsettled} unsettled>"

    # Inside -------------------------------------------------------------------------------------------------------

    async def _start(
        self,
        tree: Tree,
        child: str,
        gone: Callable[[Producer, LoopFuture[None], BaseException | None], None],
    ) -> None:
        """Start the actor."""
        self._ref = await tree.start_publisher(
            child,
            self._stream,
            self._options,
            self._outbox,
            self._ready,
            lambda reason: gone(self, self._ready, reason),
        )

    def _encode(self, message: Body) -> bytes:
        wire = encode_entry(message, raw=self._options.raw)
        self._outbox.check_size(wire)
        return wire

    def _offer(self, wire: bytes, publishing_id: int | None) -> Receipt | None:
        if self._closed is not None:
            raise Closed(f"the producer of {self._stream!r} is closed") from self._closed
        timeout = self._options.confirm_timeout_s
        deadline = NEVER if timeout is None else self._loop.time() + timeout
        accepted = self._outbox.offer(wire, deadline, publishing_id)
        if accepted is None:
            return None
        receipt, is_first = accepted
        if is_first:
            tell(self._ref, m.Flush())
        return receipt

    async def _offer_when_room(self, wire: bytes, publishing_id: int | None) -> Receipt:
        """Wait for room in turn, again if somebody else was faster."""
        receipt: Receipt | None = None
        again = False
        try:
            async with asyncio.timeout(self._options.send_timeout_s):
                while receipt is None:
                    turn = self._outbox.room(len(wire), again=again)
                    try:
                        await turn
                        receipt = self._offer(wire, publishing_id)
                    except BaseException:
                        self._outbox.leave_room(len(wire), turn)
                        raise
                    again = True
        except TimeoutError:
            raise OutboxFull(
                f"{self._outbox.held} messages ({self._outbox.held_bytes} bytes) are unconfirmed, and no room "
                f"came up within {self._options.send_timeout_s:g} s"
            ) from None
        return receipt

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that only the settling of messages can bring about."""
        while not condition():
            change: LoopFuture[None] = self._outbox.change()
            try:
                if not condition():  # it may have come true before the wait was registered
                    await change
            finally:
                self._outbox.ignore(change)

    def _gone(self, reason: BaseException | None) -> None:
        """The actor ended for good (called on the tree's loop)."""
        if self._closed is None:
            self._closed = (
                reason if isinstance(reason, ActorStreamError) else Closed(f"the publisher ended: {reason!r}")
            )
        if reason is None:
            self._outbox.end(_closed_before_the_confirm)
        else:
            self._outbox.end(lambda: Unconfirmed(f"the producer ended ({reason}): the message may be stored"))


def _closed_before_the_confirm() -> Unconfirmed:
    return Unconfirmed("the producer was closed before the confirm: the message may be stored")


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
