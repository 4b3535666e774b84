"""This project's client with many handles, with a consumer that does not keep up, and with a broker that hangs.

What is measured in bytes is the memory of the process that the kernel counts (resident), after a collection of garbage.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path
from typing import TypeVar

import actorstream
from actorstream import Client, ConnectionOptions, HashRouting, Node, StreamArguments
from actorstream.routing import murmur3
from benchmarks.workload import BODY_SIZE, Outcome, Task, bodies, body, perform, seconds, start

T = TypeVar("T")

AT_ONCE = 50
"""Streams that are made, and handles that are started, at the same time."""
POOLED = 256
"""Consumers of one connection: their ids are one byte."""
CREDIT = 10
"""Chunks that a consumer may have which does not keep up, as by default."""
UNCONFIRMED = 10_000
"""Messages that a producer may have without an outcome, likewise."""
PATIENT = ConnectionOptions(rpc_timeout_s=60.0)
"""For who makes and deletes thousands of streams: brokers do one after the other."""
IDLE_S = 3.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def connections(node: Node) -> int:
    """The sockets in a tree."""
    return sum(len(child.children) for child in node.children if child.name == "connections")


async def in_groups(work: Iterable[Awaitable[object]]) -> None:
    """Do it all, a part at a time: a broker makes streams one after the other anyway."""
    left = list(work)
    for first in range(0, len(left), AT_ONCE):
        await asyncio.gather(*left[first : first + AT_ONCE])


@contextlib.asynccontextmanager
async def streams(client: Client, names: list[str]) -> AsyncIterator[None]:
    """Streams for as long as they are needed."""
    await in_groups(client.create_stream(name) for name in names)
    try:
        yield
    finally:
        await in_groups(client.delete_stream(name) for name in names)


async def handles(task: Task) -> Outcome:
    """A producer and a consumer on each of many streams: what they take, and how fast they are together."""
    names = [f"{task.stream}-{number}" for number in range(task.handles)]
    messages = bodies(task.count, task.size)
    per_stream = task.count // task.handles
    async with actorstream.connect(task.uri) as client, streams(client, names):
        empty, begin = resident(), time.perf_counter()
        producers = [client.producer(name, start_timeout_s=90.0) for name in names]
        consumers = [client.consumer(name, "first", until=per_stream - 1, start_timeout_s=90.0) for name in names]
        writers = [one for part in parts(producers) for one in await asyncio.gather(*part)]
        readers = [one for part in parts(consumers) for one in await asyncio.gather(*part)]
        started = time.perf_counter() - begin
        full = resident()
        used = time.process_time()
        await asyncio.sleep(IDLE_S)
        idle = (time.process_time() - used) / IDLE_S
        sockets = connections(await client.tree())

        async def read(reader: actorstream.Consumer) -> int:
            return sum([len(batch) async for batch in reader.batches()])

        clock = start()
        reading = [asyncio.create_task(read(reader)) for reader in readers]
        for number in range(per_stream * task.handles):
            await writers[number % task.handles].send(messages[number])
        counts = await asyncio.gather(*reading)
        assert counts == [per_stream] * task.handles
        outcome = seconds(clock)
        await in_groups(writer.close() for writer in writers)
        await in_groups(reader.close() for reader in readers)
    return outcome | {
        "start_s": started,
        "bytes_per_handle": (full - empty) / (2 * task.handles),
        "idle_cpu": idle,
        "connections": sockets,
    }


def parts(items: list[T]) -> Iterable[list[T]]:
    """The items, some at a time."""
    return (items[first : first + AT_ONCE] for first in range(0, len(items), AT_ONCE))


def key_of(message: bytes) -> str:
    """By what messages are spread over partitions: their number."""
    return message[:8].hex()


async def plain_streams(task: Task) -> Outcome:
    """`send` to many streams, and all confirmed: each message to the one where the hash of its key would have it.

    Not to one after the other: all producers would let the loop turn at the same moment then, and each would have 512
    messages to send at once, as no load from outside has it, and no super stream.
    """
    names = [f"{task.stream}-{number}" for number in range(task.handles)]
    messages = bodies(task.count, task.size)
    places = [murmur3(key_of(message)) % task.handles for message in messages]
    async with actorstream.connect(task.uri) as client, streams(client, names):
        producers = await asyncio.gather(*(client.producer(name) for name in names))
        begin = start()
        for place, message in zip(places, messages, strict=True):
            await producers[place].send(message)
        for producer in producers:
            await producer.flush()
        outcome = seconds(begin)
        assert sum(producer.confirmed for producer in producers) == task.count
        return outcome


async def super_stream(task: Task) -> Outcome:
    """`send` to as many partitions of a super stream, by the hash of a key."""
    messages = bodies(task.count, task.size)
    async with actorstream.connect(task.uri) as client:
        await client.create_super_stream(task.stream, partitions=task.handles)
        try:
            routing = HashRouting(key_of)
            async with await client.super_stream_producer(task.stream, routing=routing) as producer:
                begin = start()
                for message in messages:
                    await producer.send(message)
                await producer.flush()
                outcome = seconds(begin)
                assert producer.confirmed == task.count
        finally:
            await client.delete_super_stream(task.stream)
        return outcome


def small(task: Task) -> list[tuple[str, range]]:
    """The small streams, each with the numbers of its messages."""
    each = task.count // task.handles
    return [(f"{task.stream}-{number}", range(number * each, (number + 1) * each)) for number in range(task.handles)]


async def make_small_streams(task: Task) -> Outcome:
    """Many streams, spread over the brokers, with a few messages each: a stream of one member is where it is made."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(actorstream.connect(uri, options=PATIENT))
            for uri in task.brokers or [task.uri]
        ]

        async def make(name: str, numbers: range) -> None:
            client = clients[numbers[0] // len(numbers) % len(clients)]
            await client.create_stream(name, StreamArguments(initial_cluster_size=1))
            async with await client.producer(name, start_timeout_s=90.0) as producer:
                await producer.send_batch([body(number, task.size) for number in numbers])

        begin = start()
        await in_groups(make(*one) for one in small(task))
        return seconds(begin)


async def small_streams(task: Task) -> Outcome:
    """All of them consumed at once, up to the last message of each."""
    async with actorstream.connect(task.uri) as client:
        empty, begin = resident(), start()
        starting = [
            client.consumer(name, "first", until=len(numbers) - 1, start_timeout_s=300.0)
            for name, numbers in small(task)
        ]
        readers = [one for part in parts(starting) for one in await asyncio.gather(*part)]
        started = seconds(begin)
        full = resident()
        lines = consuming(await client.tree())

        async def read(reader: actorstream.Consumer) -> list[bytes]:
            return [message.body async for message in reader]

        clock = start()
        found = await asyncio.gather(*(read(reader) for reader in readers))
        outcome = seconds(clock)
        for bodies_found, (name, numbers) in zip(found, small(task), strict=True):
            assert bodies_found == [body(number, task.size) for number in numbers], name
        await in_groups(reader.close() for reader in readers)
    by_broker: Counter[str] = Counter()
    for broker, subscribers in lines:
        by_broker[broker] += subscribers
    return outcome | {
        "streams": task.handles,
        "start_s": started["seconds"],
        "start_cpu": started["cpu"],
        "bytes_per_handle": (full - empty) / task.handles,
        "connections": len(lines),
        "fewest_connections": sum(math.ceil(count / POOLED) for count in by_broker.values()),
    }


async def drop_small_streams(task: Task) -> Outcome:
    """Delete them."""
    async with actorstream.connect(task.uri, options=PATIENT) as client:
        begin = start()
        await in_groups(client.delete_stream(name, missing_ok=True) for name, _ in small(task))
        return seconds(begin)


def consuming(node: Node) -> list[tuple[str, int]]:
    """The connections of a tree that have consumers: to which broker, and how many they have."""
    children = [line for child in node.children if child.name == "connections" for line in child.children]
    details = [line.details for line in children if line.details.get("role") == "consumer"]
    return [(str(one["broker"]), int(str(one["subscribers"]))) for one in details]


async def slow_consumer(task: Task) -> Outcome:
    """One message of a long stream, and then none for a while: what the broker was allowed to send stays here."""
    async with actorstream.connect(task.uri) as client:
        empty = resident()
        async with await client.consumer(task.stream, "first", credit=CREDIT) as consumer:
            await anext(consumer)
            await asyncio.sleep(task.seconds)
            assert consumer.delivered_chunks <= CREDIT
            return {
                "bytes": resident() - empty,
                "credit": CREDIT,
                "chunks": consumer.delivered_chunks,
                "chunk_bytes": consumer.delivered_bytes,
                "messages_in_stream": task.count,
            }


async def outage(task: Task) -> Outcome:
    """`send` as fast as it accepts messages, while the broker hangs and comes back, after `task.count` of them."""
    message = bytes(BODY_SIZE)
    async with (
        actorstream.connect(task.uri) as client,
        await client.producer(task.stream, max_unconfirmed=UNCONFIRMED, confirm_timeout_s=None) as producer,
    ):
        for _ in range(task.count):
            await producer.send(message)
        await producer.flush()
        empty, most, undecided = resident(), 0, 0

        async def send() -> None:
            while True:
                await producer.send(message)

        sending = asyncio.create_task(send())
        end = time.monotonic() + task.seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.25)
            most = max(most, resident() - empty)
            undecided = max(undecided, producer.unsettled)
        sending.cancel()
        await asyncio.wait([sending])
        await producer.flush()
        assert not producer.failed
        assert undecided <= UNCONFIRMED
        return {"bytes": most, "undecided": undecided, "bound": UNCONFIRMED}


KINDS = {
    "handles": handles,
    "plain_streams": plain_streams,
    "super_stream": super_stream,
    "make_small_streams": make_small_streams,
    "small_streams": small_streams,
    "drop_small_streams": drop_small_streams,
    "slow_consumer": slow_consumer,
    "outage": outage,
}

if __name__ == "__main__":
    perform(KINDS, asyncio.run)
