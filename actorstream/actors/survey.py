"""What the members of a stream say, each by itself, of who leads it.

A leader that is cut off from its peers does not know that they have elected another one, and goes on taking messages
that it can never confirm; its heartbeats go on, too. What tells is the word of most members. Anybody's alone would not
do: one that is cut off names the leader that it knew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from actorstream.actors import messages as m
from actorstream.actors.future import LoopFuture
from actorstream.errors import ActorStreamError
from actorstream.options import Endpoint

GATHER_S = 0.05
"""Questions of so long go to a broker in one query: an alarm makes all publishers ask."""
ANSWER_WITHIN_S = 2.0
"""A broker that takes longer has no say: it may be waiting itself for one that is away."""

States = dict[str, m.StreamState]


class Survey:
    """See the module. Plain, on the loop of the `Locator`.

    Args:
        metadata_of: what this broker says of these streams. Raises ActorStreamError.
        spawn: has something done beside.
    """

    def __init__(
        self,
        *,
        metadata_of: Callable[[Endpoint, tuple[str, ...]], Coroutine[Any, Any, States]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._metadata_of = metadata_of
        self._spawn = spawn
        self._next: dict[Endpoint, tuple[set[str], LoopFuture[States]]] = {}

    async def is_led_elsewhere(self, question: m.IsLedElsewhere) -> bool:
        """Whether most of the stream's members name one and the same other leader."""
        members = question.members.everyone
        others = [member for member in members if member != question.leader]
        answers = await asyncio.gather(*(self._word_of(member, question.stream) for member in others))
        votes = Counter(state.leader for state in answers if state is not None)
        del votes[None], votes[question.leader]
        return any(2 * count > len(members) for count in votes.values())

    async def _word_of(self, member: Endpoint, stream: str) -> m.StreamState | None:
        if member not in self._next:
            self._next[member] = (set(), LoopFuture())
            self._spawn(self._query(member))
        streams, answer = self._next[member]
        streams.add(stream)
        return (await answer).get(stream)

    async def _query(self, member: Endpoint) -> None:
        await asyncio.sleep(GATHER_S)
        streams, answer = self._next.pop(member)
        states: States = {}
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                states = await self._metadata_of(member, tuple(streams))
        except (ActorStreamError, TimeoutError):
            pass
        finally:
            answer.try_set(states)
