"""What every contender is given to do, and how it says what it did; runs in the peers' environment too.

A contender is a script: it gets a `Task` as JSON on stdin, does it once, in its own process, and prints an outcome.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BODY_SIZE = 100
SAMPLE_MASK = 1023
"""Of every 1,024 messages one body is kept, and looked at afterwards."""

WINDOW = 50_000
"""Messages that may be ahead of their confirms, for who sends as fast as possible and can be told."""
WARM_UP = 0.2
"""The share of a measurement of latency that is not counted."""
TICK_S = 0.001

_NUMBER = struct.Struct(">Q")
_REST = bytes(range(92))

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One measurement: what to do (`kind`), how often, and where.

    Attributes:
        size: bytes of a body, 8 at least.
        rate: messages a second, where they are not to be sent as fast as possible.
        handles: producers and consumers, where there are to be many.
        seconds: how long, where it takes a time.
        brokers: URIs of those over which streams are spread, where there are several.
    """

    kind: str
    uri: str
    host: str
    port: int
    stream: str
    count: int
    size: int = BODY_SIZE
    rate: int = 0
    handles: int = 0
    seconds: float = 0.0
    brokers: Sequence[str] = ()


def body(number: int, size: int = BODY_SIZE) -> bytes:
    """The body of a message: its number, and what fills it up."""
    return _NUMBER.pack(number) + (_REST * (size // len(_REST) + 1))[: size - 8]


def bodies(count: int, size: int = BODY_SIZE) -> list[bytes]:
    """The bodies to publish, made before the clock runs."""
    rest = body(0, size)[8:]
    return [_NUMBER.pack(number) + rest for number in range(count)]


def age(stamped_body: bytes) -> float:
    """Seconds since a message of `stamped` was due, sent by any process of this machine."""
    due: int = _NUMBER.unpack_from(stamped_body)[0]
    return (time.monotonic_ns() - due) / 1e9


def check(sample: Sequence[bytes], count: int, size: int, task: Task) -> None:
    """Nobody is fast by losing messages, or their content: every 1,024th body is looked at, all are counted.

    Args:
        sample: the bodies with the numbers 0, 1024, 2048, …
        count: messages read.
        size: bytes of all bodies.
        task: what was to be read.
    """
    assert count == task.count, f"{count} messages of {task.count}"
    assert size == task.count * task.size, f"{size} bytes of bodies"
    numbers = range(0, task.count, SAMPLE_MASK + 1)
    assert list(sample) == [body(number, task.size) for number in numbers], "a body is wrong"


Begin = tuple[float, float]


def start() -> Begin:
    """The clocks, as a measurement begins: of the wall, and of this process's CPU."""
    return time.perf_counter(), time.process_time()


def seconds(begin: Begin) -> Outcome:
    """What a measurement of throughput says: seconds since `begin`, and how many of them this process used a CPU."""
    return {"seconds": time.perf_counter() - begin[0], "cpu": time.process_time() - begin[1]}


def latencies(samples: Sequence[float]) -> Outcome:
    """What a measurement of latency says: percentiles, in seconds; the first samples are not counted."""
    ordered = sorted(samples[int(len(samples) * WARM_UP) :])
    return {
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "p999": ordered[len(ordered) * 999 // 1000],
    }


async def paced(task: Task, send: Callable[[int], Awaitable[object]]) -> None:
    """Have `task.count` messages sent at `task.rate`: `send` gets how many are due, every millisecond or so."""
    begin, sent = time.perf_counter(), 0
    while sent < task.count:
        due = min(task.count, int((time.perf_counter() - begin) * task.rate)) - sent
        if due:
            await send(due)
            sent += due
        await asyncio.sleep(TICK_S)


async def stamped(task: Task, send: Callable[[list[bytes]], Awaitable[object]]) -> None:
    """As `paced`, with bodies that say when they were due.

    Not when they were handed over: who keeps the sender waiting would hold back messages that nobody counts.
    """
    begin, sent = time.monotonic_ns(), 0

    async def send_due(count: int) -> None:
        nonlocal sent
        due = [body(begin + number * 1_000_000_000 // task.rate, task.size) for number in range(sent, sent + count)]
        sent += count
        await send(due)

    await paced(task, send_due)


def perform(
    kinds: Mapping[str, Callable[[Task], Coroutine[Any, Any, Outcome]]],
    run: Callable[[Coroutine[Any, Any, Outcome]], Outcome],
) -> None:
    """Do the task on stdin, on the loop that `run` makes, and print its outcome."""
    task = Task(**json.load(sys.stdin))
    print(json.dumps(run(kinds[task.kind](task))))
