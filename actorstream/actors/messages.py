"""The messages that actors exchange, grouped by receiver. Frozen: a message belongs to nobody once it is sent.

An `attachment` names one tie between an entity (publisher or subscriber) and one connection. It is never used again,
so that an entity drops what an older tie still has to say (F10, F11, F61).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pykka

from actorstream.offset import OffsetSpecification
from actorstream.options import Endpoint
from actorstream.wire import commands as wire
from actorstream.wire.capabilities import Feature, unsupported
from actorstream.wire.chunk import Chunk

Ref = pykka.ActorRef[Any]

# To the Locator -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reach:
    """Ask: try every known broker once. -> `Negotiated` of the first that answers; raises why none does."""


@dataclass(frozen=True, slots=True)
class WhereIs:
    """Ask: the members of a stream, as soon as it has a leader that is worth going to. -> `Members`.

    Raises StreamDoesNotExist; and, when that takes long, why, for the one who asks to ask again.

    `any_member`: one that is not the leader will do, too. `other_than`: the leader that is known, and may be lost.
    """

    stream: str
    any_member: bool = False
    other_than: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """Where the members of a stream were when the answer was given. `replicas` may be empty.

    `away`: other members that could not be reached a moment ago.
    """

    leader: Endpoint
    replicas: tuple[Endpoint, ...]
    away: tuple[Endpoint, ...] = ()

    @property
    def everyone(self) -> frozenset[Endpoint]:
        """All members."""
        return frozenset({self.leader, *self.replicas, *self.away})


@dataclass(frozen=True, slots=True)
class IsLedElsewhere:
    """Ask: whether most of a stream's members name another leader than this one. -> bool."""

    stream: str
    leader: Endpoint
    members: Members


@dataclass(frozen=True, slots=True)
class Metadata:
    """Ask: what the brokers say of some streams at this moment. -> dict of stream name to `StreamState`."""

    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream in a metadata answer: response code 1 and members, or another code."""

    code: int
    leader: Endpoint | None
    replicas: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Administer:
    """Ask: carry a request out on some control connection. -> its response, whose code was checked.

    `repeatable`: it may be sent again when its connection is lost before the answer.
    """

    command: wire.Request
    repeatable: bool


@dataclass(frozen=True, slots=True)
class StoreOffset:
    """Tell or ask: hand a StoreOffset to a broker. The broker never answers one."""

    reference: str
    stream: str
    offset: int


# To the Pool ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """Ask: a place for one more entity on a connection to a broker. -> `Slot`, at once; it may still be connecting."""

    endpoint: Endpoint
    role: str
    alternatives: tuple[Endpoint, ...] | None = ()
    """Brokers that will do as well; None: any. Used behind a load balancer only, where it is not for us to choose."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Tell: somebody will probably lease a place there in a moment; a connection that nobody comes to is closed."""

    endpoint: Endpoint
    role: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A place on a connection: an id that is used by nobody else there. `entity_id` is -1 on control connections.

    `endpoint` is the broker that was asked for. Who it is in the end, `Negotiated` tells.
    """

    connection: Ref
    name: str
    endpoint: Endpoint
    role: str
    entity_id: int


@dataclass(frozen=True, slots=True)
class Release:
    """Tell: a slot is not used any more, and the broker knows."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Retire:
    """Tell: put no new entity on this connection; close it when the last one has left."""

    name: str


@dataclass(frozen=True, slots=True)
class LostCredit:
    """Tell: so many entries were sent on this connection and will never be confirmed there.

    The broker does not give their credit back, and stops reading a connection that has lost too much of it (W5).
    """

    name: str
    entries: int


@dataclass(frozen=True, slots=True)
class ConnectionUp:
    """Tell: a connection is open (from itself), and to which broker."""

    name: str
    endpoint: Endpoint


# To a Connection ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Open:
    """Ask: wait until the connection is open. -> `Negotiated`."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a connection settled with its broker, and what that broker can do.

    Of this one connection: in a cluster that is being upgraded, the next broker may be an older one.
    """

    endpoint: Endpoint
    frame_max: int
    heartbeat_s: int
    broker_version: str
    features: frozenset[Feature]
    advertised: Endpoint | None

    def supports(self, feature: Feature) -> bool:
        """Whether the broker has a feature."""
        return feature in self.features

    def require(self, feature: Feature) -> None:
        """Raise `UnsupportedByBroker`, which names the first version that has it, unless the broker has a feature."""
        if feature not in self.features:
            raise unsupported(feature, self.broker_version)


@dataclass(frozen=True, slots=True)
class Request:
    """Ask: send a command and wait for its answer. -> the response, whatever its code."""

    command: wire.Request


@dataclass(frozen=True, slots=True)
class SendCommand:
    """Tell: send a command that has no answer."""

    command: wire.Command


@dataclass(frozen=True, slots=True)
class SendFrames:
    """Tell: send frames as they are."""

    frames: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class AttachPublisher:
    """Ask: declare a publisher. -> how its frames are written, on this loop; raises the broker's refusal.

    What comes with every batch takes no message: ids that the broker confirmed go to `confirmed`, whole frames to what
    the answer gives, which raises `ConnectionLost` once the connection has ended. All else is told to `ref`.
    """

    slot: Slot
    attachment: int
    ref: Ref
    stream: str
    reference: str
    confirmed: Callable[[Sequence[int]], object]


