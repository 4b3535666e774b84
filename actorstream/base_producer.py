"""What every producer offers, whether it publishes to one stream or to the partitions of a super stream."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from actorstream.actors import messages as m
from actorstream.actors.batch import BatchReceipt
from actorstream.actors.encoding import Body
from actorstream.actors.receipt import Receipt
from actorstream.compression import Compression
from actorstream.errors import ActorStreamError

YIELD_EVERY = 512
"""Messages after which `send` lets the loop turn, so that a tight loop of sends is sent while it goes on."""


class BaseProducer(ABC):
    """Takes messages, and gives each exactly one outcome, told by its `Receipt`: see `Producer`, `SuperStreamProducer`.

    Code that publishes and does not care where to takes one of these.
    """

    _yield_every = YIELD_EVERY

    def __init__(self, name: str, closing_s: float) -> None:
        self._name = name
        self._closing_s = closing_s
        self._closed: ActorStreamError | None = None
        self._closing: asyncio.Task[None] | None = None
        self._since_yield = 0

    @property
    def name(self) -> str:
        """The reference for deduplication; "" when there is none."""
        return self._name

    @property
    def _is_open(self) -> bool:
        return self._closed is None and self._closing is None

    @property
    @abstractmethod
    def unsettled(self) -> int:
        """Messages accepted that have no outcome yet."""

    @property
    @abstractmethod
    def confirmed(self) -> int:
        """Messages confirmed so far."""

    @property
    @abstractmethod
    def failed(self) -> int:
        """Messages that ended refused or unconfirmed so far."""

    @property
    @abstractmethod
    def accepted_bytes(self) -> int:
        """Bytes of the messages accepted so far, encoded; a sub-entry that `send_sub_entry` made counts compressed."""

    @property
    @abstractmethod
    def confirmed_bytes(self) -> int:
        """Bytes of those of them that the broker confirmed so far, counted likewise."""

    @property
    @abstractmethod
    def ref(self) -> m.Ref:
        """The actor behind this producer; valid across restarts, dead once the producer is closed."""

    @abstractmethod
    async def send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt:
        """Queue one message, and return its receipt as soon as it is accepted."""

    @abstractmethod
    def try_send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt | None:
        """Queue one message if it is accepted at this moment, from any thread; None when it is not."""

    @abstractmethod
    async def send_batch(self, messages: Iterable[Body]) -> BatchReceipt:
        """Queue many messages, and return one receipt for all of them as soon as they are accepted."""

    @abstractmethod
    async def send_sub_entry(
        self,
        messages: Iterable[Body],
        *,
        compression: Compression | str | None = None,
        publishing_id: int | None = None,
    ) -> Receipt:
        """Queue many messages as one sub-entry: they share a publishing id, a confirm, and an outcome."""

    async def send_wait(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> None:
        """Send one message and wait until it is confirmed.

        Cancelling it while it waits for the confirm does not take the message back.

        Raises:
            PublishError: it was refused, or is unconfirmed at the deadline.
            and whatever `send` raises.
        """
        await (await self.send(message, publishing_id=publishing_id, filter_value=filter_value))

    @abstractmethod
    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every message accepted so far has its outcome; what is sent meanwhile is not waited for."""

    @abstractmethod
    async def last_publishing_id(self) -> int:
        """The publishing id up to which the broker has everything under this producer's name; 0 for nothing."""

    async def close(self, timeout: float | None = None) -> None:
        """Take no more messages, send what is queued, wait for confirms, then leave the broker.

        What has no outcome after `timeout` seconds (default: the client's `close_timeout_s`) ends as `Unconfirmed`.
        Safe to call again, and from several tasks.

        Raises:
            PublisherFenced: another producer has used this one's name meanwhile: of what this one sent, some may have
                been taken for duplicates, confirmed, and dropped. It is closed all the same.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(self._closing_s if timeout is None else timeout))
        await asyncio.shield(self._closing)

    @abstractmethod
    async def _close(self, timeout: float) -> None:
        """Do what `close` says, once."""

    @abstractmethod
    def _gone(self, reason: BaseException | None) -> None:
        """The actor ended for good (called on the tree's loop)."""

    async def _let_others_work(self, messages: int = 1) -> None:
        """Let the loop turn now and then; before messages are accepted, since nothing may be cancelled after that."""
        self._since_yield += messages
        if self._since_yield >= self._yield_every:
            self._since_yield = 0
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
