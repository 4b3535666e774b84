"""What a user may set: frozen keyword-only dataclasses, whose values are checked when they are made.

Durations are seconds and may be fractions; sizes are bytes. A wrong one raises `InvalidArgument` at once, never later.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import re
import ssl as ssl_module
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from actorstream.backoff import BackoffPolicy
from actorstream.errors import InvalidArgument

DEFAULT_PORT = 5552
DEFAULT_TLS_PORT = 5551

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise InvalidArgument(message)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _positive(name: str, value: float | None, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    _require(_is_number(value) and value > 0, f"{name} is a number above 0, not {value!r}")  # type: ignore[operator]


def _count(name: str, value: int, low: int, high: int) -> None:
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(ok, f"{name} is an integer from {low} to {high}, not {value!r}")


def check_name(what: str, value: str) -> str:
    """A stream's or reference's name as the broker accepts it: not empty, at most 255 bytes of UTF-8, one line.

    Raises:
        InvalidArgument: none such.
    """
    _require(isinstance(value, str) and value != "", f"{what} is a non-empty string, not {value!r}")
    size = len(value.encode("utf-8", "surrogatepass"))
    _require(size <= 255, f"{what} has {size} bytes in UTF-8, and the broker takes 255 at most")
    # The broker strips line breaks silently, so that one would read from another stream than one wrote to.
    _require("\r" not in value and "\n" not in value, f"{what} must not contain line breaks: {value!r}")
    return value


def parse_size(value: int | str) -> int:
    """Bytes, from an integer or a string such as "500MB" (decimal) or "64MiB" (binary).

    Raises:
        InvalidArgument: neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        _require(value > 0, f"a size is above 0, not {value!r}")
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+)\s*([a-zA-Z]*)\s*", value)
        if match and match[2].lower() in _SIZE_UNITS and int(match[1]) > 0:
            return int(match[1]) * _SIZE_UNITS[match[2].lower()]
    raise InvalidArgument(f'a size is bytes as an integer, or a string such as "500MB" or "64MiB", not {value!r}')


def parse_age(value: dt.timedelta | float) -> int:
    """Whole seconds, from a `timedelta` or a number of seconds.

    Raises:
        InvalidArgument: not positive, or not a whole number of seconds.
    """
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    ok = _is_number(seconds) and seconds >= 1 and float(seconds).is_integer()
    _require(ok, f"an age is a timedelta or seconds, whole and at least 1, not {value!r}")
    return int(seconds)


class LeaderLocator(enum.Enum):
    """Where the broker puts a new stream's leader."""

    CLIENT_LOCAL = "client-local"
    BALANCED = "balanced"


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamArguments:
    """The arguments of a new stream (protocol section Create); on some wrong ones the broker would drop the connection.

    Attributes:
        max_length: bytes the stream may hold before its oldest segment goes; "10GB" works too.
        max_age: age beyond which its oldest segment goes: a timedelta or seconds.
        max_segment_size: bytes of one segment file, at most 3 GB; "500MB" works too.
        leader_locator: where the leader is put.
        initial_cluster_size: number of members, 1 or more.
        filter_size: bytes of a chunk's Bloom filter, 16 to 255.
    """

    max_length: int | str | None = None
    max_age: dt.timedelta | float | None = None
    max_segment_size: int | str | None = None
    leader_locator: LeaderLocator | str | None = None
    initial_cluster_size: int | None = None
    filter_size: int | None = None

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> dict[str, str]:
        """The arguments as the broker wants them: a map of strings."""
        wire: dict[str, str] = {}
        if self.max_length is not None:
            wire["max-length-bytes"] = str(parse_size(self.max_length))
        if self.max_age is not None:
            wire["max-age"] = f"{parse_age(self.max_age)}s"
        if self.max_segment_size is not None:
            size = parse_size(self.max_segment_size)
            _require(size <= 3_000_000_000, f"max_segment_size is at most 3 GB, not {size}")
            wire["stream-max-segment-size-bytes"] = str(size)
        if self.leader_locator is not None:
            try:
                wire["queue-leader-locator"] = LeaderLocator(self.leader_locator).value
            except ValueError:
                choices = ", ".join(repr(locator.value) for locator in LeaderLocator)
                raise InvalidArgument(f"leader_locator is one of {choices}, not {self.leader_locator!r}") from None
        if self.initial_cluster_size is not None:
            _count("initial_cluster_size", self.initial_cluster_size, 1, 255)
            wire["initial-cluster-size"] = str(self.initial_cluster_size)
        if self.filter_size is not None:
            _count("filter_size", self.filter_size, 16, 255)
            wire["stream-filter-size-bytes"] = str(self.filter_size)
        return wire


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Host and port of a broker, as a seed URI or Metadata names it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """What one URI says. Fields that the URI leaves out are None."""

    endpoint: Endpoint
    tls: bool
    username: str | None
    password: str | None
    vhost: str | None


