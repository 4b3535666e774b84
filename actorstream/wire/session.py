"""One connection to a broker as a state machine: bytes and the time go in, events and bytes come out.

It never waits and reads no clock: every call takes `now`, seconds of any clock that never goes back. Whoever owns the
socket calls `receive_data` and `receive_eof` for what arrives, `tick` when `deadline` has come, and after every call
writes what `data_to_send` returns. Not thread-safe: one owner.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

from actorstream.errors import (
    ActorStreamError,
    Closed,
    ClosedByBroker,
    ConnectFailed,
    ConnectionLost,
    HeartbeatTimeout,
    InvalidArgument,
    MalformedFrame,
    UnknownFrame,
)
from actorstream.wire.capabilities import Feature
from actorstream.wire.commands import (
    Close,
    CloseResponse,
    Command,
    ConsumerUpdate,
    CreditResponse,
    Deliver,
    Heartbeat,
    MetadataUpdate,
    PublishConfirm,
    PublishError,
    Request,
    Response,
    decode,
    encode,
)
from actorstream.wire.constants import HANDSHAKE_FRAME_LIMIT, OPEN_FRAME_LIMIT, ResponseCode
from actorstream.wire.events import Answered, Ended, Event, Opened, Received, Skipped, TimedOut
from actorstream.wire.frames import FrameBuffer
from actorstream.wire.handshake import Handshake, SessionOptions
from actorstream.wire.requests import RequestLedger

__all__ = [
    "Answered",
    "Ended",
    "Event",
    "Feature",
    "Opened",
    "Received",
    "Session",
    "SessionOptions",
    "Skipped",
    "State",
    "TimedOut",
]

_SIZE_BYTES: Final = 4
_TLS_ALERT: Final = b"\x15\x03"
"""How TLS says that it was not spoken to in TLS; as a frame's size, it would be 352 million bytes."""
_UNMARKED: Final = (b"\x00\x18", b"\x00\x19")
"""Route and Partitions: RabbitMQ 3.10 answers them under the key of the request, and nobody else sends us these."""
_PUSHED: Final = (PublishConfirm, Deliver, PublishError, CreditResponse, MetadataUpdate, ConsumerUpdate)


class State(enum.Enum):
    """How far a session has come. It only ever moves downward in this list."""

    NEW = "new"
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSING = "closing"
    ENDED = "ended"


