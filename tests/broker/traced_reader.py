"""A process that handles one message of a stream, and prints the ids of its span: `… URI STREAM`."""

import asyncio
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import actorstream
from actorstream import Message, telemetry


async def main(uri: str, stream: str) -> None:
    def handle(message: Message) -> None:
        span = trace.get_current_span().get_span_context()
        sent = trace.get_current_span(telemetry.extract(message)).get_span_context()
        sys.stdout.write(f"{message.body.decode()} {span.trace_id:032x} {sent.span_id:016x}\n")

    provider = TracerProvider(shutdown_on_exit=False)
    async with actorstream.connect(uri) as client, await client.consumer(stream, "first", until="end") as consumer:
        await consumer.run(telemetry.traced(handle, tracer_provider=provider))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
