"""Chunks: offsets count records, nothing is given out of a chunk that does not add up, and no input runs away."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from actorstream.compression import Compression
from actorstream.errors import CompressionError, CorruptChunk, MessageCodecError
from actorstream.wire import chunk as module
from actorstream.wire.chunk import MAX_UNPACKED, RECORD_COST, Chunk
from actorstream.wire.compression import MAX_UNCOMPRESSED
from actorstream.wire.message import Message, Properties
from actorstream.wire.publish import data_entry, raw_entry, sub_batch_entry

HEADER = 48

# Delivered by a live broker: everything of the Deliver frame behind the subscription id, and what it holds.
VECTORS = {
    "trailer not sent": (
        (
            "5000000200000002000001a208abeb9e000000000000000100000000000000004470c969000000160000000d0000000000000007005375a0"
            "02686900000007005375a002796f"
        ),
        [(0, b"hi"), (1, b"yo")],
    ),
    "bloom filter not sent": (
        (
            "5000000200000002000001a208abed9700000000000000010000000000000004c997380d00000014000000001000000000000006005375a0"
            "016600000006005375a00175"
        ),
        [(4, b"f"), (5, b"u")],
    ),
    "a batch": (
        (
            "5000000100000002000001a208abeec400000000000000010000000000000006272b277a0000001f00000000000000008000020000001400"
            "00001400000006005375a0016100000006005375a00162"
        ),
        [(6, b"a"), (7, b"b")],
    ),
    "of Deliver version 2": (
        (
            "5000000200000002000001a208af37b50000000000000001000000000000000258c54ef200000016000000000000000000000007005375a0"
            "026d3200000007005375a0026d33"
        ),
        [(2, b"m2"), (3, b"m3")],
    ),
}


@dataclass
class Made:
    """A chunk to be, and what is wrong about it."""

    entries: list[bytes]
    records: int
    chunk_id: int = 1000
    chunk_type: int = 0
    entry_count: int | None = None
    data_length: int | None = None
    version: int = 0x50
    after: bytes = b""
    timestamp_ms: int = 1_700_000_000_000
    data: bytes = field(init=False)

    def __post_init__(self) -> None:
        content = b"".join(self.entries)
        self.data = (
            struct.pack(
                ">BBHIqQQIIIB3x",
                self.version,
                self.chunk_type,
                len(self.entries) if self.entry_count is None else self.entry_count,
                self.records,
                self.timestamp_ms,
                3,
                self.chunk_id,
                zlib.crc32(content),
                len(content) if self.data_length is None else self.data_length,
                99,  # trailer and Bloom filter: announced, and not sent
                16,
            )
            + content
            + self.after
        )

    def parse(self) -> Chunk:
        """As it comes: behind the beginning of a frame."""
        frame = b"\xff" * 13 + self.data
        return Chunk.parse(memoryview(frame)[13:])


def batch(
    records: list[bytes],
    codec: int = 0,
    *,
    count: int | None = None,
    size: int | None = None,
    data: bytes | None = None,
) -> bytes:
    """A batch of records, with a header that may lie."""
    entry = sub_batch_entry([raw_entry(record) for record in records], Compression(codec))
    _, true_count, true_size, _ = struct.unpack_from(">BHII", entry)
    content = entry[11:] if data is None else data
    return (
        struct.pack(
            ">BHII",
            0x80 | codec << 4,
            true_count if count is None else count,
            true_size if size is None else size,
            len(content),
        )
        + content
    )


def contents(messages: list[Message]) -> list[tuple[int, bytes]]:
    return [(message.offset, message.body) for message in messages]


# What there is --------------------------------------------------------------------------------------------------------


def test_a_chunk_by_itself_and_one_at_the_end_of_a_frame_are_the_same() -> None:
    made = Made([raw_entry(b"one"), batch([b"two", b"three"], 3)], 3)
    alone, framed = Chunk.parse(made.data), made.parse()
    alone.verify()
    framed.verify()
    assert contents(alone.raw_messages()) == contents(framed.raw_messages())
    assert (alone.chunk_id, alone.records, alone.next_offset) == (framed.chunk_id, framed.records, framed.next_offset)


@pytest.mark.parametrize("name", VECTORS)
def test_what_a_live_broker_delivered_is_read(name: str) -> None:
    wire, wanted = VECTORS[name]
    chunk = Chunk.parse(bytes.fromhex(wire))
    chunk.verify()
    assert contents(chunk.messages()) == wanted
    assert (chunk.chunk_type, chunk.epoch, chunk.records) == (0, 1, 2)
    assert (chunk.chunk_id, chunk.next_offset) == (wanted[0][0], wanted[-1][0] + 1)
    assert [message.encode() for message in chunk.messages()] == [message.body for message in chunk.raw_messages()]


def test_a_message_knows_where_it_is_from() -> None:
    chunk = Made([data_entry(b"a"), batch([Message(b"b").encode()]), raw_entry(b"\0\x53\x77\x40")], 3).parse()
    assert (chunk.timestamp_ms, chunk.epoch, chunk.entries) == (1_700_000_000_000, 3, 3)
    for messages in (chunk.messages(stream="s"), chunk.raw_messages(stream="s")):
        assert [(m.offset, m.timestamp_ms, m.stream) for m in messages] == [
            (1000 + place, 1_700_000_000_000, "s") for place in range(3)
        ]


def test_bytes_beyond_the_data_are_ignored() -> None:
    chunk = Made([data_entry(b"a")], 1, after=b"trailer").parse()
    chunk.verify()
    assert contents(chunk.messages()) == [(1000, b"a")]


@pytest.mark.parametrize("chunk_type", [1, 2, 77])
def test_a_chunk_of_the_broker_s_own_has_no_messages_but_takes_its_offsets(chunk_type: int) -> None:
    chunk = Made([b"whatever"], 1, chunk_type=chunk_type).parse()
    assert chunk.messages() == chunk.raw_messages() == []
    assert chunk.next_offset == 1001


def test_an_empty_chunk_is_fine() -> None:
    assert Made([], 0).parse().messages() == []


def test_offsets_have_64_bits() -> None:
    chunk = Made([data_entry(b"a"), batch([b"b", b"c"])], 3, chunk_id=2**64 - 3).parse()
    assert [message.offset for message in chunk.raw_messages()] == [2**64 - 3, 2**64 - 2, 2**64 - 1]
    assert [message.offset for message in chunk.messages(2**64 - 2, 2**64 - 1)] == [2**64 - 2]
    assert chunk.messages(2**80) == []
    assert chunk.messages(0, 2**80) != []


# A record, and the entries they make: plain ones and batches of them.
records = st.one_of(
    st.binary(max_size=20).map(lambda body: Message(body).encode()),
    st.binary(min_size=250, max_size=270).map(lambda body: Message(body).encode()),
    st.binary(max_size=12),
    st.binary(max_size=5).map(lambda body: b"\0\x53\x75\xb0" + struct.pack(">I", len(body)) + body),
    st.binary(max_size=5).map(lambda body: b"\0\x53\x75\xa0" + body),
    st.binary(max_size=20).map(lambda body: Message(body, properties=Properties(message_id=5)).encode()),
)
entries = st.lists(
    records.map(lambda record: ([record], raw_entry(record)))
    | st.tuples(st.lists(records, min_size=1, max_size=6), st.sampled_from([0, 1, 2, 3, 4])).map(
        lambda made: (made[0], batch(made[0], made[1]))
    ),
    max_size=8,
)


@given(entries, st.integers(-3, 40), st.none() | st.integers(-3, 40), st.sampled_from([0, 1000, 2**64 - 60]))
def test_f47_a_window_holds_exactly_its_records_batches_included(
    made: list[tuple[list[bytes], bytes]], first: int, last: int | None, chunk_id: int
) -> None:
    stored = [record for part, _ in made for record in part]
    chunk = Made([entry for _, entry in made], len(stored), chunk_id=chunk_id).parse()
    start, end = chunk_id + first, None if last is None else chunk_id + last
    wanted = [
        (chunk_id + place, record)
        for place, record in enumerate(stored)
        if place >= first and (last is None or place < last)
    ]
    assert contents(chunk.raw_messages(start, end)) == wanted
    assert [(message.offset, message.encode()) for message in chunk.messages(start, end)] == wanted
    assert chunk.next_offset == chunk_id + len(stored)


@given(st.lists(records, min_size=1, max_size=30), st.binary(max_size=20))
def test_the_interpreted_and_the_compiled_way_find_the_same(stored: list[bytes], tail: bytes) -> None:
    chunk = Made([raw_entry(record) for record in stored], len(stored), after=tail).parse()
    found: list[list[tuple[int, bytes]]] = []
    for interpreted in (True, False):
        walk = module._Walk(chunk, 0, None, "s", raw=False)
        take = walk.take_interpreted if interpreted else walk.take
        end, taken = take(walk.data, walk.begin, walk.stop, 1000, len(stored))
        assert (end, taken) == (walk.stop, len(stored))
        assert all((m.timestamp_ms, m.stream) == (chunk.timestamp_ms, "s") for m in walk.found)
        found.append([(message.offset, message.encode()) for message in walk.found])
        for message, record in zip(walk.found, stored, strict=True):
            try:
                body = Message.decode(record).body
            except MessageCodecError:
                continue
            assert message.body == body
    assert found[0] == found[1] == [(1000 + place, record) for place, record in enumerate(stored)]


def test_a_batch_outside_the_window_is_not_decompressed() -> None:
    broken = batch([b"a", b"b"], 1, data=b"not gzip")
    chunk = Made([broken, data_entry(b"c"), broken], 5).parse()
    assert contents(chunk.messages(1002, 1003)) == [(1002, b"c")]
    for start, end in ((1001, 1003), (1002, 1004)):
        with pytest.raises(CompressionError):
            chunk.messages(start, end)


def test_a_record_that_is_no_message_spoils_no_other() -> None:
    first, second = Made([raw_entry(b"junk"), data_entry(b"fine")], 2).parse().messages()
    assert second.body == b"fine"
    assert first.encode() == b"junk"
    with pytest.raises(MessageCodecError):
        _ = first.body


# What does not add up -------------------------------------------------------------------------------------------------


def test_f63_the_crc_covers_every_byte_of_the_data() -> None:
    data = Made([data_entry(b"hello")], 1, after=b"beyond").data
    Chunk.parse(data).verify()
    for place in range(HEADER, len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        chunk = Chunk.parse(bytes(flipped))
        if place < len(data) - len(b"beyond"):
            with pytest.raises(CorruptChunk, match="CRC"):
                chunk.verify()
        else:
            chunk.verify()


def test_f63_a_chunk_cut_off_anywhere_is_corrupt() -> None:
    data = Made([data_entry(b"hello"), batch([b"a", b"bc"])], 3).data
    for end in range(len(data)):
        with pytest.raises(CorruptChunk):
            Chunk.parse(data[:end])


ONE = data_entry(b"a")


@pytest.mark.parametrize(
    "made",
    [
        Made([ONE], 1, version=0x51),
        Made([ONE], 1, version=0x00),
        Made([ONE], 1, data_length=len(ONE) + 1),
        Made([ONE], 1, data_length=2**32 - 1),
    ],
)
def test_f63_a_header_that_lies_is_corrupt(made: Made) -> None:
    with pytest.raises(CorruptChunk):
        made.parse()


@pytest.mark.parametrize(
    "made",
    [
        Made([ONE, ONE], 1),
        Made([ONE, ONE], 3),
        Made([ONE, ONE], 2, entry_count=1),
        Made([ONE, ONE], 2, entry_count=3),
        Made([ONE, ONE], 0, entry_count=0),
        Made([], 0, entry_count=1),
        Made([], 1),
        Made([], 65535, entry_count=65535),
        Made([ONE, b"\0\0\0"], 2),
        Made([ONE, b"\0\0\0\x01"], 2),
        Made([b"\x7f\xff\xff\xff", ONE], 2),
        Made([ONE, b"\0"], 1),
        Made([ONE, ONE], 2, data_length=2 * len(ONE) - 1),
        Made([ONE, ONE], 2, data_length=len(ONE)),
        Made([batch([b"a", b"b"])], 1),
        Made([batch([b"a", b"b"])], 3),
        Made([batch([b"a", b"b"], count=3)], 3),
        Made([batch([b"a", b"b"], count=1)], 1),
        Made([batch([b"a", b"b"], count=0), ONE], 1),
        Made([batch([b"a", b"b"], count=65535)], 65535),
        Made([batch([b"a", b"b"])[:10]], 2),
        Made([batch([b"a", b"b"])[:11]], 2),
        Made([batch([b"a", b"b"])[:-1]], 2),
        Made([b"\x80"], 1),
        Made([batch([b"a"], data=raw_entry(b"a") + b"\0", size=6)], 1),
        Made([batch([b"a"], data=b"\0\0\0\x09a")], 1),
        Made([batch([b"a"], data=b"\x80\0\0\x01a")], 1),
        Made([batch([b"a", b"b"], data=raw_entry(b"a") + batch([b"b"])[:5])], 2),
    ],
)
def test_f63_lengths_and_counts_that_contradict_each_other_are_corrupt(made: Made) -> None:
    chunk = made.parse()
    for read in (chunk.messages, chunk.raw_messages):
        with pytest.raises(CorruptChunk):
            read()


def test_f63_counts_are_checked_outside_the_window_too() -> None:
    chunk = Made([ONE, ONE, b"\0\0\0\x05"], 3).parse()
    with pytest.raises(CorruptChunk):
        chunk.messages(0, 1001)
    with pytest.raises(CorruptChunk):
        chunk.messages(5000)


@pytest.mark.parametrize("difference", [-1, 1])
@pytest.mark.parametrize("codec", list(Compression))
def test_f63_a_batch_that_is_not_of_the_announced_size_is_an_error(codec: Compression, difference: int) -> None:
    entry = batch([b"some record", b"and another"], codec, size=30 + difference)
    with pytest.raises(CompressionError):
        Made([entry], 2).parse().messages()


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_f63_an_unknown_codec_is_an_error(codec: int) -> None:
    entry = struct.pack(">BHII", 0x80 | codec << 4, 1, 5, 5) + raw_entry(b"a")
    with pytest.raises(CompressionError, match=f"codec {codec}"):
        Made([entry], 1).parse().messages()


def test_f63_a_batch_that_announces_too_much_is_refused_unseen() -> None:
    entry = batch([b"a"], 1, size=MAX_UNCOMPRESSED + 1)
    with pytest.raises(CompressionError, match="limit"):
        Made([entry], 1).parse().messages()


def test_f63_the_batches_of_a_chunk_are_bounded_together_and_empty_records_count() -> None:
    count = 65_535  # each of 4 bytes, compressed to next to nothing, and yet an object
    entry = batch([b""] * count, 4)
    batches = MAX_UNPACKED // (count * (4 + RECORD_COST)) + 1
    chunk = Made([entry] * batches, count * batches).parse()
    assert len(entry) < 1000
    walk = module._Walk(chunk, 0, None, "", raw=False)
    walk.unpacked = MAX_UNPACKED - count * (4 + RECORD_COST) - 1  # as if all but two had been read
    with pytest.raises(CompressionError, match="come to more"):
        walk.walk()
    assert len(walk.found) == count


@given(entries, st.data())
@settings(max_examples=200)
def test_f63_a_damaged_chunk_is_read_or_a_typed_error(made: list[tuple[list[bytes], bytes]], data: Any) -> None:
    wire = bytearray(Made([entry for _, entry in made], sum(len(part) for part, _ in made)).data)
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        chunk = Chunk.parse(bytes(wire))
        messages = chunk.messages()
        assert len(messages) == (chunk.records if chunk.chunk_type == 0 else 0)
        assert len(chunk.raw_messages()) == len(messages)
    except (CorruptChunk, CompressionError):
        return


@given(st.binary(max_size=200))
def test_f63_junk_behind_a_good_header_is_read_or_a_typed_error(junk: bytes) -> None:
    count = junk[0] % 4 if junk else 1
    chunk = Made([junk], count, entry_count=count).parse()
    try:
        assert len(chunk.messages()) == count
    except (CorruptChunk, CompressionError):
        return
