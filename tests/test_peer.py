"""The fake cluster does what a broker does. It is driven by the real session, over a network in memory."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from actorstream import offset
from actorstream.compression import Compression
from actorstream.errors import (
    AuthenticationFailure,
    Closed,
    ClosedByBroker,
    ConnectFailed,
    ConnectionLost,
    CorruptChunk,
    ResponseError,
    SaslMechanismNotSupported,
    VirtualHostAccessFailure,
)
from actorstream.offset import OffsetSpecification
from actorstream.transport import Transport
from actorstream.wire import commands as c
from actorstream.wire.chunk import Chunk
from actorstream.wire.constants import NO_LEADER
from actorstream.wire.publish import data_entry, publish_frames, raw_entry, sub_batch_entry
from actorstream.wire.session import Answered, Ended, Event, Opened, Received, Session, SessionOptions, Skipped, State
from tests.peer import Exchange, FakeCluster, Peer, until
from tests.wire.vectors import NO_OFFSET

C = TypeVar("C", bound=c.Command)


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Caller:
    """A client made of a session and nothing else. Time stands still for it."""

    def __init__(self, **options: Any) -> None:
        self.session = Session(SessionOptions(address="node", **options))
        self.events: list[Event] = []
        self.ends: list[Exception | None] = []
        self.transport: Transport

    async def connect(self, fake: FakeCluster, node: int = 0) -> Caller:
        at = fake.node(node)
        self.transport = await fake.open(at.host, at.port, self, ssl=None, server_hostname=None, timeout_s=1.0)
        self.session.start(0.0)
        self.pump()
        await turns()
        return self

    def data_received(self, data: bytes) -> None:
        self.events += self.session.receive_data(data, 0.0)
        self.pump()

    def connection_lost(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.events += self.session.receive_eof(0.0)

    def pump(self) -> None:
        data = self.session.data_to_send()
        if data and not self.transport.is_closing:
            self.transport.write(data)

    def request(self, command: c.Request) -> int:
        number = self.session.request(command, 0.0, 5.0)
        self.pump()
        return number

    async def ask(self, command: c.Request) -> Any:
        """The answer, by now."""
        number = self.request(command)
        await turns()
        return self.answer(number)

    async def code(self, command: c.Request) -> int:
        response: c.Response = await self.ask(command)
        return response.code

    def answer(self, number: int) -> Any:
        answers = [e.response for e in self.events if isinstance(e, Answered) and e.correlation_id == number]
        return answers[0] if answers else None

    async def say(self, *commands: c.Command) -> None:
        for command in commands:
            self.session.send(command, 0.0)
        self.pump()
        await turns()

    async def say_bytes(self, data: bytes) -> None:
        self.transport.write([data])
        await turns()

    def received(self, kind: type[C]) -> list[C]:
        return [e.command for e in self.events if isinstance(e, Received) and isinstance(e.command, kind)]

    async def respond(self, spec: OffsetSpecification = NO_OFFSET) -> None:
        """Answer the last ConsumerUpdate."""
        asked = [e for e in self.events if isinstance(e, Received) and isinstance(e.command, c.ConsumerUpdate)]
        assert asked[-1].correlation_id is not None
        self.session.respond(c.ConsumerUpdateResponse(1, spec), asked[-1].correlation_id, 0.0)
        self.pump()
        await turns()

    @property
    def error(self) -> Exception | None:
        return next((e.error for e in self.events if isinstance(e, Ended)), None)

    # --- shorthands ---

    async def publish(self, *bodies: bytes, ids: range | list[int] | None = None, publisher: int = 0) -> None:
        numbers = list(ids) if ids is not None else list(range(1, len(bodies) + 1))
        self.session.send_frames(publish_frames(publisher, 1, numbers, [data_entry(b) for b in bodies], 0), 0.0)
        self.pump()
        await turns()

    def confirmed(self) -> list[tuple[int, ...]]:
        return [tuple(confirm.publishing_ids) for confirm in self.received(c.PublishConfirm)]

    def chunk_ids(self) -> list[int]:
        return [Chunk(deliver.chunk).chunk_id for deliver in self.received(c.Deliver)]


@pytest.fixture
def fake() -> FakeCluster:
    fake = FakeCluster(nodes=3)
    fake.create("s", leader=0, replicas=(1, 2))
    return fake


async def subscribe(
    caller: Caller,
    spec: OffsetSpecification | None = None,
    *,
    credit: int = 10,
    number: int = 0,
    stream: str = "s",
    **properties: str,
) -> int:
    named = {name.replace("_", "-"): value for name, value in properties.items()}
    code: int = await caller.code(c.Subscribe(number, stream, spec or offset.first(), credit, named))
    return code


# --- handshake ---


@pytest.mark.parametrize("version", ["3.9.29", "3.10.8", "3.11.5", "3.13.7", "4.0.5", "4.2.6", "4.3.5"])
async def test_a_session_opens_whatever_the_version(version: str) -> None:
    fake = FakeCluster(version=version, frame_max=65536, heartbeat_s=7)
    caller = await Caller(connection_name="me").connect(fake)
    assert caller.session.state is State.OPEN
    assert (caller.session.frame_max, caller.session.heartbeat_s) == (65536, 7)
    assert caller.session.broker_version_text == version
    assert caller.session.connection_properties == {"advertised_host": "node-0", "advertised_port": "5552"}
    [peer] = fake.connections()
    assert peer.client_properties["connection_name"] == "me"
    assert peer.deliver_version == (2 if fake.version_numbers >= (3, 11) else 1)
    assert caller.session.max_version(2) == (2 if fake.version_numbers >= (3, 13) else 1)


async def test_the_versions_listed_are_those_of_a_live_broker() -> None:
    fake = FakeCluster(version="4.0.5")
    listed: list[Any] = []
    fake.script.before_answer(c.ExchangeCommandVersions, lambda x: listed.append(c.decode(x.data[4:])[0]))
    await Caller().connect(fake)
    keys = [1, 2, 5, 6, 7, *range(9, 16), *range(22, 26), *range(28, 31)]
    assert listed[0].commands == tuple(c.CommandVersions(key, 1, 2 if key == 2 else 1) for key in keys)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"password": "wrong"}, AuthenticationFailure),
        ({"username": "nobody"}, AuthenticationFailure),
        ({"mechanism": "EXTERNAL"}, SaslMechanismNotSupported),
        ({"vhost": "/nowhere"}, VirtualHostAccessFailure),
    ],
)
async def test_whoever_may_not_enter_is_told_and_dropped(options: dict[str, str], error: type[ResponseError]) -> None:
    fake = FakeCluster()
    caller = await Caller(**options).connect(fake)
    assert isinstance(caller.error, error)
    if error is not SaslMechanismNotSupported:  # that one the session finds out by itself
        assert caller.ends == [None]


async def test_anonymous_gets_in() -> None:
    caller = await Caller(mechanism="ANONYMOUS").connect(FakeCluster())
    assert caller.session.state is State.OPEN


HELLO = c.encode(c.PeerProperties({}), 0)
MECHANISMS = c.encode(c.SaslHandshake(), 1)


@pytest.mark.parametrize(
    "data",
    [
        MECHANISMS,
        HELLO + MECHANISMS,
        c.encode(c.ExchangeCommandVersions(()), 0),
        c.encode(c.Open("/"), 0),
        c.encode(c.Heartbeat()),
        b"\x00\x00\x00\x04\x7f\x7f\x00\x01",
        b"\x00\x00\x00\x00",
    ],
    ids=["wrong order", "pipelined", "versions early", "open early", "heartbeat", "unknown", "empty"],
)
async def test_anything_unexpected_before_open_is_dropped_without_a_word(data: bytes) -> None:
    fake = FakeCluster()
    caller = Caller()
    node = fake.node(0)
    caller.transport = await fake.open(node.host, node.port, caller, ssl=None, server_hostname=None, timeout_s=1.0)
    await caller.say_bytes(data)
    assert caller.ends == [None]
    assert not caller.received(c.Close)
    assert not fake.connections()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x04\x7f\x7f\x00\x01",
        b"\x00\x00\x00\x04\x00\x17\x00\x02",
        c.encode(c.Delete("s"), 1)[:3] + b"\x0c" + c.encode(c.Delete("s"), 1)[4:] + b"\x00",
        b"\x00\x00\x00\x0a\x00\x0e\x00\x01\x00\x00\x00\x01\xff\xff",
        c.encode(c.PublishConfirm(0, (1,))),
        c.encode(c.PeerProperties({}), 1),
        c.encode(c.DeleteResponse(1), 1),
        c.encode(c.ResolveOffsetSpec("s", offset.first()), 1),
        b"\x00\x00\x00\x0a\x80\x1a\x00\x01\x00\x00\x00\x01\x00\x01",
    ],
    ids=[
        "unknown key",
        "unknown version",
        "trailing byte",
        "null string",
        "server's command",
        "handshake again",
        "stray answer",
        "too new",
        "consumer update without offset type",
    ],
)
async def test_what_a_broker_does_not_understand_it_closes_for(fake: FakeCluster, data: bytes) -> None:
    caller = await Caller().connect(fake)
    await caller.say_bytes(data)
    assert isinstance(caller.error, ClosedByBroker)
    assert caller.error.code == 13


@pytest.mark.parametrize(
    "data",
    [
        c.encode(c.Publish(0, (c.PublishItem(1, b"hello"),)))[:-3].replace(b"\x00\x00\x00\x1a", b"\x00\x00\x00\x17", 1),
        c.encode(c.ExchangeCommandVersions((c.CommandVersions(0x1F, 1, 1),)), 9),
        c.encode(c.Create("new", {"max-age": "soon"}), 9),
        c.encode(c.Create("new", {"max-length-bytes": "much"}), 9),
    ],
    ids=["malformed publish", "unknown key in the list", "max-age", "number"],
)
async def test_what_brings_a_brokers_parser_down_drops_the_connection(fake: FakeCluster, data: bytes) -> None:
    caller = await Caller().connect(fake)
    await caller.say_bytes(data)
    assert caller.ends == [None]
    assert isinstance(caller.error, ConnectionLost)
    assert not isinstance(caller.error, ClosedByBroker)


@pytest.mark.parametrize(("version", "code"), [("4.0.5", None), ("4.2.6", 14), ("4.3.5", 14)])
async def test_frames_too_large_are_refused_by_newer_brokers(version: str, code: int | None) -> None:
    fake = FakeCluster(version=version, frame_max=1000)
    fake.create("s")
    caller = await Caller().connect(fake)
    await caller.ask(c.DeclarePublisher(0, "", "s"))
    await caller.publish(b"x" * 2000)
    assert getattr(caller.error, "code", None) == code


async def test_from_4_3_5_on_the_handshake_has_small_frames() -> None:
    caller = await Caller(password="x" * 9000).connect(FakeCluster(version="4.3.5"))
    assert isinstance(caller.error, ConnectFailed)
    assert caller.ends == [None]


async def test_a_close_is_answered(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    caller.session.close(0.0)
    caller.pump()
    await turns()
    assert isinstance(caller.error, Closed)
    assert caller.ends == [None]
    assert not fake.connections()


async def test_after_its_own_close_a_broker_hears_nothing_but_the_answer(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    [peer] = fake.connections()
    peer.close(1, "maintenance")
    await caller.say_bytes(c.encode(c.Delete("s"), 77))
    assert isinstance(caller.error, ClosedByBroker)
    assert "s" in fake.streams
    assert not fake.connections()


@pytest.mark.parametrize(
    ("mechanism", "user", "password", "code"),
    [
        ("PLAIN", "guest", "renewed", 1),
        ("PLAIN", "guest", "wrong", 8),
        ("PLAIN", "other", "other", 21),
        ("ANONYMOUS", "", "", 20),
    ],
)
async def test_a_secret_is_renewed_without_another_tune(mechanism: str, user: str, password: str, code: int) -> None:
    fake = FakeCluster(users={"guest": "guest", "other": "other"})
    caller = await Caller().connect(fake)
    fake.users["guest"] = "renewed"
    data = b"\0".join([b"", user.encode(), password.encode()]) if mechanism == "PLAIN" else b""
    assert await caller.code(c.SaslAuthenticate(mechanism, data)) == code
    assert caller.session.state is State.OPEN


# --- publishing ---


async def test_what_is_published_is_stored_and_confirmed(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake, node=1)
    assert await caller.code(c.DeclarePublisher(0, "", "s")) == 1
    await caller.publish(b"a", b"b", ids=[7, 7])
    assert caller.confirmed() == [(7, 7)]
    assert fake.bodies("s") == [b"a", b"b"]
    assert [number for number, _ in fake.log("s")] == [0, 1]


async def test_a_reference_drops_what_is_not_newer_and_confirms_it_first(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    await caller.ask(c.DeclarePublisher(0, "ref", "s"))
    await caller.publish(b"ten", b"five", ids=[10, 5])
    assert caller.confirmed() == [(5,), (10,)]
    assert fake.bodies("s") == [b"ten"]
    assert (await caller.ask(c.QueryPublisherSequence("ref", "s"))).sequence == 10
    assert (await caller.ask(c.QueryPublisherSequence("other", "s"))).sequence == 0
    again = await Caller().connect(fake)
    await again.ask(c.DeclarePublisher(3, "ref", "s"))
    await again.publish(b"ten", b"eleven", ids=[10, 11], publisher=3)
    assert again.confirmed() == [(10,), (11,)]
    assert fake.bodies("s") == [b"ten", b"eleven"]


async def test_an_unknown_publisher_is_an_error_for_each_message(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    await caller.publish(b"a", b"b", publisher=9)
    [refused] = caller.received(c.PublishError)
    assert refused == c.PublishError(9, (c.PublishingError(1, 18), c.PublishingError(2, 18)))
    assert await caller.code(c.DeletePublisher(9)) == 18


async def test_declaring_a_publisher_can_fail(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    fake.create("headless")
    fake.move_leader("headless", None)
    assert await caller.code(c.DeclarePublisher(0, "ref", "s")) == 1
    assert await caller.code(c.DeclarePublisher(0, "", "s")) == 17
    assert await caller.code(c.DeclarePublisher(1, "ref", "s")) == 17
    assert await caller.code(c.DeclarePublisher(1, "r" * 256, "s")) == 17
    assert await caller.code(c.DeclarePublisher(1, "", "nowhere")) == 2
    assert await caller.code(c.DeclarePublisher(1, "", "headless")) == 6
    assert await caller.code(c.DeletePublisher(0)) == 1
    assert await caller.code(c.DeclarePublisher(1, "ref", "s")) == 1


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
async def test_a_batch_has_one_confirm_and_many_offsets(fake: FakeCluster, compression: Compression) -> None:
    caller = await Caller().connect(fake)
    await caller.ask(c.DeclarePublisher(0, "", "s"))
    batch = sub_batch_entry([data_entry(b"a"), data_entry(b"b")], compression)
    caller.session.send_frames(publish_frames(0, 1, [1, 2], [batch, data_entry(b"c")], 0), 0.0)
    caller.pump()
    await subscribe(caller)
    assert caller.confirmed() == [(1, 2)]
    assert fake.bodies("s") == [b"a", b"b", b"c"]
    [deliver] = caller.received(c.Deliver)
    chunk = Chunk(deliver.chunk)
    chunk.verify()
    assert [message.body for message in chunk.messages()] == [b"a", b"b", b"c"]


async def test_from_4_3_5_on_a_bad_batch_takes_the_rest_of_its_frame_along() -> None:
    fake = FakeCluster(version="4.3.5")
    fake.create("s")
    caller = await Caller().connect(fake)
    await caller.ask(c.DeclarePublisher(0, "", "s"))
    bad = c.SubBatch(Compression.GZIP, 1000, 8, gzip.compress(b""))
    await caller.say(c.Publish(0, (c.PublishItem(1, b"a"), c.PublishItem(2, bad), c.PublishItem(3, b"c"))))
    assert caller.received(c.PublishError) == [c.PublishError(0, (c.PublishingError(2, 17), c.PublishingError(3, 17)))]
    assert caller.confirmed() == [(1,)]


# --- consuming ---


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (offset.first(), [2, 4, 7]),
        (offset.last(), [7]),
        (offset.next(), []),
        (offset.at(0), [2, 4, 7]),
        (offset.at(3), [2, 4, 7]),
        (offset.at(4), [4, 7]),
        (offset.at(6), [7]),
        (offset.at(1000), []),
        (offset.since(0.003), [4, 7]),
        (offset.since(99), []),
        (offset.since(-1), [2, 4, 7]),
    ],
)
async def test_a_subscription_starts_where_its_offset_says(
    fake: FakeCluster, spec: OffsetSpecification, expected: list[int]
) -> None:
    for timestamp_ms in (1, 2, 3):
        fake.publish("s", [b"a", b"b"], timestamp_ms=timestamp_ms)
    fake.stream("s").truncate_head(2)
    fake.gap("s")
    fake.publish("s", [b"last"], timestamp_ms=4)
    caller = await Caller().connect(fake, node=1)
    assert await subscribe(caller, spec) == 1
    await turns()
    assert caller.chunk_ids() == expected


async def test_what_is_written_later_is_delivered_at_once(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    await subscribe(caller, offset.next())
    fake.publish("s", [b"one"])
    fake.publish("s", [b"two"])
    await turns()
    delivers = caller.received(c.Deliver)
    assert [message.body for d in delivers for message in Chunk(d.chunk).messages()] == [b"one", b"two"]
    assert [d.committed_chunk_id for d in delivers] == [0, 1]


async def test_credit_is_spent_chunk_by_chunk_and_restarts_above_half(fake: FakeCluster) -> None:
    for number in range(12):
        fake.publish("s", [b"%d" % number])
    caller = await Caller().connect(fake)
    await subscribe(caller, credit=4)
    assert len(caller.chunk_ids()) == 4
    await caller.say(c.Credit(0, 1))
    await caller.say(c.Credit(0, 1))
    assert len(caller.chunk_ids()) == 4
    await caller.say(c.Credit(0, 1))
    assert len(caller.chunk_ids()) == 7
    await caller.say(c.Credit(0, 4), c.Credit(0, -2))
    assert len(caller.chunk_ids()) == 11


async def test_before_3_12_every_credit_counts_at_once() -> None:
    fake = FakeCluster(version="3.11.5")
    fake.create("s")
    for _ in range(5):
        fake.publish("s", [b"x"])
    caller = await Caller().connect(fake)
    await subscribe(caller, credit=4)
    await caller.say(c.Credit(0, 1))
    assert len(caller.chunk_ids()) == 5


async def test_without_credit_nothing_is_delivered(fake: FakeCluster) -> None:
    fake.publish("s", [b"x"])
    caller = await Caller().connect(fake)
    await subscribe(caller, credit=0)
    assert not caller.chunk_ids()
    await caller.say(c.Credit(0, 1))
    assert caller.chunk_ids() == [0]


async def test_subscribing_can_fail(fake: FakeCluster) -> None:
    fake.create("elsewhere", leader=1, replicas=(2,))
    caller = await Caller().connect(fake)
    assert await subscribe(caller, number=1) == 1
    assert await subscribe(caller, number=1) == 3
    assert await subscribe(caller, number=2, stream="nowhere") == 2
    assert await subscribe(caller, number=2, stream="elsewhere") == 6
    assert await subscribe(caller, number=2, single_active_consumer="true") == 17
    assert await subscribe(caller, number=2, name="n" * 256) == 17
    assert await caller.code(c.Unsubscribe(1)) == 1
    assert await caller.code(c.Unsubscribe(1)) == 4
    await caller.say(c.Credit(1, 1))
    assert caller.received(c.CreditResponse) == [c.CreditResponse(4, 1)]


async def test_filters_choose_whole_chunks(fake: FakeCluster) -> None:
    fake.publish("s", [b"e"], filter_value="emea")
    fake.publish("s", [b"a"], filter_value="apac")
    fake.publish("s", [b"-"])
    caller = await Caller().connect(fake)
    await caller.ask(c.Subscribe(0, "s", offset.first(), 10, {"filter.0": "emea"}))
    await caller.ask(c.Subscribe(1, "s", offset.first(), 10, {"filter.0": "apac", "match-unfiltered": "true"}))
    delivered = [(d.subscription_id, Chunk(d.chunk).chunk_id) for d in caller.received(c.Deliver)]
    assert delivered == [(0, 0), (1, 1), (1, 2)]


async def test_filter_values_come_with_publish_2(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    await caller.ask(c.DeclarePublisher(0, "", "s"))
    await caller.say(c.PublishFiltered(0, (c.FilteredItem(1, "emea", b"x"), c.FilteredItem(2, None, b"y"))))
    assert caller.confirmed() == [(1, 2)]
    assert fake.stream("s").chunks[0].filter_values == {"emea", None}


async def test_offsets_are_stored_silently(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    assert await caller.code(c.QueryOffset("ref", "s")) == 19
    assert await caller.code(c.QueryOffset("ref", "nowhere")) == 2
    await caller.say(c.StoreOffset("ref", "s", 9), c.StoreOffset("ref", "s", 4), c.StoreOffset("ref", "nowhere", 1))
    await caller.say(c.StoreOffset("r" * 256, "s", 1))
    assert await caller.ask(c.QueryOffset("ref", "s")) == c.QueryOffsetResponse(1, 4)
    assert fake.stream("s").offsets == {"ref": 4}


async def test_statistics_are_chunk_ids(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    empty = await caller.ask(c.StreamStats("s"))
    assert empty.stats == {"first_chunk_id": -1, "last_chunk_id": -1, "committed_chunk_id": -1}
    fake.publish("s", [b"a", b"b"])
    fake.publish("s", [b"c", b"d"])
    fake.gap("s")
    full = await caller.ask(c.StreamStats("s"))
    assert full.stats == {"first_chunk_id": 0, "last_chunk_id": 2, "committed_chunk_id": 2}
    assert await caller.code(c.StreamStats("nowhere")) == 2


async def test_4_3_resolves_offsets() -> None:
    fake = FakeCluster(version="4.3.0")
    fake.create("s")
    caller = await Caller().connect(fake)
    assert await caller.code(c.ResolveOffsetSpec("s", offset.first())) == 19
    assert await caller.code(c.ResolveOffsetSpec("nowhere", offset.first())) == 2
    fake.publish("s", [b"a", b"b"])
    assert (await caller.ask(c.ResolveOffsetSpec("s", offset.next()))).offset == offset.at(2)


# --- single active consumers ---


async def test_one_consumer_of_a_group_is_active_and_starts_where_it_answers(fake: FakeCluster) -> None:
    fake.publish("s", [b"a"])
    fake.publish("s", [b"b"])
    one, two = await Caller().connect(fake), await Caller().connect(fake, node=1)
    for caller in (one, two):
        assert await subscribe(caller, single_active_consumer="true", name="app") == 1
    assert one.received(c.ConsumerUpdate) == [c.ConsumerUpdate(0, active=True)]
    assert not one.chunk_ids()
    assert not two.received(c.ConsumerUpdate)
    await one.respond(offset.at(1))
    assert one.chunk_ids() == [1]
    await two.say(c.Credit(0, 1))
    assert two.received(c.CreditResponse) == [c.CreditResponse(17, 0)]
    await one.ask(c.Unsubscribe(0))
    assert two.received(c.ConsumerUpdate) == [c.ConsumerUpdate(0, active=True)]
    await two.respond()
    assert two.chunk_ids() == [0, 1]


async def test_a_dropped_connection_makes_the_next_one_active(fake: FakeCluster) -> None:
    one, two = await Caller().connect(fake), await Caller().connect(fake)
    for caller in (one, two):
        await subscribe(caller, single_active_consumer="true", name="app")
    fake.connections()[0].drop()
    await turns()
    assert two.received(c.ConsumerUpdate) == [c.ConsumerUpdate(0, active=True)]


async def test_in_a_super_stream_the_active_one_steps_down_first(fake: FakeCluster) -> None:
    fake.create_super_stream("orders", 2)
    one, two = await Caller().connect(fake), await Caller().connect(fake)
    for caller in (one, two):
        for number in (0, 1):
            await subscribe(
                caller,
                number=number,
                stream=f"orders-{number}",
                single_active_consumer="true",
                name="app",
                super_stream="orders",
            )
            if caller is one:
                await caller.respond()
    assert one.received(c.ConsumerUpdate)[2:] == [c.ConsumerUpdate(1, active=False)]
    assert not two.received(c.ConsumerUpdate)
    await one.respond()
    assert two.received(c.ConsumerUpdate) == [c.ConsumerUpdate(1, active=True)]


# --- topology ---


async def test_metadata_tells_leader_and_replicas_that_run(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    fake.node(2).stop()
    fake.create("headless", leader=1, replicas=())
    fake.move_leader("headless", None)
    answer = await caller.ask(c.Metadata(("s", "nowhere", "s", "headless")))
    assert answer.brokers == (c.MetadataBroker(0, "node-0", 5552), c.MetadataBroker(1, "node-1", 5552))
    assert answer.streams == (
        c.MetadataStream("s", 1, 0, (1,)),
        c.MetadataStream("nowhere", 2, NO_LEADER, ()),
        c.MetadataStream("headless", 1, NO_LEADER, (1,)),
    )


async def test_streams_are_created_and_deleted(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake, node=1)
    arguments = {"max-age": "6h", "initial-cluster-size": "2"}
    assert await caller.code(c.Create("new", arguments)) == 1
    assert fake.stream("new").members == (1, 0)
    assert await caller.code(c.Create("new", arguments)) == 5
    assert await caller.code(c.Create("new")) == 17
    assert await caller.code(c.Create("amq.new")) == 17
    assert await caller.code(c.Create("")) == 17
    for wrong in (
        {"initial-cluster-size": "0"},
        {"queue-leader-locator": "nearby"},
        {"stream-filter-size-bytes": "8"},
    ):
        assert await caller.code(c.Create("other", wrong)) == 17
    assert await caller.code(c.Delete("new")) == 1
    assert await caller.code(c.Delete("new")) == 2


async def test_super_streams_keep_the_order_of_their_bindings(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    create = c.CreateSuperStream("orders", ("o-b", "o-a", "o-c"), ("b", "a", "b"))
    assert await caller.code(create) == 1
    assert await caller.code(create) == 5
    assert await caller.code(c.CreateSuperStream("x", ("x-0",), ("0", "1"))) == 17
    assert (await caller.ask(c.Partitions("orders"))).streams == ("o-b", "o-a", "o-c")
    assert (await caller.ask(c.Route("b", "orders"))).streams == ("o-b", "o-c")
    assert (await caller.ask(c.Route("z", "orders"))) == c.RouteResponse(1, ())
    assert await caller.code(c.Partitions("nowhere")) == 2
    assert await caller.code(c.Route("b", "nowhere")) == 2
    assert await caller.code(c.DeleteSuperStream("orders")) == 1
    assert await caller.code(c.DeleteSuperStream("orders")) == 2
    assert list(fake.streams) == ["s"]


async def everything_on(fake: FakeCluster) -> Caller:
    """A caller with a publisher, a subscription and a cached leader on stream s."""
    caller = await Caller().connect(fake, node=1)
    await caller.ask(c.DeclarePublisher(0, "", "s"))
    await subscribe(caller)
    await caller.say(c.StoreOffset("ref", "s", 1))
    return caller


@pytest.mark.parametrize(
    "harm",
    [
        lambda fake: fake.move_leader("s", 2),
        lambda fake: fake.move_leader("s", None),
        lambda fake: fake.delete("s"),
        lambda fake: fake.recreate("s"),
        lambda fake: fake.node(0).stop(),
    ],
    ids=["leader moves", "leader goes", "deleted", "made anew", "leader's node stops"],
)
async def test_who_loses_a_stream_loses_all_on_it_and_is_told_once(
    fake: FakeCluster, harm: Callable[[FakeCluster], object]
) -> None:
    caller, bystander = await everything_on(fake), await Caller().connect(fake, node=1)
    harm(fake)
    await turns()
    assert caller.received(c.MetadataUpdate) == [c.MetadataUpdate(6, "s")]
    assert not bystander.received(c.MetadataUpdate)
    assert await caller.code(c.DeletePublisher(0)) == 18
    assert await caller.code(c.Unsubscribe(0)) == 4
    await caller.publish(b"x")
    assert caller.received(c.PublishError)[0].errors[0].code == 18


async def test_a_delete_is_answered_before_its_update(fake: FakeCluster) -> None:
    caller = await everything_on(fake)
    caller.events.clear()
    await caller.ask(c.Delete("s"))
    assert [type(event) for event in caller.events] == [Answered, Received]


async def test_a_stopped_node_drops_its_connections_and_refuses_others(fake: FakeCluster) -> None:
    fake.publish("s", [b"kept"])
    caller = await Caller().connect(fake)
    fake.node(0).stop()
    await turns()
    assert caller.ends == [None]
    assert fake.stream("s").leader == 1
    with pytest.raises(ConnectFailed):
        await Caller().connect(fake)
    fake.node(1).stop()
    assert fake.stream("s").leader is None, "one of three is no majority"
    fake.node(0).start()
    assert fake.stream("s").leader == 0
    assert (await Caller().connect(fake)).session.state is State.OPEN
    assert fake.bodies("s") == [b"kept"]


async def test_a_node_may_stop_without_an_election(fake: FakeCluster) -> None:
    fake.node(0).stop(elect=False)
    assert fake.stream("s").leader is None


async def test_a_frozen_node_accepts_and_does_not_answer(fake: FakeCluster) -> None:
    fake.node(0).freeze()
    caller = await Caller().connect(fake)
    assert not caller.events
    fake.node(0).thaw()
    await turns()
    assert [type(event) for event in caller.events] == [Opened]


async def test_a_balancer_gives_the_next_node_that_runs(fake: FakeCluster) -> None:
    fake.balance("lb")
    fake.node(1).stop()
    hosts = []
    for _ in range(3):
        caller = Caller()
        caller.transport = await fake.open("lb", 5552, caller, ssl=None, server_hostname=None, timeout_s=1.0)
        caller.session.start(0.0)
        caller.pump()
        await turns()
        hosts.append(caller.session.connection_properties["advertised_host"])
    assert hosts == ["node-0", "node-2", "node-0"]


# --- misbehaviour ---


async def test_a_command_can_be_held_before_it_is_carried_out(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    held = fake.hold(c.DeclarePublisher)
    first = caller.request(c.DeclarePublisher(0, "", "s"))
    second = caller.request(c.DeclarePublisher(1, "", "s"))
    await until(lambda: len(held.waiting) == 2)
    assert not fake.connections()[0].publishers
    held.release_one(1)
    await turns()
    assert (caller.answer(first), caller.answer(second)) == (None, c.DeclarePublisherResponse(1))
    held.release()
    await turns()
    assert caller.answer(first) == c.DeclarePublisherResponse(1)
    assert await caller.code(c.DeclarePublisher(2, "", "s")) == 1, "no longer held"


async def test_an_answer_can_be_late(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    await caller.ask(c.DeclarePublisher(0, "", "s"))
    held = fake.script.hold_answer(c.Publish)
    await caller.publish(b"a")
    await caller.publish(b"b")
    assert fake.bodies("s") == [b"a", b"b"]
    assert not caller.confirmed()
    held.waiting.reverse()
    held.release()
    await turns()
    assert len(caller.confirmed()) == 2


async def test_a_deliver_can_overtake_the_subscriptions_answer(fake: FakeCluster) -> None:
    fake.publish("s", [b"x"])
    caller = await Caller().connect(fake)
    held = fake.script.hold_answer(c.Subscribe)
    number = caller.request(c.Subscribe(0, "s", offset.first(), 10))
    await turns()
    assert caller.chunk_ids() == [0]
    assert caller.answer(number) is None
    held.release()
    await turns()
    assert caller.answer(number) == c.SubscribeResponse(1)


async def test_what_is_held_for_a_lost_connection_goes_nowhere(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    held = fake.hold(c.Delete)
    caller.request(c.Delete("s"))
    await until(lambda: held.waiting)
    fake.connections()[0].drop()
    held.release()
    assert "s" in fake.streams


async def test_commands_and_answers_can_be_swallowed(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    dropped = fake.drop(c.Delete, times=1)
    assert await caller.ask(c.Delete("s")) is None
    assert "s" in fake.streams
    assert dropped.hits == 1
    fake.script.drop_answer(c.Delete)
    assert await caller.ask(c.Delete("s")) is None
    assert "s" not in fake.streams


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (c.QueryOffset("ref", "s"), c.QueryOffsetResponse(6, 0)),
        (c.Partitions("x"), c.PartitionsResponse(6, ())),
        (c.StreamStats("s"), c.StreamStatsResponse(6, {})),
        (c.Create("x"), c.CreateResponse(6)),
        (c.QueryPublisherSequence("r", "s"), c.QueryPublisherSequenceResponse(6, 0)),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_command_can_be_answered_with_a_code(fake: FakeCluster, command: c.Request, answer: c.Response) -> None:
    caller = await Caller().connect(fake)
    fake.respond(type(command), code=6, times=1)
    assert await caller.ask(command) == answer
    assert await caller.code(command) != 6


async def test_a_publish_can_be_answered_with_a_code(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    await caller.ask(c.DeclarePublisher(0, "", "s"))
    fake.respond(c.Publish, code=17)
    await caller.publish(b"x")
    assert caller.received(c.PublishError) == [c.PublishError(0, (c.PublishingError(1, 17),))]
    assert not fake.log("s")


async def test_a_handshake_that_is_refused_ends(fake: FakeCluster) -> None:
    fake.respond(c.SaslAuthenticate, code=11)
    caller = await Caller().connect(fake)
    assert caller.ends == [None]
    assert isinstance(caller.error, ResponseError)


async def test_rules_can_be_narrowed(fake: FakeCluster) -> None:
    fake.create("t")
    fake.respond(c.Delete, code=15, node=1)
    fake.respond(c.Delete, code=16, when=lambda command: command.stream == "t")
    assert await (await Caller().connect(fake, node=1)).code(c.Delete("s")) == 15
    caller = await Caller().connect(fake)
    assert await caller.code(c.Delete("t")) == 16
    assert await caller.code(c.Delete("s")) == 1


async def test_a_rule_can_be_cancelled(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    fake.drop((c.Delete, c.Create)).cancel()
    assert await caller.code(c.Delete("s")) == 1


async def test_an_answer_can_be_cut_in_the_middle(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    fake.script.cut_answer(c.Metadata, 10)
    assert await caller.ask(c.Metadata(("s",))) is None
    assert caller.ends == [None]


async def test_a_command_can_cost_the_connection(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    fake.script.disconnect(c.Delete)
    assert await caller.ask(c.Delete("s")) is None
    assert caller.ends == [None]
    assert "s" in fake.streams


async def test_something_can_happen_before_a_command_and_before_its_answer(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    order: list[str] = []

    def see(when: str) -> Callable[[Exchange], None]:
        return lambda x: order.append(f"{when}: {sorted(x.peer.cluster.streams)}")

    fake.script.before(c.Delete, see("before"))
    fake.script.before_answer(c.Create, see("answering"))
    await caller.ask(c.Create("t"))
    await caller.ask(c.Delete("t"))
    assert order == ["answering: ['s', 't']", "before: ['s', 't']"]


async def test_a_broker_can_say_what_nobody_asked_for(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    [peer] = fake.connections()
    peer.heartbeat()
    peer.send_unknown_frame()
    peer.metadata_update("s")
    peer.send(c.PublishConfirm(3, (4, 5)))
    await turns()
    assert [type(event) for event in caller.events[1:]] == [Skipped, Received, Received]


async def test_a_delivered_chunk_can_be_corrupt_while_the_log_is_whole(fake: FakeCluster) -> None:
    fake.publish("s", [b"x"])
    fake.corrupt("s")
    caller = await Caller().connect(fake)
    await subscribe(caller, number=0)
    await subscribe(caller, number=1)
    bad, good = [Chunk(deliver.chunk) for deliver in caller.received(c.Deliver)]
    with pytest.raises(CorruptChunk):
        bad.verify()
    good.verify()


async def test_the_connection_underneath_can_be_broken(fake: FakeCluster) -> None:
    caller = await Caller().connect(fake)
    [peer] = fake.connections()
    peer.link.split(1)
    assert await caller.code(c.Create("t")) == 1
    peer.link.cut_after(5)
    assert await caller.ask(c.Delete("t")) is None
    assert caller.ends == [None]


async def test_commands_of_all_connections_can_be_looked_at(fake: FakeCluster) -> None:
    one, two = await Caller().connect(fake), await Caller().connect(fake, node=1)
    await one.ask(c.Delete("x"))
    await two.ask(c.Delete("y"))
    assert fake.heard(c.Delete) == [c.Delete("x"), c.Delete("y")]
    assert fake.heard(c.Delete, node=1) == [c.Delete("y")]
    assert [peer.node.number for peer in fake.connections()] == [0, 1]
    assert [type(peer) for peer in fake.connections(node=1)] == [Peer]


async def test_waiting_for_what_does_not_happen_ends() -> None:
    with pytest.raises(TimeoutError):
        await until(lambda: False, timeout_s=0.01)


async def test_raw_records_have_any_body(fake: FakeCluster) -> None:
    fake.publish_records("s", [raw_entry(b"not amqp")[4:]])
    assert fake.log("s") == [(0, b"not amqp")]
    with pytest.raises(ValueError, match="not one data section"):
        fake.bodies("s")
