"""Publishing to a real broker, with what the stream holds afterwards read back and compared."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import actorstream
from actorstream import Client, Message, Properties, Publish, Receipt, Replay
from actorstream.actors import messages as m
from actorstream.actors.locator import Locator
from actorstream.errors import (
    AccessRefused,
    AuthenticationFailure,
    Closed,
    MessageTooLarge,
    PublisherFenced,
    StreamDoesNotExist,
    Unconfirmed,
)
from lab.broker import Broker
from tests.actors.publishing import find
from tests.broker.reading import until
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(40)


@asynccontextmanager
async def client_of(broker: Broker, **given: Any) -> AsyncIterator[Client]:
    async with actorstream.connect(broker.uri, **given) as client:
        yield client


def bodies(start: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, end)]


async def content(client: Client, stream: str) -> list[bytes]:
    """Everything that the stream holds, in its order."""
    async with asyncio.timeout(20), await client.consumer(stream, "first", until="end") as consumer:
        return [message.body async for message in consumer]


async def closed_by_management(broker: Broker, name: str) -> None:
    """Have the broker end a client's publishing connection; it is gone when this returns."""
    assert await asyncio.to_thread(broker.management.close_connections, f"{name}-publisher") >= 1


async def was_restarted(client: Client, times: int) -> bool:
    (publisher,) = await find(client, "Publisher")
    return publisher.restarts >= times


def unique_name() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


async def test_what_is_confirmed_is_in_the_stream_in_the_order_of_the_sends(broker: Broker, stream: Streams) -> None:
    """I1, I2, I3."""
    name = stream({})
    async with client_of(broker) as client, await client.producer(name) as producer:
        receipts = [await producer.send(body) for body in bodies(0, 5000)]
        await producer.flush(10)
        assert all(receipt.confirmed for receipt in receipts)
        assert (producer.confirmed, producer.failed, producer.unsettled) == (5000, 0, 0)
        assert await content(client, name) == bodies(0, 5000)


async def test_a_whole_message_arrives_as_it_was_sent(broker: Broker, stream: Streams) -> None:
    name = stream({})
    async with client_of(broker) as client, await client.producer(name) as producer:
        await producer.send_wait(
            Message(b"body", properties=Properties(subject="s"), application_properties={"number": 7, "text": "é"})
        )
        async with await client.consumer(name, "first", until="end") as consumer:
            (message,) = [message async for message in consumer]

    assert message.body == b"body"
    assert message.properties is not None
    assert message.properties.subject == "s"
    assert message.application_properties == {"number": 7, "text": "é"}


@pytest.mark.parametrize("name", ["", "named"])
async def test_f22_connections_that_are_closed_under_load_lose_nothing(
    broker: Broker, stream: Streams, name: str
) -> None:
    """I1, I3; I4 with a name: no message twice. I5 without: only whole parts of a window are repeated."""
    target, client_name, count = stream({}), unique_name(), 20_000
    async with client_of(broker, name=client_name) as client:
        async with await client.producer(target, name=name, max_unconfirmed=500) as producer:
            await producer.send_wait(b"0")
            cuts = 0

            async def cut() -> None:
                nonlocal cuts
                while cuts < 3:
                    await closed_by_management(broker, client_name)
                    cuts += 1

            cutting = asyncio.create_task(cut())
            receipts: list[Receipt] = []
            sent = 1
            while not cutting.done() or sent < count:
                receipts.append(await producer.send(b"%d" % sent))
                sent += 1
                if not sent % 100:
                    await asyncio.sleep(0.005)  # a load that lasts as long as the cuts
            await cutting
            await producer.flush(20)
            assert cuts == 3
            assert all(receipt.confirmed for receipt in receipts)
            await until(lambda: was_restarted(client, 3), "each cut was noticed")

        stored = await content(client, target)
        if name:
            assert stored == bodies(0, sent)
        else:
            assert list(dict.fromkeys(stored)) == bodies(0, sent), "first occurrences are in order and complete"
            assert len(stored) - sent <= 3 * 500


