"""Every example runs as its first line says, against a real broker, and prints what it is about."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.broker import Broker

ROOT = Path(__file__).parent.parent

WANTED = {
    "minimal": r"0 streams\n1 are\n2 logs\n",
    "confirms": r"2002 confirmed, 0 failed, the callback saw 2002\n",
    "offsets": (
        r"from the first +100 messages, from 0 to 99\n"
        r"from offset 40 +60 messages, from 40 to 99\n"
        r"from an hour ago +100 messages, from 0 to 99\n"
        r"from the last chunk +\d+ messages, from \d+ to 99\n"
        r"next +got 'news' at 100\n"
        r"after the stored offset 49 +51 messages, from 50 to 100\n"
    ),
    "batches": r"50000 messages, 5000000 bytes in \d+\.\d\d s\n",
    "handler": (
        r"handled 1\nhandled 3\n"
        r"parked two \{'x-origin-stream': 'example-handler', 'x-origin-offset': 1, 'x-reason': \"ValueError: .*\"\}\n"
    ),
    "actor_refs": "".join(rf"MESSAGE {number}\n" for number in range(20)),
    "watching": (
        r"(?s)got hello\nroot: running, generation 1, 0 restarts\n.*"
        r"the consumer ended: stream does not exist .*"
        r"the producer ended: stream does not exist .*"
    ),
    "without_asyncio": "".join(rf"{number} message {number}\n" for number in range(10)),
}


def test_every_example_is_here() -> None:
    there = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert there - {"__init__", "demo"} == set(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_example(broker: Broker, name: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}", broker.uri],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    shown = re.sub(r"^event: .*\n", "", outcome.stdout, flags=re.MULTILINE)
    assert re.fullmatch(WANTED[name], shown), outcome.stdout
