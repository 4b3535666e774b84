"""Codecs of sub-entry batches: the formats that other clients use, and no more memory than was announced."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import sys
import tracemalloc
import zlib
from typing import Any

import cramjam
import pytest
from hypothesis import given, strategies as st

from actorstream.compression import Compression
from actorstream.errors import CompressionError
from actorstream.wire.compression import MAX_UNCOMPRESSED, compress, decompress

lz4_frame: Any = importlib.import_module("lz4.frame")

CODECS = list(Compression)
COMPRESSING = [codec for codec in CODECS if codec is not Compression.NONE]
TEXT = b"the quick brown fox " * 5000


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=500) | st.binary(max_size=20).map(lambda part: part * 5000))
def test_what_is_compressed_comes_back(codec: Compression, data: bytes) -> None:
    packed = compress(codec, data)
    assert type(packed) is bytes
    assert decompress(codec, packed, len(data)) == data


@pytest.mark.parametrize("codec", COMPRESSING)
def test_compression_makes_text_smaller(codec: Compression) -> None:
    assert len(compress(codec, TEXT)) < len(TEXT) / 10


def test_the_formats_are_those_of_the_other_clients() -> None:
    packed = compress(Compression.GZIP, TEXT)
    assert packed[:3] == b"\x1f\x8b\x08"
    assert gzip.decompress(packed) == TEXT
    packed = compress(Compression.SNAPPY, TEXT)
    assert packed[:10] == b"\xff\x06\x00\x00sNaPpY"  # the framing format's stream identifier
    packed = compress(Compression.LZ4, TEXT)
    assert packed[:4] == b"\x04\x22\x4d\x18"  # the frame format's magic number
    assert packed[4] & 0b1110_0000 == 0b0110_0000  # version 1, blocks independent
    assert packed[5] >> 4 == 4  # blocks of 64 KiB
    packed = compress(Compression.ZSTD, TEXT)
    assert packed[:4] == b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize(
    "packed",
    [
        lz4_frame.compress(TEXT),
        lz4_frame.compress(TEXT, content_checksum=True, block_checksum=True, store_size=True),
        lz4_frame.compress(TEXT, block_size=lz4_frame.BLOCKSIZE_MAX4MB, block_linked=True),
    ],
)
def test_lz4_frames_with_other_options_are_read(packed: bytes) -> None:
    assert decompress(Compression.LZ4, packed, len(TEXT)) == TEXT


def test_lz4_frames_are_read_by_a_second_implementation() -> None:
    assert bytes(cramjam.lz4.decompress(compress(Compression.LZ4, TEXT))) == TEXT


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("difference", [-1, 1, -len(TEXT), 1000])
def test_f63_more_or_less_data_than_announced_is_an_error(codec: Compression, difference: int) -> None:
    with pytest.raises(CompressionError):
        decompress(codec, compress(codec, TEXT), len(TEXT) + difference)


@pytest.mark.parametrize("codec", COMPRESSING)
def test_f63_what_comes_after_broken_data_is_read(codec: Compression) -> None:
    packed = compress(codec, TEXT)
    for broken in (packed[: len(packed) // 2], packed[:-1], b"junk" + packed, packed + packed):
        with pytest.raises(CompressionError):
            decompress(codec, broken, len(TEXT))
        assert decompress(codec, packed, len(TEXT)) == TEXT


@pytest.mark.parametrize("codec", COMPRESSING)
@given(data=st.data())
def test_f63_data_cut_off_anywhere_are_an_error(codec: Compression, data: st.DataObject) -> None:
    content = bytes(range(256)) * 3
    packed = compress(codec, content)
    with pytest.raises(CompressionError):
        decompress(codec, packed[: data.draw(st.integers(0, len(packed) - 1))], len(content))


@pytest.mark.parametrize("codec", COMPRESSING)
@given(data=st.data())
def test_f63_damaged_data_are_an_error_or_of_the_announced_size(codec: Compression, data: st.DataObject) -> None:
    content = b"some text some text some text" + bytes(range(64))
    packed = bytearray(compress(codec, content))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CompressionError):
        assert len(decompress(codec, bytes(packed), len(content))) == len(content)


@pytest.mark.parametrize("codec", COMPRESSING)
@given(junk=st.binary(max_size=100))
def test_f63_junk_is_an_error(codec: Compression, junk: bytes) -> None:
    with pytest.raises(CompressionError):
        decompress(codec, junk, 10)


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.LZ4])
def test_something_behind_the_data_is_an_error(codec: Compression) -> None:
    packed = compress(codec, TEXT)
    with pytest.raises(CompressionError):
        decompress(codec, packed + b"x", len(TEXT))
    with pytest.raises(CompressionError):
        decompress(codec, packed + compress(codec, b"more"), len(TEXT))


@pytest.mark.parametrize("codec", COMPRESSING)
def test_f63_a_bomb_takes_no_more_memory_than_it_announces(codec: Compression) -> None:
    bomb = compress(codec, bytes(MAX_UNCOMPRESSED))
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError):
            decompress(codec, bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", CODECS)
def test_f63_more_than_the_limit_is_refused_unseen(codec: Compression) -> None:
    with pytest.raises(CompressionError, match="limit"):
        decompress(codec, b"", MAX_UNCOMPRESSED + 1)
    with pytest.raises(CompressionError, match="limit"):
        decompress(codec, b"", 2**32 - 1)


@pytest.mark.parametrize("codec", [5, 6, 7, -1])
def test_f63_an_unknown_codec_is_an_error(codec: int) -> None:
    with pytest.raises(CompressionError, match=f"codec {codec}"):
        decompress(codec, b"x", 1)
    with pytest.raises(CompressionError, match=f"codec {codec}"):
        compress(codec, b"x")


@pytest.mark.parametrize("codec", [Compression.SNAPPY, Compression.ZSTD])
def test_without_cramjam_the_error_says_what_to_install(codec: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(CompressionError, match=r"actorstream\[compression\]"):
        compress(codec, b"x")
    with pytest.raises(CompressionError, match=r"actorstream\[compression\]"):
        decompress(codec, b"x", 1)
    assert decompress(Compression.GZIP, zlib.compress(b"x", wbits=31), 1) == b"x"
