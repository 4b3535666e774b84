"""Super streams on a real broker: made, described and deleted; what is published to them is read back and compared."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import actorstream
from actorstream import (
    Client,
    HashRouting,
    KeyRouting,
    OnPartitionsChanged,
    Publish,
    Published,
    Receipt,
    StreamArguments,
    SuperStreamProducer,
)
from actorstream.actors.calls import call
from actorstream.actors.future import Channel
from actorstream.errors import (
    Closed,
    InvalidArgument,
    NoRoute,
    PartitionsChanged,
    PreconditionFailed,
    StreamAlreadyExists,
    StreamDoesNotExist,
)
from lab.broker import Broker
from tests.broker import spreading
from tests.broker.reading import take, until
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with actorstream.connect(broker.uri) as client:
        yield client


# Administration


async def test_a_super_stream_has_numbered_partitions_in_order(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=12)
    assert await client.partitions(name) == tuple(f"{name}-{index}" for index in range(12))
    assert await client.route("10", name) == (f"{name}-10",)
    assert await client.route("12", name) == ()
    assert await client.super_stream_exists(name)

    await client.delete_super_stream(name)
    assert not await client.super_stream_exists(name)
    assert not await client.stream_exists(f"{name}-0")


async def test_a_super_stream_has_three_partitions_if_nothing_is_said(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name)
    assert len(await client.partitions(name)) == 3


async def test_binding_keys_name_the_partitions_and_route_to_them(client: Client, stream: Streams) -> None:
    name, keys = stream(), ["emea", "apac", "amer", "é/ü"]
    await client.create_super_stream(name, binding_keys=keys)
    assert await client.partitions(name) == tuple(f"{name}-{key}" for key in keys)
    for key in keys:
        assert await client.route(key, name) == (f"{name}-{key}",)
    assert await client.route("", name) == ()


async def test_the_arguments_are_those_of_each_partition(broker: Broker, client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(
        name, partitions=2, arguments=StreamArguments(max_age=3600, max_length="1GB", leader_locator="balanced")
    )
    for partition in await client.partitions(name):
        arguments = (await asyncio.to_thread(broker.management.stream, partition))["arguments"]
        assert arguments["x-max-age"] == "3600s"
        assert arguments["x-max-length-bytes"] == 1_000_000_000


async def test_a_super_stream_that_exists_is_an_error_or_fine(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    with pytest.raises(StreamAlreadyExists):
        await client.create_super_stream(name, partitions=2)
    await client.create_super_stream(name, partitions=2, exist_ok=True)
    with pytest.raises(PreconditionFailed, match=f"and has {name}-0, {name}-1"):
        await client.create_super_stream(name, partitions=3, exist_ok=True)
    with pytest.raises(PreconditionFailed):
        await client.create_super_stream(name, binding_keys=["1", "0"], exist_ok=True)  # hashes would go elsewhere


async def test_a_partition_whose_name_is_taken_leaves_nothing_behind(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_stream(f"{name}-1")
    with pytest.raises(StreamAlreadyExists):
        await client.create_super_stream(name, partitions=3)
    with pytest.raises(PreconditionFailed, match="taken by something else"):
        await client.create_super_stream(name, partitions=3, exist_ok=True)
    assert not await client.super_stream_exists(name)
    assert not await client.stream_exists(f"{name}-0")


async def test_what_is_no_super_stream_is_told_from_one_that_is(client: Client, stream: Streams) -> None:
    nowhere = stream()
    with pytest.raises(StreamDoesNotExist, match=nowhere):
        await client.partitions(nowhere)
    with pytest.raises(StreamDoesNotExist):
        await client.route("key", nowhere)
    with pytest.raises(StreamDoesNotExist):
        await client.delete_super_stream(nowhere)
    await client.delete_super_stream(nowhere, missing_ok=True)
    assert not await client.super_stream_exists(nowhere)
    assert not await client.super_stream_exists("amq.direct")
    assert await client.partitions("amq.direct") == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partitions": 0}, "partitions is an integer from 1 to 1000"),
        ({"partitions": 1001}, "partitions is an integer from 1 to 1000"),
        ({"partitions": "3"}, "partitions is an integer"),
        ({"partitions": 2, "binding_keys": ["a", "b"]}, "not both"),
        ({"binding_keys": []}, "number of binding_keys"),
        ({"binding_keys": "emea"}, "a sequence of strings"),
        ({"binding_keys": ["a", "a"]}, "one key twice"),
        ({"binding_keys": ["a", ""]}, "a binding key is a non-empty string"),
        ({"binding_keys": ["x" * 255]}, "a partition's name has 260 bytes"),
        ({"binding_keys": [1]}, "a binding key is a non-empty string"),
    ],
)
async def test_a_super_stream_that_cannot_be_is_refused_at_once(
    client: Client, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await client.create_super_stream("none", **options)


async def test_names_of_super_streams_and_keys_are_checked(client: Client) -> None:
    for ask in (client.create_super_stream, client.delete_super_stream, client.partitions, client.super_stream_exists):
        with pytest.raises(InvalidArgument, match="a super stream's name"):
            await ask("")
    with pytest.raises(InvalidArgument, match="a routing key is a string"):
        await client.route(1, "any")  # type: ignore[arg-type]


def test_the_same_without_asyncio(broker: Broker, stream: Streams) -> None:
    name = stream()
    with actorstream.blocking.connect(broker.uri) as client:
        client.create_super_stream(name, binding_keys=["a", "b"])
        assert client.partitions(name) == (f"{name}-a", f"{name}-b")
        assert client.route("b", name) == (f"{name}-b",)
        assert client.super_stream_exists(name)
        client.delete_super_stream(name)
        assert not client.super_stream_exists(name)


# Publishing


def text(message: Any) -> str:
    """The key of a message whose body is its key."""
    return str(message)


async def content(client: Client, super_stream: str) -> dict[str, list[str]]:
    """What each partition holds, in its order."""

    async def read(partition: str) -> list[str]:
        async with asyncio.timeout(20), await client.consumer(partition, "first", until="end") as consumer:
            return [message.body.decode() async for message in consumer]

    return {partition: await read(partition) for partition in await client.partitions(super_stream)}


async def test_equal_keys_are_in_one_partition_in_their_order(client: Client, stream: Streams) -> None:
    """I1, I2, I3; the partitions are those of the Java client's test."""
    name = stream()
    await client.create_super_stream(name, partitions=3)
    keys = [f"hello{number}" for number in range(1, 11)]
    async with await client.super_stream_producer(
        name, routing=HashRouting(lambda message: message.split("/")[0])
    ) as producer:
        assert producer.partitions == await client.partitions(name)
        receipts = [await producer.send(f"{key}/{number}") for number in range(200) for key in keys]
        await producer.flush(10)
        assert all(receipt.confirmed for receipt in receipts)
        assert (producer.confirmed, producer.failed, producer.unsettled) == (2000, 0, 0)

    stored = await content(client, name)
    places = dict(zip(keys, (1, 0, 1, 2, 0, 2, 0, 1, 0, 2), strict=True))
    for index, (partition, bodies) in enumerate(stored.items()):
        of_this = [key for key in keys if places[key] == index]
        assert bodies == [f"{key}/{number}" for number in range(200) for key in of_this], partition


