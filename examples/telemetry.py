"""Figures of a client, and a trace that goes through a message: `python -m examples.telemetry [URI]`."""

from __future__ import annotations

import asyncio
import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import actorstream
from actorstream import telemetry

STREAM = "example-telemetry"

SHOWN = (
    "messaging.client.sent.messages",
    "messaging.client.consumed.messages",
    "actorstream.producer.confirmed_bytes",
    "actorstream.consumer.lag",
    "actorstream.connection.count",
)


def show(reader: InMemoryMetricReader) -> None:
    """Print some of what an exporter would be given."""
    data = reader.get_metrics_data()
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
        if metric.name in SHOWN:
            values = [point.value for point in metric.data.data_points if isinstance(point, NumberDataPoint)]
            print(f"{metric.name}: {sum(values)} {metric.unit}")


def trace_of(span: ReadableSpan) -> int:
    return span.context.trace_id if span.context else 0


def handle(message: actorstream.Message) -> None:
    """What it does, and what it calls, is within the span of its message."""


async def main(uri: str) -> None:
    # An application sets its SDK up once, with exporters of its choice; here, what they would be given stays here.
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    meters, tracers = MeterProvider(metric_readers=[reader]), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))

    async with actorstream.connect(uri) as client:
        telemetry.instrument(client, meter_provider=meters)
        await client.create_stream(STREAM, exist_ok=True)

        producer = telemetry.TracedProducer(await client.producer(STREAM), tracer_provider=tracers)
        with tracers.get_tracer("shop").start_as_current_span("order"):
            await producer.send_wait(b"a book")
        await (await producer.send_batch([b"a pen", b"a map"]))

        async with await client.consumer(STREAM, "first", until="end") as consumer:
            await consumer.run(telemetry.traced(handle, tracer_provider=tracers))
            show(reader)
        await producer.close()
        await client.delete_stream(STREAM)

    # The spans that are in the trace of the order: in the order in which they began.
    finished = sorted(spans.get_finished_spans(), key=lambda span: span.start_time or 0)
    print("one trace:", ", ".join(span.name for span in finished if trace_of(span) == trace_of(finished[0])))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost"))
