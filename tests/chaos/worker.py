"""Work that goes on in processes of its own, which are killed with SIGKILL and started again.

`Worker` is the side of whoever starts and kills them; `python -m tests.chaos.worker` is the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import actorstream
from actorstream import AutoTracking, Client, ConnectionOptions, Pipe
from lab.shell import ROOT, LabError
from tests.chaos.history import identity_of
from tests.chaos.lines import through

ENDS_WITHIN_S = 30.0
GROUP = "chaos-group"


@dataclass(frozen=True)
class Orders:
    """What a process is to do: `kind` is a key of `KINDS`; `ports` are the brokers', by those that they advertise."""

    kind: str
    name: str
    ports: dict[int, int]
    source: str
    target: str = ""
    file: str = ""
    heartbeat_s: int = 5


class Worker:
    """One process, and its successors."""

    def __init__(self, orders: Orders, errors: Path) -> None:
        self.orders = orders
        self.kills = 0
        self._errors = errors
        self._process = self._start()

    def kill(self) -> str:
        """End it with SIGKILL, and start it anew; the proof in words."""
        if self._process.poll() is not None:
            raise LabError(f"{self.orders.name} ended by itself with {self._process.returncode}: see {self._errors}")
        self._process.kill()
        code = self._process.wait()
        if code != -signal.SIGKILL:
            raise LabError(f"{self.orders.name} ended with {code} before it could be killed")
        self.kills += 1
        self._process = self._start()
        return f"{self.orders.name} was killed, for the {self.kills}. time"

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code, which is 0 when all went well."""
        self._process.terminate()
        try:
            return self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._errors.open("a") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", json.dumps(asdict(self.orders))],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )


async def pipe(client: Client, orders: Orders) -> None:
    """Copy a stream, each message once."""
    await Pipe(client, orders.source, orders.target, lambda message: message.body, name=orders.name).run()


async def member(client: Client, orders: Orders) -> None:
    """Be one of a group that shares a super stream, and write down when each message was in hand."""
    tracking = AutoTracking(every=200, interval_s=1.0)
    consumer = await client.super_stream_consumer(
        orders.source, "first", name=GROUP, single_active=True, tracking=tracking, start_timeout_s=120.0
    )
    diary = os.open(orders.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with consumer:
        async for message in consumer:
            producer, number = identity_of(message.body)
            begin = time.monotonic()
            line = f"{message.stream} {message.offset} {producer} {number} {begin:.6f} {time.monotonic():.6f}"
            os.write(diary, f"{line}\n".encode())  # not buffered: what was processed before SIGKILL is known


KINDS: dict[str, Callable[[Client, Orders], Awaitable[None]]] = {"pipe": pipe, "member": member}


async def work(orders: Orders) -> None:
    """Do it until SIGTERM."""
    uris = [f"rabbitmq-stream://guest:guest@localhost:{port}" for port in orders.ports]
    options = ConnectionOptions(heartbeat_s=orders.heartbeat_s)
    async with actorstream.connect(uris, name=orders.name, options=options, opener=through(orders.ports)) as client:
        task = asyncio.ensure_future(KINDS[orders.kind](client, orders))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    given["ports"] = {int(port): to for port, to in given["ports"].items()}
    asyncio.run(work(Orders(**given)))
