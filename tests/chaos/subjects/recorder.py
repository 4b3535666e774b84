"""What a subject writes down, a line each: nothing but the standard library, for every environment.

s NUMBER SECONDS                   about to be sent
o NUMBER OUTCOME SECONDS           its outcome is known
r OFFSET PRODUCER NUMBER SECONDS   received
e TEXT                             what it said when it ended
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.history import ConsumerHistory, Outcome, ProducerHistory, body_of, identity_of

STEP_S = 0.02


@dataclass(frozen=True)
class Orders:
    """What a subject is to do."""

    ports: list[int]
    stream: str
    name: str
    rate: int
    file: str


class Recorder:
    """Writes the lines."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.stop = asyncio.Event()
        self.pending = 0
        self._numbers = 0
        self._idle = asyncio.Event()
        self._file = Path(orders.file).open("w", buffering=1)  # noqa: SIM115 - until the process ends

    def sending(self) -> tuple[int, bytes]:
        """The next message: its number and its body."""
        number = self._numbers
        self._numbers += 1
        self.pending += 1
        self._idle.clear()
        self._file.write(f"s {number} {time.monotonic():.4f}\n")
        return number, body_of(0, number)

    def settled(self, number: int, outcome: Outcome) -> None:
        """Its outcome."""
        self.pending -= 1
        if not self.pending:
            self._idle.set()
        self._file.write(f"o {number} {outcome.value} {time.monotonic():.4f}\n")

    def received(self, offset: int, body: bytes) -> None:
        """A message came."""
        producer, number = identity_of(body)
        self._file.write(f"r {offset} {producer} {number} {time.monotonic():.4f}\n")

    def ended(self, text: str) -> None:
        """It ended although nobody asked for it."""
        self._file.write(f"e {text}\n")

    async def send_on(self, send: Callable[[int, bytes], Awaitable[None]]) -> None:
        """Call `send` at the rate that was ordered until it is time to stop."""
        begin, sent = time.monotonic(), 0
        while not self.stop.is_set():
            due = int((time.monotonic() - begin) * self.orders.rate) - sent
            for _ in range(min(due, self.orders.rate)):
                await send(*self.sending())
            sent += max(due, 0)
            await asyncio.sleep(STEP_S)

    async def settle(self, within_s: float) -> None:
        """Wait until everything has its outcome, or for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), within_s)


def perform(main: Callable[[Recorder], Awaitable[None]]) -> None:
    """Carry out the orders on the command line until SIGTERM."""
    recorder = Recorder(Orders(**json.loads(sys.argv[1])))

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, recorder.stop.set)
        try:
            await main(recorder)
        except Exception as error:  # noqa: BLE001 - whatever ends a client is what is to be learnt
            recorder.ended(repr(error))

    asyncio.run(run())


def read(file: Path, stream: str, *, named: bool) -> tuple[ProducerHistory, ConsumerHistory, list[float], list[str]]:
    """The histories in a file, the times of the confirms, and what was said at the end."""
    producer, consumer = ProducerHistory(0, stream, named), ConsumerHistory(stream)
    confirmed: list[float] = []
    said: list[str] = []
    for line in file.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        values = rest.split()
        if kind == "s":
            producer.outcomes.append(Outcome.PENDING)
            producer.sent_at.append(float(values[1]))
            producer.settled_at.append(0.0)
        elif kind == "o":
            producer.outcomes[int(values[0])] = int(values[1])
            producer.settled_at[int(values[0])] = float(values[2])
            if int(values[1]) == Outcome.CONFIRMED:
                confirmed.append(float(values[2]))
        elif kind == "r" and len(values) == 4:
            consumer.offsets.append(int(values[0]))
            consumer.producers.append(int(values[1]))
            consumer.numbers.append(int(values[2]))
            consumer.received_at.append(float(values[3]))
        elif kind == "e":
            said.append(rest)
    return producer, consumer, confirmed, said
