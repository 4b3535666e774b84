"""Compression of sub-entry batches (protocol section 3.2), in the formats that all clients share.

    gzip     one member (RFC 1952)
    snappy   the framing format, not the raw one
    lz4      the frame format, in independent blocks of 64 KiB
    zstd     one frame

gzip and lz4 are always there; snappy and zstd need the package `cramjam`, the extra "compression".

What is compressed came from somebody else. Decompression stops at the size that was announced, which may not exceed
`MAX_UNCOMPRESSED`, so that a few bytes cannot ask for all the memory there is.
"""

from __future__ import annotations

import gzip
import importlib
import zlib
from typing import Any, Final

import lz4.frame  # type: ignore[import-untyped]

from actorstream.compression import Compression
from actorstream.errors import CompressionError

MAX_UNCOMPRESSED: Final = 64 * 1024 * 1024
"""Bytes of a sub-entry batch before compression. Brokers from 4.3.5 on refuse larger ones."""

_CRAMJAM: Final[dict[int, str]] = {Compression.SNAPPY: "snappy", Compression.ZSTD: "zstd"}
_LZ4_CONTEXTS: Final[list[Any]] = []
"""Those that nobody uses: to make one, and its buffers, takes many times as long as to decompress a batch with it.

As many as there are threads that decompress at once; taking one out and putting it back are single steps.
"""

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS  # 16: a gzip member around it is asked for


def compress(codec: int, data: bytes) -> bytes:
    """The compressed form of `data`; for `Compression.NONE`, `data` itself.

    Raises:
        CompressionError: the codec is unknown or not installed.
    """
    if codec == Compression.NONE:
        return data
    if codec == Compression.GZIP:
        return gzip.compress(data, compresslevel=6, mtime=0)
    if codec == Compression.LZ4:
        packed: bytes = lz4.frame.compress(
            data, block_size=lz4.frame.BLOCKSIZE_MAX64KB, block_linked=False, store_size=False
        )
        return packed
    return bytes(_cramjam(codec).compress(data))


def decompress(codec: int, data: bytes, uncompressed_len: int) -> bytes:
    """What `data` was before compression, `uncompressed_len` bytes.

    Raises:
        CompressionError: the codec is unknown or not installed, more than `MAX_UNCOMPRESSED` bytes are announced, or
            the data are broken, or hold more or fewer bytes than announced.
    """
    if uncompressed_len > MAX_UNCOMPRESSED:
        raise CompressionError(
            f"a sub-entry batch announces {uncompressed_len} bytes, and {MAX_UNCOMPRESSED} are the limit"
        )
    if codec == Compression.NONE:
        result = data
    elif codec == Compression.GZIP:
        result = _gzip(data, uncompressed_len)
    elif codec == Compression.LZ4:
        result = _lz4(data, uncompressed_len)
    else:
        result = _buffered(_cramjam(codec), data, uncompressed_len)
    if len(result) != uncompressed_len:
        raise CompressionError(f"a sub-entry batch announces {uncompressed_len} bytes, and has more or fewer")
    return result


def _gzip(data: bytes, uncompressed_len: int) -> bytes:
    """The whole of one member; at most a byte more than announced, which gives a longer one away."""
    member = zlib.decompressobj(_GZIP_WINDOW)
    try:
        result = member.decompress(data, uncompressed_len + 1)
    except zlib.error as error:
        raise _broken(error) from None
    if len(result) <= uncompressed_len and (not member.eof or member.unused_data):
        raise _cut_off()
    return result


def _lz4(data: bytes, uncompressed_len: int) -> bytes:
    """The whole of one frame; likewise."""
    try:
        context = _LZ4_CONTEXTS.pop()
    except IndexError:
        context = lz4.frame.create_decompression_context()
    try:
        result: bytes
        read: int
        result, read, ended = lz4.frame.decompress_chunk(context, data, max_length=uncompressed_len + 1)
    except RuntimeError as error:
        raise _broken(error) from None
    if ended:  # else the context is in the middle of a frame, and not for another one
        _LZ4_CONTEXTS.append(context)
    if len(result) <= uncompressed_len and (not ended or read != len(data)):
        raise _cut_off()
    return result


def _broken(error: Exception) -> CompressionError:
    return CompressionError(f"a sub-entry batch cannot be decompressed: {error}")


def _cut_off() -> CompressionError:
    return CompressionError("the compressed data of a sub-entry batch are cut off, or followed by something else")


def _buffered(module: Any, data: bytes, uncompressed_len: int) -> bytes:
    """Snappy and zstd: into a buffer of the announced size, since cramjam's other calls know no limit."""
    buffer = bytearray(uncompressed_len)
    try:
        size: int = module.decompress_into(data, buffer)
    except Exception as error:  # noqa: BLE001 - cramjam raises several kinds, its own and those of Rust's I/O
        raise CompressionError(f"a sub-entry batch cannot be decompressed: {error}") from None
    return bytes(buffer) if size == uncompressed_len else bytes(buffer[:size])


def _cramjam(codec: int) -> Any:
    """The module for Snappy or zstd, imported when it is needed."""
    name = _CRAMJAM.get(codec)
    if name is None:
        raise CompressionError(f"unknown compression codec {codec}")
    try:
        module = importlib.import_module("cramjam")
    except ImportError:
        raise CompressionError(
            f"{name} compression needs the package cramjam: pip install 'actorstream[compression]'"
        ) from None
    return getattr(module, name)
