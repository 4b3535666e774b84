"""Handlers: a function for each message, and a policy for when it raises.

A handler's failure never passes unnoticed: the cursor does not go beyond a message that failed, unless the policy says
what becomes of it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.errors import HandlerFailed, InvalidArgument
from actorstream.options import check_name
from actorstream.wire.message import Message

if TYPE_CHECKING:
    from actorstream.consumer import Consumer
    from actorstream.producer import Producer

Handler = Callable[[Message], Awaitable[object] | object]
"""Gets one message at a time, in order; plain functions run on the loop and must not block it."""

logger = logging.getLogger("actorstream.handling")


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop consuming: `Consumer.run` raises `HandlerFailed`, and the message counts as not completed."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Log the failure, count the message as completed, and go on."""


@dataclass(frozen=True, slots=True)
class Park:
    """Publish the message to another stream, wait for the confirm, and go on.

    The parked message has the same body and properties, and these application properties besides: `x-origin-stream`,
    `x-origin-offset` and `x-reason`. When it cannot be parked, consuming stops as with `Stop`.
    """

    stream: str

    def __post_init__(self) -> None:
        check_name("the stream to park messages in", self.stream)


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorPolicy:
    """What happens when a handler raises.

    Attributes:
        retries: how often the same message is handed to the handler again.
        backoff: the pauses between these tries.
        then: what happens when they are used up.
    """

    retries: int = 0
    backoff: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(base_s=0.1, cap_s=10.0))
    then: Stop | Skip | Park = field(default_factory=Stop)

    def __post_init__(self) -> None:
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0:
            raise InvalidArgument(f"retries is an integer of at least 0, not {self.retries!r}")
        if not isinstance(self.then, (Stop, Skip, Park)):
            raise InvalidArgument(f"then is Stop(), Skip() or Park(stream), not {self.then!r}")


async def run(consumer: Consumer, handler: Handler, policy: ErrorPolicy, parking: Producer | None) -> None:
    """Hand every message of a consumer to a handler until the consumer ends. See `Consumer.run`."""
    async for message in consumer:
        try:
            await _handle(consumer, message, handler, policy, parking)
        except BaseException:
            consumer.put_back([message])
            raise


async def _handle(
    consumer: Consumer, message: Message, handler: Handler, policy: ErrorPolicy, parking: Producer | None
) -> None:
    """Have one message handled; once this returns, it is completed."""
    failure = await _try(handler, message, policy)
    if failure is not None:
        match policy.then:
            case Skip():
                logger.warning(
                    "skipped offset %d of stream %r: the handler raised %r", message.offset, consumer.stream, failure
                )
            case Park() if parking is not None:
                await _park(message, failure, consumer, parking)
            case _:
                raise HandlerFailed(consumer.stream, message.offset) from failure


async def _try(handler: Handler, message: Message, policy: ErrorPolicy) -> Exception | None:
    """The last failure, or None once the handler succeeded."""
    pauses = Backoff(policy.backoff)
    failure: Exception | None = None
    for attempt in range(policy.retries + 1):
        if attempt:
            await asyncio.sleep(pauses.next_delay())
        try:
            result = handler(message)
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is the policy's business
            failure = error
        else:
            return None
    return failure


async def _park(message: Message, failure: Exception, consumer: Consumer, parking: Producer) -> None:
    reason = "".join(traceback.format_exception_only(failure)).strip()
    origin = {"x-origin-stream": consumer.stream, "x-origin-offset": message.offset, "x-reason": reason}
    try:
        # What is no AMQP 1.0 message cannot be read, and so not be copied either.
        parked = message.copy(application_properties={**message.application_properties, **origin})
        await parking.send_wait(parked)
    except Exception as error:
        raise HandlerFailed(consumer.stream, message.offset) from error
