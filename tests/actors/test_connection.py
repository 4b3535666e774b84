"""A connection lives and dies whole: who waits on it hears why, who is attached finds another one."""

from __future__ import annotations

import ast
import asyncio
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pykka
import pytest

import actorstream
from actorstream import Client, Endpoint, Receipt, events
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.connection import Connection
from actorstream.actors.pool import CONTROL, PUBLISHING, lease, next_attachment
from actorstream.actors.runtime import Home, StreamActor, start_in
from actorstream.errors import (
    AccessRefused,
    ClosedByBroker,
    ConnectFailed,
    ConnectionLost,
    HeartbeatTimeout,
    RequestTimeout,
    UnsupportedByBroker,
)
from actorstream.wire import commands as c
from actorstream.wire.capabilities import Feature
from tests.actors.publishing import client_of, declared, entities, eventually, find
from tests.peer import FakeCluster, Peer, until

pytestmark = pytest.mark.timeout(20)

NODE = Endpoint("node-0", 5552)


def one_stream(**arguments: Any) -> FakeCluster:
    cluster = FakeCluster(**arguments)
    cluster.create("s")
    return cluster


async def slot_of(client: Client, role: str = PUBLISHING) -> m.Slot:
    return await lease(client._grown._pool, NODE, role)


def publishing_peer(cluster: FakeCluster) -> Peer:
    return cluster.connections()[-1]


class Entity(StreamActor):
    """Somebody to attach."""

    def __init__(self, told: list[object]) -> None:
        super().__init__()
        self._told = told

    def on_receive(self, message: object) -> None:
        self._told.append(message)


def entity(told: list[object]) -> pykka.ActorRef[Entity]:
    return start_in(Home.here(), lambda: Entity(told), name="entity")


def ignore(_ids: Sequence[int]) -> None:
    """Take what is confirmed."""


# Coming up


async def test_what_is_asked_before_it_is_open_is_answered_once_it_is() -> None:
    cluster = one_stream()
    held = cluster.hold(c.Open, when=lambda _: len(cluster.peers) > 1)
    async with client_of(cluster) as client:
        slot = await slot_of(client)
        opening = asyncio.create_task(call(slot.connection, m.Open()))
        asking = asyncio.create_task(call(slot.connection, m.Request(c.Metadata(("s",)))))
        await until(lambda: held.waiting)
        held.release()

        negotiated = await opening
        assert (negotiated.endpoint, negotiated.frame_max) == (NODE, 1_048_576)
        assert isinstance(await asking, c.MetadataResponse)


@pytest.mark.parametrize(("version", "has_filters"), [("3.12.14", False), ("3.13.7", True)])
async def test_an_open_connection_tells_what_its_broker_can_do(version: str, has_filters: bool) -> None:
    async with client_of(one_stream(version=version)) as client:
        negotiated: m.Negotiated = await call((await slot_of(client)).connection, m.Open())

        assert negotiated.supports(Feature.FILTERING) is has_filters
        negotiated.require(Feature.STREAM_STATS)
        with pytest.raises(UnsupportedByBroker, match=f"4.3 or newer, and this broker is {version}"):
            negotiated.require(Feature.RESOLVE_OFFSET)


@pytest.mark.parametrize(
    ("step", "command"),
    [
        ("peer-properties", c.PeerProperties),
        ("sasl-handshake", c.SaslHandshake),
        ("sasl-authenticate", c.SaslAuthenticate),
        ("tune", c.SaslAuthenticate),
        ("open", c.Open),
        ("exchange-command-versions", c.ExchangeCommandVersions),
    ],
)
async def test_f06_every_step_of_the_handshake_has_a_deadline(step: str, command: type[c.Command]) -> None:
    cluster = one_stream()
    async with client_of(cluster, rpc_timeout_s=0.1) as client:
        if step == "tune":
            cluster.script.respond(command, c.SaslAuthenticateResponse(1, None))
        else:
            cluster.drop(command)
        slot = await slot_of(client)
        with pytest.raises(ConnectFailed) as raised:
            await call(slot.connection, m.Open())

        assert raised.value.step == step
        assert str(raised.value) == f"cannot connect to node-0:5552: {step}: no answer within 0.1 s"


