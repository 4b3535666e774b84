"""Who logs in: asked by each connection before each attempt, and the one place where a token is kept and renewed.

A token is shared: however many connections a client has, its provider is asked once, when four fifths of the token's
life are over, and every open connection is given the new token before the old one expires (F88). A provider that fails
is asked again after a pause that grows; each failure is an event, and none is silent.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.belongings import Timer
from actorstream.actors.calls import tell
from actorstream.actors.future import LoopFuture
from actorstream.actors.provided import provided
from actorstream.actors.runtime import Down, StreamActor
from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.errors import ActorStreamError, CredentialsUnavailable
from actorstream.options import ConnectionOptions, Credentials, Token

RENEW_AT = 0.8
"""The part of a token's life after which the next one is asked for."""
RENEW_LEAST_S = 0.5
"""A provider that keeps giving the same token, with ever less life in it, is not asked more often than this."""
PROVIDER_PAUSES = BackoffPolicy(base_s=0.5, cap_s=15.0)
"""Between questions to a provider that fails: an authorization server has its own bad days."""


@dataclass(slots=True)
class TokenLife:
    """The token at hand, and what is to be done about it; survives an incarnation of its keeper. Plain.

    Times are seconds of a clock that never goes back; only the end that a token itself names is looked up on the wall.
    """

    version: int = 0
    value: str = field(default="", repr=False)
    expires_at: float = -math.inf
    renew_at: float = math.inf
    refused: bool = False
    retry_at: float = -math.inf
    failure: CredentialsUnavailable | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(PROVIDER_PAUSES, random.Random()))

    def usable(self, now: float) -> bool:
        """Whether a connection may log in with it."""
        return self.version > 0 and not self.refused and now < self.expires_at

    def accept(self, token: Token, now: float, wall: float) -> bool:
        """Take a token that was just obtained; whether it is another one.

        One that a broker has refused counts as good when the provider insists on it: a broker that starts refuses
        everybody.

        Raises:
            CredentialsUnavailable: it has expired already.
        """
        left = token.lifetime_s(wall)
        if left <= 0:
            raise CredentialsUnavailable(
                f"the token provider gave a token that expired {-left:.0f} s ago: is the clock of this machine right?"
            )
        is_new = token.value != self.value
        if is_new:
            self.version += 1
            self.value = token.value
        self.expires_at = now + left
        self.renew_at = now + max(left * RENEW_AT, RENEW_LEAST_S)
        self.refused = False
        self.failure = None
        return is_new

    def proved(self, version: int) -> None:
        """A broker has accepted the token: the next failure is a new one."""
        if version == self.version:
            self.backoff.reset()

    def failed(self, failure: CredentialsUnavailable, now: float) -> float:
        """The provider gave no token that can be used; the seconds until it is asked again."""
        delay = self.backoff.next_delay()
        self.failure = failure
        self.retry_at = now + delay
        return delay

    def due_at(self) -> float:
        """When the provider has to be asked next."""
        return self.renew_at if self.failure is None else self.retry_at


@dataclass(slots=True)
class KeeperState:
    """What survives an incarnation of the keeper: the token, and the connections that want to hear of the next one."""

    life: TokenLife = field(default_factory=TokenLife)
    connections: dict[str, m.Ref] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _AskProvider:
    """From its own timer."""


