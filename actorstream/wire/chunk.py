"""Chunks, in which a broker delivers: their header, and the records in them (protocol section 4.3).

A chunk stays bytes until somebody wants its messages. Its entries are then walked once, and each record becomes a
`Message` at the cost of about one slice; what they say adds up, or nothing of the chunk is given out.

An *entry* is one message, or a batch of them, perhaps compressed; a *record* is one message. Offsets count records.
"""

from __future__ import annotations

import struct
import zlib
from types import FunctionType
from typing import TYPE_CHECKING, Final

from actorstream.errors import CompressionError, CorruptChunk
from actorstream.wire.compression import decompress
from actorstream.wire.message import Message

if TYPE_CHECKING:  # only ever in annotations: mypyc makes machine integers of it, and the fallback does not need it
    from mypy_extensions import i64

USER_CHUNK: Final = 0
"""The type of a chunk that holds messages; in the others the broker keeps its tracking of offsets and publishers."""

MAX_UNPACKED: Final = 1024 * 1024 * 1024
"""Bytes that the batches of one chunk may come to, each record in them counted with `RECORD_COST` bytes more."""

RECORD_COST: Final = 64
"""What a `Message` takes at the very least: without it, 4 bytes of an empty record would be all that it counts for."""

_HEADER: Final = struct.Struct(">BBHIqQQIIIB3x")
_BATCH: Final = struct.Struct(">BHII")
_ENTRY: Final = struct.Struct(">IIB")  # its length, what begins a data section, the length of a short body
_U32: Final = struct.Struct(">I")
_VERSION: Final = 0x50  # magic 5, version 0
_DATA_8: Final = 0x005375A0
_DATA_32: Final = 0x005375B0


class Chunk:
    """A chunk as delivered: its header decoded, its entries not yet.

    Neither `parse` nor the messages check the CRC: call `verify` once, where there is time for it.
    """

    __slots__ = (
        "_crc",
        "_data",
        "_start",
        "chunk_id",
        "chunk_type",
        "entries",
        "epoch",
        "records",
        "size",
        "timestamp_ms",
    )

    def __init__(self, data: bytes | memoryview) -> None:
        """Raises CorruptChunk: as `parse`."""
        whole: bytes = data if isinstance(data, bytes) else data.obj  # type: ignore[assignment]
        start = len(whole) - len(data)
        if len(data) < _HEADER.size:
            raise CorruptChunk(f"a chunk of {len(data)} bytes, of which its header would take {_HEADER.size}")
        version, chunk_type, entries, records, timestamp_ms, epoch, chunk_id, crc, size, _, _ = _HEADER.unpack_from(
            whole, start
        )
        if version != _VERSION:
            raise CorruptChunk(f"a chunk begins with 0x{version:02x} (magic and version), not 0x{_VERSION:02x}")
        # The trailer and the Bloom filter are not sent, whatever the header says of their sizes; so nothing is said
        # about bytes beyond the data.
        if size > len(data) - _HEADER.size:
            raise CorruptChunk(f"a chunk announces {size} bytes of data and has {len(data) - _HEADER.size}")
        self.chunk_type: int = chunk_type
        """`USER_CHUNK` for one that holds messages."""
        self.entries: int = entries
        self.records: int = records
        """How many offsets it takes, which for a chunk of messages is how many there are."""
        self.timestamp_ms: int = timestamp_ms
        """When the broker wrote it, in milliseconds since the epoch."""
        self.epoch: int = epoch
        """The term of the leader that wrote it."""
        self.chunk_id: int = chunk_id
        """The offset of its first record."""
        self.size: int = size
        """Bytes of its entries, as they are stored."""
        self._crc: int = crc
        self._data = whole
        self._start = start + _HEADER.size

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Chunk:
        """The chunk at the beginning of `data`, which it keeps: bytes, or a view of the last part of some bytes.

        Raises:
            CorruptChunk: the header is cut off, or announces more data than there are.
        """
        return cls(data)

    @property
    def next_offset(self) -> int:
        """The offset after its last record; the next chunk may begin later than that."""
        return self.chunk_id + self.records

    def verify(self) -> None:
        """Compare the CRC, which covers the entries.

        Raises:
            CorruptChunk: it does not match.
        """
        data = memoryview(self._data)[self._start : self._start + self.size]
        actual = zlib.crc32(data)
        if actual != self._crc:
            raise CorruptChunk(f"the CRC of chunk {self.chunk_id} is 0x{actual:08x}, not 0x{self._crc:08x}")

    def messages(self, start: int = 0, end: int | None = None, stream: str = "") -> list[Message]:
        """The messages with offsets from `start` up to, not including, `end`. A batch outside is not decompressed.

        Args:
            start: the first offset wanted; a subscription's first chunk usually begins before it.
            end: None for all that follow.
            stream: where the messages come from, for their `stream`.

        Raises:
            CorruptChunk: lengths or counts contradict each other.
            CompressionError: a batch cannot be decompressed, or is larger than allowed.
        """
        return _Walk(self, start, end, stream, raw=False).walk()

    def raw_messages(self, start: int = 0, end: int | None = None, stream: str = "") -> list[Message]:
        """As `messages`, for records that need not be AMQP 1.0: the `body` of each is the record as it was stored."""
        return _Walk(self, start, end, stream, raw=True).walk()


