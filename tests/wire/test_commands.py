"""The table of commands: exact bytes, round trips over every row, and what malformed bytes come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from actorstream import offset
from actorstream.compression import Compression
from actorstream.errors import InvalidArgument, MalformedFrame, UnknownFrame
from actorstream.offset import OffsetSpecification, OffsetType
from actorstream.wire import commands as c
from actorstream.wire.constants import NO_LEADER, RESPONSE_BIT, Key, ResponseCode
from actorstream.wire.publish import filtered_entry, publish_frames, raw_entry, sub_batch_entry
from tests.wire import strategies
from tests.wire.vectors import VECTORS

ROWS = [pytest.param(row, id=f"{row.cls.__name__}-v{row.version}") for row in c.layouts()]

few = settings(max_examples=30, deadline=None)  # for each of the rows; a deadline would measure the machine


@pytest.mark.parametrize(("command", "correlation_id", "wire"), VECTORS)
def test_a_command_is_the_bytes_that_a_live_broker_speaks(
    command: c.Command, correlation_id: int | None, wire: str
) -> None:
    frame = bytes.fromhex(wire)
    assert c.encode(command, correlation_id) == frame
    assert c.decode(frame[4:]) == (command, correlation_id)
    assert c.decode(memoryview(frame)[4:]) == (command, correlation_id)


def test_the_table_has_every_key_and_both_versions_of_publish_and_deliver() -> None:
    rows = c.layouts()
    assert {row.key & ~RESPONSE_BIT for row in rows} == set(Key)
    assert {(row.key, row.version) for row in rows if row.version != 1} == {(Key.PUBLISH, 2), (Key.DELIVER, 2)}
    answered = {row.key for row in rows if row.cls.__base__ is c.Request}
    answers = {row.key & ~RESPONSE_BIT for row in rows if row.key & RESPONSE_BIT}
    assert answers == answered | {Key.CREDIT}


@pytest.mark.parametrize("row", ROWS)
@few
@given(data=st.data())
def test_what_was_encoded_is_decoded_as_it_was(row: c.Layout, data: st.DataObject) -> None:
    command = data.draw(strategies.commands_of(row))
    correlation_id = data.draw(strategies.correlation_ids_of(row))
    frame = c.encode(command, correlation_id)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert frame[4:8] == row.key.to_bytes(2, "big") + row.version.to_bytes(2, "big")
    assert c.decode(frame[4:]) == (command, correlation_id)
    assert c.decode_by_table(frame[4:]) == (command, correlation_id)


@pytest.mark.parametrize("row", ROWS)
@few
@given(data=st.data())
def test_a_frame_that_ends_too_early_or_too_late_is_malformed(row: c.Layout, data: st.DataObject) -> None:
    """Or it is one of the same command, since some fields may be left out at a frame's end; but no other error."""
    command = data.draw(strategies.commands_of(row))
    frame = c.encode(command, data.draw(strategies.correlation_ids_of(row)))[4:]
    cut = data.draw(st.integers(0, len(frame) - 1))
    for broken in (frame[:cut], frame + b"\0"):
        try:
            decoded, correlation_id = c.decode(broken)
        except MalformedFrame:
            continue
        assert type(decoded) is row.cls
        assert c.decode(c.encode(decoded, correlation_id)[4:]) == (decoded, correlation_id)


@pytest.mark.parametrize("row", ROWS)
@few
@given(tail=st.binary(max_size=60))
def test_any_bytes_at_all_give_a_command_or_a_typed_error(row: c.Layout, tail: bytes) -> None:
    frame = row.header[4:] + tail
    try:
        decoded, _ = c.decode(frame)
    except MalformedFrame:
        with pytest.raises(MalformedFrame):
            c.decode_by_table(frame)
    else:
        assert c.decode_by_table(frame)[0] == decoded


