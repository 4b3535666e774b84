"""The search for a leader: what is worth telling, and who is tried meanwhile."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from actorstream import Endpoint
from actorstream.actors import messages as m, pool as pool_module, reaching, search as search_module
from actorstream.actors.search import Search
from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.errors import ActorStreamError, ConnectFailed, StreamNotAvailable
from actorstream.wire import commands as c
from tests.actors.clock import settle
from tests.actors.publishing import client_of
from tests.peer import FakeCluster, FakeNode, until

pytestmark = pytest.mark.timeout(20)

ONE, TWO, THREE = (Endpoint(f"node-{number}", 5552) for number in range(3))
LEADER = m.WhereIs("s")
ANY = m.WhereIs("s", any_member=True)


class Brokers:
    """What a search sees of brokers; `away` are those that could not be reached just now."""

    def __init__(self) -> None:
        self.state = m.StreamState(1, ONE, (TWO, THREE))
        self.away: set[Endpoint] = set()
        self.queries = 0
        self.tried: list[Endpoint] = []
        self.came_back = asyncio.Event()
        self.error: ActorStreamError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.search = Search(
            metadata=self._metadata, refused_at=self._refused_at, reach=self._reach, spawn=asyncio.ensure_future
        )

    async def _metadata(self, streams: tuple[str, ...]) -> dict[str, m.StreamState]:
        self.queries += 1
        return dict.fromkeys(streams, self.state)

    def _refused_at(self, endpoint: Endpoint) -> float:
        return asyncio.get_running_loop().time() if endpoint in self.away else -math.inf

    async def _reach(self, endpoint: Endpoint) -> None:
        self.tried.append(endpoint)
        if self.error is not None:
            raise self.error
        await self.came_back.wait()


async def test_a_leader_that_could_not_be_reached_is_not_told_and_is_tried_once() -> None:
    brokers = Brokers()
    brokers.away = {ONE}
    answers = [brokers.search.ask(LEADER) for _ in range(10)]
    await until(lambda: brokers.queries >= 3)
    assert not any(answer.done() for answer in answers)
    assert brokers.tried == [ONE]

    brokers.away.clear()
    brokers.came_back.set()
    assert (await answers[0]).leader == ONE


async def test_a_leader_that_is_away_is_tried_again_until_it_is_there() -> None:
    brokers = Brokers()
    brokers.away = {ONE}
    brokers.error = ConnectFailed(str(ONE), "connect", "Connection refused")
    answer = brokers.search.ask(LEADER)
    await until(lambda: len(brokers.tried) >= 3)
    brokers.error = None
    brokers.away.clear()
    brokers.came_back.set()

    assert (await answer).leader == ONE


async def test_another_leader_is_told_as_soon_as_there_is_one() -> None:
    brokers = Brokers()
    brokers.away = {ONE}
    answer = brokers.search.ask(LEADER)
    await until(lambda: brokers.queries >= 3)
    brokers.state = m.StreamState(1, TWO, (THREE, ONE))

    assert await answer == m.Members(TWO, (THREE,), away=(ONE,))
    brokers.came_back.set()
    await settle()


async def test_what_has_been_reached_is_told_although_others_were_refused_there_before() -> None:
    brokers = Brokers()
    past = asyncio.get_running_loop().time() - 0.1
    brokers.search._refused_at = lambda endpoint: past if endpoint == ONE else -math.inf
    brokers.came_back.set()

    assert (await brokers.search.ask(LEADER)).leader == ONE
    assert brokers.queries == 2, "once more after it was reached, and not over and over"


async def test_who_can_do_without_the_leader_does_not_wait_for_it() -> None:
    brokers = Brokers()
    brokers.away = {ONE, TWO}

    assert await brokers.search.ask(ANY) == m.Members(ONE, (THREE,), away=(TWO,))
    assert not brokers.tried


async def test_why_a_leader_cannot_be_reached_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "WANTED_FROM_AFAR_S", 0.05)
    brokers = Brokers()
    brokers.away = {ONE}
    brokers.error = ConnectFailed(str(ONE), "connect", "Connection refused")
    with pytest.raises(ConnectFailed, match="Connection refused"):
        await brokers.search.ask(LEADER)
    assert len(brokers.search) == 0


async def test_who_asks_for_another_leader_hears_after_a_while_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_module, "WANTED_ELSEWHERE_S", 0.05)
    brokers = Brokers()
    with pytest.raises(StreamNotAvailable):
        await brokers.search.ask(m.WhereIs("s", other_than=ONE))
    assert (await brokers.search.ask(m.WhereIs("s", other_than=TWO))).leader == ONE


# In the client


def lose(node: FakeNode) -> None:
    """Nobody can connect to a node any more; the others do not know that yet, and name it as they did."""
    node.cluster.network.refuse(node.host, node.port)
    for peer in list(node.peers):
        peer.drop()


def is_for_publishing(command: c.PeerProperties) -> bool:
    return "publisher" in command.properties["connection_name"]


class Longest(random.Random):
    def uniform(self, _low: float, high: float) -> float:
        return high


async def test_f01_a_dead_leader_that_is_still_named_does_not_keep_a_producer_from_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second attempt at the dead broker would come a minute later."""
    patient = BackoffPolicy(base_s=60.0, cap_s=60.0)
    monkeypatch.setattr(pool_module, "Backoff", lambda *_: Backoff(patient, Longest()))
    cluster = FakeCluster(nodes=3)
    cluster.create("s", leader=0)
    async with client_of(cluster) as client, await client.producer("s") as producer:
        await producer.send_wait(b"before")
        lose(cluster.node(0))
        receipt = await producer.send(b"after")
        before = len(cluster.heard(c.Metadata))
        await until(lambda: len(cluster.heard(c.Metadata)) > before + 5)
        cluster.move_leader("s", 1)
        async with asyncio.timeout(5):
            await receipt


