"""What happens, as typed values: one source for `client.events()`, the log and metrics.

Every event names the actor it happened to by `path`, such as "root/publishers/orders-1". `title` and `level` (one of
logging's level names) are how the log says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all events."""

    title: ClassVar[str] = "event"
    level: ClassVar[str] = "INFO"

    path: str


# Supervision


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorStarted(Event):
    """An incarnation is up: its `on_start` is done. `generation` counts a place's incarnations from 1."""

    title: ClassVar[str] = "actor started"
    level: ClassVar[str] = "DEBUG"

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorRestarting(Event):
    """An incarnation ended with `reason`, and the next one begins `delay_s` seconds from now.

    `attempt` counts the restarts in a row without a stable period between them, from 1.
    """

    title: ClassVar[str] = "actor restarting"
    level: ClassVar[str] = "WARNING"

    reason: BaseException | None
    attempt: int
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorStopped(Event):
    """An actor ended and is not started again: it was stopped, or it had done what it was for (`reason` is None)."""

    title: ClassVar[str] = "actor stopped"
    level: ClassVar[str] = "DEBUG"

    reason: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorGaveUp(Event):
    """An actor is not started again although it failed: another try would fail too, or it failed too often."""

    title: ClassVar[str] = "actor gave up"
    level: ClassVar[str] = "ERROR"

    reason: BaseException | None


# Connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Event):
    """A connection is open: the handshake with `broker` (host:port) is done."""

    title: ClassVar[str] = "connected"

    broker: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(Event):
    """A connection that was open, or on its way to be, is gone without having been closed by us."""

    title: ClassVar[str] = "disconnected"
    level: ClassVar[str] = "WARNING"

    broker: str
    reason: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsFailed(Event):
    """The provider of credentials or tokens failed. A token is asked for again in `retry_in_s` seconds."""

    title: ClassVar[str] = "credentials failed"
    level: ClassVar[str] = "ERROR"

    reason: BaseException
    retry_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRenewed(Event):
    """An open connection has a new token; nothing on it was interrupted."""

    title: ClassVar[str] = "secret renewed"

    broker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFailed(Event):
    """A broker refused a new token on an open connection, or did not answer.

    The connection goes on with its old token until that expires; where the new one is another user's, or the broker is
    older than 3.13 and cannot renew any, it is replaced at once.
    """

    title: ClassVar[str] = "renewal failed"
    level: ClassVar[str] = "ERROR"

    broker: str
    reason: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSkipped(Event):
    """A well-framed command came that means nothing to us, from a newer broker perhaps; the connection goes on."""

    title: ClassVar[str] = "frame skipped"
    level: ClassVar[str] = "WARNING"

    broker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLoopBlocked(Event):
    """The tree's loop stood still for `seconds`: something blocked it, and heartbeats with it."""

    title: ClassVar[str] = "event loop blocked"
    level: ClassVar[str] = "WARNING"

    seconds: float


# Publishers and subscribers


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved(Event):
    """A publisher or subscriber works on another broker now (host:port each)."""

    title: ClassVar[str] = "moved"

    stream: str
    origin: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFailed(Event):
    """A message that an actor told to publish, without anybody to answer to, was not confirmed."""

    title: ClassVar[str] = "publish failed"
    level: ClassVar[str] = "ERROR"

    stream: str
    reason: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetGap(Event):
    """Offsets from `wanted` up to, but not including, `first` are gone by retention: consuming goes on after them."""

    title: ClassVar[str] = "offset gap"
    level: ClassVar[str] = "ERROR"

    stream: str
    wanted: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTruncated(Event):
    """The stream ends before `wanted`: it was made anew, or lost its tail. Its last chunk begins at `last_chunk_id`."""

    title: ClassVar[str] = "stream truncated"
    level: ClassVar[str] = "ERROR"

    stream: str
    wanted: int
    last_chunk_id: int


# Offsets


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetStored(Event):
    """The offset of a named consumer is stored: whoever goes on under this name begins after it."""

    title: ClassVar[str] = "offset stored"
    level: ClassVar[str] = "DEBUG"

    stream: str
    name: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetNotStored(Event):
    """The offset of a named consumer could not be stored, for the first time in a row: it is tried again."""

    title: ClassVar[str] = "offset not stored"
    level: ClassVar[str] = "WARNING"

    stream: str
    name: str
    reason: BaseException


# Single active consumers


@dataclass(frozen=True, slots=True, kw_only=True)
class SacActivated(Event):
    """This consumer is the active one of its group, and reads from `offset` on (an offset specification)."""

    title: ClassVar[str] = "consumer active"

    stream: str
    group: str
    offset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SacDeactivated(Event):
    """This consumer is not the active one of its group any more; its dispatch stopped before this was told.

    `clean`: the broker asked for it, and what was in hand was finished and stored before the next one could begin.
    Otherwise the connection, the broker's member or the time was lost: what is in hand may be processed twice. `reason`
    says which, and is empty when it is clean.
    """

    title: ClassVar[str] = "consumer inactive"

    stream: str
    group: str
    clean: bool
    reason: str = ""


# Super streams


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionsChanged(Event):
    """A super stream has other partitions than at the last look; `partitions` are all of them, in the broker's order.

    What a producer makes of it is its `on_partitions_changed`.
    """

    title: ClassVar[str] = "partitions changed"
    level: ClassVar[str] = "WARNING"

    super_stream: str
    partitions: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
