"""A thousand publishers and a thousand consumers lose a node: all are back soon, and nobody storms the brokers.

`python -m tests.chaos.herd`: how long it took until the last one was back, and how many connections were tried.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import os
import sys
import time
from dataclasses import dataclass

import actorstream
from actorstream import Client, Consumer, Producer
from lab import engine, image, start as lab
from lab.cluster import Cluster
from lab.shell import STATE, LabError, say
from tests.broker.reading import until
from tests.chaos.logbook import Logbook
from tests.chaos.probe import Probe

STREAMS = 100
START_WITHIN_S = 120.0
BACK_WITHIN_S = 60.0
LIMIT_S = 10.0
"""From the death of the node, its election included, to the last one's confirm and delivery."""


@dataclass
class Herd:
    """All producers and consumers, as many on each stream."""

    producers: list[Producer]
    consumers: list[Consumer]
    received: list[int]

    async def all_work(self, within_s: float) -> float:
        """Have each producer publish, and each consumer receive from each of its stream's; the seconds it took."""
        begin = time.monotonic()
        per_stream = len(self.producers) // STREAMS
        wanted = [count + per_stream for count in self.received]
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(producer.send_wait(b"here") for producer in self.producers))
            await until(lambda: all(map(operator.ge, self.received, wanted)), "all consumers have received", within_s)
        return time.monotonic() - begin

    async def read(self, index: int) -> None:
        """Count what a consumer is given."""
        async for _ in self.consumers[index]:
            self.received[index] += 1


async def gather(client: Client, streams: list[str], size: int) -> Herd:
    """Start them all at once."""
    names = [streams[index % len(streams)] for index in range(size)]
    async with asyncio.timeout(START_WITHIN_S):
        producers = await asyncio.gather(*(client.producer(name, start_timeout_s=START_WITHIN_S) for name in names))
        consumers = await asyncio.gather(*(client.consumer(name, start_timeout_s=START_WITHIN_S) for name in names))
    return Herd(list(producers), list(consumers), [0] * size)


async def run(cluster: Cluster, size: int) -> dict[str, object]:
    """Kill the node that leads the first stream, and see how the herd gets over it."""
    prefix = f"herd-{os.getpid()}"
    streams = [f"{prefix}-{number}" for number in range(STREAMS)]
    say(f"making {STREAMS} streams")
    for stream in streams:
        await asyncio.to_thread(cluster.nodes[0].management.create_stream, stream, {"initial-cluster-size": 3})
    for stream in streams:
        await asyncio.to_thread(cluster.wait_stream, stream)
    logbook = Logbook(STATE / "chaos" / "herd.log")
    try:
        async with actorstream.connect([node.uri for node in cluster], name="herd") as client:
            keeping = asyncio.create_task(logbook.keep(client))
            say(f"starting {size} producers and {size} consumers")
            begin = time.monotonic()
            herd = await gather(client, streams, size)
            started_s = time.monotonic() - begin
            readers = [asyncio.create_task(herd.read(index)) for index in range(size)]
            await herd.all_work(BACK_WITHIN_S)
            connections = len(cluster.nodes[0].management.connections())
            with Probe(cluster.nodes, streams[:3]) as probe:
                node = await asyncio.to_thread(cluster.leader_of, streams[0])
                led = sum(row["leader"] == node.node for row in await asyncio.to_thread(_rows, cluster, prefix))
                say(f"killing {node.node}, which leads {led} of the streams")
                await asyncio.to_thread(node.kill)
                died = probe.last_look(list(cluster.nodes).index(node), time.monotonic())
                await herd.all_work(BACK_WITHIN_S)
                back_s = time.monotonic() - died
            say(f"all are back after {back_s:.2f} s")
            await asyncio.to_thread(cluster.heal)
            await herd.all_work(BACK_WITHIN_S)
            for reader in readers:
                reader.cancel()
        await keeping
    finally:
        await asyncio.to_thread(cluster.heal)
        await asyncio.to_thread(cluster.nodes[0].management.delete_prefix, prefix)
    return {
        "producers": size,
        "consumers": size,
        "streams": STREAMS,
        "started_s": round(started_s, 2),
        "connections": connections,
        "streams_led_by_the_dead": led,
        "all_back_s": round(back_s, 2),
        "limit_s": LIMIT_S,
        "ok": back_s <= LIMIT_S,
        "connection_attempts_per_broker_and_second": logbook.attempts_per_second(),
    }


def _rows(cluster: Cluster, prefix: str) -> list[dict[str, object]]:
    rows = cluster.nodes[0].management.call("GET", "queues", "/")
    return [row for row in rows if row["name"].startswith(prefix)]


def main() -> int:
    """Run, and print what was measured; 1 if it took too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.herd", description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="how many of each")
    arguments = parser.parse_args()
    try:
        engine.ensure()
        figures = asyncio.run(run(lab.cluster(image=image.choose()), arguments.size))
    except LabError as error:
        say(f"failed: {error}")
        return 2
    print(json.dumps(figures, indent=2))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