async def test_f22_without_replay_a_message_is_there_at_most_once(broker: Broker, stream: Streams) -> None:
    target, client_name = stream({}), unique_name()
    async with client_of(broker, name=client_name) as client:
        async with await client.producer(target, replay=Replay.FAIL, max_unconfirmed=500) as producer:
            cutting = asyncio.create_task(closed_by_management(broker, client_name))
            receipts: list[Receipt] = []
            while not cutting.done() or not receipts[-1].done:
                receipts.append(await producer.send(b"%d" % len(receipts)))
                if not len(receipts) % 50:
                    await asyncio.sleep(0.002)
            await cutting
            await producer.flush(20)

        stored = await content(client, target)
        confirmed = [b"%d" % number for number, receipt in enumerate(receipts) if receipt.confirmed]
        unknown = {b"%d" % number for number, receipt in enumerate(receipts) if not receipt.confirmed}
        assert all(isinstance(receipt.error, Unconfirmed) for receipt in receipts if not receipt.confirmed)
        assert len(stored) == len(set(stored))
        assert [body for body in stored if body not in unknown] == confirmed


async def test_f26_a_named_producer_goes_on_in_a_second_client(broker: Broker, stream: Streams) -> None:
    target = stream({})
    for start in (0, 100, 200):
        async with client_of(broker) as client, await client.producer(target, name="me") as producer:
            assert await producer.last_publishing_id() == start
            batch = await producer.send_batch(bodies(start, start + 100))
            await batch
            assert [receipt.publishing_id for receipt in batch.receipts] == list(range(start + 1, start + 101))

    async with client_of(broker) as client:
        assert await content(client, target) == bodies(0, 300)


async def test_f26_ids_of_the_user_are_deduplicated_over_clients(broker: Broker, stream: Streams) -> None:
    """W10: what the broker has is confirmed and not stored."""
    target = stream({})
    for numbers in (range(10, 20), range(5, 25)):
        async with client_of(broker) as client, await client.producer(target, name="me") as producer:
            for number in numbers:
                await producer.send_wait(b"%d" % number, publishing_id=number)

    async with client_of(broker) as client:
        assert await content(client, target) == bodies(10, 25)


async def test_f28_a_producer_whose_name_another_client_uses_is_told_at_its_next_connection(
    broker: Broker, stream: Streams
) -> None:
    target, client_name = stream({}), unique_name()
    async with client_of(broker, name=client_name) as one, client_of(broker, name=unique_name()) as other:
        first = await one.producer(target, name="me")
        await first.send_wait(b"first")
        async with await other.producer(target, name="me") as second:
            await (await second.send_batch([b"second"] * 5))
        await closed_by_management(broker, client_name)
        with pytest.raises(Closed) as raised:  # noqa: PT012 - it may take a moment to notice
            async with asyncio.timeout(10):
                while True:
                    await first.send(b"lost in silence otherwise")
                    await asyncio.sleep(0.01)

        assert isinstance(raised.value.__cause__, PublisherFenced)


async def test_f33_more_publishers_than_a_connection_has_ids_for(broker: Broker, stream: Streams) -> None:
    names, client_name = [stream({}) for _ in range(3)], unique_name()
    async with client_of(broker, name=client_name) as client:
        producers = [await client.producer(names[number % 3]) for number in range(260)]
        await asyncio.gather(*(producer.send_wait(b"%d" % number) for number, producer in enumerate(producers)))
        rows = await asyncio.to_thread(broker.management.wait_connections, f"{client_name}-publisher", 2)
        assert len(rows) == 2
        for which, name in enumerate(names):
            assert sorted(map(int, await content(client, name))) == list(range(which, 260, 3))
        await asyncio.gather(*(producer.close() for producer in producers))


