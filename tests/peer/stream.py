"""A stream's log in memory: chunks, and what the broker tracks beside them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire.commands import SubBatch
from actorstream.wire.compression import decompress

_HEADER: Final = struct.Struct(">BBHIqQQIIIB3x")
_USER: Final = 0
_TRACKING: Final = 1


@dataclass(frozen=True)
class FakeChunk:
    """One chunk. `filter_values` are those of its messages; None stands for messages without."""

    chunk_id: int
    timestamp_ms: int
    epoch: int
    entries: tuple[bytes | SubBatch, ...]
    filter_values: frozenset[str | None] = frozenset({None})
    kind: int = _USER

    @property
    def is_tracking(self) -> bool:
        """Whether it holds the broker's own records, which take offsets and are not delivered."""
        return self.kind != _USER

    @property
    def record_count(self) -> int:
        return sum(one.record_count if isinstance(one, SubBatch) else 1 for one in self.entries)

    @property
    def next_offset(self) -> int:
        return self.chunk_id + self.record_count

    def records(self) -> list[tuple[int, bytes]]:
        """Offset and bytes of each record, batches unpacked."""
        records = [record for entry in self.entries for record in _unpack(entry)]
        return [(self.chunk_id + index, record) for index, record in enumerate(records)]

    def encode(self, *, corrupt: bool = False) -> bytes:
        """As delivered. Trailer and Bloom filter are announced and not sent, as brokers do it."""
        data = b"".join(_encode_entry(entry) for entry in self.entries)
        crc = zlib.crc32(data) ^ (1 if corrupt else 0)
        header = (0x50, self.kind, len(self.entries), self.record_count, self.timestamp_ms, self.epoch, self.chunk_id)
        return _HEADER.pack(*header, crc, len(data), 13, 16) + data


@dataclass
class FakeStream:
    """One stream. `members` are numbers of nodes; the leader is one of them, or None while there is none."""

    name: str
    members: tuple[int, ...]
    leader: int | None
    arguments: dict[str, str] = field(default_factory=dict)
    epoch: int = 1
    next_offset: int = 0
    chunks: list[FakeChunk] = field(default_factory=list)
    sequences: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    corrupt_deliveries: int = 0

    @property
    def first_chunk_id(self) -> int:
        return self.chunks[0].chunk_id if self.chunks else -1

    @property
    def last_chunk_id(self) -> int:
        """The last user chunk, as statistics and offset specifications count it."""
        return next((chunk.chunk_id for chunk in reversed(self.chunks) if not chunk.is_tracking), -1)

    def append(
        self,
        entries: Iterable[bytes | SubBatch],
        timestamp_ms: int,
        filter_values: Iterable[str | None] = (None,),
        *,
        kind: int = _USER,
    ) -> FakeChunk:
        """Write one chunk."""
        chunk = FakeChunk(self.next_offset, timestamp_ms, self.epoch, tuple(entries), frozenset(filter_values), kind)
        self.chunks.append(chunk)
        self.next_offset = chunk.next_offset
        return chunk

    def append_tracking(self, timestamp_ms: int) -> FakeChunk:
        """Write a chunk of the broker's own: it takes one offset."""
        return self.append((b"\x01\x03refxxxxxxxx",), timestamp_ms, kind=_TRACKING)

    def truncate_head(self, before: int) -> None:
        """Retention: forget the chunks that end at this offset or before it."""
        self.chunks = [chunk for chunk in self.chunks if chunk.next_offset > before]

    def chunk_from(self, position: int) -> FakeChunk | None:
        """The first chunk that ends beyond this offset."""
        return next((chunk for chunk in self.chunks if chunk.next_offset > position), None)

    def position_of(self, spec: OffsetSpecification) -> int:
        """The offset at which reading starts (protocol section 4.1)."""
        user_chunks = [chunk for chunk in self.chunks if not chunk.is_tracking]
        match spec.type:
            case OffsetType.FIRST:
                return self.first_chunk_id if self.chunks else self.next_offset
            case OffsetType.LAST:
                return user_chunks[-1].chunk_id if user_chunks else self.next_offset
            case OffsetType.OFFSET:
                chunk = self.chunk_from(spec.value)
                return chunk.chunk_id if chunk is not None else self.next_offset
            case OffsetType.TIMESTAMP:
                late = [chunk for chunk in user_chunks if chunk.timestamp_ms >= spec.value]
                return late[0].chunk_id if late else self.next_offset
        return self.next_offset

    def records(self) -> list[tuple[int, bytes]]:
        """Offset and bytes of every message."""
        return [record for chunk in self.chunks if not chunk.is_tracking for record in chunk.records()]


def body_of(record: bytes) -> bytes:
    """The body of a record that is one AMQP 1.0 data section; tests should not need the decoder under test for it."""
    if record[:4] == b"\x00\x53\x75\xa0" and len(record) == 5 + record[4]:
        return record[5:]
    if record[:4] == b"\x00\x53\x75\xb0" and len(record) == 8 + int.from_bytes(record[4:8], "big"):
        return record[8:]
    raise ValueError(f"not one data section: {record!r}")


def data_section(body: bytes) -> bytes:
    """The opposite of `body_of`."""
    if len(body) <= 255:
        return b"\x00\x53\x75\xa0" + bytes([len(body)]) + body
    return b"\x00\x53\x75\xb0" + len(body).to_bytes(4, "big") + body


def _encode_entry(entry: bytes | SubBatch) -> bytes:
    if isinstance(entry, bytes):
        return len(entry).to_bytes(4, "big") + entry
    return (
        struct.pack(
            ">BHII", 0x80 | entry.compression << 4, entry.record_count, entry.uncompressed_size, len(entry.data)
        )
        + entry.data
    )


def _unpack(entry: bytes | SubBatch) -> Sequence[bytes]:
    if isinstance(entry, bytes):
        return (entry,)
    data = decompress(entry.compression, entry.data, entry.uncompressed_size)
    records = []
    while data:
        size = int.from_bytes(data[:4], "big")
        records.append(data[4 : 4 + size])
        data = data[4 + size :]
    return records
