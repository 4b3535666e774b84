"""The lab: a fault that it reports happened."""

import socket
import ssl
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from lab import certificates, compose, engine
from lab.broker import Broker
from lab.cluster import Cluster
from lab.management import NotFound
from lab.shell import LabError, wait_until
from tests.conftest import Streams


@contextmanager
def connection(broker: Broker, name: str) -> Iterator[socket.socket]:
    """A logged-in connection with a client-provided name, by hand: the lab must not need the client that it tests."""
    with socket.create_connection((broker.host, broker.port), timeout=10.0) as stream:
        send(stream, 0x11, 1, struct.pack(">i", 1) + text("connection_name") + text(name))
        receive(stream)
        send(stream, 0x12, 2, b"")
        receive(stream)
        send(stream, 0x13, 3, text("PLAIN") + struct.pack(">i", 12) + b"\0guest\0guest")
        receive(stream)
        tune = receive(stream)
        stream.sendall(struct.pack(">IHH", 12, 0x14, 1) + tune[4:12])
        send(stream, 0x15, 4, text("/"))
        receive(stream)
        yield stream


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def send(stream: socket.socket, key: int, correlation: int, body: bytes) -> None:
    stream.sendall(struct.pack(">IHHI", 8 + len(body), key, 1, correlation) + body)


def receive(stream: socket.socket) -> bytes:
    size = struct.unpack(">I", exactly(stream, 4))[0]
    return exactly(stream, size)


def receive_all(stream: socket.socket) -> None:
    while True:
        receive(stream)


