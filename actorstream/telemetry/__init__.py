"""Metrics and traces through OpenTelemetry; the extra "telemetry". Nothing else in actorstream imports OpenTelemetry.

    from actorstream import telemetry

    telemetry.instrument(client)  # metrics, from counters that are kept anyway
    producer = telemetry.TracedProducer(await client.producer("orders"))  # a span for each message
    await consumer.run(telemetry.traced(handle))  # a span for each message, in the trace of whoever sent it

What is exported, and where to, is the business of the application's OpenTelemetry SDK; without one, nothing is.
"""

try:
    import opentelemetry.metrics
    import opentelemetry.propagate
    import opentelemetry.trace  # noqa: F401 - asked for here, for one clear answer
except ImportError as error:
    raise ImportError(
        "actorstream.telemetry needs the OpenTelemetry API: pip install 'actorstream[telemetry]'"
    ) from error

from actorstream.telemetry.instruments import INSTRUMENTS, Instrument
from actorstream.telemetry.metrics import Instrumentation, instrument
from actorstream.telemetry.producing import TracedProducer
from actorstream.telemetry.tracing import extract, inject, traced

__all__ = [
    "INSTRUMENTS",
    "Instrument",
    "Instrumentation",
    "TracedProducer",
    "extract",
    "inject",
    "instrument",
    "traced",
]
