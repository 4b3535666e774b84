"""Frames come out of the byte stream whole and in order, however the bytes were split on the way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from actorstream.errors import MalformedFrame
from actorstream.wire.frames import FrameBuffer

bodies = st.lists(st.binary(max_size=30), max_size=8)


def framed(*bodies: bytes) -> bytes:
    return b"".join([len(body).to_bytes(4, "big") + body for body in bodies])


@settings(deadline=None)
@given(bodies=bodies, data=st.data())
def test_any_split_of_the_stream_gives_the_same_frames(bodies: list[bytes], data: st.DataObject) -> None:
    stream = framed(*bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    buffer = FrameBuffer(100)
    frames = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames += buffer.feed(stream[start:end])
    assert frames == bodies
    assert buffer.pending() == 0
    assert buffer.fault is None


@pytest.mark.parametrize("step", range(1, 12))
def test_every_way_to_cut_size_and_body_gives_the_same_frames(step: int) -> None:
    expected = [b"", b"a", b"bcdefghijk", b"", b"lmnop"]
    stream = framed(*expected)
    buffer = FrameBuffer(10)
    frames = [frame for at in range(0, len(stream), step) for frame in buffer.feed(stream[at : at + step])]
    assert frames == expected


def test_f13_frames_that_are_whole_are_given_out_though_the_last_one_is_not() -> None:
    buffer = FrameBuffer(100)
    assert buffer.feed(framed(b"whole") + b"\0\0\0\7part") == [b"whole"]
    assert buffer.pending() == 4
    assert buffer.feed(b"ial") == [b"partial"]
    assert buffer.pending() == 0


def test_a_frame_of_the_greatest_size_is_accepted_and_one_byte_more_is_not() -> None:
    buffer = FrameBuffer(5)
    assert buffer.feed(framed(b"12345")) == [b"12345"]
    assert buffer.fault is None
    assert buffer.feed(framed(b"123456")) == []
    assert isinstance(buffer.fault, MalformedFrame)
    assert "6 bytes" in str(buffer.fault)


@pytest.mark.parametrize("cut", range(1, 13))
def test_after_a_frame_that_is_too_large_nothing_is_read_any_more(cut: int) -> None:
    stream = framed(b"ok") + b"\xff\xff\xff\xff" + framed(b"no")
    buffer = FrameBuffer(5)
    frames = buffer.feed(stream[:cut]) + buffer.feed(stream[cut:]) + buffer.feed(framed(b"no"))
    assert frames == [b"ok"]
    assert buffer.fault is not None
    assert buffer.pending() == 0


def test_the_limit_can_be_raised_between_two_frames() -> None:
    buffer = FrameBuffer(2)
    assert buffer.feed(framed(b"12") + b"\0\0\0") == [b"12"]
    buffer.max_size = 3
    assert buffer.feed(b"\x03abc") == [b"abc"]


def test_memory_grows_with_what_has_arrived_and_not_with_what_is_announced() -> None:
    buffer = FrameBuffer(2**31)
    assert buffer.feed(b"\x7f\xff\xff\xff" + bytes(10)) == []
    assert buffer.pending() == 10


def test_a_peer_that_sends_byte_by_byte_does_not_cost_an_object_for_each() -> None:
    body = bytes(range(250)) * 100
    buffer = FrameBuffer(len(body))
    frames = []
    for byte in framed(body):
        frames += buffer.feed(bytes([byte]))
        assert len(buffer._pieces) <= 1 + buffer.pending() // 4096
    assert frames == [body]


def test_a_large_frame_that_comes_in_small_pieces_is_whole() -> None:
    body = bytes(range(256)) * 4096
    stream = framed(body, b"next")
    buffer = FrameBuffer(len(body))
    frames = [frame for at in range(0, len(stream), 1000) for frame in buffer.feed(stream[at : at + 1000])]
    assert frames == [body, b"next"]
    assert isinstance(frames[0], bytes)
