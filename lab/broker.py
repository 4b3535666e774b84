"""One broker: where it is, and how to break it.

Every method is synchronous (call it through `asyncio.to_thread` from a loop) and returns only once its effect is seen;
where that does not happen in time it raises `LabError`. A fault that silently did not happen would make a test of
recovery pass without recovery.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.container import Container
from lab.management import Management
from lab.shell import LabError, wait_until

UP_WITHIN_S = 90.0
_LEADER_WITHIN_S = 15.0
_MEMBERS_CHANGE_WITHIN_S = 120.0
_ORDER_HEARD_WITHIN_S = 20.0
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

    def wait_ready(self, within_s: float = UP_WITHIN_S) -> None:
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


def _erlang(text: str) -> str:
    return f"<<{json.dumps(text, ensure_ascii=False)}/utf8>>"


_WRITER = (
    "Writer = fun() -> "
    "  {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r({vhost}, queue, {stream})), "
    "  #{{leader_pid := Pid}} = amqqueue:get_type_state(Queue), Pid end, "
)
