"""A leader that was cut off from its peers: it lives, takes messages, and can confirm none."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from actorstream import Endpoint
from actorstream.actors import doubt as doubt_module, messages as m
from actorstream.actors.doubt import Doubt
from actorstream.actors.outbox import Outbox
from actorstream.actors.survey import Survey
from actorstream.errors import ConnectionLost
from actorstream.wire import commands as c
from tests.actors.publishing import client_of, find
from tests.peer import FakeCluster, until

pytestmark = pytest.mark.timeout(20)

ONE, TWO, THREE = (Endpoint(f"node-{number}", 5552) for number in range(3))
MEMBERS = m.Members(ONE, (TWO, THREE))


# When there is doubt


class Counts:
    """What a doubt looks at of an outbox."""

    def __init__(self) -> None:
        self.confirmed = self.failed = self.in_flight = 0

    def doubt(self, heartbeat_s: float = 10.0) -> Doubt:
        return Doubt(cast("Outbox", self), heartbeat_s)


def test_doubt_arises_when_nothing_was_settled_between_two_looks() -> None:
    outbox = Counts()
    doubt = outbox.doubt()
    outbox.in_flight = 3
    assert [doubt.arises(), doubt.arises(), doubt.arises()] == [False, True, True]
    outbox.confirmed = 1
    assert not doubt.arises()
    outbox.failed = 1
    assert not doubt.arises()
    assert doubt.arises()


def test_where_nothing_is_on_its_way_there_is_no_doubt() -> None:
    outbox = Counts()
    doubt = outbox.doubt()
    assert not any(doubt.arises() for _ in range(5))
    outbox.in_flight = 1
    assert not doubt.arises(), "it may have left a moment ago"
    outbox.in_flight = 0
    assert not doubt.arises()
    outbox.in_flight = 1
    assert not doubt.arises()


def test_who_has_no_heartbeats_doubts_all_the_same() -> None:
    assert Counts().doubt(30.0).pause_s == 15.0
    assert Counts().doubt(0.0).pause_s == 5.0


# What the members say


class Members:
    """What each member says of who leads; nothing: it does not answer."""

    def __init__(self, words: dict[Endpoint, Endpoint | None]) -> None:
        self.words = words
        self.queries: list[tuple[Endpoint, tuple[str, ...]]] = []
        self.survey = Survey(metadata_of=self._metadata_of, spawn=asyncio.ensure_future)

    async def _metadata_of(self, endpoint: Endpoint, streams: tuple[str, ...]) -> dict[str, m.StreamState]:
        self.queries.append((endpoint, streams))
        if endpoint not in self.words:
            raise ConnectionLost("it is away")
        return dict.fromkeys(streams, m.StreamState(1, self.words[endpoint], ()))

    async def elsewhere(self, stream: str = "s", members: m.Members = MEMBERS) -> bool:
        return await self.survey.is_led_elsewhere(m.IsLedElsewhere(stream, ONE, members))


@pytest.mark.parametrize(
    ("words", "elsewhere"),
    [
        ({TWO: TWO, THREE: TWO}, True),
        ({TWO: TWO, THREE: THREE}, False),
        ({TWO: TWO, THREE: ONE}, False),
        ({TWO: TWO, THREE: None}, False),
        ({TWO: None, THREE: None}, False),
        ({TWO: TWO}, False),
        ({TWO: ONE, THREE: ONE}, False),
        ({}, False),
    ],
)
async def test_only_most_of_the_members_can_say_that_another_one_leads(
    words: dict[Endpoint, Endpoint | None], elsewhere: bool
) -> None:
    members = Members(words)
    assert await members.elsewhere() is elsewhere
    assert sorted(map(str, dict(members.queries))) == [str(TWO), str(THREE)], "the doubtful one is not asked"


async def test_members_that_are_away_count() -> None:
    assert not await Members({TWO: TWO}).elsewhere(members=m.Members(ONE, (TWO,), away=(THREE,)))


async def test_i15_what_many_ask_at_the_same_time_is_one_query_to_each_member() -> None:
    members = Members({TWO: TWO, THREE: TWO})
    streams = {f"s{number}" for number in range(50)}
    assert all(await asyncio.gather(*(members.elsewhere(stream) for stream in streams for _ in range(3))))
    assert [set(asked) for _, asked in members.queries] == [streams, streams]


# In the client


def says(leader: int) -> c.MetadataResponse:
    brokers = tuple(c.MetadataBroker(number, f"node-{number}", 5552) for number in range(3))
    replicas = tuple(number for number in range(3) if number != leader)
    return c.MetadataResponse(1, brokers, (c.MetadataStream("s", 1, leader, replicas),))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(doubt_module, "WITHOUT_HEARTBEATS_S", 0.1)
    return {"heartbeat_s": 0}


async def test_a_producer_leaves_a_leader_that_its_peers_have_replaced(quick: dict[str, Any]) -> None:
    cluster = FakeCluster(nodes=3, heartbeat_s=0)
    cluster.create("s", leader=0)
    async with client_of(cluster, **quick) as client, await client.producer("s", name="p") as producer:
        await producer.send_wait(b"before")
        cut_off = cluster.drop(c.Publish, node=0)
        cluster.respond(c.Metadata, says(0), node=0)
        cluster.stream("s").leader = 1
        receipt = await producer.send(b"after")
        async with asyncio.timeout(10):
            await receipt
        assert cut_off.hits
        assert [node.details["broker"] for node in await find(client, "Publisher")] == ["node-1:5552"]
    assert cluster.bodies("s") == [b"before", b"after"]


async def test_a_producer_stays_with_its_leader_when_one_member_is_mistaken(quick: dict[str, Any]) -> None:
    cluster = FakeCluster(nodes=3, heartbeat_s=0)
    cluster.create("s", leader=0)
    async with client_of(cluster, **quick) as client, await client.producer("s") as producer:
        await producer.send_wait(b"before")
        slow = cluster.script.hold(c.Publish)
        mistaken = cluster.respond(c.Metadata, says(1), node=1)
        receipt = await producer.send(b"after")
        await until(lambda: mistaken.hits >= 3)
        slow.release()
        await receipt
        assert [node.restarts for node in await find(client, "Publisher")] == [0]
