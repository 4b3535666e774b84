"""The rules of restarting, as in OTP: who is started again, with whom, and how often before it counts as broken."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from actorstream.actors.reasons import Verdict, classify
from actorstream.actors.runtime import StreamActor
from actorstream.backoff import BackoffPolicy
from actorstream.errors import InvalidArgument


class RestartPolicy(enum.Enum):
    """Whether a child is started again after its end."""

    PERMANENT = enum.auto()
    """Always; a normal end counts as a failure."""
    TRANSIENT = enum.auto()
    """Unless it ended normally."""
    TEMPORARY = enum.auto()
    """Never."""


class Strategy(enum.Enum):
    """Who is started again together with a child that failed."""

    ONE_FOR_ONE = enum.auto()
    """Nobody."""
    ONE_FOR_ALL = enum.auto()
    """All its siblings."""
    REST_FOR_ONE = enum.auto()
    """The siblings that were started after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartIntensity:
    """How many restarts in how many seconds are accepted; one more is a bug that restarting does not cure.

    Weather never counts.
    """

    max_restarts: int = 5
    within_s: float = 30.0

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise InvalidArgument(f"max_restarts is a number from 0, not {self.max_restarts!r}")
        if not self.within_s > 0:
            raise InvalidArgument(f"within_s is a number of seconds above 0, not {self.within_s!r}")


class IntensityWindow:
    """Counts failures against a `RestartIntensity`."""

    __slots__ = ("_failures", "intensity")

    def __init__(self, intensity: RestartIntensity) -> None:
        self.intensity = intensity
        self._failures: list[float] = []

    @property
    def count(self) -> int:
        """Failures that count at the time of the last one."""
        return len(self._failures)

    def failed(self, now: float) -> bool:
        """Count a failure at `now` (monotonic seconds); whether that is one too many."""
        self._failures.append(now)
        while self._failures[0] <= now - self.intensity.within_s:
            del self._failures[0]
        return len(self._failures) > self.intensity.max_restarts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What a supervisor has to know of a child.

    Attributes:
        name: unique among the siblings; part of the path.
        factory: makes a new incarnation, on the supervisor's loop. What has to outlive incarnations is given to it.
        restart: whether it is started again.
        shutdown_s: how long it may go on with what it is doing when it has to end, before it is cancelled. For a
            supervisor `math.inf` is right, as in OTP: each of its children has a bound.
        intensity: of its own; exceeding it removes this child and spares its siblings. None: the supervisor's counts.
        backoff: its own policy for weather. None: the supervisor's.
        on_gone: called on the loop, once, when the child is not there any more and will not be started again; with
            None after a normal end, else with why (without the wrapping of `Retry` and `Fatal`).
        classify: what to make of the reason of its end.
    """

    name: str
    factory: Callable[[], StreamActor]
    restart: RestartPolicy = RestartPolicy.PERMANENT
    shutdown_s: float = 5.0
    intensity: RestartIntensity | None = None
    backoff: BackoffPolicy | None = None
    on_gone: Callable[[BaseException | None], None] | None = None
    classify: Callable[[BaseException | None], Verdict] = classify

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise InvalidArgument(f"a child's name is a non-empty string without a slash, not {self.name!r}")
        if not self.shutdown_s >= 0:
            raise InvalidArgument(f"shutdown_s is a number of seconds from 0, not {self.shutdown_s!r}")


def is_restarted(restart: RestartPolicy, verdict: Verdict) -> bool:
    """Whether a child of this policy is started again after an end of this kind."""
    if verdict is Verdict.FATAL or restart is RestartPolicy.TEMPORARY:
        return False
    return restart is RestartPolicy.PERMANENT or verdict is not Verdict.NORMAL
