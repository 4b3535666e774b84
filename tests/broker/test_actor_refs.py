"""A user's own actors, in threads of their own: what they ask of the refs, what they are told, and how they may die."""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pykka
import pytest
import pytest_asyncio

from actorstream import Client, Deliver, HashRouting, Node, Publish, Published, errors, events, mailbox
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, read, until
from tests.conftest import Streams

PATIENCE_S = 10.0


@pytest_asyncio.fixture(params=[False, True], ids=["the caller's loop", "a thread of its own"])
async def client(broker: Broker, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with connected(broker, own_thread=request.param) as client:
        yield client


class Actor(pykka.ThreadingActor):
    """Does what it is told to do, in its own thread, where it may block; and remembers everything else."""

    use_daemon_thread = True  # a test that fails before it stops it must not keep the process from ending

    def __init__(self, on_deliver: Callable[[Deliver], object]) -> None:
        super().__init__()
        self.on_deliver = on_deliver
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def on_receive(self, message: object) -> object:
        if isinstance(message, Deliver):
            self.on_deliver(message)
        elif callable(message):
            return message()
        self.told.put(message)
        return None


class User:
    """The actor from outside."""

    def __init__(self, on_deliver: Callable[[Deliver], object] = Deliver.acknowledge) -> None:
        self.ref = Actor.start(on_deliver)
        self.told: queue.SimpleQueue[Any] = self.ref.proxy().told.get()

    async def do(self, work: Callable[[], Any]) -> Any:
        """Have the actor do something, and wait for it without blocking this loop, which may have to answer."""
        return await asyncio.to_thread(lambda: self.ref.ask(work, timeout=PATIENCE_S))

    async def asks(self, ref: pykka.ActorRef[Any], message: object) -> Any:
        return await self.do(lambda: ref.ask(message, timeout=PATIENCE_S))

    async def next(self) -> Any:
        return await asyncio.to_thread(self.told.get, timeout=PATIENCE_S)


@pytest.fixture
def user() -> Iterator[User]:
    user = User()
    yield user
    user.ref.stop()


# The client's ref


async def test_streams_are_made_and_deleted(client: Client, stream: Streams, user: User) -> None:
    name = stream()
    assert await user.asks(client.ref, mailbox.CreateStream(name)) is None
    assert await client.stream_exists(name)
    with pytest.raises(errors.StreamAlreadyExists):
        await user.asks(client.ref, mailbox.CreateStream(name))
    assert await user.asks(client.ref, mailbox.CreateStream(name, exist_ok=True)) is None
    assert await user.asks(client.ref, mailbox.DeleteStream(name)) is None
    assert not await client.stream_exists(name)
    with pytest.raises(errors.StreamDoesNotExist):
        await user.asks(client.ref, mailbox.DeleteStream(name))
    assert await user.asks(client.ref, mailbox.DeleteStream(name, missing_ok=True)) is None


async def test_an_actor_publishes_through_a_producer_that_it_opens(client: Client, stream: Streams, user: User) -> None:
    name = stream({})
    producer = await user.asks(client.ref, mailbox.OpenProducer(name, options={"max_unconfirmed": 100}))
    assert await user.asks(producer, Publish(b"0")) is None
    assert await user.asks(producer, mailbox.PublishBatch([b"1", "2"])) is None
    await user.do(lambda: producer.tell(mailbox.PublishBatch([b"3", b"4"], reply_to=user.ref, context="batch")))
    assert await user.next() == Published("batch", None)
    assert numbers(await read(client, name)) == [0, 1, 2, 3, 4]
    with pytest.raises(errors.OutboxFull):
        await user.asks(producer, mailbox.PublishBatch([b"x"] * 101))
    with pytest.raises(errors.InvalidArgument):
        await user.asks(producer, mailbox.PublishBatch([b"never sent", 7]))  # type: ignore[list-item]
    assert await user.asks(producer, mailbox.PublishBatch([])) is None
    assert await user.asks(client.ref, mailbox.Close(producer)) is None
    assert await user.asks(client.ref, mailbox.Close(producer)) is None
    assert not producer.is_alive()
    with pytest.raises((pykka.ActorDeadError, errors.Closed)):
        await user.asks(producer, Publish(b"late"))
    assert b"never sent" not in [message.body for message in await read(client, name)]


async def test_a_batch_for_a_super_stream_is_confirmed_when_all_its_partitions_have_theirs(
    client: Client, stream: Streams, user: User
) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=3)
    routing = HashRouting(lambda message: bytes(message).decode() if isinstance(message, bytes) else "")
    async with await client.super_stream_producer(name, routing=routing) as producer:
        assert await user.asks(producer.ref, mailbox.PublishBatch(numbered(30))) is None
        assert await user.asks(producer.ref, mailbox.PublishBatch([])) is None
        with pytest.raises(errors.InvalidArgument):
            await user.asks(producer.ref, mailbox.PublishBatch([b"30", 7]))  # type: ignore[list-item]
        await user.do(lambda: producer.ref.tell(mailbox.PublishBatch([b"31"], reply_to=user.ref, context="batch")))
        assert await user.next() == Published("batch", None)
    found = [numbers(await read(client, partition)) for partition in await client.partitions(name)]
    assert all(found)
    assert sorted(number for part in found for number in part) == list(range(32))


