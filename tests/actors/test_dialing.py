"""Where to go for a broker: where it says, where a resolver says, or through a load balancer until it is the one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actorstream import Client, Endpoint, connect, errors
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.pool import CONSUMING, PUBLISHING, lease
from actorstream.wire import commands as c
from tests.actors.publishing import find, nodes_below, options
from tests.peer import FakeCluster, Peer, until

pytestmark = pytest.mark.timeout(20)

BALANCER = "rabbitmq-stream://balancer:5552"


def three(**streams: int) -> FakeCluster:
    """Three brokers behind a balancer that takes turns; streams by the node that leads them."""
    cluster = FakeCluster(nodes=3)
    for name, leader in (streams or {"s": 1}).items():
        cluster.create(name, leader=leader)
    cluster.balance("balancer")
    return cluster


@asynccontextmanager
async def balanced(cluster: FakeCluster, **changes: Any) -> AsyncIterator[Client]:
    given = options(load_balancer_mode=True, **changes)
    async with connect(BALANCER, opener=cluster.open, options=given, close_timeout_s=1.0) as client:
        yield client


def with_role(cluster: FakeCluster, role: str) -> list[Peer]:
    return [peer for peer in cluster.connections() if f"-{role}-" in peer.client_properties["connection_name"]]


# Load balancer


async def test_f16_everything_goes_through_the_balancer_and_nothing_else_is_tried() -> None:
    cluster = three()
    async with balanced(cluster) as client:
        producer, consumer = await client.producer("s"), await client.consumer("s", "first")
        await producer.send_wait(b"x")
        assert (await anext(consumer)).body == b"x"
    assert {(attempt.host, attempt.port) for attempt in cluster.network.attempts} == {("balancer", 5552)}


@pytest.mark.parametrize("leader", [0, 1, 2])
async def test_f16_a_publisher_gets_to_the_leader_and_every_mismatch_is_closed(leader: int) -> None:
    cluster = three(s=leader)
    async with balanced(cluster) as client:
        for _ in range(4):
            async with await client.producer("s") as producer:
                await producer.send_wait(b"x")
                (publishing,) = [peer for peer in cluster.connections() if peer.publishers]
                assert publishing.node.number == leader
            for peer in with_role(cluster, "publisher"):
                peer.drop()
        await until(lambda: not with_role(cluster, "publisher"))
    wrong = [peer for peer in cluster.peers if not any(isinstance(one, c.DeclarePublisher) for one in peer.received)]
    assert all(peer.is_closed for peer in wrong)


async def test_f16_a_consumer_takes_any_member_and_says_which() -> None:
    cluster = FakeCluster(nodes=4)
    cluster.create("s", leader=0, replicas=[2])
    cluster.balance("balancer")
    async with balanced(cluster) as client:
        for _ in range(5):
            async with await client.consumer("s", "first"):
                (subscribed,) = [peer for peer in cluster.connections() if peer.subscriptions]
                assert subscribed.node.number in (0, 2)
                (node,) = await find(client, "Subscriber")
                assert node.details["broker"] == f"node-{subscribed.node.number}:5552"
            for peer in with_role(cluster, "consumer"):
                peer.drop()


async def test_f16_a_consumer_that_prefers_the_leader_gets_it() -> None:
    cluster = three(s=2)
    async with balanced(cluster) as client, await client.consumer("s", "first", prefer_leader=True):
        (subscribed,) = [peer for peer in cluster.connections() if peer.subscriptions]
        assert subscribed.node.number == 2


async def test_f16_a_connection_is_shared_by_all_for_whom_its_broker_will_do() -> None:
    cluster = three(a=0, b=1, c=0)
    async with balanced(cluster) as client:
        for stream in ("a", "b", "c"):
            await client.producer(stream)
            await client.consumer(stream, "first")
        assert len(with_role(cluster, "publisher")) == 2
        assert len(with_role(cluster, "consumer")) == 1, "every node has a member of each"


async def test_f16_one_that_leads_elsewhere_is_not_shared_by_those_who_need_another() -> None:
    cluster = FakeCluster(nodes=2)
    cluster.create("here", leader=0, replicas=[])
    cluster.create("there", leader=1, replicas=[])
    cluster.balance("balancer")
    async with balanced(cluster) as client:
        await asyncio.gather(*(client.consumer(stream, "first") for stream in ("here", "there") * 3))
        where = {one.stream.name: peer.node.number for peer in cluster.peers for one in peer.subscriptions.values()}
        assert where == {"here": 0, "there": 1}


async def test_f16_it_goes_on_through_the_balancer_when_a_connection_is_lost_and_the_leader_moves() -> None:
    cluster = three(s=0)
    async with balanced(cluster) as client:
        producer, consumer = await client.producer("s", name="n"), await client.consumer("s", "first")
        for number in range(6):
            await producer.send_wait(b"%d" % number)
            assert (await anext(consumer)).body == b"%d" % number
            if number % 2:
                cluster.move_leader("s", number % 3)
            else:
                for peer in with_role(cluster, "publisher") + with_role(cluster, "consumer"):
                    peer.drop()
    assert {attempt.host for attempt in cluster.network.attempts} == {"balancer"}


async def test_f16_a_broker_that_the_balancer_does_not_know_is_told_by_name_and_tried_again() -> None:
    cluster = three(s=1)
    cluster.node(1).stop(elect=False)
    async with balanced(cluster, rpc_timeout_s=0.3) as client:
        pool = client._grown._pool
        slot = await lease(pool, Endpoint("node-1", 5552), PUBLISHING)
        with pytest.raises(errors.WrongBroker) as raised:
            await call(slot.connection, m.Open())
        assert str(raised.value).startswith("cannot connect to node-1:5552: load balancer: balancer:5552 led to ")
        assert {"node-0:5552", "node-2:5552"} == set(raised.value.found.split(", "))
        assert raised.value.retryable
        attempts = len(cluster.network.attempts)
        assert attempts < 20, "jittered pauses, not a storm"
        cluster.node(1).start()
        slot = await lease(pool, Endpoint("node-1", 5552), CONSUMING)
        assert (await call(slot.connection, m.Open())).endpoint == Endpoint("node-1", 5552)


async def test_f16_a_balancer_that_refuses_is_told_as_it_is() -> None:
    cluster = three()
    cluster.network.refuse("balancer", 5552)
    with pytest.raises(errors.ConnectFailed, match="balancer:5552: connect: Connection refused"):
        await connect(BALANCER, opener=cluster.open, options=options(load_balancer_mode=True))


async def test_f16_of_several_balancers_the_others_are_used_while_one_is_away() -> None:
    cluster = three()
    cluster.balance("second")
    cluster.network.refuse("balancer", 5552)
    uris = [BALANCER, "rabbitmq-stream://second:5552"]
    async with connect(uris, opener=cluster.open, options=options(load_balancer_mode=True)) as client:
        producer = await client.producer("s")
        await producer.send_wait(b"x")


async def test_f16_a_client_that_is_closed_while_it_looks_for_a_broker_leaves_nothing() -> None:
    cluster = three(s=1)
    cluster.node(1).stop(elect=False)
    async with balanced(cluster) as client:
        await lease(client._grown._pool, Endpoint("node-1", 5552), PUBLISHING)
        await until(lambda: len(cluster.peers) > 4)
    await until(lambda: not cluster.connections())


# Address resolver


def behind_tunnels() -> FakeCluster:
    """Brokers that say of themselves what means nothing outside."""
    cluster = FakeCluster(nodes=2)
    cluster.create("s", leader=1)
    for node in cluster.nodes:
        node.advertised = (f"inside-{node.number}", 1234)
    return cluster


@pytest.mark.parametrize("kind", ["plain", "coroutine", "several"])
async def test_f15_a_resolver_says_where_the_brokers_of_the_cluster_are(kind: str) -> None:
    cluster = behind_tunnels()
    asked: list[Endpoint] = []

    def plain(endpoint: Endpoint) -> Endpoint:
        asked.append(endpoint)
        return Endpoint(endpoint.host.replace("inside", "node"), 5552)

    async def coroutine(endpoint: Endpoint) -> Endpoint:
        return plain(endpoint)

    def several(endpoint: Endpoint) -> list[Endpoint]:
        return [Endpoint("nobody", 1), plain(endpoint)]

    resolver: Any = {"plain": plain, "coroutine": coroutine, "several": several}[kind]
    async with connect(cluster.uri, opener=cluster.open, address_resolver=resolver, options=options()) as client:
        producer, consumer = await client.producer("s"), await client.consumer("s", "first")
        await producer.send_wait(b"x")
        assert (await anext(consumer)).body == b"x"
        (publishing,) = [peer for peer in cluster.connections() if peer.publishers]
        assert publishing.node.number == 1
    assert {endpoint.host for endpoint in asked} == {"inside-0", "inside-1"}


async def test_f15_an_error_names_what_is_advertised_and_what_it_was_resolved_to() -> None:
    cluster = behind_tunnels()

    def resolver(_: Endpoint) -> Endpoint:
        return Endpoint("nobody", 1)

    async with connect(cluster.uri, opener=cluster.open, address_resolver=resolver, options=options()) as client:
        slot = await lease(client._grown._pool, Endpoint("inside-1", 1234), PUBLISHING)
        with pytest.raises(errors.ConnectFailed, match="inside-1:1234 by way of nobody:1: connect: Connection refused"):
            await call(slot.connection, m.Open())


async def test_f15_without_a_resolver_the_error_says_what_can_be_done() -> None:
    cluster = behind_tunnels()
    async with connect(cluster.uri, opener=cluster.open, options=options()) as client:
        with pytest.raises(errors.RequestTimeout, match=r"inside-1:1234: connect: .*set advertised_host"):
            await client.producer("s", start_timeout_s=0.3)


@pytest.mark.parametrize("answer", ["node-0:5552", None, [], [Endpoint("node-0", 5552), "x"]])
async def test_f15_a_resolver_that_gives_no_address_ends_the_handle_and_says_so(answer: Any) -> None:
    cluster = behind_tunnels()
    async with connect(
        cluster.uri, opener=cluster.open, address_resolver=lambda _: answer, options=options()
    ) as client:
        with pytest.raises(errors.InvalidArgument, match="the address resolver gives an Endpoint"):
            await client.producer("s")


async def test_f15_a_resolver_that_fails_is_weather_and_told() -> None:
    cluster = behind_tunnels()
    failing = True

    def resolver(endpoint: Endpoint) -> Endpoint:
        if failing:
            raise LookupError("no such service")
        return Endpoint(endpoint.host.replace("inside", "node"), 5552)

    async with connect(cluster.uri, opener=cluster.open, address_resolver=resolver, options=options()) as client:
        starting = asyncio.create_task(client.producer("s"))
        await until(lambda: client._handles)
        reasons: set[str] = set()
        while not any("no such service" in reason for reason in reasons):
            reasons |= {node.last_reason for node in nodes_below(await client.tree())}
            await asyncio.sleep(0.001)
        failing = False
        await starting
