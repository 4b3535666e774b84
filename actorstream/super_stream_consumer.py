"""What a user reads a super stream with: a consumer for each partition, read as one."""

# ruff: noqa: SLF001 - a handle, those of its partitions and their client are one thing in several classes

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from actorstream.actors import messages as m
from actorstream.actors.calls import tell
from actorstream.actors.progress import Progress
from actorstream.actors.router import SuperStreamState
from actorstream.actors.routing_table import Routes
from actorstream.actors.tree import Gone, Tree
from actorstream.consumer import Consumer
from actorstream.errors import (
    ActorStreamError,
    Closed,
    ConsumeError,
    InvalidArgument,
    PartitionsChanged,
    RequestTimeout,
    StreamDoesNotExist,
)
from actorstream.groups import Group
from actorstream.merging import Merge
from actorstream.options import OnPartitionsChanged, SuperStreamConsumerOptions
from actorstream.reading import Reader
from actorstream.wire.message import Message

if TYPE_CHECKING:
    from actorstream.client import Client
    from actorstream.producer import Producer


class SuperStreamConsumer(Reader):
    """Reads all partitions of a super stream; made by `Client.super_stream_consumer`. Read like a `Consumer`.

    The messages of each partition come in order; partitions that have some take turns. `message.stream` names the
    partition. Each is a consumer of its own, with its own place, offset and connection, and recovers by itself: while
    one has no leader, the others are read.

    As a single active consumer, it shares the partitions with the other members of its group: each partition is read by
    one of them at a time, and the broker gives them new shares when members come and go.
    """

    def __init__(
        self,
        client: Client,
        super_stream: str,
        options: SuperStreamConsumerOptions,
        *,
        group: Group | None,
        begin: Callable[[str, bool], Awaitable[Consumer]],
        is_bounded: bool,
    ) -> None:
        self._client = client
        self._super_stream = super_stream
        self._on_partitions_changed = options.on_partitions_changed
        self._group = group
        self._begin = begin
        self._is_bounded = is_bounded
        self._loop = asyncio.get_running_loop()
        self._state = SuperStreamState(
            super_stream=super_stream, refresh_s=options.refresh_s, routes=Routes(1), on_looked=self._told_of_look
        )
        self._router: m.Ref | None = None
        # By partition; replaced when it changes, since any thread may read it.
        self._parts: dict[str, Consumer] = {}
        self._adding: set[str] = set()
        self._started = False
        self._merge = Merge(self._part_ended)
        self._failure: ActorStreamError | None = None
        self._closed: ActorStreamError | None = None
        self._closing: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()
        self._paused = False

    @property
    def stream(self) -> str:
        """The super stream's name."""
        return self._super_stream

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions that are read."""
        return tuple(self._parts)

    @property
    def active_partitions(self) -> tuple[str, ...]:
        """The partitions of which this is the active consumer: all of them, unless it shares them with its group."""
        return tuple(name for name, part in self._parts.items() if part.active)

    @property
    def active(self) -> bool:
        """Whether it is the active consumer of at least one partition."""
        return bool(self.active_partitions)

    @property
    def positions(self) -> dict[str, int]:
        """By partition, the next offset to be dispatched; see `Consumer.position`."""
        return {name: part.position for name, part in self._parts.items()}

    @property
    def completed(self) -> dict[str, int | None]:
        """By partition, the last offset whose processing completed; None before that."""
        return {name: part.completed for name, part in self._parts.items()}

    @property
    def received(self) -> int:
        """Messages dispatched so far, of the partitions that are read now."""
        return sum(part.received for part in self._parts.values())

    @property
    def ref(self) -> m.Ref:
        """The router, which knows the partitions; valid across restarts, dead once the consumer is closed."""
        if self._router is None:
            raise Closed(f"the consumer of super stream {self._super_stream!r} was never started")
        return self._router

    def partition(self, name: str) -> Consumer:
        """The consumer of one partition, to look at and to store offsets with. It is read and closed from here.

        Raises:
            InvalidArgument: no partition that is read has this name.
        """
        part = self._parts.get(name)
        if part is None:
            raise InvalidArgument(
                f"super stream {self._super_stream!r} has no partition {name!r}, but {', '.join(self._parts) or 'none'}"
            )
        return part

    # Reading ------------------------------------------------------------------------------------------------------

    @property
    def was_closed(self) -> bool:
        """See `Reader`."""
        return isinstance(self._closed, Closed)

    def take(self) -> Message | None:
        """See `Reader`."""
        return None if self._completes_the_last() else self._merge.take()

    def take_ahead(self) -> tuple[Message, Progress] | None:
        """See `Reader`."""
        return None if self._completes_the_last() else self._merge.take_ahead()

    def take_batch(self, max_size: int | None) -> list[Message]:
        """See `Reader`: messages of one partition."""
        return [] if self._completes_the_last() else self._merge.take_batch(max_size)

    def _completes_the_last(self) -> bool:
        """Whether it was closed: nothing of any partition is handed out then, and what was is completed."""
        if self._closed is not None:
            self.complete()
        return self._closed is not None

    def complete(self) -> None:
        """What was dispatched last is completed."""
        self._merge.complete()

    def put_back(self, messages: list[Message], progress: Progress | None = None) -> None:
        """See `Reader`."""
        self._merge.put_back(messages, progress)

    async def fetch(self) -> None:
        """See `Reader`.

        Raises:
            StreamDoesNotExist: the super stream was deleted, and what had arrived is read.
            PartitionsChanged: they have, and `on_partitions_changed` says to raise that.
            and what ended a partition for good.
        """
        if self.was_closed:
            raise StopAsyncIteration
        if self._failure is not None:
            raise self._failure
        try:
            await self._merge.fetch()
        except StopAsyncIteration:
            if self._is_bounded or self.was_closed:
                raise
            self._failure = StreamDoesNotExist(f"no partition of super stream {self._super_stream!r} is left")
            raise self._failure from None

    async def store_offset(self, message: Message | None = None) -> None:
        """Have an offset stored: that of a message, in its partition; or the last completed one of each active one.

        Raises:
            as `Consumer.store_offset`.
        """
        if message is not None:
            await self.partition(message.stream).store_offset(message.offset)
            return
        for name in self.active_partitions:
            await self.partition(name).store_offset()

    async def stored_offsets(self) -> dict[str, int | None]:
        """By partition, the offset that is stored under this consumer's name at this moment; None for none.

        Raises:
            as `Consumer.stored_offset`.
        """
        return {name: await part.stored_offset() for name, part in self._parts.items()}

    # Partitions ---------------------------------------------------------------------------------------------------

    async def _start(self, tree: Tree, child: str, gone: Gone, seconds: float) -> None:
        """Start the router, the coordinator if there is a group, and a consumer for each partition.

        Partitions that have no leader until the time is over keep on being waited for, while the others are read (F44).

        Raises:
            RequestTimeout: none could be read in time.
        """
        what = f"the start of a consumer of super stream {self._super_stream!r}"
        try:
            async with asyncio.timeout(seconds) as budget:
                self._router = await tree.start_router(child, self._state, gone)
                await self._state.ready
                if self._group is not None:
                    await self._group.start(tree, child, gone)
        except TimeoutError:
            raise RequestTimeout(what, seconds) from None
        self._adding.update(self._state.partitions)
        starting = [self._in_background(self._add(name, is_new=False)) for name in self._state.partitions]
        self._started = True
        left = max((budget.when() or 0.0) - self._loop.time(), 0.0)
        done, late = await asyncio.wait(starting, timeout=left, return_when=asyncio.FIRST_EXCEPTION)
        for task in late:
            task.add_done_callback(self._added_late)
        for error in [task.exception() for task in done]:  # of all of them, or the second one would be "not retrieved"
            if error is not None:
                raise error
        if not done:
            raise RequestTimeout(what, seconds)

    def _added_late(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    async def _add(self, name: str, *, is_new: bool) -> None:
        try:
            part = await self._begin(name, is_new)
        finally:
            self._adding.discard(name)
        if self._closed is not None:  # meanwhile
            await part.close()
            return
        if self._paused:
            part.pause()
        known = [*self._state.partitions]
        parts = {**self._parts, name: part}
        self._parts = {one: parts[one] for one in sorted(parts, key=lambda one: (one not in known, known.index(one)))}
        self._merge.add(part)

    def _part_ended(self, part: Consumer, error: BaseException | None) -> None:
        """A partition came to its end; raises what the reader has to hear of."""
        if error is None:  # it was read to the end that was asked for
            return
        if isinstance(error, StreamDoesNotExist) and self._on_partitions_changed is not OnPartitionsChanged.RAISE:
            # One partition is deleted: that is its end, and nobody else's. The router tells of it when it has looked.
            self._parts = {name: one for name, one in self._parts.items() if one is not part}
            tell(self._router, m.RefreshPartitions())
            self._in_background(part.close())
            return
        self._fail(error)
        assert self._failure is not None
        raise self._failure

    def _told_of_look(self, partitions: tuple[str, ...]) -> None:
        """The router has looked (on the tree's loop)."""
        with contextlib.suppress(RuntimeError):  # the user's loop is closed
            self._loop.call_soon_threadsafe(self._on_look, partitions)

    def _on_look(self, partitions: tuple[str, ...]) -> None:
        """Compare what there is with what is read, and not with the look before.

        A partition that ended here may have been made anew between two looks.
        """
        if not self._started or self._closed is not None or self._is_bounded:
            return
        added = tuple(name for name in partitions if name not in self._parts and name not in self._adding)
        removed = tuple(name for name in self._parts if name not in partitions)
        if self._on_partitions_changed is OnPartitionsChanged.RAISE and (added or removed):
            self._fail(PartitionsChanged(self._super_stream, added, removed))
        elif self._on_partitions_changed is OnPartitionsChanged.FOLLOW:
            self._adding.update(added)
            for name in added:
                self._in_background(self._follow(name))

    async def _follow(self, name: str) -> None:
        """Read a partition that was added. All of it is news, wherever reading the others began."""
        try:
            await self._add(name, is_new=True)
        except StreamDoesNotExist:  # it is gone again; should it come back, the next look tells
            pass
        except ActorStreamError as error:
            self._fail(error)

    def _fail(self, error: BaseException | None) -> None:
        """The reader gets this when it wants more."""
        self._failure = error if isinstance(error, ActorStreamError) else ConsumeError(f"{self!r} ended: {error!r}")
        self._merge.wake()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    # Control ------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Ask for no more chunks, of any partition; see `Consumer.pause`."""
        self._paused = True
        for part in self._parts.values():
            part.pause()

    def resume(self) -> None:
        """Ask for chunks again."""
        self._paused = False
        for part in self._parts.values():
            part.resume()

    async def close(self) -> None:
        """Leave the broker and end the iteration, as `Consumer.close` does for each partition.

        Bounded; safe to call again, and from several tasks.
        """
        if self._closing is None:
            if self._closed is None:
                self._closed = Closed(f"the consumer of super stream {self._super_stream!r} was closed")
            self._closing = asyncio.ensure_future(self._close(wait=self._is_handled_elsewhere))
        await asyncio.shield(self._closing)

    async def _close(self, *, wait: bool) -> None:
        try:
            for task in self._working:
                task.cancel()
            await self._merge.close()
            closing = [part._close_soon(wait=wait) for part in self._parts.values()]
            await asyncio.gather(*closing, return_exceptions=True)
            await asyncio.gather(*self._working, return_exceptions=True)
        finally:
            try:
                await self._client._stop_child(self)
            finally:
                self._client._forget(self)

    async def _make_producer(self, stream: str) -> Producer:
        return await self._client.producer(stream)

    def _gone(self, reason: BaseException | None) -> None:
        """See `Reader`: the router or the coordinator ended, since the super stream is gone, or all is lost."""
        with contextlib.suppress(RuntimeError):  # the user's loop is closed
            self._loop.call_soon_threadsafe(self._fail, reason)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return (
            f"<SuperStreamConsumer of {self._super_stream!r}: {state}, {len(self._parts)} partitions, "
            f"{self.received} received>"
        )