@pytest.mark.parametrize("key", [Key.PUBLISH_CONFIRM, Key.DELIVER])
@settings(deadline=None)
@given(version=st.integers(0, 3), tail=st.binary(max_size=40))
@example(version=1, tail=b"\1\0\0\0\1\0\0\0\0\0\0\0\x2a")
@example(version=1, tail=b"\1\xff\xff\xff\xff")
@example(version=2, tail=b"\1" + bytes(8))
def test_the_short_cuts_do_what_the_table_does(key: Key, version: int, tail: bytes) -> None:
    frame = key.to_bytes(2, "big") + version.to_bytes(2, "big") + tail

    def outcome(decode: Any) -> object:
        try:
            return decode(frame)
        except (MalformedFrame, UnknownFrame) as error:
            return type(error)

    assert outcome(c.decode) == outcome(c.decode_by_table)


@settings(deadline=None)
@given(st.integers(0, 255), st.lists(st.builds(c.PublishItem, st.integers(0, 2**64 - 1), strategies.blobs), min_size=1))
def test_publish_frames_are_what_the_table_makes_of_the_same_records(publisher_id: int, items: list[Any]) -> None:
    ids, entries = [item.publishing_id for item in items], [raw_entry(item.entry) for item in items]
    command = c.Publish(publisher_id, tuple(items))
    assert publish_frames(publisher_id, 1, ids, entries, 0) == [c.encode(command)]


@settings(deadline=None)
@given(
    st.lists(
        st.builds(c.FilteredItem, st.integers(0, 2**64 - 1), st.none() | strategies.strings, strategies.blobs),
        min_size=1,
    )
)
def test_publish_frames_with_filter_values_are_what_the_table_makes_of_them(items: list[Any]) -> None:
    ids = [item.publishing_id for item in items]
    entries = [filtered_entry(item.filter_value, raw_entry(item.record)) for item in items]
    assert publish_frames(7, 2, ids, entries, 0) == [c.encode(c.PublishFiltered(7, tuple(items)))]


@settings(deadline=None)
@given(st.lists(strategies.blobs, min_size=1, max_size=9))
def test_a_sub_batch_is_what_the_table_makes_of_it(records: list[bytes]) -> None:
    data = b"".join([len(record).to_bytes(4, "big") + record for record in records])
    batch = c.SubBatch(Compression.NONE, len(records), len(data), data)
    entry = sub_batch_entry([raw_entry(record) for record in records], Compression.NONE)
    assert publish_frames(7, 1, [5], [entry], 0) == [c.encode(c.Publish(7, (c.PublishItem(5, batch),)))]


@pytest.mark.parametrize(
    "frame",
    [
        # Arrays, maps and arrays in arrays that claim what cannot be there: refused before anything is looped over.
        "8018 0001 00000001 0001 ffffffff",
        "8011 0001 00000001 0001 ffffffff",
        "801c 0001 00000001 0001 ffffffff",
        "800f 0001 00000001 ffffffff",
        "800f 0001 00000001 00000000 00000001 0001 61 0001 ffff ffffffff",
        "801b 0001 00000001 0001 00000001 0001",
        "0003 0001 01 ffffffff",
        "0003 0001 01 00000000 00",
        "0004 0001 01 10000000 0000000000000001",
        # Strings and bytes.
        "0010 0001 0006 7fff 61",
        "0010 0001 0006 0001 ff",
        "0013 0001 00000001 0000 7fffffff 00",
        "0013 0001 00000001 0000 fffffffe",
        "8013 0001 00000001 0001 0005 61",
        # A record, and a sub-batch, that is longer than the frame.
        "0002 0001 01 00000001 0000000000000001 7fffffff 00",
        "0002 0001 01 00000001 0000000000000001 90 0001 00000001 ffffffff 00",
        # Offset specifications of no known type, or of none where one is needed.
        "0007 0001 00000001 00 0000 0000 000a",
        "0007 0001 00000001 00 0000 0006 000a",
        "801a 0001 00000001 0001 0006",
        "801a 0001 00000001 0001 0004 00000000",
        # No room for the header, or for the rest of a fixed layout.
        "",
        "0017",
        "8001 0001 0000",
        "0008 0001",
        "0008 0002 01 00000000000000",
        # A byte too many.
        "0017 0001 00",
        "8001 0001 00000001 0001 00",
    ],
)
def test_malformed_bytes_are_a_typed_error(frame: str) -> None:
    with pytest.raises(MalformedFrame):
        c.decode(bytes.fromhex(frame))


