"""How long the client took, once the broker could serve again, until the first confirm and the first delivery."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recovery:
    """One fault: when it took effect, when the broker could serve again, and how long each stream's client then took.

    `limit_s` is what that may take at the 99th percentile; `confirm_s` and `delivery_s` have an entry for each producer
    and each consumer.
    """

    fault: str
    injected_at: float
    healed_at: float
    served_at: float
    limit_s: float
    confirm_s: tuple[float, ...]
    delivery_s: tuple[float, ...]


def first_after(times: Sequence[float], moment: float) -> float | None:
    """The first of these times, which only grow, that is not before a moment."""
    index = bisect.bisect_left(times, moment)
    return times[index] if index < len(times) else None


def longest_wait(times: Sequence[float], moments: Sequence[float]) -> list[float]:
    """How long after each moment the next of these times came: the longest of them; nothing where there is none."""
    waits = [at - moment for moment in moments if (at := first_after(times, moment)) is not None]
    return [max(waits)] if waits else []


@dataclass
class Percentiles:
    """Of some times in seconds."""

    times: list[float] = field(default_factory=list)

    def add(self, times: Sequence[float]) -> None:
        """Take in more."""
        self.times.extend(times)

    def at(self, share: float) -> float | None:
        """The time that so large a share of them does not exceed; None of none."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

    @property
    def median(self) -> float | None:
        """Half of them are not above it."""
        return statistics.median(self.times) if self.times else None


def by_fault(recoveries: Sequence[Recovery]) -> dict[str, dict[str, float | int | None]]:
    """The summary of each kind of fault."""
    summary: dict[str, dict[str, float | int | None]] = {}
    for fault in sorted({recovery.fault for recovery in recoveries}):
        confirms, deliveries = Percentiles(), Percentiles()
        times = 0
        for recovery in recoveries:
            if recovery.fault == fault:
                times += 1
                confirms.add(recovery.confirm_s)
                deliveries.add(recovery.delivery_s)
        summary[fault] = {
            "times": times,
            "confirm_p50_s": _rounded(confirms.median),
            "confirm_p99_s": _rounded(confirms.at(0.99)),
            "confirm_max_s": _rounded(confirms.at(1.0)),
            "delivery_p50_s": _rounded(deliveries.median),
            "delivery_p99_s": _rounded(deliveries.at(0.99)),
            "delivery_max_s": _rounded(deliveries.at(1.0)),
        }
    return summary


def limits(recoveries: Sequence[Recovery]) -> dict[str, dict[str, float | bool]]:
    """For each kind of fault of which anything was measured: its limit, and whether it was kept."""
    found: dict[str, dict[str, float | bool]] = {}
    for fault, figures in by_fault(recoveries).items():
        measured = [figure for name in ("confirm_p99_s", "delivery_p99_s") if (figure := figures[name]) is not None]
        if measured:
            limit, worst = next(one.limit_s for one in recoveries if one.fault == fault), max(measured)
            found[fault] = {"limit_s": limit, "worst_s": worst, "ok": worst <= limit}
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
