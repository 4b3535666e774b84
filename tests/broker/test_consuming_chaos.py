"""Consuming while a real broker is broken: what is read has no hole and nothing twice, and what is gone is told."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import actorstream
from actorstream import Client, ConnectionOptions, Consumer, OnGap, OnTruncated, StreamArguments, errors, events
from actorstream.transport import open_tcp
from lab.broker import Broker
from lab.cluster import Cluster
from tests.broker.reading import connected, numbered, numbers, offsets, publish, read, take, take_all, until, watching
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(120)
HEALED_WITHIN_S = 30.0


class Reader:
    """Reads on in the background, and remembers."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.numbers: list[int] = []
        self.offsets: list[int] = []
        self.last_at = time.monotonic()

    async def run(self) -> None:
        async for message in self.consumer:
            self.numbers.append(int(message.body))
            self.offsets.append(message.offset)
            self.last_at = time.monotonic()

    def check_order(self) -> None:
        """I7, and that nothing came twice."""
        assert all(before < after for before, after in itertools.pairwise(self.offsets))


@asynccontextmanager
async def reading(consumer: Consumer) -> AsyncIterator[Reader]:
    reader = Reader(consumer)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def writing(client: Client, stream: str) -> AsyncIterator[list[int]]:
    """Publishes numbers all the time, none of them twice; the list holds those that were confirmed."""
    confirmed: list[int] = []
    stop = asyncio.Event()

    async def write() -> None:
        async with await client.producer(stream, name="writer") as producer:
            number = 0
            while not stop.is_set():
                receipt = await producer.send_batch(numbered(20, number))
                await receipt
                confirmed.extend(range(number, number + 20))
                number += 20
                await asyncio.sleep(0.005)

    task = asyncio.create_task(write())
    try:
        yield confirmed
    finally:
        stop.set()
        async with asyncio.timeout(HEALED_WITHIN_S):
            await task


async def goes_on(reader: Reader, confirmed: list[int], what: str) -> float:
    """Wait until what is confirmed after this moment is read; seconds that it took."""
    begin, count = time.monotonic(), len(confirmed)
    await until(lambda: len(confirmed) > count, f"confirms after {what}", HEALED_WITHIN_S)
    await until(lambda: len(reader.numbers) > count, f"deliveries after {what}", HEALED_WITHIN_S)
    return time.monotonic() - begin


def faults_of(broker: Broker, name: str, stream: str) -> dict[str, Callable[[], object]]:
    return {
        "its connections closed": lambda: broker.management.close_connections(f"{name}-consumer"),
        "the stream's leader killed": lambda: broker.kill_stream_leader(stream),
        "the stream restarted": lambda: broker.restart_stream(stream),
        "the broker restarted": broker.restart,
        "the broker killed and started": lambda: in_turn(broker.kill, broker.start),
        "the broker frozen for a while": lambda: in_turn(broker.pause, lambda: time.sleep(1.0), broker.unpause),
    }


def in_turn(*steps: Callable[[], object]) -> None:
    for step in steps:
        step()


@pytest.mark.parametrize(
    "fault",
    [
        "its connections closed",
        "the stream's leader killed",
        "the stream restarted",
        "the broker restarted",
        "the broker killed and started",
        "the broker frozen for a while",
    ],
)
async def test_f01_f02_f46_i6_i7_i9_reading_goes_on_after(chaos: Broker, chaos_stream: Streams, fault: str) -> None:
    stream, name = chaos_stream({}), f"reader-{time.time_ns()}"
    async with connected(chaos, name) as client, await client.consumer(stream, "first") as consumer:
        async with reading(consumer) as reader, watching(client) as seen:
            async with writing(client, stream) as confirmed:
                await goes_on(reader, confirmed, "the start")
                await asyncio.to_thread(faults_of(chaos, name, stream)[fault])
                await goes_on(reader, confirmed, fault)
            await until(lambda: len(reader.numbers) >= len(confirmed), "all that was confirmed is read")
            reader.check_order()
            assert reader.numbers == list(range(len(reader.numbers)))
        restarts = [
            event for event in seen if isinstance(event, events.ActorRestarting) and "subscribers" in event.path
        ]
        assert restarts or "frozen" in fault, "the fault did not reach the consumer"
        assert numbers(await read(client, stream)) == reader.numbers


