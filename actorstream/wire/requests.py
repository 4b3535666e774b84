"""The requests that wait for an answer, by correlation id and by deadline."""

from __future__ import annotations

import heapq
from typing import Final

from actorstream.wire.commands import Request

_LAST_CORRELATION_ID: Final = 0xFFFFFFFF


class Pending:
    """One request that waits: until `deadline`, which is `timeout_s` after it was sent."""

    __slots__ = ("correlation_id", "deadline", "request", "timeout_s")

    def __init__(self, correlation_id: int, request: Request, deadline: float, timeout_s: float) -> None:
        self.correlation_id = correlation_id
        self.request = request
        self.deadline = deadline
        self.timeout_s = timeout_s


class RequestLedger:
    """Gives out correlation ids, and knows whose answer is still waited for. Every operation is cheap for thousands."""

    __slots__ = ("_deadlines", "_last_id", "_pending")

    def __init__(self, last_id: int = 0) -> None:
        self._last_id = last_id
        self._pending: dict[int, Pending] = {}
        # Answered requests stay in here until they come up: taking them out of the middle would cost more.
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._pending)

    def next_id(self) -> int:
        """A correlation id that no waiting request has. They wrap around after 2**32."""
        correlation_id = self._last_id
        while True:
            correlation_id = correlation_id + 1 if correlation_id < _LAST_CORRELATION_ID else 0
            if correlation_id not in self._pending:
                self._last_id = correlation_id
                return correlation_id

    def add(self, correlation_id: int, request: Request, now: float, timeout_s: float) -> None:
        """From now on this request waits for its answer."""
        deadline = now + timeout_s
        self._pending[correlation_id] = Pending(correlation_id, request, deadline, timeout_s)
        heapq.heappush(self._deadlines, (deadline, correlation_id))

    def take(self, correlation_id: int) -> Pending | None:
        """The request that this answer belongs to. None: it came too late, or to nobody."""
        return self._pending.pop(correlation_id, None)

    def take_expired(self, now: float) -> list[Pending]:
        """The requests whose deadline has come, earliest first; they wait no longer."""
        expired: list[Pending] = []
        deadline = self.deadline()
        while deadline is not None and deadline <= now:
            expired.append(self._pending.pop(self._deadlines[0][1]))
            deadline = self.deadline()
        return expired

    def deadline(self) -> float | None:
        """The earliest deadline of a request that waits."""
        while self._deadlines:
            deadline, correlation_id = self._deadlines[0]
            pending = self._pending.get(correlation_id)
            # The id alone does not tell: after 2**32 requests it may be in use again.
            if pending is not None and pending.deadline == deadline:
                return deadline
            heapq.heappop(self._deadlines)
        return None

    def clear(self) -> None:
        """Nobody waits any longer."""
        self._pending.clear()
        self._deadlines.clear()
