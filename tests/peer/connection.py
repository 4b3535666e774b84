"""The server's end of one connection: frames, the handshake, and what ends it (protocol section 2)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from actorstream.errors import ActorStreamError, InvalidArgument, MalformedFrame, UnknownFrame
from actorstream.transport import MemoryLink, MemoryTransport
from actorstream.wire import commands as c
from actorstream.wire.constants import Key, ResponseCode
from actorstream.wire.frames import FrameBuffer
from tests.peer.entities import Publisher, State, Subscription
from tests.peer.handlers import HANDLERS
from tests.peer.script import Exchange
from tests.peer.versions import is_known

if TYPE_CHECKING:
    from tests.peer.cluster import FakeCluster, FakeNode

_PUBLISH: Final = Key.PUBLISH.to_bytes(2, "big")
_ANY_SIZE: Final = 2**31
_INITIAL_FRAME_MAX: Final = 8192


_HANDSHAKE: Final[dict[State, type[c.Command]]] = {
    State.PEER_PROPERTIES: c.PeerProperties,
    State.SASL_HANDSHAKE: c.SaslHandshake,
    State.SASL_AUTHENTICATE: c.SaslAuthenticate,
    State.TUNE: c.Tune,
    State.OPENING: c.Open,
}


@dataclass(eq=False)
class Peer:
    """What a broker knows of one connection. The test may make it say whatever it likes.

    Attributes:
        node: the broker.
        received: every command that arrived on this connection, in order.
        tune: what the client answered to Tune.
    """

    node: FakeNode
    transport: MemoryTransport
    state: State = State.PEER_PROPERTIES
    received: list[c.Command] = field(default_factory=list)
    client_properties: dict[str, str] = field(default_factory=dict)
    mechanism: str = ""
    username: str = ""
    tune: c.Tune | None = None
    deliver_version: int = 1
    publishers: dict[int, Publisher] = field(default_factory=dict)
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    asked_about: set[str] = field(default_factory=set)  # streams whose leader this connection has cached
    updates: dict[int, tuple[Subscription, bool]] = field(default_factory=dict)  # ConsumerUpdates without an answer

    def __post_init__(self) -> None:
        self._frames = FrameBuffer(_ANY_SIZE)
        self._own_requests = itertools.count()

    @property
    def cluster(self) -> FakeCluster:
        return self.node.cluster

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closing

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done and nobody has said Close."""
        return self.state is State.OPEN and not self.is_closed

    @property
    def link(self) -> MemoryLink:
        """The connection underneath, where bytes can be held back, split and cut."""
        return next(link for link in self.cluster.network.links() if link.server is self.transport)

    # --- what a test can make it say ---

    def send(self, command: c.Command, correlation_id: int | None = None) -> None:
        """Send any command."""
        self.send_bytes(c.encode(command, correlation_id))

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes; nothing if the connection is closed."""
        if not self.is_closed and data:
            self.transport.write([data])

    def send_unknown_frame(self, key: int = 0x7F, version: int = 1) -> None:
        """Send a well-framed command that nobody knows."""
        body = key.to_bytes(2, "big") + version.to_bytes(2, "big") + b"from the future"
        self.send_bytes(len(body).to_bytes(4, "big") + body)

    def heartbeat(self) -> None:
        """Send a heartbeat; none is sent by itself."""
        self.send(c.Heartbeat())

    def close(self, code: int = ResponseCode.UNKNOWN_FRAME, reason: str = "unknown frame") -> None:
        """Send Close, and wait for its answer with deaf ears."""
        self.state = State.CLOSING
        self.send(c.Close(code, reason), 1)

    def drop(self) -> None:
        """End the connection without a word: the normal way for a broker. What was said before still arrives."""
        if not self.is_closed:
            self.transport.close()
            self._forget_all()

    # --- the transport's listener ---

    def data_received(self, data: bytes) -> None:
        """Deal with the frames in it, as long as there is a connection."""
        for frame in self._frames.feed(data):
            if self.is_closed:
                return
            self._receive(frame)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        """Nothing of the connection stays."""
        self._forget_all()

    # --- frames ---

    def _receive(self, frame: bytes) -> None:
        if self._is_too_large(len(frame)):
            if self.state is State.OPEN:
                self.close(ResponseCode.FRAME_TOO_LARGE, "frame too large")
            elif self.state is not State.CLOSING:
                self.drop()
            return
        understood = _understand(frame)
        if isinstance(understood, ActorStreamError):
            # A malformed Publish brings the broker's parser down; everything else it understands not to understand.
            malformed_publish = isinstance(understood, MalformedFrame) and frame[:2] == _PUBLISH
            self.refuse(in_words=not malformed_publish)
            return
        command, correlation_id = understood
        self.received.append(command)
        if self.state is State.CLOSING:
            if isinstance(command, c.CloseResponse):
                self.drop()
        elif self._is_expected(command):
            exchange = Exchange(self, command, correlation_id)
            if not self.cluster.script.arriving(exchange):
                self.carry_out(exchange)
        else:
            self.refuse()

    def carry_out(self, exchange: Exchange) -> None:
        """Do what a command says, and answer."""
        HANDLERS[type(exchange.command)](exchange, exchange.command)

    def refuse(self, *, in_words: bool = True) -> None:
        """What happens to a frame that is not understood or not expected: Close, or during the handshake a drop."""
        if self.state is State.OPEN and in_words:
            self.close()
        elif self.state is not State.CLOSING:
            self.drop()

    def _is_too_large(self, size: int) -> bool:
        version = self.cluster.version_numbers
        limit = self.tune.frame_max if self.tune is not None else self.cluster.tune.frame_max
        if version >= (4, 3, 5) and self.state is not State.OPEN:
            return size > min(_INITIAL_FRAME_MAX, limit or _INITIAL_FRAME_MAX)
        return version >= (4, 2, 6) and limit != 0 and size > limit

    def _is_expected(self, command: c.Command) -> bool:
        if self.state is State.OPEN:
            return is_known(command, self.cluster.version_numbers)
        if isinstance(command, (c.Heartbeat, c.Close)):
            return False
        # Whoever speaks before our last answer has reached it cannot have waited for it.
        return isinstance(command, _HANDSHAKE[self.state]) and self.transport.buffered() == 0

    # --- streams and groups ---

    def update_consumer(self, subscription: Subscription, active: bool) -> None:
        """Make a single active consumer active or not; it has to answer."""
        correlation_id = next(self._own_requests)
        self.updates[correlation_id] = (subscription, active)
        self.send(c.ConsumerUpdate(subscription.id, active), correlation_id)

    def lose_stream(self, name: str) -> None:
        """A member of the stream went down: what depended on it is gone, and the client is told (section 5)."""
        publishers = [one.id for one in self.publishers.values() if one.stream == name]
        subscriptions = [one for one in self.subscriptions.values() if one.stream.name == name]
        if not (publishers or subscriptions or name in self.asked_about):
            return
        for publisher_id in publishers:
            del self.publishers[publisher_id]
        for subscription in subscriptions:
            self.unsubscribe(subscription)
        self.asked_about.discard(name)
        self.metadata_update(name)

    def metadata_update(self, stream: str, code: int = ResponseCode.STREAM_NOT_AVAILABLE) -> None:
        """Send a MetadataUpdate and nothing else."""
        self.send(c.MetadataUpdate(code, stream))

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription; the next of its group takes over."""
        del self.subscriptions[subscription.id]
        subscription.position = None
        if subscription.group is not None:
            subscription.group.leave(subscription)

    def _forget_all(self) -> None:
        self.node.peers = [peer for peer in self.node.peers if peer is not self]
        self.publishers.clear()
        for subscription in list(self.subscriptions.values()):
            self.unsubscribe(subscription)


def _understand(frame: bytes) -> tuple[c.Command, int | None] | ActorStreamError:
    """The command in a frame, if it is said exactly as brokers want it."""
    try:
        command, correlation_id = c.decode(frame)
        if c.encode(command, correlation_id)[4:] == frame:
            return command, correlation_id
    except (UnknownFrame, MalformedFrame, InvalidArgument) as error:
        return error
    # Such as a null string: our decoder puts up with it, since old brokers may send it; none accepts it.
    return MalformedFrame("not as a client should say it")