async def test_f06_a_leader_that_does_not_answer_is_left_when_another_one_is_elected() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s", leader=0)
    async with client_of(cluster, rpc_timeout_s=60.0) as client, await client.producer("s") as producer:
        await producer.send_wait(b"before")
        silent = cluster.drop(c.PeerProperties, node=0, when=is_for_publishing)
        for peer in list(cluster.node(0).peers):
            peer.drop()
        receipt = await producer.send(b"after")
        await until(lambda: silent.hits)
        cluster.move_leader("s", 1)
        async with asyncio.timeout(5):
            await receipt


async def test_f06_a_replica_that_does_not_answer_is_left_for_another_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "MEMBER_PATIENCE_S", 0.05)
    cluster = FakeCluster(nodes=2)
    cluster.create("s", leader=0, replicas=(1,))
    cluster.publish("s", [b"x"])
    silent = cluster.drop(c.PeerProperties, node=1)
    async with (
        client_of(cluster, rpc_timeout_s=60.0) as client,
        await client.consumer("s", "first", start_timeout_s=5.0) as consumer,
    ):
        assert (await anext(aiter(consumer))).body == b"x"
    assert silent.hits


async def test_f06_the_last_member_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "MEMBER_PATIENCE_S", 0.05)
    cluster = FakeCluster()
    cluster.create("s")
    cluster.publish("s", [b"x"])
    async with client_of(cluster, rpc_timeout_s=60.0) as client:
        slow = cluster.script.hold(c.PeerProperties)
        opening = asyncio.create_task(client.consumer("s", "first"))
        await until(lambda: slow.waiting)
        await asyncio.sleep(0.2)
        slow.release()
        async with await opening as consumer:
            assert (await anext(aiter(consumer))).body == b"x"
    assert len(cluster.network.attempts) == 2, "one for questions, and one for the consumer"


def opened(cluster: FakeCluster, role: str) -> int:
    """How many connections of a role are open."""
    return sum(
        peer.is_open
        and any(
            isinstance(one, c.PeerProperties) and role in one.properties["connection_name"] for one in peer.received
        )
        for peer in cluster.connections()
    )


async def test_i9_when_all_connections_are_cut_those_to_come_are_made_while_the_leader_is_asked_for() -> None:
    cluster = FakeCluster(nodes=3)
    cluster.create("s", leader=0)
    async with (
        client_of(cluster, hedge_s=5.0) as client,
        await client.producer("s") as producer,
        await client.consumer("s", "first") as consumer,
    ):
        await producer.send_wait(b"before")
        messages = aiter(consumer)
        await anext(messages)
        asked = cluster.script.hold(c.Metadata)
        for peer in cluster.connections():
            peer.drop()
        receipt = await producer.send(b"after")
        await until(lambda: asked.waiting and opened(cluster, "publisher") and opened(cluster, "consumer"))
        asked.release()
        await receipt
        assert (await anext(messages)).body == b"after"
        assert (opened(cluster, "publisher"), opened(cluster, "consumer")) == (1, 1), "none that nobody needs"


async def test_a_connection_that_was_made_for_nobody_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LINGER_S", 0.05)
    cluster = FakeCluster(nodes=2)
    cluster.create("s", leader=0)
    async with client_of(cluster, hedge_s=5.0) as client, await client.producer("s") as producer:
        await producer.send_wait(b"before")
        cluster.move_leader("s", 1)
        await producer.send_wait(b"after")
        await until(lambda: opened(cluster, "publisher") == 1)
