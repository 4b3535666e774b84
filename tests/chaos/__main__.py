"""`make chaos`: break a three-node cluster at random, for as long as wanted, and check by content."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path

from lab import engine, image, start as lab
from lab.shell import ROOT, LabError, say
from tests.chaos import report
from tests.chaos.campaign import Campaign
from tests.chaos.nemesis import FAULTS
from tests.chaos.recovery import limits
from tests.chaos.result import Plan


def main() -> int:
    """Run, write the report, print the summary; 1 if an invariant was violated, or a recovery took too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--duration", type=float, default=300.0, help="seconds; 0 does each fault once")
    parser.add_argument("--seed", type=int, default=None, help="of all that is left to chance; printed if not given")
    parser.add_argument("--nested", type=float, default=0.2, help="how likely a second fault comes on top")
    parser.add_argument("--brisk", action="store_true", help="hold each fault as short as it may be")
    parser.add_argument("--rate", type=int, default=100, help="messages a second of each producer")
    parser.add_argument("--only", default="", help="a part of the names of the faults that are wanted")
    parser.add_argument("--output", type=Path, default=ROOT / ".lab" / "chaos", help="the folder for the report")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    say(f"seed {seed}")
    try:
        engine.ensure()
        cluster = lab.cluster(image=image.choose())
        plan = Plan(seed, arguments.duration or None, faults, arguments.rate, arguments.nested, arguments.brisk)
        result = asyncio.run(Campaign(plan, cluster, arguments.output).run())
    except LabError as error:
        say(f"failed: {error}")
        return 2
    report.write(result, arguments.output)
    print(json.dumps(report.summary(result), indent=2))
    say(f"written: {arguments.output}/report.html")
    for violation in result.violations:
        say(f"violation: {violation.invariant}: {violation.text}")
    late = {fault: limit for fault, limit in limits(result.recoveries).items() if not limit["ok"]}
    for fault, limit in late.items():
        say(f"too slow: {fault}: {limit['worst_s']} s, and {limit['limit_s']} s is the limit")
    return 1 if result.violations or late else 0


if __name__ == "__main__":
    sys.exit(main())
