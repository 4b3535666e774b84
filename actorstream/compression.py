"""How the messages of a sub-entry are compressed."""

from __future__ import annotations

import enum

from actorstream.errors import InvalidArgument


class Compression(enum.IntEnum):
    """The codec of a sub-entry, as it stands in three bits of its first byte (protocol section 3.2)."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def parse(value: Compression | str) -> Compression:
    """A codec, or its name in lower case: "none", "gzip", "snappy", "lz4", "zstd".

    Raises:
        InvalidArgument: neither.
    """
    if isinstance(value, Compression):
        return value
    names = {codec.name.lower(): codec for codec in Compression}
    if isinstance(value, str) and value in names:
        return names[value]
    raise InvalidArgument(f"a compression is one of {', '.join(map(repr, names))}, or a Compression, not {value!r}")
