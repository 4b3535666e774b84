"""One run: the workload, one fault after the other, and in the end the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import actorstream
from actorstream import Client, Compression, ConnectionOptions, HashRouting, StreamArguments
from actorstream.options import ProducerKeywords
from lab.broker import Cluster
from lab.shell import STATE, LabError, say
from tests.broker.reading import until
from tests.chaos import checker
from tests.chaos.checker import Counts, Violation
from tests.chaos.history import ProducerHistory, ReadBack, Span, identity_of
from tests.chaos.lines import through
from tests.chaos.nemesis import FAULTS, MEMBER_KILLED, Arena, Fault
from tests.chaos.probe import Probe
from tests.chaos.proxy import Proxies
from tests.chaos.recovery import Recovery, longest_wait
from tests.chaos.share import Share
from tests.chaos.worker import Orders, Worker
from tests.chaos.workload import STEP_S, Diary, Reader, Workload, Writer, read_back

NAME = "chaos"
CONNECTIONS = tuple(f"{NAME}-{role}" for role in ("publisher", "consumer", "control"))
HEARTBEAT_S = 5
PROGRESS_WITHIN_S = 90.0
"""After everything is healed. What takes longer is a violation by itself."""
CLOSE_WITHIN_S = 15.0
SHOWN_WITHIN_S = 20.0
"""How late the management API may show what there is."""
ATTEMPTS_PER_SECOND = 20
"""Connections that the client may try at one broker within a second: its three roles, a few times."""

SOURCE, COPY, SUPER = "source", "copy", "super"
PARTITIONS = tuple(f"{SUPER}-{number}" for number in range(3))
MEMBERS = 3
SPREAD = {SUPER: STEP_S, "bursts": 0.5}
"""The producers of the super stream, by how often they send: bursts are what its group has in hand as batches."""
WRITERS: dict[str, ProducerKeywords] = {
    "plain": {"confirm_timeout_s": 120.0},
    "named": {"confirm_timeout_s": 120.0},
    "packed": {"confirm_timeout_s": 120.0, "sub_entry_size": 20, "compression": Compression.LZ4},
    SOURCE: {"confirm_timeout_s": 120.0},
}
"""The streams, and what is special of their producers. All but the plain one have a name. A pipe copies `SOURCE`."""


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        seed: of everything that is left to chance.
        duration_s: faults are begun until then; None does each of them once.
        faults: which.
        rate: messages a second of each writer.
        nested: how likely another fault comes before the one before is recovered from.
    """

    seed: int
    duration_s: float | None = None
    faults: Sequence[Fault] = FAULTS
    rate: int = 100
    nested: float = 0.0


@dataclass
class Sample:
    """What the process held at a time; memory without what the histories take."""

    at: float
    tasks: int
    threads: int
    descriptors: int
    rss_bytes: int


@dataclass
class Result:
    """What came of it."""

    plan: Plan
    began_at: float
    ended_at: float = 0.0
    recoveries: list[Recovery] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    diary: Diary = field(default_factory=Diary)
    processed_again: int = 0
    nested: list[tuple[float, float]] = field(default_factory=list)
    confirmed_at: list[float] = field(default_factory=list)
    received_at: list[float] = field(default_factory=list)


