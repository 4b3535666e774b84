"""What is to be done in a campaign, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.checker import Counts, Violation
from tests.chaos.holdings import Sample
from tests.chaos.logbook import Logbook
from tests.chaos.nemesis import FAULTS, Fault
from tests.chaos.recovery import Recovery


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        seed: of everything that is left to chance.
        duration_s: faults are begun until then; None does each of them once.
        faults: which.
        rate: messages a second of each writer.
        nested: how likely another fault comes before the one before is recovered from.
        brisk: each fault is held as short as it may be.
    """

    seed: int
    duration_s: float | None = None
    faults: Sequence[Fault] = FAULTS
    rate: int = 100
    nested: float = 0.0
    brisk: bool = False


@dataclass(frozen=True)
class Episode:
    """From one fault, or two on top of each other, to when everybody had got on."""

    faults: tuple[str, ...]
    proofs: tuple[str, ...]
    began_at: float
    healed_at: float
    went_on_at: float

    @property
    def title(self) -> str:
        """What it was."""
        return ", and then ".join(self.faults)


@dataclass
class Result:
    """What came of it. Times are those of the monotonic clock."""

    plan: Plan
    began_at: float
    logbook: Logbook
    ended_at: float = 0.0
    episodes: list[Episode] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    processed_again: int = 0
    overlaps_in_declared_windows: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    confirmed_at: list[float] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    received_at: list[float] = field(default_factory=list)

    def found(self, violations: Sequence[Violation]) -> None:
        """Take over what a check found."""
        self.violations += violations