def exactly(stream: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = stream.recv(size - len(received))
        if not part:
            raise EOFError
        received += part
    return received


def test_the_broker_has_streams_and_a_version(broker: Broker, stream: Streams) -> None:
    name = stream({"max-age": "1h"})
    assert broker.management.version() >= (3, 9)
    assert broker.management.stream(name)["arguments"]["x-max-age"] == "1h"
    assert broker.management.delete_stream(name)
    assert not broker.management.delete_stream(name)
    with pytest.raises(NotFound):
        broker.management.stream(name)


def test_connections_are_found_and_closed_by_their_own_name(broker: Broker) -> None:
    name, other = f"lab-{uuid.uuid4().hex}", f"lab-{uuid.uuid4().hex}"
    with connection(broker, name) as victim, connection(broker, other):
        broker.management.wait_connections(name)
        broker.management.wait_connections(other)
        assert broker.management.close_connections(name) == 1
        assert broker.management.connections(name) == []
        assert len(broker.management.connections(other)) == 1
        with pytest.raises((EOFError, ConnectionError)):
            receive_all(victim)


def test_publishers_and_consumers_are_listed_by_stream(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with connection(broker, name) as session:
        send(session, 0x01, 5, struct.pack(">B", 1) + text("reference") + text(name))
        receive(session)
        send(session, 0x07, 6, struct.pack(">B", 2) + text(name) + struct.pack(">HHi", 1, 1, 0))
        receive(session)
        wait_until(lambda: len(broker.management.publishers(name)) == 1, "the publisher shows", 10.0)
        wait_until(lambda: len(broker.management.consumers(name)) == 1, "the consumer shows", 10.0)


def test_users_and_virtual_hosts_are_declared(broker: Broker) -> None:
    name = f"lab-{uuid.uuid4().hex}"
    broker.management.put_vhost(name)
    broker.management.put_user(name, "secret")
    try:
        broker.management.put_permissions(name, vhost=name, write="^$")
        broker.management.create_stream("inside", {}, vhost=name)
        assert broker.management.streams(vhost=name) == ["inside"]
        assert broker.management.call("GET", "permissions", name, name)["write"] == "^$"
    finally:
        broker.management.delete_vhost(name)
        broker.management.delete_user(name)


def test_what_does_not_happen_in_time_is_an_error_that_says_what() -> None:
    with pytest.raises(LabError, match=r"not within 0\.01 s: pigs fly"):
        wait_until(lambda: False, "pigs fly", within_s=0.01, every_s=0.001)


def test_a_broker_that_is_not_the_labs_own_is_never_broken(broker: Broker) -> None:
    with pytest.raises(LabError, match="cannot be broken"):
        Broker(broker.uri, broker.management).kill()


def test_every_port_of_a_checkout_is_another(broker: Broker) -> None:
    ports = [value for name, value in compose.settings().items() if name.endswith("_PORT")]
    assert len(set(ports)) == len(ports)
    assert engine.running() or broker.container is None


def test_a_killed_broker_ends_its_connections_and_comes_back_with_its_streams(
    chaos: Broker, chaos_stream: Streams
) -> None:
    name = chaos_stream({})
    with connection(chaos, "victim") as victim:
        chaos.kill()
        assert not chaos.answers()
        with pytest.raises((EOFError, ConnectionError)):
            receive(victim)
    chaos.start()
    wait_until(lambda: bool(chaos.management.stream(name)), "the stream is back", 10.0)


def test_a_stopped_broker_is_healed(chaos: Broker) -> None:
    chaos.stop()
    assert not chaos.answers()
    chaos.heal()
    assert chaos.answers()


def test_starting_a_broker_that_runs_already_does_nothing(chaos: Broker) -> None:
    container = chaos.container
    assert container is not None
    before = container.started_at()
    chaos.start()
    assert container.started_at() == before


@pytest.mark.parametrize("fault", [Broker.pause, Broker.cut])
def test_a_silent_broker_keeps_its_connections_and_is_healed(chaos: Broker, fault: Callable[[Broker], None]) -> None:
    with connection(chaos, "half-open") as half_open:
        fault(chaos)
        half_open.settimeout(0.5)
        with pytest.raises(TimeoutError):
            receive(half_open)
        assert not chaos.answers(timeout_s=0.5)
        chaos.heal()
        assert chaos.answers()


def test_the_memory_alarm_is_raised_and_cleared(chaos: Broker) -> None:
    chaos.set_memory_alarm()
    assert chaos.management.alarms()
    chaos.clear_memory_alarm()
    assert not chaos.management.alarms()


def test_a_streams_leader_is_killed_and_replaced(chaos: Broker, chaos_stream: Streams) -> None:
    name = chaos_stream({})
    before = chaos.stream_writer(name)
    chaos.kill_stream_leader(name)
    assert chaos.stream_writer(name) != before


def test_a_stream_is_restarted(chaos: Broker, chaos_stream: Streams) -> None:
    if chaos.management.version() < (3, 11):
        pytest.skip("RabbitMQ 3.11 has it first")
    chaos.restart_stream(chaos_stream({}))


def test_tls_is_served_with_a_certificate_of_our_authority(chaos: Broker) -> None:
    files = certificates.ensure()
    context = ssl.create_default_context(cafile=files.authority)
    port = urlsplit(chaos.tls_uri or "").port
    with (
        socket.create_connection((chaos.host, port), timeout=10.0) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        send(secured, 0x11, 1, struct.pack(">i", 0))
        assert receive(secured)[:2] == b"\x80\x11"


def test_a_killed_leader_is_followed_by_another_node_and_healed(cluster: Cluster, cluster_stream: Streams) -> None:
    name = cluster_stream()
    cluster.create_stream(name)
    leader = cluster.leader_of(name)
    leader.kill()
    assert cluster.wait_leader_elsewhere(name, leader) is not leader
    cluster.heal()
    cluster.wait_stream(name)


def test_a_partitioned_node_is_given_up_by_its_peers_and_reached_by_clients(cluster: Cluster) -> None:
    node = cluster.nodes[2]
    cluster.partition(node)
    assert node.answers()
    cluster.heal()
    assert all(other.answers() for other in cluster)


def test_a_cluster_without_a_majority_is_healed(cluster: Cluster, cluster_stream: Streams) -> None:
    """The two that are left are parted from each other: RabbitMQ does not get well of that by itself."""
    name = cluster_stream()
    cluster.create_stream(name)
    cluster.nodes[0].kill()
    cluster.partition(cluster.nodes[1])
    cluster.heal()
    cluster.wait_stream(name)