async def test_every_way_to_send_reaches_the_partition_of_the_hash(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    async with await client.super_stream_producer(name, routing=HashRouting(text)) as producer:
        await producer.send_wait("a")
        receipt = producer.try_send("b")
        assert receipt is not None
        await receipt
        batch = await producer.send_batch([f"c{number}" for number in range(1000)])
        await batch
        assert len(batch) == len(batch.receipts) == 1000
        assert batch.done
        assert all(receipt.confirmed for receipt in batch.receipts)
    stored = await content(client, name)
    routing = HashRouting(text)
    sent = ["a", "b", *(f"c{number}" for number in range(1000))]
    assert stored == {
        partition: [body for body in sent if routing(body, tuple(stored)) == partition] for partition in stored
    }
    assert all(len(bodies) > 300 for bodies in stored.values())


async def test_key_routing_agrees_with_the_brokers_route(broker: Broker, client: Client, stream: Streams) -> None:
    """Every message is where Route says, also when that is in two partitions, under one receipt."""
    name, keys = stream(), ["emea", "apac", "é/ü"]
    await client.create_super_stream(name, binding_keys=keys)
    await asyncio.to_thread(broker.management.add_partition, name, f"{name}-apac", "both", 1)
    await asyncio.to_thread(broker.management.add_partition, name, f"{name}-emea", "both", 0)
    routes = {key: await client.route(key, name) for key in [*keys, "both"]}
    assert set(routes["both"]) == {f"{name}-apac", f"{name}-emea"}
    async with await client.super_stream_producer(name, routing=KeyRouting(text)) as producer:
        receipts = [await producer.send(key) for _ in range(5) for key in routes]
        await producer.flush(10)
        assert all(receipt.confirmed for receipt in receipts)
        assert producer.confirmed == 25
        batch = await producer.send_batch(list(routes))
        await batch
        assert len(batch.receipts) == 4
    stored = await content(client, name)
    for partition, bodies in stored.items():
        assert bodies == [key for _ in range(6) for key, route in routes.items() if partition in route]


async def test_a_key_without_a_route_is_an_error_that_leaves_nothing_behind(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, binding_keys=["a", "b"])
    async with await client.super_stream_producer(name, routing=KeyRouting(text)) as producer:
        with pytest.raises(NoRoute, match="'nowhere'"):
            await producer.send("nowhere")
        with pytest.raises(NoRoute):
            await producer.send_batch(["a", "nowhere", "b"])
        await producer.send_wait("b")
        assert (producer.confirmed, producer.failed) == (1, 0)
    async with await client.super_stream_producer(name, routing=KeyRouting(text, fallback=f"{name}-a")) as producer:
        await producer.send_wait("nowhere")
    assert await content(client, name) == {f"{name}-a": ["nowhere"], f"{name}-b": ["b"]}


async def test_try_send_takes_a_key_once_its_route_is_known(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, binding_keys=["a"])
    async with await client.super_stream_producer(name, routing=KeyRouting(text)) as producer:
        assert producer.try_send("a") is None

        async def sent() -> bool:
            return producer.try_send("a") is not None

        await until(sent, "the router has asked")
        await producer.flush(10)
    assert await content(client, name) == {f"{name}-a": ["a"]}


async def test_a_rule_of_ones_own_may_choose_several_partitions(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=3)

    def route(message: str, partitions: tuple[str, ...]) -> tuple[str, ...] | str:
        return partitions if message == "all" else partitions[int(message)]

    async with await client.super_stream_producer(name, routing=route) as producer:
        await producer.send_wait("0")
        receipt = producer.try_send("all")
        assert receipt is not None
        await receipt
        assert receipt.confirmed
        await producer.send_wait("2")
        with pytest.raises(IndexError):
            await producer.send("3")
        assert producer.confirmed == 5
    assert list((await content(client, name)).values()) == [["0", "all"], ["all"], ["all", "2"]]


async def test_bad_messages_and_options_are_refused_and_leave_nothing_behind(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    with pytest.raises(InvalidArgument, match="routing is"):
        await client.super_stream_producer(name, routing="hash")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="on_partitions_changed"):
        await client.super_stream_producer(name, routing=HashRouting(text), on_partitions_changed="keep")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="refresh_s"):
        await client.super_stream_producer(name, routing=HashRouting(text), refresh_s=0)
    with pytest.raises(InvalidArgument, match="max_unconfirmed"):
        await client.super_stream_producer(name, routing=HashRouting(text), max_unconfirmed=0)
    with pytest.raises(InvalidArgument, match="no partition of"):
        await client.super_stream_producer(name, routing=KeyRouting(text, fallback="elsewhere"))
    with pytest.raises(StreamDoesNotExist):
        await client.super_stream_producer(stream(), routing=HashRouting(text))
    with pytest.raises(StreamDoesNotExist, match="it is no super stream"):
        await client.super_stream_producer("amq.direct", routing=HashRouting(text))
    assert not client._handles

    async with await client.super_stream_producer(name, routing=HashRouting(text)) as producer:
        with pytest.raises(InvalidArgument):
            await producer.send_batch(["a", "b", 3])  # type: ignore[list-item]
        with pytest.raises(InvalidArgument, match="only a producer with a name"):
            await producer.last_publishing_id()
    with pytest.raises(Closed):
        await producer.send("late")
    with pytest.raises(Closed):
        producer.try_send("late")
    assert await content(client, name) == {f"{name}-0": [], f"{name}-1": []}


