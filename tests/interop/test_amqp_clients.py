"""Clients of AMQP 0-9-1 (Pika) and AMQP 1.0 (Proton), for which the broker converts what a stream holds."""

from dataclasses import replace

import pytest

from actorstream.wire.amqp import Header, Properties, Symbol
from actorstream.wire.message import Message
from lab.broker import Broker
from tests.conftest import Streams
from tests.interop.cases import (
    ANNOTATIONS,
    BODIES,
    IDENTITY,
    IDS,
    MOMENT,
    PROPERTIES,
    SIMPLE,
    TEXT,
    TYPED,
    VALUES,
    plain,
    without,
)
from tests.interop.conftest import Ours, Peer
from tests.interop.peers.plain import Plain, dump, dump_message

SECOND = MOMENT.replace(microsecond=0)
"""AMQP 0-9-1 counts whole seconds."""


@pytest.fixture(autouse=True)
def native_amqp(broker: Broker) -> None:
    if broker.management.version() < (4,):
        pytest.skip("AMQP 1.0 is part of the broker from RabbitMQ 4.0 on, and so is the conversion that is tested here")


# AMQP 0-9-1 -------------------------------------------------------------------------------------------------------

BASIC: Plain = {
    "content_type": "application/json",
    "content_encoding": "identity",
    "delivery_mode": 2,
    "priority": 9,
    "correlation_id": "correlation-é",
    "reply_to": "reply-é",
    "message_id": "message-é",
    "timestamp": round(SECOND.timestamp()),
    "type": "type-é",
    "user_id": "guest",
    "app_id": "application-é",
    "headers": {
        "text": TEXT,
        "true": True,
        "number": 5,
        "negative": -(2**40),
        "moment": SECOND,
        "x-other": "annotation",
    },
}