async def test_a_named_producer_and_filter_values_are_told_likewise(
    client: Client, stream: Streams, user: User
) -> None:
    name = stream({})
    producer = await user.asks(client.ref, mailbox.OpenProducer(name, name="writer"))
    assert await user.asks(producer, Publish(b"once", publishing_id=7)) is None
    with pytest.raises(errors.InvalidArgument):
        await user.asks(producer, Publish(b"once", publishing_id=7))
    assert await user.asks(producer, Publish(b"filtered", publishing_id=8, filter_value="emea")) is None
    assert await client.publishing_sequence("writer", name) == 8
    with pytest.raises(errors.InvalidArgument):
        await user.asks(client.ref, mailbox.OpenProducer(name, name="writer"))
    with pytest.raises(errors.StreamDoesNotExist):
        await user.asks(client.ref, mailbox.OpenProducer(stream()))


async def test_an_actor_subscribes_itself_and_gets_the_next_batch_when_it_has_acknowledged(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    got: list[Deliver] = []
    user = User(got.append)
    try:
        consumer = await user.asks(client.ref, mailbox.Subscribe(name, to=user.ref, offset="first", max_size=7))
        await until(lambda: len(got) == 1, "the first batch is there")
        await user.do(lambda: None)
        assert len(got) == 1, "the next one waits for the acknowledgement"
        assert (await user.asks(consumer, mailbox.Where())).completed is None
        seen = numbers(got[0].messages)
        while len(seen) < 30:
            got[-1].acknowledge()
            await until(lambda: len(got) > 1, "the next batch is there")
            del got[0]
            assert len(got) == 1
            assert len(got[0].messages) <= 7
            assert {message.stream for message in got[0].messages} == {got[0].stream} == {name}
            seen += numbers(got[0].messages)
        assert seen == list(range(30))
        got[-1].acknowledge()

        async def is_completed() -> bool:
            place: mailbox.Place = await user.asks(consumer, mailbox.Where())
            return place == mailbox.Place(name, 30, 29, place.committed_chunk_id, paused=False)

        await until(is_completed, "all are completed")
        await user.asks(client.ref, mailbox.Close(consumer))
        while not isinstance(ended := await user.next(), mailbox.DeliveryEnded):
            pass
        assert ended == mailbox.DeliveryEnded(name, None)
        assert not consumer.is_alive()
    finally:
        await asyncio.to_thread(user.ref.stop)


async def test_credit_goes_back_when_the_actor_acknowledges(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20), chunk=1)
    got: list[Deliver] = []
    user = User(got.append)
    try:
        await user.asks(client.ref, mailbox.Subscribe(name, to=user.ref, offset="first", options={"credit": 4}))

        async def credit() -> list[object]:
            (node,) = await subscribers(client)
            return [node.details[name] for name in ("credit_outstanding", "credit_held", "chunks_in_hand")]

        async def all_in_hand() -> bool:
            return bool(got) and await credit() == [0, 0, 4]  # the actor is told in its own thread

        await until(all_in_hand, "the broker has sent what it may, and no more comes")
        for count in range(1, 20):
            got[-1].acknowledge()
            await until(lambda: len(got) > count, "the next chunk is there")  # noqa: B023
            assert sum(number for number in await credit() if isinstance(number, int)) == 4
        assert [number for one in got for number in numbers(one.messages)] == list(range(20))
    finally:
        await asyncio.to_thread(user.ref.stop)


@pytest.mark.parametrize("death", [ValueError, SystemExit, pykka.ActorDeadError])
async def test_f80_an_actor_that_dies_is_unsubscribed_and_its_batch_is_not_completed(
    client: Client, stream: Streams, death: type[BaseException]
) -> None:
    name = stream({})
    await publish(client, name, numbered(9))

    def die_at_the_second(delivered: Deliver) -> None:
        if delivered.messages[0].offset == 3:
            raise death
        delivered.acknowledge()

    user = User(die_at_the_second)
    consumer = await user.asks(
        client.ref, mailbox.Subscribe(name, to=user.ref, offset="first", name="group", max_size=3)
    )
    await until(lambda: not client._handles, "its consumer is closed")
    assert not consumer.is_alive()
    assert not user.ref.is_alive()
    assert await client.query_offset("group", name) == 2, "what the next one goes on after"


