"""The protocol's numbers against its tables (sections 1.1, 1.2 and 3.2)."""

from __future__ import annotations

from actorstream.compression import Compression
from actorstream.errors import ResponseError, response_error
from actorstream.wire.constants import Key, ResponseCode


def test_the_keys_are_all_those_up_to_the_newest_one() -> None:
    assert sorted(Key) == list(range(0x01, 0x20))


def test_every_code_but_ok_has_an_error_class_of_its_own() -> None:
    assert sorted(ResponseCode) == list(range(1, 22))
    classes = {type(response_error(code)) for code in ResponseCode if code is not ResponseCode.OK}
    assert len(classes) == len(ResponseCode) - 1
    assert ResponseError not in classes


def test_the_codecs_are_numbered_as_on_the_wire() -> None:
    assert [codec.name for codec in sorted(Compression)] == ["NONE", "GZIP", "SNAPPY", "LZ4", "ZSTD"]
    assert sorted(Compression) == [0, 1, 2, 3, 4]
