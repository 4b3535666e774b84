"""What is shown and written of the results: a table, and the machine that they depend on."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import contenders as c
from benchmarks.contenders import Contender
from benchmarks.measure import COMPILED, LATENCY_RATE, STEADY_RATE, Results
from benchmarks.workload import BODY_SIZE
from lab.broker import Broker

Write = Callable[[float], str]


def machine(broker: Broker) -> dict[str, Any]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "rabbitmq": ".".join(map(str, broker.management.version())),
        "compiled": any(COMPILED.glob("*.so")),
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def show(about: dict[str, Any], found: Results, ratios: dict[str, float], scale: dict[str, Any]) -> None:
    """Print the table."""
    rate: Write = "{:>11,.0f}".format
    micro: Write = lambda value: f"{value * 1e6:>11,.0f}"  # noqa: E731 - two ways to write a number
    print(f"\n{', '.join(f'{name} {value}' for name, value in about.items())}")
    print(f"bodies of {BODY_SIZE} bytes in AMQP 1.0; the median of all rounds, the least and the most\n")
    _rows("published and confirmed, messages/s", c.PUBLISH, found, "rate", rate)
    _rows("consumed, messages/s", c.CONSUME, found, "rate", rate)
    for key in ("p50", "p99"):
        _rows(f"one message and its confirm, {key} in µs", c.WAIT, found, key, micro)
    for key in ("p50", "p99", "p999"):
        _rows(f"publisher to consumer at {LATENCY_RATE:,} messages/s, {key} in µs", c.LATENCY, found, key, micro)
    for what, contenders in (("publishing", c.STEADY_PUBLISH), ("consuming", c.STEADY_CONSUME)):
        title = f"{what} {STEADY_RATE:,} messages/s, µs of the client's CPU for a message"
        _rows(title, contenders, found, "cpu_us", "{:>11.2f}".format)
    if scale:
        print("many handles, and memory")
        for name, values in scale.items():
            print(f"  {name:<50}{', '.join(f'{key} {_short(value)}' for key, value in values.items())}")
    print("ratios (vs: of messages/s, more is better; p50, p99, p999, cpu: less is better)")
    for name, value in ratios.items():
        print(f"  {name:<50}{value:>11.3f}")


def _rows(title: str, contenders: tuple[Contender, ...], found: Results, key: str, write: Write) -> None:
    present = [one for one in contenders if found.get(one.name)]
    if present:
        print(title)
    for contender in present:
        values = [outcome[key] for outcome in found[contender.name]]
        median, least, most = statistics.median(values), min(values), max(values)
        print(f"  {contender.label:<50}{write(median)} {write(least)} …{write(most)}")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
