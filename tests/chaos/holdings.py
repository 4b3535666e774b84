"""What the process holds while it runs: tasks, threads, file descriptors, memory; and whether it gets more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.checker import Violation, check_bound
from tests.chaos.workload import Workload

EVERY_S = 2.0
WARM_UP_S = 60.0
TELLS_AFTER_S = 600.0
"""How long it has to be looked at, after the warm-up, before a slope is said to be one: what is seen within a minute is
how the allocator and the garbage collector work, and nothing to make an hour of."""
KINDS = ("tasks", "threads", "descriptors", "rss_mib")
MORE = {"tasks": 3.0, "threads": 1.0, "descriptors": 3.0, "rss_mib": 15.0}
"""By how much the last third of a run may be above the first one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What there was at a time; memory without what the histories take."""

    at: float
    tasks: int
    threads: int
    descriptors: int
    rss_mib: float


def sample(workload: Workload) -> Sample:
    """What there is now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    taken = pages * os.sysconf("SC_PAGE_SIZE") - workload.size_bytes()
    return Sample(
        time.monotonic(),
        len(asyncio.all_tasks()),
        sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate()),  # those stay with the loop
        len(list(Path("/proc/self/fd").iterdir())),
        taken / 2**20,
    )


@contextlib.asynccontextmanager
async def watching(workload: Workload, samples: list[Sample]) -> AsyncIterator[None]:
    """Look every so often."""

    async def look() -> None:
        while True:
            samples.append(sample(workload))
            await asyncio.sleep(EVERY_S)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def slopes(samples: Sequence[Sample]) -> dict[str, dict[str, float | None]]:
    """For each kind: the medians of the first and the last third after the warm-up, and what that is in an hour.

    The slope is None where it was not looked at for long enough to tell.
    """
    settled = [one for one in samples if one.at - samples[0].at >= WARM_UP_S]
    if len(settled) < 3:
        return {}
    third = len(settled) // 3
    early, late = settled[:third], settled[-third:]
    seconds = statistics.median(one.at for one in late) - statistics.median(one.at for one in early)
    tells = settled[-1].at - settled[0].at >= TELLS_AFTER_S
    found: dict[str, dict[str, float | None]] = {}
    for kind in KINDS:
        first, last = (statistics.median(getattr(one, kind) for one in part) for part in (early, late))
        found[kind] = {
            "first": round(first, 1),
            "last": round(last, 1),
            "most": round(max(getattr(one, kind) for one in settled), 1),
            "per_hour": round((last - first) / seconds * 3600, 1) if tells else None,
        }
    return found


def check_flat(samples: Sequence[Sample]) -> list[Violation]:
    """Nothing of it grows, as far as the run was long enough to tell (I11)."""
    found: list[Violation] = []
    for kind, figures in slopes(samples).items():
        first, last, per_hour = figures["first"], figures["last"], figures["per_hour"]
        if first is not None and last is not None and per_hour is not None:
            found += check_bound(
                "I11 resources", f"{kind} in the last third, after {first:g}", last, first + MORE[kind]
            )
    return found


def check_left(before: Sample, after: Sample) -> list[Violation]:
    """When all is closed, it is what it was before (I11)."""
    found: list[Violation] = []
    for kind in ("tasks", "threads", "descriptors"):
        text = f"{kind} after all was closed"
        found += check_bound("I11 resources", text, getattr(after, kind), getattr(before, kind) + 1)  # who looks
    return found
