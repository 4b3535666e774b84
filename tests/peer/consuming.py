"""What consumers ask for (protocol section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode
from tests.peer.entities import MAX_REFERENCE, Subscription
from tests.peer.sac import SacGroup

if TYPE_CHECKING:
    from tests.peer.cluster import FakeCluster
    from tests.peer.script import Exchange

OK = ResponseCode.OK


def subscribe(x: Exchange, command: c.Subscribe) -> None:
    peer, cluster = x.peer, x.peer.cluster
    stream = cluster.streams.get(command.stream)
    properties = dict(command.properties)
    single = properties.get("single-active-consumer") == "true" and cluster.version_numbers >= (3, 11)
    name = properties.get("name", "")
    group = _group(cluster, command.stream, name, properties.get("super-stream", "")) if single and name else None
    if stream is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
    elif stream.leader is None or peer.node.number not in stream.members:
        x.answer(ResponseCode.STREAM_NOT_AVAILABLE)
    elif command.subscription_id in peer.subscriptions:
        x.answer(ResponseCode.SUBSCRIPTION_ID_ALREADY_EXISTS)
    elif len(name.encode()) > MAX_REFERENCE or (
        single and (group is None or group.super_stream != properties.get("super-stream", ""))
    ):
        x.answer(ResponseCode.PRECONDITION_FAILED)
    else:
        limit = command.credit // 2 if cluster.version_numbers >= (3, 12) else 0
        subscription = Subscription(
            peer, command.subscription_id, stream, command.offset, command.credit, limit, properties
        )
        peer.subscriptions[subscription.id] = subscription
        x.answer(OK)
        if group is None:
            subscription.start(command.offset)
        else:
            cluster.groups[stream.name, name] = group
            group.join(subscription)


def _group(cluster: FakeCluster, stream: str, name: str, super_stream: str) -> SacGroup:
    group = cluster.groups.get((stream, name))
    if group is not None and group.members:
        return group
    partitions = [name for _, name in cluster.super_streams.get(super_stream, ())]
    return SacGroup(super_stream, partitions.index(stream) if stream in partitions else 0)


def credit(x: Exchange, command: c.Credit) -> None:
    subscription = x.peer.subscriptions.get(command.subscription_id)
    if subscription is None:
        x.answer(ResponseCode.SUBSCRIPTION_ID_DOES_NOT_EXIST)
        return
    subscription.credit += command.credit
    if subscription.position is None:
        x.answer(ResponseCode.PRECONDITION_FAILED)  # inactive; the credit counts nonetheless
    subscription.pump()


def unsubscribe(x: Exchange, command: c.Unsubscribe) -> None:
    subscription = x.peer.subscriptions.get(command.subscription_id)
    if subscription is None:
        x.answer(ResponseCode.SUBSCRIPTION_ID_DOES_NOT_EXIST)
        return
    x.answer(OK)
    x.peer.unsubscribe(subscription)


def consumer_updated(x: Exchange, command: c.ConsumerUpdateResponse) -> None:
    subscription, active = x.peer.updates.pop(x.correlation_id or 0, (None, False))
    if subscription is not None and subscription.group is not None:
        subscription.group.answered(subscription, active, command.offset)


def store_offset(x: Exchange, command: c.StoreOffset) -> None:
    stream = x.peer.cluster.streams.get(command.stream)
    if stream is not None and stream.leader is not None and len(command.reference.encode()) <= MAX_REFERENCE:
        x.peer.asked_about.add(command.stream)
        stream.offsets[command.reference] = command.offset


def query_offset(x: Exchange, command: c.QueryOffset) -> None:
    stream = x.peer.cluster.streams.get(command.stream)
    if stream is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
    elif stream.leader is None:
        x.answer(ResponseCode.STREAM_NOT_AVAILABLE)
    else:
        x.peer.asked_about.add(command.stream)
        stored = stream.offsets.get(command.reference)
        x.answer(ResponseCode.NO_OFFSET if stored is None else c.QueryOffsetResponse(OK, stored))


def resolve_offset(x: Exchange, command: c.ResolveOffsetSpec) -> None:
    stream = x.peer.cluster.streams.get(command.stream)
    if stream is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
    elif not stream.chunks and command.offset.type is not OffsetType.NEXT:
        x.answer(ResponseCode.NO_OFFSET)
    else:
        position = stream.position_of(command.offset)
        x.answer(c.ResolveOffsetSpecResponse(OK, OffsetSpecification(OffsetType.OFFSET, position)))
