"""What publishers ask for (protocol section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actorstream.compression import Compression
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode
from tests.peer.entities import MAX_REFERENCE, Publisher

if TYPE_CHECKING:
    from tests.peer.script import Exchange

OK = ResponseCode.OK
_MAX_UNCOMPRESSED: Final = 64 * 1024 * 1024

_Item = tuple[int, bytes | c.SubBatch, str | None]


def declare_publisher(x: Exchange, command: c.DeclarePublisher) -> None:
    stream = x.peer.cluster.streams.get(command.stream)
    publishers = x.peer.publishers
    named = (command.stream, command.reference)
    if stream is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
    elif stream.leader is None:
        x.answer(ResponseCode.STREAM_NOT_AVAILABLE)
    elif (
        command.publisher_id in publishers
        or len(command.reference.encode()) > MAX_REFERENCE
        or any(command.reference and (one.stream, one.reference) == named for one in publishers.values())
    ):
        x.answer(ResponseCode.PRECONDITION_FAILED)
    else:
        publishers[command.publisher_id] = Publisher(command.publisher_id, command.reference, command.stream)
        x.answer(OK)


def delete_publisher(x: Exchange, command: c.DeletePublisher) -> None:
    known = x.peer.publishers.pop(command.publisher_id, None) is not None
    x.answer(OK if known else ResponseCode.PUBLISHER_DOES_NOT_EXIST)


def query_publisher_sequence(x: Exchange, command: c.QueryPublisherSequence) -> None:
    stream = x.peer.cluster.streams.get(command.stream)
    if stream is None:
        x.answer(ResponseCode.STREAM_DOES_NOT_EXIST)
    elif stream.leader is None:
        x.answer(ResponseCode.STREAM_NOT_AVAILABLE)
    else:
        x.answer(c.QueryPublisherSequenceResponse(OK, stream.sequences.get(command.reference, 0)))


def publish(x: Exchange, command: c.Publish) -> None:
    items: list[_Item] = [(item.publishing_id, item.entry, None) for item in command.items]
    if x.peer.cluster.version_numbers >= (4, 3, 5):
        # A batch that does not hold takes everything after it along.
        bad = next((index for index, (_, entry, _) in enumerate(items) if not _is_valid(entry)), len(items))
        if bad < len(items) and command.publisher_id in x.peer.publishers:
            refused = [c.PublishingError(number, ResponseCode.PRECONDITION_FAILED) for number, _, _ in items[bad:]]
            x.answer(c.PublishError(command.publisher_id, tuple(refused)))
            items = items[:bad]
    _store(x, command.publisher_id, items)


def publish_filtered(x: Exchange, command: c.PublishFiltered) -> None:
    _store(x, command.publisher_id, [(item.publishing_id, item.record, item.filter_value) for item in command.items])


def _store(x: Exchange, publisher_id: int, items: list[_Item]) -> None:
    """Write a chunk of what is new. What has been stored already is confirmed all the same, and first (3.3)."""
    publisher = x.peer.publishers.get(publisher_id)
    if publisher is None:
        x.answer(ResponseCode.PUBLISHER_DOES_NOT_EXIST)
        return
    stream = x.peer.cluster.streams[publisher.stream]
    new, old = items, list[_Item]()
    if publisher.reference:
        new = []
        last = stream.sequences.get(publisher.reference)
        for item in items:
            if last is None or item[0] > last:
                last = item[0]
                new.append(item)
            else:
                old.append(item)
        if last is not None:
            stream.sequences[publisher.reference] = last
    if new:
        stream.append([entry for _, entry, _ in new], x.peer.cluster.now_ms, {value for _, _, value in new})
    for confirmed in (old, new):
        if confirmed:
            x.answer(c.PublishConfirm(publisher_id, tuple([number for number, _, _ in confirmed])))
    if new:
        x.peer.cluster.deliver(stream)


def _is_valid(entry: bytes | c.SubBatch) -> bool:
    return isinstance(entry, bytes) or (
        entry.record_count > 0
        and entry.record_count * 4 <= entry.uncompressed_size <= _MAX_UNCOMPRESSED
        and entry.compression <= Compression.ZSTD
        and bool(entry.data)
    )
