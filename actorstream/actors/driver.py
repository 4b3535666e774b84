"""Drives one session: carries bytes between it and a transport, keeps its time, and answers to those who asked.

Plain, and used on the loop of the `Connection` that has it. What it cannot settle itself (what the broker pushes, and
the end) goes to its owner; up to the end of the handshake there is nobody to tell, and `open` raises.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Callable, Sequence
from typing import Protocol

from actorstream.actors.future import LoopFuture
from actorstream.errors import ConnectionLost, RequestTimeout
from actorstream.options import Endpoint
from actorstream.transport import Opener, Transport, explain
from actorstream.wire import commands as c, session as s

CLOSE_TIMEOUT_S = 1.0
"""How long a polite close may wait for the broker's answer (F77)."""
STALL_S = 0.5
"""A timer that fires so late was held up by something that blocked the loop."""
AFTER_STALL_S = 0.05
"""How long the loop may read what piled up in the socket before the broker's silence is judged."""


class Owner(Protocol):
    """Who is told what happens once the session is open. `ended` is called once, by whatever comes first."""

    def pushed(self, event: s.Received | s.Skipped) -> None:
        """The broker said something that nobody asked for."""

    def ended(self, error: Exception) -> None:
        """The session is over; a bug in handling what was pushed ends it too."""


class SessionDriver:
    """See the module."""

    def __init__(self, options: s.SessionOptions, owner: Owner) -> None:
        self.session = s.Session(options)
        self._owner = owner
        self._transport: Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._stalled = False
        # Kept, since asking for it is a system call before Python 3.12, and there is one for each frame.
        self._loop = loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._waiting: dict[int, LoopFuture[c.Response]] = {}

    # From its owner -----------------------------------------------------------------------------------------------

    async def open(
        self, opener: Opener, at: Endpoint, *, tls: ssl_module.SSLContext | None, connect_timeout_s: float
    ) -> None:
        """Connect and shake hands, each step within its own deadline.

        Raises:
            ConnectFailed: it does not come up.
            ResponseError: the broker refuses.
        """
        try:
            self._transport = await opener(
                at.host,
                at.port,
                self,
                ssl=tls,
                server_hostname=at.host if tls is not None else None,
                timeout_s=connect_timeout_s,
            )
            self.session.start(self._loop.time())
            self.pump()
            await self._opened
        except BaseException:
            self.abort(ConnectionLost(f"the connection to {at} did not come up"))
            raise

    def request(self, command: c.Request, timeout_s: float) -> LoopFuture[c.Response]:
        """Send a request; the future has its answer, whatever its code, or why there is none.

        Raises:
            as `Session.request`: nothing was sent.
        """
        reply: LoopFuture[c.Response] = LoopFuture()
        number = self.session.request(command, self._loop.time(), timeout_s)
        self._waiting[number] = reply
        self.pump()
        return reply

    def send(self, command: c.Command) -> None:
        """Send a command that has no answer. Raises as `Session.send`, and `ConnectionLost` after the end."""
        self._require_open()
        self.session.send(command, self._loop.time())
        self.pump()

    def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send whole frames. Raises as `Session.send_frames`, and `ConnectionLost` after the end."""
        self._require_open()
        self.session.send_frames(frames, self._loop.time())
        self.pump()

    def respond(self, command: c.Response, correlation_id: int) -> None:
        """Answer a request of the broker. Raises as `Session.respond`."""
        self.session.respond(command, correlation_id, self._loop.time())
        self.pump()

    def pump(self) -> None:
        """Write what the session has queued, and set the timer to its next deadline."""
        chunks = self.session.data_to_send()
        transport = self._transport
        if chunks and transport is not None and not transport.is_closing:
            transport.write(chunks)
        deadline = self.session.deadline()
        if deadline is None:
            self._stop_timer()
        elif self._timer is None or deadline < self._timer_due:
            # A timer that is due too early only looks at the session and sets the next one: cheaper than to cancel
            # and set one with every frame.
            self._stop_timer()
            self._timer_due = deadline
            self._timer = self._loop.call_at(deadline, self._tick)

    async def close(self) -> None:
        """Say good-bye to the broker, but never wait long for one that may be dead; `abort` has to follow."""
        if self._transport is not None and self.session.state is s.State.OPEN:
            self._run(self.session.close)
            await asyncio.wait([self._ended], timeout=CLOSE_TIMEOUT_S)

    def hang_up(self) -> None:
        """Close the socket behind what is still to be said, the answer to the broker's Close perhaps."""
        if self._transport is not None:
            chunks = self.session.data_to_send()
            if chunks and not self._transport.is_closing:
                self._transport.write(chunks)
            self._transport.close()

    def leave(self) -> None:
        """Say good-bye without waiting for an answer, and let go; nobody is told."""
        self._ended.cancel()
        self.session.close(self._loop.time())
        self.hang_up()
        self._stop_timer()

    def abort(self, error: Exception) -> None:
        """Let go of everything; whoever waits for an answer gets `error`."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()
        self._opened.cancel()
        self._ended.cancel()
        waiting, self._waiting = self._waiting, {}
        for reply in waiting.values():
            reply.try_set_exception(error)

    # From the transport -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes from the broker."""
        self._run(lambda now: self.session.receive_data(data, now))

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone; called after the last bytes."""
        cause = "the broker closed the connection" if error is None else explain(error)
        self._run(lambda now: self.session.receive_eof(now, cause))

    # Inside -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """The session's deadline has come: but what waits in the socket is read first, after a stall of ours (F56)."""
        loop = self._loop
        self._timer = None
        if loop.time() - self._timer_due > STALL_S and not self._stalled:
            self._stalled = True
            self._timer = loop.call_later(AFTER_STALL_S, self._tick)
            return
        self._stalled = False
        self._run(self.session.tick)

    def _run(self, step: Callable[[float], list[s.Event]]) -> None:
        """Advance the session, and let an error in it end this connection instead of the loop's patience."""
        try:
            for event in step(self._loop.time()):
                self._handle(event)
            self.pump()
        except Exception as error:  # noqa: BLE001 - a callback of the loop: the connection has to die of it, visibly
            self._end(error)

    def _handle(self, event: s.Event) -> None:
        match event:
            case s.Received() | s.Skipped():
                self._owner.pushed(event)
            case s.Answered(correlation_id=number, response=response):
                if (reply := self._waiting.pop(number, None)) is not None:
                    reply.try_set(response)
            case s.TimedOut(correlation_id=number, request=request, timeout_s=seconds):
                if (reply := self._waiting.pop(number, None)) is not None:
                    reply.try_set_exception(RequestTimeout(type(request).__name__, seconds))
            case s.Opened():
                if not self._opened.done():
                    self._opened.set_result(None)
            case s.Ended(error=error):
                self._end(error)

    def _end(self, error: Exception) -> None:
        if self._ended.done():
            return
        self._ended.set_result(None)
        if not self._opened.done():
            self._opened.set_exception(error)
        else:
            self._owner.ended(error)

    def _require_open(self) -> None:
        if self._ended.done():  # it was let go of, whatever the session thinks of itself
            raise ConnectionLost("the connection has ended")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
