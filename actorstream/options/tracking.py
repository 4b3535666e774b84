"""Where a consumer's place is kept between two runs, and how often it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from actorstream.options.checks import count, positive

MOST = 2**63 - 1


@runtime_checkable
class OffsetStore(Protocol):
    """Where offsets live, if not on the broker: a file, a database, the transaction that holds the results.

    Both methods run on the loop that made the consumer, also when the client has a thread of its own. An offset is the
    last one whose processing is completed: a consumer goes on after it. A call that takes longer than the connection's
    `rpc_timeout_s` is cancelled, and has failed.
    """

    async def load(self, name: str, stream: str) -> int | None:
        """The offset that is stored under a consumer's name; None when there is none.

        Whatever it raises is raised by the start of the consumer, chained to `OffsetStoreFailed`: to begin elsewhere
        would skip or repeat.
        """

    async def store(self, name: str, stream: str, offset: int) -> None:
        """Store it. When this returns, it is stored; when it raises, it is tried again with the next one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoTracking:
    """When the offset of a named consumer is stored: always that of completed processing, and once more on close.

    What comes first counts. After a crash at most `every` messages come again, or as many as are processed within
    `interval_s`; and those that were being processed.

    Attributes:
        every: after so many messages; None: not by count.
        interval_s: after so long, if there is something new; None: not by time.
    """

    every: int | None = 10_000
    interval_s: float | None = 5.0

    def __post_init__(self) -> None:
        if self.every is not None:
            count("every", self.every, 1, MOST)
        positive("interval_s", self.interval_s, optional=True)
