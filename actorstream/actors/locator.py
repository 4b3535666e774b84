"""Who knows where streams live: metadata, and every request that any broker can answer, over control connections.

A healthy broker may take seconds over Metadata while it has not noticed yet that another one is dead, so a query that
is not answered at once is asked of a second broker too, and the first answer counts. Those who wait for a stream's
leader do so in its `Search`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.future import LoopFuture
from actorstream.actors.pool import CONTROL
from actorstream.actors.runtime import StreamActor
from actorstream.actors.search import POLL_CAP_S, POLL_FACTOR, POLL_FIRST_S, Search
from actorstream.actors.survey import Survey
from actorstream.errors import (
    ActorStreamError,
    ConnectionLost,
    MalformedFrame,
    RequestTimeout,
    StreamNotAvailable,
    response_error,
)
from actorstream.options import ConnectionOptions, Endpoint
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode

T = TypeVar("T")


class Locator(StreamActor):
    """The actor; see the module. It answers `WhereIs`, `Metadata`, `Administer` and `StoreOffset` when it can."""

    def __init__(
        self,
        *,
        seeds: Sequence[Endpoint],
        options: ConnectionOptions,
        pool: m.Ref,
        refused_at: Callable[[Endpoint], float],
    ) -> None:
        super().__init__()
        self._options = options
        self._pool = pool
        self._known = list(dict.fromkeys(seeds))
        self._failed_at: dict[Endpoint, float] = {}
        self._current: Endpoint | None = None
        self._search = Search(metadata=self._metadata, refused_at=refused_at, reach=self._open, spawn=self.spawn)
        self._survey = Survey(metadata_of=self._metadata_of, spawn=self.spawn)

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {"broker": str(self._current or ""), "brokers": len(self._known), "looking_for": len(self._search)}

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To the Locator"; the answers are futures."""
        match message:
            case m.WhereIs():
                return self._search.ask(message)
            case m.IsLedElsewhere():
                return self._later(self._is_led_elsewhere(message))
            case m.Metadata(streams=streams):
                return self._later(self._metadata(streams))
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
        self._search.fail(ConnectionLost("the client was closed"))

    def on_failure(self, *_: object) -> None:
        """The next incarnation starts without those who waited: they ask again."""
        self._search.fail(StreamNotAvailable("the locator failed"))

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

    # Where streams live -------------------------------------------------------------------------------------------

    async def _metadata(self, streams: tuple[str, ...]) -> dict[str, m.StreamState]:
        return self._states(await self._ask_any(c.Metadata(streams), repeatable=True))

    async def _metadata_of(self, endpoint: Endpoint, streams: tuple[str, ...]) -> dict[str, m.StreamState]:
        return self._states(await self._request(endpoint, await self._open(endpoint), c.Metadata(streams)))

    async def _is_led_elsewhere(self, question: m.IsLedElsewhere) -> bool:
        if self._options.load_balancer_mode:  # it is not for us to say which broker answers, or that it is another one
            return False
        elsewhere = await self._survey.is_led_elsewhere(question)
        if elsewhere:  # who is wrong about one stream is not asked first about others
            self._failed_at[question.leader] = asyncio.get_running_loop().time()
        return elsewhere

    def _states(self, response: c.Response) -> dict[str, m.StreamState]:
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
        """Try every known broker once; the error of the one that says most is raised when none can be reached."""

        async def reach(endpoint: Endpoint) -> m.Negotiated:
            negotiated: m.Negotiated = await call(await self._open(endpoint), m.Open())
            return negotiated

        negotiated = await self._race(reach)
        self._current = negotiated.endpoint
        self.spawn(self._keep_spare())
        return negotiated

    async def _keep_spare(self) -> None:
        """A second control connection, made before it is needed: a hedged query must not begin with a handshake."""
        for endpoint in self._candidates()[1:]:
            try:
                await self._open(endpoint)
            except ActorStreamError:
                continue
            return

    async def _administer(self, command: c.Request, *, repeatable: bool) -> c.Response:
        response = await self._ask_any(command, repeatable=repeatable)
        if response.code != ResponseCode.OK:
            raise response_error(response.code, describe(command))
        return response

    async def _store_offset(self, message: m.StoreOffset) -> None:
        command = c.StoreOffset(message.reference, message.stream, message.offset)

        async def send(endpoint: Endpoint) -> None:
            await call(await self._open(endpoint), m.SendCommand(command))

        await self._insist(send, describe(command))

    async def _ask_any(self, command: c.Request, *, repeatable: bool) -> c.Response:
        """The answer of some broker. What may be repeated is hedged, and asked again when its connection is lost.

        So it is when the answer is one that passes (F53): a stream is not available while it elects a leader.
        """

        async def send(endpoint: Endpoint) -> c.Response:
            response = await self._request(endpoint, await self._open(endpoint), command)
            if (
                response.code != ResponseCode.OK
                and (error := response_error(response.code, describe(command))).retryable
            ):
                raise error
            return response

        async def reach(endpoint: Endpoint) -> tuple[Endpoint, m.Ref]:
            return endpoint, await self._open(endpoint)

        if repeatable:
            return await self._insist(send, describe(command))
        endpoint, connection = await self._insist(reach, describe(command))
        return await self._request(endpoint, connection, command)

    async def _insist(self, attempt: Callable[[Endpoint], Coroutine[Any, Any, T]], what: str) -> T:
        """Try brokers until one has answered, or the time of a request is over, connecting and waiting included.

        Raises:
            ActorStreamError: what trying again does not change; or, at the end, the last error.
        """
        seconds = self._options.rpc_timeout_s
        last: ActorStreamError = RequestTimeout(what, seconds)
        pause = POLL_FIRST_S
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        return await self._race(attempt)
                    except ActorStreamError as error:
                        if not error.retryable:
                            raise
                        last = error
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * POLL_FACTOR, POLL_CAP_S)
        except TimeoutError:
            raise last from None

    async def _race(self, attempt: Callable[[Endpoint], Coroutine[Any, Any, T]]) -> T:
        """The first result: of the best candidate, or of the next one when those before it fail or hesitate."""
        started: list[asyncio.Task[T]] = []
        error: BaseException = ConnectionLost("no broker is known")
        candidates = iter(self._candidates())
        try:
            while True:
                endpoint = next(candidates, None)
                if endpoint is not None:
                    started.append(asyncio.ensure_future(attempt(endpoint)))
                pending = [task for task in started if not task.done()]
                if not pending:
                    raise error
                patience = None if endpoint is None else self._options.hedge_s
                done, _ = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    failure = task.exception()
                    if failure is None:
                        return task.result()
                    error = _more_telling(error, failure)
        finally:
            for task in started:
                task.cancel()
            await asyncio.gather(*started, return_exceptions=True)

    async def _request(self, endpoint: Endpoint, connection: m.Ref, command: c.Request) -> c.Response:
        try:
            response: c.Response = await call(connection, m.Request(command))
        except ActorStreamError as error:
            if error.retryable:
                self._failed_at[endpoint] = asyncio.get_running_loop().time()
            raise
        self._current = endpoint
        return response

    async def _open(self, endpoint: Endpoint) -> m.Ref:
        """A control connection to this broker, once it is open."""
        try:
            slot: m.Slot = await call(self._pool, m.Lease(endpoint, CONTROL, alternatives=None))
            await call(slot.connection, m.Open())
        except ActorStreamError:
            self._failed_at[endpoint] = asyncio.get_running_loop().time()
            raise
        self._failed_at.pop(endpoint, None)
        return slot.connection

    def _candidates(self) -> list[Endpoint]:
        """Every known broker: the current one, then those that never failed, then those that failed longest ago."""
        return sorted(self._known, key=lambda endpoint: (self._failed_at.get(endpoint, 0.0), endpoint != self._current))


def _more_telling(one: BaseException, other: BaseException) -> BaseException:
    """Of two errors the one that trying again does not change, or else the later one."""
    return one if isinstance(one, ActorStreamError) and not one.retryable else other


def describe(command: c.Command) -> str:
    """A request in words, for an error: its name and what it is about."""
    about = next(
        (value for name in ("stream", "super_stream", "name") if (value := getattr(command, name, None))), None
    )
    return type(command).__name__ + (f" {about!r}" if about else "")
