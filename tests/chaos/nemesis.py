"""The faults. Each says what shows that it happened: one that silently did not would prove nothing (I16).

A fault is injected, held for a while, and healed; all three are synchronous and run in a thread beside the workload.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lab.broker import Broker
from lab.cluster import Cluster
from lab.shell import LabError, wait_until
from tests.chaos import handlers, losses
from tests.chaos.checker import Violation
from tests.chaos.proxy import Condition, Proxies
from tests.chaos.stage import Play, Stage, perform
from tests.chaos.worker import Worker


@dataclass
class Arena:
    """What a fault may touch: brokers, the lines to them, streams, names of connections, and processes.

    What a fault with a workload of its own finds and measures is left here, too; `prefix` begins its names.
    """

    cluster: Cluster
    proxies: Proxies
    streams: Sequence[str]
    connection_names: Sequence[str]
    block_loop: Callable[[float], None]
    rng: random.Random
    workers: Sequence[Worker] = ()
    undo: list[Callable[[], object]] = field(default_factory=list)
    victims: list[int] = field(default_factory=list)
    prefix: str = "chaos"
    found: list[Violation] = field(default_factory=list)
    confirm_s: list[float] = field(default_factory=list)
    delivery_s: list[float] = field(default_factory=list)
    plays: int = 0

    def stream(self) -> str:
        """One of the streams."""
        return self.rng.choice(list(self.streams))

    def leader(self) -> Broker:
        """The node that leads one of the streams."""
        return self.cluster.leader_of(self.stream())

    def replica(self) -> Broker:
        """A node that does not lead it."""
        return self.rng.choice(self.cluster.others(self.leader()))

    def victim(self, node: Broker) -> Broker:
        """The same node, noted down as one that is down for a while."""
        self.victims.append(list(self.cluster.nodes).index(node))
        return node

    def forget(self) -> None:
        """What was found and measured has been taken over."""
        self.found.clear()
        self.confirm_s.clear()
        self.delivery_s.clear()

    def heal(self) -> None:
        """Undo what was done, the last first, and wait until the cluster is complete."""
        while self.undo:
            self.undo.pop()()
        for proxy in self.proxies:
            proxy.set(Condition())
        self.cluster.heal()
        self.victims.clear()


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: as the report calls it.
        inject: does it, and returns the proof in words. What has to be undone is in `Arena.undo`.
        hold_s: how long it lasts, at least and at most.
        limit_s: what its recovery may take at the 99th percentile, once the broker can serve again.
        served: what says when the broker could serve again: a probe; or, where it is a matter of connections alone,
            when the fault was injected (it was a matter of a moment) or healed.
        apart: it has a workload of its own, and measures that; it needs a cluster to which nothing else happens.
    """

    name: str
    inject: Callable[[Arena], str]
    hold_s: tuple[float, float] = (0.5, 2.0)
    limit_s: float = 2.0
    served: Literal["probed", "injected", "healed"] = "probed"
    apart: bool = False


# Nodes ----------------------------------------------------------------------------------------------------------------


def kill_leader(arena: Arena) -> str:
    """SIGKILL to the node that leads a stream."""
    return _kill(arena, arena.leader())


def kill_replica(arena: Arena) -> str:
    """SIGKILL to a node that does not lead it."""
    return _kill(arena, arena.replica())


def _kill(arena: Arena, node: Broker) -> str:
    arena.victim(node).kill()
    arena.undo.append(node.start)
    return f"{node.node} answers no more"


def kill_all(arena: Arena) -> str:
    """SIGKILL to all nodes, one right after the other."""
    for node in arena.cluster:
        arena.victim(node).kill()
        arena.undo.append(node.launch)  # started before any is waited for: they need each other
    return "no node answers"


def rolling_restart(arena: Arena) -> str:
    """Restart the nodes in turn; each has to be back, and all to see each other, before the next one goes."""
    for node in arena.cluster:
        node.restart()
        arena.cluster.wait_ready()
    return f"{len(arena.cluster.nodes)} nodes restarted"


def freeze_leader(arena: Arena) -> str:
    """SIGSTOP to all of the leader's node: connections stay open and silent."""
    node = arena.victim(arena.leader())
    node.pause()
    arena.undo.append(node.unpause)
    return f"{node.node} is silent"


def stop_app(arena: Arena) -> str:
    """Stop the broker within its Erlang node, as an operator does."""
    node = arena.victim(arena.leader())
    node.control("stop_app")
    arena.undo.append(lambda: node.control("start_app"))
    wait_until(lambda: not node.answers(0.5), f"{node.node} has stopped serving", 10.0)
    return f"{node.node} serves no more"


# Networks -------------------------------------------------------------------------------------------------------------