async def test_f34_frames_are_cut_by_their_size_and_too_large_messages_fail_alone(
    broker: Broker, stream: Streams
) -> None:
    target = stream({})
    async with client_of(broker) as client, await client.producer(target) as producer:
        largest = b"x" * (1_048_576 - 17 - 12)
        sizes = [400_000, 700_000, 1, 600_000, len(largest), 255, 256, 500_000, 548_000, 1]
        batch = await producer.send_batch([b"x" * size for size in sizes])
        with pytest.raises(MessageTooLarge):
            await producer.send(largest + b"x")
        await batch

        assert [len(body) for body in await content(client, target)] == sizes
        (publisher,) = await find(client, "Publisher")
        assert publisher.restarts == 0, "no frame has cost the connection"


async def test_f41_a_deleted_stream_ends_the_producer(broker: Broker, stream: Streams) -> None:
    target = stream({})
    async with client_of(broker) as client:
        producer = await client.producer(target)
        await producer.send_wait(b"x")
        await client.delete_stream(target)
        with pytest.raises(Closed) as raised:  # noqa: PT012 - the broker tells it in its own time
            async with asyncio.timeout(10):
                while True:
                    await producer.send(b"y")
                    await asyncio.sleep(0.01)

        assert isinstance(raised.value.__cause__, StreamDoesNotExist)
        assert producer.unsettled == 0
        with pytest.raises(StreamDoesNotExist):
            await client.producer(target)


@pytest.mark.parametrize("name", ["", "named"])
async def test_f42_a_stream_that_is_made_anew_is_published_to(
    broker: Broker, stream: Streams, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, made_anew = stream({}), asyncio.Event()
    made_anew.set()
    metadata = Locator._metadata

    async def late_metadata(self: Locator, streams: tuple[str, ...]) -> dict[str, m.StreamState]:
        await made_anew.wait()  # who looks in between finds no stream, and rightly gives up
        return await metadata(self, streams)

    monkeypatch.setattr(Locator, "_metadata", late_metadata)
    async with client_of(broker) as client, await client.producer(target, name=name) as producer:
        await (await producer.send_batch(bodies(0, 10)))
        made_anew.clear()
        await client.delete_stream(target)
        receipts = [await producer.send(body) for body in bodies(10, 20)]
        await client.create_stream(target)
        made_anew.set()
        await producer.flush(10)
        (publisher,) = await find(client, "Publisher")

        assert publisher.restarts >= 1
        assert all(receipt.confirmed for receipt in receipts)
        assert [receipt.publishing_id for receipt in receipts] == list(range(11, 21))
        assert await content(client, target) == bodies(10, 20)


async def test_f89_a_permission_that_is_missing_is_told(broker: Broker, stream: Streams) -> None:
    target, user = stream({}), unique_name()
    management = broker.management
    await asyncio.to_thread(management.put_user, user, "secret")
    await asyncio.to_thread(management.put_permissions, user, write="^$")
    try:
        async with client_of(broker, username=user, password="secret") as client:
            with pytest.raises(AccessRefused):
                await client.producer(target)
        with pytest.raises(AuthenticationFailure):
            async with client_of(broker, username=user, password="wrong"):
                pass
    finally:
        await asyncio.to_thread(management.delete_user, user)


async def test_a_users_actor_publishes_by_telling_and_asking(broker: Broker, stream: Streams) -> None:
    target = stream({})
    async with client_of(broker, own_thread=True) as client, await client.producer(target) as producer:
        for body in bodies(0, 100):
            producer.ref.tell(Publish(body))
        await producer.ref.ask(Publish(b"100"), block=False)

        assert await content(client, target) == bodies(0, 101)


async def test_a_thread_that_sends_beside_the_loop_loses_nothing(broker: Broker, stream: Streams) -> None:
    target = stream({})
    async with client_of(broker, own_thread=True) as client, await client.producer(target) as producer:

        def send() -> list[Receipt]:
            return [receipt for body in bodies(0, 2000) if (receipt := producer.try_send(b"a" + body)) is not None]

        sending = asyncio.create_task(asyncio.to_thread(send))
        receipts = [await producer.send(b"b" + body) for body in bodies(0, 2000)]
        receipts += await sending
        await producer.flush(10)

        assert all(receipt.confirmed for receipt in receipts)
        stored = await content(client, target)
        assert len(stored) == 4000
        for mark in (b"a", b"b"):
            assert [body[1:] for body in stored if body[:1] == mark] == bodies(0, 2000)


async def test_a_callback_is_told_each_message_once_with_its_outcome(broker: Broker, stream: Streams) -> None:
    target, told, awaited = stream({}), list[Receipt](), list[Receipt]()

    async def slow(receipt: Receipt) -> None:
        await asyncio.sleep(0)
        awaited.append(receipt)

    async with client_of(broker) as client:
        async with await client.producer(target, on_confirm=told.append) as producer:
            receipts = [await producer.send(body) for body in bodies(0, 100)]
            receipts += (await producer.send_batch(bodies(100, 200))).receipts
            await until(lambda: len(told) == 200, "all are told")
            assert sorted(told, key=lambda receipt: receipt.publishing_id) == receipts
            assert all(receipt.confirmed for receipt in told)
        async with await client.producer(target, on_confirm=slow) as producer:
            receipt = await producer.send(b"200")
            await until(lambda: awaited, "the async callback")
            assert awaited == [receipt]


async def test_f36_no_more_is_unconfirmed_than_the_bound_says_however_it_is_sent(
    broker: Broker, stream: Streams
) -> None:
    target, most = stream({}), 0

    async with client_of(broker) as client, await client.producer(target, max_unconfirmed=50) as producer:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, producer.unsettled)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        for body in bodies(0, 500):
            await producer.send(body)
        batch = await producer.send_batch(bodies(500, 1000))
        await batch
        await producer.flush(10)
        watching.cancel()
        assert most == 50
        assert await content(client, target) == bodies(0, 1000)