def parse_uri(uri: str) -> Address:
    """`rabbitmq-stream://user:password@host:port/vhost`, or `rabbitmq-stream+tls://…`.

    User, password and vhost are percent-decoded; no path, or "/", means the default vhost. Ports: 5552, TLS 5551.

    Raises:
        InvalidArgument: another scheme, no host, or a port that is none.
    """
    _require(isinstance(uri, str), f"a URI is a string, not {uri!r}")
    form = "rabbitmq-stream://user:password@host:5552/vhost or rabbitmq-stream+tls://…"
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"not a usable URI ({error}): the form is {form}") from None
    # The password is in the URI, so the message names only the scheme.
    _require(
        parts.scheme in ("rabbitmq-stream", "rabbitmq-stream+tls"),
        f"the URI's scheme is {parts.scheme!r}: the form is {form}",
    )
    _require(bool(parts.hostname), f"the URI names no host: the form is {form}")
    _require(not parts.query and not parts.fragment, f"a URI carries no query or fragment: the form is {form}")
    _require(port != 0, f"the URI's port is 0: the form is {form}")
    tls = parts.scheme.endswith("+tls")
    vhost = unquote(parts.path[1:]) if len(parts.path) > 1 else None
    return Address(
        Endpoint(parts.hostname or "", port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT)),
        tls,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        vhost,
    )


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
        _count("heartbeat_s", self.heartbeat_s, 0, 2**31)
        _count("frame_max", self.frame_max, 0, 2**31)
        _require(
            self.frame_max == 0 or self.frame_max >= 1024,
            f"frame_max is 0 or at least 1024 bytes, not {self.frame_max}",
        )
        for name in ("connect_timeout_s", "rpc_timeout_s", "hedge_s"):
            _positive(name, getattr(self, name))
        check_name("a client's name", self.name)


class Replay(enum.Enum):
    """What becomes of messages that were sent and not confirmed when their connection was lost.

    A producer with a name replays them in either case: the broker drops what it already has.
    """

    RESEND = "resend"
    """Send them again: at least once, a message may be stored twice."""
    FAIL = "fail"
    """Their receipts raise `Unconfirmed`: at most once, the caller decides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProducerOptions:
    """How a producer buffers and waits.

    Attributes:
        name: the reference for deduplication, "" for none.
        max_unconfirmed: messages that may be queued or in flight; `send` waits when there are as many.
        max_unconfirmed_bytes: the same in bytes.
        send_timeout_s: how long `send` waits for room before it raises `OutboxFull`; None waits as long as it takes.
        confirm_timeout_s: from `send` until the receipt gives up with `Unconfirmed`; None waits as long as it takes.
        replay: what an unnamed producer does with unconfirmed messages after a lost connection.
        raw: bytes are stored as they are, not as the data section of an AMQP 1.0 message.
    """

    name: str = ""
    max_unconfirmed: int = 10_000
    max_unconfirmed_bytes: int = 64 * 2**20
    send_timeout_s: float | None = None
    confirm_timeout_s: float | None = 60.0
    replay: Replay = Replay.RESEND
    raw: bool = False

    def __post_init__(self) -> None:
        if self.name:
            check_name("a producer's name", self.name)
        _count("max_unconfirmed", self.max_unconfirmed, 1, 2**31)
        _count("max_unconfirmed_bytes", self.max_unconfirmed_bytes, 1, 2**40)
        _positive("send_timeout_s", self.send_timeout_s, optional=True)
        _positive("confirm_timeout_s", self.confirm_timeout_s, optional=True)
        _require(isinstance(self.replay, Replay), f"replay is a member of Replay, not {self.replay!r}")


class OnGap(enum.Enum):
    """What a consumer does when the next offset it wants is no longer in the stream (retention)."""

    CONTINUE = "continue"
    """Emit an `OffsetGap` event and go on with the first offset there is."""
    RAISE = "raise"
    """Raise `errors.OffsetGap` from the iterator."""


class OnTruncated(enum.Enum):
    """What a consumer does when the next offset it wants is beyond the end (stream made anew, or its tail lost)."""

    FIRST = "first"
    """Emit a `StreamTruncated` event and read the stream from its beginning."""
    NEXT = "next"
    """Emit a `StreamTruncated` event and go on with what is written from now on."""
    RAISE = "raise"
    """Raise `errors.StreamTruncated` from the iterator."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerOptions:
    """How a consumer reads.

    Attributes:
        credit: chunks the broker may send ahead; at least 2, since a broker resumes only above half of it.
        raw: records are delivered as stored, without being taken for AMQP 1.0.
        prefer_leader: read from the leader, and not, as usual, from a replica.
        on_gap, on_truncated: see there.
    """

    credit: int = 10
    raw: bool = False
    prefer_leader: bool = False
    on_gap: OnGap = OnGap.CONTINUE
    on_truncated: OnTruncated = OnTruncated.FIRST

    def __post_init__(self) -> None:
        _count("credit", self.credit, 2, 32_767)
        _require(isinstance(self.on_gap, OnGap), f"on_gap is a member of OnGap, not {self.on_gap!r}")
        _require(
            isinstance(self.on_truncated, OnTruncated),
            f"on_truncated is a member of OnTruncated, not {self.on_truncated!r}",
        )