@pytest.mark.parametrize("header", ["0020 0001", "8017 0001", "0001 0002", "0003 0002", "0008 0003", "0000 0000"])
def test_f64_a_command_or_version_that_is_not_known_says_which(header: str) -> None:
    frame = bytes.fromhex(header) + b"whatever"
    with pytest.raises(UnknownFrame) as caught:
        c.decode(frame)
    assert (caught.value.key, caught.value.version) == (int(header[:4], 16), int(header[5:], 16))


def test_f64_a_code_that_is_not_known_is_kept_as_a_number() -> None:
    response = c.DeleteResponse(54321)
    assert c.decode(c.encode(response, 1)[4:]) == (response, 1)
    assert not response.ok


@pytest.mark.parametrize(
    ("response", "decoded"),
    [
        (c.OpenResponse, c.OpenResponse(12, {})),
        (c.QueryOffsetResponse, c.QueryOffsetResponse(12, 0)),
        (c.PartitionsResponse, c.PartitionsResponse(12, ())),
        (c.StreamStatsResponse, c.StreamStatsResponse(12, {})),
        (c.SaslAuthenticateResponse, c.SaslAuthenticateResponse(12, None)),
        (c.ResolveOffsetSpecResponse, c.ResolveOffsetSpecResponse(12, OffsetSpecification(OffsetType.NONE))),
    ],
)
def test_an_answer_that_is_an_error_may_end_after_its_code(response: type[c.Response], decoded: c.Response) -> None:
    header = (response.KEY | RESPONSE_BIT).to_bytes(2, "big") + b"\0\1" + b"\0\0\0\7"
    assert c.decode(header + b"\0\x0c") == (decoded, 7)


def test_an_answer_that_is_ok_may_not_end_after_its_code() -> None:
    with pytest.raises(MalformedFrame, match="QueryOffsetResponse version 1"):
        c.decode(bytes.fromhex("800b 0001 00000001 0001"))


def test_the_maps_of_two_error_answers_are_two_maps() -> None:
    frame = bytes.fromhex("801c 0001 00000001 0002")
    first, second = c.decode(frame)[0], c.decode(frame)[0]
    assert isinstance(first, c.StreamStatsResponse)
    assert isinstance(second, c.StreamStatsResponse)
    assert first.stats is not second.stats


def test_f65_lengths_count_bytes_of_utf_8_and_not_characters() -> None:
    frame = c.encode(c.Delete("größe-🐇"), 1)
    assert frame[12:14] == len("größe-🐇".encode()).to_bytes(2, "big") == b"\0\x0c"


