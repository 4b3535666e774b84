"""A producer with a span for each message that it sends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from actorstream.actors import messages as m
from actorstream.actors.batch import BatchReceipt
from actorstream.actors.encoding import Body
from actorstream.actors.receipt import Receipt
from actorstream.base_producer import BaseProducer
from actorstream.compression import Compression
from actorstream.errors import OutboxFull
from actorstream.options.checks import require
from actorstream.producer import Producer
from actorstream.super_stream_producer import SuperStreamProducer
from actorstream.telemetry.tracing import attributes_of, fail, inject, tracer_of
from actorstream.wire.message import Message


class TracedProducer(BaseProducer):
    """Sends through another producer, with a span for each message: "send <stream>", a child of the present one.

    The span begins with the send and ends with the outcome; a message that is not confirmed is a span that failed. Its
    context goes with the message, so that whoever handles it can go on with the trace: see `traced`.

    Every message is a `Message` then, also for the producer's own functions: for its routing, and for its filter value.

    Args:
        producer: a `Producer` that is not `raw`, or a `SuperStreamProducer`. To close this one closes that one.
        tracer_provider: by default the application's global one.

    Raises:
        InvalidArgument: it is no producer, or a `raw` one.
    """

    def __init__(
        self, producer: Producer | SuperStreamProducer, *, tracer_provider: trace.TracerProvider | None = None
    ) -> None:
        require(
            isinstance(producer, Producer | SuperStreamProducer),
            f"what is traced is a Producer or a SuperStreamProducer, not {producer!r}",
        )
        require(
            not producer._options.raw,  # noqa: SLF001 - one producer in two objects
            "the bytes that a raw producer publishes have no room for a trace: make the producer without raw",
        )
        super().__init__(producer.name, producer._closing_s)  # noqa: SLF001 - likewise
        self._producer = producer
        stream = producer.stream if isinstance(producer, Producer) else producer.super_stream
        self._attributes = attributes_of("send", stream)
        self._title = f"send {stream}"
        self._tracer = tracer_of(tracer_provider)

    @property
    def unsettled(self) -> int:
        """See `BaseProducer`."""
        return self._producer.unsettled

    @property
    def confirmed(self) -> int:
        """See `BaseProducer`."""
        return self._producer.confirmed

    @property
    def failed(self) -> int:
        """See `BaseProducer`."""
        return self._producer.failed

    @property
    def accepted_bytes(self) -> int:
        """See `BaseProducer`."""
        return self._producer.accepted_bytes

    @property
    def confirmed_bytes(self) -> int:
        """See `BaseProducer`."""
        return self._producer.confirmed_bytes

    @property
    def ref(self) -> m.Ref:
        """The actor behind the producer. What it is told to publish has no spans."""
        return self._producer.ref

    async def send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt:
        """See `Producer.send`."""
        with self._sending([message]) as (spans, messages):
            receipt = await self._producer.send(messages[0], publishing_id=publishing_id, filter_value=filter_value)
        _end_with(receipt, spans)
        return receipt

    def try_send(
        self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None
    ) -> Receipt | None:
        """See `Producer.try_send`. A message for which there is no room has a span, too, which failed."""
        with self._sending([message]) as (spans, messages):
            receipt = self._producer.try_send(messages[0], publishing_id=publishing_id, filter_value=filter_value)
        if receipt is None:
            fail(spans[0], OutboxFull("there is no room at this moment"))
        else:
            _end_with(receipt, spans)
        return receipt

    async def send_batch(self, messages: Iterable[Body]) -> BatchReceipt:
        """See `Producer.send_batch`."""
        with self._sending(messages) as (spans, whole):
            batch = await self._producer.send_batch(whole)
        for span, receipt in zip(spans, batch.receipts, strict=True):
            _end_with(receipt, [span])
        return batch

    async def send_sub_entry(
        self,
        messages: Iterable[Body],
        *,
        compression: Compression | str | None = None,
        publishing_id: int | None = None,
    ) -> Receipt:
        """See `Producer.send_sub_entry`."""
        with self._sending(messages) as (spans, whole):
            receipt = await self._producer.send_sub_entry(whole, compression=compression, publishing_id=publishing_id)
        _end_with(receipt, spans)
        return receipt

    @contextlib.contextmanager
    def _sending(self, messages: Iterable[Body]) -> Iterator[tuple[list[trace.Span], list[Message]]]:
        """A span for each message, and the messages that carry them; all of them fail if sending raises."""
        spans: list[trace.Span] = []
        whole: list[Message] = []
        try:
            for message in messages:
                span = self._tracer.start_span(self._title, kind=SpanKind.PRODUCER, attributes=self._attributes)
                spans.append(span)
                whole.append(inject(message, trace.set_span_in_context(span)))
            yield spans, whole
        except BaseException as error:
            for span in spans:
                fail(span, error)
            raise

    async def flush(self, timeout: float | None = None) -> None:
        """See `Producer.flush`."""
        await self._producer.flush(timeout)

    async def last_publishing_id(self) -> int:
        """See `Producer.last_publishing_id`."""
        return await self._producer.last_publishing_id()

    async def _close(self, timeout: float) -> None:
        await self._producer.close(timeout)

    def _gone(self, reason: BaseException | None) -> None:
        self._producer._gone(reason)  # noqa: SLF001 - likewise

    def __repr__(self) -> str:
        return f"<TracedProducer: {self._producer!r}>"


def _end_with(receipt: Receipt, spans: Sequence[trace.Span]) -> None:
    """End the spans with the outcome of their messages."""

    def end(settled: Receipt) -> None:
        for span in spans:
            if settled.error is None:
                span.end()
            else:
                fail(span, settled.error)

    receipt.add_done_callback(end)
