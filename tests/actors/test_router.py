"""The router: it looks at a super stream's partitions, tells when they change, and asks for routes once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pykka
import pytest

from actorstream import Client, HashRouting, KeyRouting, Node, OnPartitionsChanged, SuperStreamProducer, events
from actorstream.actors import messages as m, router
from actorstream.actors.calls import call
from actorstream.actors.mailbox import Publish, PublishBatch, Published
from actorstream.actors.runtime import ask
from actorstream.errors import (
    ActorStreamError,
    Closed,
    ConnectionLost,
    InvalidArgument,
    RequestTimeout,
    StreamDoesNotExist,
    UnsupportedByBroker,
)
from actorstream.wire import commands as c
from tests.actors.publishing import client_of, find
from tests.peer import FakeCluster, until

pytestmark = pytest.mark.timeout(20)


def text(message: Any) -> str:
    return str(message)


def in_turn(message: str, partitions: tuple[str, ...]) -> str:
    return partitions[int(message) % len(partitions)]


def made(bindings: Any = 3, nodes: int = 1) -> FakeCluster:
    cluster = FakeCluster(nodes=nodes)
    cluster.create_super_stream("ss", bindings)
    return cluster


def add(cluster: FakeCluster, key: str, partition: str) -> None:
    cluster.create(partition)
    cluster.super_streams["ss"] = (*cluster.super_streams["ss"], (key, partition))


@asynccontextmanager
async def producing(
    cluster: FakeCluster, rpc_timeout_s: float = 0.2, **given: Any
) -> AsyncIterator[tuple[Client, SuperStreamProducer]]:
    options: dict[str, Any] = {"routing": HashRouting(text), "refresh_s": 0.02, **given}
    async with (
        client_of(cluster, rpc_timeout_s=rpc_timeout_s) as client,
        await client.super_stream_producer("ss", **options) as producer,
    ):
        yield client, producer


class Inbox:
    """Who is told outcomes."""

    def __init__(self) -> None:
        self.told: list[Published] = []

    def tell(self, message: Published) -> None:
        self.told.append(message)


async def router_of(client: Client) -> Node:
    (found,) = await find(client, "SuperStreamRouter")
    return found


async def changes(client: Client) -> AsyncIterator[events.PartitionsChanged]:
    async for event in client.events():
        if isinstance(event, events.PartitionsChanged):
            yield event


# Partitions


async def test_f45_the_router_looks_again_and_again_and_tells_what_changed() -> None:
    cluster = made()
    async with producing(cluster) as (client, producer):
        told = changes(client)
        looking = asyncio.ensure_future(anext(told))
        looks = len(cluster.heard(c.Partitions))
        await until(lambda: len(cluster.heard(c.Partitions)) > looks + 3)
        assert not looking.done()
        add(cluster, "3", "ss-3")
        event = await looking
        assert (event.super_stream, event.partitions) == ("ss", ("ss-0", "ss-1", "ss-2", "ss-3"))
        assert (event.added, event.removed) == (("ss-3",), ())
        cluster.super_streams["ss"] = cluster.super_streams["ss"][:1]
        for partition in ("ss-1", "ss-2", "ss-3"):
            cluster.delete(partition)
        event = await anext(told)
        assert (event.partitions, event.removed) == (("ss-0",), ("ss-1", "ss-2", "ss-3"))
        assert producer.partitions == ("ss-0", "ss-1", "ss-2")


async def test_f45_another_order_is_a_change() -> None:
    """Hashes go by the order: whoever follows has to hear of it."""
    cluster = made()
    async with producing(cluster, on_partitions_changed=OnPartitionsChanged.FOLLOW) as (client, producer):
        told = changes(client)
        looking = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        cluster.super_streams["ss"] = tuple(reversed(cluster.super_streams["ss"]))
        event = await looking
        assert (event.added, event.removed) == ((), ())
        await until(lambda: producer.partitions == ("ss-2", "ss-1", "ss-0"))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broker says is believed sooner."""
    monkeypatch.setattr(router, "FEWER_S", 0.3)
    monkeypatch.setattr(router, "NOTHING_S", 0.3)
    monkeypatch.setattr(router, "NONE_S", 0.6)


