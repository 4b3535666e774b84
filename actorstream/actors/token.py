"""The token of one open connection: it is renewed, and what the broker refuses because of it is not believed at once.

Plain: used by its `Connection`, on whose loop everything happens.
"""

from __future__ import annotations

from collections.abc import Callable

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.future import LoopFuture
from actorstream.errors import (
    ActorStreamError,
    Closed,
    ConnectionLost,
    ResponseError,
    UnsupportedByBroker,
    response_error,
)
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode
from actorstream.wire.handshake import sasl_authenticate

SAME_USER_CODES = (ResponseCode.SASL_CANNOT_CHANGE_MECHANISM, ResponseCode.SASL_CANNOT_CHANGE_USERNAME)
"""A new token is refused because it is somebody else's: a new connection can have it."""


class ConnectionToken:
    """See the module.

    Args:
        identity: what the connection has logged in with.
        broker: whom with, for events and errors.
        path: of the connection's actor, for events.
        request: sends a request; its future has the answer. Raises when nothing was sent.
        tell_keeper: tells the `CredentialsKeeper`.
        lost: ends the connection.
        emit: emits events.
    """

    def __init__(
        self,
        identity: m.Identity,
        *,
        broker: str,
        path: str,
        request: Callable[[c.Request], LoopFuture[c.Response]],
        tell_keeper: Callable[[object], object],
        lost: Callable[[ConnectionLost], object],
        emit: Callable[[events.Event], None],
    ) -> None:
        self._identity = identity
        self._broker = broker
        self._path = path
        self._request = request
        self._tell_keeper = tell_keeper
        self._lost = lost
        self._emit = emit

    # Renewing -----------------------------------------------------------------------------------------------------

    def renew(self, identity: m.Identity, logged_in: m.LoggedIn) -> None:
        """Give the broker a new token (protocol section 2.7); no Tune and no Open follow.

        The keeper is told `logged_in` when the broker has taken it.
        """

        def answered(future: LoopFuture[c.Response]) -> None:
            try:
                code = future.get(timeout=0).code
            except (ConnectionLost, Closed):  # that is an event of its own
                return
            except ActorStreamError as error:
                self._renewal_failed(identity, error)
                return
            if code == ResponseCode.OK:
                self._identity = identity
                self._tell_keeper(logged_in)
                self._emit(events.SecretRenewed(path=self._path, broker=self._broker))
            else:
                self._renewal_failed(identity, response_error(code, f"a new token, at {self._broker}"))

        try:
            self._authenticate(identity).add_done_callback(answered)
        except UnsupportedByBroker as error:
            self._renewal_failed(identity, error)
        except ConnectionLost:  # it is on its way out
            return

    def _renewal_failed(self, identity: m.Identity, error: ActorStreamError) -> None:
        self._emit(events.RenewalFailed(path=self._path, broker=self._broker, reason=error))
        if isinstance(error, UnsupportedByBroker) or getattr(error, "response_code", None) in SAME_USER_CODES:
            # Without a cause: no log-in was refused, so that the next one need not wait.
            self._lost(ConnectionLost(f"the connection to {self._broker} is replaced, for a new token: {error}"))
        elif isinstance(error, ResponseError):
            self._tell_keeper(m.SecretRefused(identity.version))

    # Doubting -----------------------------------------------------------------------------------------------------

    def doubted(self, reply: LoopFuture[c.Response]) -> LoopFuture[c.Response]:
        """The answer, unless it is a refusal that is owed to an expired token: then the connection ends instead.

        A broker drops a connection whose token has expired, but not at that moment; until then, nothing is allowed on
        it any more. Who was told so would believe that a permission is missing, and give up (F88, F89). So a refusal
        counts only if the broker accepts the token once more.
        """
        believed: LoopFuture[c.Response] = LoopFuture()

        def answered(future: LoopFuture[c.Response]) -> None:
            try:
                response = future.get(timeout=0)
                if not _refuses(response):
                    believed.try_set(response)
                    return
                self._authenticate(self._identity).add_done_callback(
                    lambda probe: self._judge(probe, response, believed)
                )
            except UnsupportedByBroker:  # those do not look at the end of a token either
                believed.try_set(response)
            except ActorStreamError as error:
                believed.try_set_exception(error)

        reply.add_done_callback(answered)
        return believed

    def _judge(self, probe: LoopFuture[c.Response], response: c.Response, believed: LoopFuture[c.Response]) -> None:
        version = self._identity.version
        try:
            code = probe.get(timeout=0).code
        except ActorStreamError as error:
            believed.try_set_exception(error)
            return
        if code == ResponseCode.OK:
            believed.try_set(response)
            return
        self._tell_keeper(m.SecretRefused(version))
        lost = ConnectionLost(f"the token of the connection to {self._broker} is not good any more")
        believed.try_set_exception(lost)
        self._lost(lost)

    def _authenticate(self, identity: m.Identity) -> LoopFuture[c.Response]:
        return self._request(sasl_authenticate(identity.mechanism, identity.username, identity.password))


def _refuses(response: c.Response) -> bool:
    if isinstance(response, c.MetadataResponse):  # has a code for each stream
        return any(stream.code == ResponseCode.ACCESS_REFUSED for stream in response.streams)
    return response.code == ResponseCode.ACCESS_REFUSED
