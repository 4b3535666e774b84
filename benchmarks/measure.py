"""How something is measured: in a process of its own, on a stream of its own, and looked at afterwards."""

from __future__ import annotations

import os
import statistics
import sys
import threading
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import ceiling, contenders as c
from benchmarks.contenders import Contender
from benchmarks.workload import SAMPLE_MASK, Outcome, Task, body
from lab.broker import Broker
from lab.shell import ROOT, say
from tests.interop.peers import environment

COMPILED = ROOT / "build" / "compiled"
FIRST = b"first"
"""A message that a contender may send before its clock runs."""

Results = dict[str, list[Outcome]]
"""By contender, what was measured, one of each round. A rate is under "rate", in messages a second."""


@dataclass(frozen=True)
class Amounts:
    """How much is done: rounds, messages of each measurement, and seconds of those that take a time."""

    rounds: int = 5
    publish: int = 100_000
    consume: int = 1_000_000
    wait: int = 1_000
    latency_s: float = 4.0
    steady_s: float = 3.0
    sizes: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    handles: int = 1_000
    spread: int = 200_000
    streams: int = 10_000
    partitions: int = 50
    outage_s: float = 300.0


QUICK = Amounts(
    rounds=1,
    publish=20_000,
    consume=100_000,
    wait=200,
    latency_s=1.0,
    steady_s=1.0,
    sizes=(10, 1_000, 100_000),
    handles=50,
    spread=10_000,
    streams=300,
    partitions=10,
    outage_s=3.0,
)

LATENCY_RATE = 10_000
STEADY_RATE = 50_000


