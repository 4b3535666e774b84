"""Messages per second, published and confirmed, and consumed: this client, rstream, rbfly, and the ceiling.

`make bench`, or `python -m benchmarks.compare --rounds 5`; about two minutes. Every measurement is a process of its own
in the environment of its client. Rounds are interleaved, so that what the machine does meanwhile hits all alike, and a
ratio is the median of the ratios within the rounds. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import ceiling
from benchmarks.workload import BODY_SIZE, SAMPLE_MASK, Task, body
from lab import broker as lab
from lab.broker import Broker
from lab.shell import ROOT, LabError, say
from tests.interop.peers import environment

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
FIRST = b"first"
"""A message that a contender may send before its clock runs."""


@dataclass(frozen=True)
class Contender:
    """A row of the table: who does what. `peer` runs in the peers' environment; `kind` is the script's name for it."""

    name: str
    module: str
    kind: str
    label: str
    peer: bool = False


PUBLISH = (
    Contender("publish_ceiling", "ceiling", "publish", "ceiling: encoded beforehand, confirms counted"),
    Contender("publish_send", "ours", "publish_send", "actorstream: send"),
    Contender("publish_batch", "ours", "publish_batch", "actorstream: send_batch of 1,000"),
    Contender("publish_rstream", "rstream_side", "publish_send", "rstream: send", peer=True),
    Contender("publish_rstream_batch", "rstream_side", "publish_batch", "rstream: send_batch of 1,000", peer=True),
    Contender("publish_rbfly", "rbfly_side", "publish", "rbfly: batch, flush after 5,000", peer=True),
)
CONSUME = (
    Contender("consume_ceiling", "ceiling", "consume", "ceiling: headers of chunks"),
    Contender("consume_iter", "ours", "consume_iter", "actorstream: async for"),
    Contender("consume_batches", "ours", "consume_batches", "actorstream: batches"),
    Contender("consume_rstream", "rstream_side", "consume", "rstream: callback", peer=True),
    Contender("consume_rbfly", "rbfly_side", "consume", "rbfly: async for", peer=True),
)
WAIT = (
    Contender("round_trip", "ceiling", "round_trip", "ceiling: request and confirm on a blocking socket"),
    Contender("send_wait", "ours", "send_wait", "actorstream: send_wait"),
)

# Rates: more is better. The last one is a time over a time: less is better, and 1 is the least.
RATIOS = {
    "publish_send_vs_ceiling": ("publish_send", "publish_ceiling"),
    "publish_batch_vs_ceiling": ("publish_batch", "publish_ceiling"),
    "publish_send_vs_rstream": ("publish_send", "publish_rstream"),
    "publish_batch_vs_rstream": ("publish_batch", "publish_rstream_batch"),
    "publish_send_vs_rbfly": ("publish_send", "publish_rbfly"),
    "consume_iter_vs_rstream": ("consume_iter", "consume_rstream"),
    "consume_iter_vs_rbfly": ("consume_iter", "consume_rbfly"),
    "consume_batches_vs_rbfly": ("consume_batches", "consume_rbfly"),
    "consume_batches_vs_ceiling": ("consume_batches", "consume_ceiling"),
    "send_wait_p50_vs_roundtrip": ("send_wait", "round_trip"),
}

Results = dict[str, list[float]]


@dataclass(frozen=True)
class Bench:
    """A broker, and how much is to be done on it."""

    broker: Broker
    prefix: str
    publish_count: int
    consume_count: int
    wait_count: int

    def task(self, kind: str, stream: str, count: int) -> Task:
        """A task on a stream of this benchmark."""
        return Task(kind, self.broker.uri, self.broker.host, self.broker.port, f"{self.prefix}-{stream}", count)

    def measure(self, contender: Contender, task: Task) -> dict[str, Any]:
        """What a contender's process says."""
        python = environment.ensure() if contender.peer else Path(sys.executable)
        return environment.call(f"benchmarks.{contender.module}", asdict(task), python=python, timeout_s=120.0)

    def on_new_stream(self, contender: Contender, count: int, *, verified: bool) -> dict[str, Any]:
        """The same on a stream that is made for it, and looked at afterwards: everything is there, in order."""
        task = self.task(contender.kind, contender.name, count)
        self.broker.management.create_stream(task.stream)
        try:
            outcome = self.measure(contender, task)
            if verified:
                verify(task)
        finally:
            self.broker.management.delete_stream(task.stream)
        return outcome

    def rounds(self, number: int) -> tuple[Results, Results]:
        """Messages per second (for latencies: median seconds) by contender, one a round; and 99th percentiles."""
        found: Results = {contender.name: [] for contender in (*PUBLISH, *CONSUME, *WAIT)}
        tails: Results = {contender.name: [] for contender in WAIT}
        full = self.task("publish", "full", self.consume_count)
        self.broker.management.create_stream(full.stream)
        ceiling.publish_all(full)
        verify(full)
        for round_number in range(number):
            say(f"round {round_number + 1} of {number}")
            for contender in turned(PUBLISH, round_number):
                outcome = self.on_new_stream(contender, self.publish_count, verified=True)
                found[contender.name].append(self.publish_count / outcome["seconds"])
            for contender in turned(CONSUME, round_number):
                outcome = self.measure(contender, self.task(contender.kind, "full", self.consume_count))
                found[contender.name].append(self.consume_count / outcome["seconds"])
            for contender in turned(WAIT, round_number):
                outcome = self.on_new_stream(contender, self.wait_count, verified=False)
                found[contender.name].append(outcome["p50"])
                tails[contender.name].append(outcome["p99"])
        return found, tails


