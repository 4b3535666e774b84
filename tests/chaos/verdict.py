"""The end of a campaign: everybody comes to rest, everything is read back, and each invariant is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

from actorstream import Client
from lab.cluster import Cluster
from tests.broker.reading import until
from tests.chaos import checker
from tests.chaos.cast import (
    CONNECTIONS,
    COPY,
    HEARTBEAT_S,
    MEMBERS,
    PARTITIONS,
    PRODUCERS,
    SOURCE,
    SPREAD,
    STREAMS,
    Names,
)
from tests.chaos.checker import Violation
from tests.chaos.history import ReadBack, Span
from tests.chaos.nemesis import FAULTS, LOOP_BLOCKED, MEMBER_KILLED, PIPE_KILLED
from tests.chaos.recovery import longest_wait
from tests.chaos.result import Result
from tests.chaos.share import Share
from tests.chaos.worker import Worker
from tests.chaos.workload import Reader, Workload, Writer, read_back

ALL_WITHIN_S = 90.0
"""How long it may take until all is read, copied and processed."""
SHOWN_WITHIN_S = 20.0
"""How late the management API may show what there is."""
WITHOUT_ZOMBIES = {fault.name for fault in FAULTS if fault.apart} | {MEMBER_KILLED, PIPE_KILLED, LOOP_BLOCKED}
"""Faults at which no member of the group loses its connection and lives on: who is killed handles nothing any more."""


class Verdict:
    """What is said of one campaign; `workers` are the pipe and then the members of the group."""

    def __init__(
        self, result: Result, names: Names, workload: Workload, cluster: Cluster, workers: Sequence[Worker]
    ) -> None:
        self.result = result
        self.names = names
        self.workload = workload
        self.cluster = cluster
        self.pipe, self.members = workers[0], workers[1:]

    async def reach(self, client: Client) -> None:
        """Let everybody come to rest, and look at everything; all is closed afterwards, but for the client."""
        await self.workload.stop_writing()
        await self._check_topology()
        stored = {stream: await read_back(client, stream) for stream in self.names.streams if stream != self._copy}
        for writer in self.workload.writers:
            self._check_writer(writer, stored)
        stored[self._copy] = await self._copied(client, stored[self.names.stream(SOURCE)])
        for reader in self.workload.readers:
            await self._check_reader(reader, stored[reader.stream])
            await reader.stop()
        for writer in self.workload.writers:
            await writer.producer.close()
            self.result.found(checker.check_settled(writer.history))
        self._take_times(stored)
        await self._check_group(stored)
        for worker in (self.pipe, *self.members):
            if code := await asyncio.to_thread(worker.stop):
                self.result.found([Violation("I9 liveness", f"{worker.orders.name} ended with {code}")])

    async def check_gone(self) -> None:
        """After the client was closed: the brokers know nothing of it any more (I11)."""
        management, there = self.cluster.nodes[0].management, -1

        async def gone() -> bool:
            nonlocal there
            rows = [await asyncio.to_thread(management.connections, name) for name in CONNECTIONS]
            there = sum(map(len, rows))
            return not there

        with contextlib.suppress(AssertionError):
            await until(gone, "the brokers have forgotten the client", SHOWN_WITHIN_S)
        self.result.found(checker.check_bound("I11 resources", "connections after the client was closed", there, 0))

    @property
    def _copy(self) -> str:
        return self.names.stream(COPY)

    def _check_writer(self, writer: Writer, stored: Mapping[str, ReadBack]) -> None:
        number = writer.history.number
        where = [stored[stream] for stream in self.names.written_by(number)]
        found, counts = checker.check_producer(writer.history, where)
        self.result.found(found)
        self.result.found(checker.check_bound("I2 one outcome", "settled twice", writer.settled_twice, 0))
        self.result.counts[PRODUCERS[number]] = counts

    async def _copied(self, client: Client, source: ReadBack) -> ReadBack:
        """What the pipe made of its source, once it is there or had its time."""
        copy = ReadBack(self._copy)

        async def complete() -> bool:
            nonlocal copy
            copy = await read_back(client, copy.stream)
            return len(copy.offsets) >= len(source.offsets)

        with contextlib.suppress(AssertionError):  # what is missing is for the checker to tell
            await until(complete, "all is copied", ALL_WITHIN_S)
        self.result.found(checker.check_transfer(source, copy))
        return copy

    async def _check_reader(self, reader: Reader, stored: ReadBack) -> None:
        last, given = stored.offsets[-1] if stored.offsets else -1, reader.history.offsets
        with contextlib.suppress(AssertionError):  # what is missing is for the checker to tell
            await until(lambda: last < 0 or (given and given[-1] >= last), "all is read", ALL_WITHIN_S)
        self.result.found(checker.check_consumer(reader.history, stored))

    def _take_times(self, stored: Mapping[str, ReadBack]) -> None:
        """When what is stored was sent, confirmed, and given to its consumer for the first time."""
        result = self.result
        sent = {writer.history.number: writer.history.sent_at for writer in self.workload.writers}
        for writer in self.workload.writers:
            result.confirmed_at += writer.confirmed_at
        for reader in self.workload.readers:
            if reader.stream != self._copy:
                history, seen = reader.history, set[tuple[int, int]]()
                for producer, number, at in zip(history.producers, history.numbers, history.received_at, strict=True):
                    if (producer, number) not in seen:
                        seen.add((producer, number))
                        result.sent_at.append(sent[producer][number])
                        result.received_at.append(at)
        result.checked["messages stored"] = sum(len(one.offsets) for one in stored.values())

    # The group --------------------------------------------------------------------------------------------------------

    async def _check_group(self, stored: Mapping[str, ReadBack]) -> None:
        """What the group processed, and that one of them at a time was at it in each partition."""
        partitions = [stored[stream] for stream in self.names.partitions]
        ends = {part.stream: part.offsets[-1] for part in partitions if part.offsets}
        shares = [Share(worker) for worker in self.members]

        def complete() -> bool:
            return all(any(share.last(stream) >= end for share in shares) for stream, end in ends.items())

        with contextlib.suppress(AssertionError):  # what is missing is for the checker to tell
            await until(complete, "the group is at the end", ALL_WITHIN_S)
        for part in partitions:
            found, again = checker.check_group([share.history(part.stream) for share in shares], part)
            self.result.found(found)
            self.result.processed_again += again
        self._check_exclusive(shares)
        self._measure_hand_overs(shares)

    def _check_exclusive(self, shares: Sequence[Share]) -> None:
        """No two at once, but for the declared windows (F68); what is in those is counted."""
        result = self.result
        spans: list[Span] = []
        for share in shares:
            spans += share.spans()
        windows = [
            (one.began_at - 1.0, one.healed_at + 2 * HEARTBEAT_S)
            for one in result.episodes
            if set(one.faults) - WITHOUT_ZOMBIES
        ]
        declared = {share.worker.orders.name: windows for share in shares}
        found = checker.check_exclusive(spans, declared)
        result.found(found)
        result.overlaps_in_declared_windows = len(checker.check_exclusive(spans, {})) - len(found)
        result.checked["batches in hand"] = len(spans)

    def _measure_hand_overs(self, shares: Sequence[Share]) -> None:
        """After a member was killed: how long until each partition was processed again by somebody."""
        times = [sorted(at for share in shares for at in share.history(s).received_at) for s in self.names.partitions]
        for index, one in enumerate(self.result.recoveries):
            if one.fault == MEMBER_KILLED:
                waits = [wait for at in times for wait in longest_wait(at, [one.injected_at])]
                self.result.recoveries[index] = dataclasses.replace(one, delivery_s=tuple(waits))

    # The brokers ------------------------------------------------------------------------------------------------------

    async def _check_topology(self) -> None:
        """Exactly one publisher and one subscription of ours on the brokers for each of ours here (I12)."""
        management = self.cluster.nodes[0].management
        for kind in STREAMS:
            readers = 1 + MEMBERS if kind in PARTITIONS else 2 if kind == SOURCE else 1
            stream, wanted = self.names.stream(kind), (len(SPREAD) if kind in PARTITIONS else 1, readers)
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
                self.result.found([Violation("I12 topology", text)])
        self.result.checked["streams whose publishers and subscriptions were counted"] = len(STREAMS)
