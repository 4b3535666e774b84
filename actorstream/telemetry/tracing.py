"""Trace context that travels in messages, and a span for whoever handles one.

It is written to the *application properties*, as the W3C's draft for AMQP says: they belong to the sender, no broker
changes them, and an AMQP 0-9-1 client that reads the stream finds them as headers, where its own instrumentation looks.
It is read from the *message annotations* first, where the Java client writes it, and then from the application
properties; the Java client reads both in that order, too. Names and values are those of the application's propagator:
`traceparent` and `tracestate` of the W3C unless it says otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from actorstream import __version__
from actorstream.actors.encoding import Body
from actorstream.errors import MessageCodecError
from actorstream.handling import Handler
from actorstream.options.checks import require
from actorstream.telemetry.instruments import ERROR, STREAM, SYSTEM
from actorstream.wire.message import Message

OPERATION = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
OFFSET = "actorstream.message.offset"


class _Carrier(Getter[Message]):
    """How a propagator reads a message."""

    def get(self, carrier: Message, key: str) -> list[str] | None:
        for section in (carrier.annotations, carrier.application_properties):
            value = section.get(key)
            if value is not None:
                return [str(value)]
        return None

    def keys(self, carrier: Message) -> list[str]:
        return [key for key in (*carrier.annotations, *carrier.application_properties) if isinstance(key, str)]


_carrier = _Carrier()


def inject(message: Body, context: Context | None = None) -> Message:
    """The message with the trace context, in place of the one that it has; as it is, if there is none to carry.

    Args:
        message: what is to be published; not with a `raw` producer, whose bytes have no room for it.
        context: the present one by default.

    Raises:
        InvalidArgument, MessageCodecError: it cannot be encoded, or is no AMQP 1.0 message.
    """
    whole = message if isinstance(message, Message) else Message(message)
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    if not carrier:
        return whole
    # One that is passed on has an older context, perhaps in the annotations, where it would be found first.
    fields = propagate.get_global_textmap().fields
    sections: dict[str, Any] = {"application_properties": {**_without(fields, whole.application_properties), **carrier}}
    if fields & whole.annotations.keys():
        sections["annotations"] = _without(fields, whole.annotations) or None
    return whole.copy(**sections)


def _without(names: set[str], section: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in section.items() if key not in names}


def extract(message: Message, context: Context | None = None) -> Context:
    """The trace context of a message, put into `context`: into the present one by default.

    What cannot be read, such as a record that is no AMQP 1.0 message, has none: a trace is no reason to fail.
    """
    present = get_current() if context is None else context
    try:
        return propagate.extract(message, present, _carrier)
    except MessageCodecError:
        return present


def traced(handler: Handler, *, linked: bool = False, tracer_provider: trace.TracerProvider | None = None) -> Handler:
    """A handler for `Consumer.run` with a span for each message, and each try: "process <stream>".

    While the handler runs, its span is the present one. What it raises ends the span as failed, and goes on to the
    error policy of the run.

    Args:
        handler: as `Consumer.run` takes it, plain or `async`, on the loop or in threads.
        linked: the span only links to the sender's, and belongs to the present trace, or begins one; otherwise it is
            part of the sender's trace.
        tracer_provider: by default the application's global one.
    """
    require(callable(handler), f"a handler is a function of a message, not {handler!r}")
    tracer = tracer_of(tracer_provider)

    def begin(message: Message) -> tuple[trace.Span, Context]:
        context = get_current() if linked else extract(message)
        sender = trace.get_current_span(extract(message, Context())).get_span_context()
        links = [trace.Link(sender)] if linked and sender.is_valid else None
        attributes = {**attributes_of("process", message.stream), OFFSET: message.offset}
        span = tracer.start_span(f"process {message.stream}", context, SpanKind.CONSUMER, attributes, links)
        return span, trace.set_span_in_context(span, context)

    async def finish(span: trace.Span, context: Context, result: Awaitable[object]) -> object:
        with _within(context, span):
            outcome = await result
        span.end()
        return outcome

    if inspect.iscoroutinefunction(handler):  # `Consumer.run` tells such functions from plain ones, too

        @functools.wraps(handler)
        async def handle_on_the_loop(message: Message) -> object:
            return await finish(*begin(message), handler(message))

        return handle_on_the_loop

    @functools.wraps(handler, updated=())
    def handle(message: Message) -> object:
        span, context = begin(message)
        with _within(context, span):
            result = handler(message)
        if inspect.isawaitable(result):
            return finish(span, context, result)
        span.end()
        return result

    return handle


def tracer_of(provider: trace.TracerProvider | None) -> trace.Tracer:
    """The tracer of this library."""
    return trace.get_tracer("actorstream", __version__, provider)


def attributes_of(operation: str, stream: str) -> dict[str, AttributeValue]:
    """What the spans of an operation ("send" or "process") have in common."""
    return {SYSTEM[0]: SYSTEM[1], STREAM: stream, OPERATION: operation, OPERATION_TYPE: operation}


def fail(span: trace.Span, error: BaseException) -> None:
    """End a span as failed."""
    span.record_exception(error)
    span.set_attribute(ERROR, type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end()


@contextlib.contextmanager
def _within(context: Context, span: trace.Span) -> Iterator[None]:
    """Have a context while a step of the span's work is done; what that raises ends the span."""
    token = attach(context)
    try:
        yield
    except BaseException as error:
        fail(span, error)
        raise
    finally:
        detach(token)
