"""How long to wait before the next try: exponential, capped, with full jitter, and the first retry at once.

Back-off is for weather (a broker that is away, a leader that moves), which lasts as long as it lasts. It never gives
up: that is the restart intensity's decision, and it counts bugs, not weather.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from actorstream.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """How pauses grow, in seconds.

    Attributes:
        base_s: upper bound of the second pause (the first is 0).
        factor: what the bound is multiplied by from one pause to the next.
        cap_s: the bound never exceeds this.
        stable_s: whoever was up for as long starts again with a pause of 0. By default, for as long as `cap_s`: tries
            that follow each other in this way are no closer together than those after the longest pause, so that
            nobody has to be made wait who loses what he had a few seconds after another outage.

    Raises:
        InvalidArgument: base_s or stable_s below 0, factor below 1, cap_s below base_s.
    """

    base_s: float = 0.05
    factor: float = 2.0
    cap_s: float = 10.0
    stable_s: float | None = None

    def __post_init__(self) -> None:
        if not self.base_s >= 0:
            raise InvalidArgument(f"base_s is a number of seconds from 0, not {self.base_s!r}")
        if not self.factor >= 1:
            raise InvalidArgument(f"factor is a number from 1, not {self.factor!r}")
        if not self.cap_s >= self.base_s:
            raise InvalidArgument(f"cap_s is at least base_s ({self.base_s!r}), not {self.cap_s!r}")
        if self.stable_s is not None and not self.stable_s >= 0:
            raise InvalidArgument(f"stable_s is a number of seconds from 0, not {self.stable_s!r}")


class Backoff:
    """The state of one entity's retries; never shared between entities (F82), and it outlives their incarnations.

    Full jitter (uniform from 0 to the bound), because what ends an outage ends it for all clients at the same moment:
    a jitter of a few per cent would leave them in step (F18).
    """

    __slots__ = ("_attempts", "_bound", "_policy", "_rng", "_stable_s", "_up_since")

    def __init__(self, policy: BackoffPolicy, rng: random.Random | None = None) -> None:
        self._policy = policy
        self._rng = rng or random.Random()
        self._attempts = 0
        self._bound = policy.base_s
        self._up_since: float | None = None
        self._stable_s = policy.cap_s if policy.stable_s is None else policy.stable_s

    @property
    def attempts(self) -> int:
        """Pauses given since the last reset."""
        return self._attempts

    def next_delay(self) -> float:
        """Seconds to wait before the next try: 0.0 the first time, then random below a bound that grows."""
        self._attempts += 1
        if self._attempts == 1:
            return 0.0
        delay = self._rng.uniform(0.0, self._bound)
        # Multiplied step by step, since base * factor ** n overflows in an outage of some hours.
        self._bound = min(self._policy.cap_s, self._bound * self._policy.factor)
        return delay

    def succeeded(self, now: float) -> None:
        """A try worked at `now` (monotonic seconds). That alone resets nothing: it has to last.

        Of several that work at the same time, the first counts: what it shows has lasted longest.
        """
        if self._up_since is None:
            self._up_since = now

    def failed(self, now: float) -> None:
        """What had worked ended at `now`; after `stable_s` or more, this is a new outage, and counting starts again."""
        if self._up_since is not None and now - self._up_since >= self._stable_s:
            self.reset()
        self._up_since = None

    def reset(self) -> None:
        """Forget all earlier tries."""
        self._attempts = 0
        self._bound = self._policy.base_s
