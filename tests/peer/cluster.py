"""The fake cluster: nodes, streams on them, and what a test can do to them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from actorstream.transport import MemoryNetwork, MemoryTransport
from actorstream.wire import commands as c
from actorstream.wire.capabilities import parse_version
from actorstream.wire.commands import SubBatch
from tests.peer.connection import Peer
from tests.peer.sac import SacGroup
from tests.peer.script import Script
from tests.peer.stream import FakeChunk, FakeStream, body_of, data_section

C = TypeVar("C", bound=c.Command)

PORT: Final = 5552
START_MS: Final = 1_700_000_000_000


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until a condition holds; it is looked at again and again, each turn of the loop at first.

    Raises:
        TimeoutError: it did not come to hold.
    """
    deadline = time.monotonic() + timeout_s
    for turn in itertools.count():
        if condition():
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s")
        await asyncio.sleep(0 if turn < 1000 else 0.001)  # the client may live on a loop in another thread


class FakeNode:
    """One broker. `advertised` is the address that it tells clients, at first its own."""

    def __init__(self, cluster: FakeCluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.host = f"node-{number}"
        self.port = PORT
        self.advertised = (self.host, self.port)
        self.running = True
        self.peers: list[Peer] = []
        cluster.network.listen(self.host, self.port, self.accept)

    def accept(self, transport: MemoryTransport) -> Peer:
        """A connection, from wherever it came."""
        peer = Peer(self, transport)
        self.peers.append(peer)
        self.cluster.peers.append(peer)
        return peer

    def stop(self, *, elect: bool = True) -> None:
        """Take the node down: connections end, and the streams it led go to others, unless `elect` is false."""
        self.running = False
        self.cluster.network.refuse(self.host, self.port)
        for peer in list(self.peers):
            peer.drop()
        for stream in self.cluster.streams.values():
            if stream.leader == self.number:
                self.cluster.move_leader(stream.name, self.cluster.candidate(stream) if elect else None)

    def start(self) -> None:
        """Bring the node back; streams without leader get one if most of their members are there."""
        self.running = True
        self.cluster.network.listen(self.host, self.port, self.accept)
        for stream in self.cluster.streams.values():
            if stream.leader is None and (candidate := self.cluster.candidate(stream)) is not None:
                self.cluster.move_leader(stream.name, candidate)

    def freeze(self) -> None:
        """Pause the process: connections open and stay, and nothing answers."""
        self.cluster.network.freeze(self.host, self.port)

    def thaw(self) -> None:
        """Let the process run on."""
        self.cluster.network.thaw(self.host, self.port)

    def cut_off(self) -> None:
        """Let packets to and from it vanish."""
        self.cluster.network.cut_off(self.host, self.port)

    def restore(self) -> None:
        """Let packets through again."""
        self.cluster.network.restore(self.host, self.port)


class FakeCluster:
    """Brokers on a network of their own. Whatever is an attribute here may be changed at any time.

    Attributes:
        network: where the nodes listen.
        script: how commands are mistreated.
        users: passwords by name.
        tune: what brokers propose.
        now_ms: the brokers' clock, for new chunks. It stands still.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        version: str = "4.0.5",
        mechanisms: Sequence[str] = ("AMQPLAIN", "PLAIN", "ANONYMOUS"),
        frame_max: int = 1_048_576,
        heartbeat_s: int = 60,
        users: Mapping[str, str] | None = None,
        vhosts: Iterable[str] = ("/",),
    ) -> None:
        self.network = MemoryNetwork()
        self.script = Script()
        self.version = version
        self.mechanisms = tuple(mechanisms)
        self.tune = c.Tune(frame_max, heartbeat_s)
        self.users = dict(users or {"guest": "guest"})
        self.vhosts = set(vhosts)
        self.now_ms = START_MS
        self.streams: dict[str, FakeStream] = {}
        self.super_streams: dict[str, tuple[tuple[str, str], ...]] = {}  # binding keys and partitions
        self.groups: dict[tuple[str, str], SacGroup] = {}
        self.peers: list[Peer] = []  # of all times
        self.nodes = [FakeNode(self, number) for number in range(nodes)]
        self.hold, self.drop, self.respond = self.script.hold, self.script.drop, self.script.respond
        self.open = self.network.open

    @property
    def version_numbers(self) -> tuple[int, ...]:
        return parse_version(self.version)

    @property
    def uri(self) -> str:
        """The address of the first node."""
        return self.uris[0]

    @property
    def uris(self) -> list[str]:
        """The address of each node."""
        return [f"rabbitmq-stream://{node.host}:{node.port}" for node in self.nodes]

    def node(self, number: int) -> FakeNode:
        """A node by its number."""
        return self.nodes[number]

    def balance(self, host: str, port: int = PORT) -> None:
        """Put a load balancer at this address, which gives connections to one running node after the other."""
        turn = itertools.count()

        def accept(transport: MemoryTransport) -> Peer:
            running = [node for node in self.nodes if node.running]
            return running[next(turn) % len(running)].accept(transport)

        self.network.listen(host, port, accept)

    # --- streams ---

    def create(
        self,
        name: str,
        *,
        leader: int = 0,
        replicas: Iterable[int] | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> FakeStream:
        """Make a stream; by default every node that does not lead it has a replica."""
        others = [node.number for node in self.nodes if node.number != leader] if replicas is None else replicas
        assert name not in self.streams, f"{name} exists"
        self.streams[name] = FakeStream(name, (leader, *others), leader, dict(arguments or {}))
        return self.streams[name]

    def create_super_stream(self, name: str, bindings: int | Iterable[tuple[str, str]]) -> None:
        """Make a super stream of so many partitions with the usual names, or of binding keys and their partitions."""
        if isinstance(bindings, int):
            bindings = [(str(index), f"{name}-{index}") for index in range(bindings)]
        self.super_streams[name] = tuple(bindings)
        for index, (_, partition) in enumerate(self.super_streams[name]):
            self.create(partition, leader=index % len(self.nodes))

    def delete(self, name: str) -> None:
        """Delete a stream; whoever uses it is told."""
        del self.streams[name]
        self.lose(name)

    def recreate(self, name: str) -> FakeStream:
        """Delete a stream and make it anew, empty, in the same place."""
        old = self.streams.pop(name)
        new = self.create(name, leader=old.members[0], replicas=old.members[1:], arguments=old.arguments)
        self.lose(name)
        return new

    def stream(self, name: str) -> FakeStream:
        """A stream by its name."""
        return self.streams[name]

    def move_leader(self, name: str, to: int | None) -> None:
        """Let another member lead, or none; all members restart with it, so everybody who uses the stream is told."""
        stream = self.streams[name]
        assert to is None or (to in stream.members and self.nodes[to].running), f"node {to} cannot lead {name}"
        stream.leader = to
        stream.epoch += to is not None
        self.lose(name)

    def candidate(self, stream: FakeStream) -> int | None:
        """Who can lead a stream: its first member that runs, if most of them do."""
        running = [member for member in stream.members if self.nodes[member].running]
        return running[0] if 2 * len(running) > len(stream.members) else None

    def lose(self, name: str) -> None:
        """End what depends on a stream's members, and tell whom it concerns."""
        for key in [key for key in self.groups if key[0] == name]:
            self.groups.pop(key).dissolve()
        for peer in self.connections():
            peer.lose_stream(name)

    def publish(
        self,
        name: str,
        bodies: Iterable[bytes],
        *,
        filter_value: str | None = None,
        timestamp_ms: int | None = None,
    ) -> FakeChunk:
        """Write one chunk of messages with these bodies, as if somebody else had published them."""
        return self.publish_records(
            name, [data_section(body) for body in bodies], filter_values=(filter_value,), timestamp_ms=timestamp_ms
        )

    def publish_records(
        self,
        name: str,
        records: Iterable[bytes | SubBatch],
        *,
        filter_values: Iterable[str | None] = (None,),
        timestamp_ms: int | None = None,
    ) -> FakeChunk:
        """Write one chunk of these records, and deliver it."""
        stream = self.streams[name]
        chunk = stream.append(records, self.now_ms if timestamp_ms is None else timestamp_ms, filter_values)
        self.deliver(stream)
        return chunk

    def gap(self, name: str) -> None:
        """Let an offset be taken by a chunk of the broker's own."""
        self.streams[name].append_tracking(self.now_ms)

    def corrupt(self, name: str, times: int = 1) -> None:
        """Break the CRC of the next chunks delivered from a stream; the log stays whole."""
        self.streams[name].corrupt_deliveries += times

    def deliver(self, stream: FakeStream) -> None:
        """Send what subscriptions of a stream have credit for."""
        for peer in self.connections():
            for subscription in list(peer.subscriptions.values()):
                if subscription.stream is stream:
                    subscription.pump()

    def log(self, name: str) -> list[tuple[int, bytes]]:
        """Offset and record of every message stored."""
        return self.streams[name].records()

    def bodies(self, name: str) -> list[bytes]:
        """The body of every message stored, each a single data section."""
        return [body_of(record) for _, record in self.log(name)]

    # --- connections ---

    def connections(self, node: int | None = None) -> list[Peer]:
        """The connections that are there now, oldest first."""
        return [peer for peer in self.peers if not peer.is_closed and node in (None, peer.node.number)]

    def heard(self, kind: type[C], *, node: int | None = None) -> list[C]:
        """Every command of a kind that a client has ever sent, connection by connection."""
        peers = [peer for peer in self.peers if node in (None, peer.node.number)]
        return [command for peer in peers for command in peer.received if isinstance(command, kind)]
