"""How connections are made."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Mapping
from dataclasses import dataclass, field

from actorstream.backoff import BackoffPolicy
from actorstream.options.checks import check_name, count, positive, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionOptions:
    """How every connection of a client is made.

    Attributes:
        username, password, vhost: what a URI says of them overrules these.
        tls: how to verify the broker and to authenticate; only with `rabbitmq-stream+tls://`.
        name: shown for each connection in the broker's management pages, with its role added.
        heartbeat_s: the interval that is asked for; the broker may ask for less; 0 switches heartbeats off. A peer that
            is silent for twice the negotiated interval counts as dead.
        frame_max: bytes of the largest frame that is asked for; 0 leaves it to the broker.
        connect_timeout_s: for resolving, connecting and TLS together.
        rpc_timeout_s: for one request and its answer. Above 3 s, since the broker answers a refused log-in that late.
        hedge_s: a metadata query that is not answered within this time is asked of a second broker too.
        backoff: between attempts to reach one broker, and between restarts of what lost its broker.
        properties: client properties that the broker is told besides, such as a version of the application.
    """

    username: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: ssl_module.SSLContext | None = None
    name: str = "actorstream"
    heartbeat_s: int = 15
    frame_max: int = 1_048_576
    connect_timeout_s: float = 5.0
    rpc_timeout_s: float = 10.0
    hedge_s: float = 0.3
    backoff: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(base_s=0.05, cap_s=1.0))
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count("heartbeat_s", self.heartbeat_s, 0, 2**31)
        count("frame_max", self.frame_max, 0, 2**31)
        require(
            self.frame_max == 0 or self.frame_max >= 1024,
            f"frame_max is 0 or at least 1024 bytes, not {self.frame_max}",
        )
        for name in ("connect_timeout_s", "rpc_timeout_s", "hedge_s"):
            positive(name, getattr(self, name))
        check_name("a client's name", self.name)
