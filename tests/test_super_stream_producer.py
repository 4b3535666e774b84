"""The producer of a super stream, where a real broker cannot be made to show it: outcomes of parts, threads, races."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from actorstream import HashRouting, OnPartitionsChanged, WhenAway
from actorstream.actors.receipt import Receipt
from actorstream.errors import (
    BrokerAway,
    Closed,
    InvalidArgument,
    OutboxFull,
    PublishError,
    PublishRejected,
    Unconfirmed,
)
from actorstream.options import SuperStreamProducerOptions
from actorstream.producer import Producer
from actorstream.routed_receipt import receipt_of_all
from actorstream.wire import commands as c
from tests.actors.publishing import client_of
from tests.peer import FakeCluster, until

pytestmark = pytest.mark.timeout(20)


def text(message: Any) -> str:
    return str(message)


def to_all(_message: Any, partitions: tuple[str, ...]) -> tuple[str, ...]:
    return partitions


def made(bindings: Any = 2) -> FakeCluster:
    cluster = FakeCluster()
    cluster.create_super_stream("ss", bindings)
    return cluster


# Receipts


def parts(count: int) -> list[Receipt]:
    return [Receipt(b"", 7) for _ in range(count)]


def test_a_receipt_of_several_is_confirmed_when_all_are() -> None:
    several = parts(3)
    whole = receipt_of_all(several)
    told: list[Receipt] = []
    whole.add_done_callback(told.append)
    for receipt in several[:-1]:
        receipt.settle()
        assert not whole.done
    several[-1].settle()
    assert (whole.confirmed, whole.publishing_id, told) == (True, 7, [whole])
    whole.result(0)


def test_a_receipt_of_several_has_their_first_error_once_all_are_settled() -> None:
    several = parts(3)
    whole = receipt_of_all(several)
    several[2].settle(Unconfirmed("late"))
    several[1].settle(PublishRejected(17))
    assert not whole.done
    several[0].settle()
    assert isinstance(whole.error, PublishRejected)
    with pytest.raises(PublishRejected):
        whole.result(0)


def test_a_receipt_of_several_that_are_settled_already_is_settled() -> None:
    several = parts(2)
    for receipt in several:
        receipt.settle()
    assert receipt_of_all(several).confirmed


def test_a_receipt_of_one_is_that_one() -> None:
    (one,) = parts(1)
    assert receipt_of_all([one]) is one


def test_a_receipt_of_several_is_settled_once_whatever_threads_do() -> None:
    for _ in range(200):
        several = parts(2)
        whole = receipt_of_all(several)
        told: list[Receipt] = []
        whole.add_done_callback(told.append)
        threads = [threading.Thread(target=receipt.settle) for receipt in several]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert whole.confirmed
        assert told == [whole]


# All partitions, or none


async def test_a_message_for_several_partitions_one_of_which_has_ended_is_accepted_by_none() -> None:
    cluster = made()
    async with client_of(cluster) as client, await client.super_stream_producer("ss", routing=to_all) as producer:
        cluster.delete("ss-1")
        await until(lambda: not producer._producers._known.of["ss-1"]._is_open)
        with pytest.raises(Closed, match="'ss-1' cannot be published to"):
            await producer.send("m")
        with pytest.raises(Closed, match="'ss-1' cannot be published to"):
            producer.try_send("m")
        assert not cluster.bodies("ss-0")


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Closed("gone"), Unconfirmed),
        (InvalidArgument("an id that does not rise"), InvalidArgument),
        (None, OutboxFull),
    ],
)
async def test_what_goes_wrong_after_one_partition_has_accepted_is_told_by_the_receipt(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | None, outcome: type[Exception]
) -> None:
    """Raised, it would make the caller send the message to the first one again."""
    cluster = made()
    offer = Producer._offer

    def offer_to_the_first_only(producer: Producer, receipt: Receipt) -> bool:
        if producer.stream == "ss-0":
            return offer(producer, receipt)
        if failure is not None:
            raise failure
        return False

    async with client_of(cluster) as client, await client.super_stream_producer("ss", routing=to_all) as producer:
        monkeypatch.setattr(Producer, "_offer", offer_to_the_first_only)
        receipt = await producer.send("m")
        with pytest.raises((PublishError, InvalidArgument)):
            await receipt
        assert isinstance(receipt.error, outcome)
    assert cluster.bodies("ss-0") == [b"m"]


async def test_a_message_for_several_partitions_one_of_which_is_away_is_accepted_by_none() -> None:
    cluster = made()
    async with (
        client_of(cluster) as client,
        await client.super_stream_producer("ss", routing=to_all, when_away=WhenAway.FAIL) as producer,
    ):
        cluster.move_leader("ss-1", None)
        await until(lambda: not producer._producers._known.of["ss-1"]._outbox._attached)
        with pytest.raises(BrokerAway):
            await producer.send("m")
        with pytest.raises(BrokerAway):
            producer.try_send("m")
        with pytest.raises(BrokerAway):
            await producer.send_sub_entry(["m"])
        assert (producer.unsettled, cluster.bodies("ss-0")) == (0, [])


async def test_a_message_whose_id_does_not_fit_one_of_its_partitions_is_accepted_by_none() -> None:
    cluster = made()

    def routing(message: str, partitions: tuple[str, ...]) -> tuple[str, ...]:
        return partitions if message == "all" else partitions[1:]

    async with client_of(cluster) as client, await client.super_stream_producer("ss", routing=routing) as producer:
        await producer.send_wait("one", publishing_id=9)
        with pytest.raises(InvalidArgument, match="does not exceed"):
            await producer.send("all", publishing_id=7)
        with pytest.raises(InvalidArgument, match="given by its user"):
            await producer.send("all")
        assert (producer.unsettled, cluster.bodies("ss-0")) == (0, [])
        await producer.send_wait("all", publishing_id=10)
    assert cluster.bodies("ss-0") == [b"all"]


# One partition without room


def first_or_second(message: str, partitions: tuple[str, ...]) -> str:
    return partitions[message.startswith("b")]


async def test_a_send_without_room_waits_in_turn_and_is_routed_and_encoded_once() -> None:
    cluster = made()
    routed: list[str] = []
    filtered: list[str] = []

    def routing(message: str, partitions: tuple[str, ...]) -> str:
        routed.append(message)
        return first_or_second(message, partitions)

    def filter_value(message: str) -> str:
        filtered.append(message)
        return message

    async with (
        client_of(cluster) as client,
        await client.super_stream_producer(
            "ss", routing=routing, max_unconfirmed=1, filter_value=filter_value
        ) as producer,
    ):
        held = cluster.hold(c.PublishFiltered)
        await producer.send("a0")
        outbox = producer._producers._known.of["ss-0"]._outbox
        waiting = []
        for number in range(1, 4):
            waiting.append(asyncio.create_task(producer.send(f"a{number}")))
            await until(lambda: outbox.room.waiting == len(waiting))
        assert producer.try_send("a4") is None
        await producer.send("b0")  # the other partition has room
        held.release()
        for receipt in [await one for one in waiting]:
            await receipt
        await producer.flush()
    assert cluster.bodies("ss-0") == [b"a0", b"a1", b"a2", b"a3"]
    assert routed == filtered == ["a0", "a1", "a2", "a3", "a4", "b0"]


async def test_a_send_that_is_cancelled_while_it_waits_for_its_partition_was_not_accepted() -> None:
    cluster = made()
    async with (
        client_of(cluster) as client,
        await client.super_stream_producer("ss", routing=first_or_second, max_unconfirmed=1) as producer,
    ):
        held = cluster.hold(c.Publish)
        await producer.send("a0")
        waiting = asyncio.create_task(producer.send("a1"))
        await until(lambda: producer._producers._known.of["ss-0"]._outbox.room.waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert producer.unsettled == 1
        held.release()
        await producer.send_wait("a2")
    assert cluster.bodies("ss-0") == [b"a0", b"a2"]


async def test_a_batch_waits_for_the_partition_without_room_and_for_no_other() -> None:
    cluster = made()
    async with (
        client_of(cluster) as client,
        await client.super_stream_producer("ss", routing=first_or_second, max_unconfirmed=2) as producer,
    ):
        held = cluster.hold(c.Publish)
        sending = asyncio.create_task(producer.send_batch(["a0", "b0", "a1", "a2", "b1", "a3"]))
        of = producer._producers._known.of
        await until(lambda: of["ss-0"]._outbox.room.waiting)
        assert (of["ss-0"].unsettled, of["ss-1"].unsettled) == (2, 2)
        held.release()
        batch = await sending
        await batch
        assert len(batch) == len(batch.receipts) == 6
    assert (cluster.bodies("ss-0"), cluster.bodies("ss-1")) == ([b"a0", b"a1", b"a2", b"a3"], [b"b0", b"b1"])


async def test_a_batch_of_which_one_partition_is_away_raises_that_and_the_others_have_theirs() -> None:
    cluster = made()
    async with (
        client_of(cluster) as client,
        await client.super_stream_producer("ss", routing=first_or_second, when_away=WhenAway.FAIL) as producer,
    ):
        cluster.move_leader("ss-0", None)
        await until(lambda: not producer._producers._known.of["ss-0"]._outbox._attached)
        with pytest.raises(BrokerAway):
            await producer.send_batch(["a0", "b0"])
        await producer.flush()
    assert (cluster.bodies("ss-0"), cluster.bodies("ss-1")) == ([], [b"b0"])


async def test_a_batch_of_which_one_message_is_none_leaves_nothing_behind() -> None:
    cluster = made()
    messages: list[Any] = ["a0", "b0", "a1", 3]
    async with (
        client_of(cluster) as client,
        await client.super_stream_producer("ss", routing=lambda _, partitions: partitions) as producer,
    ):
        with pytest.raises(InvalidArgument, match="a message is bytes, text or a Message, not int"):
            await producer.send_batch(messages)
        assert producer.unsettled == 0
    with pytest.raises(Closed, match="'ss' is closed"):
        await producer.send_batch(["a0"])
    assert (cluster.bodies("ss-0"), cluster.bodies("ss-1")) == ([], [])


# Threads


async def test_partitions_are_followed_and_sends_come_from_any_thread_when_the_tree_has_a_loop_of_its_own() -> None:
    cluster = made(3)
    async with (
        client_of(cluster, own_thread=True) as client,
        await client.super_stream_producer(
            "ss", routing=HashRouting(text), on_partitions_changed=OnPartitionsChanged.FOLLOW, refresh_s=0.02
        ) as producer,
    ):
        keys = [f"key-{number}" for number in range(300)]

        def send() -> list[Receipt | None]:
            return [producer.try_send(key) for key in keys]

        receipts = await asyncio.gather(*(asyncio.to_thread(send) for _ in range(3)))
        assert all(receipt is not None for mine in receipts for receipt in mine)
        cluster.create("ss-3")
        cluster.super_streams["ss"] = (*cluster.super_streams["ss"], ("3", "ss-3"))
        await until(lambda: len(producer.partitions) == 4)
        await asyncio.to_thread(send)
        await producer.flush(5)
        assert producer.confirmed == 1200
    routing = HashRouting(text)
    before, after = tuple(f"ss-{index}" for index in range(3)), tuple(f"ss-{index}" for index in range(4))
    for partition in after:
        expected = 3 * [key for key in keys if routing(key, before) == partition]
        expected += [key for key in keys if routing(key, after) == partition]
        assert sorted(cluster.bodies(partition)) == sorted(key.encode() for key in expected)


# Partitions that come and go


async def test_f45_a_change_while_a_removed_partition_takes_its_time_to_close_is_followed_too() -> None:
    cluster = made(3)
    async with (
        client_of(cluster, close_timeout_s=0.3) as client,
        await client.super_stream_producer(
            "ss",
            routing=lambda message, partitions: partitions[int(message)],
            on_partitions_changed=OnPartitionsChanged.FOLLOW,
            refresh_s=0.02,
        ) as producer,
    ):
        cluster.drop(c.Publish)
        receipt = await producer.send("2")
        bindings = cluster.super_streams["ss"]
        cluster.super_streams["ss"] = bindings[:2]  # unbound only: its stream is there, and confirms nothing
        await until(lambda: producer.partitions == ("ss-0", "ss-1"))
        assert not receipt.done, "the removed one waits for its confirm"
        cluster.super_streams["ss"] = bindings
        await until(lambda: producer.partitions == ("ss-0", "ss-1", "ss-2"))
        with pytest.raises(Unconfirmed):
            await receipt
        assert producer.failed == 1


async def test_f45_of_partitions_that_come_and_go_the_counts_are_kept_and_nothing_else() -> None:
    cluster = made(1)
    async with (
        client_of(cluster) as client,
        await client.super_stream_producer(
            "ss", routing=HashRouting(text), on_partitions_changed=OnPartitionsChanged.FOLLOW, refresh_s=0.02
        ) as producer,
    ):
        producers = producer._producers

        async def one_other_than(before: list[Producer]) -> None:
            await until(lambda: len(producers.all) == 1 and producers.all != before)

        async def has_ended(one: Producer) -> None:
            await until(lambda: not one._is_open)

        for number in range(1, 6):
            await producer.send_wait("m")
            before = producers.all
            cluster.create(f"ss-{number}")
            cluster.super_streams["ss"] = ((str(number), f"ss-{number}"),)
            cluster.delete(f"ss-{number - 1}")
            await one_other_than(before)
        await producer.send_wait("m")
        assert (producer.confirmed, producer.failed, producer.unsettled) == (6, 0, 0)
        assert producer.confirmed_bytes == producer.accepted_bytes > 0
        for _ in range(3):  # one that is made anew under its name, too
            before = [ended] = producers.all
            cluster.delete("ss-5")
            await has_ended(ended)
            cluster.create("ss-5")
            await one_other_than(before)
            await producer.send_wait("m")
        assert producer.confirmed == 9
        assert len(client._handles) == 2, "the producer and the one of its partition"


async def test_f45_a_change_during_the_start_is_followed_after_it() -> None:
    cluster = made(2)
    async with client_of(cluster) as client:
        hold = cluster.hold(c.DeclarePublisher)
        starting = asyncio.create_task(
            client.super_stream_producer(
                "ss",
                routing=HashRouting(text),
                on_partitions_changed=OnPartitionsChanged.FOLLOW,
                refresh_s=0.02,
            )
        )
        await until(lambda: hold.waiting)
        cluster.create("ss-2")
        cluster.super_streams["ss"] = (*cluster.super_streams["ss"], ("2", "ss-2"))
        looks = len(cluster.heard(c.Partitions))
        await until(lambda: len(cluster.heard(c.Partitions)) > looks + 1)
        hold.release()
        async with await starting as producer:
            await until(lambda: len(producer.partitions) == 3)
            await (await producer.send_batch([str(number) for number in range(30)]))
    assert cluster.bodies("ss-2")


# Options


@pytest.mark.parametrize(
    "given",
    [{"refresh_s": 0}, {"refresh_s": "1"}, {"on_partitions_changed": "follow"}, {"name": "\n"}, {"max_unconfirmed": 0}],
)
def test_options_are_checked_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        SuperStreamProducerOptions(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"start_timeout_s": 0}, "start_timeout_s is a number above 0, not 0"),
        ({"start_timeout_s": "5"}, "start_timeout_s is a number above 0, not '5'"),
        ({"on_confirm": "print"}, "on_confirm is a function that takes a receipt, not 'print'"),
    ],
)
async def test_what_a_producer_cannot_be_made_of_is_refused(given: dict[str, Any], told: str) -> None:
    async with client_of(made()) as client:
        with pytest.raises(InvalidArgument, match=told):
            await client.producer("ss-0", **given)
        with pytest.raises(InvalidArgument, match=told):
            await client.super_stream_producer("ss", routing=to_all, **given)
        assert not client._handles


async def test_the_yield_of_a_tight_loop_of_sends_lets_confirms_in() -> None:
    cluster = made()
    async with client_of(cluster) as client, await client.super_stream_producer("ss", routing=to_all) as producer:
        for number in range(3_000):
            await producer.send(str(number))
            if producer.confirmed:
                break
        assert producer.confirmed
    assert cluster.heard(c.Publish)
