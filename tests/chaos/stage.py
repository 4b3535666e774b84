"""Where a fault acts on a workload of its own, since what it takes away would be missed by everybody else for good.

Such a fault runs on a loop of its own, beside the workload, which must not notice; it knows what its own producers and
consumers have to be told, and holds that against what they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import actorstream
from actorstream import Client, ConnectionOptions, errors, events
from lab.cluster import Cluster
from lab.management import Management
from lab.shell import LabError
from tests.broker.reading import until
from tests.chaos import checker
from tests.chaos.checker import Violation
from tests.chaos.history import ConsumerHistory, Outcome, ProducerHistory, ReadBack, body_of
from tests.chaos.lines import through
from tests.chaos.proxy import Condition, Proxies
from tests.chaos.workload import Diary, Reader, Workload, Writer, read_back

RATE = 50
HEARTBEAT_S = 5
CLOSE_WITHIN_S = 10.0
TOLD_WITHIN_S = 30.0
"""How soon somebody is told, or goes on. The times that it takes are measured and have their limits elsewhere."""
TOLD_WHY = "told why"

Play = Callable[["Stage"], Awaitable[str]]
"""What happens on a stage; returns the proof that it did."""


@dataclass
class Troupe:
    """One client with one named producer and one consumer of one stream, through lines of their own."""

    client: Client
    proxies: Proxies
    diary: Diary
    stream: str
    writer: Writer
    reader: Reader

    def cut_off(self) -> None:
        """Nothing gets through to the brokers, and nobody is told."""
        for proxy in self.proxies:
            proxy.set(Condition(stalled=True))

    def connect_again(self) -> int:
        """End the connections that were cut off, and let new ones through; how many there were."""
        count = sum(proxy.reset_all() for proxy in self.proxies)
        for proxy in self.proxies:
            proxy.set(Condition())
        return count

    def seen(self, kind: type[events.Event]) -> list[events.Event]:
        """The events of this kind so far."""
        return [event for _, event in self.diary.entries if isinstance(event, kind)]


@dataclass
class Stage:
    """What a play has: the cluster, names that nobody else uses, and a place for what it finds and measures.

    Attributes:
        found: what was not as it should be.
        confirm_s, delivery_s: how long until producers and consumers went on, from when they could.
    """

    cluster: Cluster
    prefix: str
    rng: random.Random
    found: list[Violation] = field(default_factory=list)
    confirm_s: list[float] = field(default_factory=list)
    delivery_s: list[float] = field(default_factory=list)

    @property
    def management(self) -> Management:
        """The management API of a node."""
        return self.cluster.nodes[0].management

    async def stream(self, name: str) -> str:
        """A new stream with a member on each node."""
        await asyncio.to_thread(self.cluster.create_stream, f"{self.prefix}-{name}")
        return f"{self.prefix}-{name}"

    @asynccontextmanager
    async def client(self, name: str, **options: Any) -> AsyncIterator[tuple[Client, Proxies, Diary]]:
        """A client through lines of its own; that closing it is bounded is looked at."""
        uris = [node.uri for node in self.cluster]
        with Proxies([node.port for node in self.cluster]) as proxies:
            client = await actorstream.connect(
                uris,
                name=f"{self.prefix}-{name}",
                options=ConnectionOptions(heartbeat_s=HEARTBEAT_S),
                opener=through(proxies.ports()),
                **options,
            )
            diary = Diary()
            keeping = asyncio.create_task(diary.keep(client))
            try:
                yield client, proxies, diary
            finally:
                begin = time.monotonic()
                await client.close()
                self.bound("I14 close", "seconds to close", time.monotonic() - begin, CLOSE_WITHIN_S)
                await keeping

    @asynccontextmanager
    async def troupe(self, name: str, *, filled: int = 0, **options: Any) -> AsyncIterator[Troupe]:
        """A client at work on a stream of its own; it is closed amid its work, and then nothing is without an outcome.

        `filled`: so many messages are sent before the others, at once.
        """
        stream = await self.stream(name)
        async with self.client(name, **options) as (client, proxies, diary):
            writer = await self.writer(client, stream, filled=filled)
            reader = Reader(await client.consumer(stream, "first"))
            troupe = Troupe(client, proxies, diary, stream, writer, reader)
            given = reader.history.offsets
            await until(lambda: len(given) >= filled, "what was sent before is read", TOLD_WITHIN_S)
            await self.goes_on(troupe.writer, troupe.reader, measured=False)
            yield troupe
        await asyncio.gather(writer.task, reader.task, return_exceptions=True)
        self.found += checker.check_settled(writer.history)

    async def writer(self, client: Client, stream: str, *, number: int = 0, filled: int = 0) -> Writer:
        """A named producer at work; with so many messages sent at once before it begins."""
        producer = await client.producer(stream, name=f"{stream}-writer", confirm_timeout_s=120.0)
        history = ProducerHistory(number, stream, named=True)
        if filled:
            sent = [history.sending() for _ in range(filled)]
            await (await producer.send_batch(body_of(number, one) for one in sent))
            for one in sent:
                history.settled(one, Outcome.CONFIRMED)
        return Writer(producer, history, RATE)

    async def goes_on(self, writer: Writer, reader: Reader, *, measured: bool = True) -> None:
        """Wait until both have got on from now; with `measured`, how long it took is noted."""
        since = time.monotonic()
        both = Workload([writer], [reader])
        await until(lambda: both.progressed_since(since) or both.failures(), "both go on", TOLD_WITHIN_S)
        if failures := both.failures():
            self.found += [Violation("I9 liveness", text) for text in failures]
        elif measured:
            self.confirm_s.append(next(at for at in writer.confirmed_at if at >= since) - since)
            self.delivery_s.append(next(at for at in reader.history.received_at if at >= since) - since)

    async def is_told(self, one: Writer | Reader, error: type[errors.ActorStreamError]) -> None:
        """Wait until somebody ends, and look for the reason that it is given."""
        what = f"{type(one).__name__.lower()} of {one.stream}"
        with contextlib.suppress(AssertionError):  # that nothing was told is what is found then
            await until(one.task.done, f"the {what} is told", TOLD_WITHIN_S)
        failure = one.failure
        reason = failure.__cause__ if isinstance(failure, errors.Closed) else failure
        if not isinstance(reason, error):
            self.found.append(Violation(TOLD_WHY, f"the {what} was told {failure!r}, not {error.__name__}"))

    async def read_back(self, stream: str) -> ReadBack:
        """All that a stream holds, read by somebody who has nothing to do with it all."""
        async with actorstream.connect([node.uri for node in self.cluster], name=f"{self.prefix}-judge") as client:
            return await read_back(client, stream)

    async def reads_all(self, reader: Reader, stored: ReadBack) -> None:
        """Wait until a reader is at the end, and hold what it was given against the stream."""
        given, end = reader.history.offsets, stored.offsets[-1]
        with contextlib.suppress(AssertionError):  # what is missing is for the checker to tell
            await until(lambda: given and given[-1] >= end, "all is read", TOLD_WITHIN_S)
        self.found += checker.check_consumer(last_life(reader.history), stored)

    def bound(self, invariant: str, what: str, value: float, limit: float) -> None:
        """Something that must not exceed a limit."""
        self.found += checker.check_bound(invariant, what, value, limit)


def last_life(history: ConsumerHistory) -> ConsumerHistory:
    """What came after the stream was made anew: offsets begin again with 0."""
    starts = [index for index, offset in enumerate(history.offsets) if not offset]
    begin = starts[-1] if starts else 0
    return ConsumerHistory(
        history.stream,
        history.offsets[begin:],
        history.producers[begin:],
        history.numbers[begin:],
        history.received_at[begin:],
    )


def perform(play: Play, stage: Stage) -> str:
    """Have it played on a loop of its own, in this thread; what goes wrong in it is found, not raised.

    Raises:
        LabError: the lab failed.
    """

    async def run() -> str:
        return await play(stage)

    try:
        return asyncio.run(run())
    except LabError:
        raise
    except (AssertionError, TimeoutError, errors.ActorStreamError) as error:
        stage.found.append(Violation("I9 liveness", f"{play.__name__}: {error!r}"))
        return f"broken off: {error!r}"
