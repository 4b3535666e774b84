"""What a session tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from actorstream.errors import ActorStreamError, UnknownFrame
from actorstream.wire.commands import (
    ConsumerUpdate,
    CreditResponse,
    Deliver,
    MetadataUpdate,
    PublishConfirm,
    PublishError,
    Request,
    Response,
)
from actorstream.wire.fields import interpreted


@interpreted
@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake is done: requests can be sent."""


@interpreted
@dataclass(frozen=True, slots=True)
class Answered:
    """The broker answered a request, well or not: see the response's `code`."""

    correlation_id: int
    response: Response


@interpreted
@dataclass(frozen=True, slots=True)
class TimedOut:
    """No answer came in time; whether the request was carried out is unknown. A late answer will be ignored (F07)."""

    correlation_id: int
    request: Request
    timeout_s: float


@interpreted
@dataclass(frozen=True, slots=True)
class Received:
    """The broker sent something unasked for; with a correlation id (ConsumerUpdate) it wants `respond`."""

    command: PublishConfirm | Deliver | PublishError | CreditResponse | MetadataUpdate | ConsumerUpdate
    correlation_id: int | None


@interpreted
@dataclass(frozen=True, slots=True)
class Skipped:
    """A whole frame that we do not know, or that no broker sends, was passed over (F64)."""

    error: UnknownFrame


@interpreted
@dataclass(frozen=True, slots=True)
class Ended:
    """The last event, exactly once. All outstanding requests end with it, unanswered, without events of their own.

    `error` is `Closed` after `close`; a `ResponseError` when the broker refused the handshake; `InvalidArgument` when
    an option cannot be put on the wire; and otherwise a `ConnectionLost`: `ConnectFailed` before `Opened`,
    `HeartbeatTimeout`, `ClosedByBroker`, or a plain one, caused by a `MalformedFrame` if the broker spoke nonsense.
    What `data_to_send` still returns should be written; then the socket can be closed.
    """

    error: ActorStreamError


Event = Opened | Answered | TimedOut | Received | Skipped | Ended
