"""Deduplication by a producer's name and its publishing ids, and what gives a second owner of the name away."""

from __future__ import annotations

import asyncio

import pytest

import actorstream
from actorstream import Producer
from actorstream.actors import publisher
from actorstream.actors.future import LoopFuture
from actorstream.errors import Closed, InvalidArgument, PublisherFenced, Unconfirmed
from lab.broker import Broker
from tests.broker.reading import connected, numbered, read
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)


async def test_f27_the_first_id_is_1_since_a_broker_says_0_for_none(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name, name="me") as producer:
        assert await producer.last_publishing_id() == 0
        receipt = await producer.send(b"0")
        await receipt
        assert receipt.publishing_id == await producer.last_publishing_id() == 1


async def test_f26_a_process_that_starts_over_repeats_nothing_if_it_numbers_its_messages(
    broker: Broker, stream: Streams
) -> None:
    """W10: the broker confirms what it drops, so that the second run looks like the first."""
    name = stream({})
    for last in (30, 50):
        async with connected(broker) as client, await client.producer(name, name="me") as producer:
            for number in range(1, last + 1):
                await producer.send(b"%d" % number, publishing_id=number)
            await producer.flush(10)
            assert (producer.confirmed, producer.failed) == (last, 0)

    async with connected(broker) as client:
        assert [message.body for message in await read(client, name)] == numbered(50, 1)


async def test_f26_a_process_that_asks_how_far_it_came_goes_on_there(broker: Broker, stream: Streams) -> None:
    name = stream({})
    for _ in range(3):
        async with connected(broker) as client, await client.producer(name, name="me") as producer:
            done = await producer.last_publishing_id()
            for number in range(done + 1, done + 11):
                await producer.send(b"%d" % number, publishing_id=number)
            await producer.flush(10)

    async with connected(broker) as client:
        assert [message.body for message in await read(client, name)] == numbered(30, 1)


async def test_two_names_of_one_stream_have_ids_of_their_own(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with (
        connected(broker) as client,
        await client.producer(name, name="one") as one,
        await client.producer(name, name="other") as other,
    ):
        await one.send_wait(b"a", publishing_id=100)
        await other.send_wait(b"b", publishing_id=1)
        assert (await one.last_publishing_id(), await other.last_publishing_id()) == (100, 1)
        assert [message.body for message in await read(client, name)] == [b"a", b"b"]


async def test_a_producer_without_a_name_has_no_sequence(broker: Broker, stream: Streams) -> None:
    async with connected(broker) as client, await client.producer(stream({})) as producer:
        with pytest.raises(InvalidArgument, match="with a name"):
            await producer.last_publishing_id()


async def send_until_closed(producer: Producer) -> BaseException | None:
    """Why it ended."""
    async with asyncio.timeout(10):
        while True:
            try:
                await producer.send_wait(b"dropped")
            except Closed as closed:
                return closed.__cause__
            except Unconfirmed:
                pass  # it was on its way when the producer ended
            await asyncio.sleep(0.01)


async def test_f28_a_producer_that_publishes_learns_of_a_second_owner_of_its_name(
    broker: Broker, stream: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lost connection: it asks the broker now and then."""
    monkeypatch.setattr(publisher, "FENCE_CHECK_S", 0.1)
    name = stream({})
    async with connected(broker) as one, connected(broker) as other:
        first = await one.producer(name, name="me")
        await first.send_wait(b"first")
        async with await other.producer(name, name="me") as second:
            await (await second.send_batch([b"second"] * 1000))
        assert isinstance(await send_until_closed(first), PublisherFenced)
        await first.close()


async def test_f28_a_producer_that_is_closed_tells_that_its_name_was_used(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as one, connected(broker) as other:
        first = await one.producer(name, name="me")
        async with await other.producer(name, name="me") as second:
            await (await second.send_batch([b"second"] * 10))
            await first.send_wait(b"confirmed, and dropped")
            with pytest.raises(PublisherFenced, match="another producer uses the same name"):
                await first.close()
        assert [message.body for message in await read(one, name)] == [b"second"] * 10


async def test_who_gives_the_ids_may_share_a_name_as_long_as_both_mean_the_same(
    broker: Broker, stream: Streams
) -> None:
    """Two that publish the same numbered messages, one of them to spare: each message is there once."""
    name = stream({})

    async def publish(producer: Producer) -> None:
        for number in range(1, 201):
            await producer.send(b"%d" % number, publishing_id=number)
            await asyncio.sleep(0)
        await producer.close()

    async with connected(broker) as one, connected(broker) as other:
        await asyncio.gather(
            publish(await one.producer(name, name="me")), publish(await other.producer(name, name="me"))
        )
        assert [message.body for message in await read(one, name)] == numbered(200, 1)


async def test_i14_close_does_not_wait_for_a_broker_that_does_not_answer_who_owns_a_name(
    broker: Broker, stream: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actorstream.producer, "FENCE_CHECK_S", 0.05)
    monkeypatch.setattr(publisher.Publisher, "_check_fence", lambda _: LoopFuture())
    async with connected(broker) as client:
        producer = await client.producer(stream({}), name="me")
        await producer.send_wait(b"x")
        async with asyncio.timeout(2):
            await producer.close()