async def test_f90_the_heartbeat_is_the_smaller_of_both_and_zero_gives_way() -> None:
    for ours, theirs, settled in ((15, 60, 15), (60, 5, 5), (0, 7, 7), (7, 0, 7), (0, 0, 0)):
        cluster = one_stream(heartbeat_s=theirs)
        async with client_of(cluster, heartbeat_s=ours) as client:
            negotiated = await call((await slot_of(client, CONTROL)).connection, m.Open())
            assert negotiated.heartbeat_s == settled
            (peer,) = cluster.connections()
            assert peer.tune is not None
            assert peer.tune.heartbeat == settled


async def test_f87_credentials_that_were_good_before_are_tried_again_with_a_long_pause() -> None:
    """A broker that starts refuses log-ins while its users are not there yet."""
    cluster = one_stream(nodes=2)
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        channel = client._grown.bus.listen()
        cluster.users = {"guest": "changed"}
        publishing_peer(cluster).drop()
        receipt = await producer.send(b"x")
        await until(lambda: len(cluster.network.attempts) >= 4)
        await asyncio.sleep(0.3)
        attempts = len(cluster.network.attempts)
        (publisher,) = await find(client, "Publisher")
        happened = [channel.get_nowait() for _ in range(len(channel))]

        assert attempts <= 4, "the next one is five seconds away"
        assert not receipt.done
        assert "authentication failure" in publisher.last_reason + str(happened)
        assert any(isinstance(one, events.Disconnected) for one in happened)
        cluster.users = {"guest": "guest"}
        cluster.move_leader("s", 1)
        await receipt
        assert cluster.bodies("s") == [b"x"]


# Requests


async def test_f80_whoever_waits_for_an_answer_hears_that_the_connection_ended() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        slot = await slot_of(client)
        await call(slot.connection, m.Open())
        cluster.drop(c.Metadata)
        asking = [asyncio.create_task(call(slot.connection, m.Request(c.Metadata(("s",))))) for _ in range(3)]
        await until(lambda: len(cluster.heard(c.Metadata)) == 3)
        publishing_peer(cluster).drop()

        for result in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(result, ConnectionLost)


async def test_f12_a_close_from_the_broker_is_answered_and_its_reason_is_told_to_all() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        slot = await slot_of(client)
        await call(slot.connection, m.Open())
        cluster.drop(c.Metadata)
        asking = asyncio.create_task(call(slot.connection, m.Request(c.Metadata(("s",)))))
        await until(lambda: cluster.heard(c.Metadata))
        peer = publishing_peer(cluster)
        peer.close(14, "frame too large")
        with pytest.raises(ClosedByBroker) as raised:
            await asking

        assert (raised.value.code, raised.value.reason) == (14, "frame too large")
        await until(lambda: peer.is_closed)
        assert isinstance(peer.received[-1], c.CloseResponse)


async def test_f07_an_answer_that_came_too_late_is_nobodys() -> None:
    cluster = one_stream()
    late = cluster.script.hold_answer(c.Metadata, times=1)
    async with client_of(cluster, rpc_timeout_s=0.1) as client:
        slot = await slot_of(client)
        await call(slot.connection, m.Open())
        with pytest.raises(RequestTimeout):
            await call(slot.connection, m.Request(c.Metadata(("s",))))
        late.release()
        response = await call(slot.connection, m.Request(c.Metadata(("other",))))

        assert response.streams[0].stream == "other"


async def test_f64_an_unknown_frame_is_told_and_skipped() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client:
        channel = client._grown.bus.listen()
        cluster.connections()[0].send_unknown_frame()
        assert await client.stream_exists("s")
        happened = [channel.get_nowait() for _ in range(len(channel))]

        assert [type(one) for one in happened] == [events.FrameSkipped]


# Being alive


@pytest.mark.parametrize("how", ["cut off", "frozen"])
async def test_f05_a_silent_peer_is_dead_after_two_heartbeats_and_nobody_waits_for_it(how: str) -> None:
    cluster = one_stream(nodes=2)
    async with client_of(cluster, heartbeat_s=1) as client, await client.producer("s", name="n") as producer:
        channel = client._grown.bus.listen()
        begin = time.monotonic()
        {"cut off": cluster.node(0).cut_off, "frozen": cluster.node(0).freeze}[how]()
        receipt = await producer.send(b"x")
        gone = await channel.get()
        while not isinstance(gone, events.Disconnected):
            gone = await channel.get()
        assert isinstance(gone.reason, HeartbeatTimeout)
        assert 1.5 < time.monotonic() - begin < 4
        cluster.stream("s").leader = 1
        await receipt
        assert cluster.bodies("s") == [b"x"]


