"""Every example runs as its first line says, against a real broker, and prints what it is about."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.broker import Broker
from tests.balancer import Balancer

ROOT = Path(__file__).parent.parent

WANTED = {path.stem: path.read_text() for path in sorted((ROOT / "tests" / "examples").glob("*.regex"))}
"""By the name of each example, a regular expression for all that it prints."""

ELSEWHERE = {"tls", "oauth2", "load_balancer"}
"""Those that want more than the shared broker."""


def test_every_example_is_here() -> None:
    there = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert there - {"__init__", "demo"} == set(WANTED)


@pytest.mark.parametrize("name", sorted(WANTED.keys() - ELSEWHERE))
async def test_example(broker: Broker, name: str) -> None:
    await check(name, broker.uri)


async def test_f19_example_of_tls(secure: Broker) -> None:
    await check("tls", secure.tls_uri or "")


async def test_f88_example_of_oauth2(secure: Broker) -> None:
    await check("oauth2", secure.uri)


async def test_f16_example_of_a_load_balancer(broker: Broker) -> None:
    async with Balancer([broker]) as balancer:
        await check("load_balancer", balancer.uri)
        assert len(balancer.accepted) >= 4


async def check(name: str, uri: str) -> None:
    """Run an example, and compare what it prints."""
    outcome = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-m", f"examples.{name}", uri],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    shown = re.sub(r"^event: .*\n", "", outcome.stdout, flags=re.MULTILINE)
    assert re.fullmatch(WANTED[name], shown), outcome.stdout
