"""Brokers for tests, demo and benchmarks: where they are, and how to break them.

    broker = ensure()       the broker that everybody shares: nobody breaks it
    broker = chaos()        a broker to break, with TLS; `heal()` afterwards, whatever happened
    nodes = cluster()       three nodes to break; likewise
    broker = oldest()       the oldest RabbitMQ that the client is tried with; nobody breaks it
    broker = newest()       the newest

Every method is synchronous (call it through `asyncio.to_thread` from a loop) and returns only once its effect is seen;
where that does not happen in time it raises `LabError`. A fault that silently did not happen would make a test of
recovery pass without recovery.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab import certificates, compose, engine, image
from lab.container import Container
from lab.management import Management, Row
from lab.shell import LabError, say, wait_until

_UP_WITHIN_S = 90.0
_LEADER_WITHIN_S = 15.0
_REJOINS_WITHIN_S = 20.0
_MEMBERS_CHANGE_WITHIN_S = 60.0
_ORDER_HEARD_WITHIN_S = 20.0
_WARM_UP = "lab-warm-up"
_PEER_PROPERTIES = struct.pack(">IHHIi", 12, 0x11, 1, 1, 0)
_PEER_PROPERTIES_ANSWER = 0x8011


@dataclass(frozen=True)
class Broker:
    """One node: `uri` for the client (plain TCP, guest/guest), `management` for its management API.

    `container` is None for a broker that `ACTORSTREAM_TEST_URI` names: it cannot be broken. `tls_uri` is the address
    with TLS, for the brokers that `chaos()` and `secure()` give; `lab.certificates` has the files for it. `amqp_port`
    is where the shared broker speaks AMQP 0-9-1 and 1.0, on the same host.
    """

    uri: str
    management: Management
    container: Container | None = None
    node: str = ""
    tls_uri: str | None = None
    amqp_port: int | None = None

    @property
    def host(self) -> str:
        """The host of `uri`."""
        return urlsplit(self.uri).hostname or "localhost"

    @property
    def port(self) -> int:
        """The port of `uri`."""
        return urlsplit(self.uri).port or 5552

    # Being there

    def answers(self, timeout_s: float = 2.0) -> bool:
        """Whether the stream listener answers the first command of a handshake.

        That a connection is accepted proves nothing: the engine's port forwarder, or the kernel of a frozen container,
        accepts for a broker that is not there.
        """
        try:
            with socket.create_connection((self.host, self.port), timeout=timeout_s) as connection:
                connection.settimeout(timeout_s)
                connection.sendall(_PEER_PROPERTIES)
                answer = connection.recv(8)
        except OSError:
            return False
        return len(answer) == 8 and struct.unpack(">IHH", answer)[1] == _PEER_PROPERTIES_ANSWER

    def ready(self) -> bool:
        """Whether it serves streams and its management API."""
        return self.answers() and bool(self.management.call("GET", "overview"))

    def wait_ready(self, within_s: float = _UP_WITHIN_S) -> None:
        """Wait until `ready`."""
        wait_until(self.ready, f"the broker at {self.uri} is ready", within_s)

    def logs(self, lines: int = 50) -> str:
        """The last lines of its log."""
        return self._container().logs(lines)

    # Faults of the whole broker

    def kill(self) -> None:
        """Kill it (SIGKILL): its connections end, and its port refuses new ones.

        What was declared before survives: a stream that is created and killed within a second could be forgotten, or
        leave its node without a stream coordinator, and that is a matter of the broker's and not of its client's.
        """
        self.flush()
        self._container().kill()
        self._wait_gone()

    def stop(self) -> None:
        """Shut it down in order."""
        self._container().stop()
        self._wait_gone()

    def start(self) -> None:
        """Start it after `kill` or `stop`, with its data; returns when it is ready.

        A stream may take a moment longer to be available: the broker recovers them after it has begun to listen.
        """
        self._container().start()
        self.wait_ready()

    def launch(self) -> None:
        """`start`, without waiting: for nodes that need each other to get ready."""
        self._container().start()

    def restart(self) -> None:
        """`stop`, then `start`."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and silent, new ones are accepted and silent."""
        self._container().pause()
        wait_until(lambda: not self.answers(timeout_s=0.5), "the frozen broker is silent", 10.0)

    def unpause(self) -> None:
        """Undo `pause`; returns when it is ready."""
        self._container().unpause()
        self.wait_ready()

    def cut(self) -> None:
        """Drop every packet between it and everything else, until `heal`: connections stay open and silent."""
        for chain, direction in (("INPUT", "-i"), ("OUTPUT", "-o")):
            self._container().iptables("--insert", chain, "!", direction, "lo", "--jump", "DROP")
        wait_until(lambda: not self.answers(timeout_s=0.5), "the broker that was cut off is silent", 10.0)

    def lose_packets(self, share: float) -> None:
        """Drop this share of the packets that come to it, at random, until `heal`; what is within it is spared."""
        statistic = ("--match", "statistic", "--mode", "random", "--probability", str(share))
        self._container().iptables("--insert", "INPUT", "!", "-i", "lo", *statistic, "--jump", "DROP")
        wait_until(lambda: self._container().dropped_packets() > 0, f"{self.node} has dropped a packet", 10.0)

    def set_disk_alarm(self) -> None:
        """Raise the disk alarm: the broker stops reading from publishers."""
        self.control("set_disk_free_limit", "mem_relative", "100000")
        wait_until(self.management.alarms, "the disk alarm is in effect", 20.0)

    def clear_disk_alarm(self) -> None:
        """End the disk alarm."""
        self.control("set_disk_free_limit", "50MB")
        wait_until(lambda: not self.management.alarms(), "the disk alarm is over", 20.0)

    def set_memory_alarm(self) -> None:
        """Raise the memory alarm: the broker stops reading from publishers."""
        self.control("set_vm_memory_high_watermark", "0.00001")
        wait_until(self.management.alarms, "the memory alarm is in effect", 20.0)

    def clear_memory_alarm(self) -> None:
        """End the memory alarm."""
        self.control("set_vm_memory_high_watermark", "0.4")
        wait_until(lambda: not self.management.alarms(), "the memory alarm is over", 20.0)

    def heal(self) -> None:
        """Undo whatever was done to it: frozen, down, cut off, alarmed. Returns when it is ready."""
        container = self._container()
        if container.paused():
            container.unpause()
        if container.running():
            container.iptables("--flush")
        else:
            container.start()
        self.wait_ready()
        if self.management.alarms():
            self.clear_memory_alarm()

    # Faults of one stream

    def kill_stream_leader(self, stream: str, vhost: str = "/") -> None:
        """Kill the process that writes the stream; returns when another one has taken its place."""
        self.evaluate(
            f"{_WRITER.format(stream=_erlang(stream), vhost=_erlang(vhost))}"
            "Old = Writer(), "
            "exit(Old, kill), "
            "Wait = fun Again(0) -> error(no_new_leader); Again(Left) -> "
            "  case Writer() of Old -> timer:sleep(50), Again(Left - 1); New -> New end end, "
            f"Wait({int(_LEADER_WITHIN_S / 0.05)})."
        )

    def take_stream_leader(self, stream: str, vhost: str = "/") -> None:
        """Kill the process that writes the stream, and let no other one take its place until `let_elect`.

        It is the coordinator of all streams that stands still: others that have a leader go on, but none can be made or
        elect another one. It goes on by itself after a minute, whatever becomes of the test.
        """
        self.evaluate(
            f"{_WRITER.format(stream=_erlang(stream), vhost=_erlang(vhost))}"
            "Coordinator = whereis(rabbit_stream_coordinator), "
            "ok = sys:suspend(Coordinator), "
            "spawn(fun() -> timer:sleep(60000), sys:resume(Coordinator) end), "
            "Old = Writer(), "
            "Dying = monitor(process, Old), "
            "exit(Old, kill), "
            "receive {'DOWN', Dying, process, Old, _} -> ok end."
        )

    def let_elect(self) -> None:
        """Undo `take_stream_leader`: the stream gets a leader again."""
        self.evaluate("ok = sys:resume(whereis(rabbit_stream_coordinator)).")

    def restart_stream(self, stream: str, vhost: str = "/", prefer: str = "") -> None:
        """Restart the stream's processes, with a new election; needs RabbitMQ 3.11.

        `prefer`: the node that is to lead it then.
        """
        before = self.stream_writer(stream, vhost)
        preferred = ("--preferred-leader-node", prefer) if prefer else ()
        self._streams("restart_stream", stream, "--vhost", vhost, *preferred)
        wait_until(lambda: self.stream_writer(stream, vhost) != before, f"{stream} is restarted", _LEADER_WITHIN_S)

    def stream_writer(self, stream: str, vhost: str = "/") -> str:
        """The process that writes the stream, as Erlang shows it; another one after each election."""
        return self.evaluate(f"{_WRITER.format(stream=_erlang(stream), vhost=_erlang(vhost))}Writer().")

    def delete_replica(self, stream: str, node: str) -> None:
        """Take away the stream's member on a node; returns when the broker does not count it any more."""
        self._change_members("delete_replica", stream, node, there=False)

    def add_replica(self, stream: str, node: str) -> None:
        """Give the stream a member on a node; returns when the broker counts it."""
        self._change_members("add_replica", stream, node, there=True)

    def _change_members(self, order: str, stream: str, node: str, *, there: bool) -> None:
        """Order it until it is so: an order that comes while the coordinator is electing may be taken and forgotten."""

        def done() -> bool:
            return (node in self.management.stream(stream)["members"]) == there

        deadline = time.monotonic() + _MEMBERS_CHANGE_WITHIN_S
        while not done():
            self._streams(order, stream, node)
            try:
                wait_until(done, f"{order} of {stream} on {node} has taken effect", _ORDER_HEARD_WITHIN_S)
            except LabError:
                if time.monotonic() > deadline:
                    raise

    def _streams(self, *arguments: str) -> None:
        self._container().exec("rabbitmq-streams", "--quiet", *arguments)

    # The broker's command line

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl inside the container; about a second of CPU each time."""
        return self._container().exec("rabbitmqctl", "--quiet", *arguments)

    def evaluate(self, expression: str) -> str:
        """Evaluate an Erlang expression in the broker."""
        return self.control("eval", expression)

    def flush(self) -> None:
        """Write the broker's tables to disk: the schema, and the register of streams, which it saves lazily."""
        self.evaluate("catch mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()], ok.")

    def _container(self) -> Container:
        if self.container is None:
            raise LabError(f"the broker at {self.uri} is not the lab's own: it cannot be broken")
        return self.container

    def _wait_gone(self) -> None:
        wait_until(lambda: not self.answers(timeout_s=0.5), f"nothing answers at {self.uri}", 10.0)


