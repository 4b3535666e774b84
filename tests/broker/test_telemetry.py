"""What OpenTelemetry's SDK gets to see of a client beside a real broker: metrics, and traces through messages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import actorstream
from actorstream import HashRouting, Message, blocking, events, telemetry
from actorstream.errors import HandlerFailed, InvalidArgument, MessageTooLarge, PublishError
from lab.broker import Broker
from tests.broker.reading import connected, numbered, publish, take, until
from tests.conftest import Streams

Figures = dict[tuple[tuple[str, Any], ...], float]

SENT = "messaging.client.sent.messages"
CONSUMED = "messaging.client.consumed.messages"


class Seen:
    """A meter provider, and what it collects."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self._reader], shutdown_on_exit=False)

    def collect(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[tuple[dict[str, Any], float]]:
        metric = self.collect().get(name)
        return [] if metric is None else [(dict(one.attributes), one.value) for one in metric.data.data_points]

    def of(self, name: str, **wanted: object) -> float | None:
        """The sum of the points with these attributes, written with "_" for "."; None when there is none."""
        values = [
            value
            for attributes, value in self.points(name)
            if all(
                {key.replace(".", "_"): one for key, one in attributes.items()}.get(k) == v for k, v in wanted.items()
            )
        ]
        return sum(values) if values else None


class Traces:
    """A tracer provider, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def traces() -> Traces:
    return Traces()


# Metrics


async def test_what_is_counted_is_what_was_sent_confirmed_and_received(
    broker: Broker, stream: Streams, seen: Seen
) -> None:
    name = stream({})
    async with connected(broker, "counted") as client:
        telemetry.instrument(client, meter_provider=seen.provider)
        async with await client.producer(name, name="orders") as producer:
            for start in range(0, 1_000, 100):
                await (await producer.send_batch(numbered(100, start=1_000 + start)))
            with pytest.raises(PublishError):
                await _send_and_give_up(client, name)
            assert seen.of(SENT, actorstream_producer_name="orders") == 1_000
            # An entry is the message's length, and an AMQP 1.0 data section around the body: 4 + 5 + 4 bytes here.
            assert seen.of("actorstream.producer.confirmed_bytes", actorstream_producer_name="orders") == 13_000
            assert producer.confirmed_bytes == producer.accepted_bytes == 13_000
            assert seen.of("actorstream.producer.unsettled", messaging_destination_name=name) == 0
            assert seen.of("actorstream.producer.count", messaging_client_id="counted") == 1
        async with await client.consumer(name, "first", name="billing") as consumer:
            await take(consumer, 600)
            group = {"messaging_destination_name": name, "messaging_consumer_group_name": "billing"}
            assert seen.of(CONSUMED, **group) == 600
            assert seen.of("actorstream.consumer.position", **group) == 600
            assert seen.of("actorstream.consumer.completed_offset", **group) == 598
            assert seen.of("actorstream.consumer.active", **group) == 1
            await take(consumer, 400)
            assert seen.of("actorstream.consumer.delivered_messages", **group) == 1_000 == consumer.delivered_messages
            assert seen.of("actorstream.consumer.delivered_bytes", **group) == 13_000 == consumer.delivered_bytes
            chunks = seen.of("actorstream.consumer.delivered_chunks", **group)
            assert chunks == consumer.delivered_chunks
            assert 1 <= chunks <= 1_000
        assert (consumer.received, seen.of("actorstream.consumer.count")) == (1_000, None)


async def _send_and_give_up(client: actorstream.Client, stream: str) -> None:
    """A message whose producer is closed before the broker can have answered."""
    producer = await client.producer(stream)
    receipt = await producer.send(b"never")
    producer._outbox.end(lambda: actorstream.errors.Unconfirmed("the test says so"))
    await producer.close()
    await receipt


async def test_lag_is_what_is_left_to_read(broker: Broker, stream: Streams, seen: Seen) -> None:
    name = stream({})
    async with connected(broker) as client:
        telemetry.instrument(client, meter_provider=seen.provider)
        await publish(client, name, numbered(30), chunk=10)
        async with await client.consumer(name, "first", credit=50) as consumer:
            await take(consumer, 5)
            await until(lambda: consumer.delivered_messages == 30, "all of it is here")
            # Exact to within the newest chunk.
            newest = (await client.stream_statistics(name)).committed_chunk_id
            assert newest >= 20
            assert seen.of("actorstream.consumer.lag", messaging_destination_name=name) == newest - 5
            await take(consumer, 25)
            assert seen.of("actorstream.consumer.lag", messaging_destination_name=name) == 0


async def test_a_cut_connection_is_counted_and_so_are_the_restarts_after_it(
    broker: Broker, stream: Streams, seen: Seen
) -> None:
    name = stream({})
    async with connected(broker, "cut-and-counted") as client:
        telemetry.instrument(client, meter_provider=seen.provider)
        async with await client.producer(name) as producer, await client.consumer(name, "first") as consumer:
            await producer.send_wait(b"0")
            await take(consumer, 1)
            by_role = {"messaging_client_id": "cut-and-counted", "actorstream_connection_role": "consumer"}
            assert seen.of("actorstream.connection.count", **by_role) == 1
            assert seen.of("actorstream.connection.lost") is None
            await asyncio.to_thread(broker.management.close_connections, "cut-and-counted-consumer")
            await until(lambda: seen.of("actorstream.connection.lost"), "the loss is counted")
            await producer.send_wait(b"1")
            assert [message.body for message in await take(consumer, 1)] == [b"1"]
            tree = {supervisor.name: supervisor for supervisor in (await client.tree()).children}
            (shown,) = tree["subscribers"].children
            assert seen.of("actorstream.actor.restarts", actorstream_actor_kind="subscribers") == shown.restarts >= 1
            assert seen.of("actorstream.actor.restarts", actorstream_actor_kind="publishers") is None
            await until(lambda: seen.of("actorstream.connection.count", **by_role) == 1, "it has another one")
            for where, _ in seen.points("actorstream.connection.lost"):
                assert where["server.address"] == "localhost"
                assert where["error.type"] in ("ConnectionLost", "ClosedByBroker")


async def test_what_was_counted_stays_when_handles_and_clients_are_closed(
    broker: Broker, stream: Streams, seen: Seen
) -> None:
    name = stream({})
    async with connected(broker) as first, connected(broker) as second:
        for client in (first, second):  # one provider has each instrument once, for both
            telemetry.instrument(client, meter_provider=seen.provider)
            await publish(client, name, numbered(10))
        assert seen.of(SENT) == 20
        async with await first.producer(name) as producer:
            await producer.send_wait(b"21")
            assert seen.of(SENT) == 21
            await first.close()
            assert seen.of(SENT) == 21
        assert seen.of("actorstream.producer.count") is None
        await publish(second, name, numbered(1))
    assert seen.of(SENT) == 22
    assert seen.of("actorstream.connection.count") is None


async def test_what_is_handed_out_again_counts_again_and_no_counter_gets_less(
    broker: Broker, stream: Streams, seen: Seen
) -> None:
    name = stream({})

    def fail(_: Message) -> None:
        raise ValueError

    async with connected(broker) as client:
        telemetry.instrument(client, meter_provider=seen.provider)
        await publish(client, name, numbered(3))
        async with await client.consumer(name, "first") as consumer:
            for _ in range(2):
                with pytest.raises(HandlerFailed):
                    await consumer.run(fail)
            assert (consumer.received, seen.of(CONSUMED)) == (0, 2)
            await take(consumer, 3)
            assert (consumer.received, seen.of(CONSUMED)) == (3, 5)


async def test_what_is_undone_is_not_read_any_more(broker: Broker, stream: Streams, seen: Seen) -> None:
    name = stream({})
    async with connected(broker) as client:
        instrumentation = telemetry.instrument(client, meter_provider=seen.provider)
        async with await client.producer(name) as producer:
            await producer.send_wait(b"counted")
            instrumentation.close()
            instrumentation.close()
            await producer.send_wait(b"not counted")
        assert seen.of(SENT) == 1
        assert not client._on_forget
        await until(instrumentation._counting.done, "events are not counted any more")


async def test_partitions_tell_for_their_super_stream(broker: Broker, stream: Streams, seen: Seen) -> None:
    name = stream()
    async with connected(broker) as client:
        telemetry.instrument(client, meter_provider=seen.provider)
        await client.create_super_stream(name, partitions=2)
        routing = HashRouting(str)
        async with await client.super_stream_producer(name, routing=routing) as producer:
            await (await producer.send_batch(numbered(50)))
            parts = [seen.of(SENT, messaging_destination_name=part) for part in producer.partitions]
            assert sum(part or 0 for part in parts) == 50
            assert (seen.of(SENT), producer.confirmed_bytes) == (50, producer.accepted_bytes)
        async with await client.super_stream_consumer(name, "first") as consumer:
            await take(consumer, 50)
            assert seen.of(CONSUMED) == seen.of("actorstream.consumer.delivered_messages") == 50
        await client.delete_super_stream(name)


async def test_a_client_without_asyncio_is_instrumented_too(broker: Broker, stream: Streams, seen: Seen) -> None:
    name = stream({})

    def work() -> None:
        with blocking.connect(broker.uri) as client:
            telemetry.instrument(client, meter_provider=seen.provider)
            with client.producer(name) as producer:
                producer.send_wait(b"one")

    await asyncio.to_thread(work)
    assert seen.of(SENT) == 1
    assert seen.of("actorstream.connection.opened") == 1  # the producer's; events count from `instrument` on


LOST = actorstream.errors.ConnectionLost("cut")

HAPPENING: list[tuple[events.Event, str, float, dict[str, object]]] = [
    (events.CredentialsFailed(path="root/x", reason=LOST, retry_in_s=1), "actorstream.credentials.failures", 1, {}),
    (
        events.ActorGaveUp(path="root/subscribers/orders-1", reason=LOST),
        "actorstream.actor.surrenders",
        1,
        {"actorstream.actor.kind": "subscribers", "error.type": "ConnectionLost"},
    ),
    (events.EventLoopBlocked(path="root/watchdog", seconds=1.5), "actorstream.loop.blocked", 1.5, {}),
    (
        events.Moved(path="root/x", stream="orders", origin="a:1", to="b:1"),
        "actorstream.moves",
        1,
        {"messaging.destination.name": "orders"},
    ),
    (
        events.OffsetGap(path="root/x", stream="orders", wanted=10, first=25),
        "actorstream.consumer.gap_offsets",
        15,
        {"messaging.destination.name": "orders"},
    ),
    (
        events.StreamTruncated(path="root/x", stream="orders", wanted=10, last_chunk_id=5),
        "actorstream.consumer.truncations",
        1,
        {"messaging.destination.name": "orders"},
    ),
    (
        events.OffsetNotStored(path="root/x", stream="orders", name="billing", reason=LOST),
        "actorstream.consumer.stores",
        1,
        {"messaging.consumer.group.name": "billing", "error.type": "ConnectionLost"},
    ),
    (
        events.SacActivated(path="root/x", stream="orders", group="billing", offset="first"),
        "actorstream.consumer.activations",
        1,
        {"messaging.destination.name": "orders", "messaging.consumer.group.name": "billing"},
    ),
    (
        events.SacDeactivated(path="root/x", stream="orders", group="billing", clean=False, reason="lost"),
        "actorstream.consumer.deactivations",
        1,
        {"messaging.consumer.group.name": "billing", "actorstream.clean": False},
    ),
    (
        events.PartitionsChanged(path="root/x", super_stream="all", partitions=("a",), added=("a",), removed=()),
        "actorstream.super_stream.changes",
        1,
        {"messaging.destination.name": "all"},
    ),
]


@pytest.mark.parametrize(("event", "name", "amount", "attributes"), HAPPENING, ids=lambda one: type(one).__name__)
async def test_events_are_counted_with_what_they_say(
    broker: Broker, seen: Seen, event: events.Event, name: str, amount: float, attributes: dict[str, object]
) -> None:
    async with connected(broker) as client:
        telemetry.instrument(client, meter_provider=seen.provider)
        client._grown.bus.emit(event)
        await until(lambda: seen.points(name), "it is counted")
        ((found, value),) = seen.points(name)
        assert value == amount
        assert attributes.items() <= found.items()


async def test_a_client_is_instrumented_once_and_again_when_that_is_undone(broker: Broker, seen: Seen) -> None:
    async with connected(broker) as client:
        first = telemetry.instrument(client, meter_provider=seen.provider)
        with pytest.raises(InvalidArgument, match="already"):
            telemetry.instrument(client, meter_provider=seen.provider)
        first.close()
        telemetry.instrument(client, meter_provider=seen.provider)
        assert seen.of("actorstream.connection.count") == 1
    with pytest.raises(actorstream.errors.Closed):
        telemetry.instrument(client, meter_provider=seen.provider)


def test_only_a_client_is_instrumented(seen: Seen) -> None:
    with pytest.raises(InvalidArgument, match="is a client"):
        telemetry.instrument("rabbitmq-stream://localhost", meter_provider=seen.provider)  # type: ignore[arg-type]


# Traces


async def test_a_trace_goes_from_the_producer_to_the_handler(broker: Broker, stream: Streams, traces: Traces) -> None:
    name = stream({})
    within: list[int] = []

    async def handle(_: Message) -> None:
        await asyncio.sleep(0)
        within.append(trace.get_current_span().get_span_context().span_id)

    async with connected(broker) as client, await client.producer(name) as inner:
        producer = telemetry.TracedProducer(inner, tracer_provider=traces.provider)
        with traces.tracer.start_as_current_span("order"):
            await producer.send_wait(b"one")
            await (await producer.send_batch(["two", Message(b"three", application_properties={"n": 3})]))
            await (await producer.send_sub_entry([b"four", b"five"]))
        async with await client.consumer(name, "first", until="end") as consumer:
            await consumer.run(telemetry.traced(handle, tracer_provider=traces.provider))
    (order,) = traces.named("order")
    sent, processed = traces.named(f"send {name}"), traces.named(f"process {name}")
    assert (len(sent), len(processed)) == (5, 5)
    assert order.context is not None
    assert {span.parent.span_id for span in sent if span.parent} == {order.context.span_id}
    assert {span.kind for span in sent} == {SpanKind.PRODUCER}
    assert {span.kind for span in processed} == {SpanKind.CONSUMER}
    assert [_parent(span) for span in processed] == [
        _id(span) for span in sorted(sent, key=lambda one: one.start_time or 0)
    ]
    assert {span.context.trace_id for span in processed if span.context} == {order.context.trace_id}
    assert within == [_id(span) for span in processed]
    assert [dict(span.attributes or {})["actorstream.message.offset"] for span in processed] == [0, 1, 2, 3, 4]


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def _parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return int(span.parent.span_id)


async def test_a_trace_goes_on_in_another_process(broker: Broker, stream: Streams, traces: Traces) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name) as inner:
        await telemetry.TracedProducer(inner, tracer_provider=traces.provider).send_wait(b"hello")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.broker.traced_reader", broker.uri, name],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    (sent,) = traces.named(f"send {name}")
    assert sent.context is not None
    assert done.stdout == f"hello {sent.context.trace_id:032x} {sent.context.span_id:016x}\n"


async def test_the_context_of_a_message_is_what_other_clients_see(
    broker: Broker, stream: Streams, traces: Traces
) -> None:
    name = stream({})
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    older = "00-11111111111111111111111111111111-2222222222222222-01"
    async with connected(broker) as client, await client.producer(name) as inner:
        producer = telemetry.TracedProducer(inner, tracer_provider=traces.provider)
        with traces.tracer.start_as_current_span("order", context=context.Context()):
            token = context.attach(baggage.set_baggage("tenant", "a"))
            # One that is passed on: where it came from is not where it comes from now, wherever that was written.
            old = {"traceparent": older, "tracestate": "vendor=old"}
            await producer.send_wait(
                Message(b"mine", annotations={"x-own": True, **old}, application_properties={"n": 1, **old})
            )
            context.detach(token)
        # As the Java client writes it, and beside an older one.
        await inner.send_wait(
            Message(b"java's", annotations={"traceparent": parent}, application_properties={"traceparent": older})
        )
        await inner.send_wait(b"none")
        async with await client.consumer(name, "first", until="end") as consumer:
            mine, javas, none = await take(consumer, 3)
    (sent,) = traces.named(f"send {name}")
    assert sent.context is not None
    carried = f"00-{sent.context.trace_id:032x}-{sent.context.span_id:016x}-{sent.context.trace_flags:02x}"
    assert dict(mine.application_properties) == {"n": 1, "traceparent": carried, "baggage": "tenant=a"}
    assert dict(mine.annotations) == {"x-own": True}
    assert baggage.get_baggage("tenant", telemetry.extract(mine)) == "a"
    found = trace.get_current_span(telemetry.extract(javas)).get_span_context()
    assert f"00-{found.trace_id:032x}-{found.span_id:016x}-01" == parent
    assert not trace.get_current_span(telemetry.extract(none)).get_span_context().is_valid
    not_amqp = Message.decode(b"\xff not AMQP", raw=True)
    assert not trace.get_current_span(telemetry.extract(not_amqp)).get_span_context().is_valid


async def test_what_is_not_confirmed_is_a_span_that_failed(broker: Broker, stream: Streams, traces: Traces) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name, max_unconfirmed=1) as inner:
        producer = telemetry.TracedProducer(inner, tracer_provider=traces.provider)
        with pytest.raises(MessageTooLarge):
            await producer.send(b"x" * 2_000_000)
        receipt = await producer.send(b"held up")
        assert producer.try_send(b"no room") is None
        inner._outbox.end(lambda: actorstream.errors.Unconfirmed("the test says so"))
        assert not receipt.confirmed
        assert (producer.failed, producer.unsettled, producer.confirmed) == (1, 0, 0)
        await producer.close()
    assert {span.status.status_code for span in traces.spans} == {StatusCode.ERROR}
    assert [dict(span.attributes or {})["error.type"] for span in traces.spans] == [
        "MessageTooLarge",
        "OutboxFull",
        "Unconfirmed",
    ]


async def _async_failure(_: Message) -> None:
    raise ValueError("no")


def _failure(_: Message) -> None:
    raise ValueError("no")


def _late_failure(message: Message) -> Awaitable[None]:
    return _async_failure(message)


@pytest.mark.parametrize(
    ("handler", "threads"), [(_async_failure, False), (_failure, False), (_late_failure, False), (_failure, True)]
)
async def test_a_handler_that_raises_is_a_span_that_failed_and_the_policy_goes_on(
    broker: Broker,
    stream: Streams,
    traces: Traces,
    handler: Callable[[Message], Awaitable[None] | None],
    threads: bool,
) -> None:
    name = stream({})
    policy = actorstream.ErrorPolicy(
        retries=1, backoff=actorstream.BackoffPolicy(base_s=0.001), then=actorstream.Skip()
    )
    async with connected(broker) as client:
        await publish(client, name, [b"one"])
        async with await client.consumer(name, "first", until="end") as consumer:
            handle = telemetry.traced(handler, tracer_provider=traces.provider)
            await consumer.run(handle, on_error=policy, threads=threads)
        assert consumer.completed == 0
    assert [(span.status.status_code, span.status.description) for span in traces.named(f"process {name}")] == [
        (StatusCode.ERROR, "no")
    ] * 2


async def test_a_span_that_only_links_begins_a_trace_of_its_own(
    broker: Broker, stream: Streams, traces: Traces
) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name) as inner:
        await telemetry.TracedProducer(inner, tracer_provider=traces.provider).send_wait(b"one")
        async with await client.consumer(name, "first", until="end") as consumer:
            handle = telemetry.traced(lambda _: None, linked=True, tracer_provider=traces.provider)
            await consumer.run(handle)
    (sent,), (processed,) = traces.named(f"send {name}"), traces.named(f"process {name}")
    assert processed.parent is None
    assert [link.context.span_id for link in processed.links] == [_id(sent)]
    assert processed.context != sent.context


async def test_a_super_stream_is_traced_under_its_own_name(broker: Broker, stream: Streams, traces: Traces) -> None:
    name = stream()
    async with connected(broker) as client:
        await client.create_super_stream(name, partitions=2)
        routing = HashRouting(lambda message: message.body.decode())
        inner = await client.super_stream_producer(name, routing=routing)
        async with telemetry.TracedProducer(inner, tracer_provider=traces.provider) as producer:
            await (await producer.send_batch(numbered(10)))
            await producer.flush()
        async with await client.super_stream_consumer(name, "first", until="end") as consumer:
            await consumer.run(telemetry.traced(lambda _: None, tracer_provider=traces.provider))
        await client.delete_super_stream(name)
    sent = traces.named(f"send {name}")
    processed = [span for span in traces.spans if span.name.startswith(f"process {name}-")]
    assert len(sent) == 10
    assert {_parent(span) for span in processed} == {_id(span) for span in sent}


async def test_a_raw_producer_cannot_be_traced(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name, raw=True) as producer:
        with pytest.raises(InvalidArgument, match="raw"):
            telemetry.TracedProducer(producer)