def part_peers(arena: Arena) -> str:
    """Cut the leader's node off from its peers; clients still reach it."""
    node = arena.victim(arena.leader())
    arena.undo.append(arena.cluster.heal)
    arena.cluster.partition(node)
    return f"its peers have given up {node.node}"


def part_client(arena: Arena) -> str:
    """Stall everything between the client and a leader's broker: half-open connections. Its peers still reach it."""
    node = arena.leader()
    proxy = arena.proxies.by_port[node.port]
    connections = proxy.connections()
    if not connections:
        raise LabError(f"nothing is connected to {node.node}")
    proxy.set(Condition(stalled=True))
    arena.undo.append(lambda: proxy.set(Condition()))
    return f"{connections} connections to {node.node} stalled"


def lose_packets(arena: Arena) -> str:
    """Drop every tenth packet that comes to a node."""
    node = arena.leader()
    node.lose_packets(0.1)
    arena.undo.append(node.heal)
    return f"{node.node} drops packets"


def slow_lines(arena: Arena) -> str:
    """Everything takes 20 to 100 milliseconds longer."""
    return _condition(arena, Condition(delay_s=arena.rng.uniform(0.02, 0.1)))


def narrow_lines(arena: Arena) -> str:
    """A hundred kilobytes a second."""
    return _condition(arena, Condition(bytes_per_s=100_000.0))


def trickle(arena: Arena) -> str:
    """Everything arrives in pieces of one byte."""
    return _condition(arena, Condition(piece=1, bytes_per_s=20_000.0))


def _condition(arena: Arena, condition: Condition) -> str:
    before = sum(proxy.delayed for proxy in arena.proxies)
    for proxy in arena.proxies:
        proxy.set(condition)
    wait_until(lambda: sum(proxy.delayed for proxy in arena.proxies) > before, "traffic is delayed", 5.0)
    return f"{sum(proxy.delayed for proxy in arena.proxies) - before} pieces delayed so far"


def reset_connections(arena: Arena) -> str:
    """RST to every connection."""
    cut = sum(proxy.reset_all() for proxy in arena.proxies)
    if not cut:
        raise LabError("there was no connection to reset")
    return f"{cut} connections reset"


def cut_within_a_frame(arena: Arena) -> str:
    """End connections after half of what was on its way."""
    before = sum(proxy.cuts for proxy in arena.proxies)
    for proxy in arena.proxies:
        proxy.cut_within_a_frame()
    wait_until(lambda: sum(proxy.cuts for proxy in arena.proxies) > before, "something was cut", 10.0)
    return f"{sum(proxy.cuts for proxy in arena.proxies) - before} pieces cut in half"


def close_connections(arena: Arena) -> str:
    """The operator closes all connections of the client."""
    management = arena.cluster.nodes[0].management
    return f"{sum(map(management.close_connections, arena.connection_names))} connections closed"


# Streams --------------------------------------------------------------------------------------------------------------


def kill_writer(arena: Arena) -> str:
    """Kill the process that leads a stream; its node goes on."""
    stream = arena.stream()
    arena.cluster.leader_of(stream).kill_stream_leader(stream)
    return f"{stream} has another writer"


def restart_stream(arena: Arena) -> str:
    """Restart all processes of a stream."""
    stream = arena.stream()
    arena.cluster.leader_of(stream).restart_stream(stream)
    return f"{stream} has another writer"


def move_leader(arena: Arena) -> str:
    """Move a stream's leader to another node. The broker takes that for a wish: it is told until it has happened."""
    stream = arena.stream()
    old = arena.cluster.leader_of(stream)
    for new in (*arena.cluster.others(old), *arena.cluster.others(old)):
        old.restart_stream(stream, prefer=new.node)
        now = arena.cluster.leader_of(stream)
        if now is not old:
            return f"{stream} is led by {now.node}, before by {old.node}"
    raise LabError(f"{stream} is still led by {old.node}")


def change_replicas(arena: Arena) -> str:
    """Take a replica of a stream away, and give it back."""
    stream = arena.stream()
    leader = arena.cluster.leader_of(stream)
    replica = arena.rng.choice(arena.cluster.others(leader))
    leader.delete_replica(stream, replica.node)
    arena.undo.append(lambda: _add_replica(arena, stream, replica))
    return f"{stream} has no member on {replica.node}"


def _add_replica(arena: Arena, stream: str, replica: Broker) -> None:
    arena.cluster.leader_of(stream).add_replica(stream, replica.node)
    arena.cluster.wait_stream(stream, within_s=120.0)  # it copies all that there is: a minute, on a busy machine


# Resources and the client itself --------------------------------------------------------------------------------------


def disk_alarm(arena: Arena) -> str:
    """A disk alarm: publishers are not read any more."""
    node = arena.leader()
    node.set_disk_alarm()
    arena.undo.append(node.clear_disk_alarm)
    return "the disk alarm is in effect"


