"""Instructions and blocks of memory for each message: figures that do not depend on how busy the machine is.

`make count` counts, compares with `benchmarks/results/counts.json`, and fails where a loop of `loops.py` takes more
than it did; `ARGS=--store` stores what was counted instead. Valgrind counts the instructions; without it, only blocks
are compared, and it says so. What is stored is for one version of Python on one kind of processor: for others there is
nothing to compare with.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.loops import LOOPS
from benchmarks.measure import COMPILED, variables
from lab.shell import ROOT, say

STORED = ROOT / "benchmarks" / "results" / "counts.json"
FEW, MANY = 10_000, 30_000
"""Messages: what the second run takes more than the first is what messages take, without imports and the like."""
TOLERANCE = {"instructions": 0.05, "blocks": 0.02}
"""How much more is not yet a regression: compilers differ a little, and memory comes in blocks."""

HOT = ("publishing", "iterating")
MOST_SHARE = 0.01
"""What counters may take of both together."""

Counts = dict[str, dict[str, float]]


def run(name: str, count: int, *, compiled: bool, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a loop in a process of its own."""
    environment = os.environ | variables(compiled=compiled) | {"PYTHONHASHSEED": "0"}
    command = [*under, sys.executable, "-m", "benchmarks.loops", name, str(count)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


def blocks(name: str, *, compiled: bool) -> float:
    """Blocks of memory that are left of a message while somebody keeps what was made of it."""
    return round(float(run(name, MANY, compiled=compiled).stdout), 3)


def instructions(name: str, *, compiled: bool) -> float:
    """Machine instructions for a message."""
    valgrind = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
    counted: list[int] = []
    for count in (FEW, MANY):
        said = run(name, count, compiled=compiled, under=valgrind).stderr
        found = re.search(r"I\s+refs:\s+([\d,]+)", said)
        assert found is not None, said
        counted.append(int(found[1].replace(",", "")))
    return round((counted[1] - counted[0]) / (MANY - FEW), 1)


def count(*, with_instructions: bool) -> Counts:
    """By "compiled decoding" and the like: what each loop takes for a message."""
    modes = {"compiled": True, "interpreted": False} if any(COMPILED.glob("*.so")) else {"interpreted": False}
    counts: Counts = {}

    def one(name: str, compiled: bool) -> dict[str, float]:
        found = {"blocks": blocks(name, compiled=compiled)}
        return found | {"instructions": instructions(name, compiled=compiled)} if with_instructions else found

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = {
            f"{mode} {name}": pool.submit(one, name, compiled) for mode, compiled in modes.items() for name in LOOPS
        }
        for what, task in tasks.items():
            counts[what] = task.result()
    return counts


def regressions(counted: Counts, stored: Counts) -> list[str]:
    """What takes more than it did, beyond the tolerance."""
    return [
        f"{what}: {value:g} {key} for a message, {stored[what][key]:g} are stored"
        for what, values in counted.items()
        for key, value in values.items()
        if key in stored.get(what, {}) and value > stored[what][key] * (1 + TOLERANCE[key]) + 0.01
    ]


def shares(counted: Counts) -> dict[str, float]:
    """By mode: what counting takes, of all that is done here to publish a message and to consume it again."""
    found: dict[str, float] = {}
    for mode in ("compiled", "interpreted"):
        each = {name: counted.get(f"{mode} {name}", {}).get("instructions") for name in ("counters", *HOT)}
        counting, *hot = each.values()
        if counting is not None and all(hot):
            found[mode] = counting / sum(value for value in hot if value)
    return found


def main(argv: list[str] | None = None) -> int:
    """Count, print, and compare or store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.count", description=__doc__)
    parser.add_argument("--store", action="store_true", help="store what was counted")
    parser.add_argument("--blocks", action="store_true", help="without instructions, in seconds")
    parser.add_argument("--stored", type=Path, default=STORED)
    arguments = parser.parse_args(argv)
    has_valgrind = shutil.which("valgrind") is not None
    if not has_valgrind and not arguments.blocks:
        say("valgrind is not installed: instructions are not counted")
    counted = count(with_instructions=has_valgrind and not arguments.blocks)
    for what, values in counted.items():
        print(f"{what:<26}" + "  ".join(f"{key} {value:>9,.1f}" for key, value in values.items()))
    dear = shares(counted)
    for mode, share in dear.items():
        print(f"{mode}: counters take {share:.2%} of publishing and iterating")
    where = f"python {platform.python_version()} {platform.machine()}"
    stored: dict[str, Any] = json.loads(arguments.stored.read_text()) if arguments.stored.exists() else {}
    if arguments.store:
        arguments.stored.parent.mkdir(exist_ok=True)
        arguments.stored.write_text(json.dumps(stored | {where: counted}, indent=2) + "\n")
        say(f"stored for {where}: {arguments.stored}")
        return 0
    if where not in stored:
        say(f"nothing is stored for {where}: there is nothing to compare with (ARGS=--store)")
        return 0
    worse = regressions(counted, stored[where])
    worse += [f"counters take {share:.2%}, {mode}" for mode, share in dear.items() if share > MOST_SHARE]
    for line in worse:
        say(f"more than before: {line}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