@pytest.mark.parametrize("listed", [0, 1, None])
async def test_f45_partitions_that_a_starting_broker_does_not_list_yet_are_not_gone(listed: int | None) -> None:
    """None: it does not even know that there is such a super stream."""
    cluster = made()
    bindings = cluster.super_streams["ss"]
    async with producing(cluster, on_partitions_changed=OnPartitionsChanged.FOLLOW) as (client, producer):
        told = asyncio.ensure_future(anext(changes(client)))
        await asyncio.sleep(0)
        if listed is None:
            del cluster.super_streams["ss"]
        else:
            cluster.super_streams["ss"] = bindings[:listed]
        looks = len(cluster.heard(c.Partitions))
        await until(lambda: len(cluster.heard(c.Partitions)) > looks + 3)
        cluster.super_streams["ss"] = bindings
        looks = len(cluster.heard(c.Partitions))
        await until(lambda: len(cluster.heard(c.Partitions)) > looks + 3)
        await producer.send_batch([str(number) for number in range(30)])
        await producer.flush(5)
        assert not told.done()
        assert producer.partitions == ("ss-0", "ss-1", "ss-2")
        assert (await router_of(client)).restarts == 0
        told.cancel()


@pytest.mark.usefixtures("soon")
async def test_f45_partitions_that_are_unbound_for_long_enough_are_gone() -> None:
    cluster = made()
    async with producing(cluster, on_partitions_changed=OnPartitionsChanged.FOLLOW) as (_, producer):
        cluster.super_streams["ss"] = cluster.super_streams["ss"][:1]
        await until(lambda: producer.partitions == ("ss-0",))
        del cluster.super_streams["ss"]
        await until(lambda: producer._closed is not None)


async def test_f45_a_start_waits_until_a_starting_broker_lists_all_partitions() -> None:
    cluster = made()
    bindings = cluster.super_streams["ss"]
    cluster.super_streams["ss"] = ()
    async with client_of(cluster) as client:
        starting = asyncio.create_task(client.super_stream_producer("ss", routing=in_turn))
        await until(lambda: len(cluster.heard(c.Partitions)) > 1)
        cluster.super_streams["ss"] = bindings[:1]
        looks = len(cluster.heard(c.Partitions))
        await until(lambda: len(cluster.heard(c.Partitions)) > looks)
        cluster.super_streams["ss"] = bindings
        async with await starting as producer:
            assert producer.partitions == ("ss-0", "ss-1", "ss-2")


async def test_f45_a_start_waits_for_the_partitions_of_what_the_broker_knows_to_be_there() -> None:
    """For longer than for a name that it does not know at all."""
    cluster = made()
    bindings, cluster.super_streams["ss"] = cluster.super_streams["ss"], ()
    async with client_of(cluster) as client:
        starting = asyncio.create_task(client.super_stream_producer("ss", routing=in_turn))
        with pytest.raises(StreamDoesNotExist, match="no super stream"):
            await client.super_stream_producer("nothing", routing=in_turn)
        assert not starting.done()
        cluster.super_streams["ss"] = bindings
        async with await starting as producer:
            assert producer.partitions == ("ss-0", "ss-1", "ss-2")


@pytest.mark.usefixtures("soon")
async def test_f41_what_is_no_super_stream_is_told_at_the_start() -> None:
    cluster = made()
    cluster.super_streams["empty"] = ()
    async with client_of(cluster) as client:
        for name in ("empty", "nothing"):
            with pytest.raises(StreamDoesNotExist, match="no super stream"):
                await client.super_stream_producer(name, routing=in_turn)


async def test_a_look_that_is_asked_for_does_not_wait_for_its_time() -> None:
    cluster = made()
    async with producing(cluster, refresh_s=600) as (_, producer):
        looks = len(cluster.heard(c.Partitions))
        hold = cluster.hold(c.Partitions)
        for _ in range(3):
            producer.ref.tell(m.RefreshPartitions())
        await until(lambda: hold.waiting)
        producer.ref.tell(m.RefreshPartitions())  # behind a look that may have been too early
        hold.release()
        await until(lambda: len(cluster.heard(c.Partitions)) == looks + 2)


async def restarted(client: Client, times: int) -> None:
    deadline = time.monotonic() + 10
    while (await router_of(client)).restarts < times:
        assert time.monotonic() < deadline


async def test_f45_a_change_while_the_router_is_away_is_a_change_too() -> None:
    cluster = made()
    async with producing(cluster, on_partitions_changed=OnPartitionsChanged.FOLLOW) as (client, producer):
        refusing = cluster.respond(c.Partitions, code=15)
        await restarted(client, 1)
        add(cluster, "3", "ss-3")
        refusing.cancel()
        await until(lambda: len(producer.partitions) == 4)


