"""One socket to one broker. It dies whole: whoever is attached learns of it and finds another one.

The protocol's state machine is `wire.session`; this actor carries bytes between it and the transport, answers to those
who asked, and confirms and chunks to the publishers and subscribers that are attached. What arrives on the socket is
handled in the transport's callback, on the actor's loop, and all handlers here are plain functions, so that nothing
ever interleaves within one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pykka

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.calls import tell
from actorstream.actors.future import LoopFuture
from actorstream.actors.runtime import Down, StreamActor
from actorstream.errors import (
    ActorStreamError,
    Closed,
    ConnectFailed,
    ConnectionLost,
    CorruptChunk,
    RequestTimeout,
    ResponseError,
    response_error,
)
from actorstream.options import ConnectionOptions, Endpoint
from actorstream.transport import Opener, Transport
from actorstream.wire import commands as c, session as s
from actorstream.wire.chunk import Chunk

CLOSE_TIMEOUT_S = 1.0
"""How long a polite close may wait for the broker's answer (F77)."""
STALL_S = 0.5
"""A timer that fires so late was held up by something that blocked the loop."""
AFTER_STALL_S = 0.05
"""How long the loop may read what piled up in the socket before the broker's silence is judged."""


@dataclass(slots=True)
class _Attachment:
    """What the connection knows of one publisher or subscriber on it."""

    number: int
    slot: m.Slot
    ref: m.Ref
    stream: str
    is_publisher: bool


