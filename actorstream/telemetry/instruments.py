"""Every instrument, and what it reads: counters of handles, which are kept anyway, and the events of a client.

Names are those of OpenTelemetry's conventions for messaging where these have one; the others begin with "actorstream.".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from actorstream import events
from actorstream.consumer import Consumer
from actorstream.producer import Producer

Attributes = tuple[tuple[str, str | int | bool], ...]
"""Names and values, in an order of their own: the key under which numbers are put together."""

SYSTEM = ("messaging.system", "rabbitmq")
CLIENT = "messaging.client.id"
STREAM = "messaging.destination.name"
PRODUCER_NAME = "actorstream.producer.name"
ROLE = "actorstream.connection.role"
CONSUMER_NAME = "messaging.consumer.group.name"
ERROR = "error.type"
OTHER_ERROR = "_OTHER"
"""What the conventions say where the type is not known: outcomes are counted, not kept."""


class Kind(enum.Enum):
    """How values of several handles with the same attributes become one."""

    COUNTER = "counter"
    """They are added up, and what a handle has counted stays when it is closed."""
    SUM = "sum"
    """They are added up."""
    HIGHEST = "highest"
    LOWEST = "lowest"

    def combine(self, one: float, other: float) -> float:
        """The value of both."""
        return max(one, other) if self is Kind.HIGHEST else min(one, other) if self is Kind.LOWEST else one + other


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument, as it is exported."""

    name: str
    kind: Kind
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What an instrument reads of a handle; None where there is nothing to tell. Called on any thread."""

    of_producer: Callable[[Producer], int | None] | None = None
    of_consumer: Callable[[Consumer], int | None] | None = None
    attributes: Attributes = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """What an instrument makes of an event: how much it adds, and under which attributes."""

    instrument: str
    attributes: Callable[[events.Event], Attributes]
    amount: Callable[[events.Event], float] = lambda _: 1


SENT = "messaging.client.sent.messages"
CONSUMED = "messaging.client.consumed.messages"
CONNECTIONS = "actorstream.connection.count"

_ALL = (
    # Producers
    Instrument(SENT, Kind.COUNTER, "{message}", "Messages that got their outcome; with error.type, they failed"),
    Instrument("actorstream.producer.unsettled", Kind.SUM, "{message}", "Messages accepted that have no outcome yet"),
    Instrument("actorstream.producer.accepted_bytes", Kind.COUNTER, "By", "Bytes of the messages accepted, encoded"),
    Instrument("actorstream.producer.confirmed_bytes", Kind.COUNTER, "By", "Bytes of the messages confirmed, encoded"),
    Instrument("actorstream.producer.count", Kind.SUM, "{producer}", "Open producers"),
    # Consumers
    Instrument(CONSUMED, Kind.COUNTER, "{message}", "Messages handed to the application, also again"),
    Instrument("actorstream.consumer.delivered_messages", Kind.COUNTER, "{message}", "Messages the broker delivered"),
    Instrument("actorstream.consumer.delivered_bytes", Kind.COUNTER, "By", "Bytes of these messages, as stored"),
    Instrument("actorstream.consumer.delivered_chunks", Kind.COUNTER, "{chunk}", "Chunks in which they came"),
    Instrument("actorstream.consumer.lag", Kind.HIGHEST, "{offset}", "Offsets behind the newest committed chunk"),
    Instrument("actorstream.consumer.position", Kind.LOWEST, "{offset}", "The next offset to be dispatched"),
    Instrument("actorstream.consumer.completed_offset", Kind.LOWEST, "{offset}", "The last offset completed"),
    Instrument("actorstream.consumer.stored_offset", Kind.LOWEST, "{offset}", "The offset known to be stored"),
    Instrument("actorstream.consumer.active", Kind.SUM, "{consumer}", "Consumers that may be handed messages"),
    Instrument("actorstream.consumer.count", Kind.SUM, "{consumer}", "Open consumers"),
    # Connections and actors
    Instrument(CONNECTIONS, Kind.SUM, "{connection}", "Connections that are there or being made"),
    Instrument("actorstream.connection.opened", Kind.COUNTER, "{connection}", "Connections that came up"),
    Instrument("actorstream.connection.lost", Kind.COUNTER, "{connection}", "Connections lost, or that never came up"),
    Instrument("actorstream.credentials.failures", Kind.COUNTER, "{failure}", "Tokens not to be had, or not renewed"),
    Instrument("actorstream.actor.restarts", Kind.COUNTER, "{restart}", "Actors started again after a failure"),
    Instrument("actorstream.actor.surrenders", Kind.COUNTER, "{actor}", "Actors that were not started again"),
    Instrument("actorstream.loop.blocked", Kind.COUNTER, "s", "Seconds for which the loop of the actors stood still"),
    # What happens to streams
    Instrument("actorstream.moves", Kind.COUNTER, "{move}", "Publishers and subscribers that went to another broker"),
    Instrument("actorstream.consumer.gaps", Kind.COUNTER, "{gap}", "Times at which retention was faster"),
    Instrument("actorstream.consumer.gap_offsets", Kind.COUNTER, "{offset}", "Offsets that were skipped for that"),
    Instrument("actorstream.consumer.truncations", Kind.COUNTER, "{truncation}", "Streams found shorter, or made anew"),
    Instrument(
        "actorstream.consumer.stores", Kind.COUNTER, "{store}", "Offsets stored; with error.type, that were not"
    ),
    Instrument("actorstream.consumer.activations", Kind.COUNTER, "{change}", "Times a consumer became the active one"),
    Instrument("actorstream.consumer.deactivations", Kind.COUNTER, "{change}", "Times a consumer ceased to be it"),
    Instrument("actorstream.super_stream.changes", Kind.COUNTER, "{change}", "Changes of partitions seen"),
)

INSTRUMENTS: Mapping[str, Instrument] = {one.name: one for one in _ALL}
"""All of them, by name."""


def _stored(consumer: Consumer) -> int | None:
    tracking = consumer._tracking  # noqa: SLF001 - what the handle would ask its actor for
    return None if tracking is None else tracking.stored_last


READINGS: Mapping[str, tuple[Reading, ...]] = {
    SENT: (
        Reading(of_producer=lambda one: one.confirmed),
        Reading(of_producer=lambda one: one.failed or None, attributes=((ERROR, OTHER_ERROR),)),
    ),
    "actorstream.producer.unsettled": (Reading(of_producer=lambda one: one.unsettled),),
    "actorstream.producer.accepted_bytes": (Reading(of_producer=lambda one: one.accepted_bytes),),
    "actorstream.producer.confirmed_bytes": (Reading(of_producer=lambda one: one.confirmed_bytes),),
    "actorstream.producer.count": (Reading(of_producer=lambda _: 1),),
    CONSUMED: (Reading(of_consumer=lambda one: one.dispatched),),
    "actorstream.consumer.delivered_messages": (Reading(of_consumer=lambda one: one.delivered_messages),),
    "actorstream.consumer.delivered_bytes": (Reading(of_consumer=lambda one: one.delivered_bytes),),
    "actorstream.consumer.delivered_chunks": (Reading(of_consumer=lambda one: one.delivered_chunks),),
    "actorstream.consumer.lag": (Reading(of_consumer=lambda one: one.lag),),
    "actorstream.consumer.position": (Reading(of_consumer=lambda one: one.position),),
    "actorstream.consumer.completed_offset": (Reading(of_consumer=lambda one: one.completed),),
    "actorstream.consumer.stored_offset": (Reading(of_consumer=_stored),),
    "actorstream.consumer.active": (Reading(of_consumer=lambda one: int(one.active)),),
    "actorstream.consumer.count": (Reading(of_consumer=lambda _: 1),),
}
"""By the name of an instrument."""


def _error(error: BaseException | None) -> Attributes:
    return () if error is None else ((ERROR, type(error).__name__),)


def _broker(event: events.Event) -> Attributes:
    host, _, port = str(getattr(event, "broker", "")).rpartition(":")
    where: Attributes = (("server.address", host), ("server.port", int(port))) if port.isdecimal() else ()
    return where + _reason(event)


def _stream(event: events.Event) -> Attributes:
    return ((STREAM, getattr(event, "stream", "")),)


def _reason(event: events.Event) -> Attributes:
    return _error(getattr(event, "reason", None))


def _actor(event: events.Event) -> Attributes:
    # root/publishers/orders-1: the supervisor says what it is; the last part would make a series of each.
    parts = event.path.split("/")
    return (("actorstream.actor.kind", parts[min(1, len(parts) - 1)]), *_reason(event))


def _named(event: events.Event) -> Attributes:
    return (*_stream(event), (CONSUMER_NAME, getattr(event, "name", "")), *_reason(event))


def _deactivated(event: events.Event) -> Attributes:
    assert isinstance(event, events.SacDeactivated)
    return (*_stream(event), (CONSUMER_NAME, event.group), ("actorstream.clean", event.clean))


def _skipped(event: events.Event) -> int:
    assert isinstance(event, events.OffsetGap)
    return event.first - event.wanted


def _blocked(event: events.Event) -> float:
    assert isinstance(event, events.EventLoopBlocked)
    return event.seconds


def _super_stream(event: events.Event) -> Attributes:
    assert isinstance(event, events.PartitionsChanged)
    return ((STREAM, event.super_stream),)


def _activated(event: events.Event) -> Attributes:
    assert isinstance(event, events.SacActivated)
    return (*_stream(event), (CONSUMER_NAME, event.group))


def _nothing(_: events.Event) -> Attributes:
    return ()


COUNTED: Mapping[type[events.Event], tuple[Counted, ...]] = {
    events.Connected: (Counted("actorstream.connection.opened", _broker),),
    events.Disconnected: (Counted("actorstream.connection.lost", _broker),),
    events.CredentialsFailed: (Counted("actorstream.credentials.failures", _reason),),
    events.RenewalFailed: (Counted("actorstream.credentials.failures", _reason),),
    events.ActorRestarting: (Counted("actorstream.actor.restarts", _actor),),
    events.ActorGaveUp: (Counted("actorstream.actor.surrenders", _actor),),
    events.EventLoopBlocked: (Counted("actorstream.loop.blocked", _nothing, _blocked),),
    events.Moved: (Counted("actorstream.moves", _stream),),
    events.OffsetGap: (
        Counted("actorstream.consumer.gaps", _stream),
        Counted("actorstream.consumer.gap_offsets", _stream, _skipped),
    ),
    events.StreamTruncated: (Counted("actorstream.consumer.truncations", _stream),),
    events.OffsetStored: (Counted("actorstream.consumer.stores", _named),),
    events.OffsetNotStored: (Counted("actorstream.consumer.stores", _named),),
    events.SacActivated: (Counted("actorstream.consumer.activations", _activated),),
    events.SacDeactivated: (Counted("actorstream.consumer.deactivations", _deactivated),),
    events.PartitionsChanged: (Counted("actorstream.super_stream.changes", _super_stream),),
}