async def test_what_amqp_0_9_1_publishes_is_read_in_its_sections(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    await peer.publish("pika_peer", name, [dump_message({"body": TEXT.encode(), "properties": BASIC})])
    (message,) = await ours.read(name, 1)
    assert message.body == TEXT.encode()
    assert message.header is not None
    assert (message.header.durable, message.header.priority) == (True, 9)
    assert message.properties is not None
    # Newer brokers make an address of AMQP 1.0 of it.
    assert message.properties.reply_to in ("reply-é", "/queues/reply-%C3%A9")
    assert replace(message.properties, reply_to=None) == Properties(
        message_id="message-é",
        user_id=b"guest",
        correlation_id="correlation-é",
        content_type="application/json",
        content_encoding="identity",
        creation_time=SECOND,
        group_id="application-é",
    )
    assert dict(message.application_properties) == {
        "text": TEXT,
        "true": True,
        "number": 5,
        "negative": -(2**40),
        "moment": SECOND,
    }
    assert {
        Symbol("x-exchange"): "",
        Symbol("x-routing-key"): name,
        "x-basic-type": "type-é",
        "x-other": "annotation",
    } == dict(message.annotations)


async def test_bodies_of_amqp_0_9_1_are_read_and_ours_by_it(ours: Ours, peer: Peer, stream: Streams) -> None:
    name, other = stream({}), stream({})
    bodies = [dump_message({"body": body}) for body in BODIES]
    await peer.publish("pika_peer", name, bodies)
    assert [message.body for message in await ours.read(name, len(BODIES))] == BODIES
    await ours.publish(other, BODIES)
    read = await peer.read("pika_peer", other, len(BODIES))
    assert [{"body": message["body"]} for message in read] == bodies
    assert [message["offset"] for message in read] == list(range(len(BODIES)))


async def test_what_we_publish_is_read_as_basic_properties_by_amqp_0_9_1(
    ours: Ours, peer: Peer, stream: Streams
) -> None:
    name = stream({})
    message = Message(
        "whole",
        header=Header(durable=True, priority=7),
        annotations={Symbol("x-basic-type"): "type", Symbol("x-other"): "annotation"},
        properties=PROPERTIES,
        application_properties={"text": TEXT, "number": 5, "true": True, "moment": MOMENT},
    )
    await ours.publish(name, [message, Message(value="a value"), Message(properties=Properties(message_id=IDENTITY))])
    whole, value, identity = await peer.read("pika_peer", name, 3)
    basic = {
        "content_type": "application/json",
        "content_encoding": "identity",
        "headers": {"moment": SECOND, "number": 5, "text": TEXT, "true": True, "x-other": "annotation"},
        "delivery_mode": 2,
        "priority": 7,
        "correlation_id": f"urn:uuid:{IDENTITY}",
        "reply_to": "reply-é",
        "message_id": "message-é",
        "timestamp": round(SECOND.timestamp()),
        "type": "type",
        "user_id": "guest",
        "app_id": "group-é",
    }
    assert whole == dump_message({"body": b"whole", "offset": 0, "properties": basic})
    encoded = b"\x00\x53\x77\xa1\x07a value"
    assert value["body"] == dump(encoded)
    assert value["properties"]["type"] == "amqp-1.0"
    assert identity["properties"]["message_id"] == f"urn:uuid:{IDENTITY}"


async def test_amqp_0_9_1_reads_from_an_offset_of_ours(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    await ours.publish(name, [str(number) for number in range(100)])
    read = await peer.read("pika_peer", name, 40, offset=60)
    assert [message["offset"] for message in read] == list(range(60, 100))


# AMQP 1.0 ---------------------------------------------------------------------------------------------------------

NAMES = ["-ø", "-名前", "-😀", " %2F+&?#"]

WHOLE = [
    Message("the whole", properties=PROPERTIES),
    *(Message("ids", properties=Properties(message_id=value, correlation_id=value)) for value in IDS),
    Message("application", application_properties={**SIMPLE, **TYPED}),
    Message("annotated", annotations=ANNOTATIONS),
    *(Message(value=value) for value in VALUES if value is not None),  # null is no body to Proton
    Message(sequence=[1, "two", b"3", [4]]),
]


async def test_bodies_of_amqp_1_0_are_read_and_ours_by_it(ours: Ours, peer: Peer, stream: Streams) -> None:
    name, other = stream({}), stream({})
    bodies = [dump_message({"body": body}) for body in BODIES]
    await peer.publish("proton_peer", name, bodies)
    assert [message.body for message in await ours.read(name, len(BODIES))] == BODIES
    await ours.publish(other, BODIES)
    read = await peer.read("proton_peer", other, len(BODIES))
    assert [{"body": message["body"]} for message in read] == bodies
    assert [message["offset"] for message in read] == list(range(len(BODIES)))


def through_the_broker(message: Plain, stream: str) -> Plain:
    """AMQP clients see, in the annotations, where a message was published; and so do we, if it was by one of them."""
    added = [[dump(Symbol("x-exchange")), ""], [dump(Symbol("x-routing-key")), stream]]
    given = message.get("annotations", {"v": []})["v"]
    return in_order({**message, "annotations": {"$": "map", "v": [*given, *added]}})


def in_order(message: Plain) -> Plain:
    """Brokers add their annotations in an order of their own."""
    annotations = sorted(message["annotations"]["v"], key=str)
    return {**message, "annotations": {"$": "map", "v": annotations}}


async def test_amqp_1_0_reads_every_section_that_we_write(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    messages = [*WHOLE, Message(value=None)]
    await ours.publish(name, messages)
    read = await peer.read("proton_peer", name, len(messages))
    assert [message["offset"] for message in read] == list(range(len(messages)))
    assert [in_order(without(("header", "offset"), message)) for message in read] == [
        through_the_broker(plain(message), name) for message in messages
    ]


async def test_what_amqp_1_0_publishes_is_read_with_its_types(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    await peer.publish("proton_peer", name, [plain(message) for message in WHOLE])
    read = [plain(message) for message in await ours.read(name, len(WHOLE))]
    assert [in_order(without(("header",), message)) for message in read] == [
        through_the_broker(plain(message), name) for message in WHOLE
    ]


async def test_headers_of_amqp_1_0_are_read(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    """The broker says for itself that a message is delivered for the first time."""
    header = Header(durable=True, priority=9, ttl_ms=60_000, first_acquirer=True, delivery_count=0)
    await peer.publish("proton_peer", name, [plain(Message("x", header=header))])
    assert (await ours.read(name, 1))[0].header == header


@pytest.mark.parametrize("client", ["pika_peer", "proton_peer"])
@pytest.mark.parametrize("ending", NAMES)
async def test_names_beyond_ascii_mean_the_same_stream(
    client: str, ending: str, ours: Ours, peer: Peer, stream: Streams
) -> None:
    name = f"{stream()}{ending}"
    stream.management.create_stream(name)
    await ours.publish(name, ["from us"])
    await peer.publish(client, name, [plain(Message("from them"))])
    assert [message.body for message in await ours.read(name, 2)] == [b"from us", b"from them"]
    assert len(await peer.read(client, name, 2)) == 2
