"""Streams and where they live (protocol sections 5 and 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from actorstream.wire import commands as c
from actorstream.wire.constants import NO_LEADER, ResponseCode

if TYPE_CHECKING:
    from tests.peer.cluster import FakeCluster
    from tests.peer.script import Exchange
    from tests.peer.stream import FakeStream

OK = ResponseCode.OK
_AGE: Final = re.compile(r"^0*[1-9][0-9]*[YMDhms]$")
_SIZES: Final = (
    "max-length-bytes",
    "stream-max-segment-size-bytes",
    "initial-cluster-size",
    "stream-filter-size-bytes",
)
_LOCATORS: Final = ("client-local", "balanced", "random", "least-leaders", "min-masters")


def create(x: Exchange, command: c.Create) -> None:
    cluster, arguments = x.peer.cluster, dict(command.arguments)
    code = _judge_arguments(arguments)
    existing = cluster.streams.get(command.stream)
    if code is None:
        x.peer.drop()
    elif code != OK or not command.stream or command.stream.startswith("amq."):
        x.answer(ResponseCode.PRECONDITION_FAILED)
    elif existing is not None:
        same = existing.arguments == arguments
        x.answer(ResponseCode.STREAM_ALREADY_EXISTS if same else ResponseCode.PRECONDITION_FAILED)
    else:
        _place(x, command.stream, arguments)
        x.answer(OK)


def _place(x: Exchange, name: str, arguments: Mapping[str, str]) -> None:
    here = x.peer.node.number
    others = [node.number for node in x.peer.cluster.nodes if node.number != here and node.running]
    size = int(arguments.get("initial-cluster-size", 1 + len(others)))
    x.peer.cluster.create(name, leader=here, replicas=others[: size - 1], arguments=arguments)


def _judge_arguments(arguments: Mapping[str, str]) -> int | None:
    """A response code, or None for what costs the connection (section 6)."""
    if "max-age" in arguments and not _AGE.match(arguments["max-age"]):
        return None
    if any(not re.fullmatch("-?[0-9]+", arguments[name]) for name in _SIZES if name in arguments):
        return None
    fine = (
        int(arguments.get("initial-cluster-size", "1")) > 0
        and 16 <= int(arguments.get("stream-filter-size-bytes", "16")) <= 255
        and int(arguments.get("stream-max-segment-size-bytes", "0")) <= 3_000_000_000
        and arguments.get("queue-leader-locator", "balanced") in _LOCATORS
    )
    return OK if fine else ResponseCode.PRECONDITION_FAILED


def delete(x: Exchange, command: c.Delete) -> None:
    if command.stream not in x.peer.cluster.streams:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
        return
    x.answer(OK)  # first this, then the MetadataUpdate
    x.peer.cluster.delete(command.stream)


def metadata(x: Exchange, command: c.Metadata) -> None:
    cluster = x.peer.cluster
    involved: set[int] = set()
    answers = [_locate(cluster, name, involved) for name in dict.fromkeys(command.streams)]
    brokers = [c.MetadataBroker(number, *cluster.nodes[number].advertised) for number in sorted(involved)]
    x.answer(c.MetadataResponse(OK, tuple(brokers), tuple(answers)))


def _locate(cluster: FakeCluster, name: str, involved: set[int]) -> c.MetadataStream:
    stream: FakeStream | None = cluster.streams.get(name)
    if stream is None:
        return c.MetadataStream(name, ResponseCode.STREAM_DOES_NOT_EXIST, NO_LEADER, ())
    running = [member for member in stream.members if cluster.nodes[member].running]
    if not running:
        return c.MetadataStream(name, ResponseCode.STREAM_NOT_AVAILABLE, NO_LEADER, ())
    involved.update(running)
    leader = NO_LEADER if stream.leader is None else stream.leader
    return c.MetadataStream(name, OK, leader, tuple([member for member in running if member != leader]))


def stream_stats(x: Exchange, command: c.StreamStats) -> None:
    stream = x.peer.cluster.streams.get(command.stream)
    if stream is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
    elif stream.leader is None:
        x.answer(ResponseCode.STREAM_NOT_AVAILABLE)
    else:
        last = stream.last_chunk_id
        stats = {"first_chunk_id": stream.first_chunk_id, "last_chunk_id": last, "committed_chunk_id": last}
        x.answer(c.StreamStatsResponse(OK, stats))


def partitions(x: Exchange, command: c.Partitions) -> None:
    found = x.peer.cluster.super_streams.get(command.super_stream)
    x.answer(
        ResponseCode.STREAM_DOES_NOT_EXIST
        if found is None
        else c.PartitionsResponse(OK, tuple([name for _, name in found]))
    )


def route(x: Exchange, command: c.Route) -> None:
    found = x.peer.cluster.super_streams.get(command.super_stream)
    if found is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
    else:
        x.answer(c.RouteResponse(OK, tuple([name for key, name in found if key == command.routing_key])))


def create_super_stream(x: Exchange, command: c.CreateSuperStream) -> None:
    cluster, arguments = x.peer.cluster, dict(command.arguments)
    code = _judge_arguments(arguments)
    names = command.partitions
    if code is None:
        x.peer.drop()
    elif code != OK or len(names) != len(command.binding_keys) or len(set(names)) != len(names) or not names:
        x.answer(ResponseCode.PRECONDITION_FAILED)
    elif command.name in cluster.super_streams or any(name in cluster.streams for name in names):
        x.answer(ResponseCode.STREAM_ALREADY_EXISTS)
    else:
        for name in names:
            _place(x, name, arguments)
        cluster.super_streams[command.name] = tuple(zip(command.binding_keys, names, strict=True))
        x.answer(OK)


def delete_super_stream(x: Exchange, command: c.DeleteSuperStream) -> None:
    found = x.peer.cluster.super_streams.pop(command.name, None)
    if found is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
        return
    x.answer(OK)
    for _, name in found:
        x.peer.cluster.delete(name)