def memory_alarm(arena: Arena) -> str:
    """A memory alarm."""
    node = arena.leader()
    node.set_memory_alarm()
    arena.undo.append(node.clear_memory_alarm)
    return "the memory alarm is in effect"


def block_loop(arena: Arena) -> str:
    """Code of the user's stands on the client's loop, for longer than brokers wait for a heartbeat."""
    begin = time.monotonic()
    seconds = arena.rng.uniform(2.0, 12.0)
    arena.block_loop(seconds)
    stood = time.monotonic() - begin
    if stood < seconds:
        raise LabError(f"the loop stood still for {stood:.1f} s only")
    return f"the loop stood still for {stood:.1f} s"


def kill_pipe(arena: Arena) -> str:
    """SIGKILL to the process that pipes, and start it anew."""
    return arena.workers[0].kill()


def kill_member(arena: Arena) -> str:
    """SIGKILL to a process of the group amid a batch, and start it anew."""
    members = list(arena.workers[1:])
    arena.rng.shuffle(members)
    caught: list[Worker] = []

    def catch() -> bool:
        caught.extend(itertools.islice((one for one in members if one.stopped_amid_a_batch()), 1))
        return bool(caught)

    wait_until(catch, "a process of the group is amid a batch", 15.0, every_s=0.01)
    return caught[0].kill()


# What has a workload of its own ---------------------------------------------------------------------------------------


def _apart(name: str, play: Play, limit_s: float = 2.0) -> Fault:
    """A fault that is a play: the workload beside it must not notice."""

    def inject(arena: Arena) -> str:
        arena.plays += 1
        stage = Stage(arena.cluster, f"{arena.prefix}-apart-{arena.plays}", arena.rng, arena.found)
        proof = perform(play, stage)
        arena.confirm_s += stage.confirm_s
        arena.delivery_s += stage.delivery_s
        return proof

    return Fault(name, inject, (0.0, 0.0), limit_s, served="injected", apart=True)


MEMBER_KILLED = "process of the group killed"
PIPE_KILLED = "process of the pipe killed"
LOOP_BLOCKED = "loop blocked"

FAULTS: tuple[Fault, ...] = (
    Fault("leader's node killed", kill_leader, (1.0, 6.0), limit_s=1.0),
    Fault("replica's node killed", kill_replica, (1.0, 6.0), limit_s=1.0),
    Fault("all nodes killed", kill_all, (0.5, 3.0)),
    Fault("rolling restart", rolling_restart, (0.0, 0.0)),
    Fault("leader's node frozen", freeze_leader, (6.0, 15.0), limit_s=11.0),
    Fault("broker stopped in its node", stop_app, (1.0, 4.0)),
    Fault("node cut off from its peers", part_peers, (1.0, 5.0), limit_s=11.0),
    Fault("client cut off from a node", part_client, (4.0, 14.0), limit_s=11.0, served="healed"),
    Fault("packets lost", lose_packets, (3.0, 6.0), served="healed"),
    Fault("slow lines", slow_lines, (2.0, 5.0), served="healed"),
    Fault("narrow lines", narrow_lines, (2.0, 5.0), served="healed"),
    Fault("one byte at a time", trickle, (1.0, 3.0), served="healed"),
    Fault("connections reset", reset_connections, (0.0, 0.5), limit_s=0.5, served="injected"),
    Fault("cut within a frame", cut_within_a_frame, (0.0, 0.5), limit_s=0.5, served="injected"),
    Fault("connections closed by the operator", close_connections, (0.0, 0.5), limit_s=0.5, served="injected"),
    Fault("stream's leader process killed", kill_writer, (0.0, 1.0), limit_s=1.0),
    Fault("stream restarted", restart_stream, (0.0, 1.0), limit_s=1.0),
    Fault("leader moved", move_leader, (0.0, 1.0), limit_s=1.0),
    Fault("replica taken away and given back", change_replicas, (1.0, 3.0)),
    Fault("disk alarm", disk_alarm, (1.0, 4.0)),
    Fault("memory alarm", memory_alarm, (1.0, 4.0)),
    Fault(PIPE_KILLED, kill_pipe, (0.0, 0.5), served="injected"),
    Fault(MEMBER_KILLED, kill_member, (4.0, 6.0), served="injected"),
    Fault(LOOP_BLOCKED, block_loop, (0.0, 0.0), served="healed"),
    _apart("stream deleted", losses.stream_deleted),
    _apart("stream deleted and made anew", losses.made_anew),
    _apart("stream made anew unseen", losses.made_anew_unseen),
    _apart("permission revoked and given back", losses.permission_revoked),
    _apart("token expired", losses.token_expired, limit_s=6.0),
    _apart("handler raises", handlers.raises),
    _apart("handler hangs", handlers.hangs),
    _apart("handler is slow", handlers.is_slow),
)
