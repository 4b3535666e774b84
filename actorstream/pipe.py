"""From one stream through a function into another, each message once, whatever crashes in between.

The publishing id of an output is the offset of its source message plus one (ids begin at 1, since a broker says 0 for
"none"), under the pipe's name. So whoever publishes it again, in whatever process, publishes it under the same id, and
the broker drops what it has. Several outputs of one message go out as one sub-entry: they share the id, and are stored
together or not at all.

How far the pipe has come is not told by the highest id that the broker holds: it counts an id as soon as the leader has
the message, before a quorum does (F31), and a process that went on behind it would lose what a leader takes with it
when it dies. It begins again behind the last output that was *confirmed*, which it has the source stream keep as an
offset, and sends the few outputs after it again, for the broker to drop. That offset may lag: it costs time, and never
a message. It is also what tells that the source is still the stream that those ids were counted in.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from actorstream import offset as offset_module
from actorstream.actors.encoding import Body
from actorstream.actors.receipt import Receipt
from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.consumer import Consumer
from actorstream.errors import (
    ActorStreamError,
    InvalidArgument,
    MessageCodecError,
    OffsetGap,
    RequestTimeout,
    SourceReplaced,
)
from actorstream.handling import ErrorPolicy, Park, PolicedHandler
from actorstream.offset import OffsetLike, OffsetSpecification, OffsetType
from actorstream.options import OnGap, OnTruncated, check_name
from actorstream.options.checks import positive, require
from actorstream.producer import Producer
from actorstream.wire.message import Message

if TYPE_CHECKING:
    from actorstream.client import Client

Output = Body | Sequence[Body] | None
"""What the function of a pipe makes of a message: one output, several in their order, or none."""
Function = Callable[[Message], Awaitable[Output] | Output]
"""Makes the outputs of one message. It may be called again for the same message, and should then say the same."""

STORE_EVERY_S = 1.0
STORE_EVERY = 1_000
"""How often the source is told how far the pipe has come, by time and by messages that are done: what is read and sent
again after a crash is what came since."""

T = TypeVar("T")


class Pipe:
    """Reads a stream, and publishes what a function makes of each message to another one: exactly once, and in order.

        await Pipe(client, "orders", "bills", make_bill, name="billing").run()

    Run again under its name, in this process or another one, it goes on where it was: nothing is lost, and nothing is
    published twice, wherever the one before was killed. One process at a time runs a pipe of a name; two would both
    read and publish everything, and the broker would drop what it gets for the second time.

    Args:
        client: makes the producer and the consumer, which its tree shows.
        source, target: two existing streams.
        function: gets a message; plain (it must not block the loop) or `async`. Returns what is to be published: one
            message, a list of them (65,535 at most, which fit a frame together), or None to leave it out. Of two calls
            for one message, after a crash, the first one's outputs count.
        name: stands for the pipe in both streams: as the producer's name, and, as `pipe:<name>`, for an offset.
        offset: where to begin when the target has nothing of this pipe; anything that `Client.consumer` takes.
        until: the last offset to read, or "end" for what the source holds now; None never ends.
        on_error: what happens when the function raises, or makes what cannot be published. What is parked is parked
            once, too.
        raw: records are taken and published as they are stored; the outputs are bytes.
        start_timeout_s: how long the start may take, waiting for leaders included.

    Raises:
        InvalidArgument: an argument that is none.
    """

    def __init__(
        self,
        client: Client,
        source: str,
        target: str,
        function: Function,
        *,
        name: str,
        offset: OffsetLike = "first",
        until: int | str | None = None,
        on_error: ErrorPolicy | None = None,
        raw: bool = False,
        start_timeout_s: float = 30.0,
    ) -> None:
        self._client = client
        self._source = check_name("the source of a pipe", source)
        self._target = check_name("the target of a pipe", target)
        self._name = check_name("a pipe's name", name)
        self._reference = check_name("the offset's reference of a pipe", f"pipe:{name}")
        require(source != target, "a pipe that reads what it writes never ends: source and target are two streams")
        require(callable(function), f"the function of a pipe is called with a message; {function!r} cannot be")
        self._function = function
        self._specification = offset_module.parse(offset)
        self._until = until
        self._policy = on_error or ErrorPolicy()
        if isinstance(self._policy.then, Park):
            parking = self._policy.then.stream
            require(parking not in (source, target), "messages are parked in a stream of their own")
        self._raw = raw
        positive("start_timeout_s", start_timeout_s)
        self._start_timeout_s = start_timeout_s
        self._running = False
        self._outputs: Sequence[Body] = ()
        self._pending: deque[tuple[int, Receipt]] = deque()
        self._more = asyncio.Event()
        self._begun = False
        self._stored = -1
        self._position = 0
        self._read = 0
        self._published = 0

    @property
    def position(self) -> int:
        """The next offset of the source to be read, while it runs."""
        return self._position

    @property
    def completed(self) -> int:
        """All offsets below this one are done: their outputs are confirmed, or there are none."""
        return self._pending[0][0] if self._pending else self._position

    @property
    def read(self) -> int:
        """Messages of the source that were read so far, those included that were read before a crash, too."""
        return self._read

    @property
    def published(self) -> int:
        """Outputs handed to the broker so far, those included that it has and drops."""
        return self._published

    async def run(self) -> None:
        """Run until the source's end was reached (with `until`), or something fails. Cancelling it is safe.

        When it returns, everything is confirmed. Lost connections and moved leaders show as pauses.

        Raises:
            HandlerFailed: the function, by policy; its error is chained.
            SourceReplaced, StreamTruncated: the source is not the stream that this pipe read before.
            OffsetGap: retention took what the pipe has not read.
            PublishRejected, PublisherFenced (as the cause of `Closed`): what is wrong with the target.
            StreamDoesNotExist, AccessRefused, …: what a broker says.
            RequestTimeout: not started in time.
            InvalidArgument: it runs already.
        """
        require(not self._running, "this pipe runs already")
        self._running = True
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(self._start_timeout_s):
                        producer, consumer, handle = await self._open(stack)
                except TimeoutError:
                    raise RequestTimeout(f"the start of pipe {self._name!r}", self._start_timeout_s) from None
                await self._pass_on(producer, consumer, handle)
        finally:
            self._running = False

    # Where to start -----------------------------------------------------------------------------------------------

    async def _open(self, stack: contextlib.AsyncExitStack) -> tuple[Producer, Consumer, PolicedHandler]:
        producer = await self._producer(stack, self._target)
        parking: _ParkedOnce | None = None
        if isinstance(self._policy.then, Park):
            parking = _ParkedOnce(await self._producer(stack, self._policy.then.stream))
        start = await self._start()
        consumer = await self._client.consumer(
            self._source,
            start,
            until=self._until,
            raw=self._raw,
            on_gap=OnGap.RAISE,
            on_truncated=OnTruncated.RAISE,
            start_timeout_s=self._start_timeout_s,
        )
        await stack.enter_async_context(consumer)
        self._pending.clear()
        self._begun = False
        self._position = start.value if start.type is OffsetType.OFFSET else 0
        return producer, consumer, PolicedHandler(self._transform, self._policy, parking)

    async def _producer(self, stack: contextlib.AsyncExitStack, stream: str) -> Producer:
        producer = await self._client.producer(
            stream,
            name=self._name,
            confirm_timeout_s=None,  # as long as it takes: whatever was read has to come out
            start_timeout_s=self._start_timeout_s,
        )
        return await stack.enter_async_context(producer)

    async def _start(self) -> OffsetSpecification:
        """Where to read from.

        Raises:
            SourceReplaced, OffsetGap: the ids that the target has are not of this source, or not of all of it.
        """
        client = self._client
        sequence = await _persistently(lambda: client.publishing_sequence(self._name, self._target))
        stored = await _persistently(lambda: client.query_offset(self._reference, self._source))
        if sequence == 0:
            # Nothing came out yet, or the target was made anew: where to begin is for the user to say.
            if self._specification.type not in (OffsetType.NEXT, OffsetType.LAST):
                return self._specification
            if stored is None:  # what these mean now, they shall mean for the runs to come
                stored = await self._resolve()
                await self._remember_start(stored)
            return offset_module.at(stored)
        if stored is None:
            statistics = await _persistently(lambda: client.stream_statistics(self._source))
            if statistics.first_chunk_id > sequence:  # what is stored goes with the messages that it stood for
                raise OffsetGap(self._source, sequence, statistics.first_chunk_id)
            raise SourceReplaced(self._source, self._name)
        return offset_module.at(stored)

    async def _resolve(self) -> int:
        """The offset that "next" or "last" means at this moment."""
        async with await self._client.consumer(self._source, "last", until="end") as reader:
            last_chunk = [message.offset async for message in reader]
        if not last_chunk:
            return 0
        return last_chunk[0] if self._specification.type is OffsetType.LAST else last_chunk[-1] + 1

    async def _remember_start(self, offset: int) -> None:
        """Have the source keep where the pipe began; for sure, before anything of it is in the target."""
        pauses = Backoff(BackoffPolicy(cap_s=0.5))
        while await _persistently(lambda: self._client.query_offset(self._reference, self._source)) != offset:
            await _persistently(lambda: self._client.store_offset(self._reference, self._source, offset))
            await asyncio.sleep(pauses.next_delay())

    # Running ------------------------------------------------------------------------------------------------------

    async def _pass_on(self, producer: Producer, consumer: Consumer, handle: PolicedHandler) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self._settle()), tasks.create_task(self._store_regularly())]
                await self._read_all(producer, consumer, handle)
                for task in beside:
                    task.cancel()
                await self._drain()
        except BaseExceptionGroup as group:
            error = group.exceptions[0]
            raise error from error.__cause__
        await self._store()

    async def _read_all(self, producer: Producer, consumer: Consumer, handle: PolicedHandler) -> None:
        async for message in consumer:
            if not self._begun:
                await self._remember_start(message.offset)
                self._begun = True
            self._outputs = ()
            await handle(message)
            if self._outputs:
                try:
                    receipt = await _publish(producer, self._outputs, message.offset + 1)
                except (InvalidArgument, MessageCodecError) as error:  # it is this message's fault, as if it had raised
                    await handle(message, error)
                else:
                    self._pending.append((message.offset, receipt))
                    self._published += len(self._outputs)
                    self._more.set()
            self._read += 1
            self._position = message.offset + 1

    async def _transform(self, message: Message) -> None:
        result = self._function(message)
        self._outputs = _outputs(await result if inspect.isawaitable(result) else result)

    async def _settle(self) -> None:
        while True:
            await self._drain()
            self._more.clear()
            await self._more.wait()

    async def _drain(self) -> None:
        """Take what is confirmed off the list, in order. Raises what became of a message that is not."""
        since = 0
        while self._pending:
            await self._pending[0][1]
            self._pending.popleft()
            since += 1
            if since == STORE_EVERY:
                since = 0
                await self._store()

    async def _store_regularly(self) -> None:
        while True:
            await asyncio.sleep(STORE_EVERY_S)
            await self._store()

    async def _store(self) -> None:
        """Have the source keep how far it has come, if it is still that source.

        Raises:
            SourceReplaced: what it kept is gone. It was made anew, and may have had as many messages as were read by
                the time that the consumer was attached again, which cannot tell the two apart then.
        """
        completed = self.completed
        if not self._begun or completed == self._stored:
            return
        try:
            known = await self._client.query_offset(self._reference, self._source)
            if known is not None:
                await self._client.store_offset(self._reference, self._source, completed)
                self._stored = completed
        except ActorStreamError:
            return  # it may lag: the next one will do
        if known is None:
            raise SourceReplaced(self._source, self._name)


class _ParkedOnce:
    """Parks under an id that the source's offset gives, so that a message that fails again is not parked again."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def send_wait(self, message: Message) -> None:
        await self._producer.send_wait(message, publishing_id=message.application_properties["x-origin-offset"] + 1)


async def _publish(producer: Producer, outputs: Sequence[Body], publishing_id: int) -> Receipt:
    if len(outputs) == 1:
        return await producer.send(outputs[0], publishing_id=publishing_id)
    # Not compressed: those who read over AMQP 1.0 and 0-9-1 do not get what is.
    return await producer.send_sub_entry(outputs, compression="none", publishing_id=publishing_id)


def _outputs(result: Output) -> Sequence[Body]:
    if result is None:
        return ()
    if isinstance(result, (bytes, bytearray, memoryview, str, Message)):
        return (result,)
    if isinstance(result, (list, tuple)):
        return result
    raise InvalidArgument(f"the function of a pipe returns what can be published, or None, not {result!r}")


async def _persistently(ask: Callable[[], Awaitable[T]]) -> T:
    """What a broker answers, asked again as long as that may help."""
    pauses = Backoff(BackoffPolicy(cap_s=1.0))
    while True:
        try:
            return await ask()
        except ActorStreamError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(pauses.next_delay())
