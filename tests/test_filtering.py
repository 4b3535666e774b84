"""What a filter is, and how it behaves over a broker that goes away, is old, or leaves holes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorstream import Filter, Message, errors
from actorstream.wire import commands as c
from tests.actors.test_subscriber import connected, numbered, subscribed, subscribes, take, watching
from tests.peer import FakeCluster, until


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"values": ()},
        {"values": [1]},
        {"values": ["x" * 32_768]},
        {"match_unfiltered": True, "predicate": bool},
        {"values": "a", "predicate": 5},
    ],
)
def test_a_filter_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        Filter(**wrong)


def test_a_filter_in_the_properties_of_a_subscription() -> None:
    assert Filter("emea").subscription == {"filter.0": "emea"}
    assert Filter(value for value in ("a", "", "é")).subscription == {"filter.0": "a", "filter.1": "", "filter.2": "é"}
    assert Filter(["a"], match_unfiltered=True).subscription == {"filter.0": "a", "match-unfiltered": "true"}
    assert Filter(predicate=bool).subscription == {}


def cluster_with(values: str, size: int = 5, *, version: str = "4.0.5") -> FakeCluster:
    """Chunks of numbered messages, each with one of the letters as its filter value."""
    cluster = FakeCluster(version=version)
    cluster.create("s")
    write(cluster, values, size)
    return cluster


def write(cluster: FakeCluster, values: str, size: int = 5) -> None:
    for value in values:
        cluster.publish("s", numbered(size, cluster.stream("s").next_offset), filter_value=value)


async def test_an_older_broker_says_so_at_the_start_and_a_predicate_alone_works_with_it() -> None:
    cluster = cluster_with("a", version="3.12.14")
    async with connected(cluster) as client:
        with pytest.raises(errors.UnsupportedByBroker, match=r"filtering needs RabbitMQ 3\.13"):
            await client.consumer("s", "first", filter=Filter("a"))
        async with await client.consumer("s", "first", filter=Filter(predicate=lambda m: m.offset > 2)) as consumer:
            assert await take(consumer, 2) == [3, 4]


async def test_holes_that_the_broker_leaves_cost_no_question_and_are_no_gap() -> None:
    cluster = cluster_with("aabbbabbabba")
    async with (
        connected(cluster) as client,
        watching(client) as seen,
        await client.consumer("s", "first", filter=Filter("a")) as consumer,
    ):
        assert len(await take(consumer, 25)) == 25
        assert len(cluster.heard(c.StreamStats)) == 1
        assert not [event for event in seen if event.level == "ERROR"]


async def test_f48_last_keeps_its_place_over_an_outage_though_its_chunk_was_left_out() -> None:
    cluster = cluster_with("ab")
    async with connected(cluster) as client, await client.consumer("s", "last", filter=Filter("a")) as consumer:
        subscribed(cluster)[0][0].drop()
        write(cluster, "ab")
        await until(lambda: subscribes(cluster) == 2)
        write(cluster, "a")
        assert await take(consumer, 10) == [*range(10, 15), *range(20, 25)]


async def test_f48_last_that_was_received_comes_again_after_an_outage() -> None:
    cluster = cluster_with("aa")
    cluster.gap("s")
    async with connected(cluster) as client, await client.consumer("s", "last", filter=Filter("a")) as consumer:
        await until(lambda: consumer._state.chunks == 1)
        subscribed(cluster)[0][0].drop()
        await until(lambda: subscribes(cluster) == 2)
        assert await take(consumer, 5) == list(range(5, 10))


async def test_a_predicate_that_raises_says_where_and_nothing_of_its_chunk_is_lost() -> None:
    cluster = cluster_with("aaa")
    fails = True

    def predicate(message: Message) -> bool:
        if fails and message.offset == 7:
            raise KeyError("region")
        return message.offset % 2 == 1

    async with connected(cluster) as client:
        only = Filter("a", predicate=predicate)
        async with await client.consumer("s", "first", credit=2, filter=only) as consumer:
            assert await take(consumer, 2) == [1, 3]
            for _ in range(3):
                with pytest.raises(errors.FilterFailed, match="offset 7") as raised:
                    await take(consumer, 1)
                assert isinstance(raised.value.__cause__, KeyError)
            assert consumer.position == 5
            fails = False
            assert await take(consumer, 5) == [5, 7, 9, 11, 13]


async def test_a_chunk_whose_predicate_raised_is_not_kept_beyond_its_subscription() -> None:
    cluster = cluster_with("aaa")
    fails = True

    def predicate(message: Message) -> bool:
        if fails and message.offset == 7:
            raise KeyError("region")
        return True

    async with connected(cluster) as client:
        only = Filter("a", predicate=predicate)
        async with await client.consumer("s", "first", filter=only) as consumer:
            assert await take(consumer, 5) == list(range(5))
            with pytest.raises(errors.FilterFailed):
                await take(consumer, 1)
            subscribed(cluster)[0][0].drop()
            await until(lambda: subscribes(cluster) == 2)
            fails = False
            assert await take(consumer, 10) == list(range(5, 15))


async def test_f58_f59_credit_is_whole_when_everything_was_dropped() -> None:
    cluster = cluster_with("a" * 20)
    async with connected(cluster) as client:
        nothing = Filter(predicate=lambda _: False)
        async with await client.consumer("s", "first", credit=4, filter=nothing) as consumer:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(consumer)
            assert (consumer.position, consumer.completed, consumer.received) == (100, 99, 0)
            ((peer, number),) = subscribed(cluster)
            assert peer.subscriptions[number].credit == 4
