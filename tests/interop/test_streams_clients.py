"""rstream and rbfly, which speak the streams protocol as we do."""

import pytest

import actorstream
from actorstream.wire.amqp import Properties, Symbol
from actorstream.wire.message import Header, Message
from tests.broker.reading import take
from tests.conftest import Streams
from tests.interop.cases import (
    ANNOTATIONS,
    BODIES,
    IDS,
    PROPERTIES,
    SIMPLE,
    TEXT,
    TYPED,
    VALUES,
    loosen,
    plain,
    without,
)
from tests.interop.conftest import Ours, Peer
from tests.interop.peers.plain import Plain

CLIENTS = pytest.mark.parametrize("client", ["rbfly_peer", "rstream_peer"])
PLACE = ("offset", "timestamp_ms")

WHOLE = [
    Message("the whole", properties=PROPERTIES),
    *(Message("ids", properties=Properties(message_id=value, correlation_id=value)) for value in IDS),
    Message("", properties=Properties(subject="no body")),
    Message("one property", properties=Properties(subject="subject")),
    Message("application", application_properties={**SIMPLE, **TYPED}),
    Message("annotated", annotations=ANNOTATIONS, delivery_annotations={Symbol("x-opt-hop"): 1}),
    Message("header", header=Header(durable=True, priority=9, ttl_ms=60_000, first_acquirer=True, delivery_count=3)),
    Message(
        "everything",
        header=Header(durable=False, priority=1),
        delivery_annotations={Symbol("x-opt-hop"): 1},
        annotations=ANNOTATIONS,
        properties=PROPERTIES,
        application_properties=SIMPLE,
        footer={Symbol("x-opt-hash"): b"\x01"},
    ),
]
"""Messages with something in every section."""


SINCE_1970 = {key: value for key, value in SIMPLE.items() if key != "before"}
"""rbfly has unsigned timestamps only."""


def in_json(messages: list[Message]) -> list[Plain]:
    return [plain(message) for message in messages]


def as_rstream_sees(message: Message) -> Plain:
    """It takes text and symbols for bytes, and timestamps for integers."""
    seen: Plain = loosen(plain(message), ("binary", "uuid"), text=False)
    return seen


# Bodies -----------------------------------------------------------------------------------------------------------


