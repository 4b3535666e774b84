"""The locator: who leads a stream, asked of whoever answers, once for all who want to know."""

from __future__ import annotations

import asyncio
import time

import pytest

from actorstream import Client, Endpoint, connect
from actorstream.actors import messages as m, search as search_module
from actorstream.actors.calls import call
from actorstream.actors.search import Search
from actorstream.errors import (
    AuthenticationFailure,
    ConnectFailed,
    ConnectionLost,
    RequestTimeout,
    StreamAlreadyExists,
    StreamDoesNotExist,
    StreamNotAvailable,
    VirtualHostAccessFailure,
)
from actorstream.wire import commands as c
from tests.actors.publishing import client_of, find, options
from tests.peer import FakeCluster, until

pytestmark = pytest.mark.timeout(20)


async def where(client: Client, stream: str = "s") -> m.Members:
    members: m.Members = await call(client._grown.locator, m.WhereIs(stream))
    return members


def asked(cluster: FakeCluster, node: int | None = None) -> int:
    return len(cluster.heard(c.Metadata, node=node))


# Where a stream lives


async def test_members_are_what_metadata_says() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s", leader=1)
    async with client_of(cluster) as client:
        members = await where(client)

    assert members.leader == Endpoint("node-1", 5552)
    assert set(members.replicas) == {Endpoint("node-0", 5552), Endpoint("node-2", 5552)}


async def test_f41_a_stream_that_does_not_exist_is_told_at_once() -> None:
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(StreamDoesNotExist):
            await where(client, "nowhere")
    assert asked(cluster) == 1


async def test_f01_whoever_asks_for_a_leader_waits_until_there_is_one() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    cluster.move_leader("s", None)
    async with client_of(cluster) as client:
        waiting = asyncio.create_task(where(client))
        await until(lambda: asked(cluster) >= 4)
        assert not waiting.done()
        cluster.move_leader("s", 2)
        assert (await waiting).leader == Endpoint("node-2", 5552)


async def test_f18_many_who_ask_for_many_streams_share_one_query() -> None:
    cluster = FakeCluster()
    for number in range(50):
        cluster.create(f"s{number}")
    async with client_of(cluster) as client:
        await asyncio.gather(*(where(client, f"s{number % 50}") for number in range(200)))

    queries = cluster.heard(c.Metadata)
    assert len(queries) <= 2, "the first one, and one for all that came while it was on its way"
    assert sum(len(query.streams) for query in queries) == 50


async def test_i15_polling_for_a_leader_slows_down_and_does_not_delay_other_streams() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    cluster.create("other")
    cluster.move_leader("s", None)
    async with client_of(cluster) as client:
        waiting = asyncio.create_task(where(client))
        await until(lambda: asked(cluster) >= 6)
        before, begin = asked(cluster), time.monotonic()
        await where(client, "other")
        assert time.monotonic() - begin < 0.2
        await asyncio.sleep(1.0)
        assert asked(cluster) - before < 12
        waiting.cancel()


async def test_a_question_for_a_leader_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "WANTED_S", 0.1)
    cluster = FakeCluster()
    cluster.create("s")
    cluster.move_leader("s", None)
    async with client_of(cluster) as client:
        with pytest.raises(StreamNotAvailable, match="has had no leader for"):
            await where(client)
        (locator,) = await find(client, "Locator")
        assert locator.details["looking_for"] == 0, "nobody wants to know any more, and nobody is asked"


async def test_a_question_that_no_broker_can_answer_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "WANTED_S", 0.1)
    cluster = FakeCluster()
    cluster.create("s")
    async with client_of(cluster, rpc_timeout_s=0.2) as client:
        cluster.node(0).stop()
        with pytest.raises(ConnectFailed, match="Connection refused"):
            await where(client)


async def test_f09_a_leader_is_asked_for_anew_each_time() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s", leader=0)
    async with client_of(cluster) as client:
        for leader in (1, 2, 0):
            cluster.move_leader("s", leader)
            assert (await where(client)).leader.host == f"node-{leader}"


# Hedging


async def test_f06_a_query_that_is_not_answered_at_once_is_asked_of_a_second_broker() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s", leader=2)
    async with client_of(cluster) as client:
        await where(client)
        current = next(number for number in range(3) if asked(cluster, number))
        cluster.node(current).freeze()
        begin = time.monotonic()
        members = await where(client)

        assert time.monotonic() - begin < 0.5, "after hedge_s, and not after the request's deadline"
        assert members.leader.host == "node-2"
        begin = time.monotonic()
        await where(client)
        assert time.monotonic() - begin < 0.05, "who answered last is asked first"


async def test_f08_two_brokers_that_hesitate_are_not_the_end() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    silent = [cluster.drop(c.Metadata, node=number) for number in (0, 1)]
    async with client_of(cluster) as client:
        await where(client)

    assert all(rule.hits for rule in silent)


async def test_a_query_whose_connection_dies_is_asked_again() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    crash = cluster.script.disconnect(c.Metadata, times=3)
    async with client_of(cluster) as client:
        await where(client)

    assert crash.hits == 3


async def test_f53_an_answer_that_passes_is_not_taken_for_no_offset() -> None:
    fake = FakeCluster()
    fake.create("s")
    async with client_of(fake) as client:
        await client.store_offset("r", "s", 5)
        not_available = fake.respond(c.QueryOffset, code=6, times=3)
        assert await client.query_offset("r", "s") == 5
        assert not_available.hits == 3