class Campaign:
    """See the module."""

    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self.plan = plan
        self.cluster = cluster
        self.rng = random.Random(plan.seed)
        self.prefix = f"chaos-{plan.seed}-{os.getpid()}"
        self.workload = Workload()
        self.result = Result(plan, time.monotonic())

    async def run(self) -> Result:
        """All of it; raises only where the lab itself fails."""
        streams = [self._stream(kind) for kind in (*WRITERS, COPY, *PARTITIONS)]
        await self._make_streams()
        before = sample(self.workload)
        ports = [node.port for node in self.cluster]
        try:
            with Proxies(ports) as proxies, Probe(self.cluster.nodes, streams) as probe:
                workers = [self._pipe(proxies), *(self._member(proxies, number) for number in range(MEMBERS))]
                block = _block(asyncio.get_running_loop())
                arena = Arena(self.cluster, proxies, streams, CONNECTIONS, block, self.rng, workers, prefix=self.prefix)
                try:
                    async with self._client(proxies) as client:
                        diary = asyncio.create_task(self.result.diary.keep(client))
                        await self._start(client)
                        await self._break(arena, probe)
                        await self._quiesce(client, workers)
                    await diary
                finally:
                    await asyncio.to_thread(arena.heal)
                    for worker in workers:
                        await asyncio.to_thread(worker.stop)
            gc.collect()
            self._check_leaks(before)
        finally:
            await asyncio.to_thread(self.cluster.nodes[0].management.delete_prefix, self.prefix)
        self.result.attempts = self.result.diary.attempts_per_second()
        for broker, most in self.result.attempts.items():
            text = f"connections to {broker} in one second"
            self.result.violations += checker.check_bound("I15 no hot loop", text, most, ATTEMPTS_PER_SECOND)
        self.result.ended_at = time.monotonic()
        return self.result

    def _stream(self, kind: str) -> str:
        return f"{self.prefix}-{kind}"

    async def _make_streams(self) -> None:
        for kind in (*WRITERS, COPY):
            await asyncio.to_thread(self.cluster.create_stream, self._stream(kind))
        async with actorstream.connect(self.cluster.nodes[0].uri) as client:
            everywhere = StreamArguments(initial_cluster_size=len(self.cluster.nodes))
            await client.create_super_stream(self._stream(SUPER), partitions=len(PARTITIONS), arguments=everywhere)
        for partition in PARTITIONS:
            await asyncio.to_thread(self.cluster.wait_stream, self._stream(partition))

    def _member(self, proxies: Proxies, number: int) -> Worker:
        file = STATE / f"chaos-member-{number}.txt"
        file.unlink(missing_ok=True)
        orders = Orders(
            "member", f"member-{number}", proxies.ports(), self._stream(SUPER), "", str(file), heartbeat_s=HEARTBEAT_S
        )
        return Worker(orders, STATE / f"chaos-member-{number}.log")

    def _pipe(self, proxies: Proxies) -> Worker:
        source, target = self._stream(SOURCE), self._stream(COPY)
        orders = Orders("pipe", f"{self.prefix}-pipe", proxies.ports(), source, target, heartbeat_s=HEARTBEAT_S)
        return Worker(orders, STATE / "chaos-pipe.log")

    @contextlib.asynccontextmanager
    async def _client(self, proxies: Proxies) -> AsyncIterator[Client]:
        uris = [node.uri for node in self.cluster]
        options = ConnectionOptions(heartbeat_s=HEARTBEAT_S)
        client = await actorstream.connect(uris, name=NAME, options=options, opener=through(proxies.ports()))
        try:
            yield client
        finally:
            begin = time.monotonic()
            await client.close()
            took = time.monotonic() - begin
            self.result.violations += checker.check_bound("I14 close", "seconds to close", took, CLOSE_WITHIN_S)

    async def _start(self, client: Client) -> None:
        for number, (kind, options) in enumerate(WRITERS.items()):
            stream = self._stream(kind)
            name = f"{stream}-writer" if kind != "plain" else ""
            producer = await client.producer(stream, name=name, **options)
            history = ProducerHistory(number, stream, named=bool(name))
            self.workload.writers.append(Writer(producer, history, self.plan.rate))
        routing = HashRouting(lambda message: str(identity_of(message)[1]))
        for number, (kind, every_s) in enumerate(SPREAD.items(), len(WRITERS)):
            spread = await client.super_stream_producer(
                self._stream(SUPER), routing=routing, name=f"{self.prefix}-{kind}-writer", confirm_timeout_s=120.0
            )
            history = ProducerHistory(number, self._stream(SUPER), named=True)
            self.workload.writers.append(Writer(spread, history, self.plan.rate, every_s))
        for kind in (*WRITERS, COPY, *PARTITIONS):
            self.workload.readers.append(Reader(await client.consumer(self._stream(kind), "first")))
        await self._progress(time.monotonic(), "the start")

    # Breaking ---------------------------------------------------------------------------------------------------------

    async def _break(self, arena: Arena, probe: Probe) -> None:
        for faults in self._schedule():
            await self._together(faults, arena, probe)
            self.result.samples.append(sample(self.workload))
            if failures := self.workload.failures():
                self.result.violations += [Violation("I9 liveness", text) for text in failures]
                return

    def _schedule(self) -> Iterator[list[Fault]]:
        """Faults that come alone, or, nested, another one before the first is recovered from."""
        rng, plan = self.rng, self.plan
        if plan.duration_s is None:
            faults = list(plan.faults)
            rng.shuffle(faults)
            yield from ([fault] for fault in faults)
            return
        end = self.result.began_at + plan.duration_s
        while time.monotonic() < end:
            faults = rng.sample(list(plan.faults), 2 if rng.random() < plan.nested else 1)
            # What has a workload of its own needs a cluster to which nothing else happens.
            yield faults[:1] if any(fault.apart for fault in faults) else faults

    async def _together(self, faults: Sequence[Fault], arena: Arena, probe: Probe) -> None:
        """One fault, or two, from the beginning to the end of the recovery; only of one alone it is measured."""
        say(f"fault: {', and then '.join(fault.name for fault in faults)}")
        began = time.monotonic()
        done = began
        for fault in faults:
            try:
                proof = await asyncio.to_thread(fault.inject, arena)
            except LabError as error:
                if len(faults) == 1:  # with another one before it, there may be nothing left to break
                    self.result.violations.append(Violation("I16 the fault happened", f"{fault.name}: {error}"))
                    await asyncio.to_thread(arena.heal)
                    return
                proof = f"did not happen: {error}"
            done = time.monotonic()
            say(f"  {proof}")
            await asyncio.sleep(self.rng.uniform(*fault.hold_s))
        injected = min([done, *(probe.last_look(victim, done) for victim in arena.victims)])
        await asyncio.to_thread(arena.heal)
        healed = time.monotonic()
        await self._progress(healed, faults[-1].name)
        say(f"  healed after {healed - began:.1f} s, went on after {time.monotonic() - healed:.2f} s more")
        self.result.violations += arena.found
        if len(faults) > 1:
            self.result.nested.append((began - 1.0, healed + 2 * HEARTBEAT_S))
        elif faults[0].apart:
            own = tuple(arena.confirm_s), tuple(arena.delivery_s)
            self.result.recoveries.append(Recovery(faults[0].name, injected, healed, healed, proof, *own))
        else:
            self.result.recoveries.append(self._recovery(faults[0], injected, healed, proof, probe))
        arena.forget()

    def _recovery(self, fault: Fault, injected: float, healed: float, proof: str, probe: Probe) -> Recovery:
        def moments(stream: str) -> list[float]:
            if fault.served == "probed":
                return probe.served_at(stream, injected)
            return [healed if fault.served == "healed" else injected]

        confirms: list[float] = []
        deliveries: list[float] = []
        served: list[float] = []
        for writer in self.workload.writers:
            at = moments(writer.history.target)
            served += at
            if writer.is_steady:
                confirms += longest_wait(writer.confirmed_at, at)
        for reader in self.workload.readers:
            deliveries += longest_wait(reader.history.received_at, moments(reader.history.stream))
        if not served:
            text = f"{fault.name}: nobody saw that the broker can serve again"
            self.result.violations.append(Violation("I9 liveness", text))
        first = min(served, default=healed)
        return Recovery(fault.name, injected, healed, first, proof, tuple(confirms), tuple(deliveries))

    async def _progress(self, since: float, what: str) -> None:
        """Wait until everybody has got on since a moment; that it takes too long is a violation."""
        deadline = time.monotonic() + PROGRESS_WITHIN_S
        while not self.workload.progressed_since(since):
            if self.workload.failures():
                return
            if time.monotonic() > deadline:
                text = f"no progress within {PROGRESS_WITHIN_S:g} s after {what}"
                self.result.violations.append(Violation("I9 liveness", text))
                return
            await asyncio.sleep(0.02)

    # The verdict ------------------------------------------------------------------------------------------------------

    async def _quiesce(self, client: Client, workers: Sequence[Worker]) -> None:
        result, workload = self.result, self.workload
        await workload.stop_writing()
        await self._check_topology()
        stored: dict[str, ReadBack] = {}
        for kind in (*WRITERS, *PARTITIONS):
            stored[self._stream(kind)] = await read_back(client, self._stream(kind))
        for writer in workload.writers:
            stream = writer.history.target
            kinds = PARTITIONS if stream == self._stream(SUPER) else [stream.removeprefix(f"{self.prefix}-")]
            found, counts = checker.check_producer(writer.history, [stored[self._stream(kind)] for kind in kinds])
            result.violations += found
            result.violations += checker.check_bound("I2 one outcome", "settled twice", writer.settled_twice, 0)
            result.counts[[*WRITERS, *SPREAD][writer.history.number]] = counts
            result.confirmed_at += writer.confirmed_at
        stored[self._stream(COPY)] = await self._copied(client, stored[self._stream(SOURCE)])
        for reader in workload.readers:
            there = stored[reader.history.stream]
            await self._read_to_the_end(reader, there.offsets[-1] if there.offsets else -1)
            result.violations += checker.check_consumer(reader.history, there)
            result.received_at += reader.history.received_at
            await reader.stop()
        for writer in workload.writers:
            await writer.producer.close()
        await self._check_group(workers[1:], stored)
        for worker in workers:
            if code := await asyncio.to_thread(worker.stop):
                text = f"{worker.orders.name} ended with {code}"
                result.violations.append(Violation("I9 liveness", text))

    async def _copied(self, client: Client, source: ReadBack) -> ReadBack:
        """What the pipe made of its source, once it is there or had its time."""
        copy = ReadBack(self._stream(COPY))

        async def complete() -> bool:
            nonlocal copy
            copy = await read_back(client, copy.stream)
            return len(copy.offsets) >= len(source.offsets)

        with contextlib.suppress(AssertionError):  # what is missing is for the checker to tell
            await until(complete, "all is copied", PROGRESS_WITHIN_S)
        self.result.violations += checker.check_transfer(source, copy)
        return copy

    async def _read_to_the_end(self, reader: Reader, last: int) -> None:
        offsets = reader.history.offsets
        with contextlib.suppress(AssertionError):  # what is missing is for the checker to tell
            await until(lambda: last < 0 or (offsets and offsets[-1] >= last), "all is read", PROGRESS_WITHIN_S)

    async def _check_group(self, members: Sequence[Worker], stored: Mapping[str, ReadBack]) -> None:
        """What the group processed, and that one of them at a time was at it in each partition."""
        partitions = [stored[self._stream(partition)] for partition in PARTITIONS]
        ends = {part.stream: part.offsets[-1] for part in partitions if part.offsets}
        shares = [Share(worker) for worker in members]

        def complete() -> bool:
            return all(any(share.last(stream) >= end for share in shares) for stream, end in ends.items())

        with contextlib.suppress(AssertionError):  # what is missing is for the checker to tell
            await until(complete, "the group is at the end", PROGRESS_WITHIN_S)
        spans: list[Span] = []
        for share in shares:
            spans += share.spans()
        for part in partitions:
            found, again = checker.check_group([share.history(part.stream) for share in shares], part)
            self.result.violations += found
            self.result.processed_again += again
        zombies = [
            (one.injected_at - 1.0, one.healed_at + 2 * HEARTBEAT_S)
            for one in self.result.recoveries
            if "process" not in one.fault
        ]
        self.result.violations += checker.check_exclusive(
            spans, {share.worker.orders.name: [*zombies, *self.result.nested] for share in shares}
        )
        self._measure_hand_overs(shares)

    def _measure_hand_overs(self, shares: Sequence[Share]) -> None:
        """After a member was killed: how long until each partition was processed again by somebody."""
        times = {
            self._stream(partition): sorted(
                at for share in shares for at in share.history(self._stream(partition)).received_at
            )
            for partition in PARTITIONS
        }
        for index, one in enumerate(self.result.recoveries):
            if one.fault == MEMBER_KILLED:
                waits = [wait for at in times.values() for wait in longest_wait(at, [one.injected_at])]
                self.result.recoveries[index] = dataclasses.replace(one, delivery_s=tuple(waits))

    async def _check_topology(self) -> None:
        """Exactly one publisher and one subscription of ours on the brokers for each of ours here (I12)."""
        management = self.cluster.nodes[0].management
        for kind in (*WRITERS, COPY, *PARTITIONS):
            readers = 1 + MEMBERS if kind in PARTITIONS else 2 if kind == SOURCE else 1
            stream, wanted = self._stream(kind), (len(SPREAD) if kind in PARTITIONS else 1, readers)
            there = (0, 0)

            async def as_wanted(stream: str = stream, wanted: tuple[int, int] = wanted) -> bool:
                nonlocal there
                publishers = await asyncio.to_thread(management.publishers, stream)
                consumers = await asyncio.to_thread(management.consumers, stream)
                there = len(publishers), len(consumers)
                return there == wanted

            try:
                await until(as_wanted, "as many as there should be", SHOWN_WITHIN_S)
            except AssertionError:
                text = f"{stream}: {there} publishers and consumers on the brokers, not {wanted}"
                self.result.violations.append(Violation("I12 topology", text))

    def _check_leaks(self, before: Sample) -> None:
        after = sample(self.workload)
        for what in ("tasks", "threads", "descriptors"):
            limit = getattr(before, what) + 1  # the task that looks
            self.result.violations += checker.check_bound("I11 resources", what, getattr(after, what), limit)


def _block(loop: asyncio.AbstractEventLoop) -> Callable[[float], None]:
    def block(seconds: float) -> None:
        done = threading.Event()

        def stand() -> None:
            time.sleep(seconds)
            done.set()

        loop.call_soon_threadsafe(stand)
        done.wait(seconds + 30.0)

    return block


def sample(workload: Workload) -> Sample:
    """What the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    taken = sum(writer.history.size_bytes() + writer.confirmed_at.buffer_info()[1] * 8 for writer in workload.writers)
    taken += sum(reader.history.size_bytes() for reader in workload.readers)
    return Sample(
        time.monotonic(),
        len(asyncio.all_tasks()),
        sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate()),  # those stay with the loop
        len(list(Path("/proc/self/fd").iterdir())),
        pages * os.sysconf("SC_PAGE_SIZE") - taken,
    )