@dataclass(frozen=True)
class Cluster:
    """Three nodes that know each other, in the order of their names."""

    nodes: Sequence[Broker]

    def __iter__(self) -> Iterator[Broker]:
        """Iterate over the nodes."""
        return iter(self.nodes)

    def create_stream(self, name: str, arguments: Mapping[str, str | int] | None = None) -> None:
        """Create a stream with a member on each node; returns when all of them are online."""
        everywhere = {"initial-cluster-size": len(self.nodes), **(arguments or {})}
        self._any_alive().management.create_stream(name, everywhere)
        self.wait_stream(name)

    def delete_stream(self, name: str) -> bool:
        """Delete a stream; False where there was none."""
        return self._any_alive().management.delete_stream(name)

    def wait_stream(self, name: str, within_s: float = 60.0) -> None:
        """Wait until a member of the stream is online on every node, seen from every node."""

        def complete() -> bool:
            rows = [node.management.stream(name) for node in self.nodes]
            # RabbitMQ 3.10 does not say who is online: there, that every node knows the stream has to do.
            return all(len(row.get("online", self.nodes)) == len(self.nodes) for row in rows)

        wait_until(complete, f"{name} is online on every node", within_s)

    def leader_of(self, stream: str, vhost: str = "/") -> Broker:
        """The node on which the stream's leader runs."""
        row = self._any_alive().management.stream(stream, vhost)
        leader = row.get("leader", row.get("node"))  # RabbitMQ 3.10 says `node` only
        for node in self.nodes:
            if node.node == leader:
                return node
        raise LabError(f"{stream} has no leader at this moment: {leader!r}")

    def wait_leader_elsewhere(self, stream: str, old: Broker, within_s: float = 45.0) -> Broker:
        """Wait until a node other than `old` leads the stream, and return it."""
        wait_until(lambda: self.leader_of(stream) is not old, f"{stream} has a leader besides {old.node}", within_s)
        return self.leader_of(stream)

    def others(self, node: Broker) -> list[Broker]:
        """The nodes besides that one."""
        return [other for other in self.nodes if other is not node]

    def partition(self, node: Broker) -> None:
        """Drop every packet between a node and its peers; clients still reach all three.

        Returns when the peers have given it up, which takes about twice `net_ticktime`.
        """
        for other in self.others(node):
            for address in other._container().addresses():  # noqa: SLF001 - a cluster is made of its brokers
                for chain, direction in (("INPUT", "--source"), ("OUTPUT", "--destination")):
                    node._container().iptables("--insert", chain, direction, address, "--jump", "DROP")  # noqa: SLF001
        witness = self.others(node)[0]
        wait_until(lambda: not self._sees(witness, node), f"{witness.node} has given up {node.node}", 60.0)

    def heal(self) -> None:
        """Undo everything that was done to the nodes; returns when each of them sees all three."""
        for node in self.nodes:  # first all, then the waiting: a node may need its peers to get ready
            container = node._container()  # noqa: SLF001
            if container.paused():
                container.unpause()
            if container.running():
                container.iptables("--flush")
            else:
                container.start()
        for _ in self.nodes:
            try:
                # Who is still starting is not restarted for it: on a busy machine that takes longer than to rejoin.
                wait_until(lambda: all(node.answers() for node in self.nodes), "every node serves", _UP_WITHIN_S)
                return self.wait_ready(_REJOINS_WITHIN_S)
            except LabError:
                self._restart_who_stays_apart()
        return self.wait_ready()

    def _restart_who_stays_apart(self) -> None:
        """Restart nodes that do not get well by themselves.

        One that was frozen or cut off until its peers gave it up may stay apart from them. Another may be seen by its
        peers, and serve streams, while its management API waits for ever for one that is not there any more.
        """
        unseen = [
            node
            for node in self.nodes
            if not any(self._answers_that_it_sees(other, node) for other in self.others(node))
        ]
        blind = [
            node for node in self.nodes if not all(self._answers_that_it_sees(node, other) for other in self.nodes)
        ]
        # Who cannot be seen may be why others are blind; and were all restarted at once, none could tell the others
        # what the cluster is.
        for node in (unseen or blind)[:1]:
            say(f"{node.node} stays apart: restarting it")
            node.stop()
            node.launch()

    def wait_ready(self, within_s: float = 120.0) -> None:
        """Wait until every node serves streams and sees all the others running."""

        def complete() -> bool:
            return all(node.ready() and all(self._sees(node, other) for other in self.nodes) for node in self.nodes)

        wait_until(complete, "the cluster is complete", within_s, every_s=0.3)

    def _any_alive(self) -> Broker:
        for node in self.nodes:
            if node.answers(timeout_s=1.0):
                return node
        raise LabError("no node of the cluster answers")

    def _answers_that_it_sees(self, witness: Broker, node: Broker) -> bool:
        """As `_sees`; a witness that is in trouble itself sees nobody."""
        try:
            return self._sees(witness, node)
        except LabError:
            return False

    @staticmethod
    def _sees(witness: Broker, node: Broker) -> bool:
        rows: list[Row] = witness.management.nodes()
        return any(row["name"] == node.node and row.get("running") for row in rows)


