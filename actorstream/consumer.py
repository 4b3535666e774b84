"""What a user iterates: the handle of a `Subscriber` actor, which keeps chunks coming. It is controlled here."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from actorstream import offset as offset_module
from actorstream.actors import messages as m
from actorstream.actors.calls import call, tell
from actorstream.actors.subscriber_state import SubscriberState
from actorstream.errors import (
    ActorStreamError,
    Closed,
    ConsumeError,
    InvalidArgument,
    StreamDoesNotExist,
)
from actorstream.offset import OffsetLike
from actorstream.options import ConsumerOptions
from actorstream.taking import ChunkReader
from actorstream.tracking import NamedConsumer, Tracking

if TYPE_CHECKING:
    from actorstream.client import Client
    from actorstream.producer import Producer


class Consumer(ChunkReader, NamedConsumer):
    """Reads one stream, in order, from one offset on; made by `Client.consumer`.

    Iterate it (`async for message in consumer`) or its `batches()`; one iteration at a time, on the loop that made it.
    A message counts as completed when the next one is asked for. A lost broker shows as a pause and nothing else.
    An iteration that is left (`break`) can be taken up again: the next `async for` goes on after the last message.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        options: ConsumerOptions,
        state: SubscriberState,
        *,
        until: int | None = None,
        tracking: Tracking | None = None,
    ) -> None:
        super().__init__(stream, options, state, until=until, tracking=tracking)
        self._client = client
        self._closing: asyncio.Task[None] | None = None

    @property
    def single_active(self) -> bool:
        """Whether it shares its name with others, of which one is active at a time."""
        return self._gate is not None

    @property
    def active(self) -> bool:
        """Whether it may be handed messages. Only a single active consumer ever is not.

        It is not active any more from the moment at which the broker says so, or at which its connection is lost, also
        while a message is still in hand: a handler that takes long may look at this before it does what must not be
        done twice.
        """
        return self._gate is None or self._gate.is_open

    @property
    def ref(self) -> m.Ref:
        """The actor behind this consumer; valid across restarts, dead once the consumer is closed."""
        if self._ref is None:
            raise Closed(f"the consumer of {self._stream!r} was never started")
        return self._ref

    # Control ------------------------------------------------------------------------------------------------------

    async def seek(self, offset: OffsetLike) -> None:
        """Go on from another place, back or ahead: the next message is the first one from there on.

        What is in hand, or on its way, is dropped; a message or batch that is being handled goes on to its end, and
        counts for nothing: `completed` is None until something is completed in the new place. `position` names that
        place once this returns, and is 0 for one that has no number ("first", a time, …). `until` stays what it was.
        May be used within an iteration or a handler. Cancelling it leaves open whether it took place.

        Args:
            offset: as for `Client.consumer`.

        Raises:
            InvalidArgument: an offset that is none; or a single active consumer, whose `on_activation` may choose.
            Closed, or what ended the consumer: it was closed, or ended.
        """
        specification = offset_module.parse(offset)
        if self.single_active:
            raise InvalidArgument(
                "a single active consumer has its place from its group, and a seek would hand that to another member: "
                "choose the offset in `on_activation`"
            )
        if self._closed is not None:
            raise self._closed
        before = self._progress
        await call(self.ref, m.Seek(specification), dead=Closed)
        before.left = True  # also where whoever iterates was here first, and is in the new place already
        if self._progress is not self._cursor.progress:
            self._drop_dispatched()
            self._finish_chunk()
            self._enter()

    def pause(self) -> None:
        """Ask for no more chunks; those that the broker was allowed to send (`credit` at most) still arrive."""
        tell(self._ref, m.Pause())

    def resume(self) -> None:
        """Ask for chunks again."""
        tell(self._ref, m.Resume())

    async def close(self) -> None:
        """Leave the broker and end the iteration: nothing is delivered any more, not even what has arrived.

        With a name, the last completed offset is stored before, and read back; should that not be possible within the
        client's `close_timeout_s`, it is logged. A single active consumer gives the handlers of `run` that time, too,
        to finish what they have in hand, so that whoever takes over does not repeat it. Bounded; safe to call again,
        and from several tasks.
        """
        await asyncio.shield(self._close_soon(wait=self._is_handled_elsewhere))

    def _close_soon(self, *, wait: bool) -> asyncio.Task[None]:
        if self._closing is None:
            if self._closed is None:
                self._closed = Closed(f"the consumer of {self._stream!r} was closed")
                self._hand.hold([])
            self._state.deliveries.close(self._closed)
            self._closing = asyncio.ensure_future(self._close(wait=wait))
        return self._closing

    async def _close(self, *, wait: bool) -> None:
        try:
            if self._gate is not None and wait:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._client._close_timeout_s):  # noqa: SLF001 - see `_gone`
                        await self._gate.empty()
            if self._tracking is not None:
                await self._tracking.flush()
        finally:
            try:
                await self._client._stop_child(self)  # noqa: SLF001 - likewise
            finally:
                self._client._forget(self)  # noqa: SLF001 - likewise

    @property
    def _is_open(self) -> bool:
        return self._closed is None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Consumer of {self._stream!r}: {state}, position {self.position}, {self.received} received>"

    async def _make_producer(self, stream: str) -> Producer:
        return await self._client.producer(stream)

    def _gone(self, reason: BaseException | None) -> None:
        """The actor ended for good. Called on the tree's loop by the client: the two are one thing in two classes."""
        if self._closed is None:
            self._closed = (
                reason if isinstance(reason, ActorStreamError) else ConsumeError(f"the subscriber ended: {reason!r}")
            )
        if self._tracking is not None and isinstance(reason, StreamDoesNotExist):
            # A stream that is made anew has the same name: an offset of the old one, stored there, would skip messages.
            self._tracking.rest()
        self._state.deliveries.close(self._closed)
