"""What a user's own actors ask of handles, carried out as the handles' methods are: on the loop of the user.

The actors that take the requests live on the tree's loop, which may be another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from actorstream.actors import mailbox
from actorstream.actors.calls import tell
from actorstream.actors.future import LoopFuture
from actorstream.actors.mailbox import is_alive
from actorstream.actors.reasons import as_exception
from actorstream.errors import ActorStreamError, Closed

if TYPE_CHECKING:
    from actorstream.client import Client
    from actorstream.consumer import Consumer

END_S = 1.0
"""How long the deliveries to actors may take to notice that the client was closed."""

logger = logging.getLogger("actorstream.serving")


class OnLoop:
    """Carries requests out in tasks on the loop that it was made on; called from any thread."""

    __slots__ = ("_loop", "_tasks", "_work")

    def __init__(self, work: Callable[[Any], Coroutine[Any, Any, object]]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[object], None] = {}  # each consumer has one, and an empty set is larger

    def __call__(self, request: object) -> LoopFuture[Any]:
        """Begin; the answer comes when it is done."""
        answer: LoopFuture[Any] = LoopFuture()
        try:
            self._loop.call_soon_threadsafe(self._begin, request, answer)
        except RuntimeError:
            answer.try_set_exception(Closed("the event loop of the client's user is closed"))
        return answer

    def _begin(self, request: object, answer: LoopFuture[Any]) -> None:
        task = self._loop.create_task(self._work(request))
        self._tasks[task] = None

        def ended(task: asyncio.Task[object]) -> None:
            self._tasks.pop(task, None)
            if task.cancelled():
                answer.try_set_exception(Closed("the client was closed meanwhile"))
            elif (error := task.exception()) is not None:
                logger.debug("%r failed: %r", request, error)  # whoever only told it does not hear of it otherwise
                answer.try_set_exception(as_exception(error, "a request"))
            else:
                answer.try_set(task.result())

        task.add_done_callback(ended)

    async def close(self) -> None:
        """End what is under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ConsumerService:
    """A consumer's side of `mailbox.ConsumerRequest`."""

    __slots__ = ("_consumer",)

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def __call__(self, request: mailbox.ConsumerRequest) -> None:
        """Carry a request out."""
        match request:
            case mailbox.Seek(offset=offset):
                await self._consumer.seek(offset)
            case mailbox.StoreOffset(offset=number):
                await self._consumer.store_offset(number)


class ClientService:
    """A client's side of `mailbox.ClientRequest`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._background: set[asyncio.Task[None]] = set()

    async def __call__(self, request: mailbox.ClientRequest) -> object:
        """Carry a request out; what it is answered with."""
        client = self._client
        match request:
            case mailbox.CreateStream(stream, arguments, exist_ok):
                await client.create_stream(stream, arguments, exist_ok=exist_ok)
            case mailbox.DeleteStream(stream, missing_ok):
                await client.delete_stream(stream, missing_ok=missing_ok)
            case mailbox.OpenProducer(stream, name, options):
                return (await client.producer(stream, name=name, **options)).ref
            case mailbox.Subscribe():
                return await self._subscribe(request)
            case mailbox.Close(ref):
                await client._close_handle(ref)  # noqa: SLF001 - a client and its service are one thing
            case mailbox.GetTree():
                return await client.tree()
            case mailbox.ReportEvents(to):
                self._in_background(self._report(to))
        return None

    async def close(self) -> None:
        """Wait for the end of what goes on in the background, which the end of all handles and of the tree brings."""
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=END_S)
            for task in late:
                task.cancel()

    async def _subscribe(self, request: mailbox.Subscribe) -> object:
        consumer = await self._client.consumer(request.stream, request.offset, name=request.name, **request.options)
        self._in_background(self._deliver(consumer, request))
        return consumer.ref

    async def _deliver(self, consumer: Consumer, request: mailbox.Subscribe) -> None:
        ended_by: ActorStreamError | None = None
        try:
            await consumer.deliver_to(request.to, max_size=request.max_size)
        except ActorStreamError as error:
            ended_by = error
        finally:
            await consumer.close()
            tell(request.to, mailbox.DeliveryEnded(request.stream, ended_by))

    async def _report(self, to: mailbox.Tellable) -> None:
        async for event in self._client.events():
            if not (is_alive(to) and tell(to, event)):
                return

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