def set_up() -> Broker:
    """Do everything that is missing on this machine, and return the shared broker; what `make up` does.

    Raises:
        LabError: it cannot be done here; the text says what to install.
    """
    if not os.environ.get("ACTORSTREAM_TEST_URI"):
        engine.ensure()
        return ensure(image=image.choose())
    return ensure()


def ensure(*, image: str | None = None) -> Broker:
    """The shared broker, started where it is not running. It is for everybody: do not break it.

    `ACTORSTREAM_TEST_URI` (rabbitmq-stream://user:password@host:port) names an existing one instead, and
    `ACTORSTREAM_TEST_MANAGEMENT` its management API (default: http, the same host, port 15672), and
    `ACTORSTREAM_TEST_AMQP_PORT` its port for AMQP (default: 5672). It needs the plugins rabbitmq_stream and
    rabbitmq_stream_management, and a user with the administrator tag.

    Raises:
        LabError: no engine answers, no image was chosen yet (`make up` does both), or it does not get ready.
    """
    uri = os.environ.get("ACTORSTREAM_TEST_URI")
    if uri:
        return _external(uri)
    return _start("rabbitmq", "STREAM_PORT", "MANAGEMENT_PORT", image)


def chaos(*, image: str | None = None) -> Broker:
    """The broker to break, started or healed where necessary; with TLS and logins by certificate.

    Raises:
        LabError: as `ensure`.
    """
    _need_engine()
    certificates.ensure()
    _unpause("chaos")
    broker = _start("chaos", "CHAOS_STREAM_PORT", "CHAOS_MANAGEMENT_PORT", image)
    broker.heal()
    return broker


