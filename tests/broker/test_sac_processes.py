"""Members of a group in processes of their own share a super stream: they come, they go, and they are killed.

What is judged is the history that they wrote: everything is processed, no partition by two at a time, and nothing twice
except what a killed one had done and not stored.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from actorstream import Client
from lab.broker import Broker
from tests.broker.reading import connected, until
from tests.broker.sac_member import EVERY
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 40.0
ALL_IN_WORK = 1
"""Messages that a member has in hand at a time."""


@dataclass
class Member:
    """One process, and what it has written so far."""

    name: str
    log: Path
    process: subprocess.Popen[str]
    killed_at: float | None = None

    def history(self) -> list[list[object]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.endswith("]")]

    @property
    def active(self) -> list[str]:
        """The partitions that it has now."""
        last = [line[2] for line in self.history() if line[0] == "active"][-1:]
        return list(last[0]) if last and isinstance(last[0], list) and self.process.poll() is None else []

    def close(self) -> None:
        """Have it leave in good order."""
        assert self.process.stdin is not None
        self.process.stdin.write("close\n")
        self.process.stdin.flush()
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        self.killed_at = time.monotonic()
        self.process.kill()
        self.process.wait(10)


@dataclass
class Spans:
    """When a message was in a member's hand: until it was done, or until the member was killed."""

    partition: str
    offset: int
    member: str
    begin: float
    end: float
    done: bool


@dataclass
class Group:
    """All members there have ever been."""

    uri: str
    super_stream: str
    folder: Path
    members: list[Member] = field(default_factory=list)

    def start(self, name: str) -> Member:
        log = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "tests.broker.sac_member", self.uri, self.super_stream, str(log)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True)
        self.members.append(Member(name, log, process))
        return self.members[-1]

    def shares(self) -> Counter[str]:
        """How many members have each partition."""
        return Counter(partition for member in self.members for partition in member.active)

    def spans(self, now: float | None = None) -> list[Spans]:
        """What was in hand; of members that live on, what is in hand `now` lasts until then."""
        spans: list[Spans] = []
        for member in self.members:
            in_hand: dict[tuple[str, int], float] = {}
            for what, at, *more in member.history():
                assert isinstance(at, float)
                if what in ("begin", "end"):
                    partition, offset = str(more[0]), int(str(more[1]))
                    if what == "begin":
                        in_hand[partition, offset] = at
                    else:
                        begin = in_hand.pop((partition, offset))
                        spans.append(Spans(partition, offset, member.name, begin, at, done=True))
            for (partition, offset), begin in in_hand.items():
                end = member.killed_at or now
                assert end is not None, f"{member.name} left offset {offset} of {partition} undone"
                spans.append(Spans(partition, offset, member.name, begin, end, done=False))
        return sorted(spans, key=lambda span: span.begin)


@contextmanager
def group_of(uri: str, super_stream: str, folder: Path) -> Iterator[Group]:
    group = Group(uri, super_stream, folder)
    try:
        yield group
    finally:
        for member in group.members:
            member.process.kill()
            member.process.wait(10)
            assert member.process.stdin is not None
            member.process.stdin.close()


@asynccontextmanager
async def writing(client: Client, partitions: list[str]) -> AsyncIterator[dict[str, int]]:
    """Publishes to all partitions all the time; how many messages of each are confirmed."""
    confirmed: dict[str, int] = dict.fromkeys(partitions, 0)
    stop = asyncio.Event()

    async def write(partition: str) -> None:
        async with await client.producer(partition) as producer:
            while not stop.is_set():
                await (await producer.send_batch([b"x"] * 5))
                confirmed[partition] += 5
                await asyncio.sleep(0.08)

    tasks = [asyncio.create_task(write(partition)) for partition in partitions]
    try:
        yield confirmed
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def check_one_at_a_time(spans: list[Spans]) -> None:
    """I8: a partition is in one member's hands at any moment."""
    latest: dict[str, Spans] = {}
    for span in spans:
        before = latest.get(span.partition)
        assert before is None or before.end <= span.begin, f"{before} and {span} at the same time"
        if before is None or span.end > before.end:
            latest[span.partition] = span


def repeated(spans: list[Spans]) -> Counter[str]:
    """By partition, how often a message was done that was done before."""
    done = Counter((span.partition, span.offset) for span in spans if span.done)
    repeats: Counter[str] = Counter()
    for (partition, _), times in done.items():
        repeats[partition] += times - 1
    return +repeats


@pytest.mark.parametrize("partitions", [3, 4])
async def test_i6_i8_f66_f67_members_come_and_go_and_are_killed(
    broker: Broker, stream: Streams, tmp_path: Path, partitions: int
) -> None:
    name = stream()
    async with connected(broker) as client:
        await client.create_super_stream(name, partitions=partitions)
        streams = list(await client.partitions(name))

        def share(*sharing: Member) -> bool:
            """Every partition has one reader, and every member something to read."""
            return group.shares() == dict.fromkeys(streams, 1) and all(member.active for member in sharing)

        with group_of(broker.uri, name, tmp_path) as group:
            async with writing(client, streams) as confirmed:
                first = group.start("first")
                await until(lambda: share(first), "the first one reads all", PATIENCE_S)
                second = group.start("second")
                await until(lambda: share(first, second), "two share", PATIENCE_S)
                third = group.start("third")
                await until(lambda: share(first, second, third), "three share", PATIENCE_S)
                await asyncio.sleep(1.0)  # of ordinary life
                await asyncio.to_thread(second.close)
                await until(lambda: share(first, third), "two share what the third had", PATIENCE_S)
                await asyncio.sleep(0.5)

                assert not repeated(group.spans(time.monotonic())), "a hand-over in good order repeated messages"
                killed_at = time.monotonic()
                third.kill()
                await until(lambda: share(first), "the last one reads all", PATIENCE_S)
                fourth = group.start("fourth")
                await until(lambda: share(first, fourth), "two share again", PATIENCE_S)
                await asyncio.sleep(0.5)

            def all_is_done() -> bool:
                done = {(span.partition, span.offset) for span in group.spans(time.monotonic()) if span.done}
                reached = Counter(partition for partition, _ in done)
                return all(reached[partition] >= count for partition, count in confirmed.items())

            await until(all_is_done, "all is processed", PATIENCE_S)
            for member in (first, fourth):
                await asyncio.to_thread(member.close)
            spans = group.spans()

        await client.delete_super_stream(name)
    check_one_at_a_time(spans)
    done = {(span.partition, span.offset) for span in spans if span.done}
    by_partition = {partition: sorted(offset for one, offset in done if one == partition) for partition in streams}
    # Offsets have holes where the broker keeps what is stored; what was published is counted.
    assert {partition: len(offsets) for partition, offsets in by_partition.items()} == confirmed
    repeats = repeated(spans)
    assert set(repeats) <= {span.partition for span in spans if span.member == "third"}, repeats
    assert all(count <= EVERY + ALL_IN_WORK for count in repeats.values()), repeats
    assert all(span.begin > killed_at for span in _second_times(spans))


def _second_times(spans: list[Spans]) -> Iterator[Spans]:
    seen: set[tuple[str, int]] = set()
    for span in spans:
        if span.done and (span.partition, span.offset) in seen:
            yield span
        seen.add((span.partition, span.offset))