async def test_f41_an_actor_hears_why_its_stream_ended(
    broker: Broker, client: Client, stream: Streams, user: User
) -> None:
    name = stream({})
    await user.asks(client.ref, mailbox.Subscribe(name, to=user.ref))
    broker.management.delete_stream(name)
    ended = await user.next()
    assert isinstance(ended, mailbox.DeliveryEnded)
    assert isinstance(ended.error, errors.StreamDoesNotExist)
    with pytest.raises(errors.StreamDoesNotExist):
        await user.asks(client.ref, mailbox.Subscribe(name, to=user.ref))


async def test_a_client_that_is_closed_ends_what_its_actors_have_open(broker: Broker, stream: Streams) -> None:
    name = stream({})
    user = User(lambda _delivered: None)
    try:
        async with connected(broker) as client:
            await publish(client, name, numbered(1))
            ref = client.ref
            consumer = await user.asks(ref, mailbox.Subscribe(name, to=user.ref, offset="first"))
            producer = await user.asks(ref, mailbox.OpenProducer(name))
            assert isinstance(await user.next(), Deliver)
        assert await user.next() == mailbox.DeliveryEnded(name, None)
        assert [one.is_alive() for one in (ref, consumer, producer)] == [False] * 3
        with pytest.raises((pykka.ActorDeadError, errors.Closed)):
            await user.asks(ref, mailbox.GetTree())
    finally:
        await asyncio.to_thread(user.ref.stop)


async def test_the_tree_and_what_happens_can_be_had(
    broker: Broker, client: Client, stream: Streams, user: User
) -> None:
    name = stream({})
    client.ref.tell(mailbox.ReportEvents(user.ref))
    tree = await user.asks(client.ref, mailbox.GetTree())
    assert isinstance(tree, Node)
    assert "desk" in [child.name for child in tree.children]
    await publish(client, name, numbered(1))
    while not isinstance(event := await user.next(), events.ActorStarted):
        pass
    assert event.path


async def test_what_is_no_request_leaves_the_desk_alive(client: Client, user: User) -> None:
    client.ref.tell("nonsense")
    with pytest.raises(errors.InvalidArgument):
        await user.asks(client.ref, mailbox.CreateStream(""))
    with pytest.raises(TypeError):
        await user.asks(client.ref, mailbox.Subscribe("s", to=user.ref, options={"no_such_option": 1}))
    assert isinstance(await user.asks(client.ref, mailbox.GetTree()), Node)


# A consumer's ref


async def test_a_consumer_is_paused_and_resumed_by_an_actor(client: Client, stream: Streams, user: User) -> None:
    name = stream({})
    await publish(client, name, numbered(1))
    async with await client.consumer(name, "first", credit=2) as consumer:
        await anext(consumer)
        assert await user.asks(consumer.ref, mailbox.Pause()) is None
        assert (await user.asks(consumer.ref, mailbox.Where())).paused
        await publish(client, name, numbered(20, 1), chunk=1)
        reading = asyncio.create_task(anext(consumer))
        for _ in range(3):  # what the broker was allowed to send still comes
            await asyncio.wait({reading}, timeout=0.2)
            if reading.done():
                reading = asyncio.create_task(anext(consumer))
        assert not reading.done()
        assert await user.asks(consumer.ref, mailbox.Resume()) is None
        async with asyncio.timeout(PATIENCE_S):
            await reading
        assert not (await user.asks(consumer.ref, mailbox.Where())).paused


async def test_a_consumer_is_sent_elsewhere_by_the_actor_that_it_delivers_to(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    seen: list[int] = []

    def take(delivered: Deliver) -> None:
        seen.extend(numbers(delivered.messages))
        delivered.acknowledge()

    user = User(take)
    try:
        consumer = await user.asks(client.ref, mailbox.Subscribe(name, to=user.ref, offset="first", max_size=5))
        await until(lambda: len(seen) == 10, "all are read")
        assert await user.asks(consumer, mailbox.Seek(8)) is None
        await until(lambda: len(seen) == 12, "and some once more")
        assert seen == [*range(10), 8, 9]
        with pytest.raises(errors.InvalidArgument):
            await user.asks(consumer, mailbox.Seek("nowhere"))
    finally:
        await asyncio.to_thread(user.ref.stop)


async def test_an_offset_is_stored_by_an_actor(client: Client, stream: Streams, user: User) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    options = {"tracking": None}
    consumer = await user.asks(
        client.ref, mailbox.Subscribe(name, to=user.ref, offset="first", name="group", options=options)
    )
    assert isinstance(await user.next(), Deliver)

    async def stored(offset: int) -> bool:
        return await client.query_offset("group", name) == offset

    await user.asks(consumer, mailbox.StoreOffset(4))
    await until(lambda: stored(4), "4 is stored")
    unnamed = await user.asks(client.ref, mailbox.Subscribe(name, to=user.ref))
    with pytest.raises(errors.InvalidArgument):
        await user.asks(unnamed, mailbox.StoreOffset())


async def subscribers(client: Client) -> tuple[Node, ...]:
    (found,) = [child for child in (await client.tree()).children if child.name == "subscribers"]
    return found.children
