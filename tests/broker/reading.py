"""What the tests of consuming share: numbered messages, and reading them with a deadline."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import actorstream
from actorstream import Client, Consumer, Message, SuperStreamConsumer, events
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.pool import CONTROL
from actorstream.wire import commands as c
from actorstream.wire.publish import publish_frames
from lab.broker import Broker

PATIENCE_S = 15.0


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def numbers(messages: Iterable[Message]) -> list[int]:
    return [int(message.body) for message in messages]


def offsets(messages: Iterable[Message]) -> list[int]:
    return [message.offset for message in messages]


async def publish(client: Client, stream: str, bodies: Sequence[bytes], *, chunk: int = 0) -> None:
    """Publish, and wait for the confirms; with `chunk`, after every so many, which makes chunks of them."""
    async with await client.producer(stream) as producer:
        step = chunk or len(bodies)
        for start in range(0, len(bodies), step):
            await (await producer.send_batch(bodies[start : start + step]))


async def publish_entries(client: Client, stream: str, entries: Sequence[bytes]) -> None:
    """Publish entries as they stand on the wire, over a connection by hand."""
    tree = client._grown
    before = (await client.stream_statistics(stream)).committed_chunk_id
    members: m.Members = await call(tree.locator, m.WhereIs(stream))
    slot: m.Slot = await call(tree._pool, m.Lease(members.leader, CONTROL))
    await call(slot.connection, m.Open())
    declared: c.Response = await call(slot.connection, m.Request(c.DeclarePublisher(7, "", stream)))
    assert declared.code == 1
    slot.connection.tell(m.SendFrames(publish_frames(7, 1, range(len(entries)), entries, 0)))
    await until_grown(client, stream, before)
    await call(slot.connection, m.Request(c.DeletePublisher(7)))


async def until_grown(client: Client, stream: str, before: int) -> None:
    """Wait until the last chunk is another one."""

    async def grown() -> bool:
        return (await client.stream_statistics(stream)).committed_chunk_id != before

    await until(grown, f"{stream} has grown")


async def take(consumer: Consumer | SuperStreamConsumer, count: int, within_s: float = PATIENCE_S) -> list[Message]:
    """The next messages."""
    async with asyncio.timeout(within_s):
        return [await anext(consumer) for _ in range(count)]


async def take_all(consumer: Consumer, within_s: float = PATIENCE_S) -> list[Message]:
    """All messages until the consumer ends."""
    async with asyncio.timeout(within_s):
        return [message async for message in consumer]


async def read(client: Client, stream: str, begin: actorstream.OffsetLike = "first") -> list[Message]:
    """What the stream holds now."""
    async with await client.consumer(stream, begin, until="end") as consumer:
        return await take_all(consumer)


async def until(condition: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds; it may be asynchronous."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[list[events.Event]]:
    """The events from here on."""
    seen: list[events.Event] = []
    listening = client.events()

    async def listen() -> None:
        async for event in listening:
            seen.append(event)  # noqa: PERF401 - each as it comes

    task = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def connected(broker: Broker, name: str = "actorstream", **options: object) -> AsyncIterator[Client]:
    async with actorstream.connect(broker.uri, name=name, **options) as client:  # type: ignore[arg-type]
        yield client
