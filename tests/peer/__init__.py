"""A RabbitMQ cluster that is not there: it speaks the server's side of the protocol on a `MemoryNetwork`.

    cluster = FakeCluster(nodes=3)
    cluster.create("s", leader=0, replicas=(1, 2))
    async with connect(cluster.uri, opener=cluster.open) as client: ...

Nothing in it waits or reads a clock: what a frame causes has been done when the loop has turned a few times. It is
never laxer than a broker: whatever costs the connection there costs it here. How it misbehaves is said by
`cluster.script` (command by command), by `Peer` (frames that nobody asked for), and by the network underneath (bytes
and ends).
"""

from tests.peer.cluster import FakeCluster, FakeNode, until
from tests.peer.connection import Peer
from tests.peer.entities import Publisher, Subscription
from tests.peer.script import Exchange, Hold, Rule, Script
from tests.peer.stream import FakeChunk, FakeStream, body_of

__all__ = [
    "Exchange",
    "FakeChunk",
    "FakeCluster",
    "FakeNode",
    "FakeStream",
    "Hold",
    "Peer",
    "Publisher",
    "Rule",
    "Script",
    "Subscription",
    "body_of",
    "until",
]