async def test_order_is_that_of_the_sends_whether_one_by_one_or_in_batches_or_in_sub_entries(
    broker: Broker, stream: Streams
) -> None:
    target = stream({})
    async with client_of(broker) as client, await client.producer(target, max_unconfirmed=100) as producer:
        for start in range(0, 3000, 300):
            await producer.send(b"%d" % start)
            await producer.send_batch(bodies(start + 1, start + 250))
            await producer.send_sub_entry(bodies(start + 250, start + 299), compression="lz4")
            await producer.send(b"%d" % (start + 299))
        await producer.flush(10)
        assert await content(client, target) == bodies(0, 3000)


def test_everything_is_sent_without_asyncio_too(broker: Broker, stream: Streams) -> None:
    target = stream({})
    with actorstream.blocking.connect(broker.uri) as client:
        with client.producer(target, name="me", sub_entry_size=10, compression="lz4") as producer:
            receipts = [producer.send(body) for body in bodies(0, 100)]
            producer.send_batch(bodies(100, 200))
            receipts.append(producer.send_sub_entry(bodies(200, 300), compression="gzip"))
            for receipt in receipts:
                receipt.result(timeout=10)
            producer.send_wait(b"300")
            producer.flush(10)
            assert producer.last_publishing_id() == receipts[-1].publishing_id + 1
        with client.producer(target) as producer:
            producer.send(b"301", filter_value="last").result(timeout=10)
        with client.consumer(target, "first", until="end") as consumer:
            assert [message.body for message in consumer] == bodies(0, 302)


async def test_a_raw_producer_stores_bytes_as_they_are(broker: Broker, stream: Streams) -> None:
    target, records = stream({}), [b"", b"\x00\x53\x75 is no message", b"\x80" * 5, b"x" * 300]
    async with client_of(broker) as client, await client.producer(target, raw=True) as producer:
        await (await producer.send_batch(records))
        await (await producer.send_sub_entry(records, compression="zstd"))
        async with await client.consumer(target, "first", until="end", raw=True) as consumer:
            assert [message.body async for message in consumer] == records * 2
