"""Who keeps events keeps what they say, and not the connections that they tell of."""

from __future__ import annotations

import asyncio
import gc

import pytest

from actorstream import events
from actorstream.actors.connection import Connection
from actorstream.actors.publisher import Publisher
from actorstream.wire.session import Session
from tests.actors.publishing import client_of
from tests.peer import FakeCluster

pytestmark = pytest.mark.timeout(30)

LOSSES = 20


def alive(*kinds: type) -> int:
    gc.collect()
    return sum(isinstance(one, kinds) for one in gc.get_objects())


@pytest.mark.parametrize("how", ["lost", "refused"])
async def test_i11_kept_events_keep_no_connection_alive(how: str) -> None:
    cluster = FakeCluster()
    cluster.create("s")
    kept: list[events.Event] = []

    async def keep() -> None:
        async for event in client.events():
            kept.append(event)  # noqa: PERF401 - as whoever shows the last events does

    async with client_of(cluster) as client, await client.producer("s") as producer:
        keeping = asyncio.create_task(keep())
        await producer.send_wait(b"before")
        before = alive(Session, Connection, Publisher)
        for _ in range(LOSSES):
            if how == "refused":
                cluster.network.fail("node-0", 5552, step="connect", cause="Connection refused", times=2)
            next(peer for peer in cluster.connections() if peer.publishers).drop()
            await producer.send_wait(b"after")
        assert alive(Session, Connection, Publisher) - before < LOSSES / 2
    await keeping
    assert sum(isinstance(event, events.Disconnected) for event in kept) >= LOSSES
