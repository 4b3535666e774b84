"""Every example runs as its first line says, against a real broker, and prints what it is about."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.broker import Broker

ROOT = Path(__file__).parent.parent

WANTED = {path.stem: path.read_text() for path in sorted((ROOT / "tests" / "examples").glob("*.regex"))}
"""By the name of each example, a regular expression for all that it prints."""


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