class Session:
    """The client's side of one connection, from the handshake to the end."""

    __slots__ = (
        "_frames",
        "_handshake",
        "_last_received",
        "_last_sent",
        "_options",
        "_out",
        "_phase_deadline",
        "_phase_id",
        "_requests",
        "_state",
    )

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._state = State.NEW
        self._handshake = Handshake(options)
        self._frames = FrameBuffer(HANDSHAKE_FRAME_LIMIT)
        self._out: list[bytes] = []
        self._requests = RequestLedger()
        # The one request of the handshake step, or the Close, that is under way; and when we stop waiting for it.
        self._phase_id = -1
        self._phase_deadline = 0.0
        self._last_received = 0.0
        self._last_sent = 0.0

    # --- what is known about the connection ---

    @property
    def state(self) -> State:
        """How far the session has come."""
        return self._state

    @property
    def frame_max(self) -> int:
        """The largest frame that may be sent, in bytes without the size field; a limit of ours where there is none."""
        return self._handshake.frame_max or OPEN_FRAME_LIMIT

    @property
    def heartbeat_s(self) -> int:
        """The negotiated interval; 0 is without heartbeats."""
        return self._handshake.heartbeat_s

    @property
    def broker_version(self) -> tuple[int, ...]:
        """(4, 0, 5) for example; empty when the broker does not say."""
        return self._handshake.capabilities.version

    @property
    def broker_version_text(self) -> str:
        """As the broker says it; "unknown" when it does not."""
        return self._handshake.capabilities.version_text

    @property
    def server_properties(self) -> Mapping[str, str]:
        """What the broker tells of itself: "product", "version", "cluster_name" and others."""
        return self._handshake.server_properties

    @property
    def connection_properties(self) -> Mapping[str, str]:
        """What the answer to Open tells: "advertised_host" and "advertised_port", in decimal."""
        return self._handshake.connection_properties

    def max_version(self, key: int) -> int:
        """The newest version of a command that both sides know; 0 if the broker has no such command."""
        return self._handshake.capabilities.max_version(key)

    def supports(self, feature: Feature) -> bool:
        """Whether the broker has a feature."""
        return self._handshake.capabilities.supports(feature)

    def features(self) -> frozenset[Feature]:
        """All features that the broker has."""
        return self._handshake.capabilities.features()

    def require(self, feature: Feature) -> None:
        """Do nothing if the broker has a feature.

        Raises:
            UnsupportedByBroker: it has not; the error names the first version that has.
        """
        self._handshake.capabilities.require(feature)

    # --- what the owner wants ---

    def start(self, now: float) -> None:
        """Begin the handshake: the socket is connected.

        Raises:
            InvalidArgument: the options' properties cannot be put on the wire.
        """
        if self._state is not State.NEW:
            raise RuntimeError("a session is started once")
        self._last_received = now
        self._say(self._handshake.begin(), now)
        self._state = State.HANDSHAKE

    def request(self, command: Request, now: float, timeout_s: float) -> int:
        """Send a request; `Answered` or `TimedOut` comes with the correlation id that is returned, unless `Ended` does.

        Raises:
            ConnectionLost: the session is not open.
            UnsupportedByBroker: the broker does not know the command; sending it would have cost the connection.
            InvalidArgument: a field's value does not fit, or the frame is larger than the broker accepts.
        """
        self._require_open()
        self._handshake.capabilities.require_command(command)
        correlation_id = self._requests.next_id()
        self._send_checked(encode(command, correlation_id), now)
        self._requests.add(correlation_id, command, now, timeout_s)
        return correlation_id

    def send(self, command: Command, now: float) -> None:
        """Send a command that has no answer, such as Credit or StoreOffset.

        Raises:
            ConnectionLost: the session is not open.
            InvalidArgument: a field's value does not fit, or this is a request or an answer.
        """
        self._require_open()
        self._send_checked(encode(command), now)

    def send_frames(self, frames: Sequence[bytes], now: float) -> None:
        """Send whole frames that were encoded, and cut to `frame_max`, before: those of publishing.

        Raises:
            ConnectionLost: the session is not open.
        """
        self._require_open()
        self._out.extend(frames)
        self._last_sent = now

    def respond(self, command: Response, correlation_id: int, now: float) -> None:
        """Answer a request of the broker: ConsumerUpdate, which must always be answered.

        Raises:
            ConnectionLost: the session is not open.
            InvalidArgument: a field's value does not fit.
        """
        self._require_open()
        self._send_checked(encode(command, correlation_id), now)

    def close(self, now: float, code: int = ResponseCode.OK, reason: str = "OK") -> list[Event]:
        """Say good-bye: events go on until `Ended`, at the broker's answer or `close_timeout_s` later.

        Before the session is open there is nothing to say: it ends at once. A second call does nothing.
        """
        if self._state in (State.NEW, State.HANDSHAKE):
            return [self._end(self._closed())]
        if self._state is State.OPEN:
            self._phase_id = self._requests.next_id()
            self._phase_deadline = now + self._options.close_timeout_s
            self._send(encode(Close(code, reason), self._phase_id), now)
            self._state = State.CLOSING
        return []

    def data_to_send(self) -> list[bytes]:
        """What is to be written, in order; each byte is returned once."""
        out = self._out
        self._out = []
        return out

    # --- what happens ---

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take in bytes from the socket. Never raises for what a broker may send: that ends the session instead."""
        events: list[Event] = []
        if self._state is State.ENDED:
            return events
        self._last_received = now
        if self._state is State.HANDSHAKE and data.startswith(_TLS_ALERT) and self._handshake.step == "peer-properties":
            return [self._end(self._lost("TLS is spoken at this port: use rabbitmq-stream+tls://"))]
        for frame in self._frames.feed(data):
            try:
                self._receive_frame(frame, now, events)
            except UnknownFrame as error:
                events.append(Skipped(error))
            except MalformedFrame as error:
                events.append(self._end(self._nonsense(error)))
            except ActorStreamError as error:  # the broker refuses the handshake, or an option does not fit into it
                events.append(self._end(error))
            if events and isinstance(events[-1], Ended):
                return events
        if self._frames.fault is not None:
            events.append(self._end(self._nonsense(self._frames.fault)))
        return events

    def receive_eof(self, now: float, cause: str = "") -> list[Event]:  # noqa: ARG002 - every input takes the time
        """The socket is closed or broken; `cause` says how. Whatever arrived before it was an event before it (F13)."""
        if self._state is State.ENDED:
            return []
        return [self._end(self._lost(cause or "the broker closed the socket"))]

    def tick(self, now: float) -> list[Event]:
        """Do what is due: time out requests and steps, judge whether the broker is alive, send a heartbeat.

        After the process itself stood still, bytes that wait in the socket have to be received first: the silence may
        have been ours (F56).
        """
        if self._state is State.OPEN or self._state is State.CLOSING:
            return self._tick_open(now)
        if self._state is State.HANDSHAKE and now >= self._phase_deadline:
            return [self._end(self._lost(f"no answer within {self._options.step_timeout_s:g} s"))]
        return []

    def deadline(self) -> float | None:
        """When `tick` has something to do, unless something happens before; None: never."""
        if self._state is State.HANDSHAKE:
            return self._phase_deadline
        deadline: float | None = None
        if self._state is State.OPEN or self._state is State.CLOSING:
            deadline = self._requests.deadline()
            if self._state is State.CLOSING:
                deadline = _earlier(deadline, self._phase_deadline)
            if self.heartbeat_s:
                deadline = _earlier(deadline, min(self._heartbeat_due(), self._silence_limit()))
        return deadline

    # --- inside ---

    def _receive_frame(self, frame: bytes, now: float, events: list[Event]) -> None:
        if frame[:2] in _UNMARKED:
            frame = b"\x80" + frame[1:]
        command, correlation_id = decode(frame)
        if isinstance(command, Heartbeat):
            return
        if isinstance(command, Close) and correlation_id is not None:
            self._out.append(encode(CloseResponse(ResponseCode.OK), correlation_id))
            events.append(self._end(ClosedByBroker(command.code, command.reason)))
        elif self._state is State.HANDSHAKE or self._state is State.NEW:
            self._advance(command, correlation_id, now, events)
        elif isinstance(command, _PUSHED):
            events.append(Received(command, correlation_id))
        elif isinstance(command, Response) and correlation_id is not None:
            self._answer(command, correlation_id, events)
        else:
            raise UnknownFrame(command.KEY, command.VERSION)

    def _advance(self, command: Command, correlation_id: int | None, now: float, events: list[Event]) -> None:
        if correlation_id is not None and correlation_id != self._phase_id:
            raise MalformedFrame(f"{type(command).__name__} has correlation id {correlation_id}, not {self._phase_id}")
        replies = self._handshake.advance(command)
        self._phase_deadline = now + self._options.step_timeout_s
        for reply in replies:
            self._say(reply, now)
        if self._handshake.step == "done":
            self._state = State.OPEN
            self._frames.max_size = OPEN_FRAME_LIMIT
            events.append(Opened())

    def _answer(self, response: Response, correlation_id: int, events: list[Event]) -> None:
        if self._state is State.CLOSING and correlation_id == self._phase_id:
            events.append(self._end(self._closed()))
            return
        pending = self._requests.take(correlation_id)
        if pending is None:
            return  # late: its request has timed out
        if pending.request.KEY != response.KEY:
            request = type(pending.request).__name__
            raise MalformedFrame(f"the answer to {request} (correlation id {correlation_id}) is {response}")
        events.append(Answered(correlation_id, response))

    def _tick_open(self, now: float) -> list[Event]:
        events: list[Event] = [
            TimedOut(expired.correlation_id, expired.request, expired.timeout_s)
            for expired in self._requests.take_expired(now)
        ]
        if self._state is State.CLOSING and now >= self._phase_deadline:
            events.append(self._end(self._closed()))
        elif self.heartbeat_s and now >= self._silence_limit():
            silence = (
                f"nothing received for {now - self._last_received:.1f} s, with a heartbeat of {self.heartbeat_s} s"
            )
            events.append(self._end(HeartbeatTimeout(f"the connection to {self._options.address} is dead: {silence}")))
        elif self.heartbeat_s and now >= self._heartbeat_due():
            self._send(encode(Heartbeat()), now)
        return events

    def _heartbeat_due(self) -> float:
        # Half the interval, as brokers do: one that is delayed a little is not yet missing.
        return self._last_sent + self.heartbeat_s / 2

    def _silence_limit(self) -> float:
        return self._last_received + 2 * self.heartbeat_s

    def _say(self, command: Command, now: float) -> None:
        """Send a command of the handshake, and give the broker time for the step that it begins."""
        correlation_id: int | None = None
        if isinstance(command, Request):
            correlation_id = self._phase_id = self._requests.next_id()
        self._send(encode(command, correlation_id), now)
        self._phase_deadline = now + self._options.step_timeout_s

    def _send_checked(self, frame: bytes, now: float) -> None:
        size = len(frame) - _SIZE_BYTES
        if size > self.frame_max:
            raise InvalidArgument(f"a command of {size} bytes does not fit the broker's frame_max of {self.frame_max}")
        self._send(frame, now)

    def _send(self, frame: bytes, now: float) -> None:
        self._out.append(frame)
        self._last_sent = now

    def _require_open(self) -> None:
        if self._state is not State.OPEN:
            raise ConnectionLost(f"the connection to {self._options.address} is not open but {self._state.value}")

    def _end(self, error: ActorStreamError) -> Ended:
        if self._state is State.CLOSING and not isinstance(error, Closed):
            # Whatever ends a connection that is being closed: it is closed, as was asked for.
            error, cause = self._closed(), error
            error.__cause__ = cause
        self._state = State.ENDED
        self._requests.clear()
        return Ended(error)

    def _closed(self) -> Closed:
        return Closed(f"the connection to {self._options.address} was closed")

    def _lost(self, cause: str) -> ConnectionLost:
        if self._state is State.OPEN or self._state is State.CLOSING:
            return ConnectionLost(f"the connection to {self._options.address} is lost: {cause}")
        return ConnectFailed(self._options.address, self._handshake.step, cause + self._handshake.hint())

    def _nonsense(self, error: MalformedFrame) -> ConnectionLost:
        lost = self._lost(f"the broker does not follow the protocol: {error}")
        lost.__cause__ = error
        return lost


def _earlier(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)
