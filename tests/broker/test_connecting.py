"""Addresses of real brokers: several of them, names with several, and how many connections come of it."""

import asyncio
import time
from urllib.parse import urlsplit

import pytest

import actorstream
from actorstream import Credentials, errors
from lab.broker import Broker
from lab.cluster import Cluster
from tests.broker.reading import connected, until
from tests.conftest import Streams


async def test_any_of_several_uris_leads_to_the_cluster(broker: Broker, stream: Streams) -> None:
    """One that refuses, one whose name does not exist, and one that answers."""
    target = stream({})
    uris = [
        "rabbitmq-stream://guest:guest@127.0.0.1:9/%2F",
        "rabbitmq-stream://guest:guest@no..such.host/%2F",
        broker.uri,
    ]
    async with actorstream.connect(uris) as client:
        producer = await client.producer(target)
        await producer.send_wait(b"x")


async def test_when_no_uri_leads_anywhere_the_error_says_why_and_soon() -> None:
    begin = time.monotonic()
    with pytest.raises(errors.ConnectFailed) as raised:
        await actorstream.connect(["rabbitmq-stream://127.0.0.1:9", "rabbitmq-stream://no..such.host"])
    assert raised.value.step in ("connect", "resolve")
    assert time.monotonic() - begin < 10


async def test_f14_every_address_of_a_name_is_tried_and_the_name_looked_up_each_time(
    broker: Broker, stream: Streams
) -> None:
    """localhost is ::1 and 127.0.0.1 here, and the broker listens on the second of them."""
    target = stream({})
    loop = asyncio.get_running_loop()
    port = urlsplit(broker.uri).port
    looked_up: list[str] = []
    real = loop.getaddrinfo

    async def two_addresses(host: str, *arguments: object, **options: object) -> object:
        looked_up.append(host)
        dead = await real("127.0.0.9", *arguments, **options)  # type: ignore[arg-type]
        return [*dead, *await real("127.0.0.1", *arguments, **options)]  # type: ignore[arg-type]

    loop.getaddrinfo = two_addresses  # type: ignore[method-assign, assignment]
    async with actorstream.connect(f"rabbitmq-stream://localhost:{port}") as client:
        producer = await client.producer(target)
        await producer.send_wait(b"x")
    assert len(looked_up) >= 2


async def test_publishers_and_consumers_never_share_a_connection(broker: Broker, stream: Streams) -> None:
    name, targets = f"apart-{time.time_ns()}", [stream({}) for _ in range(3)]
    async with connected(broker, name) as client:
        for target in targets:
            await client.producer(target)
            await client.consumer(target)
        for role in ("control", "publisher", "consumer"):
            await asyncio.to_thread(broker.management.wait_connections, f"{name}-{role}", 1)


def test_without_asyncio_the_same_options_hold(broker: Broker, stream: Streams) -> None:
    target = stream({})
    with actorstream.blocking.connect(broker.uri, credentials=lambda: Credentials("guest", "guest")) as client:
        with client.producer(target) as producer:
            producer.send_wait(b"x")
        with client.consumer(target, "first", until="end") as consumer:
            assert [message.body for message in consumer] == [b"x"]


async def test_questions_go_over_control_connections_to_two_nodes(cluster: Cluster, cluster_stream: Streams) -> None:
    """The second is there before it is needed: its node answers when the first one's is gone (F09)."""
    target = cluster_stream()
    await asyncio.to_thread(cluster.create_stream, target)
    async with actorstream.connect([node.uri for node in cluster.nodes], name="asking") as client:

        def control(client_tree: actorstream.Node) -> list[str]:
            (node,) = [node for node in client_tree.children if node.name == "connections"]
            return [str(child.details["broker"]) for child in node.children if child.details["role"] == "control"]

        async def two() -> bool:
            return len(control(await client.tree())) == 2

        await until(two, "a second one")
        brokers = control(await client.tree())
        assert len(set(brokers)) == 2
        first = next(node for node in cluster.nodes if f"{node.host}:{node.port}" == brokers[0])
        await asyncio.to_thread(first.kill)
        assert await client.stream_exists(target)
        assert brokers[1] in control(await client.tree())