async def test_the_tree_shows_the_router_and_a_publisher_for_each_partition(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    async with await client.super_stream_producer(name, routing=HashRouting(text)):
        below = {node.name: node.children for node in (await client.tree()).children}
        (router,) = below["super_streams"]
        assert router.kind == "SuperStreamRouter"
        assert router.details["partitions"] == 2
        assert {node.details["stream"] for node in below["publishers"]} == {f"{name}-0", f"{name}-1"}
    below = {node.name: node.children for node in (await client.tree()).children}
    assert not below["super_streams"]
    assert not below["publishers"]


def test_the_same_producer_without_asyncio(broker: Broker, stream: Streams) -> None:
    name = stream()
    with actorstream.blocking.connect(broker.uri) as client:
        client.create_super_stream(name, binding_keys=["a", "b"])
        with client.super_stream_producer(name, routing=KeyRouting(text), name="blocking") as producer:
            assert producer.partitions == (f"{name}-a", f"{name}-b")
            producer.send("a").result(10)
            producer.send_wait("b")
            with pytest.raises(NoRoute):
                producer.send("c")
            assert producer.last_publishing_ids() == {f"{name}-a": 1, f"{name}-b": 1}
            assert producer.last_publishing_id() == 1


async def test_sub_entries_are_divided_among_the_partitions(client: Client, stream: Streams) -> None:
    """One call makes a sub-entry for each partition, with one receipt; so does grouping by itself."""
    name = stream()
    await client.create_super_stream(name, partitions=2)
    bodies = [str(number) for number in range(100)]
    halves = [bodies[::2], bodies[1::2]]

    def route(message: str, partitions: tuple[str, ...]) -> str:
        return partitions[int(message) % 2]

    async with await client.super_stream_producer(name, routing=route, name="packed") as producer:
        receipt = await producer.send_sub_entry(bodies, compression="lz4", publishing_id=7)
        await receipt
        assert (receipt.messages, receipt.publishing_id, producer.confirmed) == (100, 7, 100)
        assert await producer.last_publishing_ids() == {f"{name}-0": 7, f"{name}-1": 7}
        again = await producer.send_sub_entry(["0"], publishing_id=8)
        await again
        assert await producer.last_publishing_ids() == {f"{name}-0": 8, f"{name}-1": 7}
        with pytest.raises(InvalidArgument):
            await producer.send_sub_entry([])
    assert list((await content(client, name)).values()) == [[*halves[0], "0"], halves[1]]

    async with await client.super_stream_producer(
        name, routing=route, sub_entry_size=10, compression="gzip"
    ) as producer:
        batch = await producer.send_batch(bodies)
        await batch
        assert all(receipt.confirmed for receipt in batch.receipts)
    stored = list((await content(client, name)).values())
    assert stored == [[*halves[0], "0", *halves[0]], [*halves[1], *halves[1]]]


async def test_filter_values_go_with_the_messages(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    async with await client.super_stream_producer(name, routing=HashRouting(text)) as producer:
        for key in KEYS:
            await producer.send_wait(key, filter_value="even" if int(key[-1]) % 2 == 0 else "odd")
        receipt = producer.try_send("key-0", filter_value="even")
        assert receipt is not None
        await receipt
    wanted = actorstream.Filter(["even"])
    for partition, keys in spread(name, 2).items():
        expected = [key for key in keys if int(key[-1]) % 2 == 0] + (["key-0"] if "key-0" in keys else [])
        async with await client.consumer(partition, "first", filter=wanted) as consumer:
            found = [message.body.decode() for message in await take(consumer, len(expected))]
        assert found == expected, "each message is a chunk, and the broker leaves out the others"


async def test_a_callback_is_told_each_outcome_of_each_partition(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=3)
    told: list[Receipt] = []
    async with await client.super_stream_producer(
        name,
        routing=lambda message, partitions: partitions if message == "all" else partitions[0],
        on_confirm=told.append,
    ) as producer:
        sent = await producer.send("one")
        await producer.send("all")
        await producer.flush(10)
        await until(lambda: len(told) == 4, "the callback has been called")
        assert sent in told
        assert all(receipt.confirmed for receipt in told)


async def test_i16_actors_publish_through_the_router(client: Client, stream: Streams) -> None:
    """With the outcome as the answer, or told; in two partitions it is one outcome, too."""
    name = stream()
    await client.create_super_stream(name, binding_keys=["a", "b"])
    told: Channel[Published] = Channel()

    class Listener:
        def tell(self, message: Any) -> None:
            told.put(message)

    async with await client.super_stream_producer(name, routing=KeyRouting(text)) as producer:
        for _ in range(3):
            producer.ref.tell(Publish("a"))
        assert await call(producer.ref, Publish("b")) is None
        with pytest.raises(NoRoute):
            await call(producer.ref, Publish("nowhere"))
        producer.ref.tell(Publish("b", reply_to=Listener(), context="the last"))
        assert await told.get() == Published("the last", None)
        producer.ref.tell(Publish("nowhere", reply_to=Listener(), context=3))
        assert isinstance((await told.get()).error, NoRoute)
    assert await content(client, name) == {f"{name}-a": ["a"] * 3, f"{name}-b": ["b"] * 2}

    async with await client.super_stream_producer(name, routing=lambda _message, partitions: partitions) as producer:
        producer.ref.tell(Publish("both", reply_to=Listener(), context="both"))
        assert await told.get() == Published("both", None)
        await client.delete_stream(f"{name}-b")
        with pytest.raises((Closed, actorstream.errors.Unconfirmed)):
            await call(producer.ref, Publish("both"))
    with pytest.raises(Closed):
        await call(producer.ref, Publish("late"), dead=Closed)


# Deduplication


async def test_f26_a_restart_after_the_lowest_id_repeats_nothing_and_loses_nothing(
    client: Client, stream: Streams
) -> None:
    """The first run ends when one partition has got less far than the other; ids are the user's."""
    name = stream()
    await client.create_super_stream(name, partitions=2)
    sent = {number: f"message {number}" for number in range(1, 101)}

    def route(message: str, partitions: tuple[str, ...]) -> str:
        return partitions[int(message.split()[1]) % 2]

    async with await client.super_stream_producer(name, routing=route, name="source") as producer:
        for number, body in sent.items():
            if number <= 40 or (number <= 61 and number % 2):  # what was on its way to partition 0 did not get there
                await producer.send(body, publishing_id=number)
        await producer.flush(10)
        assert await producer.last_publishing_ids() == {f"{name}-0": 40, f"{name}-1": 61}

    async with await client.super_stream_producer(name, routing=route, name="source") as producer:
        after = await producer.last_publishing_id()
        assert after == 40
        receipts = [await producer.send(body, publishing_id=number) for number, body in sent.items() if number > after]
        await producer.flush(10)
        assert all(receipt.confirmed for receipt in receipts)
    assert await content(client, name) == {
        f"{name}-0": [sent[number] for number in range(2, 101, 2)],
        f"{name}-1": [sent[number] for number in range(1, 101, 2)],
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(10**6)])
async def test_i4_killed_again_and_again_it_goes_on_after_the_lowest_id_and_everything_is_there_once(
    broker: Broker, client: Client, stream: Streams, seed: int
) -> None:
    """SIGKILL at random moments, with much unconfirmed on its way to three partitions of uneven shares."""
    rng = random.Random(seed)
    name, count, kills = stream(), 40_000, 6  # more than can be sent until the last kill
    await client.create_super_stream(name, partitions=3)
    lengths = []
    for _ in range(kills):
        with spreading_process(broker.uri, name, count) as process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "running\n"
            await asyncio.sleep(rng.uniform(0.0, 0.25))
            process.kill()
            await asyncio.to_thread(process.wait)
        lengths.append(sum(map(len, (await content(client, name)).values())))
    with spreading_process(broker.uri, name, count) as process:
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert len(set(lengths)) > 1, f"killed in the middle: {lengths}"
    assert lengths[-1] < count, "it was still at work when it was killed last"
    partitions = await client.partitions(name)
    routing = HashRouting(spreading.key_of)
    sent = [str(number) for number in range(1, count + 1)]
    assert await content(client, name) == {
        partition: [body for body in sent if routing(body, partitions) == partition] for partition in partitions
    }


def spreading_process(uri: str, super_stream: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.broker.spreading", uri, super_stream, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def test_f26_generated_ids_go_on_in_each_partition(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    keys = [f"key-{number}" for number in range(50)]
    for _ in range(2):
        async with await client.super_stream_producer(name, routing=HashRouting(text), name="counted") as producer:
            await (await producer.send_batch(keys))
            ids = await producer.last_publishing_ids()
    assert sum(ids.values()) == 100
    assert {partition: len(bodies) for partition, bodies in (await content(client, name)).items()} == ids


async def test_f28_a_name_belongs_to_one_producer_of_a_partition(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    async with await client.super_stream_producer(name, routing=HashRouting(text), name="one"):
        with pytest.raises(InvalidArgument, match="has a producer named 'one'"):
            await client.super_stream_producer(name, routing=HashRouting(text), name="one")
        with pytest.raises(InvalidArgument, match="has a producer named 'one'"):
            await client.producer(f"{name}-1", name="one")
    async with await client.super_stream_producer(name, routing=HashRouting(text), name="one") as producer:
        await producer.send_wait("free again")


# Partitions that come and go


async def add_partition(broker: Broker, client: Client, name: str, index: int) -> None:
    await client.create_stream(f"{name}-{index}")
    await asyncio.to_thread(broker.management.add_partition, name, f"{name}-{index}", str(index), index)
    assert len(await client.partitions(name)) == index + 1


async def changed(client: Client) -> actorstream.events.PartitionsChanged:
    """The next such event."""
    async for event in client.events():
        if isinstance(event, actorstream.events.PartitionsChanged):
            return event
    raise AssertionError


async def with_change(
    broker: Broker, client: Client, stream: Streams, choice: OnPartitionsChanged
) -> tuple[str, SuperStreamProducer]:
    """A producer whose super stream of two partitions has got a third one, which its router has noticed."""
    name = stream()
    await client.create_super_stream(name, partitions=2)
    producer = await client.super_stream_producer(
        name, routing=HashRouting(text), on_partitions_changed=choice, refresh_s=0.2
    )
    await (await producer.send_batch(KEYS))
    noticing = asyncio.create_task(changed(client))
    await asyncio.sleep(0)  # it listens from now on
    await add_partition(broker, client, name, 2)
    event = await asyncio.wait_for(noticing, 20)
    assert (event.super_stream, event.added, event.removed) == (name, (f"{name}-2",), ())
    assert event.partitions == (f"{name}-0", f"{name}-1", f"{name}-2")
    return name, producer


KEYS = [f"key-{number}" for number in range(60)]


def spread(name: str, partitions: int) -> dict[str, list[str]]:
    names = tuple(f"{name}-{index}" for index in range(partitions))
    routing = HashRouting(text)
    return {one: [key for key in KEYS if routing(key, names) == one] for one in names}


async def test_f45_no_key_moves_when_a_partition_is_added(broker: Broker, client: Client, stream: Streams) -> None:
    name, producer = await with_change(broker, client, stream, OnPartitionsChanged.KEEP)
    async with producer:
        await (await producer.send_batch(KEYS))
        assert len(producer.partitions) == 2
    expected = {partition: [*keys, *keys] for partition, keys in spread(name, 2).items()}
    assert await content(client, name) == {**expected, f"{name}-2": []}


async def test_f45_keys_move_to_a_partition_that_is_followed(broker: Broker, client: Client, stream: Streams) -> None:
    name, producer = await with_change(broker, client, stream, OnPartitionsChanged.FOLLOW)
    async with producer:
        await until(lambda: len(producer.partitions) == 3, "the new partition is in use")
        await (await producer.send_batch(KEYS))
    before, after = spread(name, 2), spread(name, 3)
    assert await content(client, name) == {
        partition: [*before.get(partition, []), *keys] for partition, keys in after.items()
    }


async def test_f45_a_change_is_raised_by_whoever_wants_it_so(broker: Broker, client: Client, stream: Streams) -> None:
    name, producer = await with_change(broker, client, stream, OnPartitionsChanged.RAISE)
    async with producer:
        await until(lambda: producer._table.refusal is not None, "the change has arrived")
        with pytest.raises(PartitionsChanged, match=f"added: {name}-2") as caught:
            await producer.send("key")
        assert (caught.value.added, caught.value.removed) == ((f"{name}-2",), ())
        with pytest.raises(PartitionsChanged):
            producer.try_send("key")
        with pytest.raises(PartitionsChanged):
            await producer.send_batch(["key"])


@pytest.mark.parametrize("choice", [OnPartitionsChanged.KEEP, OnPartitionsChanged.FOLLOW])
async def test_f45_a_partition_that_is_deleted_ends_for_itself_alone(
    client: Client, stream: Streams, choice: OnPartitionsChanged
) -> None:
    """The removal is noticed long before it is time to look again."""
    name = stream()
    await client.create_super_stream(name, partitions=3)
    lost = [key for key in KEYS if key in spread(name, 3)[f"{name}-1"]]
    async with await client.super_stream_producer(
        name, routing=HashRouting(text), on_partitions_changed=choice, refresh_s=600
    ) as producer:
        await (await producer.send_batch(KEYS))
        noticing = asyncio.create_task(changed(client))
        await asyncio.sleep(0)
        await client.delete_stream(f"{name}-1")
        assert (await asyncio.wait_for(noticing, 20)).removed == (f"{name}-1",)
        if choice is OnPartitionsChanged.KEEP:
            with pytest.raises(Closed, match=f"{name}-1") as caught:
                await producer.send(lost[0])
            assert isinstance(caught.value.__cause__, StreamDoesNotExist)
            await (await producer.send_batch([key for key in KEYS if key not in lost]))
            assert producer.confirmed == 2 * len(KEYS) - len(lost)
        else:
            await until(lambda: len(producer.partitions) == 2, "the partition is out of use")
            await (await producer.send_batch(KEYS))
            assert producer.confirmed == 2 * len(KEYS)


async def test_f42_f45_a_partition_that_is_made_anew_between_two_looks_is_followed(
    broker: Broker, client: Client, stream: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of partitions is the same before and after; only the producer of one of them has ended."""
    name = stream()
    await client.create_super_stream(name, partitions=3)
    async with await client.super_stream_producer(
        name, routing=HashRouting(text), on_partitions_changed=OnPartitionsChanged.FOLLOW, refresh_s=2
    ) as producer:
        await (await producer.send_batch(KEYS))
        monkeypatch.setattr("actorstream.super_stream_producer.tell", lambda *_: False)  # nobody asks for a look
        old = producer._producers.all[1]
        await client.delete_stream(f"{name}-1")
        await until(lambda: not old._is_open, "its producer has ended")
        await client.create_stream(f"{name}-1")
        await asyncio.to_thread(broker.management.add_partition, name, f"{name}-1", "1", 1)
        await until(lambda: not producer._producers.ended(producer.partitions), "it has another one")
        await (await producer.send_batch(KEYS))
        assert producer.partitions == tuple(f"{name}-{index}" for index in range(3))
    after = spread(name, 3)
    assert await content(client, name) == {
        partition: keys if partition == f"{name}-1" else [*keys, *keys] for partition, keys in after.items()
    }


async def test_f45_a_new_binding_is_noticed_by_key_routing(broker: Broker, client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, binding_keys=["a", "b"])
    async with await client.super_stream_producer(name, routing=KeyRouting(text), refresh_s=0.2) as producer:
        with pytest.raises(NoRoute):
            await producer.send("c")
        await asyncio.to_thread(broker.management.add_partition, name, f"{name}-b", "c", 1)

        async def has_route() -> bool:
            try:
                await producer.send("c")
            except NoRoute:
                return False
            return True

        await until(has_route, "the binding is noticed")
        await producer.flush(10)
    assert (await content(client, name))[f"{name}-b"] == ["c"]


async def test_f41_a_super_stream_that_is_deleted_ends_its_producer(client: Client, stream: Streams) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=2)
    async with await client.super_stream_producer(name, routing=HashRouting(text)) as producer:
        await producer.send_wait("a")
        await client.delete_super_stream(name)

        async def ended() -> bool:
            try:
                await producer.send("a")
            except Closed as error:
                return isinstance(error.__cause__, StreamDoesNotExist) and "super stream" in str(error)
            return False

        await until(ended, "the producer ended")