async def test_f48_next_keeps_its_place_over_an_outage_of_the_whole_broker(
    chaos: Broker, chaos_stream: Streams
) -> None:
    """What was published while the consumer was away comes to a consumer that had not received anything yet."""
    stream = chaos_stream({})
    gate = Gate()
    async with actorstream.connect(chaos.uri, name="next", opener=gate.open) as client, connected(chaos) as other:
        await publish(other, stream, numbered(10))
        consumer = await client.consumer(stream, "next")
        gate.shut()
        await asyncio.to_thread(chaos.management.close_connections, "next-consumer")
        await publish(other, stream, numbered(10, 10))
        gate.unlock()
        assert numbers(await take(consumer, 10)) == list(range(10, 20))


class Gate:
    """Lets no new connection through while it is shut, so that a consumer stays away for as long as the test needs."""

    def __init__(self) -> None:
        self._way = asyncio.Event()
        self._way.set()

    def shut(self) -> None:
        self._way.clear()

    def unlock(self) -> None:
        self._way.set()

    async def open(self, *arguments: Any, **options: Any) -> Any:
        await self._way.wait()
        return await open_tcp(*arguments, **options)


# Streams that are another one


async def test_f41_a_deleted_stream_ends_the_iteration_with_why(chaos: Broker, chaos_stream: Streams) -> None:
    stream = chaos_stream({})
    async with connected(chaos) as client, await client.consumer(stream, "first") as consumer:
        await publish(client, stream, numbered(5))
        assert numbers(await take(consumer, 5)) == list(range(5))
        await client.delete_stream(stream)
        with pytest.raises(errors.StreamDoesNotExist):
            await take(consumer, 1)


@pytest.mark.parametrize("policy", list(OnTruncated))
async def test_f50_a_stream_that_was_deleted_and_made_anew(
    chaos: Broker, chaos_stream: Streams, policy: OnTruncated
) -> None:
    stream, gate = chaos_stream({}), Gate()
    async with (
        actorstream.connect(chaos.uri, name="anew", opener=gate.open) as client,
        connected(chaos) as other,
        watching(client) as seen,
    ):
        await publish(other, stream, numbered(30), chunk=10)
        consumer = await client.consumer(stream, "first", on_truncated=policy)
        assert numbers(await take(consumer, 30)) == list(range(30))
        waiting = asyncio.ensure_future(take(consumer, 5))
        gate.shut()
        for role in ("consumer", "control"):
            await asyncio.to_thread(chaos.management.close_connections, f"anew-{role}")
        await other.delete_stream(stream)
        await other.create_stream(stream)
        await publish(other, stream, numbered(5, 100))
        gate.unlock()
        if policy is OnTruncated.RAISE:
            with pytest.raises(errors.StreamTruncated):
                await waiting
            return
        await until(lambda: any(isinstance(event, events.StreamTruncated) for event in seen), "the event")
        if policy is OnTruncated.FIRST:
            assert numbers(await waiting) == list(range(100, 105))
            return

        async def is_attached() -> bool:
            subscribers = (await client.tree()).children[-1].children
            return bool(subscribers and subscribers[0].details.get("doing") == "consuming")

        await until(is_attached, "the consumer is attached")
        await publish(other, stream, numbered(5, 200))
        assert numbers(await waiting) == list(range(200, 205))


# Retention

SMALL = StreamArguments(max_length=300_000, max_segment_size=100_000)


async def overflow(client: Client, stream: str, beyond: int) -> int:
    """Publish until retention has taken offset `beyond`; how many messages there are then."""
    count = 0
    async with asyncio.timeout(30), await client.producer(stream) as producer:
        while (await client.stream_statistics(stream)).first_chunk_id <= beyond:
            await (await producer.send_batch([b"%d" % number + b" " * 1000 for number in range(count, count + 50)]))
            count += 50
    return count


