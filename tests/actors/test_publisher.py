"""Publishers over a scripted cluster: what becomes of messages when something breaks, told by what the cluster has."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pykka
import pytest

from actorstream import Publish, Published, Receipt, Replay, events
from actorstream.actors import publisher
from actorstream.actors.entries import Outgoing
from actorstream.actors.future import LoopFuture
from actorstream.actors.outbox import FLUSH_MESSAGES
from actorstream.actors.publisher import Publisher
from actorstream.errors import (
    AccessRefused,
    Closed,
    InvalidArgument,
    MessageTooLarge,
    OutboxFull,
    PublisherFenced,
    PublishRejected,
    RequestTimeout,
    RestartIntensityExceeded,
    StreamDoesNotExist,
    Unconfirmed,
    UnsupportedByBroker,
)
from actorstream.producer import Producer
from actorstream.wire import commands as c
from tests.actors.publishing import client_of, declared, entities, eventually, find, published
from tests.modes import interpreted_only
from tests.peer import FakeCluster, Peer, until

pytestmark = pytest.mark.timeout(20)


def one_stream(**arguments: Any) -> FakeCluster:
    cluster = FakeCluster(**arguments)
    cluster.create("s")
    return cluster


def publishing_peer(cluster: FakeCluster) -> Peer:
    """The connection on which a publisher is declared now."""
    (peer,) = [peer for peer in cluster.connections() if peer.publishers]
    return peer


def bodies(start: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, end)]


async def send_all(producer: Producer, start: int, end: int) -> list[Receipt]:
    return [await producer.send(body) for body in bodies(start, end)]


async def settled(receipts: list[Receipt]) -> None:
    await until(lambda: all(receipt.done for receipt in receipts))


# What is unconfirmed when the connection ends


async def test_f22_a_named_producer_sends_its_window_again_and_nothing_is_there_twice() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        held = cluster.script.hold_answer(c.Publish)
        receipts = await send_all(producer, 0, 10)
        await until(lambda: len(cluster.bodies("s")) == 10)
        held.release_one()
        held.waiting.clear()
        held.rule.cancel()
        publishing_peer(cluster).drop()
        await settled(receipts)

        assert all(receipt.confirmed for receipt in receipts)
        assert cluster.bodies("s") == bodies(0, 10)


async def test_f22_without_a_name_what_was_stored_unconfirmed_is_there_twice_and_in_order() -> None:
    """I5: duplicates, but never more than the window."""
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s") as producer:
        held = cluster.script.hold_answer(c.Publish)
        receipts = await send_all(producer, 0, 5)
        await until(lambda: len(cluster.bodies("s")) == 5)
        held.rule.cancel()
        publishing_peer(cluster).drop()
        await settled(receipts)

        assert all(receipt.confirmed for receipt in receipts)
        assert cluster.bodies("s") == bodies(0, 5) * 2


async def test_f22_with_replay_fail_the_caller_hears_before_there_is_a_leader_again() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", replay=Replay.FAIL) as producer:
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 5)
        await until(lambda: held.waiting)
        held.rule.cancel()
        cluster.move_leader("s", None)
        await settled(receipts)
        assert all(isinstance(receipt.error, Unconfirmed) for receipt in receipts)

        after = await send_all(producer, 5, 7)
        cluster.move_leader("s", 0)
        await settled(after)
        assert cluster.bodies("s") == bodies(5, 7), "what failed is not sent again"


async def test_f23_messages_lost_with_an_old_leader_are_sent_again_from_the_lowest() -> None:
    """W4: a broker casts them to a dead process, and says nothing of them for ever."""
    cluster = one_stream(nodes=3)
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        lost = cluster.drop(c.Publish)
        receipts = await send_all(producer, 0, 5)
        await until(lambda: lost.hits)
        lost.cancel()
        cluster.move_leader("s", 1)
        await settled(receipts)

        assert cluster.bodies("s") == bodies(0, 5)
        assert published(cluster)[-1] == [1, 2, 3, 4, 5]


async def test_f23_a_publisher_that_the_broker_dropped_replays_all_and_no_message_fails() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        lost = cluster.drop(c.Publish, times=1)
        receipts = await send_all(producer, 0, 3)
        await until(lambda: lost.hits)
        refused = cluster.script.respond(c.Publish, code=18, times=1)
        receipts += await send_all(producer, 3, 6)
        await settled(receipts)

        assert refused.hits == 1
        assert all(receipt.confirmed for receipt in receipts)
        assert cluster.bodies("s") == bodies(0, 6)


async def test_f24_a_confirm_in_one_read_with_the_answer_to_declare_finds_its_message() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 2)
        await until(lambda: held.waiting)
        held.rule.cancel()
        # The broker confirms the moment it has declared the publisher, in the same breath.
        cluster.script.before_answer(
            c.QueryPublisherSequence, lambda x: x.peer.send(c.PublishConfirm(next(iter(x.peer.publishers)), (1,)))
        )
        again = cluster.hold(c.Publish)
        publishing_peer(cluster).drop()
        await until(lambda: again.waiting)

        assert receipts[0].confirmed
        assert not receipts[1].done
        again.release()
        await settled(receipts)


async def test_f25_what_is_sent_while_the_socket_dies_is_sent_again() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        publishing_peer(cluster).link.reset()
        receipts = await send_all(producer, 0, 20)
        await settled(receipts)

        assert all(receipt.confirmed for receipt in receipts)
        assert cluster.bodies("s") == bodies(0, 20)


async def test_f26_the_replay_is_written_before_anything_new_and_under_its_old_ids() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 5)
        await until(lambda: held.waiting)
        held.rule.cancel()
        declaring = cluster.hold(c.DeclarePublisher)
        publishing_peer(cluster).drop()
        await until(lambda: declaring.waiting)
        receipts += await send_all(producer, 5, 10)
        declaring.release()
        await settled(receipts)

        assert published(cluster)[-1] == list(range(1, 11))
        assert cluster.bodies("s") == bodies(0, 10)


async def test_f26_a_named_producer_of_a_second_client_goes_on_where_the_first_one_ended() -> None:
    cluster = one_stream()
    for start in (0, 5):
        async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
            await settled(await send_all(producer, start, start + 5))
            assert await producer.last_publishing_id() == start + 5

    assert cluster.bodies("s") == bodies(0, 10)


async def test_f28_a_producer_whose_name_is_used_by_another_one_is_told() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        producer = await client.producer("s", name="n")
        await producer.send_wait(b"mine")
        held = cluster.hold(c.Publish)
        receipt = await producer.send(b"would be dropped and confirmed")
        await until(lambda: held.waiting)
        cluster.stream("s").sequences["n"] = 1000
        publishing_peer(cluster).drop()
        await settled([receipt])

        assert isinstance(receipt.error, Unconfirmed)
        with pytest.raises(Closed) as raised:
            await producer.send(b"x")
        assert isinstance(raised.value.__cause__, PublisherFenced)


async def test_f28_a_client_has_one_producer_of_a_name_at_a_time() -> None:
    cluster = one_stream()
    cluster.create("other")
    async with client_of(cluster) as client:
        producer = await client.producer("s", name="n")
        with pytest.raises(InvalidArgument, match="has a producer named 'n' of 's' already"):
            await client.producer("s", name="n")
        await client.producer("other", name="n")
        await client.producer("s", name="m")
        await asyncio.gather(client.producer("s"), client.producer("s"))
        await producer.send_wait(b"x")
        await producer.close()
        async with await client.producer("s", name="n") as again:
            await again.send_wait(b"y")

    assert cluster.bodies("s") == [b"x", b"y"]


async def test_f28_a_producer_waits_for_the_end_of_one_of_its_name_that_is_being_closed() -> None:
    cluster = one_stream()
    async with client_of(cluster, close_timeout_s=5.0) as client:
        first = await client.producer("s", name="n")
        await first.send_wait(b"0")
        cluster.move_leader("s", None)
        await until(lambda: len(cluster.heard(c.Metadata)) > 5)
        sent = await send_all(first, 1, 50)
        closing = asyncio.create_task(first.close())
        starting = asyncio.create_task(client.producer("s", name="n"))
        await asyncio.sleep(0.05)
        cluster.move_leader("s", 0)
        second = await starting
        assert closing.done() or not first.unsettled
        await settled(await send_all(second, 50, 99))
        await settled(sent)
        await closing

    assert cluster.bodies("s") == bodies(0, 99)


async def test_f30_a_broker_that_falls_over_the_query_of_the_sequence_is_asked_again() -> None:
    cluster = one_stream()
    crash = cluster.script.disconnect(c.QueryPublisherSequence, times=3)
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        await producer.send_wait(b"x")

    assert crash.hits == 3


async def test_f31_the_sequence_confirms_nothing() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 3)
        await until(lambda: held.waiting)
        cluster.stream("s").sequences["n"] = 3  # accepted, and not committed
        held.waiting.clear()
        publishing_peer(cluster).drop()
        await until(lambda: held.waiting)

        assert not any(receipt.done for receipt in receipts)
        assert published(cluster)[-1] == [1, 2, 3]


# Recovering


@pytest.mark.parametrize("name", ["", "n"])
async def test_f01_a_leader_whose_node_died_is_followed(name: str) -> None:
    cluster = one_stream(nodes=3)
    async with client_of(cluster) as client, await client.producer("s", name=name) as producer:
        await settled(await send_all(producer, 0, 5))
        cluster.node(0).stop()
        receipts = await send_all(producer, 5, 10)
        await settled(receipts)

        assert all(receipt.confirmed for receipt in receipts)
        assert publishing_peer(cluster).node.number != 0
        assert cluster.bodies("s") == bodies(0, 10)


async def test_f01_while_there_is_no_leader_messages_wait() -> None:
    cluster = one_stream(nodes=3)
    async with client_of(cluster) as client, await client.producer("s") as producer:
        cluster.move_leader("s", None)
        receipts = await send_all(producer, 0, 5)
        await until(lambda: len(cluster.heard(c.Metadata)) > 5)
        assert not any(receipt.done for receipt in receipts)
        cluster.move_leader("s", 2)
        await settled(receipts)

        assert cluster.bodies("s") == bodies(0, 5)


async def test_f02_a_leader_that_moves_while_connections_stay_is_followed() -> None:
    """I12: one publisher on the brokers, and not one more for each move."""
    cluster = one_stream(nodes=3)
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        for round_, leader in enumerate((1, 2, 0, 1)):
            cluster.move_leader("s", leader)
            await settled(await send_all(producer, round_, round_ + 1))
            assert publishing_peer(cluster).node.number == leader

        assert declared(cluster) == ["s"]
        assert cluster.bodies("s") == bodies(0, 4)


async def test_f03_a_metadata_update_that_left_the_publisher_alive_ends_with_one_publisher() -> None:
    """W2, W3: the broker keeps what did not depend on the member that died, and refuses its name a second time."""
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        for round_ in range(3):
            publishing_peer(cluster).metadata_update("s")
            await until(lambda before=round_: len(cluster.heard(c.DeclarePublisher)) == before + 2)  # type: ignore[misc]
            await settled(await send_all(producer, round_, round_ + 1))

        assert declared(cluster) == ["s"]
        assert cluster.bodies("s") == bodies(0, 3)


async def test_f04_after_a_full_restart_each_producer_is_there_once() -> None:
    cluster = FakeCluster(nodes=3)
    for number in range(3):
        cluster.create(f"s{number}", leader=number)
    async with client_of(cluster) as client:
        producers = [await client.producer(f"s{number}", name="n") for number in range(3)]
        for node in cluster.nodes:
            node.stop()
        receipts = [await producer.send(b"x") for producer in producers]
        await until(lambda: len(cluster.network.attempts) > 12)
        for node in cluster.nodes:
            node.start()
        await settled(receipts)

        assert all(receipt.confirmed for receipt in receipts)
        assert declared(cluster) == ["s0", "s1", "s2"]


async def test_f07_a_publisher_whose_declaration_was_answered_too_late_is_taken_back() -> None:
    cluster = one_stream()
    late = cluster.script.hold_answer(c.DeclarePublisher, times=1)
    async with client_of(cluster, rpc_timeout_s=0.1) as client, await client.producer("s", name="n") as producer:
        await producer.send_wait(b"x")
        assert len(cluster.heard(c.DeclarePublisher)) == 2
        late.release()
        await producer.send_wait(b"y")

        assert declared(cluster) == ["s"]
        assert await entities(client) == 1


async def test_f10_connections_that_die_during_recovery_leave_one_publisher() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        deaths = cluster.script.disconnect(c.DeclarePublisher, times=10)
        receipts = await send_all(producer, 0, 5)
        publishing_peer(cluster).drop()
        receipts += await send_all(producer, 5, 8)
        await settled(receipts)
        await producer.send_wait(b"8")

        assert deaths.hits == 10
        assert declared(cluster) == ["s"]
        assert cluster.bodies("s") == bodies(0, 9)


async def test_f12_after_a_close_from_the_broker_it_is_answered_and_publishing_goes_on() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        peer = publishing_peer(cluster)
        peer.close(1, "maintenance")
        await settled(await send_all(producer, 0, 3))

        assert isinstance(peer.received[-1], c.CloseResponse)
        assert cluster.bodies("s") == bodies(0, 3)


async def test_f21_an_alarm_at_declaration_passes() -> None:
    cluster = one_stream()
    alarm = cluster.script.respond(c.DeclarePublisher, code=17, times=5)
    async with client_of(cluster) as client, await client.producer("s") as producer:
        await producer.send_wait(b"x")

    assert alarm.hits == 5


async def test_f38_a_silent_broker_on_a_living_connection_is_left_for_a_fresh_one() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", confirm_timeout_s=0.3) as producer:
        before = publishing_peer(cluster)
        lost = cluster.drop(c.Publish)
        receipt = await producer.send(b"x")
        await settled([receipt])
        assert isinstance(receipt.error, Unconfirmed)
        lost.cancel()
        await producer.send_wait(b"y")

        assert publishing_peer(cluster) is not before
        assert cluster.bodies("s") == [b"y"]


async def test_f38_a_named_producer_sends_again_what_had_given_up() -> None:
    """A gap in the ids would let the broker take a later one for the highest, and drop what comes after."""
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n", confirm_timeout_s=0.3) as producer:
        lost = cluster.drop(c.Publish)
        receipts = await send_all(producer, 0, 2)
        await settled(receipts)
        lost.cancel()
        await producer.send_wait(b"2")

        assert all(isinstance(receipt.error, Unconfirmed) for receipt in receipts)
        assert cluster.bodies("s") == bodies(0, 3)
        assert (producer.confirmed, producer.failed, producer.unsettled) == (1, 2, 0)


@pytest.mark.parametrize("name", ["", "n"])
async def test_f38_deadlines_are_kept_while_there_is_no_leader(name: str) -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name=name, confirm_timeout_s=0.3) as producer:
        cluster.move_leader("s", None)
        await until(lambda: len(cluster.heard(c.Metadata)) > 3)
        receipts = await send_all(producer, 0, 3)  # the actor has nothing to send them on
        await settled(receipts)
        assert all(isinstance(receipt.error, Unconfirmed) for receipt in receipts)
        cluster.move_leader("s", 0)
        await until(lambda: any(peer.publishers for peer in cluster.connections()))
        await producer.send_wait(b"new")

        assert cluster.bodies("s") == [b"new"], "what was never sent and gave up is not sent any more"


async def test_f41_a_deleted_stream_ends_its_producer_and_nothing_is_retried() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        producer = await client.producer("s")
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 3)
        await until(lambda: held.waiting)
        cluster.delete("s")
        await settled(receipts)

        assert all(isinstance(receipt.error, Unconfirmed) for receipt in receipts)
        with pytest.raises(Closed) as raised:
            await producer.send(b"x")
        assert isinstance(raised.value.__cause__, StreamDoesNotExist)
        assert await find(client, "Publisher") == []
        assert await entities(client) == 0


async def test_f41_a_stream_deleted_between_the_check_and_the_declaration() -> None:
    cluster = one_stream()
    cluster.script.before(c.DeclarePublisher, lambda _: cluster.streams.pop("s"), times=1)
    async with client_of(cluster) as client:
        with pytest.raises(StreamDoesNotExist):
            await client.producer("s")
        assert await entities(client) == 0


@pytest.mark.parametrize("name", ["", "n"])
async def test_f42_a_stream_made_anew_gets_what_was_unconfirmed_and_ids_go_on(name: str) -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name=name) as producer:
        await settled(await send_all(producer, 0, 3))
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 3, 5)
        await until(lambda: held.waiting)
        held.rule.cancel()
        cluster.recreate("s")
        receipts += await send_all(producer, 5, 7)
        await settled(receipts)

        assert cluster.bodies("s") == bodies(3, 7)
        assert [receipt.publishing_id for receipt in receipts] == [4, 5, 6, 7]


async def test_f43_a_refusal_of_part_of_a_frame_fails_that_part() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 4)
        await until(lambda: held.waiting)
        (publisher,) = publishing_peer(cluster).publishers
        publishing_peer(cluster).send(c.PublishError(publisher, (c.PublishingError(2, 17),)))
        publishing_peer(cluster).send(c.PublishConfirm(publisher, (1, 3)))
        await until(lambda: producer.unsettled == 1)
        held.waiting.clear()
        held.rule.cancel()
        publishing_peer(cluster).drop()
        await settled(receipts)

        assert [receipt.error is None for receipt in receipts] == [True, False, True, True]
        assert isinstance(receipts[1].error, PublishRejected)
        assert published(cluster)[-1] == [4], "what has its outcome is not sent again"


async def test_f83_an_outage_of_many_attempts_is_not_taken_for_a_bug() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        deaths = cluster.script.disconnect(c.DeclarePublisher, times=40)
        publishing_peer(cluster).drop()
        await producer.send_wait(b"x")

        assert deaths.hits == 40


async def test_f84_ids_and_window_outlive_a_crash_of_the_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = one_stream()
    crashes = 0
    flush = Publisher._flush

    def crash(self: Publisher) -> None:
        nonlocal crashes
        flush(self)
        if crashes < 3 and self._connection is not None:
            crashes += 1
            raise ValueError("a bug")

    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        monkeypatch.setattr(Publisher, "_flush", crash)
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 5)
        await until(lambda: len(held.waiting) == 4)
        held.release()  # the first three to publishers that are not there any more
        await settled(receipts)

        assert crashes == 3
        assert all(receipt.confirmed for receipt in receipts)
        assert cluster.bodies("s") == bodies(0, 5)
        await producer.send_wait(b"5")


async def test_f80_a_publisher_that_keeps_crashing_ends_and_everybody_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = one_stream()
    cluster.create("other")
    async with client_of(cluster) as client:
        producer, other = await client.producer("s"), await client.producer("other")

        send = Publisher._send

        def crash(self: Publisher, outgoing: Outgoing) -> None:
            if self._stream == "s":
                raise ValueError("a bug")
            send(self, outgoing)

        monkeypatch.setattr(Publisher, "_send", crash)
        receipts = await send_all(producer, 0, 3)
        flushing = asyncio.create_task(producer.flush())
        await settled(receipts)
        await flushing

        assert all(isinstance(receipt.error, Unconfirmed) for receipt in receipts)
        with pytest.raises(Closed) as raised:
            await producer.send(b"x")
        assert isinstance(raised.value.__cause__, RestartIntensityExceeded)
        assert isinstance(raised.value.__cause__.__cause__, ValueError)
        await other.send_wait(b"x")


async def test_f85_a_stream_that_does_not_recover_holds_up_no_other() -> None:
    cluster = FakeCluster(nodes=3)
    for number in range(5):
        cluster.create(f"s{number}")
    async with client_of(cluster) as client:
        producers = [await client.producer(f"s{number}") for number in range(5)]
        stuck = cluster.hold(c.DeclarePublisher, when=lambda command: command.stream == "s0")
        publishing_peer(cluster).drop()
        await asyncio.gather(*(producer.send_wait(b"x") for producer in producers[1:]))

        await until(lambda: stuck.waiting)
        stuck.release()
        await producers[0].send_wait(b"x")


async def test_f89_a_permission_that_was_withdrawn_ends_the_producer() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        producer = await client.producer("s")
        refused = cluster.script.respond(c.DeclarePublisher, code=16)
        publishing_peer(cluster).metadata_update("s")
        await until(lambda: refused.hits)
        await until(lambda: "closed" in repr(producer))

        with pytest.raises(Closed) as raised:
            await producer.send(b"x")
        assert isinstance(raised.value.__cause__, AccessRefused)
        assert refused.hits == 1
        assert await entities(client) == 0


async def test_i3_i4_one_broken_connection_after_the_other_loses_nothing_and_repeats_nothing() -> None:
    cluster = one_stream(nodes=3)
    async with client_of(cluster) as client, await client.producer("s", name="n", max_unconfirmed=50) as producer:
        receipts: list[Receipt] = []
        for round_ in range(20):
            sending = asyncio.create_task(send_all(producer, 40 * round_, 40 * round_ + 40))
            if round_ % 3 == 0:
                cluster.move_leader("s", round_ % 2)
            elif round_ % 3 == 1:
                for peer in cluster.connections():
                    if peer.publishers:
                        peer.drop()
            receipts += await sending
        await settled(receipts)

        assert all(receipt.confirmed for receipt in receipts)
        assert cluster.bodies("s") == bodies(0, 800)
        assert declared(cluster) == ["s"]


# Bounds


async def test_f36_f37_a_full_window_waits_through_an_outage_and_goes_on() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n", max_unconfirmed=5) as producer:
        cluster.move_leader("s", None)
        sending = asyncio.create_task(send_all(producer, 0, 50))
        await until(lambda: producer.unsettled == 5)
        await until(lambda: len(cluster.heard(c.Metadata)) > 5)
        assert producer.unsettled == 5
        cluster.move_leader("s", 0)
        await settled(await sending)

        assert cluster.bodies("s") == bodies(0, 50)


async def test_f36_a_send_that_finds_no_room_in_time_was_not_accepted() -> None:
    cluster = one_stream()
    async with (
        client_of(cluster) as client,
        await client.producer("s", max_unconfirmed=1, send_timeout_s=0.05) as producer,
    ):
        held = cluster.hold(c.Publish)
        first = await producer.send(b"first")
        with pytest.raises(OutboxFull):
            await producer.send(b"second")
        assert producer.try_send(b"third") is None
        held.release()
        await settled([first])
        await producer.send_wait(b"fourth")

        assert cluster.bodies("s") == [b"first", b"fourth"]


async def test_a_send_that_is_cancelled_while_it_waits_was_not_accepted() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", max_unconfirmed=1) as producer:
        held = cluster.hold(c.Publish)
        first = await producer.send(b"first")
        waiting = asyncio.create_task(producer.send(b"second"))
        await until(lambda: producer._outbox.room.waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert producer.unsettled == 1
        held.release()
        await settled([first])
        await producer.send_wait(b"third")

        assert cluster.bodies("s") == [b"first", b"third"]


@interpreted_only
async def test_f36_of_many_that_wait_for_room_no_more_are_woken_than_find_it() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", max_unconfirmed=1) as producer:
        turns = 0
        wait = producer._outbox.room.wait

        def counted(messages: int, size: int, *, again: bool = False) -> LoopFuture[None]:
            nonlocal turns
            turns += 1
            return wait(messages, size, again=again)

        producer._outbox.room.wait = counted  # type: ignore[method-assign]
        sending = [asyncio.create_task(producer.send(body)) for body in bodies(0, 300)]
        await settled([await one for one in sending])

        assert turns <= 600, "each waits once, and seldom again"
        assert cluster.bodies("s") == bodies(0, 300), "in turn"


async def test_f36_the_room_of_a_send_that_is_cancelled_when_it_is_its_turn_goes_to_the_next() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", max_unconfirmed=1) as producer:
        held = cluster.hold(c.Publish)
        await producer.send(b"first")
        waiting = [asyncio.create_task(producer.send(body)) for body in (b"second", b"third")]
        await until(lambda: producer._outbox.room.waiting == 2)
        # When its turn has come, and before it could take it:
        queue = producer._outbox.room._queue
        assert queue
        queue[0][2].add_done_callback(lambda _: waiting[0].cancel())
        held.release()
        await settled([await asyncio.wait_for(waiting[1], 5)])

        assert waiting[0].cancelled()
        assert cluster.bodies("s") == [b"first", b"third"]


async def test_a_flush_waits_for_what_was_accepted_before_and_not_for_what_is_sent_meanwhile() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s") as producer:
        before = await send_all(producer, 0, 10)
        flushing = asyncio.create_task(producer.flush(5))
        await settled(before)
        held = cluster.hold(c.Publish)
        after = await producer.send(b"10")
        await flushing
        assert not after.done
        with pytest.raises(TimeoutError):
            await producer.flush(0.05)
        held.release()
        await producer.flush(5)
        assert after.done


async def test_f79_a_cancelled_wait_for_a_confirm_takes_nothing_back_and_breaks_nothing() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s") as producer:
        held = cluster.hold(c.Publish)
        waiting = asyncio.create_task(producer.send_wait(b"first"))
        await until(lambda: held.waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        held.release()
        await producer.send_wait(b"second")

        assert cluster.bodies("s") == [b"first", b"second"]
        assert producer.confirmed == 2


async def test_who_waits_for_one_message_after_the_other_has_each_sent_before_the_loop_turns() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s") as producer:
        sending = producer.send_wait(b"0")
        try:
            sending.send(None)  # up to where it waits
            assert producer._outbox.in_flight == 1
        finally:
            sending.close()
        await producer.flush(5)
        assert cluster.bodies("s") == [b"0"]


async def test_of_many_who_wait_for_one_message_each_all_but_the_first_share_a_frame() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s") as producer:
        await asyncio.gather(*map(producer.send_wait, bodies(0, 50)))

        assert cluster.bodies("s") == bodies(0, 50)
        assert [len(frame.items) for frame in cluster.heard(c.Publish)] == [1, 49]


async def test_f34_batches_are_cut_by_their_size_on_the_wire() -> None:
    cluster = one_stream(frame_max=2048, version="4.3.5")  # it closes connections for larger frames
    async with client_of(cluster) as client, await client.producer("s") as producer:
        sizes = [0, 1, 255, 256, 1000, 2000, 700, 2010] * 5
        batch = await producer.send_batch([b"x" * size for size in sizes])
        await batch

        assert [len(body) for body in cluster.bodies("s")] == sizes
        assert len(cluster.connections()) == 2, "control and publisher: none was closed"


async def test_f34_one_too_large_message_fails_by_itself_before_it_is_queued() -> None:
    cluster = one_stream(frame_max=2048, version="4.3.5")
    async with client_of(cluster) as client, await client.producer("s") as producer:
        largest = b"x" * (2048 - 17 - 12)
        await producer.send_wait(largest)
        with pytest.raises(MessageTooLarge) as raised:
            await producer.send(largest + b"x")
        assert (raised.value.size, raised.value.limit) == (2049, 2048)
        with pytest.raises(MessageTooLarge):
            await producer.send_batch([b"fine", largest + b"x"])

        assert producer.unsettled == 0
        assert cluster.bodies("s") == [largest]


async def test_f34_a_broker_with_smaller_frames_costs_what_does_not_fit_and_nothing_else() -> None:
    cluster = one_stream(version="4.3.5")
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        cluster.move_leader("s", None)
        await until(lambda: len(cluster.heard(c.Metadata)) > 2)
        large, small = await producer.send(b"x" * 5000), await producer.send(b"small")
        cluster.tune = c.Tune(2048, 60)
        publishing = [
            peer for peer in cluster.connections() if "-publisher-" in peer.client_properties["connection_name"]
        ]
        for peer in publishing:
            peer.drop()
        cluster.move_leader("s", 0)
        await settled([large, small])

        assert isinstance(large.error, MessageTooLarge)
        assert cluster.bodies("s") == [b"small"]


async def test_a_flush_of_very_many_lets_the_loop_turn_so_that_confirms_come_in_between() -> None:
    cluster = one_stream()
    count = 5 * FLUSH_MESSAGES
    async with client_of(cluster) as client, await client.producer("s", max_unconfirmed=count) as producer:
        sent_at_first_confirm: list[int] = []

        def confirmed(_: Receipt) -> None:
            sent_at_first_confirm.append(sum(len(ids) for ids in published(cluster)))

        batch = await producer.send_batch([b"x"] * count)
        batch.receipts[0].add_done_callback(confirmed)
        await batch

        assert sum(len(ids) for ids in published(cluster)) == count
        assert sent_at_first_confirm[0] < count


# Whose name it is


async def test_f28_the_broker_is_asked_for_the_sequence_only_after_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    """W7: the question is not free, and without a confirm nothing can have been dropped."""
    looks: list[Publisher] = []
    look = Publisher._check_fence_if_confirmed

    def counted(self: Publisher) -> None:
        looks.append(self)
        look(self)

    monkeypatch.setattr(publisher, "FENCE_CHECK_S", 0.01)
    monkeypatch.setattr(Publisher, "_check_fence_if_confirmed", counted)
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        await until(lambda: len(looks) > 3)
        assert len(cluster.heard(c.QueryPublisherSequence)) == 1
        await producer.send_wait(b"0")
        await until(lambda: len(cluster.heard(c.QueryPublisherSequence)) == 2)


async def test_f28_an_answer_that_never_comes_is_no_second_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FENCE_CHECK_S", 0.01)
    cluster = one_stream()
    async with client_of(cluster, rpc_timeout_s=0.05) as client, await client.producer("s", name="n") as producer:
        cluster.drop(c.QueryPublisherSequence)
        await producer.send_wait(b"0")
        await until(lambda: len(cluster.heard(c.QueryPublisherSequence)) >= 2)
        await producer.send_wait(b"1")
        await until(lambda: len(cluster.heard(c.QueryPublisherSequence)) >= 3)
        assert cluster.bodies("s") == [b"0", b"1"]
        assert len(cluster.heard(c.DeclarePublisher)) == 1


# What not every broker can do


@pytest.mark.parametrize("version", ["3.10.25", "3.12.14"])
async def test_a_producer_that_filters_does_not_start_on_a_broker_without_filters(version: str) -> None:
    cluster = one_stream(version=version)
    async with client_of(cluster) as client:
        with pytest.raises(UnsupportedByBroker, match=f"filtering needs RabbitMQ 3.13 or newer.* {version}"):
            await client.producer("s", filter_value=lambda _: "x")
        assert not cluster.heard(c.DeclarePublisher)


@pytest.mark.parametrize("version", ["3.10.25", "3.12.14"])
async def test_one_filter_value_on_a_broker_without_filters_fails_alone(version: str) -> None:
    cluster = one_stream(version=version)
    async with client_of(cluster) as client, await client.producer("s") as producer:
        with pytest.raises(UnsupportedByBroker):
            await producer.send(b"x", filter_value="x")
        with pytest.raises(UnsupportedByBroker):
            await producer.ref.ask(Publish(b"x", filter_value="x"), block=False)
        await producer.send_wait(b"y")

        assert cluster.bodies("s") == [b"y"]
        assert not cluster.heard(c.PublishFiltered)


async def test_what_waits_with_filter_values_ends_on_a_broker_that_is_older_than_the_last_one() -> None:
    """In a cluster that is taken back to an older version; the frame would cost the connection, again and again."""
    cluster = one_stream()
    async with client_of(cluster) as client:
        producer = await client.producer("s")
        held = cluster.hold(c.PublishFiltered)
        receipt = await producer.send(b"x", filter_value="x")
        await until(lambda: held.waiting)
        cluster.version = "3.12.14"
        publishing_peer(cluster).drop()
        with pytest.raises(Unconfirmed, match=r"filtering needs RabbitMQ 3\.13"):
            await receipt
        with pytest.raises(Closed) as raised:
            await producer.send(b"y")
        assert isinstance(raised.value.__cause__, UnsupportedByBroker)


# Closing


async def test_f39_f40_close_waits_for_confirms_before_it_leaves_the_broker() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        producer = await client.producer("s")
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 3)
        closing = asyncio.create_task(producer.close())
        await until(lambda: held.waiting)
        assert not cluster.heard(c.DeletePublisher)
        held.release()
        await closing

        assert all(receipt.confirmed for receipt in receipts)
        await until(lambda: cluster.heard(c.DeletePublisher))
        await until(lambda: declared(cluster) == [])
        with pytest.raises(Closed):
            await producer.send(b"x")


async def test_f39_close_gives_what_is_left_its_outcome_when_its_time_is_over() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        producer = await client.producer("s", max_unconfirmed=3)
        held = cluster.hold(c.Publish)
        receipts = await send_all(producer, 0, 3)
        waiting = asyncio.create_task(producer.send(b"no room"))
        await until(lambda: held.waiting)
        await until(lambda: producer._outbox.room.waiting)
        closing = asyncio.create_task(producer.close(timeout=0.2))
        with pytest.raises(Closed):
            await waiting  # at once, and not when the time is over
        assert not receipts[0].done
        await closing
        await producer.close()

        assert all(isinstance(receipt.error, Unconfirmed) for receipt in receipts)
        assert producer.unsettled == 0
        assert await find(client, "Publisher") == []


async def bound(seconds: float, work: Any) -> None:
    begin = time.monotonic()
    await work
    assert time.monotonic() - begin < seconds


async def test_f36_what_needs_much_room_is_not_overtaken_for_ever_by_what_needs_little() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with client_of(cluster) as client, await client.producer("s", max_unconfirmed=10) as producer:
        sending = True

        async def send() -> None:
            while sending:
                await producer.send_wait("one")

        async def send_batches() -> None:
            while sending:
                await producer.send_batch(["one of many"] * 3)

        others = [asyncio.create_task(send()) for _ in range(6)]
        others.append(asyncio.create_task(send_batches()))
        for _ in range(20):
            await asyncio.wait_for(producer.send_sub_entry(["large"] * 9), 2)
        sending = False
        await asyncio.gather(*others)
        assert producer._outbox.room.waiting == 0
        assert not producer._outbox.room.others_first


@pytest.mark.parametrize("state", ["no leader", "refused", "frozen", "declaring", "cut off", "publishing"])
async def test_i14_close_is_bounded_in_every_state(state: str) -> None:
    cluster = one_stream()
    async with client_of(cluster, close_timeout_s=0.3) as client:
        producer = await client.producer("s")
        held = cluster.hold((c.DeclarePublisher, c.Publish))
        match state:
            case "no leader":
                cluster.move_leader("s", None)
            case "refused":
                cluster.node(0).stop()
            case "frozen":
                cluster.node(0).freeze()
            case "cut off":
                cluster.node(0).cut_off()
            case "declaring":
                publishing_peer(cluster).drop()
                await until(lambda: held.waiting)
        receipt = await producer.send(b"x")
        await bound(1.0, producer.close())
        assert isinstance(receipt.error, Unconfirmed)
        await bound(2.0, client.close())


@pytest.mark.parametrize("where", ["no leader", "declaring", "connecting"])
async def test_i14_a_start_that_is_cancelled_or_takes_too_long_leaves_nothing_behind(where: str) -> None:
    cluster = one_stream()
    async with client_of(cluster, rpc_timeout_s=30.0) as client:  # nothing passes by itself
        match where:
            case "no leader":
                cluster.move_leader("s", None)
            case "declaring":
                cluster.drop(c.DeclarePublisher)
            case "connecting":
                cluster.hold(c.Open)
        with pytest.raises(RequestTimeout, match="the start of a producer of 's'"):
            await client.producer("s", start_timeout_s=0.1)
        starting = asyncio.create_task(client.producer("s"))
        await until(lambda: client._handles)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

        assert await find(client, "Publisher") == []
        await eventually(client, 0)


async def test_f82_a_producer_that_waits_and_one_that_does_not_have_pauses_of_their_own() -> None:
    cluster = one_stream()
    cluster.create("other")
    async with client_of(cluster) as client, await client.producer("other") as other:
        cluster.script.respond(c.DeclarePublisher, code=17, when=lambda command: command.stream == "s")
        starting = asyncio.create_task(client.producer("s"))
        await until(lambda: len(cluster.heard(c.DeclarePublisher)) > 10)
        publishing_peer(cluster).metadata_update("other")
        await until(lambda: len([one for one in cluster.heard(c.DeclarePublisher) if one.stream == "other"]) == 2)
        await other.send_wait(b"x")
        restarts = {node.name.split("-")[0]: node.restarts for node in await find(client, "Publisher")}
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    assert restarts["other"] == 1
    assert restarts["s"] >= 5


# Ids


async def test_f32_f33_more_publishers_than_a_connection_has_ids_for() -> None:
    cluster = FakeCluster()
    for number in range(300):
        cluster.create(f"s{number}")
    async with client_of(cluster) as client:
        producers = await asyncio.gather(*(client.producer(f"s{number}") for number in range(300)))
        counts = [len(peer.publishers) for peer in cluster.connections() if peer.publishers]
        assert sorted(counts) == [44, 256]
        await asyncio.gather(*(producer.send_wait(b"x") for producer in producers))
        assert all(cluster.bodies(f"s{number}") == [b"x"] for number in range(300))

        await asyncio.gather(*(producer.close() for producer in producers))
        await eventually(client, 0)
        assert declared(cluster) == []


# Told and asked by actors


class Collector(pykka.ThreadingActor):
    def __init__(self, outcomes: list[Published]) -> None:
        super().__init__()
        self.outcomes = outcomes

    def on_receive(self, message: object) -> None:
        assert isinstance(message, Published)
        self.outcomes.append(message)


async def test_a_told_message_is_published_and_its_outcome_comes_back() -> None:
    cluster = one_stream()
    outcomes: list[Published] = []
    collector = Collector.start(outcomes)
    try:
        async with client_of(cluster) as client, await client.producer("s", max_unconfirmed=2) as producer:
            held = cluster.hold(c.Publish)
            for number in range(3):
                producer.ref.tell(Publish(b"%d" % number, reply_to=collector, context=number))
            await until(lambda: len(outcomes) == 1)
            assert outcomes[0].context == 2
            assert isinstance(outcomes[0].error, OutboxFull)
            held.release()
            await until(lambda: len(outcomes) == 3)
            assert [(one.context, one.error) for one in outcomes[1:]] == [(0, None), (1, None)]
            await producer.ref.ask(Publish("asked"), block=False)
            with pytest.raises(InvalidArgument):
                await producer.ref.ask(Publish(7), block=False)  # type: ignore[arg-type]

            assert cluster.bodies("s") == [b"0", b"1", b"asked"]
    finally:
        await asyncio.to_thread(collector.stop)


class Broken:
    def tell(self, _message: object) -> None:
        raise RuntimeError("a user's bug")


@pytest.mark.parametrize(
    "poison",
    [
        Publish("\ud800"),
        Publish(None),  # type: ignore[arg-type]
        Publish(b"x", publishing_id=-1),
        Publish(b"x", publishing_id="7"),  # type: ignore[arg-type]
        Publish(None, reply_to=Broken()),  # type: ignore[arg-type]
        Publish(b"x" * 5000),
    ],
)
async def test_f35_no_told_message_can_end_the_publisher(poison: Publish) -> None:
    cluster = one_stream(frame_max=2048)
    async with client_of(cluster) as client, await client.producer("s") as producer:
        channel = client._grown.bus.listen()
        producer.ref.tell(poison)
        producer.ref.tell(Publish(b"fine"))
        await producer.flush()
        await until(lambda: cluster.bodies("s") == [b"fine"])
        (publisher,) = await find(client, "Publisher")
        happened = [channel.get_nowait() for _ in range(len(channel))]

        assert publisher.restarts == 0
        assert [type(event) for event in happened] == [events.PublishFailed]


async def test_a_ref_is_dead_when_its_producer_is_closed() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        producer = await client.producer("s")
        await producer.close()

        with pytest.raises(pykka.ActorDeadError):
            producer.ref.tell(Publish(b"x"))


async def test_in_a_thread_of_its_own_the_tree_publishes_for_any_thread() -> None:
    cluster = one_stream()
    async with client_of(cluster, own_thread=True) as client, await client.producer("s", name="n") as producer:
        receipts = [receipt for number in range(50) if (receipt := producer.try_send(b"%d" % number))]
        assert len(receipts) == 50
        await asyncio.to_thread(receipts[-1].result, 5)
        assert all(receipt.confirmed for receipt in receipts)


async def test_on_confirm_is_called_with_every_receipt_and_an_error_in_it_is_told() -> None:
    cluster = one_stream()
    called: list[Receipt] = []
    complaints: list[dict[str, Any]] = []

    async def on_confirm(receipt: Receipt) -> None:
        called.append(receipt)
        if len(called) == 1:
            raise ValueError("a user's bug")

    async with client_of(cluster) as client, await client.producer("s", on_confirm=on_confirm) as producer:
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        receipts = await send_all(producer, 0, 3)
        await producer.flush()
        await until(lambda: len(called) == 3)
        await until(lambda: complaints)
        loop.set_exception_handler(before)

    assert called == receipts
    assert [type(context["exception"]) for context in complaints] == [ValueError]
