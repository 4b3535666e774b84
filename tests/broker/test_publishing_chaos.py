"""Publishing to brokers that are killed, frozen and starved under load: the stream is read back and compared."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import actorstream
from actorstream import Client, Node, Producer, Receipt
from actorstream.errors import Unconfirmed
from lab.broker import Broker
from lab.cluster import Cluster
from tests.broker.reading import until
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(120)

NAMES = pytest.mark.parametrize("name", ["", "named"])
WINDOW = 200


class Load:
    """A steady load of numbered messages, until it is told to stop; and what a reader may find of it."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.receipts: list[Receipt] = []
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stop.is_set():
            for _ in range(20):
                self.receipts.append(await self.producer.send(b"%d" % len(self.receipts)))
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Stop, when what was sent has its outcome."""
        self._stop.set()
        await self._task
        await self.producer.flush(60)

    async def confirmed_again(self, within_s: float) -> float:
        """Wait until something that is sent from now on is confirmed; the seconds that took."""
        begin = time.monotonic()
        first = len(self.receipts)
        await until(lambda: len(self.receipts) > first and self.receipts[first].confirmed, "a confirm", within_s)
        return time.monotonic() - begin

    async def verify(self, client: Client, stream: str, disconnects: int) -> None:
        """I1 to I5: all is confirmed and there, in order; with a name exactly once, without at most a window twice."""
        stored = await content(client, stream)
        count = len(self.receipts)
        assert all(receipt.confirmed for receipt in self.receipts)
        assert self.producer.confirmed == count
        expected = [b"%d" % number for number in range(count)]
        if self.producer.name:
            assert stored == expected
        else:
            assert list(dict.fromkeys(stored)) == expected
            assert len(stored) - count <= disconnects * WINDOW


async def content(client: Client, stream: str) -> list[bytes]:
    """Everything that the stream holds, in its order."""
    async with asyncio.timeout(30), await client.consumer(stream, "first", until="end") as consumer:
        return [message.body async for message in consumer]


async def do(fault: Callable[..., Any], *arguments: Any) -> Any:
    """Carry out a fault; it returns when it has been seen to happen."""
    return await asyncio.to_thread(fault, *arguments)


async def publisher_was_restarted(client: Client) -> bool:
    return (await find_publisher(client)).restarts > 0


async def publisher_is_refused(client: Client) -> bool:
    return "precondition failed" in (await find_publisher(client)).last_reason


async def find_publisher(client: Client) -> Node:
    (supervisor,) = [node for node in (await client.tree()).children if node.name == "publishers"]
    (publisher,) = supervisor.children
    return publisher


@NAMES
async def test_f02_a_killed_leader_process(chaos: Broker, chaos_stream: Streams, name: str) -> None:
    target = chaos_stream({})
    async with actorstream.connect(chaos.uri) as client:
        async with await client.producer(target, name=name, max_unconfirmed=WINDOW) as producer:
            load = Load(producer)
            for _ in range(2):
                await load.confirmed_again(10)
                before = await do(chaos.stream_writer, target)
                await do(chaos.kill_stream_leader, target)
                assert await do(chaos.stream_writer, target) != before
                await load.confirmed_again(15)
            await load.stop()
            publisher = await find_publisher(client)
            assert publisher.restarts >= 2
        await load.verify(client, target, disconnects=2)


@NAMES
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_f01_f04_a_broker_that_goes_and_comes_back(
    chaos: Broker, chaos_stream: Streams, name: str, how: str
) -> None:
    target = chaos_stream({})
    async with actorstream.connect(chaos.uri) as client:
        async with await client.producer(target, name=name, max_unconfirmed=WINDOW) as producer:
            load = Load(producer)
            await load.confirmed_again(10)
            await do(chaos.kill if how == "kill" else chaos.stop)
            held = producer.unsettled
            await do(chaos.start)
            took = await load.confirmed_again(30)
            await load.stop()
            publisher = await find_publisher(client)

            assert held == WINDOW, "nothing is confirmed while there is no broker, and no more than the window waits"
            assert publisher.restarts >= 1
            assert took < 15
        await load.verify(client, target, disconnects=publisher.restarts)


@NAMES
async def test_f05_f06_a_frozen_broker(chaos: Broker, chaos_stream: Streams, name: str) -> None:
    target, options = chaos_stream({}), actorstream.ConnectionOptions(heartbeat_s=1, rpc_timeout_s=4.0)
    async with actorstream.connect(chaos.uri, options=options) as client:
        async with await client.producer(target, name=name, max_unconfirmed=WINDOW) as producer:
            load = Load(producer)
            await load.confirmed_again(10)
            await do(chaos.pause)
            await until(lambda: publisher_was_restarted(client), "after two heartbeats it is given up")
            await do(chaos.unpause)
            await load.confirmed_again(20)
            await load.stop()
        await load.verify(client, target, disconnects=3)


@pytest.fixture
def no_disk_alarm_stays(chaos: Broker) -> Iterator[None]:
    yield
    chaos.clear_disk_alarm()


@pytest.mark.usefixtures("no_disk_alarm_stays")
async def test_f21_f38_a_disk_alarm(chaos: Broker, chaos_stream: Streams) -> None:
    """W14: a broker says nothing of it; what publishers send is not read, and new ones are refused.

    Streams care for disk alarms only: a memory alarm changes nothing for them.
    """
    target = chaos_stream({})
    async with actorstream.connect(chaos.uri) as client:
        async with await client.producer(target, name="n", confirm_timeout_s=1.5) as producer:
            await producer.send_wait(b"0")
            await do(chaos.set_disk_alarm)
            receipts: list[Receipt] = []

            async def send_until(wanted: Callable[[Receipt], bool]) -> None:
                async with asyncio.timeout(20):
                    while not receipts or not wanted(receipts[-1]):
                        receipts.append(await producer.send(b"%d" % (1 + len(receipts))))
                        await until(lambda: receipts[-1].done, "an outcome")

            await send_until(lambda receipt: isinstance(receipt.error, Unconfirmed))
            # Refused while the alarm lasts: the next incarnations keep trying to declare the publisher.
            await until(lambda: publisher_is_refused(client), "new publishers are refused")
            await do(chaos.clear_disk_alarm)
            await send_until(lambda receipt: receipt.confirmed)

        # What was sent was kept, and sent again, once each, although some receipts had given up.
        sent = [number for number, receipt in enumerate(receipts, start=1) if receipt.publishing_id >= 0]
        assert await content(client, target) == [b"0", *(b"%d" % number for number in sent)]
        assert isinstance(receipts[-2].error, Unconfirmed)


async def test_i14_close_is_bounded_while_the_broker_is_frozen(chaos: Broker, chaos_stream: Streams) -> None:
    target = chaos_stream({})
    client = await actorstream.connect(chaos.uri, close_timeout_s=1.0)
    producer = await client.producer(target)
    await do(chaos.pause)
    receipt = await producer.send(b"x")
    begin = time.monotonic()
    await producer.close()
    assert isinstance(receipt.error, Unconfirmed)
    await client.close()
    assert time.monotonic() - begin < 4


@NAMES
async def test_f01_f09_a_killed_leader_node(cluster: Cluster, cluster_stream: Streams, name: str) -> None:
    target = cluster_stream()
    await do(cluster.create_stream, target)
    async with actorstream.connect([node.uri for node in cluster], name=f"test-{uuid.uuid4().hex[:8]}") as client:
        async with await client.producer(target, name=name, max_unconfirmed=WINDOW) as producer:
            load = Load(producer)
            await load.confirmed_again(15)
            leader = await do(cluster.leader_of, target)
            await do(leader.kill)
            took = await load.confirmed_again(45)
            assert await do(cluster.leader_of, target) is not leader
            await load.stop()
            publisher = await find_publisher(client)
            assert publisher.restarts >= 1
            assert took < 30
        await load.verify(client, target, disconnects=publisher.restarts)
