"""The same workload and the same faults for actorstream and for rstream, checked alike: `make beside`.

For each fault both start anew on streams of their own, led by the same node; the fault hits both at the same moment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import actorstream
from lab import engine, image, start as lab
from lab.cluster import Cluster
from lab.shell import ROOT, STATE, LabError, say
from tests.broker.reading import until
from tests.chaos import nemesis
from tests.chaos.checker import check_producer
from tests.chaos.history import Outcome
from tests.chaos.nemesis import Arena, Fault
from tests.chaos.probe import Probe
from tests.chaos.proxy import Proxies
from tests.chaos.recovery import first_after
from tests.chaos.subjects.recorder import Orders, read
from tests.chaos.workload import read_back
from tests.interop.peers import environment

CLIENTS = {"actorstream": "ours", "rstream": "rstream_subject"}
WARM_UP_S = 20.0
GOES_ON_WITHIN_S = 60.0
ENDS_WITHIN_S = 75.0
RATE = 100


def on_each(inject: Callable[[Arena], str]) -> Callable[[Arena], str]:
    """The fault of one stream, done to the streams of both."""

    def inject_all(arena: Arena) -> str:
        proofs = []
        for stream in arena.streams:
            alone = dataclasses.replace(arena, streams=[stream])
            proofs.append(inject(alone))
        return ", ".join(proofs)

    return inject_all


FAULTS = (
    Fault("connections closed by the operator", nemesis.close_connections, served="injected"),
    Fault("stream's leader process killed", on_each(nemesis.kill_writer)),
    Fault("leader moved", on_each(nemesis.move_leader)),
    Fault("leader's node killed", nemesis.kill_leader, (1.0, 2.0)),
    Fault("leader's node frozen", nemesis.freeze_leader, (14.0, 15.0)),
    Fault("broker stopped in its node", nemesis.stop_app, (2.0, 3.0)),
    Fault("rolling restart", nemesis.rolling_restart),
    Fault("all nodes killed", nemesis.kill_all, (2.0, 3.0)),
)


@dataclass(frozen=True)
class Row:
    """What became of one client with one fault."""

    fault: str
    client: str
    sent: int
    lost: int
    without_outcome: int
    failed: int
    repeated: int
    missed_by_consumer: int
    repeated_to_consumer: int
    confirm_after_s: float | None
    delivery_after_s: float | None
    ended: str


class Subject:
    """A running client."""

    def __init__(self, client: str, cluster: Cluster, stream: str) -> None:
        self.client = client
        self.stream = stream
        self.name = f"beside-{client}"
        self.file = STATE / "beside" / f"{client}.log"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("")
        orders = Orders([node.port for node in cluster], stream, self.name, RATE, str(self.file))
        python = environment.ensure() if client == "rstream" else Path(sys.executable)
        self._process = subprocess.Popen(
            [str(python), "-m", f"tests.chaos.subjects.{CLIENTS[client]}", json.dumps(asdict(orders))],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=(STATE / "beside" / f"{client}.err").open("w"),
        )

    def went_on(self, since: float) -> bool:
        """Whether something sent since was confirmed, and something was received since."""
        producer, consumer, _, _ = read(self.file, self.stream, named=True)
        at = [t for t, outcome in zip(producer.sent_at, producer.outcomes, strict=True) if outcome == Outcome.CONFIRMED]
        return bool(at and at[-1] >= since and consumer.received_at and consumer.received_at[-1] >= since)

    def stop(self) -> None:
        """Ask it to stop, and end it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


async def one(fault: Fault, cluster: Cluster, rng: random.Random) -> list[Row]:
    """Both clients through one fault."""
    say(f"fault: {fault.name}")
    streams = {client: f"beside-{client}-{os.getpid()}" for client in CLIENTS}
    for stream in streams.values():
        where: dict[str, str | int] = {"initial-cluster-size": 3, "queue-leader-locator": "client-local"}
        await asyncio.to_thread(cluster.nodes[0].management.create_stream, stream, where)
        await asyncio.to_thread(cluster.wait_stream, stream)
    subjects = {client: Subject(client, cluster, stream) for client, stream in streams.items()}
    try:
        moments = await break_both(fault, cluster, subjects, rng)
    finally:
        await asyncio.gather(*(asyncio.to_thread(subject.stop) for subject in subjects.values()))
    try:
        return [await verdict(fault, subject, moments[subject.client], cluster) for subject in subjects.values()]
    finally:
        for stream in streams.values():
            await asyncio.to_thread(cluster.delete_stream, stream)


