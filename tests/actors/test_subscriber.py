"""Subscribers over a broker that misbehaves: what is read is whole, and what cannot be read is told."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import actorstream
from actorstream import Client, ConnectionOptions, Consumer, OnGap, OnTruncated, errors, events
from actorstream.actors.connection import Connection
from actorstream.actors.subscriber import BROKEN_CHUNK_TRIES, Subscriber
from actorstream.backoff import BackoffPolicy
from actorstream.compression import Compression
from actorstream.offset import OffsetType
from actorstream.wire import commands as c
from actorstream.wire.commands import SubBatch
from actorstream.wire.compression import compress
from actorstream.wire.constants import ResponseCode
from tests.actors.clock import settle
from tests.peer import FakeCluster, Peer, until

QUICK = BackoffPolicy(base_s=0.001, cap_s=0.01)


@asynccontextmanager
async def connected(cluster: FakeCluster, **options: Any) -> AsyncIterator[Client]:
    settings = ConnectionOptions(**{"backoff": QUICK, "rpc_timeout_s": 5.0, **options})
    async with actorstream.connect(cluster.uris, options=settings, opener=cluster.open) as client:
        yield client


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def fill(cluster: FakeCluster, stream: str, chunks: int, size: int = 5) -> int:
    """Write chunks of numbered messages, each number its offset; how many there are then."""
    for _ in range(chunks):
        start = cluster.stream(stream).next_offset
        cluster.publish(stream, numbered(size, start))
    return cluster.stream(stream).next_offset


async def take(consumer: Consumer, count: int) -> list[int]:
    async with asyncio.timeout(5):
        messages = [await anext(consumer) for _ in range(count)]
    assert [int(message.body) for message in messages] == [message.offset for message in messages]
    return [message.offset for message in messages]


def subscribed(cluster: FakeCluster) -> list[tuple[Peer, int]]:
    return [(peer, number) for peer in cluster.connections() for number in peer.subscriptions]


def subscribes(cluster: FakeCluster) -> int:
    return len(cluster.heard(c.Subscribe))


def heard_events(client: Client) -> tuple[list[events.Event], asyncio.Task[None]]:
    seen: list[events.Event] = []
    listening = client.events()

    async def listen() -> None:
        async for event in listening:
            seen.append(event)  # noqa: PERF401 - each as it comes

    return seen, asyncio.create_task(listen())


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[list[events.Event]]:
    seen, task = heard_events(client)
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def entities(client: Client) -> object:
    (pool,) = [child for child in (await client.tree()).children if child.name == "pool"]
    return pool.details["entities"]


# Going on where one was


@pytest.mark.parametrize("read_before", [0, 1, 5, 7, 15])
async def test_f46_f47_i6_a_lost_connection_repeats_nothing_and_skips_nothing(read_before: int) -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 3)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        seen = await take(consumer, read_before)
        (peer, _) = subscribed(cluster)[0]
        peer.drop()
        fill(cluster, "s", 1)
        seen += await take(consumer, 20 - read_before)
        assert seen == list(range(20))
        assert subscribes(cluster) == 2


async def test_f47_inside_a_batch_going_on_is_exact_by_record() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    records = b"".join((len(b) + 5).to_bytes(4, "big") + b"\x00\x53\x75\xa0" + bytes([len(b)]) + b for b in numbered(9))
    data = compress(Compression.GZIP, records)
    cluster.publish_records("s", [SubBatch(Compression.GZIP, 9, len(records), data)])
    fill(cluster, "s", 1)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        seen = await take(consumer, 4)
        subscribed(cluster)[0][0].drop()
        await until(lambda: len(subscribed(cluster)) == 1 and subscribes(cluster) == 2)
        assert cluster.heard(c.Subscribe)[-1].offset.value == 4
        assert seen + await take(consumer, 10) == list(range(14))


@pytest.mark.parametrize("begin", ["next", "last", "first"])
async def test_f48_what_is_written_while_the_first_connection_is_away_is_not_skipped(begin: str) -> None:
    """Nothing was received when it was lost; a broker that is asked for "next" again would skip what came meanwhile."""
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client, await client.consumer("s", begin) as consumer:
        hold = cluster.hold(c.Subscribe)
        subscribed(cluster)[0][0].drop()
        await until(lambda: hold.waiting)
        fill(cluster, "s", 2)
        hold.release()
        assert await take(consumer, 10) == list(range(10))


async def test_f48_next_on_a_stream_that_has_messages_keeps_its_place_over_an_outage() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 3)
    async with connected(cluster) as client, await client.consumer("s", "next") as consumer:
        hold = cluster.hold(c.Subscribe)
        subscribed(cluster)[0][0].drop()
        await until(lambda: hold.waiting)
        fill(cluster, "s", 2)
        hold.release()
        assert await take(consumer, 10) == list(range(15, 25))


async def test_f48_a_moment_stays_a_moment_and_never_becomes_an_offset() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 1)
    cluster.now_ms += 10_000
    moment = actorstream.offset.since(cluster.now_ms / 1000)
    async with connected(cluster) as client, await client.consumer("s", moment) as consumer:
        subscribed(cluster)[0][0].drop()
        await until(lambda: subscribes(cluster) == 2)
        assert {command.offset.type for command in cluster.heard(c.Subscribe)} == {OffsetType.TIMESTAMP}
        fill(cluster, "s", 1)
        assert await take(consumer, 5) == list(range(5, 10))


async def test_f84_i6_i7_a_broker_that_flaps_all_the_time_changes_nothing_of_what_is_read() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    total = fill(cluster, "s", 60)
    async with connected(cluster) as client, await client.consumer("s", "first", credit=3) as consumer:
        seen: list[int] = []
        while len(seen) < total:
            seen += await take(consumer, 7 if len(seen) + 7 <= total else total - len(seen))
            if len(seen) % 3 == 0:
                for peer, _ in subscribed(cluster):
                    peer.drop()
            elif len(seen) % 5 == 0:
                cluster.move_leader("s", len(seen) % 3)
        assert seen == list(range(total))
        assert subscribes(cluster) > 10
        await until(lambda: len(subscribed(cluster)) == 1)


async def test_f58_a_busy_consumer_whose_broker_flaps_does_not_gather_chunks() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 30)
    async with connected(cluster) as client, await client.consumer("s", "first", credit=4) as consumer:
        for round_ in range(1, 10):
            await until(lambda: len(consumer._state.deliveries) == 4)
            subscribed(cluster)[0][0].drop()
            wanted = 1 + round_
            await until(lambda: subscribes(cluster) == wanted and subscribed(cluster))  # noqa: B023 - within the round
        await until(lambda: len(consumer._state.deliveries) == 4)
        assert await take(consumer, 150) == list(range(150))


# What older attachments have to say


async def test_f61_f11_what_an_ended_subscription_still_delivers_is_dropped() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 2)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        assert await take(consumer, 3) == [0, 1, 2]
        (peer, number) = subscribed(cluster)[0]
        old = peer.subscriptions[number]
        # A member went down, and yet the subscription goes on: brokers forget some in a cluster (W2).
        held = cluster.hold(c.Unsubscribe)
        peer.metadata_update("s")
        await until(lambda: held.waiting and subscribes(cluster) == 2)
        old.deliver(0)
        held.release()
        fill(cluster, "s", 1)
        assert await take(consumer, 12) == list(range(3, 15))
        await until(lambda: len(subscribed(cluster)) == 1)


async def test_f61_ids_are_given_back_only_when_the_broker_said_so_and_are_not_reused_soon() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client:
        for _ in range(3):
            async with await client.consumer("s"):
                pass
        assert [command.subscription_id for command in cluster.heard(c.Subscribe)] == [0, 1, 2]


async def test_f62_chunks_that_come_before_the_answer_to_subscribe_are_delivered_once() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 2)

    def deliver_first(exchange: Any) -> None:
        exchange.peer.subscriptions[exchange.command.subscription_id].deliver(0)

    cluster.script.before_answer(c.Subscribe, deliver_first, times=1)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        assert await take(consumer, 10) == list(range(10))


async def test_f07_f62_a_subscribe_without_an_answer_is_taken_back_before_the_next_one() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 2)
    lost = cluster.script.drop_answer(c.Subscribe, times=1)
    async with connected(cluster, rpc_timeout_s=0.1) as client, await client.consumer("s", "first") as consumer:
        assert lost.hits == 1
        assert await take(consumer, 10) == list(range(10))
        await until(lambda: len(subscribed(cluster)) == 1)
        assert await entities(client) == 1


# What cannot be read


async def test_f63_a_broken_chunk_is_fetched_again_and_nothing_behind_it_comes_first() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        fill(cluster, "s", 1)
        cluster.corrupt("s")
        fill(cluster, "s", 3)
        assert await take(consumer, 20) == list(range(20))
        assert subscribes(cluster) == 2


async def test_f63_a_chunk_that_stays_broken_is_raised_and_never_skipped() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    cluster.create("other")
    async with (
        connected(cluster) as client,
        await client.consumer("other", "first") as other,
        await client.consumer("s", "first") as consumer,
    ):
        fill(cluster, "s", 1)
        cluster.corrupt("s", 1000)
        fill(cluster, "s", 3)
        # The first chunk is corrupt, too, when it is delivered again after the loss.
        with pytest.raises(errors.CorruptChunk):
            await take(consumer, 20)
        assert consumer.position in {0, 5}
        assert subscribes(cluster) == 1 + BROKEN_CHUNK_TRIES
        fill(cluster, "other", 1)
        assert await take(other, 5) == list(range(5)), "nobody else on the connection is concerned"
        assert len({id(peer) for peer, _ in subscribed(cluster)}) == 1
        with pytest.raises(errors.CorruptChunk):
            await anext(consumer)


async def test_f63_a_chunk_without_a_readable_header_concerns_its_own_subscription_only() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    cluster.create("other")
    async with (
        connected(cluster) as client,
        await client.consumer("other", "first") as other,
        await client.consumer("s", "first") as consumer,
    ):
        peer = subscribed(cluster)[0][0]
        number = next(number for number, one in peer.subscriptions.items() if one.stream.name == "s")
        peer.send(c.Deliver(number, None, b"no chunk at all"))
        fill(cluster, "s", 1)
        fill(cluster, "other", 1)
        assert await take(consumer, 5) == list(range(5))
        assert await take(other, 5) == list(range(5))
        assert peer in [one for one, _ in subscribed(cluster)], "the connection lives"
        assert subscribes(cluster) == 3


async def test_f64_frames_and_codes_of_a_newer_broker_end_nothing() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 1)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        assert await take(consumer, 2) == [0, 1]
        peer = subscribed(cluster)[0][0]
        peer.send_unknown_frame()
        assert await take(consumer, 1) == [2]
        assert subscribes(cluster) == 1
        peer.metadata_update("s", code=99)
        await until(lambda: subscribes(cluster) == 2)
        assert await take(consumer, 2) == [3, 4]


async def test_f60_a_broker_that_does_not_know_the_subscription_is_asked_for_a_new_one() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 1)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        peer, number = subscribed(cluster)[0]
        peer.unsubscribe(peer.subscriptions[number])  # and says nothing
        assert await take(consumer, 5) == list(range(5))
        waiting = asyncio.ensure_future(take(consumer, 5))  # which finishes the chunk, and so grants credit
        await until(lambda: subscribes(cluster) == 2)
        fill(cluster, "s", 1)
        assert await waiting == list(range(5, 10))


# Retention, and streams that are another one


async def test_f49_what_retention_took_is_told_and_reading_goes_on() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 2)
    async with (
        connected(cluster) as client,
        watching(client) as seen,
        await client.consumer("s", "first", credit=2) as consumer,
    ):
        assert await take(consumer, 7) == list(range(7))
        fill(cluster, "s", 4)
        cluster.stream("s").truncate_head(20)
        subscribed(cluster)[0][0].drop()
        await until(lambda: any(isinstance(event, events.OffsetGap) for event in seen))
        # What is in hand comes first, and then what there still is.
        assert await take(consumer, 13) == [7, 8, 9, *range(20, 30)]
        (gap,) = [event for event in seen if isinstance(event, events.OffsetGap)]
        assert (gap.stream, gap.wanted, gap.first) == ("s", 7, 20)


async def test_f49_what_retention_took_is_raised_if_that_is_wanted() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 4)
    cluster.stream("s").truncate_head(10)
    async with connected(cluster) as client:
        with pytest.raises(errors.OffsetGap) as caught:
            await client.consumer("s", 3, on_gap=OnGap.RAISE)
        assert (caught.value.wanted, caught.value.first) == (3, 10)
        async with await client.consumer("s", "first", on_gap=OnGap.RAISE) as consumer:
            assert await take(consumer, 10) == list(range(10, 20)), "the first one there is: no gap"
        async with await client.consumer("s", 0, on_gap=OnGap.RAISE) as consumer:
            assert await take(consumer, 1) == [10], "0 says: all there is"
    assert not subscribed(cluster)


@pytest.mark.parametrize("policy", list(OnGap))
async def test_f49_retention_that_overtakes_a_subscription_is_told_though_the_broker_says_nothing(
    policy: OnGap,
) -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 10)
    async with (
        connected(cluster) as client,
        watching(client) as seen,
        await client.consumer("s", "first", credit=2, on_gap=policy) as consumer,
    ):
        assert await take(consumer, 2) == [0, 1]
        cluster.stream("s").truncate_head(30)  # the subscription has delivered offsets 0 to 9
        if policy is OnGap.RAISE:
            assert await take(consumer, 8) == list(range(2, 10))
            with pytest.raises(errors.OffsetGap) as caught:
                await take(consumer, 1)
            assert (caught.value.wanted, caught.value.first) == (10, 30)
            return
        assert await take(consumer, 28) == [*range(2, 10), *range(30, 50)]
        (gap,) = [event for event in seen if isinstance(event, events.OffsetGap)]
        assert (gap.wanted, gap.first) == (10, 30)
        assert subscribes(cluster) == 1


async def test_f49_offsets_that_the_brokers_own_chunks_took_are_no_gap() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with (
        connected(cluster) as client,
        watching(client) as seen,
        await client.consumer("s", "first", on_gap=OnGap.RAISE) as consumer,
    ):
        for _ in range(3):
            fill(cluster, "s", 1)
            cluster.gap("s")
            fill(cluster, "s", 2)
        wanted = [offset for offset, _ in cluster.log("s")]
        assert len(wanted) < cluster.stream("s").next_offset
        assert await take(consumer, 45) == wanted
        assert not [event for event in seen if isinstance(event, events.OffsetGap)]


async def recreated(cluster: FakeCluster, policy: OnTruncated, client: Client) -> Consumer:
    """A consumer at offset 12 of a stream that is another one now, with offsets 0 to 4."""
    fill(cluster, "s", 3)
    consumer = await client.consumer("s", "first", on_truncated=policy)
    assert await take(consumer, 13) == list(range(13))
    hold = cluster.hold(c.Metadata)
    hold_all = cluster.hold(c.Subscribe)
    cluster.recreate("s")
    fill(cluster, "s", 1)
    hold.release()
    hold_all.release()
    return consumer


async def test_f50_a_stream_that_was_made_anew_is_read_from_its_beginning() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client, watching(client) as seen:
        consumer = await recreated(cluster, OnTruncated.FIRST, client)
        await until(lambda: any(isinstance(event, events.StreamTruncated) for event in seen))
        assert await take(consumer, 7) == [13, 14, *range(5)], "what was in hand belongs to the old one"
        (event,) = [event for event in seen if isinstance(event, events.StreamTruncated)]
        assert (event.stream, event.wanted, event.last_chunk_id) == ("s", 13, 0)


async def test_f50_or_from_what_is_written_from_now_on() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client, watching(client) as seen:
        consumer = await recreated(cluster, OnTruncated.NEXT, client)
        await until(lambda: any(isinstance(event, events.StreamTruncated) for event in seen) and subscribed(cluster))
        fill(cluster, "s", 1)
        assert await take(consumer, 7) == [13, 14, *range(5, 10)]


async def test_f50_or_it_raises() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client:
        consumer = await recreated(cluster, OnTruncated.RAISE, client)
        with pytest.raises(errors.StreamTruncated) as caught:
            await take(consumer, 7)
        assert caught.value.wanted in {13, 15}
        assert caught.value.last_chunk_id == 0


@pytest.mark.parametrize("policy", list(OnTruncated))
async def test_f50_an_offset_beyond_the_end_is_told_at_once_and_not_with_the_next_message(policy: OnTruncated) -> None:
    """A process that goes on after its stored offset, on a stream that was made anew meanwhile."""
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 3)
    async with connected(cluster) as client, watching(client) as seen:
        consumer = await client.consumer("s", 1000, on_truncated=policy)
        if policy is OnTruncated.RAISE:
            with pytest.raises(errors.StreamTruncated):
                await take(consumer, 1)
            return
        await until(lambda: any(isinstance(event, events.StreamTruncated) for event in seen))
        await until(lambda: subscribes(cluster) == 2 and subscribed(cluster))
        fill(cluster, "s", 1)
        if policy is OnTruncated.FIRST:
            assert await take(consumer, 20) == list(range(20))
        else:
            assert await take(consumer, 5) == list(range(15, 20))


async def test_f50_going_on_right_at_the_end_is_no_truncation() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 3)
    async with connected(cluster) as client, watching(client) as seen:
        async with await client.consumer("s", 15, on_truncated=OnTruncated.RAISE) as consumer:
            fill(cluster, "s", 1)
            assert await take(consumer, 5) == list(range(15, 20))
        assert not [event for event in seen if isinstance(event, events.StreamTruncated)]


async def test_f50_a_replica_that_lags_is_no_truncation() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    fill(cluster, "s", 4)
    behind = {"first_chunk_id": 0, "last_chunk_id": 5, "committed_chunk_id": 5}
    async with connected(cluster) as client, watching(client) as seen:
        async with await client.consumer("s", "first", on_truncated=OnTruncated.RAISE) as consumer:
            assert await take(consumer, 17) == list(range(17))
            for replica in (1, 2):
                cluster.respond(c.StreamStats, c.StreamStatsResponse(ResponseCode.OK, behind), node=replica)
            subscribed(cluster)[0][0].drop()
            await until(lambda: subscribes(cluster) == 2)
            assert subscribed(cluster)[0][0].node.number == 0, "the leader's word counts"
            fill(cluster, "s", 1)
            assert await take(consumer, 8) == list(range(17, 25))
        assert not [event for event in seen if isinstance(event, events.StreamTruncated)]


async def test_f50_a_replica_that_lags_behind_a_stored_offset_is_no_truncation() -> None:
    """As after a restart of the process: what the replica delivers first ends before the offset wanted."""
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    fill(cluster, "s", 4)
    for replica in (1, 2):
        behind = {"first_chunk_id": 0, "last_chunk_id": 5, "committed_chunk_id": 5}
        cluster.respond(c.StreamStats, c.StreamStatsResponse(ResponseCode.OK, behind), node=replica)
    async with connected(cluster) as client, watching(client) as seen:
        async with await client.consumer("s", 17, on_truncated=OnTruncated.RAISE) as consumer:
            fill(cluster, "s", 1)
            assert await take(consumer, 8) == list(range(17, 25))
        assert not [event for event in seen if isinstance(event, events.StreamTruncated)]


# Credit


async def test_f58_f59_i13_all_credit_is_with_the_broker_when_nothing_is_in_hand() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 20, size=1)
    cluster.gap("s")
    async with connected(cluster) as client, await client.consumer("s", 7, credit=5) as consumer:
        peer, number = subscribed(cluster)[0]
        assert await take(consumer, 13) == list(range(7, 20))
        waiting = asyncio.ensure_future(anext(consumer))  # which finishes the last chunk
        await until(lambda: peer.subscriptions[number].credit == 5)
        await until(lambda: peer.subscriptions[number].delivered == 13)
        waiting.cancel()
        granted = sum(command.credit for command in cluster.heard(c.Credit))
        assert granted == 13, "one for each chunk, neither more nor less"


async def test_f58_a_pause_outlives_a_recovery() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 10)
    async with connected(cluster) as client, await client.consumer("s", "first", credit=2) as consumer:
        consumer.pause()
        subscribed(cluster)[0][0].drop()
        await until(lambda: subscribes(cluster) == 2 and subscribed(cluster))
        assert await take(consumer, 10) == list(range(10)), "what the new subscription may send without being asked"
        waiting = asyncio.ensure_future(take(consumer, 40))
        await until(lambda: consumer._state.deliveries._waiter is not None)  # both chunks are finished
        await settle()
        assert not cluster.heard(c.Credit)
        consumer.resume()
        assert await waiting == list(range(10, 50))


async def test_f09_where_a_stream_ends_is_what_its_leader_says() -> None:
    """A replica learns a moment later what is committed, and a read to the end would lack what was confirmed."""
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    fill(cluster, "s", 4)
    behind = {"first_chunk_id": 0, "last_chunk_id": 15, "committed_chunk_id": 5}
    for replica in (1, 2):
        cluster.respond(c.StreamStats, c.StreamStatsResponse(ResponseCode.OK, behind), node=replica)
    seeds = [cluster.uris[1], cluster.uris[2], cluster.uris[0]]
    async with (
        asyncio.timeout(5),
        actorstream.connect(seeds, opener=cluster.open) as client,
        await client.consumer("s", "first", until="end") as consumer,
    ):
        assert [message.offset async for message in consumer] == list(range(20))


# Which member, and which refusals


async def test_replicas_are_preferred_and_the_leader_is_taken_when_they_cannot_be_reached() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    fill(cluster, "s", 1)
    async with connected(cluster) as client:
        async with await client.consumer("s", "first") as consumer:
            assert subscribed(cluster)[0][0].node.number in {1, 2}
            assert await take(consumer, 2) == [0, 1]
            for replica in (1, 2):  # Metadata goes on to name them
                cluster.network.refuse(f"node-{replica}", 5552)
                for peer in cluster.connections(replica):
                    peer.drop()
            assert await take(consumer, 3) == [2, 3, 4]
            await until(lambda: [peer.node.number for peer, _ in subscribed(cluster)] == [0])
        async with await client.consumer("s", "first", prefer_leader=True) as consumer:
            assert subscribed(cluster)[0][0].node.number == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ResponseCode.ACCESS_REFUSED, errors.AccessRefused),
        (ResponseCode.PRECONDITION_FAILED, errors.PreconditionFailed),
        (ResponseCode.STREAM_DOES_NOT_EXIST, errors.StreamDoesNotExist),
        (77, errors.ResponseError),
    ],
)
async def test_f89_a_refusal_that_stays_is_raised_at_the_start_and_later_and_not_insisted_on(
    code: int, error: type[errors.ResponseError]
) -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client:
        consumer = await client.consumer("s")
        cluster.respond(c.Subscribe, code=code)
        with pytest.raises(error):
            await client.consumer("s")
        assert subscribes(cluster) == 2
        subscribed(cluster)[0][0].drop()
        with pytest.raises(error):
            await take(consumer, 1)
        with pytest.raises(error):
            await take(consumer, 1)
        assert subscribes(cluster) == 3
        await consumer.close()
        await until_no_entities(client)


async def until_no_entities(client: Client) -> None:
    async with asyncio.timeout(5):
        while await entities(client):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "code",
    [
        ResponseCode.STREAM_NOT_AVAILABLE,
        ResponseCode.INTERNAL_ERROR,
        ResponseCode.SUBSCRIPTION_ID_ALREADY_EXISTS,
    ],
)
async def test_f01_a_refusal_that_passes_is_tried_again(code: int) -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 1)
    cluster.respond(c.Subscribe, code=code, times=3)
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        assert await take(consumer, 5) == list(range(5))
        assert subscribes(cluster) == 4
        assert await entities(client) == 1, "the slots of the tries that failed were given back"


async def test_f92_a_slot_whose_subscription_never_came_about_is_given_back() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    cluster.respond(c.StreamStats, code=ResponseCode.STREAM_NOT_AVAILABLE, times=5)
    async with connected(cluster) as client:
        async with await client.consumer("s"):
            assert await entities(client) == 1
        hold = cluster.hold(c.StreamStats)
        starting = asyncio.ensure_future(client.consumer("s"))
        await until(lambda: hold.waiting)
        assert await entities(client) == 1
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await until_no_entities(client)


async def test_f83_weather_never_exhausts_a_consumer() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", 1)
    refused = cluster.respond(c.Subscribe, code=ResponseCode.STREAM_NOT_AVAILABLE, times=50)
    async with connected(cluster) as client, await client.consumer("s", "first", start_timeout_s=10) as consumer:
        assert refused.hits == 50
        assert await take(consumer, 5) == list(range(5))


async def test_f83_a_bug_is_raised_after_some_tries_and_concerns_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    cluster.create("s")
    cluster.create("other")
    original = Subscriber._on_delivered

    def buggy(self: Subscriber, message: Any) -> None:
        if self._stream == "s":
            raise ZeroDivisionError
        original(self, message)

    monkeypatch.setattr(Subscriber, "_on_delivered", buggy)
    async with (
        connected(cluster) as client,
        await client.consumer("s") as consumer,
        await client.consumer("other") as other,
    ):
        fill(cluster, "s", 1)
        with pytest.raises(errors.RestartIntensityExceeded) as caught:
            await take(consumer, 1)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        fill(cluster, "other", 1)
        assert await take(other, 5) == list(range(5))


async def test_f92_f78_hundreds_of_recoveries_leave_as_much_as_a_few() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with connected(cluster) as client, await client.consumer("s", "first") as consumer:
        loop = asyncio.get_running_loop()
        pool: Any = client._grown._pool.actor_inbox
        root: Any = client._grown._root.actor_inbox

        async def lose(times: int) -> tuple[int, ...]:
            for _ in range(times):
                before = subscribes(cluster)
                subscribed(cluster)[0][0].drop()
                fill(cluster, "s", 1, size=1)
                await take(consumer, 1)
                assert subscribes(cluster) == before + 1
            await until(lambda: len(pool.actor._state.lines) == 2)
            await until(lambda: len(root.children["connections"].children) == 2)
            gc.collect()
            return (
                len(asyncio.all_tasks()),
                len([handle for handle in loop._scheduled if not handle.cancelled()]),  # type: ignore[attr-defined]
                sum(isinstance(thing, (Subscriber, Connection)) for thing in gc.get_objects()),
                len(pool._watchers) + len(root._watchers),
                len(consumer._state.deliveries),
            )

        few = await lose(10)
        many = await lose(200)
        assert all(after <= before + 2 for before, after in zip(few, many, strict=True)), (few, many)
