"""One run: the workload, one fault after the other, and in the end the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import actorstream
from actorstream import Client, ConnectionOptions, HashRouting, StreamArguments
from lab.cluster import Cluster
from lab.shell import STATE, LabError, say
from tests.chaos import checker, holdings
from tests.chaos.cast import (
    CLIENT,
    CONNECTIONS,
    COPY,
    HEARTBEAT_S,
    MEMBERS,
    PARTITIONS,
    SOURCE,
    SPREAD,
    STREAMS,
    SUPER,
    WRITERS,
    Names,
)
from tests.chaos.checker import Violation
from tests.chaos.history import ProducerHistory, identity_of
from tests.chaos.lines import through
from tests.chaos.logbook import Logbook
from tests.chaos.nemesis import Arena, Fault
from tests.chaos.probe import Probe
from tests.chaos.proxy import Proxies
from tests.chaos.recovery import Recovery, longest_wait
from tests.chaos.result import Episode, Plan, Result
from tests.chaos.verdict import Verdict
from tests.chaos.worker import Orders, Worker
from tests.chaos.workload import Reader, Workload, Writer

PROGRESS_WITHIN_S = 90.0
"""After everything is healed. What takes longer is a violation by itself."""
CLOSE_WITHIN_S = 15.0
ATTEMPTS_PER_SECOND = 20
"""Connections that the client may try at one broker within a second: its three roles, a few times."""


class Campaign:
    """See the module. What the client's actors tell is written to `folder`."""

    def __init__(self, plan: Plan, cluster: Cluster, folder: Path) -> None:
        self.plan = plan
        self.cluster = cluster
        self.rng = random.Random(plan.seed)
        self.names = Names(f"chaos-{plan.seed}-{os.getpid()}")
        self.workload = Workload()
        self.result = Result(plan, time.monotonic(), Logbook(folder / "events.log"))

    async def run(self) -> Result:
        """All of it; raises only where the lab itself fails."""
        await self._make_streams()
        before = holdings.sample(self.workload)
        ports = [node.port for node in self.cluster]
        try:
            with Proxies(ports) as proxies, Probe(self.cluster.nodes, self.names.streams) as probe:
                workers = [self._pipe(proxies), *(self._member(proxies, number) for number in range(MEMBERS))]
                verdict = Verdict(self.result, self.names, self.workload, self.cluster, workers)
                arena = self._arena(proxies, workers)
                try:
                    async with self._client(proxies) as client:
                        await self._start(client)
                        async with holdings.watching(self.workload, self.result.samples):
                            await self._break(arena, probe)
                        await verdict.reach(client)
                finally:
                    await asyncio.to_thread(arena.heal)
                    for worker in workers:
                        await asyncio.to_thread(worker.stop)
            await verdict.check_gone()
            gc.collect()
            self.result.found(holdings.check_left(before, holdings.sample(self.workload)))
            self.result.found(holdings.check_flat(self.result.samples))
        finally:
            await asyncio.to_thread(self.cluster.nodes[0].management.delete_prefix, self.names.prefix)
        for broker, most in self.result.logbook.attempts_per_second().items():
            text = f"connections to {broker} in one second"
            self.result.found(checker.check_bound("I15 no hot loop", text, most, ATTEMPTS_PER_SECOND))
        self.result.ended_at = time.monotonic()
        return self.result

    # The workload -----------------------------------------------------------------------------------------------------

    async def _make_streams(self) -> None:
        for kind in (*WRITERS, COPY):
            await asyncio.to_thread(self.cluster.create_stream, self.names.stream(kind))
        async with actorstream.connect(self.cluster.nodes[0].uri) as client:
            everywhere = StreamArguments(initial_cluster_size=len(self.cluster.nodes))
            spread = self.names.stream(SUPER)
            await client.create_super_stream(spread, partitions=len(PARTITIONS), arguments=everywhere)
        for partition in self.names.partitions:
            await asyncio.to_thread(self.cluster.wait_stream, partition)

    def _arena(self, proxies: Proxies, workers: Sequence[Worker]) -> Arena:
        block = _block(asyncio.get_running_loop())
        return Arena(
            self.cluster, proxies, self.names.streams, CONNECTIONS, block, self.rng, workers, prefix=self.names.prefix
        )

    def _member(self, proxies: Proxies, number: int) -> Worker:
        file = STATE / f"chaos-member-{number}.txt"
        file.unlink(missing_ok=True)
        source = self.names.stream(SUPER)
        orders = Orders("member", f"member-{number}", proxies.ports(), source, "", str(file), HEARTBEAT_S)
        return Worker(orders, STATE / f"chaos-member-{number}.log")

    def _pipe(self, proxies: Proxies) -> Worker:
        source, target, name = self.names.stream(SOURCE), self.names.stream(COPY), f"{self.names.prefix}-pipe"
        orders = Orders("pipe", name, proxies.ports(), source, target, heartbeat_s=HEARTBEAT_S)
        return Worker(orders, STATE / "chaos-pipe.log")

    @contextlib.asynccontextmanager
    async def _client(self, proxies: Proxies) -> AsyncIterator[Client]:
        uris = [node.uri for node in self.cluster]
        options = ConnectionOptions(heartbeat_s=HEARTBEAT_S)
        client = await actorstream.connect(uris, name=CLIENT, options=options, opener=through(proxies.ports()))
        keeping = asyncio.create_task(self.result.logbook.keep(client))
        try:
            yield client
        finally:
            begin = time.monotonic()
            await client.close()
            took = time.monotonic() - begin
            self.result.found(checker.check_bound("I14 close", "seconds to close", took, CLOSE_WITHIN_S))
            await keeping

    async def _start(self, client: Client) -> None:
        for number, (kind, options) in enumerate(WRITERS.items()):
            stream = self.names.stream(kind)
            name = f"{stream}-writer" if kind != "plain" else ""
            producer = await client.producer(stream, name=name, **options)
            history = ProducerHistory(number, stream, named=bool(name))
            self.workload.writers.append(Writer(producer, history, self.plan.rate))
        routing = HashRouting(lambda message: str(identity_of(message)[1]))
        spread = self.names.stream(SUPER)
        for number, (kind, every_s) in enumerate(SPREAD.items(), len(WRITERS)):
            name = f"{self.names.prefix}-{kind}-writer"
            many = await client.super_stream_producer(spread, routing=routing, name=name, confirm_timeout_s=120.0)
            history = ProducerHistory(number, spread, named=True)
            self.workload.writers.append(Writer(many, history, self.plan.rate, every_s))
        for kind in STREAMS:
            self.workload.readers.append(Reader(await client.consumer(self.names.stream(kind), "first")))
        await self._progress(time.monotonic(), "the start")

    # Breaking ---------------------------------------------------------------------------------------------------------

    async def _break(self, arena: Arena, probe: Probe) -> None:
        for faults in self._schedule():
            await self._together(faults, arena, probe)
            probe.forget()
            if failures := self.workload.failures():
                self.result.found([Violation("I9 liveness", text) for text in failures])
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
        proofs: list[str] = []
        for fault in faults:
            try:
                proofs.append(await asyncio.to_thread(fault.inject, arena))
            except LabError as error:
                if len(faults) == 1:  # with another one before it, there may be nothing left to break
                    self.result.found([Violation("I16 the fault happened", f"{fault.name}: {error}")])
                    await asyncio.to_thread(arena.heal)
                    return
                proofs.append(f"did not happen: {error}")
            done = time.monotonic()
            say(f"  {proofs[-1]}")
            await asyncio.sleep(self._hold_s(fault))
        injected = min([done, *(probe.last_look(victim, done) for victim in arena.victims)])
        await asyncio.to_thread(arena.heal)
        healed = time.monotonic()
        await self._progress(healed, faults[-1].name)
        went_on = time.monotonic()
        say(f"  healed after {healed - began:.1f} s, went on after {went_on - healed:.2f} s more")
        names = tuple(fault.name for fault in faults)
        self.result.episodes.append(Episode(names, tuple(proofs), began, healed, went_on))
        self.result.found(arena.found)
        if len(faults) == 1:
            self.result.recoveries.append(self._recovery(faults[0], injected, healed, arena, probe))
        arena.forget()

    def _hold_s(self, fault: Fault) -> float:
        least, most = fault.hold_s
        chosen = self.rng.uniform(least, most)  # drawn in any case: the same seed goes on alike
        return least if self.plan.brisk else chosen

    def _recovery(self, fault: Fault, injected: float, healed: float, arena: Arena, probe: Probe) -> Recovery:
        if fault.apart:
            own = tuple(arena.confirm_s), tuple(arena.delivery_s)
            return Recovery(fault.name, injected, healed, healed, fault.limit_s, *own)

        def moments(stream: str) -> list[float]:
            if fault.served == "probed":
                return probe.served_at(stream, injected)
            return [healed if fault.served == "healed" else injected]

        confirms: list[float] = []
        deliveries: list[float] = []
        served: list[float] = []
        for writer in self.workload.writers:
            at = moments(writer.stream)
            served += at
            if writer.is_steady:
                confirms += longest_wait(writer.confirmed_at, at)
        for reader in self.workload.readers:
            deliveries += longest_wait(reader.history.received_at, moments(reader.stream))
        if not served:
            text = f"{fault.name}: nobody saw that the broker can serve again"
            self.result.found([Violation("I9 liveness", text)])
        first = min(served, default=healed)
        return Recovery(fault.name, injected, healed, first, fault.limit_s, tuple(confirms), tuple(deliveries))

    async def _progress(self, since: float, what: str) -> None:
        """Wait until everybody has got on since a moment; that it takes too long is a violation."""
        deadline = time.monotonic() + PROGRESS_WITHIN_S
        while not self.workload.progressed_since(since):
            if self.workload.failures():
                return
            if time.monotonic() > deadline:
                text = f"no progress within {PROGRESS_WITHIN_S:g} s after {what}"
                self.result.found([Violation("I9 liveness", text)])
                return
            await asyncio.sleep(0.02)


def _block(loop: asyncio.AbstractEventLoop) -> Callable[[float], None]:
    def block(seconds: float) -> None:
        done = threading.Event()

        def stand() -> None:
            time.sleep(seconds)
            done.set()

        loop.call_soon_threadsafe(stand)
        done.wait(seconds + 30.0)

    return block
