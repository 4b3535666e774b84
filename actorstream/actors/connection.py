"""One connection to one broker. It dies whole: whoever is attached learns of it and finds another one.

The protocol's state machine is `wire.session`, and a `SessionDriver` carries its bytes; this actor brings it up, takes
requests, and hands confirms and chunks to the publishers and subscribers that are attached. What arrives on the socket
is handled in the transport's callback, on the actor's loop, and all handlers here are plain functions, so that nothing
ever interleaves within one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.attachments import Attachments
from actorstream.actors.calls import call, tell
from actorstream.actors.dialing import Dialer, Goal, advertised
from actorstream.actors.driver import CLOSE_TIMEOUT_S, SessionDriver
from actorstream.actors.future import LoopFuture
from actorstream.actors.runtime import Down, StreamActor
from actorstream.actors.token import ConnectionToken
from actorstream.errors import (
    ActorStreamError,
    AuthenticationFailure,
    Closed,
    ConnectFailed,
    ConnectionLost,
    CorruptChunk,
    ResponseError,
)
from actorstream.options import ConnectionOptions
from actorstream.wire import commands as c, session as s
from actorstream.wire.chunk import Chunk


class Connection(StreamActor):
    """The actor of one connection; see the module. Asked before it is open, it answers once it is."""

    def __init__(
        self,
        *,
        line_name: str,
        number: int,
        goal: Goal,
        role: str,
        options: ConnectionOptions,
        dialer: Dialer,
        credentials: m.Ref,
        start_delay_s: float,
        was_up: Callable[[], bool],
        pool: m.Ref,
        emit: Callable[[events.Event], None],
    ) -> None:
        super().__init__()
        self._line_name = line_name
        self._number = number
        self._goal = goal
        self._endpoint = goal.endpoint
        self._role = role
        self._options = options
        self._dialer = dialer
        self._credentials = credentials
        self._start_delay_s = start_delay_s
        self._was_up = was_up
        self._pool = pool
        self._emit = emit
        self._identity = m.Identity("")
        self._token: ConnectionToken | None = None
        self._driver: SessionDriver | None = None
        self._settled_with_broker: m.Negotiated | None = None
        self._end_reason: Exception | None = None
        self._attachments = Attachments(
            request=self._request,
            respond=self._respond,
            release=lambda slot: tell(pool, m.Release(slot)),
            retire=lambda: tell(pool, m.Retire(line_name)),
            watch=self.monitor,
        )

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
        """Ask who logs in, connect and shake hands, each step within its own deadline."""
        if self._start_delay_s > 0:
            await asyncio.sleep(self._start_delay_s)
        try:
            self._identity = await call(self._credentials, m.WhoLogsIn())
            self._driver, self._endpoint = await self._dialer.reach(self._goal, self._make_driver)
        except ActorStreamError as error:
            reason = self._why_not_up(error)
            self._emit(events.Disconnected(path=self.path, broker=str(self._endpoint), reason=reason))
            raise reason from error.__cause__ if reason is error else error
        tell(self._pool, m.ConnectionUp(self._line_name, self._endpoint))
        if self._identity.version:
            self._keep_token(self._identity)
        version = self._driver.session.broker_version_text
        self._emit(events.Connected(path=self.path, broker=str(self._endpoint), version=version))

    def _keep_token(self, identity: m.Identity) -> None:
        """Let the keeper renew what this connection has logged in with."""
        self._token = ConnectionToken(
            identity,
            broker=str(self._endpoint),
            path=self.path,
            request=self._send_request,
            tell_keeper=lambda message: tell(self._credentials, message),
            lost=self.ended,
            emit=self._emit,
        )
        tell(self._credentials, m.LoggedIn(self.actor_ref, identity.version))

    def _make_driver(self, address: str) -> SessionDriver:
        options = self._options
        return SessionDriver(
            s.SessionOptions(
                address=address,
                mechanism=self._identity.mechanism,
                username=self._identity.username,
                password=self._identity.password,
                vhost=options.vhost,
                connection_name=f"{options.name}-{self._role}-{self._number}",
                properties=dict(options.properties),
                frame_max=options.frame_max,
                heartbeat_s=options.heartbeat_s,
                step_timeout_s=options.rpc_timeout_s,
                close_timeout_s=CLOSE_TIMEOUT_S,
            ),
            self,
        )

    def _why_not_up(self, error: ActorStreamError) -> ActorStreamError:
        if isinstance(error, AuthenticationFailure):
            tell(self._credentials, m.SecretRefused(self._identity.version))
        if isinstance(error, ResponseError) and self._was_up():
            # Credentials that were good before: a broker that starts refuses them while its users are not there yet,
            # and so does one whose user database cannot be reached, or whose limit of connections is used up (F87).
            return ConnectFailed(str(self._endpoint), "log-in", str(error))
        return error

    async def on_stop(self) -> None:  # type: ignore[override]
        """Close politely, but never wait long for a peer that may be dead; whoever waits for an answer hears why."""
        if self._driver is not None:
            await self._driver.close()
            self._driver.abort(self._end_reason or ConnectionLost(f"the connection to {self._endpoint} was closed"))
        self._attachments.clear()

    def ended(self, error: Exception) -> None:
        """The session is over (called by the driver, on the loop)."""
        if self._end_reason is not None:
            return
        self._end_reason = error
        if not isinstance(error, Closed):
            self._emit(events.Disconnected(path=self.path, broker=str(self._endpoint), reason=error))
        if self._driver is not None:
            self._driver.hang_up()
        self.exit(error)  # cancels `on_start`, if that is not through

    # What the broker says -----------------------------------------------------------------------------------------

    def pushed(self, event: s.Received | s.Skipped) -> None:
        """The broker said something that nobody asked for (called by the driver, on the loop)."""
        match event:
            case s.Received(command=c.Deliver() as deliver):
                self._on_deliver(deliver)
            case s.Received(command=c.PublishConfirm() as confirm):
                if (publisher := self._attachments.publisher(confirm.publisher_id)) is not None:
                    publisher.take(confirm.publishing_ids)
            case s.Received(command=c.PublishError() as failed):
                if (publisher := self._attachments.publisher(failed.publisher_id)) is not None:
                    failures = tuple((item.publishing_id, item.code) for item in failed.errors)
                    self._attachments.tell(publisher, m.Rejected(publisher.number, failures))
            case s.Received(command=c.MetadataUpdate() as update):
                self._on_metadata_update(update.stream, update.code)
            case s.Received(command=c.CreditResponse() as refused):
                if (subscriber := self._attachments.subscriber(refused.subscription_id)) is not None:
                    self._attachments.tell(subscriber, m.CreditRefused(subscriber.number, refused.code))
            case s.Received(command=c.ConsumerUpdate() as role, correlation_id=int() as number):
                self._attachments.update(role, number)
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
            subscriber.take(m.ChunkBroken(subscriber.number, -1, error))
            return
        subscriber.take(m.Delivered(subscriber.number, chunk, deliver.committed_chunk_id))

    def _on_metadata_update(self, stream: str, code: int) -> None:
        """Everything of that stream on this connection counts as dead, whatever the broker kept of it (W2)."""
        for attachment in self._attachments.of_stream(stream):
            self._attachments.tell(attachment, m.TopologyChanged(attachment.number, stream, code))

    # Messages -----------------------------------------------------------------------------------------------------

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To a Connection"; an answer that takes time is a future."""
        match message:
            case m.SendFrames(frames=frames):
                self._open_driver.send_frames(frames)
            case m.SendCommand(command=command):
                self._open_driver.send(command)
            case m.Request(command=command):
                return self._request(command)
            case m.AttachPublisher():
                return self._attachments.attach_publisher(message, self._open_driver.send_frames)
            case m.AttachSubscriber():
                return self._attachments.attach_subscriber(message, self._open_driver.send)
            case m.Detach(attachment=number):
                return self._attachments.detach(number)
            case m.AnswerConsumerUpdate():
                self._attachments.answer_update(message)
            case Down(ref=ref):
                self._attachments.entity_ended(ref)
            case m.Open():
                return self._negotiated()
            case m.Renew(identity=identity):
                if self._token is not None:
                    self._token.renew(identity, m.LoggedIn(self.actor_ref, identity.version))
            case _:
                return super().on_receive(message)
        return None

    @property
    def _open_driver(self) -> SessionDriver:
        """There is one when a message is handled: `on_start` is through."""
        assert self._driver is not None
        return self._driver

    def _negotiated(self) -> m.Negotiated:
        if self._settled_with_broker is None:  # one for all who attach here, and keep it
            session = self._open_driver.session
            self._settled_with_broker = m.Negotiated(
                self._endpoint,
                session.frame_max,
                session.heartbeat_s,
                session.broker_version_text,
                session.features(),
                advertised(session),
            )
        return self._settled_with_broker

    def _request(self, command: c.Request) -> LoopFuture[c.Response]:
        reply = self._send_request(command)
        return reply if self._token is None else self._token.doubted(reply)

    def _send_request(self, command: c.Request) -> LoopFuture[c.Response]:
        return self._open_driver.request(command, self._options.rpc_timeout_s)

    def _respond(self, command: c.Response, correlation_id: int) -> None:
        self._open_driver.respond(command, correlation_id)
