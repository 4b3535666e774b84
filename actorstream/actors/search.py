"""Who waits for the leader of a stream, all in one place: one query at a time asks for all streams that are wanted.

However many publishers and subscribers lost their streams at once, nobody has to poll for himself. An answer names
brokers that are worth going to. For some seconds after its death a node is still named as the leader, and those who
went there would wait for its next attempt, which comes later each time, while another one is elected. So a leader that
could not be reached a moment ago is not told; it is tried once for all who want it, and asked for anew meanwhile.

Plain: what it asks and tries is handed to it by the `Locator`, on whose loop it is used.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from actorstream.actors import messages as m
from actorstream.actors.future import LoopFuture
from actorstream.errors import ActorStreamError, StreamNotAvailable, response_error
from actorstream.options import Endpoint
from actorstream.wire.constants import ResponseCode

POLL_FIRST_S = 0.02
POLL_CAP_S = 0.5
POLL_FACTOR = 1.6
WANTED_S = 30.0
"""How long one question for a leader waits; who asked may be gone, and who is not asks again, with a reason to show."""
WANTED_ELSEWHERE_S = 1.0
"""The same for one whose leader is known, and may be another one: who asks is about to have what he needs."""
WANTED_FROM_AFAR_S = 2.0
"""The same for one whose leader is known and cannot be reached: that it cannot is not to be a secret for long."""
AWAY_S = 5.0
"""How long a broker that could not be reached counts as away, unless it is tried again before."""
SETTLED = (ResponseCode.STREAM_DOES_NOT_EXIST, ResponseCode.ACCESS_REFUSED)
"""What a metadata query says of a stream that waiting does not change."""


@dataclass(slots=True)
class _Wanted:
    """One question. `missing` are those that it was not told, since they could not be reached; a leader first."""

    until: float
    missing: tuple[Endpoint, ...] = ()
    members: LoopFuture[m.Members] = field(default_factory=LoopFuture)


class Search:
    """See the module.

    Args:
        metadata: what the brokers say of these streams now. Raises ActorStreamError.
        refused_at: when a broker could last not be reached, in the loop's time; -inf if it could ever since.
        reach: tries to reach it. Raises ActorStreamError.
        spawn: has something done beside.
    """

    def __init__(
        self,
        *,
        metadata: Callable[[tuple[str, ...]], Coroutine[Any, Any, dict[str, m.StreamState]]],
        refused_at: Callable[[Endpoint], float],
        reach: Callable[[Endpoint], Coroutine[Any, Any, object]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._metadata = metadata
        self._refused_at = refused_at
        self._reach = reach
        self._spawn = spawn
        self._wanted: dict[m.WhereIs, _Wanted] = {}
        self._again = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._tries: dict[Endpoint, asyncio.Task[None]] = {}
        self._reached_at: dict[Endpoint, float] = {}
        self._why: dict[Endpoint, ActorStreamError] = {}

    def __len__(self) -> int:
        """How many questions are open."""
        return len(self._wanted)

    def ask(self, question: m.WhereIs) -> LoopFuture[m.Members]:
        """The answer, once there is one."""
        wanted = self._wanted.get(question)
        if wanted is None:
            seconds = WANTED_S if question.other_than is None else WANTED_ELSEWHERE_S
            wanted = self._wanted[question] = _Wanted(asyncio.get_running_loop().time() + seconds)
            self._again.set()
            if self._running is None or self._running.done():
                self._running = self._spawn(self._run())
        return wanted.members

    def fail(self, error: ActorStreamError) -> None:
        """Nobody is left waiting."""
        wanted, self._wanted = self._wanted, {}
        for one in wanted.values():
            one.members.try_set_exception(error)

    async def _run(self) -> None:
        """Ask until each question has its answer."""
        poll = POLL_FIRST_S
        while self._wanted:
            self._again.clear()
            trouble: ActorStreamError | None = None
            states: dict[str, m.StreamState] = {}
            try:
                states = await self._metadata(tuple({question.stream: None for question in self._wanted}))
            except ActorStreamError as error:
                if not error.retryable:  # a log-in that was refused, for example: those who wait have to hear of it
                    self.fail(error)
                    return
                trouble = error
            answered = [self._answer(question, states) for question in tuple(self._wanted)]
            self._give_up_some(trouble)
            poll = POLL_FIRST_S if any(answered) else min(poll * POLL_FACTOR, POLL_CAP_S)
            if self._wanted and not self._again.is_set():
                # Many clients lose a leader at the same moment: they should not ask in step.
                await _wait(self._again.wait(), poll * random.uniform(0.5, 1.0))

    def _answer(self, question: m.WhereIs, states: dict[str, m.StreamState]) -> bool:
        state = states.get(question.stream)
        if state is None:  # it was asked after the query had left
            return False
        wanted = self._wanted[question]
        if state.code in SETTLED:
            wanted.members.try_set_exception(response_error(state.code, f"stream {question.stream!r}"))
        elif (members := self._worth_telling(question, state)) is not None:
            wanted.members.try_set(members)
        else:
            return False
        del self._wanted[question]
        return True

    def _worth_telling(self, question: m.WhereIs, state: m.StreamState) -> m.Members | None:
        leader = state.leader
        if state.code != ResponseCode.OK or leader is None or leader == question.other_than:
            return None
        away = tuple(one for one in state.replicas if self._is_away(one))
        replicas = tuple(one for one in state.replicas if one not in away)
        if not self._is_away(leader) or (question.any_member and replicas):
            return m.Members(leader, replicas, away)
        wanted = self._wanted[question]
        if not wanted.missing:
            wanted.until = min(wanted.until, asyncio.get_running_loop().time() + WANTED_FROM_AFAR_S)
        wanted.missing = (leader, *state.replicas) if question.any_member else (leader,)
        for endpoint in wanted.missing:
            if endpoint not in self._tries:
                self._tries[endpoint] = self._spawn(self._try(endpoint))
        return None

    def _is_away(self, endpoint: Endpoint) -> bool:
        """Whether it could not be reached a moment ago. Connections to it that are open already count for nothing."""
        refused_at = self._refused_at(endpoint)
        if refused_at <= self._reached_at.get(endpoint, -math.inf):
            return False
        return asyncio.get_running_loop().time() - refused_at < AWAY_S

    async def _try(self, endpoint: Endpoint) -> None:
        """Try to reach a broker for as long as somebody wants to know; the pool sees to it that it is spared."""
        try:
            while any(endpoint in wanted.missing for wanted in self._wanted.values()):
                try:
                    await self._reach(endpoint)
                except ActorStreamError as error:
                    self._why[endpoint] = error
                    await asyncio.sleep(POLL_FIRST_S)
                else:
                    self._reached_at[endpoint] = asyncio.get_running_loop().time()
                    self._again.set()
                    return
        finally:
            del self._tries[endpoint]

    def _give_up_some(self, trouble: ActorStreamError | None) -> None:
        """Tell those who have waited long why, and so learn who still wants to know: they ask again."""
        now = asyncio.get_running_loop().time()
        for question, wanted in tuple(self._wanted.items()):
            if wanted.until <= now:
                del self._wanted[question]
                wanted.members.try_set_exception(trouble or self._why_not(question.stream, wanted.missing))

    def _why_not(self, stream: str, missing: tuple[Endpoint, ...]) -> ActorStreamError:
        if not missing:
            return StreamNotAvailable(f"stream {stream!r} has had no leader for {WANTED_S:g} s")
        away = StreamNotAvailable(f"the leader of stream {stream!r} is away: {missing[0]}")
        return self._why.get(missing[0]) or away


async def _wait(awaitable: Coroutine[Any, Any, object], seconds: float) -> None:
    try:
        await asyncio.wait_for(awaitable, seconds)
    except TimeoutError:
        return