def turned(contenders: tuple[Contender, ...], by: int) -> tuple[Contender, ...]:
    """The same in another order: nobody always comes after the same one."""
    by %= len(contenders)
    return contenders[by:] + contenders[:by]


def verify(task: Task) -> None:
    """Read a stream back; every message has to be there, and every 1,024th body is compared."""
    found = ceiling.read_bodies(task)
    if found[0] == FIRST:  # was not counted: read what is then missing
        found = ceiling.read_bodies(Task(**{**asdict(task), "count": task.count + 1}))[1:]
    assert len(found) == task.count, f"{len(found)} messages of {task.count} are in the stream"
    for number in range(0, task.count, SAMPLE_MASK + 1):
        assert found[number] == body(number), f"message {number} is another one"


def machine(broker: Broker) -> dict[str, Any]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "rabbitmq": ".".join(map(str, broker.management.version())),
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def ratios(found: Results) -> dict[str, float]:
    """The medians of the ratios within each round."""
    return {
        name: round(statistics.median(a / b for a, b in zip(found[ours], found[theirs], strict=True)), 3)
        for name, (ours, theirs) in RATIOS.items()
    }


def show(about: dict[str, Any], found: Results, tails: Results) -> None:
    """Print the table."""
    print(f"\n{', '.join(f'{name} {value}' for name, value in about.items())}")
    print(f"bodies of {BODY_SIZE} bytes in AMQP 1.0; median, and least to most, of {len(found['send_wait'])} rounds\n")
    rate: Callable[[float], str] = "{:>9,.0f}".format
    micro: Callable[[float], str] = lambda value: f"{value * 1e6:>9,.0f}"  # noqa: E731 - two ways to write a number
    for title, contenders, write in (
        ("published and confirmed, messages/s", PUBLISH, rate),
        ("consumed, messages/s", CONSUME, rate),
        ("one message and its confirm, median in µs", WAIT, micro),
    ):
        print(title)
        for contender in contenders:
            values = found[contender.name]
            line = (
                f"  {contender.label:<50}{write(statistics.median(values))}  {write(min(values))} …{write(max(values))}"
            )
            tail = tails.get(contender.name)
            print(line + (f"   p99 {write(statistics.median(tail))}" if tail else ""))
    print("ratios")
    for name, value in ratios(found).items():
        print(f"  {name:<50}{value:>9.3f}")


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write benchmarks/results/latest.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--publish", type=int, default=100_000, help="messages of each measurement of publishing")
    parser.add_argument("--consume", type=int, default=200_000, help="messages of each measurement of consuming")
    parser.add_argument("--wait", type=int, default=1_000, help="messages of each measurement of latency")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    arguments = parser.parse_args(argv)
    try:
        broker = lab.ensure()
        environment.ensure()
        about = machine(broker)
        prefix = f"bench-{uuid.uuid4().hex[:12]}"
        bench = Bench(broker, prefix, arguments.publish, arguments.consume, arguments.wait)
        try:
            found, tails = bench.rounds(arguments.rounds)
        finally:
            broker.management.delete_prefix(prefix)
    except LabError as error:
        say(f"failed: {error}")
        return 1
    show(about, found, tails)
    values = {name: statistics.median(values) for name, values in found.items()}
    spreads = {name: [min(values), max(values)] for name, values in found.items()}
    p99 = {name: statistics.median(values) for name, values in tails.items()}
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(
        json.dumps(
            {
                "machine": about,
                "ratios": ratios(found),
                "medians": values,
                "spreads": spreads,
                "p99": p99,
                "rounds": arguments.rounds,
            },
            indent=2,
        )
        + "\n"
    )
    say(f"written: {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
