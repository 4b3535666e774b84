"""Options are checked where they are made: nothing wrong reaches a broker, which would drop the connection on it."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from actorstream.errors import InvalidArgument
from actorstream.options import (
    ConnectionOptions,
    ConsumerOptions,
    Endpoint,
    LeaderLocator,
    ProducerKeywords,
    ProducerOptions,
    StreamArguments,
    check_name,
    parse_age,
    parse_size,
    parse_uri,
)


@pytest.mark.parametrize(
    ("value", "size"),
    [(1, 1), ("500MB", 500_000_000), ("64 MiB", 64 * 2**20), ("7", 7), ("2gib", 2 * 2**30), ("3B", 3)],
)
def test_a_size_is_bytes_or_a_number_with_a_unit(value: int | str, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", [0, -1, True, "0", "", "5 apples", "1.5GB", "-3MB", 2.0, None])
def test_what_is_no_size_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="size"):
        parse_size(value)


def test_an_age_is_whole_seconds() -> None:
    assert parse_age(dt.timedelta(hours=6)) == 21_600
    assert parse_age(90) == 90


@pytest.mark.parametrize("value", [0, -1, 0.5, 1.5, True, "1h", None, dt.timedelta(milliseconds=1500), float("nan")])
def test_what_is_no_age_is_refused_since_the_broker_would_drop_the_connection(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="age"):
        parse_age(value)


def test_stream_arguments_become_the_map_of_strings_that_the_broker_wants() -> None:
    arguments = StreamArguments(
        max_length="10GB",
        max_age=dt.timedelta(days=1),
        max_segment_size=500_000_000,
        leader_locator="balanced",
        initial_cluster_size=3,
        filter_size=32,
    )
    assert arguments.to_wire() == {
        "max-length-bytes": "10000000000",
        "max-age": "86400s",
        "stream-max-segment-size-bytes": "500000000",
        "queue-leader-locator": "balanced",
        "initial-cluster-size": "3",
        "stream-filter-size-bytes": "32",
    }
    assert StreamArguments().to_wire() == {}
    assert StreamArguments(leader_locator=LeaderLocator.CLIENT_LOCAL).to_wire() == {
        "queue-leader-locator": "client-local"
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_length": "much"},
        {"max_age": "6h"},
        {"max_segment_size": "4GB"},
        {"leader_locator": "somewhere"},
        {"initial_cluster_size": 0},
        {"initial_cluster_size": True},
        {"filter_size": 15},
        {"filter_size": 256},
    ],
)
def test_a_wrong_stream_argument_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        StreamArguments(**wrong)


def test_f65_a_name_is_measured_in_bytes() -> None:
    assert check_name("a name", "é" * 127) == "é" * 127
    with pytest.raises(InvalidArgument, match="256 bytes"):
        check_name("a name", "é" * 128)


@pytest.mark.parametrize("value", ["", "a\nb", "a\rb", None, 5])
def test_a_name_that_the_broker_would_change_or_refuse_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument):
        check_name("a name", value)


def test_a_uri_names_everything_and_each_part_may_be_left_out() -> None:
    full = parse_uri("rabbitmq-stream://us%40er:p%2Fw@host:1234/v%2Fhost")
    assert (full.endpoint, full.tls) == (Endpoint("host", 1234), False)
    assert (full.username, full.password, full.vhost) == ("us@er", "p/w", "v/host")
    bare = parse_uri("rabbitmq-stream://host")
    assert (bare.endpoint, bare.username, bare.password, bare.vhost) == (Endpoint("host", 5552), None, None, None)
    assert parse_uri("rabbitmq-stream+tls://host/").endpoint == Endpoint("host", 5551)
    assert parse_uri("rabbitmq-stream+tls://[::1]:7").endpoint == Endpoint("::1", 7)
    assert str(Endpoint("::1", 7)) == "[::1]:7"
    assert str(Endpoint("host", 7)) == "host:7"


@pytest.mark.parametrize(
    "uri",
    [
        "amqp://host",
        "host:5552",
        "rabbitmq-stream://",
        "rabbitmq-stream://host:port",
        "rabbitmq-stream://host:70000",
        "rabbitmq-stream://host:0",
        "rabbitmq-stream://host/?heartbeat=5",
        None,
    ],
)
def test_a_uri_of_another_form_is_refused_with_the_form(uri: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"rabbitmq-stream|URI"):
        parse_uri(uri)


def test_a_refused_uri_does_not_show_its_password() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_uri("amqp://user:secret@host")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(ConnectionOptions(password="secret"))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (ConnectionOptions, {"heartbeat_s": -1}),
        (ConnectionOptions, {"heartbeat_s": 1.5}),
        (ConnectionOptions, {"frame_max": 100}),
        (ConnectionOptions, {"rpc_timeout_s": 0}),
        (ConnectionOptions, {"connect_timeout_s": "5"}),
        (ConnectionOptions, {"name": ""}),
        (ProducerOptions, {"name": "x" * 256}),
        (ProducerOptions, {"max_unconfirmed": 0}),
        (ProducerOptions, {"max_unconfirmed_bytes": 0}),
        (ProducerOptions, {"send_timeout_s": 0}),
        (ProducerOptions, {"confirm_timeout_s": -1}),
        (ProducerOptions, {"replay": "resend"}),
        (ConsumerOptions, {"credit": 1}),
        (ConsumerOptions, {"credit": 40_000}),
        (ConsumerOptions, {"on_gap": "raise"}),
        (ConsumerOptions, {"on_truncated": None}),
    ],
)
def test_a_wrong_option_is_refused_when_it_is_made(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        kind(**wrong)


def test_every_producer_option_but_its_name_is_a_keyword_of_whatever_makes_a_producer() -> None:
    options = get_type_hints(ProducerOptions)
    assert get_type_hints(ProducerKeywords) == {
        field.name: options[field.name] for field in fields(ProducerOptions) if field.name != "name"
    }


def test_every_producer_option_is_described() -> None:
    text = ProducerOptions.__doc__ or ""
    for field in fields(ProducerOptions):
        assert f"        {field.name}: " in text
