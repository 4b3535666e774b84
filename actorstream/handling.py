"""Handlers: a function for each message, and a policy for when it raises.

A handler's failure never passes unnoticed: the cursor does not go beyond a message that failed, unless the policy says
what becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.errors import HandlerFailed, InvalidArgument, MessageCodecError
from actorstream.options import check_name, checks
from actorstream.options.checks import require
from actorstream.parallel import Key, ParallelRun, Source
from actorstream.wire.message import Message

if TYPE_CHECKING:
    from actorstream.producer import Producer

MAX_IN_FLIGHT_PER_WORKER = 100
"""Messages that are taken ahead of the first one that is not completed, unless told otherwise."""
COMES_AGAIN = "what is parked in the stream that it comes from comes again"
REASON_MAX = 1_000
"""Characters of what an exception says that are kept with a parked message: some quote all that they were given."""

Handler = Callable[[Message], Awaitable[object] | object]
"""Gets one message; plain functions run on the loop, unless in threads, and must not block it."""

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
    `x-origin-offset` and `x-reason` (in place of those that it has, if it was parked before). A record that is not
    AMQP 1.0, or that a `raw` consumer took, becomes the body as it is, and `x-raw` is true. When a message cannot be
    parked, consuming stops as with `Stop`.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """Who handles messages, as `Consumer.run` takes it."""

    count: int = 1
    key: Key | None = None
    threads: bool = False
    max_in_flight: int | None = None

    def __post_init__(self) -> None:
        checks.count("workers", self.count, 1, 1_000)
        require(self.key is None or callable(self.key), f"key is a function of a message, not {self.key!r}")
        if self.max_in_flight is not None:
            checks.count("max_in_flight", self.max_in_flight, self.count, 2**31)

    @property
    def in_order(self) -> bool:
        """Whether it is one message after the other anyway, on the loop."""
        return self.count == 1 and not self.threads


class Consumable(Source, Protocol):
    """What a handler is run over: a `Consumer`, or whatever reads several streams."""

    @property
    def stream(self) -> str:
        """The name of what is read."""

    def __aiter__(self) -> AsyncIterator[Message]:
        """The messages, one after the other."""


async def consume(
    source: Consumable,
    make_producer: Callable[[str], Awaitable[Producer]],
    handler: Handler,
    policy: ErrorPolicy,
    workers: Workers,
) -> None:
    """Hand every message to a handler until there are no more. See `Consumer.run`."""
    require(callable(handler), f"a handler is a function of a message, not {handler!r}")
    async with contextlib.AsyncExitStack() as stack:
        parking: Producer | None = None
        if isinstance(policy.then, Park):
            require(policy.then.stream != source.stream, COMES_AGAIN)
            parking = await stack.enter_async_context(await make_producer(policy.then.stream))
        if workers.threads:
            handler = _in_threads(handler, stack.enter_context(_threads(workers.count)))
        handle = PolicedHandler(handler, policy, parking)
        if workers.in_order:
            await _one_by_one(source, handle)
        else:
            bound = workers.max_in_flight or MAX_IN_FLIGHT_PER_WORKER * workers.count
            await ParallelRun(source, handle, workers=workers.count, key=workers.key, max_in_flight=bound).run()


async def _one_by_one(source: Consumable, handle: PolicedHandler) -> None:
    async for message in source:
        try:
            await handle(message)
        except BaseException:
            source.put_back([message])
            raise


class Parking(Protocol):
    """What messages are parked with: a producer."""

    async def send_wait(self, message: Message) -> None:
        """Publish it, and wait for the confirm."""


class PolicedHandler:
    """A handler under its policy: once a call returns, the message is completed."""

    def __init__(self, handler: Handler, policy: ErrorPolicy, parking: Parking | None) -> None:
        self._handler = handler
        self._policy = policy
        self._parking = parking

    async def __call__(self, message: Message, failure: Exception | None = None) -> None:
        """Have one message handled; with `failure`, it failed before it came to that.

        Raises:
            HandlerFailed: by policy.
        """
        failure = failure or await self._try(message)
        if failure is not None:
            match self._policy.then:
                case Skip():
                    logger.warning(
                        "skipped offset %d of stream %r: the handler raised %r", message.offset, message.stream, failure
                    )
                case Park(stream=stream) if self._parking is not None:
                    await self._park(message, failure, self._parking, stream)
                case _:
                    raise HandlerFailed(message.stream, message.offset) from failure

    async def _try(self, message: Message) -> Exception | None:
        """The last failure, or None once the handler succeeded."""
        pauses = Backoff(self._policy.backoff)
        failure: Exception | None = None
        for attempt in range(self._policy.retries + 1):
            if attempt:
                await asyncio.sleep(pauses.next_delay())
            try:
                result = self._handler(message)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises is the policy's business
                failure = error
            else:
                return None
        return failure

    @staticmethod
    async def _park(message: Message, failure: Exception, parking: Parking, stream: str) -> None:
        try:
            require(stream != message.stream, COMES_AGAIN)  # a partition of what is read, which nobody knew before
            await parking.send_wait(parked(message, failure))
        except Exception as error:
            raise HandlerFailed(message.stream, message.offset) from error


def parked(message: Message, failure: Exception) -> Message:
    """The message as `Park` publishes it."""
    reason = "".join(traceback.format_exception_only(failure)).strip()[:REASON_MAX]
    origin: dict[str, Any] = {
        "x-origin-stream": message.stream,
        "x-origin-offset": message.offset,
        "x-reason": reason.encode(errors="backslashreplace").decode(),
    }
    if not message.is_raw:
        with contextlib.suppress(MessageCodecError):
            return message.copy(application_properties={**message.application_properties, **origin})
    # The record is no AMQP 1.0 message, or is not to be taken for one: nothing can be added to it but around it.
    return Message(message.encode(), application_properties={**origin, "x-raw": True})


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(count, "actorstream-handler")
    try:
        yield pool
    finally:
        # Nothing runs in them any more, unless somebody did not want to wait for it.
        pool.shutdown(wait=False)


def _in_threads(handler: Handler, pool: ThreadPoolExecutor) -> Callable[[Message], Awaitable[None]]:
    """The handler, called in another thread. What is begun there cannot be interrupted: a cancellation waits for it."""
    require(
        not inspect.iscoroutinefunction(handler),
        "threads=True is for plain functions that block; an async handler runs on the loop, where it need not block",
    )

    async def handle(message: Message) -> None:
        call = functools.partial(contextvars.copy_context().run, handler, message)
        result = asyncio.get_running_loop().run_in_executor(pool, call)
        try:
            await asyncio.shield(result)
        except asyncio.CancelledError:
            await asyncio.wait({result})
            if result.cancelled() or result.exception() is not None:
                raise  # else it was completed, in spite of all

    return handle
