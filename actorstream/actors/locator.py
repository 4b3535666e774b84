"""Who knows where streams live: metadata, and every request that any broker can answer, over control connections.

A healthy broker may take seconds over Metadata while it has not noticed yet that another one is dead, so a query that
is not answered at once is asked of a second broker too, and the first answer counts. Whoever looks for a stream's
leader waits in one place: one query at a time asks for all streams that are wanted, however many publishers and
subscribers lost them at once, and nobody has to poll for himself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from typing import Any

from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.future import LoopFuture
from actorstream.actors.pool import CONTROL
from actorstream.actors.runtime import StreamActor
from actorstream.errors import (
    ActorStreamError,
    ConnectionLost,
    MalformedFrame,
    RequestTimeout,
    ResponseError,
    StreamNotAvailable,
    response_error,
)
from actorstream.options import ConnectionOptions, Endpoint
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode

POLL_FIRST_S = 0.02
POLL_CAP_S = 0.5
SETTLED = (ResponseCode.STREAM_DOES_NOT_EXIST, ResponseCode.ACCESS_REFUSED)
"""What a metadata query says of a stream that waiting does not change."""


class Locator(StreamActor):
    """The actor; see the module. It answers `WhereIs`, `Metadata`, `Administer` and `StoreOffset` when it can."""

    def __init__(self, *, seeds: Sequence[Endpoint], options: ConnectionOptions, pool: m.Ref) -> None:
        super().__init__()
        self._options = options
        self._pool = pool
        self._known = list(dict.fromkeys(seeds))
        self._failed_at: dict[Endpoint, float] = {}
        self._current: Endpoint | None = None
        self._wanted: dict[str, LoopFuture[m.Members]] = {}
        self._wanted_more = asyncio.Event()
        self._resolver: asyncio.Task[None] | None = None

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {"broker": str(self._current or ""), "brokers": len(self._known), "looking_for": len(self._wanted)}

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To the Locator"; the answers are futures."""
        match message:
            case m.WhereIs(stream=stream):
                return self._where_is(stream)
            case m.Metadata(streams=streams):
                return self._later(self._metadata(streams, self._deadline()))
            case m.Administer(command=command, repeatable=repeatable):
                return self._later(self._administer(command, repeatable=repeatable))
            case m.StoreOffset():
                return self._later(self._store_offset(message))
            case m.Reach():
                return self._later(self._reach())
            case _:
                return super().on_receive(message)

    def on_stop(self) -> None:
        """Nobody is left waiting for an answer that will not come."""
        self._fail_wanted(ConnectionLost("the client was closed"))

    def on_failure(self, *_: object) -> None:
        """The next incarnation starts without those who waited: they ask again."""
        self._fail_wanted(StreamNotAvailable("the locator failed"))

    def _fail_wanted(self, error: ActorStreamError) -> None:
        wanted, self._wanted = self._wanted, {}
        for future in wanted.values():
            future.try_set_exception(error)

    def _later(self, work: Coroutine[Any, Any, Any]) -> LoopFuture[Any]:
        """Answer when the work is done, and take the next message meanwhile."""
        reply: LoopFuture[Any] = LoopFuture()

        async def run() -> None:
            try:
                reply.try_set(await work)
            except ActorStreamError as error:
                reply.try_set_exception(error)
            except asyncio.CancelledError:
                reply.try_set_exception(ConnectionLost("the client was closed"))
                raise

        self.spawn(run())
        return reply

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._options.rpc_timeout_s

    # Where streams live -------------------------------------------------------------------------------------------

    def _where_is(self, stream: str) -> LoopFuture[m.Members]:
        future = self._wanted.get(stream)
        if future is None:
            future = self._wanted[stream] = LoopFuture()
            self._wanted_more.set()
            if self._resolver is None or self._resolver.done():
                self._resolver = self.spawn(self._resolve_wanted())
        return future

    async def _resolve_wanted(self) -> None:
        """Ask for all wanted streams together until each has a leader or is known not to exist."""
        poll = POLL_FIRST_S
        while self._wanted:
            self._wanted_more.clear()
            wanted = tuple(self._wanted)
            try:
                states = await self._metadata(wanted, self._deadline())
            except ResponseError as error:
                self._fail_wanted(error)  # log-in refused, for example: those who wait have to hear of it
                return
            except ActorStreamError:
                states = {}
            progress = [self._resolve(stream, state) for stream, state in states.items()]
            poll = POLL_FIRST_S if any(progress) else min(poll * 1.6, POLL_CAP_S)
            if self._wanted and not self._wanted_more.is_set():
                # Many clients lose a leader at the same moment: they should not ask in step.
                await _wait(self._wanted_more.wait(), poll * random.uniform(0.5, 1.0))

    def _resolve(self, stream: str, state: m.StreamState) -> bool:
        future = self._wanted.get(stream)
        if future is None:
            return False
        if state.code == ResponseCode.OK and state.leader is not None:
            future.try_set(m.Members(state.leader, state.replicas))
        elif state.code in SETTLED:
            future.try_set_exception(response_error(state.code, f"stream {stream!r}"))
        else:
            return False
        del self._wanted[stream]
        return True

    async def _metadata(self, streams: tuple[str, ...], deadline: float) -> dict[str, m.StreamState]:
        response = await self._ask_any(c.Metadata(streams), deadline, repeatable=True)
        if not isinstance(response, c.MetadataResponse):
            raise MalformedFrame(f"a metadata query was answered with {type(response).__name__}")
        brokers = {broker.reference: Endpoint(broker.host, broker.port) for broker in response.brokers}
        for endpoint in brokers.values():
            if endpoint not in self._known:
                self._known.append(endpoint)
        return {
            stream.stream: m.StreamState(
                stream.code,
                brokers.get(stream.leader),
                tuple(brokers[replica] for replica in stream.replicas if replica in brokers),
            )
            for stream in response.streams
        }

    # Requests that any broker can answer -----------------------------------------------------------------------------

    async def _reach(self) -> m.Negotiated:
        """Try every seed once; the error of the one that says most is raised when none can be reached."""
        worst: ActorStreamError | None = None
        for endpoint in tuple(self._known):
            try:
                negotiated = await call(await self._control(endpoint), m.Open())
            except ActorStreamError as error:
                if worst is None or not error.retryable:
                    worst = error
            else:
                self._current = endpoint
                self.spawn(self._keep_spare())
                assert isinstance(negotiated, m.Negotiated)
                return negotiated
        raise worst or ConnectionLost("no broker is known")

    async def _keep_spare(self) -> None:
        """A second control connection, made before it is needed: a hedged query must not begin with a handshake."""
        for endpoint in self._candidates()[1:]:
            try:
                await call(await self._control(endpoint), m.Open())
            except ActorStreamError:
                self._failed_at[endpoint] = asyncio.get_running_loop().time()
            else:
                return

    async def _administer(self, command: c.Request, *, repeatable: bool) -> c.Response:
        response = await self._ask_any(command, self._deadline(), repeatable=repeatable)
        if response.code != ResponseCode.OK:
            raise response_error(response.code, describe(command))
        return response

    async def _store_offset(self, message: m.StoreOffset) -> None:
        connection = await self._control(self._candidates()[0])
        await call(connection, m.Open())
        connection.tell(m.SendCommand(c.StoreOffset(message.reference, message.stream, message.offset)))

    async def _ask_any(self, command: c.Request, deadline: float, *, repeatable: bool) -> c.Response:
        """The answer of some broker. What may be repeated is hedged, and asked again until the deadline."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            try:
                if repeatable:
                    return await self._hedged(command)
                return await self._ask_one(self._candidates()[0], command)
            except ResponseError:
                raise  # a handshake that was refused: it will be refused again
            except ActorStreamError as error:
                if not error.retryable or not (repeatable or isinstance(error, _NotSent)):
                    raise
                attempt += 1
                pause = min(0.05 * 2**attempt, POLL_CAP_S)
                if loop.time() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)

    async def _hedged(self, command: c.Request) -> c.Response:
        """Ask one broker, and a second one when the first does not answer at once; the first answer counts."""
        candidates = self._candidates()[:2]
        tasks: list[asyncio.Task[c.Response]] = []
        error: BaseException | None = None
        try:
            for endpoint in candidates:
                tasks.append(asyncio.ensure_future(self._ask_one(endpoint, command)))
                last = len(tasks) == len(candidates)
                pending: set[asyncio.Task[c.Response]] = {task for task in tasks if not task.done()}
                while pending:
                    done, pending = await asyncio.wait(
                        pending, timeout=None if last else self._options.hedge_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        if task.exception() is None:
                            return task.result()
                        error = task.exception()
                    if not done:
                        break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise error or RequestTimeout(describe(command), self._options.rpc_timeout_s)

    async def _ask_one(self, endpoint: Endpoint, command: c.Request) -> c.Response:
        try:
            connection = await self._control(endpoint)
            await call(connection, m.Open())
        except ActorStreamError as error:
            self._failed_at[endpoint] = asyncio.get_running_loop().time()
            if isinstance(error, ConnectionLost):
                raise _NotSent(str(error)) from error
            raise
        try:
            response = await call(connection, m.Request(command))
        except ActorStreamError as error:
            if error.retryable:
                self._failed_at[endpoint] = asyncio.get_running_loop().time()
            raise
        self._failed_at.pop(endpoint, None)
        self._current = endpoint
        return response  # type: ignore[no-any-return]

    async def _control(self, endpoint: Endpoint) -> m.Ref:
        slot = await call(self._pool, m.Lease(endpoint, CONTROL))
        return slot.connection  # type: ignore[no-any-return]

    def _candidates(self) -> list[Endpoint]:
        """Every known broker: the current one, then those that never failed, then those that failed longest ago."""
        return sorted(self._known, key=lambda endpoint: (self._failed_at.get(endpoint, 0.0), endpoint != self._current))


class _NotSent(ConnectionLost):
    """No connection came up: the request never left, so that it may be sent again even if it is not repeatable."""


def describe(command: c.Command) -> str:
    """A request in words, for an error: its name and what it is about."""
    about = getattr(command, "stream", None) or getattr(command, "name", None)
    return type(command).__name__ + (f" {about!r}" if about else "")


async def _wait(awaitable: Coroutine[Any, Any, object], seconds: float) -> None:
    try:
        await asyncio.wait_for(awaitable, seconds)
    except TimeoutError:
        return