class _Walk:
    """One pass over the entries of a chunk: what lies in the window becomes messages, the rest is stepped over."""

    __slots__ = ("begin", "chunk", "data", "end", "found", "raw", "start", "stop", "stream", "timestamp_ms", "unpacked")

    def __init__(self, chunk: Chunk, start: int, end: int | None, stream: str, *, raw: bool) -> None:
        self.chunk = chunk
        self.data = chunk._data  # noqa: SLF001 - the other half of Chunk
        self.begin: int = chunk._start  # noqa: SLF001
        self.stop: int = chunk._start + chunk.size  # noqa: SLF001
        self.start: int = start
        self.end: int = chunk.next_offset if end is None else end
        self.timestamp_ms: int = chunk.timestamp_ms
        self.stream = stream
        self.raw: bool = raw
        self.found: list[Message] = []
        self.unpacked: int = 0

    def walk(self) -> list[Message]:
        chunk = self.chunk
        if chunk.chunk_type != USER_CHUNK:
            return []
        pos = self.begin
        offset: int = chunk.chunk_id
        left: int = chunk.entries
        while left:
            if pos < self.stop and self.data[pos] >= 0x80:
                pos, taken = self.batch(pos, offset)
                left -= 1
            else:
                pos, taken = self.records(self.data, pos, self.stop, offset, left)
                left -= taken
            offset += taken
        if offset != chunk.next_offset:
            raise CorruptChunk(f"chunk {chunk.chunk_id} has {offset - chunk.chunk_id} records, not {chunk.records}")
        if pos != self.stop:
            raise CorruptChunk(f"chunk {chunk.chunk_id} has {self.stop - pos} bytes beyond its entries")
        return self.found

    def batch(self, pos: int, offset: int) -> tuple[int, int]:
        """The batch at `pos`, whose first record has `offset`. Returns where it ends, and how many records it has."""
        if self.stop - pos < _BATCH.size:
            raise CorruptChunk(f"chunk {self.chunk.chunk_id}: the header of a batch is cut off")
        head, count, uncompressed_len, size = _BATCH.unpack_from(self.data, pos)
        pos += _BATCH.size
        after: int = pos + size
        if after > self.stop:
            raise CorruptChunk(f"chunk {self.chunk.chunk_id}: a batch of {size} bytes where {self.stop - pos} are left")
        if offset + count <= self.start or offset >= self.end:
            return after, count
        if 4 * count > uncompressed_len:
            raise CorruptChunk(f"chunk {self.chunk.chunk_id}: a batch of {count} records in {uncompressed_len} bytes")
        self.unpacked += uncompressed_len + count * RECORD_COST
        if self.unpacked > MAX_UNPACKED:
            raise CompressionError(f"the batches of chunk {self.chunk.chunk_id} come to more than {MAX_UNPACKED} bytes")
        content = decompress(head >> 4 & 7, self.data[pos:after], uncompressed_len)
        at: int = 0
        left: int = count
        while left:
            at, taken = self.records(content, at, len(content), offset, left)
            if not taken:
                raise CorruptChunk(f"chunk {self.chunk.chunk_id}: a batch inside a batch")
            left -= taken
            offset += taken
        if at != len(content):
            raise CorruptChunk(f"chunk {self.chunk.chunk_id}: {len(content) - at} bytes beyond the records of a batch")
        return after, count

    def records(self, data: bytes, pos: int, stop: int, offset: int, count: int) -> tuple[int, int]:
        """Go on by some of the next `count` records: up to a batch, or to where the window begins or ends.

        Returns where they end, and how many they are; 0 only in front of a batch.
        """
        if offset < self.start:
            return _skip(data, pos, stop, min(count, self.start - offset))
        if offset >= self.end:
            return _skip(data, pos, stop, count)
        count = min(count, self.end - offset)
        if self.raw:
            return self.take_raw(data, pos, stop, offset, count)
        if INTERPRETED:
            return self.take_interpreted(data, pos, stop, offset, count)
        return self.take(data, pos, stop, offset, count)

    def take(self, data: bytes, pos: i64, stop: i64, offset: int, count: i64) -> tuple[i64, i64]:
        """Append the messages of up to `count` records, but stop at a batch. Returns where, and how many there were."""
        timestamp_ms = self.timestamp_ms
        stream = self.stream
        found = self.found
        taken: i64 = 0
        while taken < count:
            end = _end_of_record(data, pos, stop)
            if end < 0:
                break
            at = pos + 4
            size = end - at
            # The record that is one shortest data section and nothing else. Spelt out byte by byte, since that is what
            # mypyc makes machine code of.
            if size >= 5 and data[at] == 0 and data[at + 1] == 0x53 and data[at + 2] == 0x75:
                if data[at + 3] == 0xA0 and data[at + 4] == size - 5:
                    message = Message(data[at + 5 : end])
                elif data[at + 3] == 0xB0 and size > 8 + 255 and _u32(data, at + 4) == size - 8:
                    message = Message(data[at + 8 : end])
                else:
                    message = Message.decode(data[at:end])
            else:
                message = Message.decode(data[at:end])
            message.offset = offset
            message.timestamp_ms = timestamp_ms
            message.stream = stream
            found.append(message)
            offset += 1
            pos = end
            taken += 1
        return pos, taken

    def take_interpreted(self, data: bytes, pos: i64, stop: i64, offset: int, count: i64) -> tuple[i64, i64]:
        """`take` for the interpreter, where one `unpack_from` costs less than looking at single bytes.

        It knows the same records by their beginning, and leaves the others to `take`, one by one. Compiled, it would be
        several times slower than `take`; a test has both agree.
        """
        unpack = _ENTRY.unpack_from
        new = Message.__new__
        last = min(stop, len(data)) - _ENTRY.size
        timestamp_ms = self.timestamp_ms
        stream = self.stream
        found = self.found
        taken: i64 = 0
        while taken < count:
            if pos <= last:
                length, beginning, size = unpack(data, pos)
                end = pos + 4 + length
                body: bytes | None = None
                if beginning == _DATA_8 and size == length - 5 and end <= stop:
                    body = data[pos + 9 : end]
                elif (
                    beginning == _DATA_32
                    and length > 8 + 255
                    and end <= stop
                    and _U32.unpack_from(data, pos + 8)[0] == length - 8
                ):
                    body = data[pos + 12 : end]
                if body is not None:
                    message = new(Message)
                    message.offset = offset
                    message.timestamp_ms = timestamp_ms
                    message.stream = stream
                    message._body = body  # noqa: SLF001 - what the constructor does, in half the time
                    message._record = None  # noqa: SLF001
                    message._sections = None  # noqa: SLF001
                    found.append(message)
                    offset += 1
                    pos = end
                    taken += 1
                    continue
            pos, one = self.take(data, pos, stop, offset, 1)
            if not one:
                break
            offset += 1
            taken += 1
        return pos, taken

    def take_raw(self, data: bytes, pos: i64, stop: i64, offset: int, count: i64) -> tuple[i64, i64]:
        """As `take`, whatever the records may be."""
        timestamp_ms = self.timestamp_ms
        stream = self.stream
        found = self.found
        taken: i64 = 0
        while taken < count:
            end = _end_of_record(data, pos, stop)
            if end < 0:
                break
            message = Message.decode(data[pos + 4 : end], raw=True)
            message.offset = offset
            message.timestamp_ms = timestamp_ms
            message.stream = stream
            found.append(message)
            offset += 1
            pos = end
            taken += 1
        return pos, taken


def _u32(data: bytes, pos: i64) -> i64:
    return data[pos] << 24 | data[pos + 1] << 16 | data[pos + 2] << 8 | data[pos + 3]


def _end_of_record(data: bytes, pos: i64, stop: i64) -> i64:
    """Where the record at `pos` ends; -1 if a batch begins there."""
    if stop - pos < 4:
        raise CorruptChunk("the length of a record is cut off")
    length: i64 = _u32(data, pos)
    if length >= 0x80000000:
        return -1
    if length > stop - pos - 4:
        raise CorruptChunk(f"a record announces {length} bytes where {stop - pos - 4} are left")
    return pos + 4 + length


def _skip(data: bytes, pos: i64, stop: i64, count: i64) -> tuple[i64, i64]:
    taken: i64 = 0
    while taken < count:
        end = _end_of_record(data, pos, stop)
        if end < 0:
            break
        pos = end
        taken += 1
    return pos, taken


INTERPRETED: Final = isinstance(_Walk.take, FunctionType)
"""Whether this module was not compiled."""