def secure(*, image: str | None = None) -> Broker:
    """The broker with TLS and every way to log in: password, certificate, token (`lab.tokens`), anonymous.

    Raises:
        LabError: as `ensure`.
    """
    _need_engine()
    certificates.ensure()
    return _start("secure", "SECURE_STREAM_PORT", "SECURE_MANAGEMENT_PORT", image)


def oldest() -> Broker:
    """A broker of the oldest RabbitMQ that Debian has, 3.10; a minute the first time, when its image is built.

    Raises:
        LabError: no engine answers, no image can be had, or it does not get ready.
    """
    _need_engine()
    return _start("oldest", "OLDEST_STREAM_PORT", "OLDEST_MANAGEMENT_PORT", image.oldest(), "OLDEST_IMAGE")


def newest() -> Broker:
    """A broker of the newest RabbitMQ that Debian has; likewise."""
    _need_engine()
    return _start("newest", "NEWEST_STREAM_PORT", "NEWEST_MANAGEMENT_PORT", image.newest(), "NEWEST_IMAGE")


def cluster(*, image: str | None = None) -> Cluster:
    """The cluster, started or healed where necessary; about half a minute the first time.

    Raises:
        LabError: as `ensure`.
    """
    _need_engine()
    certificates.ensure()  # and with them the key that tokens are verified with
    names = ("node1", "node2", "node3")
    _unpause(*names)
    compose.up(*names, image=image)
    nodes = Cluster([_broker(name, f"{name.upper()}_STREAM_PORT", f"{name.upper()}_MANAGEMENT_PORT") for name in names])
    nodes.heal()
    if _WARM_UP not in nodes.nodes[0].management.streams():
        # The first stream makes the nodes' stream coordinators. Made here, it is not a test's first stream.
        nodes.create_stream(_WARM_UP)
        for node in nodes:
            node.flush()
    return nodes