@dataclass
class Bench:
    """A broker, and what was found on it so far."""

    broker: Broker
    prefix: str
    amounts: Amounts
    found: Results = field(default_factory=lambda: defaultdict(list))

    def task(self, kind: str, stream: str, count: int, **more: Any) -> Task:
        """A task on a stream of this benchmark."""
        broker = self.broker
        return Task(kind, broker.uri, broker.host, broker.port, f"{self.prefix}-{stream}", count, **more)

    def measure(self, contender: Contender, task: Task, *, timeout_s: float = 120.0) -> Outcome:
        """What a contender's process says."""
        python = environment.ensure() if contender.peer else Path(sys.executable)
        outcome: Outcome = environment.call(
            f"benchmarks.{contender.module}",
            asdict(task),
            python=python,
            variables=variables(compiled=contender.compiled),
            timeout_s=timeout_s,
        )
        if "seconds" in outcome:
            outcome["rate"] = task.count / outcome["seconds"]
        return outcome

    def on_new_stream(self, contender: Contender, task: Task, *, verified: bool = False) -> Outcome:
        """The same on a stream that is made for it, and looked at afterwards: everything is there, in order."""
        self.broker.management.create_stream(task.stream)
        try:
            outcome = self.measure(contender, task)
            if verified:
                verify(task)
        finally:
            self.broker.management.delete_stream(task.stream)
        return outcome

    def fill(self) -> None:
        """The streams that are only read: "full", and "lz4" with the same messages in sub-entries."""
        full = self.task("publish", "full", self.amounts.consume)
        packed = replace(full, kind="publish_sub_entries", stream=f"{self.prefix}-lz4")
        for task in (full, packed):
            self.broker.management.create_stream(task.stream)
        ceiling.publish_all(full)
        self.measure(next(one for one in c.PUBLISH if one.name == "publish_sub_entries"), packed)
        for task in (full, packed):
            verify(task)

    def throughput(self, number: int) -> None:
        """One round: published and confirmed, consumed, and one message with its confirm after the other."""
        amounts = self.amounts
        for contender in turned(c.PUBLISH, number):
            task = self.task(contender.kind, contender.name, amounts.publish)
            self.found[contender.name].append(self.on_new_stream(contender, task, verified=True))
        for contender in turned(c.CONSUME, number):
            task = self.task(contender.kind, contender.stream, amounts.consume)
            self.found[contender.name].append(self.measure(contender, task))
        for contender in turned(c.WAIT, number):
            task = self.task(contender.kind, contender.name, amounts.wait)
            self.found[contender.name].append(self.on_new_stream(contender, task))

    def steady(self, number: int) -> None:
        """One round at rates that everybody can keep up with: latency, and what it costs."""
        amounts = self.amounts
        for contender in turned(c.LATENCY, number):
            task = self.task(contender.kind, contender.name, int(amounts.latency_s * LATENCY_RATE), rate=LATENCY_RATE)
            self.found[contender.name].append(self.on_new_stream(contender, task))
        count = int(amounts.steady_s * STEADY_RATE)
        for contender in turned(c.STEADY_PUBLISH, number):
            task = self.task(contender.kind, contender.name, count, rate=STEADY_RATE)
            self.found[contender.name].append(self.on_new_stream(contender, task))
        for contender in turned(c.STEADY_CONSUME, number):
            task = self.task(contender.kind, contender.name, count, rate=STEADY_RATE)
            self.found[contender.name].append(self._fed(contender, task))

    def _fed(self, contender: Contender, task: Task) -> Outcome:
        """Measure who reads a stream while another process writes it."""
        self.broker.management.create_stream(task.stream)
        feeder = threading.Thread(target=lambda: self.measure(c.FEED, replace(task, kind="feed")), name="feeder")
        try:
            feeder.start()
            return self.measure(contender, task)
        finally:
            feeder.join()
            self.broker.management.delete_stream(task.stream)

    def by_size(self) -> dict[str, dict[int, float]]:
        """Messages a second by the size of a body, of a few contenders; each measured once."""
        publishers = [one for one in c.PUBLISH if one.name in _BY_SIZE]
        consumers = [one for one in c.CONSUME if one.name in _BY_SIZE]
        rates: dict[str, dict[int, float]] = {one.name: {} for one in (*publishers, *consumers)}
        for size in self.amounts.sizes:
            say(f"bodies of {size:,} bytes")
            count = min(self.amounts.publish // 2, max(1_000, 20_000_000 // size))
            for contender in publishers:
                task = self.task(contender.kind, f"{contender.name}-{size}", count, size=size)
                rates[contender.name][size] = self.on_new_stream(contender, task)["rate"]
            full = self.task("publish", f"size-{size}", count, size=size)
            self.broker.management.create_stream(full.stream)
            ceiling.publish_all(full)
            for contender in consumers:
                rates[contender.name][size] = self.measure(contender, replace(full, kind=contender.kind))["rate"]
            self.broker.management.delete_stream(full.stream)
        return rates


_BY_SIZE = {"publish_ceiling", "publish_send", "publish_rstream", "publish_rbfly"} | {
    "consume_ceiling",
    "consume_batches",
    "consume_rstream",
    "consume_rbfly",
}


def variables(*, compiled: bool) -> dict[str, str]:
    """What has a process use the package that `make compile` has built, or the source as it is."""
    if not compiled:
        return {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    return {"PYTHONPATH": os.pathsep.join((str(COMPILED), str(ROOT))), "PYTHONSAFEPATH": "1"}


def turned(contenders: tuple[Contender, ...], by: int) -> tuple[Contender, ...]:
    """The same in another order: nobody always comes after the same one."""
    by %= len(contenders)
    return contenders[by:] + contenders[:by]


def verify(task: Task) -> None:
    """Read a stream back; every message has to be there, and every 1,024th body is compared."""
    found = ceiling.read_bodies(task)
    if found[0] == FIRST:  # was not counted: read what is then missing
        found = ceiling.read_bodies(replace(task, count=task.count + 1))[1:]
    assert len(found) == task.count, f"{len(found)} messages of {task.count} are in the stream"
    for number in range(0, task.count, SAMPLE_MASK + 1):
        assert found[number] == body(number, task.size), f"message {number} is another one"


def ratios(found: Results) -> dict[str, float]:
    """The medians of the ratios within each round, of what was measured."""
    pairs = {name: (ours, theirs, "rate") for name, (ours, theirs) in c.RATES.items()} | c.COSTS
    return {
        name: round(statistics.median(a[key] / b[key] for a, b in zip(found[ours], found[theirs], strict=True)), 3)
        for name, (ours, theirs, key) in pairs.items()
        if found.get(ours) and found.get(theirs)
    }


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Median, least and most of everything that was measured each time."""
    return {
        key: {
            "median": statistics.median(one[key] for one in outcomes),
            "least": min(one[key] for one in outcomes),
            "most": max(one[key] for one in outcomes),
        }
        for key in outcomes[0]
    }