async def test_whoever_waits_for_a_route_is_answered_when_the_router_ends() -> None:
    cluster = made()
    async with producing(cluster) as (_, producer):
        hold = cluster.hold(c.Route)
        asking = asyncio.create_task(call(producer.ref, m.Route("0")))
        await until(lambda: hold.waiting)
        await producer.close()
        with pytest.raises(ConnectionLost, match="ended before it answered"):
            await asking


async def test_f83_an_outage_of_many_looks_is_weather_and_sends_go_on() -> None:
    cluster = made()
    async with producing(cluster) as (client, producer):
        refusing = cluster.respond(c.Partitions, code=15)

        while (await router_of(client)).restarts < 8:
            await producer.send_wait("goes on")
        refusing.cancel()
        looks = len(cluster.heard(c.Partitions))
        await until(lambda: len(cluster.heard(c.Partitions)) > looks + 1)
        assert (await router_of(client)).state == "running"


async def test_f41_a_super_stream_that_is_gone_ends_the_producer_with_its_reason() -> None:
    cluster = made()
    async with producing(cluster) as (_, producer):
        await producer.send_wait("a")
        del cluster.super_streams["ss"]
        for partition in producer.partitions:
            cluster.delete(partition)
        await until(lambda: producer._closed is not None)
        with pytest.raises(Closed) as caught:
            await producer.send("a")
        assert isinstance(caught.value.__cause__, StreamDoesNotExist)
        with pytest.raises(Closed):
            producer.try_send("a")


async def test_f44_a_producer_starts_although_a_partition_has_no_leader() -> None:
    cluster = made()
    cluster.move_leader("ss-1", None)
    async with producing(cluster, routing=in_turn, start_timeout_s=0.3) as (_, producer):
        receipts = [await producer.send(str(number)) for number in range(30)]
        await until(lambda: producer.confirmed == 20)
        assert not any(receipt.done for receipt in receipts[1::3])
        cluster.move_leader("ss-1", 0)
        await producer.flush(5)
        assert cluster.bodies("ss-1") == [b"%d" % number for number in range(1, 30, 3)]


async def test_a_producer_none_of_whose_partitions_has_a_leader_does_not_start() -> None:
    cluster = made(2)
    for partition in ("ss-0", "ss-1"):
        cluster.move_leader(partition, None)
    async with client_of(cluster) as client:
        with pytest.raises(RequestTimeout, match="a producer of super stream 'ss'"):
            await client.super_stream_producer("ss", routing=in_turn, start_timeout_s=0.2)
        assert not client._handles
        assert not await find(client, "Publisher")
        assert not await find(client, "SuperStreamRouter")


async def test_f41_a_partition_that_does_not_exist_is_told_at_the_start() -> None:
    cluster = made()
    cluster.delete("ss-1")
    async with client_of(cluster) as client:
        with pytest.raises(StreamDoesNotExist, match="ss-1"):
            await client.super_stream_producer("ss", routing=in_turn)
        assert not client._handles


async def test_i14_a_client_closes_while_a_super_stream_producer_starts() -> None:
    cluster = made()
    async with client_of(cluster) as client:
        hold = cluster.hold(c.DeclarePublisher)
        starting = asyncio.create_task(client.super_stream_producer("ss", routing=in_turn))
        await until(lambda: hold.waiting)
        async with asyncio.timeout(3):
            await client.close()
        with pytest.raises(Closed):
            await starting
    await until(lambda: not cluster.connections())


async def test_an_old_broker_has_super_streams_although_it_cannot_make_them() -> None:
    cluster = FakeCluster(version="3.10.8")
    cluster.create_super_stream("ss", 2)
    async with producing(cluster, routing=in_turn) as (client, producer):
        await producer.send_wait("1")
        with pytest.raises(UnsupportedByBroker):
            await client.create_super_stream("another")
    assert cluster.bodies("ss-1") == [b"1"]


# Routes


async def test_f45_a_route_of_a_starting_broker_is_asked_for_again() -> None:
    cluster = made([("a", "ss-a"), ("b", "ss-b")])
    async with producing(cluster, routing=KeyRouting(text), refresh_s=600) as (_, producer):
        bindings, cluster.super_streams["ss"] = cluster.super_streams["ss"], ()
        sending = asyncio.create_task(producer.send("a"))
        looks = len(cluster.heard(c.Partitions))
        await until(lambda: len(cluster.heard(c.Partitions)) > looks + 1)
        cluster.super_streams["ss"] = bindings
        await (await sending)
    assert cluster.bodies("ss-a") == [b"a"]


