"""A real broker, and a real cluster, that are reached through a load balancer or as a resolver says (F15, F16)."""

import asyncio
import time
from dataclasses import replace

import actorstream
from actorstream import Client, Endpoint, events
from lab.broker import Broker
from lab.certificates import Certificates
from lab.cluster import Cluster
from tests.balancer import Balancer
from tests.broker.reading import numbered, numbers, read, take, until, watching
from tests.conftest import Streams


def endpoint(broker: Broker) -> Endpoint:
    return Endpoint(broker.host, broker.port)


async def brokers_of(client: Client, supervisor: str) -> list[str]:
    """Where the publishers, or the subscribers, say that they are."""
    (node,) = [node for node in (await client.tree()).children if node.name == supervisor]
    return [str(child.details["broker"]) for child in node.children]


async def test_f16_everything_goes_through_the_balancer(broker: Broker, stream: Streams) -> None:
    target = stream({})
    async with Balancer([broker]) as balancer:
        async with actorstream.connect(balancer.uri, load_balancer_mode=True) as client:
            producer, consumer = await client.producer(target), await client.consumer(target, "first")
            await (await producer.send_batch(numbered(1000)))
            assert numbers(await take(consumer, 1000)) == list(range(1000))
            assert balancer.connections == 3
            assert await brokers_of(client, "publishers") == [str(endpoint(broker))], "named as it advertises itself"
        await until(lambda: not balancer.connections, "nothing is left open")


async def test_f16_f17_connections_that_the_balancer_cuts_are_made_again_through_it(
    broker: Broker, stream: Streams
) -> None:
    target = stream({})
    async with (
        Balancer([broker]) as balancer,
        actorstream.connect(balancer.uri, load_balancer_mode=True) as client,
        watching(client) as seen,
    ):
        producer, consumer = await client.producer(target, name="n"), await client.consumer(target, "first")
        for round_ in range(4):
            receipt = await producer.send_batch(numbered(500, round_ * 500))
            await balancer.cut()
            await receipt
            assert numbers(await take(consumer, 500)) == list(range(round_ * 500, round_ * 500 + 500))
        assert numbers(await read(client, target)) == list(range(2000))
        assert balancer.connections <= 4, "control, publisher, consumer, and the consumer that has just read"
    assert {event.broker for event in seen if isinstance(event, events.Connected)} == {str(endpoint(broker))}


async def test_f17_heartbeats_keep_a_quiet_connection_open_behind_a_balancer_that_ends_idle_ones(
    broker: Broker, stream: Streams
) -> None:
    target, idle_s = stream({}), 2.0
    options = actorstream.ConnectionOptions(heartbeat_s=int(idle_s / 2), load_balancer_mode=True)
    async with (
        Balancer([broker], idle_s=idle_s) as balancer,
        actorstream.connect(balancer.uri, options=options) as client,
        watching(client) as seen,
    ):
        producer, consumer = await client.producer(target), await client.consumer(target, "first")
        quiet_until = time.monotonic() + 2.5 * idle_s
        await until(lambda: time.monotonic() > quiet_until, "it was quiet for longer than the balancer puts up with")
        assert not [event for event in seen if isinstance(event, events.Disconnected)]
        await producer.send_wait(b"0")
        assert numbers(await take(consumer, 1)) == [0]
        assert len(balancer.accepted) == 3


async def test_f16_f19_through_a_balancer_in_tls(secure: Broker, secure_stream: Streams) -> None:
    """In TLS, brokers advertise the address of their port for TLS."""
    target, behind = secure_stream({}), replace(secure, uri=secure.tls_uri or "")
    async with Balancer([behind]) as balancer:
        uri = balancer.uri.replace("stream:", "stream+tls:")
        async with actorstream.connect(uri, tls_ca=Certificates.authority, load_balancer_mode=True) as client:
            producer, consumer = await client.producer(target), await client.consumer(target, "first")
            await (await producer.send_batch(numbered(100)))
            assert numbers(await take(consumer, 100)) == list(range(100))
            assert await brokers_of(client, "publishers") == [str(endpoint(behind))]
            assert balancer.connections == 3


async def test_f16_the_oldest_broker_says_who_it_is_too(oldest: Broker, oldest_stream: Streams) -> None:
    target = oldest_stream({})
    async with Balancer([oldest]) as balancer, actorstream.connect(balancer.uri, load_balancer_mode=True) as client:
        producer, consumer = await client.producer(target), await client.consumer(target, "first")
        await producer.send_wait(b"0")
        assert numbers(await take(consumer, 1)) == [0]


async def test_f15_a_resolver_leads_data_connections_where_it_says(broker: Broker, stream: Streams) -> None:
    target = stream({})
    asked: list[Endpoint] = []
    async with Balancer([broker]) as tunnel:

        async def resolver(advertised: Endpoint) -> Endpoint:
            asked.append(advertised)
            return Endpoint("localhost", tunnel.port)

        async with actorstream.connect(broker.uri, address_resolver=resolver) as client:
            producer, consumer = await client.producer(target), await client.consumer(target, "first")
            await (await producer.send_batch(numbered(100)))
            assert numbers(await take(consumer, 100)) == list(range(100))
            assert tunnel.connections == 2
            await tunnel.cut()
            await (await producer.send_batch(numbered(100, 100)))
            assert numbers(await take(consumer, 100)) == list(range(100, 200))
    assert set(asked) == {endpoint(broker)}
    assert len(asked) >= 4, "before each attempt, not once"


async def test_f16_in_a_cluster_publishers_get_to_the_leader_and_consumers_to_a_member(
    cluster: Cluster, cluster_stream: Streams
) -> None:
    """Also after the leader's node was killed: the balancer still knows it, and skips it."""
    targets = [cluster_stream() for _ in range(3)]
    for target in targets:
        await asyncio.to_thread(cluster.create_stream, target)
    async with (
        Balancer(cluster.nodes) as balancer,
        actorstream.connect(balancer.uri, load_balancer_mode=True) as client,
    ):
        producers = [await client.producer(target, name="n") for target in targets]
        consumers = [await client.consumer(target, "first") for target in targets]
        leaders = [await asyncio.to_thread(cluster.leader_of, target) for target in targets]
        assert await brokers_of(client, "publishers") == [str(endpoint(leader)) for leader in leaders]

        for producer in producers:
            await (await producer.send_batch(numbered(500)))
        for consumer in consumers:
            assert numbers(await take(consumer, 500)) == list(range(500))

        victim = leaders[0]
        await asyncio.to_thread(victim.kill)
        for producer in producers:
            async with asyncio.timeout(40):
                await (await producer.send_batch(numbered(500, 500)))
        for consumer in consumers:
            assert numbers(await take(consumer, 500, within_s=40)) == list(range(500, 1000))
        new = await asyncio.to_thread(cluster.wait_leader_elsewhere, targets[0], victim)
        assert (await brokers_of(client, "publishers"))[0] == str(endpoint(new))

        async def no_mismatch_is_kept() -> bool:
            kept = sum(
                1 for node in (await client.tree()).children if node.name == "connections" for _ in node.children
            )
            return balancer.connections == kept

        await until(no_mismatch_is_kept, "as many connections as the tree shows")
        assert len(set(balancer.accepted)) == 3
