"""What a performance run counts, and how it is told: a line a second, and a summary at the end."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

RATIO = 1.02
"""Between the bounds of a bucket: a percentile is exact to this, in bounded memory, however long the run is."""

LEAST_S = 1e-6


class Latencies:
    """Latencies in buckets, each with the number of messages."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float, messages: int = 1) -> None:
        """So many messages took so long."""
        self._buckets[round(math.log(max(seconds, LEAST_S) / LEAST_S, RATIO))] += messages

    def percentile(self, percent: float) -> float | None:
        """Seconds that so many percent of the messages took at most; None when there are none."""
        wanted = self._buckets.total() * percent / 100
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return float(LEAST_S * RATIO**bucket)
        return None

    def milliseconds(self) -> dict[str, float | None]:
        """The percentiles that are told."""
        values = {f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)}
        return {name: None if value is None else round(value * 1000, 3) for name, value in values.items()}

    def __str__(self) -> str:
        values = self.milliseconds().values()
        return "/".join("-" if value is None else f"{value:.1f}" for value in values)


@dataclass(slots=True)
class Count:
    """What happened so far, or within a time."""

    published: int = 0
    confirmed: int = 0
    failed: int = 0
    consumed: int = 0
    confirm_latency: Latencies = field(default_factory=Latencies)
    latency: Latencies = field(default_factory=Latencies)

    def line(self, at_s: float, within_s: float) -> str:
        """One line for a time that ended `at_s` seconds after the begin."""
        rates = [f"{name} {getattr(self, name) / within_s:,.0f}/s" for name in ("published", "confirmed", "consumed")]
        failed = [f"failed {self.failed}"] if self.failed else []
        latencies = [
            f"{name} p50/p95/p99 {values} ms"
            for name, values in (("confirm", self.confirm_latency), ("end to end", self.latency))
        ]
        return f"{at_s:5.1f} s  " + ", ".join([*rates, *failed, *latencies])


class Meter:
    """Counts for the whole run and, apart, for the line that is told next."""

    def __init__(self) -> None:
        self.total = Count()
        self._recent = Count()

    def published(self, messages: int) -> None:
        """So many were handed to a producer."""
        self.total.published += messages
        self._recent.published += messages

    def settled(self, confirmed: int, failed: int, seconds: float) -> None:
        """So many have their outcome, after so long."""
        for count in (self.total, self._recent):
            count.confirmed += confirmed
            count.failed += failed
            if confirmed:
                count.confirm_latency.add(seconds, confirmed)

    def consumed(self, messages: int) -> None:
        """So many came."""
        self.total.consumed += messages
        self._recent.consumed += messages

    def took(self, seconds: float, messages: int) -> None:
        """So many took so long from one end to the other."""
        self.total.latency.add(seconds, messages)
        self._recent.latency.add(seconds, messages)

    def take_recent(self) -> Count:
        """What happened since this was last asked."""
        recent, self._recent = self._recent, Count()
        return recent

    def summary(self, published_for_s: float, consumed_for_s: float, settings: dict[str, Any]) -> dict[str, Any]:
        """The whole run, as JSON has it. Rates are over the time in which such things happened."""
        total = self.total
        return {
            "settings": settings,
            "seconds": round(published_for_s, 3),
            "published": total.published,
            "confirmed": total.confirmed,
            "failed": total.failed,
            "consumed": total.consumed,
            "confirmed_per_s": round(total.confirmed / published_for_s, 1),
            "consumed_per_s": round(total.consumed / consumed_for_s, 1),
            "confirm_latency_ms": total.confirm_latency.milliseconds(),
            "latency_ms": total.latency.milliseconds(),
        }
