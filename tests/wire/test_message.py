"""Messages: what is published reads back, what others write is read, and what is broken spoils no more than itself."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from actorstream.errors import InvalidArgument, MessageCodecError
from actorstream.wire import amqp
from actorstream.wire.amqp_encode import encode_value
from actorstream.wire.message import Header, Message, Properties

from .amqp_values import moments, same, simple, texts, unsigned, values

proton: Any = pytest.importorskip("proton")

# Stored by a broker for a message published over AMQP 0-9-1.
FROM_AMQP091 = bytes.fromhex(
    "005370c006054140404143005372c1620aa30c782d62617369632d74797065a1027479a305782d666f6fa103626172a315782d73747265616d"
    "2d66696c7465722d76616c7565a104656d6561a30a782d65786368616e6765a100a30d782d726f7574696e672d6b6579a10770726f746f2d67"
    "005373c02d0da1036d696440404040a103636964a30a746578742f706c61696e4040830000018bcfe56800a1036170704040005374c10c04a1"
    "016ba10176a1016e5507005375a00568656c6c6f"
)

ids = texts | unsigned(64) | st.binary(max_size=20) | st.uuids()
ascii_texts = st.text(st.characters(codec="ascii"), max_size=20)
headers = st.builds(
    Header,
    durable=st.none() | st.booleans(),
    priority=st.none() | unsigned(8),
    ttl_ms=st.none() | unsigned(32),
    first_acquirer=st.none() | st.booleans(),
    delivery_count=st.none() | unsigned(32),
)


def properties_of(strings: st.SearchStrategy[str]) -> st.SearchStrategy[Properties]:
    return st.builds(
        Properties,
        message_id=st.none() | ids,
        user_id=st.none() | st.binary(max_size=20),
        to=st.none() | strings,
        subject=st.none() | strings,
        reply_to=st.none() | strings,
        correlation_id=st.none() | ids,
        content_type=st.none() | ascii_texts,
        content_encoding=st.none() | ascii_texts,
        absolute_expiry_time=st.none() | moments,
        creation_time=st.none() | moments,
        group_id=st.none() | strings,
        group_sequence=st.none() | unsigned(32),
        reply_to_group_id=st.none() | strings,
    )


all_properties = properties_of(texts)
# Few and small values here: `test_amqp` has all that there are, and a test draws up to four such maps.
annotation_maps = st.dictionaries(ascii_texts | unsigned(64), simple | st.lists(simple, max_size=3), max_size=2)
sections = st.fixed_dictionaries(
    {},
    optional={
        "header": headers,
        "delivery_annotations": annotation_maps,
        "annotations": annotation_maps,
        "properties": all_properties,
        "application_properties": st.dictionaries(texts, simple, max_size=4),
        "footer": annotation_maps,
    },
)
bodies = st.one_of(
    st.fixed_dictionaries({"body": st.binary(max_size=300)}),
    st.fixed_dictionaries({"value": values}),
    st.fixed_dictionaries({"sequence": st.lists(values, max_size=4)}),
)


def symbolic(annotations: dict[Any, Any]) -> dict[Any, Any]:
    """Annotations with the keys as they come back."""
    return {amqp.Symbol(key) if isinstance(key, str) else amqp.ULong(key): value for key, value in annotations.items()}


def says(message: Message, given: dict[str, Any]) -> bool:
    """Whether a message has exactly the parts that were given for it."""
    [(kind, value)] = [(name, given[name]) for name in ("body", "value", "sequence") if name in given]
    return (
        message.kind == ("data" if kind == "body" else kind)
        and same(message.value, value)
        and message.header == given.get("header")
        and message.properties == given.get("properties")
        and same(dict(message.application_properties), given.get("application_properties", {}))
        and same(dict(message.annotations), symbolic(given.get("annotations", {})))
        and same(dict(message.delivery_annotations), symbolic(given.get("delivery_annotations", {})))
        and same(dict(message.footer), symbolic(given.get("footer", {})))
    )


def section(code: int, value: bytes) -> bytes:
    """A section by hand."""
    return bytes((0, 0x53, code)) + value


DATA = section(0x75, b"\xa0\x02hi")


# Published ------------------------------------------------------------------------------------------------------------


@given(bodies, sections)
def test_what_is_published_reads_back(body: dict[str, Any], parts: dict[str, Any]) -> None:
    message = Message(**body, **parts)
    assert says(message, body | parts)
    assert says(Message.decode(message.encode()), body | parts)
    assert repr(message).startswith("<Message: ")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_a_body_alone_is_one_shortest_data_section(size: int) -> None:
    body = b"x" * size
    head = b"\0\x53\x75\xa0" + bytes((size,)) if size <= 255 else b"\0\x53\x75\xb0" + struct.pack(">I", size)
    assert Message(body).encode() == head + body
    assert Message(body).body == Message.decode(head + body).body == body


@pytest.mark.parametrize("body", ["é", "é".encode(), bytearray("é".encode()), memoryview("é".encode())])
def test_a_body_is_bytes_of_any_kind_or_text_as_utf8(body: Any) -> None:
    assert Message(body).body == Message(body, header=Header()).body == b"\xc3\xa9"
    assert type(Message(body).body) is bytes


def test_sections_are_written_in_the_order_of_the_standard() -> None:
    message = Message(
        b"hi",
        footer={"f": 1},
        application_properties={"a": 1},
        properties=Properties(message_id=7),
        annotations={"m": 1},
        delivery_annotations={"d": 1},
        header=Header(durable=True),
    )
    assert message.encode() == b"".join(
        [
            section(0x70, bytes.fromhex("c0020141")),
            section(0x71, bytes.fromhex("c10602a301645501")),
            section(0x72, bytes.fromhex("c10602a3016d5501")),
            section(0x73, bytes.fromhex("c003015307")),
            section(0x74, bytes.fromhex("c10602a101615501")),
            DATA,
            section(0x78, bytes.fromhex("c10602a301665501")),
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"body": "\ud800"}, "surrogate"),
        ({"value": object()}, "object"),
        ({"sequence": [object()]}, "object"),
        ({"sequence": "abc"}, "sequence"),
        ({"sequence": 5}, "sequence"),
        ({"application_properties": {"k": [1]}}, r"application_properties\['k'\]"),
        ({"application_properties": {"k": {}}}, "application_properties"),
        ({"application_properties": {"k": amqp.Array((1,))}}, "application_properties"),
        ({"application_properties": {"k": object()}}, "application_properties"),
        ({"application_properties": {5: 1}}, "application_properties"),
        ({"application_properties": [1]}, "application_properties"),
        ({"annotations": {1.5: 1}}, "annotations"),
        ({"annotations": {True: 1}}, "annotations"),
        ({"annotations": {-1: 1}}, "annotations"),
        ({"annotations": {"é": 1}}, "annotations"),
        ({"footer": 5}, "footer"),
        ({"delivery_annotations": {"k": object()}}, "delivery_annotations"),
        ({"properties": Properties(to=5)}, "properties.to"),  # type: ignore[arg-type]
        ({"properties": Properties(message_id=1.5)}, "properties.message_id"),  # type: ignore[arg-type]
        ({"properties": Properties(message_id=-1)}, "properties"),
        ({"properties": Properties(message_id=True)}, "properties.message_id"),
        ({"properties": Properties(user_id="guest")}, "properties.user_id"),  # type: ignore[arg-type]
        ({"properties": Properties(content_type="é")}, "properties"),
        ({"properties": Properties(group_sequence=2**32)}, "properties"),
        ({"properties": Properties(creation_time=dt.datetime(2024, 1, 1))}, "time zone"),  # noqa: DTZ001
        ({"properties": Properties(creation_time=5)}, "properties.creation_time"),  # type: ignore[arg-type]
        ({"properties": {"to": "me"}}, "properties"),
        ({"header": Header(priority=256)}, "header"),
        ({"header": Header(durable=1)}, "header.durable"),  # type: ignore[arg-type]
        ({"header": Properties()}, "header"),
    ],
)
def test_f35_what_cannot_be_encoded_is_refused_by_the_constructor(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(MessageCodecError, match=named):
        Message(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"body": 5},
        {"body": None},
        {"body": [b"a"]},
        {"body": 5, "header": Header()},
        {"body": b"x", "value": 1},
        {"value": 1, "sequence": []},
    ],
)
def test_f35_a_message_has_one_body_of_a_type_that_can_be_one(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Message(**arguments)


# Delivered ------------------------------------------------------------------------------------------------------------


def test_a_message_published_over_amqp_0_9_1_is_read_whole() -> None:
    message = Message.decode(FROM_AMQP091)
    assert message.body == message.value == b"hello"
    assert message.header == Header(durable=True, first_acquirer=True, delivery_count=0)
    assert message.annotations == {
        "x-basic-type": "ty",
        "x-foo": "bar",
        "x-stream-filter-value": "emea",
        "x-exchange": "",
        "x-routing-key": "proto-g",
    }
    assert message.properties == Properties(
        message_id="mid",
        correlation_id="cid",
        content_type="text/plain",
        creation_time=dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC),
        group_id="app",
    )
    assert message.application_properties == {"k": "v", "n": 7}
    assert message.delivery_annotations == message.footer == {}
    assert message.encode() == FROM_AMQP091


@given(bodies, sections, st.randoms(use_true_random=False))
def test_sections_are_read_in_any_order(body: dict[str, Any], parts: dict[str, Any], random: Any) -> None:
    pieces = [Message(**body).encode()]
    for name, part in parts.items():
        encoded, no_body = Message(**{name: part}).encode(), b"\0\x53\x75\xa0\0"
        pieces.append(encoded.removeprefix(no_body) if name == "footer" else encoded.removesuffix(no_body))
    random.shuffle(pieces)
    assert says(Message.decode(b"".join(pieces)), body | parts)


@pytest.mark.parametrize(
    ("wide", "symbolic"),
    [
        ("0080" + "0000000000000075", "00a310" + b"amqp:data:binary".hex()),
        ("0080" + "0000000000000075", "00b300000010" + b"amqp:data:binary".hex()),
    ],
)
def test_a_descriptor_may_be_long_or_a_symbol(wide: str, symbolic: str) -> None:
    assert Message.decode(bytes.fromhex(wide + "a0026869" + symbolic + "b00000000121")).body == b"hi!"


def test_data_sections_add_up_and_so_do_sequences() -> None:
    assert Message.decode(DATA + DATA).body == b"hihi"
    one = section(0x76, encode_value([1, "a"]))
    assert Message.decode(one + one).value == [1, "a", 1, "a"]


@pytest.mark.parametrize(("value", "body"), [(b"hi", b"hi"), ("é", b"\xc3\xa9")])
def test_a_value_of_bytes_or_text_gives_a_body(value: Any, body: bytes) -> None:
    assert Message.decode(Message(value=value).encode()).body == body


@pytest.mark.parametrize("message", [Message(value=5), Message(value=None), Message(sequence=[b"a"])])
def test_a_body_that_is_no_bytes_says_where_to_find_it(message: Message) -> None:
    with pytest.raises(MessageCodecError, match="read `value`"):
        _ = message.body


def test_a_record_without_a_body_has_an_empty_one() -> None:
    assert Message.decode(b"").body == Message.decode(section(0x70, b"\x45")).body == b""
    assert Message.decode(section(0x70, b"\x45")).header == Header()


def test_strings_and_symbols_may_stand_for_each_other() -> None:
    fields = [amqp.Symbol("id"), None, amqp.Symbol("to"), None, None, None, "text/plain"]
    message = Message.decode(section(0x73, encode_value(fields)) + section(0x72, encode_value({"k": 1})) + DATA)
    assert message.properties == Properties(message_id="id", to="to", content_type="text/plain")
    assert message.annotations["k"] == 1


def test_fields_beyond_those_known_are_passed_over() -> None:
    assert Message.decode(section(0x73, encode_value([1] + [None] * 12 + ["new"]))).properties == Properties(1)


@pytest.mark.parametrize(("moment", "nearest"), [(2**62, amqp.LAST_MOMENT), (-(2**62), amqp.FIRST_MOMENT)])
def test_a_moment_beyond_datetime_is_read_as_the_nearest(moment: int, nearest: dt.datetime) -> None:
    wire = section(0x73, encode_value([None] * 8 + [amqp.Timestamp(moment)]))
    assert Message.decode(wire).properties == Properties(absolute_expiry_time=nearest)


def test_a_broken_part_spoils_itself_only() -> None:
    record = (
        section(0x74, bytes.fromhex("c10602a101ff5501")) + section(0x73, b"\xa1\1x") + section(0x70, b"\x45") + DATA
    )
    message = Message.decode(record)
    assert message.body == b"hi"
    assert message.header == Header()
    with pytest.raises(MessageCodecError, match="UTF-8"):
        _ = message.application_properties
    with pytest.raises(MessageCodecError, match="list"):
        _ = message.properties
    assert message.encode() == record
    assert "not AMQP" in repr(message)


@pytest.mark.parametrize(
    "record",
    [
        b"x",
        b"\0",
        b"\0\x53",
        b"\0\x53\x75",
        b"\0\x53\x75\xa0",
        b"\0\x53\x75\xa0\x05hell",
        b"\0\x53\x75\xb0\xff\xff\xff\xffhell",
        b"\0\x53\x6f\x40",
        b"\0\x53\x79\x40",
        b"\0\xa3\x03abc\x40",
        b"\0\xa1\x10amqp:data:binary\xa0\x01x",
        section(0x75, b"\xa1\x01x"),
        section(0x75, b"\x40"),
        section(0x75, b"\0\x40\xa0\0"),
        section(0x76, b"\x40"),
        section(0x77, b"\x40") * 2,
        DATA + section(0x77, b"\x40"),
        DATA + b"{",
        b'{"json": true}',
        b"hello world",
    ],
)
def test_bytes_that_are_no_message_are_a_codec_error_and_still_there(record: bytes) -> None:
    message = Message.decode(record)
    with pytest.raises(MessageCodecError):
        _ = message.body
    assert message.encode() == record
    assert "not AMQP" in repr(message) or "amqp" in repr(message) or "None" in repr(message)


@given(bodies, sections, st.data())
def test_a_damaged_record_reads_or_is_a_codec_error(body: dict[str, Any], parts: dict[str, Any], data: Any) -> None:
    wire = bytearray(Message(**body, **parts).encode())
    if data.draw(st.booleans()):
        del wire[data.draw(st.integers(0, len(wire) - 1)) :]
    else:
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    message = Message.decode(bytes(wire))
    for name in ("body", "kind", "value", "header", "properties", "application_properties", "annotations", "footer"):
        try:
            getattr(message, name)
        except MessageCodecError:
            continue
    repr(message)


def test_a_raw_message_is_its_record_whatever_that_is() -> None:
    message = Message.decode(b"{}", raw=True)
    assert message.body == message.encode() == b"{}"
    with pytest.raises(MessageCodecError):
        _ = message.properties
    assert Message.decode(DATA, raw=True).body == DATA


def test_mappings_are_read_only_and_decoded_once() -> None:
    message = Message.decode(FROM_AMQP091)
    with pytest.raises(TypeError):
        message.application_properties["k"] = "w"  # type: ignore[index]
    assert message.properties is message.properties


def test_the_place_of_a_message_is_shown() -> None:
    message = Message(b"hi", properties=Properties(to="me"), application_properties={"a": 1})
    assert repr(message) == "<Message: b'hi', properties=Properties(to='me'), application_properties={'a': 1}>"
    message.offset, message.stream = 5, "s"
    assert repr(message).startswith("<Message 5 of 's': b'hi'")


# Copied ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b"new"},
        {"value": 5},
        {"sequence": [5]},
        {"application_properties": {"new": 1}},
        {"properties": Properties(to="new"), "header": Header(), "footer": {"f": 1}},
        {"annotations": {}, "delivery_annotations": {1: 2}, "body": b""},
    ],
)
@given(body=bodies, parts=sections)
@settings(max_examples=25)
def test_a_copy_differs_in_what_was_changed(
    changes: dict[str, Any], body: dict[str, Any], parts: dict[str, Any]
) -> None:
    message = Message(**body, **parts)
    assert message.copy().encode() == message.encode()
    kept = parts if {"body", "value", "sequence"} & set(changes) else body | parts
    assert says(message.copy(**changes), kept | changes)
    assert says(message.copy(**dict.fromkeys(parts)), body)


def test_a_copy_keeps_the_bytes_of_what_it_does_not_change() -> None:
    odd = section(0x72, bytes.fromhex("d10000000900000002a3016b5600"))
    assert Message.decode(DATA + odd).copy(header=Header()).encode() == section(0x70, b"\x45") + odd + DATA


def test_a_copy_is_not_delivered() -> None:
    message = Message(b"hi")
    message.offset, message.timestamp_ms, message.stream = 5, 6, "s"
    copied = message.copy()
    assert (copied.offset, copied.timestamp_ms, copied.stream) == (-1, -1, "")


@pytest.mark.parametrize("changes", [{"nonsense": 1}, {"body": b"a", "value": 1}, {"body": 5}])
def test_a_copy_refuses_what_the_constructor_would(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Message(b"hi").copy(**changes)
    with pytest.raises(MessageCodecError):
        Message.decode(b"junk").copy()


# A second implementation ----------------------------------------------------------------------------------------------


# Proton takes the fields of the properties for C strings: they end at a zero.
c_strings = texts.filter(lambda text: "\0" not in text)


@given(
    st.binary(max_size=300), properties_of(c_strings), st.dictionaries(texts, st.integers(-9, 9) | texts, max_size=3)
)
def test_proton_reads_messages_written_here(body: bytes, given_: Properties, application: dict[str, Any]) -> None:
    there = proton.Message()
    there.decode(
        Message(
            body,
            properties=given_,
            application_properties=application,
            annotations={"x-a": [1, "b"]},
            header=Header(durable=True, priority=7, ttl_ms=9000, first_acquirer=True, delivery_count=2),
        ).encode()
    )
    assert bytes(there.body) == body
    assert there.inferred
    assert there.properties == (application or there.properties)
    assert there.annotations == {"x-a": [1, "b"]}
    assert (there.durable, there.priority, there.ttl, there.first_acquirer, there.delivery_count) == (
        True,
        7,
        9,
        True,
        2,
    )
    assert (there.id if not isinstance(there.id, memoryview) else bytes(there.id)) == given_.message_id
    assert there.address == given_.to
    assert there.subject == given_.subject
    assert there.reply_to == given_.reply_to
    assert there.group_id == given_.group_id
    assert there.group_sequence == (given_.group_sequence or 0)


@given(st.binary(max_size=300), c_strings, texts, unsigned(32), moments.filter(lambda moment: moment.year > 1971))
def test_messages_written_by_proton_are_read_here(
    body: bytes, text: str, key: str, number: int, moment: dt.datetime
) -> None:
    there = proton.Message(body=body, inferred=True, durable=True, priority=7, ttl=9, first_acquirer=True)
    there.id, there.correlation_id, there.user_id = uuid.UUID(int=5), proton.ulong(number), text.encode()
    there.address, there.subject, there.reply_to = text, text, text
    there.content_type, there.content_encoding = proton.symbol("text/plain"), proton.symbol("identity")
    there.creation_time = moment.timestamp()
    there.group_id, there.group_sequence, there.reply_to_group_id = text, number % 2**31, text
    there.properties = {key: text, key + "n": proton.int32(5)}
    there.annotations = {proton.symbol("x-a"): [1, text]}
    message = Message.decode(bytes(there.encode()))
    assert message.body == body
    assert message.header is not None
    assert (message.header.durable, message.header.priority, message.header.ttl_ms) == (True, 7, 9000)
    assert message.annotations == {"x-a": [1, text]}
    assert same(dict(message.application_properties), {key: text, key + "n": amqp.Int(5)})
    found = message.properties
    assert found is not None
    assert (found.message_id, found.correlation_id, found.user_id) == (uuid.UUID(int=5), number, text.encode())
    assert found.to == found.subject == found.reply_to == found.group_id == found.reply_to_group_id == text
    assert (found.content_type, found.content_encoding) == ("text/plain", "identity")
    assert found.group_sequence == number % 2**31
    assert found.creation_time is not None
    assert abs(found.creation_time - moment) <= amqp.MILLISECOND  # Proton counts in floating-point seconds