async def test_a_route_is_asked_for_once_however_many_want_it() -> None:
    cluster = made([("a", "ss-a"), ("b", "ss-b")])
    async with producing(cluster, routing=KeyRouting(text), refresh_s=600) as (client, producer):
        hold = cluster.hold(c.Route)
        sending = [asyncio.create_task(producer.send("a")) for _ in range(20)]
        await until(lambda: hold.waiting)
        assert (await router_of(client)).details["asking_for"] == 1
        hold.release()
        await asyncio.gather(*sending)
        for _ in range(20):
            await producer.send("a")
        await producer.flush(5)
        assert [route.routing_key for route in cluster.heard(c.Route)] == ["a"]
        assert (await router_of(client)).details["routes"] == 1
    assert cluster.bodies("ss-a") == [b"a"] * 40
    assert not cluster.bodies("ss-b")


async def test_a_route_that_no_broker_tells_is_an_error_of_that_message_alone() -> None:
    cluster = made([("a", "ss-a"), ("b", "ss-b")])
    async with producing(cluster, routing=KeyRouting(text), refresh_s=600) as (_, producer):
        await producer.send_wait("a")
        silent = cluster.drop(c.Route)
        with pytest.raises(RequestTimeout):
            await producer.send("b")
        await producer.send_wait("a")
        silent.cancel()
        await producer.send_wait("b")
        assert (producer.confirmed, producer.failed) == (3, 0)


async def test_f83_a_message_that_waits_for_a_route_has_an_outcome_when_the_router_fails() -> None:
    cluster = made([("a", "ss-a"), ("b", "ss-b")])
    inbox = Inbox()
    async with producing(cluster, 1, routing=KeyRouting(text), refresh_s=600) as (client, producer):
        asked = cluster.hold(c.Route)
        refusing = cluster.respond(c.Partitions, code=15)
        looks = len(cluster.heard(c.Partitions))
        producer.ref.tell(m.RefreshPartitions())
        # The look insists as long as a request for a route does: it gives up first, being well under way before.
        await until(lambda: len(cluster.heard(c.Partitions)) > looks + 6)
        producer.ref.tell(Publish("a", reply_to=inbox, context=1))
        producer.ref.tell(PublishBatch(["a", "b"], reply_to=inbox, context=2))
        await until(lambda: asked.waiting)
        await restarted(client, 1)
        refusing.cancel()
        await until(lambda: len(inbox.told) == 2, 3)
        assert [message.context for message in inbox.told] == [1, 2]
        assert [type(message.error) for message in inbox.told] == [ConnectionLost, ConnectionLost]
        asked.release()
        await asyncio.wait_for(ask(producer.ref, Publish("a")), 5)


@pytest.mark.parametrize("own_thread", [False, True])
async def test_whatever_is_told_while_a_producer_closes_has_an_outcome_or_is_not_taken(own_thread: bool) -> None:
    cluster = made(2)
    inbox, taken = Inbox(), 0
    async with client_of(cluster, own_thread=own_thread, close_timeout_s=0.1) as client:
        producer = await client.super_stream_producer("ss", routing=lambda _, partitions: partitions)
        closing = asyncio.create_task(producer.close())
        with contextlib.suppress(pykka.ActorDeadError):
            while True:
                producer.ref.tell(Publish("m", reply_to=inbox, context=taken))
                taken += 1
                producer.ref.tell(PublishBatch(["m", "m"], reply_to=inbox, context=taken))
                taken += 1
                await asyncio.sleep(0)
        await closing
        await until(lambda: len(inbox.told) >= taken, 2)
    assert Counter(message.context for message in inbox.told) == Counter(range(taken))
    assert all(isinstance(message.error, ActorStreamError | None) for message in inbox.told)


@pytest.mark.parametrize("bodies", ["a text", b"bytes", None, {"a": "b"}])
async def test_what_is_no_batch_is_told_and_ends_nobody(bodies: Any) -> None:
    cluster = made(2)
    inbox = Inbox()
    async with producing(cluster, refresh_s=600) as (client, producer):
        producer.ref.tell(PublishBatch(bodies, reply_to=inbox))
        producer.ref.tell(PublishBatch((body for body in ["m"]), reply_to=inbox))  # type: ignore[arg-type]
        await until(lambda: len(inbox.told) == 2)
        assert [type(message.error) for message in inbox.told] == [InvalidArgument, type(None)]
        assert (await router_of(client)).restarts == 0
        for send in (producer.send_batch, producer.send_sub_entry):
            with pytest.raises(InvalidArgument, match="several messages are a list"):
                await send(bodies)
        assert producer.confirmed == 1
