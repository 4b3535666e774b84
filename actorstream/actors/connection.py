"""One socket to one broker. It dies whole: whoever is attached learns of it and finds another one.

The protocol's state machine is `wire.session`; this actor carries bytes between it and the transport, answers to those
who asked, and confirms and chunks to the publishers and subscribers that are attached. What arrives on the socket is
handled in the transport's callback, on the actor's loop, and all handlers here are plain functions, so that nothing
ever interleaves within one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.attachments import Attachments
from actorstream.actors.calls import tell
from actorstream.actors.future import LoopFuture
from actorstream.actors.runtime import Down, StreamActor
from actorstream.errors import (
    Closed,
    ConnectFailed,
    ConnectionLost,
    CorruptChunk,
    RequestTimeout,
    ResponseError,
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
        self._attachments = Attachments(
            request=self._request,
            release=lambda slot: tell(pool, m.Release(slot)),
            retire=lambda: tell(pool, m.Retire(line_name)),
            watch=self.monitor,
        )
        self._received_bytes = 0

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        publishers, subscribers = self._attachments.counts
        return {
            "broker": str(self._endpoint),
            "role": self._role,
            "publishers": publishers,
            "subscribers": subscribers,
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
        error = self._end_reason or ConnectionLost(f"the connection to {self._endpoint} was closed")
        waiting, self._waiting = self._waiting, {}
        for reply in waiting.values():
            reply.try_set_exception(error)

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
                if (publisher := self._attachments.publisher(confirm.publisher_id)) is not None:
                    self._attachments.tell(publisher, m.Confirmed(publisher.number, confirm.publishing_ids))
            case s.Received(command=c.PublishError() as failed):
                if (publisher := self._attachments.publisher(failed.publisher_id)) is not None:
                    failures = tuple((item.publishing_id, item.code) for item in failed.errors)
                    self._attachments.tell(publisher, m.Rejected(publisher.number, failures))
            case s.Answered(correlation_id=number, response=response):
                if (reply := self._waiting.pop(number, None)) is not None:
                    reply.try_set(response)
            case s.TimedOut(correlation_id=number, request=request, timeout_s=seconds):
                if (reply := self._waiting.pop(number, None)) is not None:
                    reply.try_set_exception(RequestTimeout(type(request).__name__, seconds))
            case s.Received(command=c.MetadataUpdate() as update):
                self._on_metadata_update(update.stream, update.code)
            case s.Received(command=c.CreditResponse() as refused):
                if (subscriber := self._attachments.subscriber(refused.subscription_id)) is not None:
                    self._attachments.tell(subscriber, m.CreditRefused(subscriber.number, refused.code))
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
        subscriber = self._attachments.subscriber(deliver.subscription_id)
        if subscriber is None:  # what was on the wire when it unsubscribed (F61)
            return
        try:
            chunk = Chunk.parse(deliver.chunk)
        except CorruptChunk as error:  # the frame was whole: it is a matter of this subscription alone (F63)
            self._attachments.tell(subscriber, m.ChunkBroken(subscriber.number, -1, error))
            return
        self._attachments.tell(subscriber, m.Delivered(subscriber.number, chunk, deliver.committed_chunk_id))

    def _on_metadata_update(self, stream: str, code: int) -> None:
        """Everything of that stream on this connection counts as dead, whatever the broker kept of it (W2)."""
        for attachment in self._attachments.of_stream(stream):
            self._attachments.tell(attachment, m.TopologyChanged(attachment.number, stream, code))

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
                return self._attachments.attach_publisher(message)
            case m.AttachSubscriber():
                return self._attachments.attach_subscriber(message)
            case m.Detach(attachment=number):
                return self._attachments.detach(number)
            case Down(ref=ref):
                self._attachments.entity_ended(ref)
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
