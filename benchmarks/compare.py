"""What this client reaches and costs, beside rstream, rbfly, and the least that can be done: `make bench`.

`ARGS=--quick` takes two minutes and says little; all of it takes half an hour. Every measurement is a process of its
own in the environment of its client. Rounds are interleaved, so that what the machine does meanwhile hits all alike,
and a ratio is the median of the ratios within the rounds. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import ceiling, contenders as c, plots, report
from benchmarks.contenders import Contender
from benchmarks.measure import COMPILED, QUICK, STEADY_RATE, Amounts, Bench, Results, ratios, summary
from lab import start as lab
from lab.broker import Broker
from lab.shell import ROOT, LabError, say
from tests.interop.peers import environment

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
SECTIONS = ("throughput", "steady", "sizes", "scale", "small-streams", "memory")
SMALL = 3
"""Messages of each small stream."""
ONE_BROKER = 5_000
"""Small streams beyond these are spread over the cluster: a broker has two files open for a stream, and one for whoever
reads it, and a container of 20,000 files has no more than 6,600 of them."""
BEFORE_OUTAGE = 20_000
"""Messages that are published before a broker hangs: what the process takes then is what it takes without an outage."""
OURS = Contender("", "scale", "", "")
CEILING = Contender("", "ceiling_scale", "", "")


def measured(bench: Bench, sections: list[str]) -> dict[str, Any]:
    """Everything that was asked for; what has ratios goes into `bench.found`."""
    amounts = bench.amounts
    more: dict[str, Any] = {}
    if {"throughput", "memory"} & set(sections):
        bench.fill()
    for number in range(amounts.rounds):
        say(f"round {number + 1} of {amounts.rounds}")
        if "throughput" in sections:
            bench.throughput(number)
        if "steady" in sections:
            bench.steady(number)
    for name in (one.name for one in (*c.STEADY_PUBLISH, *c.STEADY_CONSUME)):
        for outcome in bench.found.get(name, []):
            outcome["cpu_us"] = outcome["cpu"] / (amounts.steady_s * STEADY_RATE) * 1e6
    if "sizes" in sections:
        more["by_size"] = bench.by_size()
    more["scale"] = {
        name: found
        for section, measure in (("scale", scaling), ("small-streams", small_streams), ("memory", memory))
        if section in sections
        for name, found in measure(bench).items()
    }
    return more


def scaling(bench: Bench) -> dict[str, Any]:
    """Many handles beside ten with the same load, and a super stream beside as many streams."""
    amounts = bench.amounts
    found: dict[str, Any] = {}
    for name, contender, kind, handles in (
        ("ten_handles", OURS, "handles", 10),
        ("ten_handles_ceiling", CEILING, "handles", 10),
        ("many_handles", OURS, "handles", amounts.handles),
        ("many_handles_ceiling", CEILING, "handles", amounts.handles),
        ("streams", OURS, "plain_streams", amounts.partitions),
        ("super_stream", OURS, "super_stream", amounts.partitions),
    ):
        say(f"{name}: {handles}")
        count = amounts.spread // handles * handles
        task = bench.task(kind, name, count, handles=handles)
        outcome = bench.measure(contender, task, timeout_s=300.0)
        bench.found[name].append(outcome)
        found[name] = {"handles": handles, **outcome}
    return found


def small_streams(bench: Bench) -> dict[str, Any]:
    """Many streams with a few messages each, all of them consumed at once."""
    amounts = bench.amounts
    brokers = [bench.broker] if amounts.streams <= ONE_BROKER else lab.cluster().nodes
    task = dataclasses.replace(
        bench.task("", "small", amounts.streams * SMALL, handles=amounts.streams),
        uri=brokers[0].uri,
        brokers=[broker.uri for broker in brokers],
    )
    try:
        say(f"small streams: {amounts.streams} are made")
        made = bench.measure(OURS, dataclasses.replace(task, kind="make_small_streams"), timeout_s=3_600.0)
        say(f"small streams: made in {made['seconds']:.0f} s, and consumed")
        return {"small_streams": bench.measure(OURS, dataclasses.replace(task, kind="small_streams"), timeout_s=900.0)}
    finally:
        bench.measure(OURS, dataclasses.replace(task, kind="drop_small_streams"), timeout_s=3_600.0)


def memory(bench: Bench) -> dict[str, Any]:
    """What a consumer takes that does not keep up, and a publisher whose broker hangs for a while."""
    amounts = bench.amounts
    say("memory")
    task = dataclasses.replace(bench.task("slow_consumer", "full", amounts.consume), seconds=min(amounts.outage_s, 5.0))
    found = {"slow_consumer": bench.measure(OURS, task)}
    return found | {"outage": outage(bench)}


def outage(bench: Bench) -> dict[str, Any]:
    """A publisher whose broker hangs for a while, once it is seen to publish."""
    outage_s = bench.amounts.outage_s
    chaos = lab.chaos()
    task = dataclasses.replace(
        bench.task("outage", "outage", BEFORE_OUTAGE, seconds=outage_s + 2.0),
        uri=chaos.uri,
        host=chaos.host,
        port=chaos.port,
    )

    def hang() -> None:
        ceiling.read_bodies(dataclasses.replace(task, count=BEFORE_OUTAGE + 1))
        chaos.pause()
        time.sleep(outage_s)
        chaos.unpause()

    chaos.management.create_stream(task.stream)
    try:
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(hang)
            outcome = bench.measure(OURS, task, timeout_s=outage_s + 90.0)
            hanging.result()
    finally:
        chaos.heal()
        chaos.management.delete_stream(task.stream)
    return {"outage_s": outage_s, **outcome}


def java() -> str:
    """What there is to say of the Java client's own measuring tool."""
    jar = os.environ.get("STREAM_PERF_TEST", "")
    if jar:
        return f"the Java stream-perf-test is run by hand, beside this: java -jar {jar} --help"
    return "the Java stream-perf-test is not measured: no package registry has it, only the releases of its repository"


