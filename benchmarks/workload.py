"""What every contender is given to do, and how it says what it did; runs in the peers' environment too.

A contender is a script: it gets a `Task` as JSON on stdin, does it once, in its own process, and prints an outcome.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BODY_SIZE = 100
SAMPLE_MASK = 1023
"""Of every 1,024 messages one body is kept, and looked at afterwards."""

_NUMBER = struct.Struct(">Q")
_REST = bytes(range(BODY_SIZE - 8))

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One measurement: what to do (`kind`), how often, and where."""

    kind: str
    uri: str
    host: str
    port: int
    stream: str
    count: int


def body(number: int) -> bytes:
    """The body of a message: its number, and what fills it up."""
    return _NUMBER.pack(number) + _REST


def bodies(count: int) -> list[bytes]:
    """The bodies to publish, made before the clock runs."""
    return [body(number) for number in range(count)]


def check(sample: Sequence[bytes], count: int, size: int, task: Task) -> None:
    """Nobody is fast by losing messages, or their content: every 1,024th body is looked at, all are counted.

    Args:
        sample: the bodies with the numbers 0, 1024, 2048, …
        count: messages read.
        size: bytes of all bodies.
        task: what was to be read.
    """
    assert count == task.count, f"{count} messages of {task.count}"
    assert size == task.count * BODY_SIZE, f"{size} bytes of bodies"
    assert list(sample) == [body(number) for number in range(0, task.count, SAMPLE_MASK + 1)], "a body is wrong"


def seconds(begin: float) -> Outcome:
    """What a measurement of throughput says: the seconds since `begin`."""
    return {"seconds": time.perf_counter() - begin}


def latencies(samples: Sequence[float]) -> Outcome:
    """What a measurement of latency says: percentiles, in seconds."""
    ordered = sorted(samples)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100]}


def perform(
    kinds: Mapping[str, Callable[[Task], Coroutine[Any, Any, Outcome]]],
    run: Callable[[Coroutine[Any, Any, Outcome]], Outcome],
) -> None:
    """Do the task on stdin, on the loop that `run` makes, and print its outcome."""
    task = Task(**json.load(sys.stdin))
    print(json.dumps(run(kinds[task.kind](task))))
