"""Publish, by hand: exact bytes, the same as the command table's, and frames cut where frame_max says."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, strategies as st

from actorstream.compression import Compression
from actorstream.errors import InvalidArgument, MessageTooLarge
from actorstream.wire.compression import MAX_UNCOMPRESSED
from actorstream.wire.message import Message
from actorstream.wire.publish import (
    MAX_BATCH_RECORDS,
    PUBLISH_OVERHEAD,
    data_entry,
    filtered_entry,
    publish_frames,
    raw_entry,
    sub_batch_entry,
)

entries_of_any_size = st.lists(st.binary(max_size=300).map(data_entry), min_size=1, max_size=60)


# Bytes that a live broker accepted ------------------------------------------------------------------------------------


def test_publish_version_1_has_the_bytes_of_the_vector() -> None:
    assert publish_frames(0, 1, [1, 2], [data_entry(b"hi"), data_entry(b"yo")], 1_048_576) == [
        bytes.fromhex(
            "0000002f000200010000000002000000000000000100000007005375a0026869000000000000000200000007005375a002796f"
        )
    ]


def test_publish_version_2_has_the_bytes_of_the_vector() -> None:
    entries = [filtered_entry("emea", data_entry(b"f")), filtered_entry(None, data_entry(b"u"))]
    assert publish_frames(255, 2, [0, 1], entries, 0) == [
        bytes.fromhex(
            "0000003500020002ff0000000200000000000000000004656d656100000006005375a001660000000000000001ffff0000000600"
            "5375a00175"
        )
    ]


def test_a_batch_has_the_bytes_of_the_vector() -> None:
    entry = sub_batch_entry([data_entry(b"a"), data_entry(b"b")], Compression.NONE)
    assert publish_frames(255, 1, [2], [entry], 0) == [
        bytes.fromhex(
            "0000003000020001ff000000010000000000000002800002000000140000001400000006005375a0016100000006005375a00162"
        )
    ]


# Entries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 255, 256, 100_000])
def test_an_entry_of_bytes_is_that_of_the_message(size: int) -> None:
    body = b"x" * size
    assert data_entry(body) == raw_entry(Message(body).encode())
    assert raw_entry(body) == struct.pack(">I", size) + body


@given(st.text(st.characters(codec="utf-8")))
def test_f65_a_filter_value_is_measured_in_bytes(value: str) -> None:
    raw = value.encode()
    assert filtered_entry(value, b"entry") == struct.pack(">h", len(raw)) + raw + b"entry"


def test_no_filter_value_differs_from_an_empty_one() -> None:
    assert filtered_entry(None, b"entry") == b"\xff\xffentry"
    assert filtered_entry("", b"entry") == b"\0\0entry"


def test_f65_a_filter_value_is_no_longer_than_its_length_can_say() -> None:
    assert len(filtered_entry("é" * 16383, b"")) == 2 + 32766
    with pytest.raises(InvalidArgument, match="32768"):
        filtered_entry("é" * 16384, b"")
    with pytest.raises(InvalidArgument, match="surrogate"):
        filtered_entry("\ud800", b"")


def test_a_batch_holds_1_to_65535_messages_and_64_mib() -> None:
    one = data_entry(b"")
    with pytest.raises(InvalidArgument, match="0"):
        sub_batch_entry([], Compression.NONE)
    assert sub_batch_entry([one] * MAX_BATCH_RECORDS, Compression.GZIP)[:3] == b"\x90\xff\xff"
    with pytest.raises(InvalidArgument, match="65536"):
        sub_batch_entry([one] * (MAX_BATCH_RECORDS + 1), Compression.NONE)
    half = raw_entry(bytes(MAX_UNCOMPRESSED // 2 - 4))
    assert sub_batch_entry([half, half], Compression.LZ4)[:3] == b"\xb0\x00\x02"
    with pytest.raises(InvalidArgument, match="bytes"):
        sub_batch_entry([half, half, b"\0\0\0\0"], Compression.LZ4)


# Frames ---------------------------------------------------------------------------------------------------------------


def read_frames(frames: list[bytes], publisher_id: int, version: int) -> list[bytes]:
    """The headers checked: what is published, each item with its id."""
    items: list[bytes] = []
    for frame in frames:
        size, key, found_version, found_id, count = struct.unpack_from(">IHHBI", frame)
        assert (size, key, found_version, found_id) == (len(frame) - 4, 2, version, publisher_id)
        pos = 13
        for _ in range(count):
            length = 8 + 4 + struct.unpack_from(">I", frame, pos + 8)[0]
            items.append(frame[pos : pos + length])
            pos += length
        assert pos == len(frame)
    return items


@given(entries_of_any_size, st.integers(0, 255), st.integers(0, 2**64 - 100), st.integers(500, 3000) | st.just(0))
def test_f34_frames_hold_everything_in_order_and_none_is_larger_than_frame_max(
    entries: list[bytes], publisher_id: int, first: int, frame_max: int
) -> None:
    ids = range(first, first + len(entries))
    frames = publish_frames(publisher_id, 1, ids, entries, frame_max)
    assert read_frames(frames, publisher_id, 1) == [
        struct.pack(">Q", one) + entry for one, entry in zip(ids, entries, strict=True)
    ]
    if not frame_max:
        assert len(frames) == 1
        return
    assert all(len(frame) - 4 <= frame_max for frame in frames)
    # As few as there can be: the first item of a frame had no room in the frame before.
    for before, after in itertools.pairwise(frames):
        first_item = 8 + 4 + struct.unpack_from(">I", after, 21)[0]
        assert len(before) - 4 + first_item > frame_max


def test_f34_a_frame_may_be_exactly_as_large_as_frame_max() -> None:
    entries = [data_entry(b"x" * 100)] * 2
    exact = PUBLISH_OVERHEAD - 4 + 8 + 2 * len(entries[0])
    assert [len(frame) - 4 for frame in publish_frames(0, 1, [1, 2], entries, exact)] == [exact]
    assert len(publish_frames(0, 1, [1, 2], entries, exact - 1)) == 2
    single = PUBLISH_OVERHEAD + len(entries[0])
    assert [len(frame) for frame in publish_frames(0, 1, [1, 2], entries, single - 4)] == [single, single]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_f34_an_entry_too_large_for_a_frame_by_itself_is_named_before_any_frame_is_made(place: int) -> None:
    entries = [data_entry(b"x")] * 2
    entries.insert(place, data_entry(b"x" * 500))
    size = PUBLISH_OVERHEAD - 4 + len(entries[place])
    with pytest.raises(MessageTooLarge) as caught:
        publish_frames(0, 1, [1, 2, 3], entries, size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)
    publish_frames(0, 1, [1, 2, 3], entries, size)


def test_ids_need_not_be_contiguous_and_have_64_bits() -> None:
    ids = [2**64 - 1, 0, 7, 7, 2**63]
    items = read_frames(publish_frames(0, 1, ids, [raw_entry(b"x")] * 5, 0), 0, 1)
    assert [int.from_bytes(item[:8], "big") for item in items] == ids


@pytest.mark.parametrize("ids", [[1], [1, 2, 3], [1, -1], [1, 2**64]])
def test_ids_that_cannot_be_sent_are_an_invalid_argument(ids: list[int]) -> None:
    with pytest.raises(InvalidArgument):
        publish_frames(0, 1, ids, [raw_entry(b"x")] * 2, 0)


def test_nothing_to_publish_makes_no_frame() -> None:
    assert publish_frames(0, 1, [], [], 100) == []
