"""Sub-entries on a real broker: every message arrives once and in order, whatever codec and whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Iterable

import pytest

from actorstream import Client, Compression, Receipt
from actorstream.errors import InvalidArgument, MessageTooLarge
from lab.broker import Broker
from tests.actors.publishing import find
from tests.broker.reading import connected, numbered, read, until
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)

CODECS = pytest.mark.parametrize("codec", list(Compression), ids=lambda codec: codec.name.lower())


async def bodies_in(client: Client, stream: str) -> list[bytes]:
    return [message.body for message in await read(client, stream)]


def ids_of(receipts: Iterable[Receipt]) -> list[int]:
    """Each publishing id once, in order."""
    return [number for number, _ in itertools.groupby(receipt.publishing_id for receipt in receipts)]


@CODECS
async def test_a_sub_entry_in_every_codec_is_read_back_as_it_was_sent(
    broker: Broker, stream: Streams, codec: Compression
) -> None:
    name = stream({})
    async with connected(broker) as client, await client.producer(name) as producer:
        receipts = [
            await producer.send_sub_entry(numbered(500, start), compression=codec.name.lower())
            for start in range(0, 1000, 500)
        ]
        for receipt in receipts:
            await receipt
        await producer.send_wait(b"1000")

        assert [receipt.messages for receipt in receipts] == [500, 500]
        assert (producer.confirmed, producer.failed, producer.unsettled) == (1001, 0, 0)
        messages = await read(client, name)
        assert [message.body for message in messages] == numbered(1001)
        assert [message.offset for message in messages] == list(range(1001))


@CODECS
async def test_messages_are_grouped_when_they_are_sent_and_each_has_an_outcome(
    broker: Broker, stream: Streams, codec: Compression
) -> None:
    name = stream({})
    async with connected(broker) as client:
        async with await client.producer(name, sub_entry_size=50, compression=codec) as producer:
            batch = await producer.send_batch(numbered(1000))
            await batch
            receipts = [await producer.send(body) for body in numbered(500, 1000)]
            await producer.flush(10)

            assert all(receipt.confirmed for receipt in (*batch.receipts, *receipts))
            assert producer.confirmed == 1500
            assert ids_of(batch.receipts) == list(range(1, 21)), "an id for each fifty"
            assert ids_of(receipts)[0] == 21
        assert await bodies_in(client, name) == numbered(1500)


async def test_a_lone_message_does_not_wait_for_a_group(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with (
        connected(broker) as client,
        await client.producer(name, sub_entry_size=100, compression="lz4") as producer,
    ):
        for body in numbered(3):
            await producer.send_wait(body)
        assert await bodies_in(client, name) == numbered(3)


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.LZ4], ids=["none", "lz4"])
async def test_i4_named_sub_entries_are_replayed_over_cut_connections_without_a_duplicate(
    broker: Broker, stream: Streams, codec: Compression
) -> None:
    """I1, I3, I4: the groups and their ids are those of the first time, so the broker knows them again."""
    name, client_name = stream({}), f"test-{uuid.uuid4().hex[:12]}"
    async with connected(broker, client_name) as client:
        async with await client.producer(
            name, name="me", sub_entry_size=20, compression=codec, max_unconfirmed=500
        ) as producer:
            await producer.send_wait(b"0")
            receipts: list[Receipt] = []
            sent = 1

            async def cut() -> None:
                for _ in range(3):
                    assert await asyncio.to_thread(broker.management.close_connections, f"{client_name}-publisher")

            cutting = asyncio.create_task(cut())
            while not cutting.done() or sent < 10_000:
                receipts += (await producer.send_batch(numbered(37, sent))).receipts
                sent += 37
                await asyncio.sleep(0.002)
            await cutting
            await producer.flush(20)
            assert all(receipt.confirmed for receipt in receipts)

            async def was_restarted() -> bool:
                (publisher,) = await find(client, "Publisher")
                return publisher.restarts >= 3

            await until(was_restarted, "each cut was noticed")

        assert await bodies_in(client, name) == numbered(sent)


async def test_a_sub_entry_is_one_duplicate_or_none(broker: Broker, stream: Streams) -> None:
    """One id, one decision, whatever is in it: that is what deduplication of sub-entries means."""
    name = stream({})
    for bodies in ([b"0", b"1", b"2"], [b"never stored"], [b"3"]):
        async with connected(broker) as client, await client.producer(name, name="me") as producer:
            publishing_id = 6 if bodies == [b"3"] else 5
            await (await producer.send_sub_entry(bodies, publishing_id=publishing_id))
            assert await producer.last_publishing_id() == publishing_id

    async with connected(broker) as client:
        assert await bodies_in(client, name) == numbered(4)


async def test_f26_what_is_sent_again_from_before_the_end_is_dropped_although_it_is_grouped_anew(
    broker: Broker, stream: Streams
) -> None:
    """A group never spans what the broker has and what it has not: as a whole, it would be stored."""
    name = stream({})
    for begin, end in ((1, 11), (5, 31)):
        async with connected(broker) as client, await client.producer(name, name="me", sub_entry_size=7) as producer:
            for number in range(begin, end):
                await producer.send(b"%d" % number, publishing_id=number)
            await producer.flush(10)
            assert producer.confirmed == end - begin
            assert await producer.last_publishing_id() == end - 1

    async with connected(broker) as client:
        assert await bodies_in(client, name) == numbered(30, 1)


async def test_f34_a_group_that_does_not_fit_a_frame_is_divided(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client:
        async with await client.producer(name, sub_entry_size=100, compression="gzip") as producer:
            random = [uuid.uuid4().bytes * 1000 + uuid.uuid4().bytes for _ in range(3)]
            incompressible = [b"".join(uuid.uuid4().bytes for _ in range(4000)) for _ in range(40)]
            await (await producer.send_batch(random + incompressible))
            with pytest.raises(MessageTooLarge):
                await producer.send(b"x" * 1_048_576)
            with pytest.raises(MessageTooLarge):
                await producer.send_sub_entry(incompressible)
            (publisher,) = await find(client, "Publisher")
            assert publisher.restarts == 0
        assert await bodies_in(client, name) == random + incompressible


async def test_sub_entries_and_filter_values_exclude_each_other(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with connected(broker) as client:
        with pytest.raises(InvalidArgument, match="exclude each other"):
            await client.producer(name, sub_entry_size=2, filter_value=lambda _: "x")
        async with await client.producer(name, sub_entry_size=2) as grouping:
            with pytest.raises(InvalidArgument, match="exclude each other"):
                await grouping.send(b"x", filter_value="x")
        async with await client.producer(name, filter_value=lambda _: "x") as filtering:
            with pytest.raises(InvalidArgument, match="cannot carry filter values"):
                await filtering.send_sub_entry([b"x"])
            assert (grouping.unsettled, filtering.unsettled) == (0, 0)