@pytest.mark.parametrize("policy", list(OnGap))
async def test_f49_retention_overtakes_a_slow_consumer(chaos: Broker, chaos_stream: Streams, policy: OnGap) -> None:
    """The subscription lives all the time: the broker goes on with what there is, and does not say so."""
    stream = chaos_stream()
    async with connected(chaos) as client, watching(client) as seen:
        await client.create_stream(stream, SMALL)
        consumer = await client.consumer(stream, "first", credit=2, on_gap=policy)
        total = await overflow(client, stream, 500)
        read_through: list[int] = []

        async def read_to_the_end() -> None:
            async with asyncio.timeout(15):
                while not read_through or read_through[-1] < total - 1:
                    read_through.append((await anext(consumer)).offset)

        if policy is OnGap.RAISE:
            with pytest.raises(errors.OffsetGap) as caught:
                await read_to_the_end()
            assert caught.value.wanted == read_through[-1] + 1 < caught.value.first
            return
        await read_to_the_end()
        gaps = [event for event in seen if isinstance(event, events.OffsetGap)]
        holes = [(before + 1, after) for before, after in itertools.pairwise(read_through) if after != before + 1]
        assert holes, "retention did not overtake the consumer"
        assert [gap.wanted for gap in gaps] == [wanted for wanted, _ in holes], "every hole was told"


async def test_f49_retention_overtakes_a_consumer_that_is_away(chaos: Broker, chaos_stream: Streams) -> None:
    stream, gate = chaos_stream(), Gate()
    async with (
        actorstream.connect(chaos.uri, name="away", opener=gate.open) as client,
        connected(chaos) as other,
        watching(client) as seen,
    ):
        await client.create_stream(stream, SMALL)
        async with await other.producer(stream) as producer:
            await (await producer.send_batch(numbered(20)))
        consumer = await client.consumer(stream, "first")
        assert offsets(await take(consumer, 20)) == list(range(20))
        gate.shut()
        await asyncio.to_thread(chaos.management.close_connections, "away-consumer")
        await overflow(other, stream, 500)
        gate.unlock()
        (message,) = await take(consumer, 1)
        first, *later = [event for event in seen if isinstance(event, events.OffsetGap)]
        assert first.wanted == 20
        assert first.first > 500
        # Retention may overtake it once more, before it has its first message.
        assert [gap.wanted for gap in later] == [gap.first for gap in (first, *later)][:-1]
        assert message.offset == (first, *later)[-1].first


# A cluster


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_f03_f05_i9_a_consumer_moves_on_when_the_node_that_it_reads_from_is_gone(
    cluster: Cluster, cluster_stream: Streams, fault: str
) -> None:
    stream = cluster_stream()
    cluster.create_stream(stream)
    options = ConnectionOptions(heartbeat_s=2)
    leader = cluster.leader_of(stream)
    async with (
        actorstream.connect([node.uri for node in cluster], options=options) as client,
        watching(client) as seen,
        await client.consumer(stream, "first") as consumer,
    ):
        reads_from = await broker_of(client)
        assert reads_from.port != leader.port, "a replica is preferred"
        node = next(one for one in cluster if one.port == reads_from.port)
        async with reading(consumer) as reader:
            async with writing(client, stream) as confirmed:
                await goes_on(reader, confirmed, "the start")
                begin = time.monotonic()
                await asyncio.to_thread(getattr(node, fault))
                await goes_on(reader, confirmed, f"{fault} of a replica's node")
                assert time.monotonic() - begin < 20
            await until(lambda: len(reader.numbers) >= len(confirmed), "all that was confirmed is read")
            reader.check_order()
            assert reader.numbers == list(range(len(reader.numbers)))
        assert (await broker_of(client)).port != node.port
        moves = [event for event in seen if isinstance(event, events.Moved) and "subscribers" in event.path]
        assert moves
        assert moves[0].origin.endswith(str(node.port))


async def test_f09_a_read_to_the_end_has_all_that_was_confirmed_before_also_from_a_replica(
    cluster: Cluster, cluster_stream: Streams
) -> None:
    """A replica learns a moment later what is committed: the leader is asked where the end is."""
    stream = cluster_stream()
    cluster.create_stream(stream)
    async with actorstream.connect([node.uri for node in cluster]) as client:
        async with await client.producer(stream) as producer:
            for round_ in range(20):
                await (await producer.send_batch(numbered(5, round_ * 5)))
                assert numbers(await read(client, stream, round_ * 5)) == list(range(round_ * 5, round_ * 5 + 5))
        async with await client.consumer(stream, "first", until="end") as consumer:
            assert numbers(await take_all(consumer)) == list(range(100))


async def broker_of(client: Client) -> actorstream.Endpoint:
    async def attached() -> bool:
        (node,) = (await client.tree()).children[-1].children
        return bool(node.details.get("broker"))

    await until(attached, "the consumer is attached")
    (node,) = (await client.tree()).children[-1].children
    host, _, port = str(node.details["broker"]).rpartition(":")
    return actorstream.Endpoint(host, int(port))