class Connection(StreamActor):
    """The actor of one connection; see the module. Asked before it is open, it answers once it is."""

    def __init__(
        self,
        *,
        line_name: str,
        endpoint: Endpoint,
        role: str,
        options: ConnectionOptions,
        opener: Opener,
        start_delay_s: float,
        was_up: Callable[[], bool],
        pool: m.Ref,
        emit: Callable[[events.Event], None],
    ) -> None:
        super().__init__()
        self._line_name = line_name
        self._endpoint = endpoint
        self._role = role
        self._options = options
        self._opener = opener
        self._start_delay_s = start_delay_s
        self._was_up = was_up
        self._pool = pool
        self._emit = emit
        self._session = s.Session(
            s.SessionOptions(
                address=str(endpoint),
                mechanism="PLAIN",
                username=options.username,
                password=options.password,
                vhost=options.vhost,
                connection_name=f"{options.name}-{role}",
                properties=dict(options.properties),
                frame_max=options.frame_max,
                heartbeat_s=options.heartbeat_s,
                step_timeout_s=options.rpc_timeout_s,
                close_timeout_s=CLOSE_TIMEOUT_S,
            )
        )
        self._transport: Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._stalled = False
        self._opened: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._end_reason: Exception | None = None
        self._waiting: dict[int, LoopFuture[c.Response]] = {}
        self._attachments: dict[int, _Attachment] = {}
        self._publishers: dict[int, _Attachment] = {}
        self._subscribers: dict[int, _Attachment] = {}
        self._received_bytes = 0

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {
            "broker": str(self._endpoint),
            "role": self._role,
            "publishers": len(self._publishers),
            "subscribers": len(self._subscribers),
        }

    # Life ---------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:  # type: ignore[override]
        """Connect and shake hands, each step within its own deadline."""
        if self._start_delay_s > 0:
            await asyncio.sleep(self._start_delay_s)
        loop = asyncio.get_running_loop()
        self._opened, self._ended = loop.create_future(), loop.create_future()
        options = self._options
        self._transport = await self._opener(
            self._endpoint.host,
            self._endpoint.port,
            self,
            ssl=options.tls,
            server_hostname=self._endpoint.host if options.tls is not None else None,
            timeout_s=options.connect_timeout_s,
        )
        self._session.start(loop.time())
        self._pump()
        await self._opened
        tell(self._pool, m.ConnectionUp(self._line_name))
        self._emit(
            events.Connected(path=self.path, broker=str(self._endpoint), version=self._session.broker_version_text)
        )

    async def on_stop(self) -> None:  # type: ignore[override]
        """Close politely, but never wait long for a peer that may be dead; whoever waits for an answer hears why."""
        if self._transport is not None and self._session.state is s.State.OPEN and self._ended is not None:
            self._run(self._session.close)
            await asyncio.wait([self._ended], timeout=CLOSE_TIMEOUT_S)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        for future in (self._opened, self._ended):
            if future is not None:
                future.cancel()
        self._attachments.clear()
        self._publishers.clear()
        self._subscribers.clear()
        error = self._end_reason or ConnectionLost(f"the connection to {self._endpoint} was closed")
        waiting, self._waiting = self._waiting, {}
        for reply in waiting.values():
            _fail(reply, error)

    # The socket ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes from the broker (called by the transport, on the loop)."""
        self._received_bytes += len(data)
        self._run(lambda now: self._session.receive_data(data, now))

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone (called by the transport, on the loop, after the last bytes)."""
        cause = "the broker closed the connection" if error is None else str(error) or type(error).__name__
        self._run(lambda now: self._session.receive_eof(now, cause))

    def _tick(self) -> None:
        """The session's deadline has come: but what waits in the socket is read first, after a stall of ours (F56)."""
        loop = asyncio.get_running_loop()
        self._timer = None
        if loop.time() - self._timer_due > STALL_S and not self._stalled:
            self._stalled = True
            self._timer = loop.call_later(AFTER_STALL_S, self._tick)
            return
        self._stalled = False
        self._run(self._session.tick)

    def _run(self, step: Callable[[float], list[s.Event]]) -> None:
        """Advance the session, and let an error in it end this connection instead of the loop's patience."""
        try:
            for event in step(asyncio.get_running_loop().time()):
                self._handle_event(event)
            self._pump()
        except Exception as error:  # noqa: BLE001 - a callback of the loop: the actor has to die of it, visibly
            self._end(error)

    def _pump(self) -> None:
        """Write what the session has queued, and set the timer to its next deadline."""
        chunks = self._session.data_to_send()
        transport = self._transport
        if chunks and transport is not None and not transport.is_closing:
            transport.write(chunks)
        deadline = self._session.deadline()
        if deadline is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None or deadline < self._timer_due:
            # A timer that is due too early only looks at the session and sets the next one: cheaper than to cancel
            # and set one with every frame.
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = deadline
            self._timer = asyncio.get_running_loop().call_at(deadline, self._tick)

    def _handle_event(self, event: s.Event) -> None:
        match event:
            case s.Received(command=c.Deliver() as deliver):
                self._on_deliver(deliver)
            case s.Received(command=c.PublishConfirm() as confirm):
                if (publisher := self._publishers.get(confirm.publisher_id)) is not None:
                    self._tell(publisher, m.Confirmed(publisher.number, confirm.publishing_ids))
            case s.Received(command=c.PublishError() as failed):
                if (publisher := self._publishers.get(failed.publisher_id)) is not None:
                    failures = tuple((item.publishing_id, item.code) for item in failed.errors)
                    self._tell(publisher, m.Rejected(publisher.number, failures))
            case s.Answered(correlation_id=number, response=response):
                if (reply := self._waiting.pop(number, None)) is not None:
                    reply.try_set(response)
            case s.TimedOut(correlation_id=number, request=request, timeout_s=seconds):
                if (reply := self._waiting.pop(number, None)) is not None:
                    _fail(reply, RequestTimeout(type(request).__name__, seconds))
            case s.Received(command=c.MetadataUpdate() as update):
                self._on_metadata_update(update.stream, update.code)
            case s.Received(command=c.CreditResponse() as refused):
                if (subscriber := self._subscribers.get(refused.subscription_id)) is not None:
                    self._tell(subscriber, m.CreditRefused(subscriber.number, refused.code))
            case s.Opened():
                if self._opened is not None and not self._opened.done():
                    self._opened.set_result(None)
            case s.Ended(error=error):
                self._end(error)
            case s.Skipped(error=error):
                self._emit(events.FrameSkipped(path=self.path, broker=str(self._endpoint), reason=str(error)))
            case _:
                self._emit(
                    events.FrameSkipped(path=self.path, broker=str(self._endpoint), reason=f"unexpected {event}")
                )

    def _on_deliver(self, deliver: c.Deliver) -> None:
        subscriber = self._subscribers.get(deliver.subscription_id)
        if subscriber is None:  # what was on the wire when it unsubscribed (F61)
            return
        try:
            chunk = Chunk.parse(deliver.chunk)
        except CorruptChunk as error:  # the frame was whole: it is a matter of this subscription alone (F63)
            self._tell(subscriber, m.ChunkBroken(subscriber.number, -1, error))
            return
        self._tell(subscriber, m.Delivered(subscriber.number, chunk, deliver.committed_chunk_id))

    def _on_metadata_update(self, stream: str, code: int) -> None:
        """Everything of that stream on this connection counts as dead, whatever the broker kept of it (W2)."""
        for attachment in [a for a in self._attachments.values() if a.stream == stream]:
            self._tell(attachment, m.TopologyChanged(attachment.number, stream, code))

    def _tell(self, attachment: _Attachment, message: object) -> None:
        try:
            attachment.ref.tell(message)
        except pykka.ActorDeadError:
            self._detach(attachment.number)

    def _end(self, error: Exception) -> None:
        if self._end_reason is not None:
            return
        if isinstance(error, ResponseError) and self._was_up():
            # Credentials that were good before: a broker that starts refuses them while its users are not there yet,
            # and so does one whose user database cannot be reached, or whose limit of connections is used up (F87).
            error, refusal = ConnectFailed(str(self._endpoint), "log-in", str(error)), error
            error.__cause__ = refusal
        self._end_reason = error
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if not isinstance(error, Closed):
            self._emit(events.Disconnected(path=self.path, broker=str(self._endpoint), reason=error))
        if self._transport is not None:
            chunks = self._session.data_to_send()  # the answer to the broker's Close, perhaps
            if chunks and not self._transport.is_closing:
                self._transport.write(chunks)
            self._transport.close()
        self.exit(error)  # cancels `on_start`, if that still waits

    # Messages -----------------------------------------------------------------------------------------------------

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To a Connection"; an answer that takes time is a future."""
        match message:
            case m.SendFrames(frames=frames):
                self._session.send_frames(frames, asyncio.get_running_loop().time())
                self._pump()
            case m.SendCommand(command=command):
                self._session.send(command, asyncio.get_running_loop().time())
                self._pump()
            case m.Request(command=command):
                return self._request(command)
            case m.AttachPublisher():
                return self._attach_publisher(message)
            case m.AttachSubscriber():
                return self._attach_subscriber(message)
            case m.Detach(attachment=number):
                return self._detach(number)
            case Down(ref=ref):
                for attachment in [a for a in self._attachments.values() if a.ref.actor_urn == ref.actor_urn]:
                    self._detach(attachment.number)
            case m.Open():
                return self._negotiated()
            case _:
                return super().on_receive(message)
        return None

    def _negotiated(self) -> m.Negotiated:
        session = self._session
        properties = session.connection_properties
        advertised = None
        if "advertised_host" in properties and properties.get("advertised_port", "").isdigit():
            advertised = Endpoint(properties["advertised_host"], int(properties["advertised_port"]))
        return m.Negotiated(
            self._endpoint,
            session.frame_max,
            session.heartbeat_s,
            session.broker_version_text,
            session.features(),
            advertised,
        )

    def _request(self, command: c.Request) -> LoopFuture[c.Response]:
        reply: LoopFuture[c.Response] = LoopFuture()
        number = self._session.request(command, asyncio.get_running_loop().time(), self._options.rpc_timeout_s)
        self._waiting[number] = reply
        self._pump()
        return reply

    def _attach_publisher(self, message: m.AttachPublisher) -> LoopFuture[None]:
        slot = message.slot
        attachment = _Attachment(message.attachment, slot, message.ref, message.stream, is_publisher=True)
        # Known before the request leaves: a confirm can follow the answer in the same read (F24, F62).
        self._publishers[slot.entity_id] = attachment
        return self._attach(
            attachment,
            c.DeclarePublisher(slot.entity_id, message.reference, message.stream),
            f"stream {message.stream!r}",
        )

    def _attach_subscriber(self, message: m.AttachSubscriber) -> LoopFuture[None]:
        slot = message.slot
        attachment = _Attachment(message.attachment, slot, message.ref, message.stream, is_publisher=False)
        self._subscribers[slot.entity_id] = attachment
        command = c.Subscribe(slot.entity_id, message.stream, message.offset, message.credit, dict(message.properties))
        return self._attach(attachment, command, f"stream {message.stream!r}")

    def _attach(self, attachment: _Attachment, command: c.Request, context: str) -> LoopFuture[None]:
        self._attachments[attachment.number] = attachment
        self.monitor(attachment.ref)
        done: LoopFuture[None] = LoopFuture()

        def answered(future: LoopFuture[c.Response]) -> None:
            try:
                code = future.get(timeout=0).code
            except ActorStreamError as error:
                # Whether the broker has it is unknown after a timeout: `_detach` takes it back in either case (F07).
                self._detach(attachment.number)
                _fail(done, error)
                return
            if code == 1:
                done.try_set(None)
                return
            if attachment.number in self._attachments:  # else it is detached already, and that gives the slot back
                self._give_back(attachment)
            _fail(done, response_error(code, context))

        try:
            reply = self._request(command)
        except ActorStreamError as error:  # nothing was sent
            self._give_back(attachment)
            _fail(done, error)
        else:
            reply.add_done_callback(answered)
        return done

    def _give_back(self, attachment: _Attachment) -> None:
        self._forget(attachment)
        tell(self._pool, m.Release(attachment.slot))

    def _forget(self, attachment: _Attachment) -> None:
        self._attachments.pop(attachment.number, None)
        table = self._publishers if attachment.is_publisher else self._subscribers
        if table.get(attachment.slot.entity_id) is attachment:
            del table[attachment.slot.entity_id]

    def _detach(self, number: int) -> LoopFuture[None]:
        """Take an entity off the broker; its id is free for others only when the broker has said so (F61)."""
        done: LoopFuture[None] = LoopFuture()
        attachment = self._attachments.get(number)
        if attachment is None:
            done.set(None)
            return done
        self._forget(attachment)
        entity_id = attachment.slot.entity_id
        command = c.DeletePublisher(entity_id) if attachment.is_publisher else c.Unsubscribe(entity_id)

        def answered(future: LoopFuture[c.Response]) -> None:
            # Whatever it says: 4 and 18 mean that the broker dropped it by itself. Without an answer the connection is
            # on its way out, and the id with it.
            try:
                future.get(timeout=0)
            except ActorStreamError as error:
                if not isinstance(error, ConnectionLost):
                    tell(self._pool, m.Retire(self._line_name))
            tell(self._pool, m.Release(attachment.slot))
            done.try_set(None)

        try:
            self._request(command).add_done_callback(answered)
        except ActorStreamError:  # the connection ended meanwhile, and its slots with it
            done.set(None)
        return done


def _fail(future: LoopFuture[c.Response] | LoopFuture[None], error: Exception) -> None:
    future.try_set_exception(error)
