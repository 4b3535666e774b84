"""Named consumers over a broker that fails at the wrong moment: no wrong start, no lost store, and a prompt end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import actorstream
from actorstream import AutoTracking, Client, ConnectionOptions, errors, events
from actorstream.wire import commands as c
from actorstream.wire.constants import ResponseCode
from tests.actors.test_subscriber import QUICK, connected, fill, subscribed, take, watching
from tests.peer import FakeCluster, until


def cluster_with(chunks: int = 4, stored: int | None = None) -> FakeCluster:
    cluster = FakeCluster()
    cluster.create("s")
    fill(cluster, "s", chunks)
    if stored is not None:
        cluster.stream("s").offsets["app"] = stored
    return cluster


def stored(cluster: FakeCluster) -> int | None:
    return cluster.stream("s").offsets.get("app")


@pytest.mark.parametrize("code", [ResponseCode.STREAM_NOT_AVAILABLE, ResponseCode.INTERNAL_ERROR])
async def test_f53_an_answer_that_passes_is_not_taken_for_no_offset(code: int) -> None:
    cluster = cluster_with(stored=11)
    cluster.respond(c.QueryOffset, code=code, times=5)
    async with connected(cluster) as client, await client.consumer("s", "next", name="app") as consumer:
        assert await take(consumer, 3) == [12, 13, 14]
        assert len(cluster.heard(c.QueryOffset)) == 6


async def test_f53_a_broker_that_never_answers_fails_the_start_and_begins_nowhere() -> None:
    cluster = cluster_with(stored=11)
    cluster.drop(c.QueryOffset)
    async with connected(cluster, rpc_timeout_s=0.1) as client:
        with pytest.raises(errors.RequestTimeout):
            await client.consumer("s", "first", name="app", start_timeout_s=0.5)
        assert not cluster.heard(c.Subscribe)
        assert not client._handles


async def test_f53_a_connection_that_is_lost_while_it_asks_is_replaced() -> None:
    cluster = cluster_with(stored=11)
    cluster.script.disconnect(c.QueryOffset, times=2)
    async with connected(cluster) as client, await client.consumer("s", "next", name="app") as consumer:
        assert await take(consumer, 1) == [12]


async def test_f49_a_stored_offset_below_retention_is_a_gap_and_told() -> None:
    cluster = cluster_with(6, stored=3)
    del cluster.stream("s").chunks[:3]
    async with connected(cluster) as client, watching(client) as seen:
        async with await client.consumer("s", "next", name="app") as consumer:
            assert await take(consumer, 2) == [15, 16]
        (gap,) = [event for event in seen if isinstance(event, events.OffsetGap)]
        assert (gap.wanted, gap.first) == (4, 15)


async def test_f50_a_stored_offset_beyond_the_end_is_told_and_lower_ones_are_stored_again() -> None:
    cluster = cluster_with(2, stored=500)
    async with connected(cluster) as client, watching(client) as seen:
        async with await client.consumer("s", "next", name="app") as consumer:
            assert await take(consumer, 4) == [0, 1, 2, 3]
        assert [event for event in seen if isinstance(event, events.StreamTruncated)]
    assert stored(cluster) == 2


async def test_f42_of_a_stream_that_was_made_anew_its_own_offsets_are_stored() -> None:
    cluster = cluster_with(4)
    policy = AutoTracking(every=5, interval_s=None)
    async with connected(cluster) as client, await client.consumer("s", "first", name="app", tracking=policy) as one:
        await take(one, 20)
        await until(lambda: (stored(cluster) or 0) >= 14)
        cluster.recreate("s")
        fill(cluster, "s", 3)
        assert await take(one, 6) == [0, 1, 2, 3, 4, 5]
        await one.close()
        assert stored(cluster) == 4


async def test_f51_a_store_that_the_broker_loses_is_sent_again_before_the_consumer_goes() -> None:
    cluster = cluster_with()
    lost = cluster.drop(c.StoreOffset, times=1)
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first", name="app")
        await take(consumer, 8)
        await consumer.close()
    assert lost is not None
    assert stored(cluster) == 6


async def test_f51_what_could_not_be_stored_in_an_outage_is_stored_after_it() -> None:
    cluster = cluster_with()
    policy = AutoTracking(every=5, interval_s=0.05)
    async with (
        connected(cluster, rpc_timeout_s=0.1) as client,
        watching(client) as seen,
        await client.consumer("s", "first", name="app", tracking=policy) as consumer,
    ):
        await take(consumer, 6)
        await until(lambda: stored(cluster) == 4)
        await until(lambda: consumer._state.chunks == 4)
        cluster.node(0).stop()
        await take(consumer, 4)
        await until(lambda: [event for event in seen if isinstance(event, events.OffsetNotStored)])
        assert stored(cluster) == 4
        cluster.node(0).start()
        await until(lambda: stored(cluster) == 8)


async def test_f51_a_store_while_the_stream_has_no_leader_is_not_lost() -> None:
    cluster = cluster_with()
    policy = AutoTracking(every=None, interval_s=0.05)
    async with (
        connected(cluster, rpc_timeout_s=0.2) as client,
        await client.consumer("s", "first", name="app", tracking=policy) as consumer,
    ):
        await until(lambda: consumer._state.chunks == 4)
        cluster.stream("s").leader = None
        sent = len(cluster.heard(c.StoreOffset))
        await take(consumer, 9)
        await until(lambda: len(cluster.heard(c.StoreOffset)) > sent)
        assert stored(cluster) is None
        cluster.stream("s").leader = 0
        await until(lambda: stored(cluster) == 7)


async def test_f77_closing_is_bounded_when_nothing_can_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    cluster = cluster_with()
    options = ConnectionOptions(backoff=QUICK, rpc_timeout_s=5.0)
    async with actorstream.connect(cluster.uris, options=options, opener=cluster.open, close_timeout_s=0.2) as client:
        consumer = await client.consumer("s", "first", name="app")
        await take(consumer, 5)
        cluster.drop((c.StoreOffset, c.QueryOffset))
        begin = time.monotonic()
        await consumer.close()
        assert time.monotonic() - begin < 1.5
    assert "offset of consumer 'app' in stream 's' could not be stored" in caplog.text


@pytest.mark.parametrize("command", [c.QueryOffset, c.StreamStats, c.Subscribe])
async def test_f76_close_is_prompt_at_every_step_of_the_start(command: type[c.Command]) -> None:
    cluster = cluster_with(stored=3)
    async with connected(cluster) as client:
        hold = cluster.hold(command)
        starting = asyncio.create_task(client.consumer("s", "first", name="app"))
        await until(lambda: hold.waiting)
        (consumer,) = client._handles
        begin = time.monotonic()
        await consumer.close()
        assert time.monotonic() - begin < 1.0
        with pytest.raises(errors.Closed):
            await starting
        assert not client._handles
        hold.release()
        await until(lambda: not subscribed(cluster))
        assert await children(client, "trackers") == 0


async def test_a_tracker_comes_and_goes_with_its_consumer() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client:
        async with await client.consumer("s"), await client.consumer("s", name="app"):
            assert await children(client, "trackers") == 1
        assert await children(client, "trackers") == 0


async def children(client: Client, supervisor: str) -> int:
    (node,) = [child for child in (await client.tree()).children if child.name == supervisor]
    return len(node.children)


async def test_what_ended_a_consumer_for_good_does_not_hold_up_its_close() -> None:
    cluster = cluster_with()
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first", name="app")
        await take(consumer, 20)
        cluster.delete("s")
        with pytest.raises(errors.StreamDoesNotExist):
            await take(consumer, 1)
        async with asyncio.timeout(1):
            await consumer.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 5},
        {"name": "x" * 256},
        {"name": "a\nb"},
        {"tracking": 10},
        {"tracking": AutoTracking(every=10)},
        {"name": "app", "tracking": "auto"},
        {"name": "app", "offset_store": {}},
        {"filter": "emea"},
    ],
)
async def test_options_that_are_none_are_refused_at_once(wrong: dict[str, Any]) -> None:
    cluster = cluster_with()
    async with connected(cluster) as client:
        with pytest.raises(errors.InvalidArgument):
            await client.consumer("s", **wrong)
        assert not cluster.heard(c.Subscribe)


async def test_batches_and_workers_are_stored_by_count_too() -> None:
    cluster = cluster_with(8)
    policy = AutoTracking(every=10, interval_s=None)
    async with connected(cluster) as client:
        async with await client.consumer("s", "first", name="app", tracking=policy, until=39) as consumer:
            async for batch in consumer.batches():
                if batch[-1].offset == 14:
                    await until(lambda: stored(cluster) == 9)
        assert stored(cluster) == 39
        cluster.stream("s").offsets.clear()
        before = len(cluster.heard(c.StoreOffset))
        async with await client.consumer("s", "first", name="app", tracking=policy, until=39) as consumer:
            await consumer.run(lambda _message: asyncio.sleep(0), workers=3)
            await until(lambda: len(cluster.heard(c.StoreOffset)) > before)
        heard = [command.offset for command in cluster.heard(c.StoreOffset)[before:]]
        assert heard == sorted(heard)
        assert stored(cluster) == 39