async def test_f07_a_late_answer_is_nobodys() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    late = cluster.script.hold_answer(c.Metadata, times=1)
    async with client_of(cluster, rpc_timeout_s=0.1) as client:
        with pytest.raises(RequestTimeout):
            await client.stream_metadata("s")
        late.release()
        assert (await client.stream_metadata("s")).leader == Endpoint("node-0", 5552)
        assert len(cluster.connections()) == 1


# Requests


async def test_a_request_that_may_not_be_repeated_is_sent_once() -> None:
    cluster = FakeCluster(nodes=3)
    crash = cluster.script.disconnect(c.Create)
    async with client_of(cluster) as client:
        with pytest.raises(ConnectionLost):
            await client.create_stream("s")

    assert crash.hits == 1


async def test_a_request_that_may_not_be_repeated_goes_to_a_broker_that_can_be_reached() -> None:
    cluster = FakeCluster(nodes=3)
    async with client_of(cluster) as client:
        for node in cluster.nodes[:2]:
            node.stop()
        await client.create_stream("s")
        with pytest.raises(StreamAlreadyExists):
            await client.create_stream("s")

    assert len(cluster.heard(c.Create)) == 2


async def test_a_request_that_no_broker_takes_is_bounded_in_time() -> None:
    cluster = FakeCluster()
    async with client_of(cluster, rpc_timeout_s=0.3) as client:
        cluster.node(0).cut_off()
        begin = time.monotonic()
        with pytest.raises(RequestTimeout):
            await client.stream_exists("s")
        with pytest.raises(RequestTimeout):
            await client.delete_stream("s")
        cluster.node(0).restore()
        cluster.node(0).stop()
        with pytest.raises(ConnectFailed):
            await client.stream_exists("s")
        assert time.monotonic() - begin < 2.5


async def test_an_offset_is_stored_over_a_fresh_connection_when_the_old_one_died() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with client_of(cluster) as client:
        cluster.connections()[0].drop()
        await client.store_offset("me", "s", 7)
        assert await client.query_offset("me", "s") == 7


# Reaching a cluster at all


async def test_f04_f06_one_broker_that_answers_is_enough() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s")
    cluster.node(0).freeze()
    cluster.node(1).stop()
    begin = time.monotonic()
    async with client_of(cluster) as client:
        assert time.monotonic() - begin < 0.5, "a frozen broker is not waited for"
        await where(client)


async def test_when_none_can_be_reached_connect_says_why() -> None:
    cluster = FakeCluster(nodes=2)
    for node in cluster.nodes:
        node.stop()
    with pytest.raises(ConnectFailed, match=r"node-[01]:5552: connect: Connection refused"):
        async with client_of(cluster):
            pass
    assert len(cluster.network.attempts) == 2, "each is tried once"


async def test_f87_a_wrong_password_at_first_is_raised_at_once() -> None:
    cluster = FakeCluster()
    with pytest.raises(AuthenticationFailure):
        async with connect(cluster.uri, opener=cluster.open, password="wrong", options=options()):
            pass
    assert len(cluster.network.attempts) == 1


async def test_a_vhost_that_is_not_there_is_raised_at_once() -> None:
    cluster = FakeCluster()
    with pytest.raises(VirtualHostAccessFailure):
        async with connect(cluster.uri, opener=cluster.open, vhost="nowhere", options=options()):
            pass


async def test_f14_a_name_that_does_not_resolve_is_resolved_again() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    async with client_of(cluster) as client:
        cluster.network.fail("node-0", 5552, step="resolve", cause="Name or service not known", times=3)
        cluster.connections()[0].drop()
        await until(lambda: not cluster.connections())
        await where(client)

    assert len(cluster.network.attempts) == 5


async def test_f15_a_leader_with_a_name_that_only_the_cluster_knows_is_named_in_the_reason() -> None:
    cluster = FakeCluster()
    cluster.create("s")
    cluster.node(0).advertised = ("inside", 5552)
    async with client_of(cluster) as client:
        with pytest.raises(RequestTimeout):
            await client.producer("s", start_timeout_s=0.2)
        starting = asyncio.create_task(client.producer("s"))
        reasons: list[str] = []
        while not any("inside:5552" in reason for reason in reasons):
            reasons = [node.last_reason for node in await find(client, "Publisher")]
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting


async def test_a_locator_that_crashed_is_back_and_who_waited_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    cluster.create("s")
    answer = Search._answer
    crashes = 0

    def crash(self: Search, question: m.WhereIs, states: dict[str, m.StreamState]) -> bool:
        nonlocal crashes
        crashes += 1
        if crashes == 1:
            raise ValueError("a bug")
        return answer(self, question, states)

    monkeypatch.setattr(Search, "_answer", crash)
    async with client_of(cluster) as client, await client.producer("s") as producer:
        await producer.send_wait(b"x")
        assert (await find(client, "Locator"))[0].restarts == 1


@pytest.mark.parametrize("state", ["frozen", "cut off", "refused"])
async def test_i14_f77_a_client_closes_in_bounded_time(state: str) -> None:
    cluster = FakeCluster(nodes=2)
    cluster.create("s")
    async with client_of(cluster) as client:
        cluster.move_leader("s", None)
        waiting = asyncio.create_task(where(client))
        await until(lambda: asked(cluster) >= 2)
        for node in cluster.nodes:
            {"frozen": node.freeze, "cut off": node.cut_off, "refused": node.stop}[state]()
        begin = time.monotonic()
        await client.close()
        assert time.monotonic() - begin < 2.0
        with pytest.raises(ConnectionLost):
            await waiting
