"""What goes into Publish (protocol sections 3.1 and 3.2): entries, sub-entry batches, and whole frames of them.

This is the hot path of publishing, by hand: `commands` holds the same command in its table, and a test proves that
both give the same bytes. An *entry* is what follows the publishing id on the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from actorstream.compression import Compression
from actorstream.errors import InvalidArgument, MessageTooLarge
from actorstream.wire.compression import MAX_UNCOMPRESSED, compress
from actorstream.wire.constants import MAX_STRING_BYTES, Key

PUBLISH_OVERHEAD: Final = 21
"""Bytes of a frame with one entry besides that entry: size 4, key 2, version 2, publisher 1, count 4, id 8.

The four of the size field do not count against frame_max.
"""

MAX_BATCH_RECORDS: Final = 65_535
"""Records of one sub-entry batch: its count has 16 bits."""

SUB_BATCH_OVERHEAD: Final = 11
"""Bytes of a sub-entry batch besides its records: codec 1, count 2, size before compression 4, size 4."""

_HEADER_SIZE: Final = PUBLISH_OVERHEAD - 4 - 8  # of the header: what counts against frame_max
_MAX_ENTRY: Final = 2**31 - 1
_FRAME: Final = struct.Struct(">IHHBI")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_WIDE: Final = struct.Struct(">I4sI")
_BATCH: Final = struct.Struct(">BHII")

# Everything of an entry with a short body that is not the body, by the length of the body: the entry's length, and the
# data section's descriptor, format code and length.
_SHORT: Final = [struct.pack(">I4sB", size + 5, b"\x00\x53\x75\xa0", size) for size in range(256)]


def data_entry(body: bytes) -> bytes:
    """The entry of a message that is nothing but a body: the shortest AMQP 1.0 data section.

    Raises:
        MessageTooLarge: no frame whatever could hold it.
    """
    size = len(body)
    if size <= 255:
        return _SHORT[size] + body
    if size > _MAX_ENTRY - 8:
        raise MessageTooLarge(size + 8 + PUBLISH_OVERHEAD, _MAX_ENTRY)
    return _WIDE.pack(size + 8, b"\x00\x53\x75\xb0", size) + body


def raw_entry(record: bytes) -> bytes:
    """The entry of a record: an encoded message, or bytes that are none.

    Raises:
        MessageTooLarge: no frame whatever could hold it.
    """
    size = len(record)
    if size > _MAX_ENTRY:
        raise MessageTooLarge(size + PUBLISH_OVERHEAD, _MAX_ENTRY)
    return _U32.pack(size) + record


def filtered_entry(filter_value: str | None, entry: bytes) -> bytes:
    """An entry for Publish version 2, which has a filter value before it. None, no value, differs from "".

    Raises:
        InvalidArgument: the value is longer than 32,767 bytes in UTF-8, or no text that UTF-8 could carry.
    """
    if filter_value is None:
        return b"\xff\xff" + entry
    try:
        value = filter_value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"the filter value {filter_value!r} holds a lone surrogate") from None
    if len(value) > MAX_STRING_BYTES:
        raise InvalidArgument(f"a filter value has {MAX_STRING_BYTES} bytes in UTF-8 at most, not {len(value)}")
    return len(value).to_bytes(2, "big") + value + entry


def sub_batch_entry(entries: Sequence[bytes], compression: Compression) -> bytes:
    """One entry (one publishing id, one confirm) of many: what `data_entry` and `raw_entry` made of each message.

    Raises:
        InvalidArgument: no message, more than 65,535, or more than 64 MiB of them; brokers would refuse these.
        CompressionError: the codec is not installed.
    """
    if not 1 <= len(entries) <= MAX_BATCH_RECORDS:
        raise InvalidArgument(f"a sub-entry batch holds 1 to {MAX_BATCH_RECORDS} messages, not {len(entries)}")
    content = b"".join(entries)
    if len(content) > MAX_UNCOMPRESSED:
        raise InvalidArgument(f"a sub-entry batch holds {MAX_UNCOMPRESSED} bytes at most, not {len(content)}")
    data = compress(compression, content)
    return _BATCH.pack(0x80 | compression << 4, len(entries), len(content), len(data)) + data


def publish_frames(
    publisher_id: int, version: int, ids: Sequence[int], entries: Sequence[bytes], frame_max: int
) -> list[bytes]:
    """Whole frames, as few as there can be, that publish `entries` in order, each under its id.

    Args:
        publisher_id: as declared.
        version: 2 for entries made by `filtered_entry`, else 1.
        ids: publishing ids, one for each entry.
        entries: what stands behind each id on the wire.
        frame_max: what the size field of a frame may say (its own four bytes not counted); 0 for no limit.

    Raises:
        MessageTooLarge: an entry that does not fit into a frame even by itself. No frame was made.
        InvalidArgument: not as many ids as entries, or an id that is no unsigned integer of 64 bits.
    """
    count = len(entries)
    if len(ids) != count:
        raise InvalidArgument(f"{len(ids)} publishing ids for {count} entries")
    if not count:
        return []
    # `map` and slice assignment run in C, compiled or not. Cutting the ids out of one big pack, or gluing the last byte
    # of contiguous ids to their common beginning, saves 20 to 40 ns a message at best, and loses that on short batches.
    pieces = [b""] * (2 * count)
    try:
        pieces[0::2] = map(_U64.pack, ids)
    except struct.error:
        raise InvalidArgument("a publishing id is an integer from 0 to 2**64-1") from None
    pieces[1::2] = entries
    return [
        _FRAME.pack(size + _HEADER_SIZE, Key.PUBLISH, version, publisher_id, end - start)
        + b"".join(pieces[2 * start : 2 * end])
        for start, end, size in _cuts(entries, frame_max)
    ]


def _cuts(entries: Sequence[bytes], frame_max: int) -> list[tuple[int, int, int]]:
    """Which entries go into which frame, from and up to, and their bytes there: each frame as full as it can be."""
    count = len(entries)
    size = sum(map(len, entries)) + 8 * count
    room = frame_max - _HEADER_SIZE
    if not frame_max or size <= room:
        return [(0, count, size)]
    cuts: list[tuple[int, int, int]] = []
    start = size = 0
    for index, entry in enumerate(entries):
        item = len(entry) + 8
        if item > room:
            raise MessageTooLarge(item + _HEADER_SIZE, frame_max)
        if size + item > room:
            cuts.append((start, index, size))
            start, size = index, 0
        size += item
    cuts.append((start, count, size))
    return cuts
