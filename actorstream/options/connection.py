"""How connections are made."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Mapping
from dataclasses import dataclass, field

from actorstream.backoff import BackoffPolicy
from actorstream.options.address import AddressResolver
from actorstream.options.checks import check_name, count, positive, require
from actorstream.options.credentials import MECHANISMS, CredentialsProvider, TokenProvider


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionOptions:
    """How every connection of a client is made.

    Attributes:
        username, password, vhost: what a URI says of them overrules these.
        mechanism: how to log in: "PLAIN" with user and password, or with what a provider gives; "EXTERNAL" as whom the
            client certificate in `tls` names; "ANONYMOUS" as the user that the broker keeps for that.
        credentials: asked for user and password before each attempt to log in, in place of `username` and `password`.
        token_provider: asked for an OAuth 2 token, which all connections share, and which is renewed on them while they
            are open, when four fifths of its life are over. It takes the place of user and password.
        tls: how to verify the broker and to authenticate; only with `rabbitmq-stream+tls://`.
        name: shown for each connection in the broker's management pages, with its role and a number added.
        load_balancer_mode: reach all brokers through the addresses of the URIs: behind them, a load balancer decides
            who answers, and whoever gets to the wrong broker tries again.
        address_resolver: asked where to connect to for each broker that the cluster names; not for those of the URIs.
        heartbeat_s: the interval that is asked for; the broker may ask for less; 0 switches heartbeats off. A peer that
            is silent for twice the negotiated interval counts as dead.
        frame_max: bytes of the largest frame that is asked for; 0 leaves it to the broker.
        connect_timeout_s: for resolving, connecting and TLS together.
        rpc_timeout_s: for one request and its answer, one of a provider's included. Above 3 s, since the broker answers
            a refused log-in that late.
        hedge_s: a metadata query that is not answered within this time is asked of a second broker too.
        backoff: between attempts to reach one broker, and between restarts of what lost its broker.
        properties: client properties that the broker is told besides, such as a version of the application.
    """

    username: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    mechanism: str = "PLAIN"
    credentials: CredentialsProvider | None = field(default=None, repr=False)
    token_provider: TokenProvider | None = field(default=None, repr=False)
    tls: ssl_module.SSLContext | None = None
    load_balancer_mode: bool = False
    address_resolver: AddressResolver | None = field(default=None, repr=False)
    name: str = "actorstream"
    heartbeat_s: int = 15
    frame_max: int = 1_048_576
    connect_timeout_s: float = 5.0
    rpc_timeout_s: float = 10.0
    hedge_s: float = 0.3
    backoff: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(base_s=0.05, cap_s=1.0))
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(isinstance(self.username, str), f"a user's name is a string, not {self.username!r}")
        require(isinstance(self.password, str), "a password is a string")
        require(isinstance(self.vhost, str), f"a virtual host's name is a string, not {self.vhost!r}")
        require(
            self.mechanism in MECHANISMS, f"the mechanism is one of {', '.join(MECHANISMS)}, not {self.mechanism!r}"
        )
        for name in ("credentials", "token_provider", "address_resolver"):
            provider = getattr(self, name)
            require(provider is None or callable(provider), f"{name} is a function, not {provider!r}")
        require(
            self.credentials is None or self.token_provider is None,
            "either credentials or a token_provider say who logs in, not both",
        )
        require(
            self.mechanism == "PLAIN" or (self.credentials is None and self.token_provider is None),
            f"credentials and tokens are for the mechanism PLAIN: {self.mechanism} takes none",
        )
        require(
            not self.load_balancer_mode or self.address_resolver is None,
            "behind a load balancer all connections go to the addresses of the URIs: there is nothing to resolve",
        )
        count("heartbeat_s", self.heartbeat_s, 0, 2**31)
        count("frame_max", self.frame_max, 0, 2**31)
        require(
            self.frame_max == 0 or self.frame_max >= 1024,
            f"frame_max is 0 or at least 1024 bytes, not {self.frame_max}",
        )
        for name in ("connect_timeout_s", "rpc_timeout_s", "hedge_s"):
            positive(name, getattr(self, name))
        check_name("a client's name", self.name)