@pytest.mark.parametrize("characters", ["a", "é", "€", "🐇"])
def test_f65_a_string_may_have_32767_bytes_and_no_more(characters: str) -> None:
    size = len(characters.encode())
    longest = characters * (32767 // size) + "a" * (32767 % size)
    assert c.decode(c.encode(c.Delete(longest), 1)[4:]) == (c.Delete(longest), 1)
    with pytest.raises(InvalidArgument, match=r"Delete\.stream: a string of 32768 bytes"):
        c.encode(c.Delete(longest + "a"), 1)


def test_a_null_that_arrives_is_empty() -> None:
    assert c.decode(bytes.fromhex("0010 0001 0006 ffff")) == (c.MetadataUpdate(6, ""), None)
    reauthentication = bytes.fromhex("0013 0001 00000001 0001 61 ffffffff")
    assert c.decode(reauthentication) == (c.SaslAuthenticate("a", b""), 1)


def test_no_filter_value_is_not_an_empty_one() -> None:
    none, empty = c.FilteredItem(1, None, b""), c.FilteredItem(1, "", b"")
    assert c.encode(c.PublishFiltered(0, (none,))) != c.encode(c.PublishFiltered(0, (empty,)))


def test_a_metadata_answer_is_always_ok_and_tells_whether_there_is_a_leader() -> None:
    with_leader = c.MetadataStream("a", 1, 0, ())
    without = c.MetadataStream("b", 6, NO_LEADER, (1, 2))
    assert c.MetadataResponse(ResponseCode.OK, (), (with_leader, without)).ok
    assert with_leader.has_leader
    assert not without.has_leader
    with pytest.raises(InvalidArgument, match=r"MetadataResponse\.code"):
        c.encode(c.MetadataResponse(2, (), ()), 1)


def test_deliver_is_version_1_without_a_committed_chunk_id_and_else_version_2() -> None:
    assert c.encode(c.Deliver(1, None, b"chunk"))[4:8] == bytes.fromhex("0008 0001")
    assert c.encode(c.Deliver(1, 0, b"chunk"))[4:8] == bytes.fromhex("0008 0002")


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (c.DeletePublisher(256), "DeletePublisher.publisher_id"),
        (c.DeletePublisher(-1), "DeletePublisher.publisher_id"),
        (c.Subscribe(0, "s", offset.next(), 65536), "Subscribe.credit"),
        (c.Subscribe(0, "s", OffsetSpecification(OffsetType.NONE), 1), "Subscribe.offset"),
        (c.Subscribe(0, "s", OffsetSpecification(OffsetType.OFFSET, -1), 1), "Subscribe.offset"),
        (c.Subscribe(0, "s", OffsetSpecification(OffsetType.TIMESTAMP, 2**63), 1), "Subscribe.offset"),
        (c.Delete("\udcff"), "Delete.stream"),
        (c.Create("s", {"a": "\udcff"}), "Create.arguments"),
        (c.Metadata(("a", "b" * 40000)), "Metadata.streams"),
        (c.SaslAuthenticateResponse(10, bytes(32768)), "SaslAuthenticateResponse.challenge"),
        (c.MetadataResponse(1, (c.MetadataBroker(70000, "h", 1),), ()), "MetadataResponse.brokers: MetadataBroker.ref"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_the_name_of_its_field(command: c.Command, where: str) -> None:
    with pytest.raises(InvalidArgument, match=where):
        c.encode(command, 1)


@pytest.mark.parametrize("codec", [-1, 8])
def test_a_codec_has_three_bits(codec: int) -> None:
    with pytest.raises(InvalidArgument, match="0 to 7"):
        c.encode(c.Publish(0, (c.PublishItem(1, c.SubBatch(codec, 1, 1, b"a")),)))


def test_the_first_byte_of_a_sub_batch_is_its_codec() -> None:
    frame = c.encode(c.Publish(0, (c.PublishItem(1, c.SubBatch(Compression.ZSTD, 1, 1, b"a")),)))
    assert frame[21] == 0x80 | Compression.ZSTD << 4


@pytest.mark.parametrize(
    ("command", "correlation_id"),
    [(c.Heartbeat(), 1), (c.CreditResponse(4, 1), 1), (c.Delete("s"), None), (c.DeleteResponse(1), None)],
)
def test_a_correlation_id_is_given_where_one_belongs_and_nowhere_else(
    command: c.Command, correlation_id: int | None
) -> None:
    with pytest.raises(InvalidArgument, match="correlation id"):
        c.encode(command, correlation_id)


@pytest.mark.parametrize("correlation_id", [-1, 2**32])
def test_a_correlation_id_is_unsigned_and_has_32_bits(correlation_id: int) -> None:
    with pytest.raises(InvalidArgument):
        c.encode(c.Delete("s"), correlation_id)


def test_credentials_are_not_shown() -> None:
    assert "secret" not in repr(c.SaslAuthenticate("PLAIN", b"\0user\0secret"))


def test_commands_are_values() -> None:
    assert c.Delete("a") == c.Delete("a") != c.Delete("b")
    assert hash(c.Delete("a")) == hash(c.Delete("a"))
    with pytest.raises(AttributeError):
        c.Delete("a").stream = "b"  # type: ignore[misc]
