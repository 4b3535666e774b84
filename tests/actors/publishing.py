"""A client of a fake cluster with short deadlines, and what the tests of connections and publishers ask of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from actorstream import Client, ConnectionOptions, Node, connect
from actorstream.backoff import BackoffPolicy
from actorstream.wire import commands as c
from tests.peer import FakeCluster

QUICK = BackoffPolicy(base_s=0.002, cap_s=0.02)


def options(**changes: Any) -> ConnectionOptions:
    given: dict[str, Any] = {"rpc_timeout_s": 1.0, "connect_timeout_s": 0.5, "hedge_s": 0.05, "backoff": QUICK}
    return ConnectionOptions(**(given | changes))


@asynccontextmanager
async def client_of(
    cluster: FakeCluster, *, own_thread: bool = False, close_timeout_s: float = 1.0, **changes: Any
) -> AsyncIterator[Client]:
    async with connect(
        cluster.uris,
        opener=cluster.open,
        options=options(**changes),
        own_thread=own_thread,
        close_timeout_s=close_timeout_s,
    ) as client:
        yield client


def published(cluster: FakeCluster) -> list[list[int]]:
    """The publishing ids of each connection on which a client published, in the order in which they arrived."""
    each = [
        [item.publishing_id for command in peer.received if isinstance(command, c.Publish) for item in command.items]
        for peer in cluster.peers
    ]
    return [ids for ids in each if ids]


def nodes_below(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes_below(child)


async def find(client: Client, kind: str) -> list[Node]:
    """The actors of a class."""
    return [node for node in nodes_below(await client.tree()) if node.kind == kind]


async def entities(client: Client) -> int:
    """Slots that the pool has given out."""
    (pool,) = await find(client, "Pool")
    count = pool.details["entities"]
    assert isinstance(count, int)
    return count


async def eventually(client: Client, count: int) -> None:
    """Wait until the pool has given out so many slots."""
    deadline = time.monotonic() + 5
    while (now := await entities(client)) != count:
        assert time.monotonic() < deadline, f"{now} slots are taken, not {count}"
        await asyncio.sleep(0.001)


def declared(cluster: FakeCluster) -> list[str]:
    """The streams of all publishers that brokers know at this moment."""
    return sorted(one.stream for peer in cluster.connections() for one in peer.publishers.values())