def draw(found: Results, more: dict[str, Any], folder: Path) -> list[Path]:
    """Write the plots of what was measured."""
    drawn: dict[str, str] = {}
    labels = {one.name: one.label for one in (*c.PUBLISH, *c.CONSUME)}
    if by_size := more.get("by_size"):
        for way in ("publish", "consume"):
            series = {labels[name]: rates for name, rates in by_size.items() if name.startswith(way)}
            drawn[f"{way}-by-size"] = plots.lines(f"{way}: messages/s by size of body", "bytes", "messages/s", series)
    median = {
        name: {key: statistics.median(one[key] for one in each) for key in each[0]} for name, each in found.items()
    }
    modes = {
        way: {labels[one.name]: median[one.name]["rate"] for one in contenders if one.name in median}
        for way, contenders in (("publish", c.PUBLISH), ("consume", c.CONSUME))
    }
    if all(modes.values()):
        drawn["throughput"] = plots.bars("messages/s, bodies of 100 bytes", "messages/s", modes)
        costs = {
            way: {
                labels[name]: median[name]["cpu"] / median[name]["seconds"] / median[name]["rate"] * 1e6
                for name in names
            }
            for way, names in (("publish", [n for n in labels if n in median and n.startswith("publish")]),)
        }
        drawn["cost"] = plots.bars("CPU of the client, µs for a message, as fast as it can", "µs", costs)
    if "latency" in median:
        ours = {one.label: one.name for one in c.LATENCY}
        percentiles = {
            key: {label: median[name][key] * 1e3 for label, name in ours.items()} for key in ("p50", "p99", "p999")
        }
        drawn["latency"] = plots.bars("publisher to consumer at 10,000 messages/s", "ms", percentiles)
    if "many_handles" in median:
        rates = {
            f"{more['scale'][name]['handles']} handles": median[name]["rate"]
            for name in ("ten_handles", "many_handles")
        }
        drawn["scaling"] = plots.bars("the same load over few and many handles", "messages/s", {"": rates})
    paths = []
    for name, svg in drawn.items():
        path = folder / f"{name}.svg"
        path.write_text(svg)
        paths.append(path)
    return paths


def write(path: Path, about: dict[str, Any], bench: Bench, more: dict[str, Any]) -> None:
    """Write the results, and the plots beside them."""
    path.parent.mkdir(exist_ok=True)
    results = {
        "machine": about,
        "amounts": dataclasses.asdict(bench.amounts),
        "ratios": ratios(bench.found),
        "measured": {name: summary(outcomes) for name, outcomes in bench.found.items()},
        **more,
        "java": java(),
    }
    path.write_text(json.dumps(results, indent=2) + "\n")
    plotted = draw(bench.found, more, path.parent)
    say(f"written: {path}, {', '.join(one.name for one in plotted)}")


def options(argv: list[str] | None) -> tuple[Amounts, list[str], Path]:
    """How much, what, and where the results go."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a little of everything, in two minutes")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="what is measured")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes; the plots go beside it")
    given = {
        "--rounds": int,
        "--publish": int,
        "--consume": int,
        "--wait": int,
        "--handles": int,
        "--streams": int,
        "--outage-s": float,
    }
    for name, kind in given.items():
        parser.add_argument(name, type=kind)
    arguments = parser.parse_args(argv)
    amounts = QUICK if arguments.quick else Amounts()
    names = [name[2:].replace("-", "_") for name in given]
    changes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return dataclasses.replace(amounts, **changes), arguments.sections, arguments.output


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write."""
    amounts, sections, output = options(argv)
    try:
        broker: Broker = lab.ensure()
        environment.ensure()
        about = report.machine(broker)
        if not any(COMPILED.glob("*.so")):
            say("build/compiled is not there (make compile): what should be compiled is not")
        bench = Bench(broker, f"bench-{uuid.uuid4().hex[:12]}", amounts)
        try:
            more = measured(bench, sections)
        finally:
            broker.management.delete_prefix(bench.prefix, within_s=60.0)
    except LabError as error:
        say(f"failed: {error}")
        return 1
    report.show(about, bench.found, ratios(bench.found), more["scale"])
    print(java())
    write(output, about, bench, more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