@CLIENTS
async def test_bodies_that_we_write_are_read(client: str, ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    await ours.publish(name, BODIES)
    read = await peer.read(client, name, len(BODIES))
    assert [message["body"] for message in read] == [plain(Message(body))["body"] for body in BODIES]


@CLIENTS
async def test_bodies_that_they_write_are_read(client: str, ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    await peer.publish(client, name, in_json([Message(body) for body in BODIES]))
    assert [message.body for message in await ours.read(name, len(BODIES))] == BODIES


async def test_the_largest_message_that_a_frame_holds_is_written_and_read(
    ours: Ours, peer: Peer, stream: Streams
) -> None:
    name = stream({})
    body = b"x" * (1_048_576 - 29)  # what Publish (17), the entry's length (4) and its data section (8) leave
    await ours.publish(name, [body])
    assert (await ours.read(name, 1))[0].body == body
    for client in ("rbfly_peer", "rstream_peer"):
        assert (await peer.read(client, name, 1))[0]["body"] == plain(Message(body))["body"]


async def test_text_is_read_as_its_utf8_by_all(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    await ours.publish(name, [TEXT])
    for client in ("rbfly_peer", "rstream_peer"):
        assert (await peer.read(client, name, 1))[0]["body"] == plain(Message(TEXT.encode()))["body"]
    assert (await ours.read(name, 1))[0].body == TEXT.encode()


# rbfly ------------------------------------------------------------------------------------------------------------


async def test_rbfly_reads_every_section_that_we_write(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    messages = [*WHOLE[:10], Message("application", application_properties={**SINCE_1970, **TYPED}), *WHOLE[11:13]]
    messages.append(WHOLE[-1].copy(application_properties=SINCE_1970))
    await ours.publish(name, messages)
    read = [without((*PLACE, "header"), message) for message in await peer.read("rbfly_peer", name, len(messages))]
    seen = [loosen(without(("header",), message)) for message in in_json(messages)]
    assert [loosen(message) for message in read] == seen
    assert [key["$"] for key, _ in read[11]["annotations"]["v"]] == ["symbol"] * len(ANNOTATIONS)


async def test_rbfly_reads_headers_and_fills_in_the_defaults(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    headers = [Header(durable=True, priority=9, ttl_ms=1, first_acquirer=True, delivery_count=3), Header(), None]
    await ours.publish(name, [Message("header", header=header) for header in headers])
    names = ("durable", "priority", "ttl_ms", "first_acquirer", "delivery_count")
    expected = [(True, 9, 1, True, 3), (False, 4, None, False, 0), (False, 4, None, False, 0)]
    read = await peer.read("rbfly_peer", name, len(headers))
    assert [tuple(message["header"].get(name) for name in names) for message in read] == expected


async def test_what_rbfly_writes_is_read_with_its_types(ours: Ours, peer: Peer, stream: Streams) -> None:
    """Application properties come before everything else, and what is not bytes is an amqp-value."""
    name = stream({})
    messages = [
        Message("application", application_properties=SINCE_1970),
        *(Message(value=value) for value in VALUES),
        Message(value="both", application_properties={"key": "value"}),
    ]
    await peer.publish("rbfly_peer", name, in_json(messages))
    read = in_json(await ours.read(name, len(messages)))
    assert [loosen(message) for message in read] == [loosen(message) for message in in_json(messages)]


async def test_rbfly_reads_amqp_values_that_we_write(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    messages = [Message(value=value) for value in VALUES if value is not None]
    await ours.publish(name, messages)
    read = await peer.read("rbfly_peer", name, len(messages))
    assert [message["value"] for message in read] == [message["value"] for message in in_json(messages)]


@pytest.mark.parametrize("ending", [" with space", "%2F+", "-" + "x" * 200])
async def test_odd_names_mean_the_same_stream_to_rbfly(ending: str, ours: Ours, peer: Peer, stream: Streams) -> None:
    name = f"{stream()}{ending}"
    stream.management.create_stream(name)
    await ours.publish(name, ["from us"])
    await peer.publish("rbfly_peer", name, in_json([Message("from rbfly")]))
    assert [message.body for message in await ours.read(name, 2)] == [b"from us", b"from rbfly"]
    assert len(await peer.read("rbfly_peer", name, 2)) == 2


# rstream ----------------------------------------------------------------------------------------------------------


async def test_rstream_reads_every_section_that_we_write(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    await ours.publish(name, WHOLE)
    read = [without(PLACE, message) for message in await peer.read("rstream_peer", name, len(WHOLE))]
    assert read == [as_rstream_sees(message) for message in WHOLE]


async def test_what_rstream_writes_is_read_with_its_types(ours: Ours, peer: Peer, stream: Streams) -> None:
    """Its delivery annotations come last, and fields without a value are written as null."""
    name = stream({})
    messages = [*WHOLE, Message(value=TEXT), Message(value=[1, "two"]), Message(sequence=[1, "two", b"3"])]
    await peer.publish("rstream_peer", name, in_json(messages))
    read = in_json(await ours.read(name, len(messages)))
    assert [loosen(message) for message in read] == [loosen(message) for message in in_json(messages)]
    types = dict(read[10]["application_properties"]["v"])
    assert {key: types[key] for key in TYPED} == dict(in_json(WHOLE)[10]["application_properties"]["v"][len(SIMPLE) :])


async def test_rstream_reads_amqp_values_and_sequences_that_we_write(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    messages = [Message(value=TEXT), Message(value={"key": [1, 2]}), Message(sequence=[1, "two"])]
    await ours.publish(name, messages)
    read = await peer.read("rstream_peer", name, len(messages))
    assert [without(PLACE, message) for message in read] == [
        as_rstream_sees(messages[0]),
        as_rstream_sees(messages[1]),
        {"sequence": [as_rstream_sees(messages[2])["sequence"]]},
    ]


@pytest.mark.parametrize("codec", ["none", "gzip"])
async def test_sub_entries_that_rstream_writes_are_read(codec: str, ours: Ours, peer: Peer, stream: Streams) -> None:
    """Each message in it has an offset of its own, and so has what follows."""
    name = stream({})
    batch = [Message(f"message {number}".encode() * number, properties=PROPERTIES) for number in range(1, 51)]
    await ours.publish(name, ["before"])
    await peer.publish("rstream_peer", name, in_json(batch), sub_entries=codec)
    await ours.publish(name, ["after"])
    read = await ours.read(name, 52)
    assert [message.offset for message in read] == list(range(52))
    assert in_json(read[1:51]) == in_json(batch)
    assert (read[0].body, read[51].body) == (b"before", b"after")
    assert [message.offset for message in await ours.read(name, 22, offset=30)] == list(range(30, 52))


@pytest.mark.parametrize("codec", ["none", "gzip"])
async def test_sub_entries_that_we_write_are_read_by_rstream(
    codec: str, ours: Ours, peer: Peer, stream: Streams
) -> None:
    name = stream({})
    batch = [Message(f"message {number}".encode() * number, properties=PROPERTIES) for number in range(1, 51)]
    async with actorstream.connect(ours.broker.uri) as client, await client.producer(name) as producer:
        await (await producer.send_sub_entry(batch, compression=codec))
    read = await peer.read("rstream_peer", name, len(batch))
    assert [message["offset"] for message in read] == list(range(len(batch)))
    assert [without(PLACE, message) for message in read] == [as_rstream_sees(message) for message in batch]


async def test_filter_values_that_we_write_are_filtered_by_rstream(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    async with actorstream.connect(ours.broker.uri) as client, await client.producer(name) as producer:
        for value in ("emea", "amer", None):
            for receipt in [await producer.send(str(number), filter_value=value) for number in range(20)]:
                await receipt
    read = await peer.read("rstream_peer", name, 20, filter=["amer"])
    assert [message["offset"] for message in read] == list(range(20, 40))
    read = await peer.read("rstream_peer", name, 40, filter=["amer"], match_unfiltered=True)
    assert [message["offset"] for message in read] == list(range(20, 60))


async def test_filter_values_that_rstream_writes_are_filtered_by_us(ours: Ours, peer: Peer, stream: Streams) -> None:
    name = stream({})
    for value in ("emea", "amer"):
        batch = in_json([Message(f"{value}-{number}") for number in range(10)])
        await peer.publish("rstream_peer", name, batch, filter_value=value)
    async with (
        actorstream.connect(ours.broker.uri) as client,
        await client.consumer(name, "first", filter=actorstream.Filter("amer")) as consumer,
    ):
        assert [message.offset for message in await take(consumer, 10)] == list(range(10, 20))


# Offsets and times ------------------------------------------------------------------------------------------------


@CLIENTS
async def test_offsets_and_timestamps_are_the_same_for_all(
    client: str, ours: Ours, peer: Peer, stream: Streams
) -> None:
    name = stream({})
    for chunk in range(3):
        await ours.publish(name, [f"{chunk}-{number}" for number in range(10)])
    mine = [(message.offset, message.timestamp_ms, message.body) for message in await ours.read(name, 30)]
    theirs = await peer.read(client, name, 30)
    assert [offset for offset, _, _ in mine] == list(range(30))
    assert [(message["offset"], message["timestamp_ms"]) for message in theirs] == [at[:2] for at in mine]
    later = await peer.read(client, name, 13, offset=17)
    assert [message["offset"] for message in later] == list(range(17, 30))
    assert [message["body"] for message in later] == [plain(Message(at[2]))["body"] for at in mine[17:]]
