"""A codec is named, or given as a member of `Compression`."""

from __future__ import annotations

from typing import Any

import pytest

import actorstream
from actorstream import compression
from actorstream.compression import Compression
from actorstream.errors import InvalidArgument


@pytest.mark.parametrize("codec", list(Compression))
def test_a_codec_has_a_name_in_lower_case(codec: Compression) -> None:
    assert compression.parse(codec) is codec
    assert compression.parse(codec.name.lower()) is codec


@pytest.mark.parametrize("wrong", ["GZIP", "zip", "", None, 1, True])
def test_what_is_no_codec_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="'none', 'gzip', 'snappy', 'lz4', 'zstd'"):
        compression.parse(wrong)


def test_it_is_public() -> None:
    assert actorstream.Compression is Compression
