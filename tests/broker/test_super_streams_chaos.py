"""Super streams on a broker that breaks: each partition recovers by itself, and what it holds is read back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import actorstream
from actorstream import Client, Receipt, SuperStreamProducer, WhenAway
from actorstream.errors import BrokerAway, OutboxFull
from lab.broker import Broker
from tests.actors.publishing import find
from tests.broker.reading import until
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(120)

PARTITIONS = 3
WINDOW = 200


def by_number(message: str, partitions: tuple[str, ...]) -> str:
    """Messages "0", "1", "2", … take the partitions in turn."""
    return partitions[int(message) % len(partitions)]


@asynccontextmanager
async def without_leader(broker: Broker, partition: str) -> AsyncIterator[None]:
    """A partition that has no leader meanwhile."""
    await asyncio.to_thread(broker.take_stream_leader, partition)
    try:
        yield
    finally:
        await asyncio.to_thread(broker.let_elect)


async def content(client: Client, super_stream: str) -> list[list[int]]:
    """What each partition holds, in its order."""

    async def read(partition: str) -> list[int]:
        async with asyncio.timeout(30), await client.consumer(partition, "first", until="end") as consumer:
            return [int(message.body) async for message in consumer]

    return [await read(partition) for partition in await client.partitions(super_stream)]


def expected(count: int) -> list[list[int]]:
    return [list(range(index, count, PARTITIONS)) for index in range(PARTITIONS)]


async def doing(client: Client, partition: str) -> str:
    """What the publisher of a partition says that it does."""
    (publisher,) = [node for node in await find(client, "Publisher") if node.details["stream"] == partition]
    return str(publisher.details["doing"])


class Load:
    """One task for each partition sends to it, as fast as it may; message n goes to partition n modulo 3."""

    def __init__(self, producer: SuperStreamProducer) -> None:
        self.receipts: list[list[Receipt]] = [[] for _ in range(PARTITIONS)]
        self._producer = producer
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(index)) for index in range(PARTITIONS)]

    async def _run(self, index: int) -> None:
        mine = self.receipts[index]
        while not self._stop.is_set():
            mine.append(await self._producer.send(str(len(mine) * PARTITIONS + index)))
            if not len(mine) % 20:
                await asyncio.sleep(0.005)

    async def confirmed_anew(self, index: int) -> None:
        """Wait until 500 messages more, that are sent from now on, are confirmed in a partition."""
        mine, last = self.receipts[index], len(self.receipts[index]) + 500
        await until(lambda: len(mine) > last and mine[last].confirmed, f"partition {index} goes on", 20)

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._producer.flush(30)


@pytest.mark.parametrize("name", ["", "named"])
async def test_f44_a_partition_without_a_leader_holds_up_no_other_one(
    chaos: Broker, chaos_stream: Streams, name: str
) -> None:
    """I1, I3; I4 with a name, I5 without."""
    target = chaos_stream()
    async with actorstream.connect(chaos.uri) as client:
        await client.create_super_stream(target, partitions=PARTITIONS)
        async with await client.super_stream_producer(
            target, routing=by_number, name=name, max_unconfirmed=WINDOW
        ) as producer:
            load = Load(producer)
            for index in range(PARTITIONS):
                await load.confirmed_anew(index)
            async with without_leader(chaos, f"{target}-1"):
                for index in (0, 2):
                    await load.confirmed_anew(index)
                assert sum(not receipt.done for receipt in load.receipts[1]) == WINDOW, "it queues up to its bound"
                assert await doing(client, f"{target}-1") == "waiting for a leader"
                restarts = {node.details["stream"]: node.restarts for node in await find(client, "Publisher")}
                assert (restarts[f"{target}-0"], restarts[f"{target}-2"]) == (0, 0)
            await load.confirmed_anew(1)
            await load.stop()
            assert all(receipt.confirmed for receipts in load.receipts for receipt in receipts)
        stored = await content(client, target)
        for index, receipts in enumerate(load.receipts):
            sent = [number * PARTITIONS + index for number in range(len(receipts))]
            if name:
                assert stored[index] == sent
            else:
                assert list(dict.fromkeys(stored[index])) == sent
                assert len(stored[index]) - len(sent) <= (WINDOW if index == 1 else 0)


async def test_f44_of_a_batch_only_the_messages_of_that_partition_wait(chaos: Broker, chaos_stream: Streams) -> None:
    target, count = chaos_stream(), 3_000
    async with actorstream.connect(chaos.uri) as client:
        await client.create_super_stream(target, partitions=PARTITIONS)
        async with await client.super_stream_producer(
            target, routing=by_number, name="named", max_unconfirmed=WINDOW
        ) as producer:
            await (await producer.send_batch([str(number) for number in range(PARTITIONS)]))
            async with without_leader(chaos, f"{target}-1"):
                sending = asyncio.create_task(producer.send_batch([str(n) for n in range(PARTITIONS, count)]))
                await until(
                    lambda: producer.confirmed >= PARTITIONS + 2 * (count // 3 - 1), "the others have theirs", 20
                )
                assert not sending.done()
            receipt = await asyncio.wait_for(sending, 20)
            await asyncio.wait_for(receipt, 20)
            assert [one.publishing_id for one in receipt.receipts[:3]] == [2, 2, 2]
        assert await content(client, target) == expected(count)


@pytest.mark.parametrize(("when_away", "error"), [(WhenAway.FAIL, BrokerAway), (WhenAway.BUFFER, OutboxFull)])
async def test_f44_what_to_do_while_away_is_a_choice_for_each_partition(
    chaos: Broker, chaos_stream: Streams, when_away: WhenAway, error: type[Exception]
) -> None:
    target = chaos_stream()
    async with actorstream.connect(chaos.uri) as client:
        await client.create_super_stream(target, partitions=PARTITIONS)
        async with (
            await client.super_stream_producer(
                target, routing=by_number, when_away=when_away, max_unconfirmed=10
            ) as producer,
            without_leader(chaos, f"{target}-1"),
        ):

            async def away() -> bool:
                return await doing(client, f"{target}-1") == "waiting for a leader"

            await until(away, "the loss is noticed")
            if when_away is WhenAway.BUFFER:
                await producer.send_batch(["1"] * 10)
            with pytest.raises(error):
                await producer.send("1")
            await producer.send_wait("0")
            await producer.send_wait("2")


async def test_f44_a_message_for_several_partitions_is_accepted_by_all_or_none(
    chaos: Broker, chaos_stream: Streams
) -> None:
    target = chaos_stream()
    async with actorstream.connect(chaos.uri) as client:
        await client.create_super_stream(target, partitions=PARTITIONS)
        async with await client.super_stream_producer(
            target, routing=lambda _message, partitions: partitions, max_unconfirmed=10
        ) as producer:
            async with without_leader(chaos, f"{target}-1"):
                receipts = [await producer.send(str(number)) for number in range(10)]
                assert producer.try_send("10") is None
                waiting = asyncio.create_task(producer.send("10"))
                await until(lambda: producer.confirmed == 20, "the other partitions have the ten")
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert not any(receipt.done for receipt in receipts)
                late = asyncio.create_task(producer.send("11"))
            await asyncio.wait_for(late, 20)
            await producer.flush(20)
            assert all(receipt.confirmed for receipt in [*receipts, late.result()])
        numbers = [*range(10), 11]
        assert await content(client, target) == [numbers, numbers, numbers]


async def test_f01_a_broker_that_is_killed_under_load_loses_and_repeats_nothing(
    chaos: Broker, chaos_stream: Streams
) -> None:
    target = chaos_stream()
    async with actorstream.connect(chaos.uri) as client:
        await client.create_super_stream(target, partitions=PARTITIONS)
        async with await client.super_stream_producer(
            target, routing=by_number, name="named", refresh_s=0.5, max_unconfirmed=WINDOW, confirm_timeout_s=None
        ) as producer:
            load = Load(producer)
            for index in range(PARTITIONS):
                await load.confirmed_anew(index)
            await asyncio.to_thread(chaos.kill)
            (router,) = await find(client, "SuperStreamRouter")
            await asyncio.to_thread(chaos.start)
            for index in range(PARTITIONS):
                await load.confirmed_anew(index)
            await load.stop()

            async def looks_again() -> bool:
                (now,) = await find(client, "SuperStreamRouter")
                return now.state == "running" and now.details["partitions"] == PARTITIONS

            await until(looks_again, "the router is back")
            assert router.kind == "SuperStreamRouter"
        assert await content(client, target) == [
            [number * PARTITIONS + index for number in range(len(receipts))]
            for index, receipts in enumerate(load.receipts)
        ]


async def test_f45_a_producer_that_starts_while_the_broker_starts_has_all_partitions(
    chaos: Broker, chaos_stream: Streams
) -> None:
    """RabbitMQ serves before it has all bindings again."""
    target = chaos_stream()
    async with actorstream.connect(chaos.uri) as client:
        await client.create_super_stream(target, partitions=PARTITIONS)
        await asyncio.to_thread(chaos.kill)
        starting = asyncio.create_task(client.super_stream_producer(target, routing=by_number, start_timeout_s=60))
        await asyncio.to_thread(chaos.start)
        async with await starting as producer:
            assert len(producer.partitions) == PARTITIONS
            await producer.send_batch([str(number) for number in range(30)])
            await producer.flush(20)
        assert await content(client, target) == expected(30)