async def break_both(
    fault: Fault, cluster: Cluster, subjects: Mapping[str, Subject], rng: random.Random
) -> dict[str, list[float]]:
    """Inject, heal, and wait until both go on or have had their time; when each one's stream could be served again."""
    streams = [subject.stream for subject in subjects.values()]
    names = [f"{subject.name}-{role}" for subject in subjects.values() for role in ("publisher", "consumer")]
    with Proxies([]) as proxies, Probe(cluster.nodes, streams) as probe:
        arena = Arena(cluster, proxies, streams, names, lambda _: None, rng)
        try:
            begin = time.monotonic()
            for client, subject in subjects.items():
                await until(lambda: subject.went_on(begin), f"{client} publishes and consumes", WARM_UP_S)  # noqa: B023
            proof = await asyncio.to_thread(fault.inject, arena)
            done = time.monotonic()
            say(f"  {proof}")
            injected = min([done, *(probe.last_look(victim, done) for victim in arena.victims)])
            await asyncio.sleep(rng.uniform(*fault.hold_s))
        finally:
            await asyncio.to_thread(arena.heal)
        healed = time.monotonic()
        with contextlib.suppress(AssertionError):  # one that never goes on is what the table tells
            await until(lambda: all(one.went_on(healed) for one in subjects.values()), "both", GOES_ON_WITHIN_S)
        for subject in subjects.values():
            say(f"  {subject.client} {'goes on' if subject.went_on(healed) else 'is stuck'}")
        return {
            client: [injected] if fault.served == "injected" else probe.served_at(subject.stream, injected)
            for client, subject in subjects.items()
        }


async def verdict(fault: Fault, subject: Subject, moments: Sequence[float], cluster: Cluster) -> Row:
    """Hold what a subject wrote down against its stream."""
    producer, consumer, confirmed, said = read(subject.file, subject.stream, named=True)
    async with actorstream.connect([node.uri for node in cluster], name="verdict") as client:
        stored = await read_back(client, subject.stream)
    _, counts = check_producer(producer, [stored])
    there = set(stored.numbers)
    lost = sum(outcome == Outcome.CONFIRMED and n not in there for n, outcome in enumerate(producer.outcomes))
    given = set(consumer.offsets)
    at = moments[-1] if moments else None
    return Row(
        fault.name,
        subject.client,
        counts.sent,
        lost,
        producer.count(Outcome.PENDING),
        counts.rejected + counts.unconfirmed,
        counts.duplicates,
        sum(offset not in given for offset in stored.offsets),
        len(consumer.offsets) - len(given),
        _after(confirmed, at),
        _after(list(consumer.received_at), at),
        "; ".join(said),
    )


def _after(times: Sequence[float], moment: float | None) -> float | None:
    at = None if moment is None else first_after(times, moment)
    return None if at is None or moment is None else round(at - moment, 2)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    heads = (
        "fault",
        "client",
        "sent",
        "confirmed and lost",
        "without an outcome",
        "failed",
        "stored twice",
        "missed by the consumer",
        "given to it twice",
        "first confirm after",
        "first delivery after",
    )
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    for row in rows:
        cells = [value for name, value in asdict(row).items() if name != "ended"]
        shown = [str(cell) if cell is not None else "never" for cell in cells[:9]]
        shown += ["never" if cell is None else f"{cell} s" for cell in cells[9:]]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run all faults, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.beside", description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names of the faults that are wanted")
    arguments = parser.parse_args()
    rows: list[Row] = []
    try:
        engine.ensure()
        environment.ensure()
        cluster = lab.cluster(image=image.choose())
        for fault in FAULTS:
            if arguments.only in fault.name:
                rows += asyncio.run(one(fault, cluster, random.Random(1)))
    except LabError as error:
        say(f"failed: {error}")
        return 2
    print(table(rows))
    (STATE / "beside.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