async def test_f17_f90_a_quiet_connection_is_kept_alive_in_both_directions() -> None:
    cluster = one_stream()
    async with client_of(cluster, heartbeat_s=1) as client:
        peer = cluster.connections()[0]
        begin = time.monotonic()
        while time.monotonic() - begin < 2.6:
            peer.heartbeat()
            await asyncio.sleep(0.3)

        assert not peer.is_closed
        assert 4 <= sum(isinstance(command, c.Heartbeat) for command in peer.received) <= 7, "two an interval"
        assert await client.stream_exists("s")


# Attachments and ids


async def test_f61_f32_an_id_is_free_only_when_the_broker_has_let_go_of_it() -> None:
    cluster = one_stream()
    held = cluster.script.hold_answer(c.DeletePublisher)
    async with client_of(cluster) as client:
        ref = entity([])
        slot = await slot_of(client)
        await call(slot.connection, m.AttachPublisher(slot, next_attachment(), ref, "s", "", ignore))
        assert declared(cluster) == ["s"]
        await ref.stop(block=False)
        await until(lambda: held.waiting)
        assert await entities(client) == 1
        held.release()
        await eventually(client, 0)


async def test_a_refused_publisher_gives_its_id_back() -> None:
    cluster = one_stream()
    cluster.script.respond(c.DeclarePublisher, code=16)
    async with client_of(cluster) as client:
        ref = entity([])
        slot = await slot_of(client)
        with pytest.raises(AccessRefused):
            await call(slot.connection, m.AttachPublisher(slot, next_attachment(), ref, "s", "", ignore))
        await eventually(client, 0)
        assert not cluster.heard(c.DeletePublisher), "there is nothing to delete"
        await ref.stop(block=False)


async def test_an_id_is_given_back_once_when_its_owner_dies_before_it_is_refused() -> None:
    """Twice, and with 256 in use it would be taken from whoever got it in between."""
    cluster = one_stream()
    declaring = cluster.script.hold_answer(c.DeclarePublisher)
    deleting = cluster.script.hold_answer(c.DeletePublisher)
    async with client_of(cluster) as client:
        ref = entity([])
        slots = [await slot_of(client) for _ in range(256)]
        attaching = asyncio.create_task(
            call(slots[0].connection, m.AttachPublisher(slots[0], next_attachment(), ref, "nowhere", "", ignore))
        )
        await until(lambda: declaring.waiting)
        await ref.stop(block=False)
        await until(lambda: deleting.waiting)
        declaring.release()
        with pytest.raises(Exception, match="stream does not exist"):
            await attaching
        assert await entities(client) == 256, "the broker has yet to answer the second request"
        deleting.release()
        await eventually(client, 255)
        again = await slot_of(client)
        assert (again.name, again.entity_id) == (slots[0].name, 0)
        assert await entities(client) == 256


async def test_f11_what_is_confirmed_goes_to_the_attachment_whose_id_it_is() -> None:
    cluster = one_stream()
    confirms: list[tuple[int, ...]] = []

    def confirmed(attachment: int) -> Callable[[Sequence[int]], None]:
        return lambda ids: confirms.append((attachment, *ids))

    async with client_of(cluster) as client:
        ref = entity([])
        slot = await slot_of(client)
        first, second = next_attachment(), next_attachment()
        await call(slot.connection, m.AttachPublisher(slot, first, ref, "s", "", confirmed(first)))
        publishing_peer(cluster).send(c.PublishConfirm(slot.entity_id, (1,)))
        await call(slot.connection, m.Detach(first))
        publishing_peer(cluster).send(c.PublishConfirm(slot.entity_id, (2,)))
        other = await slot_of(client)
        await call(slot.connection, m.AttachPublisher(other, second, ref, "s", "", confirmed(second)))
        publishing_peer(cluster).send(c.PublishConfirm(other.entity_id, (3,)))
        await until(lambda: len(confirms) == 2)

        assert confirms == [(first, 1), (second, 3)], "what nobody is attached to is dropped"
        await ref.stop(block=False)