class CredentialsKeeper(StreamActor):
    """The actor; see the module."""

    def __init__(self, *, state: KeeperState, options: ConnectionOptions, emit: Callable[[events.Event], None]) -> None:
        super().__init__()
        self._state = state
        self._options = options
        self._emit = emit
        self._asking: LoopFuture[m.Identity] | None = None
        self._timer: Timer | None = None

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        options, life = self._options, self._state.life
        shown: dict[str, object] = {"mechanism": options.mechanism}
        if options.token_provider is not None:
            now = self.home.clock.time()
            shown["tokens"] = life.version
            shown["expires_in_s"] = max(life.expires_at - now, 0.0)
            shown["connections"] = len(self._state.connections)
            shown["failure"] = str(life.failure or "")
        return shown

    def on_start(self) -> None:
        """Go on where an earlier incarnation stopped."""
        for connection in tuple(self._state.connections.values()):
            self.monitor(connection)
        self._set_timer()

    def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To the CredentialsKeeper"."""
        match message:
            case m.WhoLogsIn():
                return self._identity()
            case m.LoggedIn(connection=connection, version=version):
                self._logged_in(connection, version)
            case m.SecretRefused(version=version):
                self._on_refused(version)
            case _AskProvider():
                self._timer = None
                self._ask_token()
            case Down(ref=ref):
                self._state.connections.pop(ref.actor_urn, None)
            case _:
                return super().on_receive(message)
        return None

    # Who logs in ----------------------------------------------------------------------------------------------------

    def _identity(self) -> m.Identity | LoopFuture[m.Identity]:
        options, life = self._options, self._state.life
        if options.token_provider is None:
            if options.credentials is not None:
                return self._later(self._ask_credentials)
            if options.mechanism != "PLAIN":
                return m.Identity(options.mechanism)
            return m.Identity("PLAIN", options.username, options.password)
        now = self.home.clock.time()
        if life.usable(now):
            return self._token_identity()
        if life.failure is not None and now < life.retry_at:
            raise life.failure
        return self._ask_token()

    def _token_identity(self) -> m.Identity:
        life = self._state.life
        # Whose token it is, stands in the token: brokers do not look at the name.
        return m.Identity("PLAIN", "", life.value, life.version)

    async def _ask_credentials(self) -> m.Identity:
        assert self._options.credentials is not None
        try:
            answer = await provided(self._options.credentials, timeout_s=self._options.rpc_timeout_s)
            _expect(answer, Credentials)
        except Exception as error:
            failure = self._unavailable("credentials provider", error)
            self._emit(events.CredentialsFailed(path=self.path, reason=failure, retry_in_s=0.0))
            raise failure from error
        return m.Identity("PLAIN", answer.username, answer.password)

    def _unavailable(self, who: str, error: Exception) -> CredentialsUnavailable:
        if isinstance(error, TimeoutError):
            return CredentialsUnavailable(f"the {who} did not answer within {self._options.rpc_timeout_s:g} s")
        return CredentialsUnavailable(f"the {who} failed: {error!r}")

    # Tokens ---------------------------------------------------------------------------------------------------------

    def _ask_token(self) -> LoopFuture[m.Identity]:
        """Ask the provider, once for all who wait."""
        if self._asking is None or self._asking.done():
            self._stop_timer()
            self._asking = self._later(self._obtain)
        return self._asking

    async def _obtain(self) -> m.Identity:
        life = self._state.life
        try:
            token = await self._provided_token()
            is_new = life.accept(token, self.home.clock.time(), time.time())
        except CredentialsUnavailable as failure:
            self._failed(failure)
            raise
        self._set_timer()
        identity = self._token_identity()
        if is_new:
            for connection in tuple(self._state.connections.values()):
                tell(connection, m.Renew(identity))
        return identity

    async def _provided_token(self) -> Token:
        assert self._options.token_provider is not None
        try:
            token = await provided(self._options.token_provider, timeout_s=self._options.rpc_timeout_s)
            _expect(token, Token)
        except Exception as error:
            raise self._unavailable("token provider", error) from error
        return token

    def _logged_in(self, connection: m.Ref, version: int) -> None:
        self._state.connections[connection.actor_urn] = connection
        self.monitor(connection)
        self._state.life.proved(version)
        if version < self._state.life.version:  # a newer one came while it was on its way
            tell(connection, m.Renew(self._token_identity()))

    def _on_refused(self, version: int) -> None:
        """Whoever comes next needs another one; those that are open go on with what they have."""
        life = self._state.life
        if version == life.version and version > 0 and not life.refused:
            life.refused = True
            self._failed(CredentialsUnavailable("a broker has refused the token that the provider gave"))

    def _failed(self, failure: CredentialsUnavailable) -> None:
        delay = self._state.life.failed(failure, self.home.clock.time())
        self._emit(events.CredentialsFailed(path=self.path, reason=failure, retry_in_s=delay))
        self._set_timer()

    # Inside ---------------------------------------------------------------------------------------------------------

    def _later(self, work: Callable[[], Coroutine[Any, Any, m.Identity]]) -> LoopFuture[m.Identity]:
        """Answer when the work is done, and take the next message meanwhile."""
        reply: LoopFuture[m.Identity] = LoopFuture()

        async def run() -> None:
            try:
                reply.try_set(await work())
            except ActorStreamError as error:
                reply.try_set_exception(error)

        self.spawn(run())
        return reply

    def _set_timer(self) -> None:
        self._stop_timer()
        due = self._state.life.due_at() if self._options.token_provider is not None else math.inf
        if math.isfinite(due):
            self._timer = self.call_later(due - self.home.clock.time(), _AskProvider())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _expect(answer: object, kind: type) -> None:
    if not isinstance(answer, kind):
        raise TypeError(f"it gives {type(answer).__name__}, not {kind.__name__}")