def _start(
    service: str, stream_port: str, management_port: str, image: str | None, variable: str = "RABBITMQ_IMAGE"
) -> Broker:
    _need_engine()
    compose.up(service, image=image, variable=variable)
    broker = _broker(service, stream_port, management_port)
    try:
        broker.wait_ready()
    except LabError as error:
        raise LabError(f"{error}\n{broker.logs(20)}") from error
    return broker


def _broker(service: str, stream_port: str, management_port: str) -> Broker:
    settings = compose.settings()
    return Broker(
        uri=f"rabbitmq-stream://guest:guest@localhost:{settings[stream_port]}/%2F",
        management=Management(f"http://localhost:{settings[management_port]}"),
        container=Container(compose.container_of(service)),
        node=f"rabbit@{service}",
        tls_uri=f"rabbitmq-stream+tls://guest:guest@localhost:{settings[f'{service.upper()}_TLS_PORT']}/%2F"
        if service in ("chaos", "secure")
        else None,
        amqp_port=int(settings["AMQP_PORT"]) if service == "rabbitmq" else None,
    )


def _external(uri: str) -> Broker:
    parts = urlsplit(uri)
    management = os.environ.get("ACTORSTREAM_TEST_MANAGEMENT", f"http://{parts.hostname}:15672")
    broker = Broker(
        uri,
        Management(management, parts.username or "guest", parts.password or "guest"),
        amqp_port=int(os.environ.get("ACTORSTREAM_TEST_AMQP_PORT", "5672")),
    )
    broker.wait_ready(10.0)
    say(f"using the broker at {broker.host}:{broker.port} (ACTORSTREAM_TEST_URI)")
    return broker


def _need_engine() -> None:
    if not engine.running():
        raise LabError("no container engine answers: run `make up`, or set ACTORSTREAM_TEST_URI")


def _unpause(*services: str) -> None:
    """Wake what an interrupted test left frozen: compose would wait for its health in vain."""
    for service in services:
        identity = compose.compose("ps", "--all", "--quiet", service)
        if identity and Container(identity).paused():
            Container(identity).unpause()


def _erlang(text: str) -> str:
    return f"<<{json.dumps(text, ensure_ascii=False)}/utf8>>"


_WRITER = (
    "Writer = fun() -> "
    "  {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r({vhost}, queue, {stream})), "
    "  #{{leader_pid := Pid}} = amqqueue:get_type_state(Queue), Pid end, "
)
