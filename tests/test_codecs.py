"""Objects as messages: by content type, with an error that says what is missing."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from actorstream import Codecs, Message, Properties, errors
from actorstream.wire.amqp import Symbol

TEXT = st.text(st.characters(codec="utf-8"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3),
    max_leaves=8,
)


def typed(content_type: str | None, body: bytes = b"{}", **properties: Any) -> Message:
    named = None if content_type is None else Symbol(content_type)
    return Message(body, properties=Properties(content_type=named, **properties))


@given(JSON_VALUES)
def test_json_gives_back_what_it_was_given(value: Any) -> None:
    codecs = Codecs()
    assert codecs.decode(Message.decode(codecs.encode(value).encode())) == value


def test_the_message_names_its_content_type_and_keeps_what_else_it_is_given() -> None:
    message = Codecs().encode({"a": "é"}, properties=Properties(message_id="m-1"), application_properties={"shop": "b"})
    assert message.body == '{"a":"é"}'.encode()
    assert message.properties == Properties(message_id="m-1", content_type=Symbol("application/json"))
    assert message.application_properties == {"shop": "b"}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        " application/json ;charset=utf-8",
        "application/vnd.shop.order+json",
        "application/problem+JSON; q=1",
    ],
)
def test_parameters_case_and_a_structured_suffix_do_not_matter(content_type: str) -> None:
    assert Codecs().decode(typed(content_type, b'{"a": 1}')) == {"a": 1}
    message = Codecs().encode([1], content_type)
    assert message.properties is not None
    assert message.properties.content_type == content_type


def test_other_types_are_registered() -> None:
    codecs = Codecs()
    codecs.register("Text/Reversed", lambda value: value[::-1].encode(), lambda body: body.decode()[::-1])
    assert codecs.content_types == ("application/json", "text/reversed")
    message = codecs.encode("abc", "text/reversed")
    assert message.body == b"cba"
    assert codecs.decode(message) == "abc"
    assert Codecs().content_types == ("application/json",), "another set of codecs knows nothing of it"


def test_a_codec_takes_the_place_of_the_one_before_it() -> None:
    codecs = Codecs()
    codecs.register("application/json", lambda _value: b"x", lambda _body: "y")
    assert codecs.decode(codecs.encode(1)) == "y"


def test_an_unknown_content_type_is_told_with_those_that_are_known() -> None:
    with pytest.raises(
        errors.UnknownContentType, match="'application/msgpack': registered are application/json"
    ) as caught:
        Codecs().decode(typed("application/msgpack"))
    assert (caught.value.content_type, caught.value.known) == ("application/msgpack", ("application/json",))
    with pytest.raises(errors.UnknownContentType):
        Codecs().encode({}, "application/vnd.shop+xml")


@pytest.mark.parametrize("message", [Message(b"{}"), typed(None), typed(""), Message.decode(b"{}", raw=True)])
def test_a_message_without_a_content_type_is_refused_unless_one_is_assumed(message: Message) -> None:
    with pytest.raises(errors.UnknownContentType, match="without a content type") as caught:
        Codecs().decode(message)
    assert caught.value.content_type is None
    assert Codecs(assumed="application/json").decode(message) == {}


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), float("inf"), "\ud800", object()])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(errors.ObjectCodecError, match="cannot be encoded as application/json") as caught:
        Codecs().encode(value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_a_body_that_is_not_what_it_says_is_refused(body: bytes) -> None:
    with pytest.raises(errors.ObjectCodecError, match="this is not application/json") as caught:
        Codecs().decode(typed("application/json", body))
    assert caught.value.__cause__ is not None


def test_a_body_that_is_encoded_once_more_is_not_guessed_at() -> None:
    with pytest.raises(errors.ObjectCodecError, match="'gzip'"):
        Codecs().decode(typed("application/json", content_encoding=Symbol("gzip")))
    assert Codecs().decode(typed("application/json", content_encoding=Symbol("identity"))) == {}


def test_text_as_an_amqp_value_is_read_too() -> None:
    message = Message(value='{"a": 1}', properties=Properties(content_type=Symbol("application/json")))
    assert Codecs().decode(message) == {"a": 1}
    with pytest.raises(errors.MessageCodecError):
        Codecs().decode(Message(value=17, properties=Properties(content_type=Symbol("application/json"))))


def test_a_codec_that_makes_no_bytes_is_told() -> None:
    codecs = Codecs()
    no_bytes: Any = str
    codecs.register("text/plain", no_bytes, bytes.decode)
    with pytest.raises(errors.InvalidArgument, match="has to make bytes, not str"):
        codecs.encode("text", "text/plain")


@pytest.mark.parametrize("wrong", ["", "json", "/json", "application/", "applicätion/json", "a/b; c=d", 1])
def test_what_is_no_content_type_is_refused(wrong: Any) -> None:
    with pytest.raises(errors.InvalidArgument):
        Codecs().register(wrong, bytes, bytes)
    with pytest.raises(errors.InvalidArgument):
        Codecs(assumed=wrong)


@pytest.mark.parametrize("odd", ["json", "/json", "application/", "+xml", ";"])
def test_a_message_may_name_anything_and_what_is_no_content_type_is_unknown(odd: str) -> None:
    with pytest.raises(errors.UnknownContentType):
        Codecs().decode(typed(odd))
    with pytest.raises(errors.UnknownContentType):
        Codecs().encode({}, odd)


@pytest.mark.parametrize("wrong", [("text/plain", None, bytes), ("text/plain", bytes, "loads")])
def test_what_is_no_codec_is_refused(wrong: Any) -> None:
    with pytest.raises(errors.InvalidArgument):
        Codecs().register(*wrong)


async def test_a_handler_of_objects_is_one_of_messages() -> None:
    codecs, seen = Codecs(), list[Any]()
    codecs.decoding(seen.append)(codecs.encode({"a": 1}))

    async def handle(value: Any) -> None:
        seen.append(value)

    await codecs.decoding(handle)(codecs.encode([2]))
    assert seen == [{"a": 1}, [2]]
    with pytest.raises(errors.UnknownContentType):
        codecs.decoding(seen.append)(Message(b"{}"))
