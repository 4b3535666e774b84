"""Consumers that are killed, and brokers that go away between a store and the end: nothing skipped, little repeated."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import actorstream
from actorstream import AutoTracking, events
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, take, until, watching
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(120)

MESSAGES = 3_000
EVERY = 40
ON_ITS_WAY = 600
"""Messages that may be processed while a store is on its way: the reader takes a millisecond for each."""


@asynccontextmanager
async def reader(broker: Broker, stream: str, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that reads on where the last one was; killed at the end, if not before."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.broker.tracked_reader", broker.uri, stream, "app", str(EVERY), str(path)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def lines(path: Path, what: str) -> list[int]:
    """What one process wrote down; a line that was cut off by its death does not count."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    return [int(number) for kind, _, number in (line.partition(" ") for line in whole.splitlines()) if kind == what]


async def test_f54_i6_a_consumer_that_is_killed_again_and_again_skips_nothing_and_repeats_little(
    broker: Broker, stream: Streams, tmp_path: Path
) -> None:
    name = stream({})
    async with connected(broker) as client:
        await publish(client, name, numbered(MESSAGES), chunk=100)
        runs: list[tuple[list[int], list[int]]] = []
        while not runs or runs[-1][0][-1] < MESSAGES - 1:
            path = tmp_path / f"run-{len(runs)}"
            wanted = 150 + 97 * len(runs)  # at another place of the interval each time
            async with reader(broker, name, path) as process:

                def is_far(path: Path = path, wanted: int = wanted) -> bool:
                    done = lines(path, "done")
                    return len(done) >= wanted or (bool(done) and done[-1] == MESSAGES - 1)

                await until(is_far, f"run {len(runs)} has done {wanted} messages", 30)
                os.kill(process.pid, signal.SIGKILL)
                await process.wait()
            runs.append((lines(path, "done"), lines(path, "stored")))
        assert len(runs) > 4
        for done, stored in runs:
            assert done == list(range(done[0], done[-1] + 1)), "a run has no hole and nothing twice"
            assert all(offset <= done[-1] for offset in stored), "nothing is stored that was not done"
            assert stored == sorted(stored)
        for (before, stored), (after, _) in itertools.pairwise(runs):
            assert after[0] <= before[-1] + 1, "nothing is skipped"
            assert after[0] > max(stored, default=-1), "what is known to be stored is done with"
            assert before[-1] + 1 - after[0] <= EVERY + ON_ITS_WAY, "no more is repeated than was on its way"


@pytest.mark.parametrize("fault", ["restarted", "killed and started", "its leader killed"])
async def test_f51_the_offset_is_stored_though_the_broker_goes_between_store_and_close(
    chaos: Broker, chaos_stream: Streams, fault: str
) -> None:
    name = chaos_stream({})
    policy = AutoTracking(every=10, interval_s=None)
    async with actorstream.connect(chaos.uri, close_timeout_s=30.0) as client:
        await publish(client, name, numbered(200))
        consumer = await client.consumer(name, "first", name="app", tracking=policy)
        await take(consumer, 95)
        match fault:
            case "restarted":
                await asyncio.to_thread(chaos.restart)
            case "killed and started":
                await asyncio.to_thread(chaos.kill)
                await asyncio.to_thread(chaos.start)
            case _:
                await asyncio.to_thread(chaos.kill_stream_leader, name)
        await consumer.close()
        assert await client.query_offset("app", name) == 93
        async with await client.consumer(name, "first", name="app") as consumer:
            assert numbers(await take(consumer, 106, 30)) == list(range(94, 200))


async def test_f51_a_consumer_that_is_closed_while_the_broker_is_away_stores_when_it_is_back(
    chaos: Broker, chaos_stream: Streams
) -> None:
    name = chaos_stream({})
    async with actorstream.connect(chaos.uri, close_timeout_s=60.0) as client:
        await publish(client, name, numbered(100))
        consumer = await client.consumer(name, "first", name="app")
        await take(consumer, 61)
        await asyncio.to_thread(chaos.kill)
        closing = asyncio.create_task(consumer.close())
        await asyncio.to_thread(chaos.start)
        await closing
        assert await client.query_offset("app", name) == 59


async def test_f51_what_is_completed_in_an_outage_is_stored_after_it_without_a_close(
    chaos: Broker, chaos_stream: Streams
) -> None:
    name = chaos_stream({})
    policy = AutoTracking(every=10, interval_s=0.2)
    async with connected(chaos) as client, watching(client) as seen:
        await publish(client, name, numbered(100), chunk=10)
        async with await client.consumer(name, "first", name="app", tracking=policy) as consumer:
            await take(consumer, 11)
            await until(lambda: consumer._state.chunks == 10, "all has arrived")
            await asyncio.to_thread(chaos.kill)
            await take(consumer, 30)
            await asyncio.to_thread(chaos.start)
            await until(
                lambda: [one for one in seen if isinstance(one, events.OffsetStored) and one.offset == 39],
                "the offset is stored",
                60,
            )
            assert await client.query_offset("app", name) == 39


async def test_f53_a_consumer_that_starts_while_the_broker_is_away_begins_after_what_is_stored(
    chaos: Broker, chaos_stream: Streams
) -> None:
    name = chaos_stream({})
    async with connected(chaos) as client:
        await publish(client, name, numbered(50))
        await client.store_offset("app", name, 20)

        async def is_stored() -> bool:
            return await client.query_offset("app", name) == 20

        await until(is_stored, "the offset is there")
        await asyncio.to_thread(chaos.stop)
        starting = asyncio.create_task(client.consumer(name, "next", name="app", start_timeout_s=90.0))
        await asyncio.to_thread(chaos.start)
        async with await starting as consumer:
            assert numbers(await take(consumer, 29, 30)) == list(range(21, 50))
