"""Three nodes that know each other: where streams live on them, what parts them, and how they are made well again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.broker import UP_WITHIN_S, Broker
from lab.management import Row
from lab.shell import LabError, say, wait_until

_REJOINS_WITHIN_S = 20.0


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
        witness = next(other for other in self.others(node) if other.answers())
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
        for _ in range(2):
            try:
                # Who is still starting is not restarted for it: on a busy machine that takes longer than to rejoin.
                wait_until(lambda: all(node.answers() for node in self.nodes), "every node serves", UP_WITHIN_S)
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
        # Who cannot be seen may be why others are blind. Several that see nobody have lost what made them a cluster
        # (one was killed while another was cut off): they find it again when they all start from what they know.
        apart = unseen or blind
        for node in apart if len(apart) == 1 else self.nodes:
            say(f"{node.node} stays apart: restarting it")
            node.stop()
        for node in self.nodes:
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
        # Nodes that were parted run, and go on apart, until those who lost are restarted, most often by the broker.
        return any(row["name"] == node.node and row.get("running") and not row.get("partitions") for row in rows)