@dataclass(frozen=True, slots=True)
class AttachSubscriber:
    """Ask: subscribe. -> how commands are sent, on this loop; raises the broker's refusal.

    As for a publisher: chunks go to `delivered`, without a message.
    """

    slot: Slot
    attachment: int
    ref: Ref
    stream: str
    offset: OffsetSpecification
    credit: int
    delivered: Callable[[Delivered | ChunkBroken], object]
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerConsumerUpdate:
    """Tell: answer a `ConsumerUpdated`. It is sent once, whoever answers first; what comes later changes nothing."""

    attachment: int
    correlation_id: int
    offset: OffsetSpecification


@dataclass(frozen=True, slots=True)
class Detach:
    """Tell or ask: end an attachment; the slot is given back once the broker has answered."""

    attachment: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Tell: a new secret for a connection that is open, or on its way (from the CredentialsKeeper)."""

    identity: Identity


# To the CredentialsKeeper ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WhoLogsIn:
    """Ask, before each attempt: with what to log in. -> `Identity`. Raises CredentialsUnavailable."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a connection logs in with. `version` counts the tokens of a client; it is 0 for all else."""

    mechanism: str
    username: str = ""
    password: str = field(default="", repr=False)
    version: int = 0


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Tell: a connection is open, and wants to hear of newer tokens than this one (from itself)."""

    connection: Ref
    version: int


@dataclass(frozen=True, slots=True)
class SecretRefused:
    """Tell: a broker does not take this token, in a log-in or a renewal: it is not to be used again."""

    version: int


# To a Publisher -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flush:
    """Tell: the outbox has something to send."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Tell: the broker refused these (publishing id, code)."""

    attachment: int
    failures: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class CheckDeadlines:
    """Tell (from its own timer): settle what has passed its deadline."""


@dataclass(frozen=True, slots=True)
class CheckFence:
    """Ask: compare the broker's publishing sequence with what was sent. -> None; raises PublisherFenced.

    Without a connection, or an answer, there is nothing to compare, and nothing is raised.
    """


# To a Subscriber ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivered:
    """Handed over at once, or told to a member of a group: a chunk arrived."""

    attachment: int
    chunk: Chunk
    committed_chunk_id: int | None


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """Tell (from a handle on another loop): a chunk of this attachment is done; its credit may go back."""

    attachment: int


@dataclass(frozen=True, slots=True)
class ChunkBroken:
    """Tell (from the handle, or from the connection): a chunk could not be decoded; -1 if not even its header could."""

    attachment: int
    chunk_id: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Seek:
    """Ask (from the handle): go on from here, and give up the place that the consumer has. -> None.

    Once it is answered, the cursor has a new progress; what is under way belongs to the old one.
    """

    specification: OffsetSpecification


@dataclass(frozen=True, slots=True)
class Pause:
    """Tell: return no credit until `Resume`."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Tell: return credit again."""


@dataclass(frozen=True, slots=True)
class CreditRefused:
    """Tell: the broker answered a credit with a code."""

    attachment: int
    code: int


@dataclass(frozen=True, slots=True)
class ConsumerUpdated:
    """Tell: the broker made this single active consumer active, or not any more. It has to be answered."""

    connection: Ref
    attachment: int
    correlation_id: int
    active: bool


@dataclass(frozen=True, slots=True)
class BeginActive:
    """Ask (from the coordinator): read from here on, and answer the broker. -> the specification it was answered with.

    `start` None: where the consumer was meant to begin. Nothing happens when the epoch is over meanwhile: -> None.
    """

    epoch: int
    start: OffsetSpecification | None


@dataclass(frozen=True, slots=True)
class LeaveGroup:
    """Tell (from the coordinator): this activation cannot be carried out; end with this reason, so that others can."""

    epoch: int
    reason: Exception


# To a SacCoordinator --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """Tell (from a subscriber): the broker gave the consumer of this stream another role, in this epoch."""

    subscriber: Ref
    stream: str
    epoch: int


@dataclass(frozen=True, slots=True)
class MembershipLost:
    """Tell (from a subscriber): its subscription is gone, and the role with it."""

    stream: str
    was_active: bool
    reason: BaseException | None


# To an OffsetTracker ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartingOffset:
    """Ask: where the consumer starts: after what is stored, else where its user said. -> `OffsetSpecification`.

    Waits for as long as the store does not answer. From here on, the tracker stores.
    """


@dataclass(frozen=True, slots=True)
class StoreCompleted:
    """Tell (from the handle): as many messages were completed as the policy says; store how far that is."""


@dataclass(frozen=True, slots=True)
class StoreThis:
    """Ask (from the handle): store this offset, if it is newer than what is stored. -> None, once it was sent."""

    offset: int


@dataclass(frozen=True, slots=True)
class FlushOffsets:
    """Ask: store the last completed offset, and make sure of it. -> what is stored, None if that is nothing.

    Raises OffsetStoreFailed when that takes longer than `within_s`. `rest`: afterwards store nothing more, whatever
    is completed, until the next `StartingOffset`.
    """

    within_s: float
    rest: bool = False


@dataclass(frozen=True, slots=True)
class StoredNow:
    """Ask: the offset that the store holds at this moment. -> an offset, or None."""


@dataclass(frozen=True, slots=True)
class CheckTracking:
    """Tell (from its own timer): store what is due, and look whether the last one arrived."""


# To a SuperStreamRouter ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """Ask: the partitions that are bound with a key. -> tuple of names, which may be empty."""

    key: str


@dataclass(frozen=True, slots=True)
class RefreshPartitions:
    """Tell: look at the partitions now, and not only when it is time again."""


# To a Publisher or a Subscriber ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopologyChanged:
    """Tell: the member behind this attachment is gone (MetadataUpdate); so is the entity on that connection."""

    attachment: int
    stream: str
    code: int
