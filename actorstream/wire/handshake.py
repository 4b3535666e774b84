"""How a connection comes up: the client's side of the handshake (protocol section 2.1), one step after the other.

Steps are never sent ahead of the answer to the one before: brokers drop a pipelined handshake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from actorstream.errors import InvalidArgument, MalformedFrame, ResponseError, response_error
from actorstream.wire.capabilities import CLIENT_VERSIONS, Capabilities
from actorstream.wire.commands import (
    Command,
    ExchangeCommandVersions,
    ExchangeCommandVersionsResponse,
    Open,
    OpenResponse,
    PeerProperties,
    PeerPropertiesResponse,
    Response,
    SaslAuthenticate,
    SaslAuthenticateResponse,
    SaslHandshake,
    SaslHandshakeResponse,
    Tune,
)
from actorstream.wire.constants import DEFAULT_FRAME_MAX, ResponseCode
from actorstream.wire.fields import interpreted

_MECHANISMS: Final = ("PLAIN", "ANONYMOUS", "EXTERNAL")

_LARGE_SECRET: Final = 8000

_EXPECTED: Final[dict[str, type[Command]]] = {
    "peer-properties": PeerPropertiesResponse,
    "sasl-handshake": SaslHandshakeResponse,
    "sasl-authenticate": SaslAuthenticateResponse,
    "tune": Tune,
    "open": OpenResponse,
    "exchange-command-versions": ExchangeCommandVersionsResponse,
}


@interpreted
@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOptions:
    """What a session needs to know before its first byte.

    Attributes:
        address: where the broker is, for error messages only.
        mechanism: "PLAIN", "ANONYMOUS" (no credentials), or "EXTERNAL" (the client certificate says who it is).
        username, password: for PLAIN; with OAuth 2 the password is the token and the user name does not matter.
        connection_name: shown in the broker's management pages.
        properties: told to the broker besides, or instead of, product and platform.
        frame_max: bytes of the largest frame to ask for; 0 leaves it to the broker.
        heartbeat_s: the interval to ask for; 0 is without, if the broker agrees.
        step_timeout_s: for each step of the handshake. Above 3 s, since brokers refuse credentials that late (F87).
        close_timeout_s: how long `close` waits for the broker's answer.
    """

    address: str
    mechanism: str = "PLAIN"
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    connection_name: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    frame_max: int = DEFAULT_FRAME_MAX
    heartbeat_s: int = 60
    step_timeout_s: float = 10.0
    close_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.mechanism not in _MECHANISMS:
            raise InvalidArgument(f"the mechanism is one of {', '.join(_MECHANISMS)}, not {self.mechanism!r}")
        # The password stays out of the message: errors are logged.
        if "\0" in self.username or "\0" in self.password:
            raise InvalidArgument("user name and password must not contain the character NUL: it separates them")


def negotiate(ours: int, theirs: int) -> int:
    """The tune rule (section 2.2): 0 means without limit, so that it gives way to any number; else the smaller wins."""
    return min(ours, theirs) if ours and theirs else max(ours, theirs)


def sasl_authenticate(mechanism: str, username: str, password: str) -> SaslAuthenticate:
    """The credentials as SASL wants them; also for renewing a secret on an open connection.

    Raises:
        InvalidArgument: user name or password is not Unicode text.
    """
    if mechanism != "PLAIN":
        return SaslAuthenticate(mechanism, b"")
    try:
        return SaslAuthenticate(mechanism, f"\0{username}\0{password}".encode())
    except UnicodeEncodeError:
        raise InvalidArgument("user name or password cannot be encoded in UTF-8") from None


class Handshake:
    """Knows what to say next. `advance` takes what the broker said, and returns that.

    Attributes:
        step: the step under way, for errors: "peer-properties", "sasl-handshake", "sasl-authenticate", "tune", "open",
            "exchange-command-versions"; "done" at the end.
        frame_max, heartbeat_s: as negotiated, from the step "open" on; 0 is without.
    """

    __slots__ = (
        "_options",
        "capabilities",
        "connection_properties",
        "frame_max",
        "heartbeat_s",
        "server_properties",
        "step",
    )

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self.step = "peer-properties"
        self.server_properties: Mapping[str, str] = {}
        self.connection_properties: Mapping[str, str] = {}
        self.capabilities = Capabilities({})
        self.frame_max = 0
        self.heartbeat_s = 0

    def begin(self) -> PeerProperties:
        """What to send first."""
        properties = {"product": "actorstream", "platform": "Python"}
        properties.update(self._options.properties)
        if self._options.connection_name:
            properties["connection_name"] = self._options.connection_name
        return PeerProperties(properties)

    def advance(self, command: Command) -> list[Command]:
        """What to send after this arrived, in order.

        Raises:
            MalformedFrame: the broker is not expected to say this at this step.
            ResponseError: the broker refuses.
            InvalidArgument: one of the options cannot be put on the wire.
        """
        if not isinstance(command, _EXPECTED[self.step]):
            raise MalformedFrame(f"{type(command).__name__} is not what follows here")
        if isinstance(command, Response) and not command.ok:
            raise self._refusal(command.code)
        if isinstance(command, PeerPropertiesResponse):
            return self._peer_properties(command)
        if isinstance(command, SaslHandshakeResponse):
            return self._sasl_handshake(command)
        if isinstance(command, Tune):
            return self._tune(command)
        if isinstance(command, OpenResponse):
            return self._open(command)
        if isinstance(command, ExchangeCommandVersionsResponse):
            self.capabilities.learn(command.commands)
            self.step = "done"
        else:
            self.step = "tune"  # the broker goes on by itself
        return []

    def hint(self) -> str:
        """What may be behind a broker that ends the handshake at this step without a word; "" for nothing."""
        size = len(self._options.password)
        if self.step != "sasl-authenticate" or size < _LARGE_SECRET:
            return ""
        return (
            f" (the token or password has {size} bytes: from 4.3.5 on, brokers take frames of 8192 bytes before a "
            "connection is open, or as many as stream.initial_frame_max says)"
        )

    def _peer_properties(self, response: PeerPropertiesResponse) -> list[Command]:
        self.server_properties = response.properties
        self.capabilities = Capabilities(response.properties)
        self.step = "sasl-handshake"
        return [SaslHandshake()]

    def _sasl_handshake(self, response: SaslHandshakeResponse) -> list[Command]:
        options = self._options
        if options.mechanism not in response.mechanisms:
            offer = ", ".join(response.mechanisms) or "none"
            raise response_error(
                ResponseCode.SASL_MECHANISM_NOT_SUPPORTED,
                f"{options.mechanism}; the broker at {options.address} offers {offer}",
            )
        self.step = "sasl-authenticate"
        return [sasl_authenticate(options.mechanism, options.username, options.password)]

    def _tune(self, tune: Tune) -> list[Command]:
        self.frame_max = negotiate(self._options.frame_max, tune.frame_max)
        self.heartbeat_s = negotiate(self._options.heartbeat_s, tune.heartbeat)
        self.step = "open"
        return [Tune(self.frame_max, self.heartbeat_s), Open(self._options.vhost)]

    def _open(self, response: OpenResponse) -> list[Command]:
        self.connection_properties = response.properties
        if not self.capabilities.exchanges_versions:
            self.step = "done"
            return []
        self.step = "exchange-command-versions"
        return [ExchangeCommandVersions(CLIENT_VERSIONS)]

    def _refusal(self, code: int) -> ResponseError:
        options = self._options
        who: dict[str, Any] = {"step": self.step, "broker": options.address}
        if self.step == "sasl-authenticate" and options.username:
            who["user"] = options.username
        elif self.step == "open":
            who["vhost"] = options.vhost
        context = ", ".join([f"{name} {value!r}" for name, value in who.items()])
        return response_error(code, context + (_advice(options) if code == ResponseCode.AUTHENTICATION_FAILURE else ""))


def _advice(options: SessionOptions) -> str:
    """What to look at when a log-in is refused: brokers do not say why."""
    if options.mechanism == "EXTERNAL":
        return ": the broker knows no user by the client certificate, or none was given (load_cert_chain)"
    if options.mechanism == "ANONYMOUS":
        return ": the broker's user for anonymous log-ins does not exist, or has another password"
    if options.username:
        return ": check user name and password"
    return ": check the token's signature, audience and expiry, and the broker's log"