async def test_f03_a_metadata_update_concerns_only_who_uses_that_stream() -> None:
    cluster = one_stream()
    cluster.create("other")
    told: list[object] = []
    async with client_of(cluster) as client:
        ref = entity(told)
        for stream in ("s", "other"):
            slot = await slot_of(client)
            number = next_attachment()
            await call(slot.connection, m.AttachPublisher(slot, number, ref, stream, "", ignore))
        publishing_peer(cluster).metadata_update("other")
        await until(lambda: told)

        assert told == [m.TopologyChanged(number, "other", 6)]
        await ref.stop(block=False)


async def test_f79_an_error_while_reading_ends_the_connection_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        channel = client._grown.bus.listen()

        def crash(self: Connection, stream: str, code: int) -> None:
            monkeypatch.undo()
            raise ValueError("a bug")

        monkeypatch.setattr(Connection, "_on_metadata_update", crash)
        publishing_peer(cluster).metadata_update("s")
        await until(lambda: not publishing_peer(cluster).publishers)
        await producer.send_wait(b"x")
        happened = [channel.get_nowait() for _ in range(len(channel))]

        assert any(isinstance(one, events.Disconnected) and isinstance(one.reason, ValueError) for one in happened)
        assert cluster.bodies("s") == [b"x"]


# Bytes


async def test_f13_confirms_that_come_with_the_end_count() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s") as producer:
        cluster.script.cut_answer(c.Publish, 1000, times=1)  # all of it, and the end
        await producer.send_wait(b"x")

        assert cluster.bodies("s") == [b"x"], "and is not sent again"


@pytest.mark.parametrize("sizes", [(1,), (1, 7, 3)])
async def test_bytes_may_come_one_by_one(sizes: tuple[int, ...]) -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s") as producer:
        for peer in cluster.connections():
            peer.link.split(*sizes)
        receipts: list[Receipt] = [await producer.send(b"%d" % number) for number in range(20)]
        await producer.flush(5)

        assert all(receipt.confirmed for receipt in receipts)


async def test_a_connection_cut_in_the_middle_of_a_frame_is_replaced() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        for size in (0, 3, 4, 9, 14):
            cluster.script.cut_answer(c.Publish, size, times=1)
            await producer.send_wait(b"%d" % size)

        assert cluster.bodies("s") == [b"0", b"3", b"4", b"9", b"14"]


async def test_a_broker_that_does_not_follow_the_protocol_costs_the_connection() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s", name="n") as producer:
        channel = client._grown.bus.listen()
        publishing_peer(cluster).send_bytes(b"\0\0\0\x07\0\x03\0\x01\0\0\0")  # a confirm that ends too early
        gone = await channel.get()
        await producer.send_wait(b"x")

        assert isinstance(gone, events.Disconnected)
        assert "does not follow the protocol" in str(gone.reason)


# Ends


async def test_f77_a_polite_close_does_not_wait_for_a_dead_peer() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s"):
        cluster.node(0).freeze()
        begin = time.monotonic()
        await client.close()
        assert time.monotonic() - begin < 3.5


async def test_a_client_says_good_bye_on_every_connection() -> None:
    cluster = one_stream()
    async with client_of(cluster) as client, await client.producer("s"):
        peers = cluster.connections()
        assert len(peers) == 2
    assert all(isinstance(peer.received[-1], c.Close) for peer in peers)
    assert cluster.connections() == []
    del client


def test_f20_no_clock_is_read_that_can_jump() -> None:
    """A wall clock may jump, or stand still; what ends or expires goes by a monotonic one.

    A token may name its end by the wall clock: that is translated once, when it is obtained.
    """
    sources = list(Path(actorstream.__file__).parent.rglob("*.py"))
    assert len(sources) > 30
    calls = [
        f"{path.name}:{node.lineno}: {ast.unparse(node.func)}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    read = [
        one
        for one in calls
        if re.search(r"\b(time|time_ns|now|utcnow|today)$", one) and "clock" not in one and "loop" not in one
    ]
    assert [one.split(":")[0] for one in read] == ["credentials.py"], read
