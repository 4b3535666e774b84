"""The `Client`: the owner of the tree, of stream administration, and of the handles it makes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.bus import EventBus
from actorstream.actors.calls import call
from actorstream.actors.future import Channel
from actorstream.actors.runtime import Home
from actorstream.actors.supervisor import Node
from actorstream.actors.tree import Tree
from actorstream.base_producer import BaseProducer
from actorstream.consumer import Consumer
from actorstream.consuming import ConsumerFactory
from actorstream.errors import (
    ActorStreamError,
    Closed,
    RequestTimeout,
)
from actorstream.options import (
    ConnectionOptions,
    Endpoint,
)
from actorstream.options.checks import positive
from actorstream.producer import Producer
from actorstream.producing import ProducerFactory
from actorstream.reading import Reader
from actorstream.serving import ClientService, OnLoop
from actorstream.super_stream_administration import SuperStreamAdministration
from actorstream.super_stream_consumer import SuperStreamConsumer
from actorstream.super_stream_producer import SuperStreamProducer
from actorstream.transport import Opener
from actorstream.wire import compiled

FELL_TIMEOUT_S = 5.0
"""How long the actors may take to end when the client is closed; each of them has a bound of its own within that."""

logger = logging.getLogger("actorstream")


class Client(SuperStreamAdministration, ProducerFactory, ConsumerFactory):
    """One client of a broker or cluster: made by `connect`, used on the loop that made it.

    It owns the supervision tree and all connections; producers and consumers share them.
    """

    def __init__(self, home: Home, options: ConnectionOptions, close_timeout_s: float) -> None:
        self._home = home
        self._options = options
        self._close_timeout_s = close_timeout_s
        self._tree: Tree | None = None
        self._handles: dict[BaseProducer | Reader, str] = {}
        self._on_forget: list[Callable[[BaseProducer | Reader], None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._counter = 0
        self._service = ClientService(self)
        self._requests: OnLoop | None = None

    async def _start(self, seeds: Sequence[Endpoint], opener: Opener) -> None:
        if not compiled:
            logger.info("the wire layer of this installation is not compiled: it does the same, several times slower")
        self._tree = Tree(self._home, self._options, self._escalated)
        self._requests = OnLoop(self._service)
        await self._tree.grow(seeds, opener, self._requests)
        await self._ask(m.Reach())

    @property
    def _grown(self) -> Tree:
        if self._tree is None or self._closing is not None:
            raise Closed("the client is closed")
        return self._tree

    @property
    def _client(self) -> Client:
        return self

    @property
    def ref(self) -> m.Ref:
        """The client as an actor, for a user's own actors: it is asked what `mailbox` has for a client's ref."""
        return self._grown.desk

    async def _ask(self, message: object) -> Any:
        return await call(self._grown.locator, message, dead=Closed)

    # Handles ----------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _starting(
        self, handle: BaseProducer | Reader, child: str, what: str, seconds: float
    ) -> AsyncIterator[asyncio.Timeout]:
        """Start a handle in time, or close it; known before it starts, so that whoever closes the client finds it."""
        positive("start_timeout_s", seconds)
        self._handles[handle] = child
        try:
            async with asyncio.timeout(seconds) as limit:
                yield limit
        except BaseException as error:
            late = RequestTimeout(what, seconds, await self._why(child)) if isinstance(error, TimeoutError) else None
            await handle.close()
            if late is not None:
                raise late from None
            raise

    async def _why(self, child: str) -> str:
        """Why the last incarnation of a handle's actor ended."""
        with contextlib.suppress(ActorStreamError):  # the client was closed meanwhile
            for supervisor in (await self.tree()).children:
                for node in supervisor.children:
                    if node.name == child:
                        return node.last_reason
        return ""

    def _name(self, base: str) -> str:
        self._counter += 1
        # A path in the tree is cut at slashes, and a stream's name may have some.
        return f"{base.replace('/', '|')}-{self._counter}"

    # What the handles need --------------------------------------------------------------------------------------------

    async def _stop_child(self, handle: BaseProducer | Reader) -> None:
        """Stop a handle's actor."""
        child = self._handles.get(handle)
        if self._tree is None or child is None:
            return
        match handle:
            case Producer():
                stop = self._tree.stop_publisher
            case SuperStreamProducer() | SuperStreamConsumer():
                stop = self._tree.stop_super_stream
            case _:
                stop = self._tree.stop_consumer
        with contextlib.suppress(ActorStreamError):  # its supervisor is gone, and so is the actor
            await stop(child)

    async def _close_handle(self, ref: m.Ref) -> None:
        """Close the handle whose actor this is; it may be closed already."""
        for handle in tuple(self._handles):
            if isinstance(handle, Producer | Consumer) and handle.ref.actor_urn == ref.actor_urn:
                await handle.close()

    def _forget(self, handle: BaseProducer | Reader) -> None:
        """The handle is closed, and counts nothing any more."""
        if handle in self._handles:
            for tell_of in self._on_forget:
                tell_of(handle)
            del self._handles[handle]

    def _escalated(self, reason: BaseException | None) -> None:
        """The root gave up (on the tree's loop): nobody restarts anything any more, and every handle raises why."""
        for handle in tuple(self._handles):
            handle._gone(reason)  # noqa: SLF001 - a handle and its client are one thing in two classes

    # Seeing -----------------------------------------------------------------------------------------------------------

    async def tree(self) -> Node:
        """A snapshot of the supervision tree: every actor with its state, generation, restarts and last reason."""
        return await self._grown.snapshot()

    def events(self) -> AsyncIterator[events.Event]:
        """What happens from this call on: connections, restarts with their reasons, moves, gaps. Ends with the client.

        A reader who falls 10,000 events behind misses the newest; nothing ever waits for a reader.
        """
        bus = self._grown.bus
        return _read_events(bus, bus.listen())

    # End --------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close all handles (producers flush first), then all connections.

        Bounded in every state; safe to call again, and from several tasks. What does not end in time is left to end by
        itself, and logged.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            if self._requests is not None:
                await self._requests.close()
            await asyncio.gather(*(handle.close() for handle in tuple(self._handles)), return_exceptions=True)
        finally:
            try:
                if self._tree is not None:
                    await self._tree.fell(FELL_TIMEOUT_S)
            except TimeoutError:
                logger.warning("actors of %r did not end within %g s of its close", self._options.name, FELL_TIMEOUT_S)
            finally:
                await self._service.close()
                await self._home.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _read_events(bus: EventBus, channel: Channel[events.Event]) -> AsyncIterator[events.Event]:
    try:
        while True:
            try:
                yield await channel.get()
            except Closed:
                return
    finally:
        bus.ignore(channel)
