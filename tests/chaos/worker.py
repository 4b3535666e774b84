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
from lab.shell import ROOT, LabError, wait_until
from tests.chaos.history import identity_of
from tests.chaos.lines import through

ENDS_WITHIN_S = 30.0
GROUP = "chaos-group"
BATCH = 20
WORKS_S = 0.002
"""What a member takes over each message, so that it can be caught with some of a batch in hand."""


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

    def stopped_amid_a_batch(self) -> bool:
        """Whether it has some messages of a batch behind it and others in hand; then it stands still right there."""
        self._check_alive()
        if not Progress.of(self.orders.file).is_within:
            return False
        self._process.send_signal(signal.SIGSTOP)
        # A signal takes effect when the process is scheduled next: until then it may go on.
        wait_until(lambda: _state(self._process.pid) == "T", f"{self.orders.name} stands still", 5.0, every_s=0.002)
        if Progress.of(self.orders.file).is_within:
            return True
        self._process.send_signal(signal.SIGCONT)
        return False

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            raise LabError(f"{self.orders.name} ended by itself with {self._process.returncode}: see {self._errors}")

    def kill(self) -> str:
        """End it with SIGKILL, and start it anew; the proof in words."""
        self._check_alive()
        progress = Progress.of(self.orders.file)
        at = time.monotonic()
        self._process.kill()
        code = self._process.wait()
        if code != -signal.SIGKILL:
            raise LabError(f"{self.orders.name} ended with {code} before it could be killed")
        if self.orders.file:
            with Path(self.orders.file).open("a") as lines:
                lines.write(f"! {at:.6f}\n")
        self.kills += 1
        self._process = self._start()
        amid = f", with {progress.done} of a batch of {progress.size} behind it" if progress.size else ""
        return f"{self.orders.name} was killed, for the {self.kills}. time{amid}"

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


@dataclass(frozen=True)
class Progress:
    """How far a member is with the batch that it has in hand; `size` 0 is none."""

    done: int
    size: int

    @classmethod
    def of(cls, file: str) -> Progress:
        """By the end of its lines."""
        if not file:
            return cls(0, 0)
        lines = _tail(Path(file)).splitlines()
        kinds = [line[:1] for line in lines]
        begin = max((at for at, kind in enumerate(kinds) if kind == "+"), default=None)
        if begin is None or {"-", "!"} & set(kinds[begin:]):
            return cls(0, 0)
        return cls(len(kinds) - begin - 1, int(lines[begin].split()[2]))

    @property
    def is_within(self) -> bool:
        """Whether some of it is done, and some is not."""
        return 0 < self.done < self.size


def _tail(file: Path) -> str:
    """The last whole lines, more than a batch has."""
    if not file.exists():
        return ""
    with file.open("rb") as lines:
        begin = max(0, file.stat().st_size - 200 * BATCH)
        lines.seek(begin)
        whole = lines.read().rpartition(b"\n")[0]
        return (whole.partition(b"\n")[2] if begin else whole).decode()


def _state(pid: int) -> str:
    """As the kernel says: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def pipe(client: Client, orders: Orders) -> None:
    """Copy a stream, each message once."""
    await Pipe(client, orders.source, orders.target, lambda message: message.body, name=orders.name).run()


async def member(client: Client, orders: Orders) -> None:
    """Be one of a group that shares a super stream, and write down what is in hand, batch by batch.

    Its lines are those that `tests.chaos.share` reads. They are not buffered: what was done before SIGKILL is known.
    """
    tracking = AutoTracking(every=200, interval_s=1.0)
    consumer = await client.super_stream_consumer(
        orders.source, "first", name=GROUP, single_active=True, tracking=tracking, start_timeout_s=120.0
    )
    diary = os.open(orders.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(line: str) -> None:
        os.write(diary, f"{line} {time.monotonic():.6f}\n".encode())

    async with consumer:
        async for batch in consumer.batches(BATCH):
            write(f"+ {batch[0].stream} {len(batch)}")
            for message in batch:
                await asyncio.sleep(WORKS_S)
                producer, number = identity_of(message.body)
                write(f"= {message.stream} {message.offset} {producer} {number}")
            write(f"- {batch[0].stream}")


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
