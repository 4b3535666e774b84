"""Consuming from a real broker that nobody breaks: where reading starts and ends, and in which shapes it comes."""

import asyncio
import datetime as dt
import itertools
import struct
import threading
import time
from collections.abc import AsyncIterator

import pykka
import pytest
import pytest_asyncio

import actorstream
from actorstream import Client, Consumer, Deliver, Message, Properties, blocking, errors, offset
from actorstream.compression import Compression
from actorstream.handling import ErrorPolicy, Park, Skip, Stop
from actorstream.wire.chunk import Chunk
from actorstream.wire.publish import data_entry, raw_entry, sub_batch_entry
from lab.broker import Broker
from tests.broker.reading import (
    connected,
    numbered,
    numbers,
    offsets,
    publish,
    publish_entries,
    read,
    take,
    take_all,
    until,
    until_grown,
)
from tests.conftest import Streams


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker) as connection:
        yield connection


async def chunks_of(client: Client, stream: str) -> list[Chunk]:
    """The chunks that a stream consists of, those of the broker's own included."""
    found: list[Chunk] = []
    async with await client.consumer(stream, "first", until="end") as consumer:
        try:
            while True:
                await consumer.fetch()
                assert consumer._delivery is not None
                found.append(consumer._delivery.chunk)
        except StopAsyncIteration:
            return found


# Where reading starts


async def test_first_begins_with_the_oldest_message(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    messages = await read(client, name, "first")
    assert offsets(messages) == numbers(messages) == list(range(30))
    assert {message.stream for message in messages} == {name}


async def test_last_begins_with_the_first_message_of_the_last_chunk(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    last = (await chunks_of(client, name))[-1]
    assert numbers(await read(client, name, "last")) == list(range(last.chunk_id, 30))


async def test_last_of_an_empty_stream_begins_with_the_first_message_written(client: Client, stream: Streams) -> None:
    name = stream({})
    async with await client.consumer(name, "last") as consumer:
        await publish(client, name, numbered(3))
        assert numbers(await take(consumer, 3)) == [0, 1, 2]


async def test_next_begins_with_what_is_written_after_the_consumer_attached(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(25), chunk=10)
    async with await client.consumer(name, "next") as consumer:
        await publish(client, name, numbered(5, 25))
        assert numbers(await take(consumer, 5)) == list(range(25, 30))


async def test_next_of_an_empty_stream_begins_with_its_first_message(client: Client, stream: Streams) -> None:
    name = stream({})
    async with await client.consumer(name) as consumer:
        await publish(client, name, numbered(5))
        assert numbers(await take(consumer, 5)) == list(range(5))


@pytest.mark.parametrize("begin", [0, 1, 9, 10, 11, 19, 29])
async def test_f47_an_offset_is_exact_also_in_the_middle_of_a_chunk(
    client: Client, stream: Streams, begin: int
) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    messages = await read(client, name, begin)
    assert offsets(messages) == numbers(messages) == list(range(begin, 30))


async def test_a_moment_begins_with_the_first_chunk_written_then_or_later(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    boundary = (await chunks_of(client, name))[-1].timestamp_ms
    await until(lambda: time.time() * 1000 > boundary + 2, "time passes")  # the lab's broker has the same clock
    await publish(client, name, numbered(10, 10))
    second = (await chunks_of(client, name))[-1]
    assert second.timestamp_ms > boundary

    exactly = offset.OffsetSpecification(offset.OffsetType.TIMESTAMP, second.timestamp_ms)
    assert numbers(await read(client, name, exactly)) == list(range(10, 20))
    assert numbers(await read(client, name, offset.since((boundary + 1) / 1000))) == list(range(10, 20))
    assert len(await read(client, name, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))) == 20


async def test_f65_a_stream_with_a_name_beyond_ascii_is_read_like_any_other(client: Client, stream: Streams) -> None:
    name = f"{stream()}-ключ-漢字-🐇"
    await client.create_stream(name)
    await publish(client, name, numbered(3))
    messages = await read(client, name)
    assert numbers(messages) == [0, 1, 2]
    assert messages[0].stream == name
    await client.store_offset("ссылка", name, 2)

    async def is_stored() -> bool:
        return await client.query_offset("ссылка", name) == 2

    await until(is_stored, "the offset is stored")


# Where it ends


async def test_a_read_to_an_offset_ends_with_it(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    async with await client.consumer(name, 5, until=17) as consumer:
        assert numbers(await take_all(consumer)) == list(range(5, 18))
        assert consumer.completed == 17
        assert consumer.position == 18


async def test_a_read_to_an_offset_that_is_not_written_yet_waits_for_it(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(3))
    async with await client.consumer(name, "first", until=4) as consumer:
        assert numbers(await take(consumer, 3)) == [0, 1, 2]
        await publish(client, name, numbered(3, 3))
        assert numbers(await take_all(consumer)) == [3, 4]


async def test_a_read_whose_end_is_before_its_beginning_is_empty(client: Client, stream: Streams) -> None:
    name = stream({})
    async with await client.consumer(name, 10, until=9) as consumer:
        assert await take_all(consumer) == []


@pytest.mark.parametrize("begin", ["first", "last", "next", 0, 7, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)])
async def test_a_read_to_the_end_of_an_empty_stream_is_empty(
    client: Client, stream: Streams, begin: actorstream.OffsetLike
) -> None:
    assert await read(client, stream({}), begin) == []


async def test_a_read_to_the_end_that_begins_there_is_empty_at_once(client: Client, stream: Streams) -> None:
    """Who goes on after a stored offset, with nothing new, must not wait for something new."""
    name = stream({})
    await publish(client, name, numbered(10))
    assert await read(client, name, 10) == []
    assert await read(client, name, "next") == []
    assert await read(client, name, dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)) == []


async def test_a_read_to_the_end_ends_where_the_stream_ended_when_it_began(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    async with await client.consumer(name, "first", until="end") as consumer:
        await publish(client, name, numbered(10, 10))
        assert numbers(await take_all(consumer)) == list(range(10))


@pytest.mark.parametrize("begin", ["first", "last", 4, 10])
async def test_a_read_to_the_end_ends_also_when_the_last_chunks_are_the_brokers_own(
    client: Client, stream: Streams, begin: actorstream.OffsetLike
) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    await store_until_seen(client, name)
    chunks = await chunks_of(client, name)
    kinds = [chunk.chunk_type for chunk in chunks]
    assert kinds[-1] != 0, f"the broker wrote no chunk of its own: {kinds}"
    last = max(chunk.chunk_id for chunk in chunks if chunk.chunk_type == 0)  # a busy broker makes several of one frame
    wanted = {"first": list(range(10)), "last": list(range(last, 10)), 4: list(range(4, 10)), 10: []}
    assert numbers(await read(client, name, begin)) == wanted[begin]


async def test_offsets_taken_by_the_brokers_own_chunks_are_no_hole(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(5))
    await store_until_seen(client, name)
    await publish(client, name, numbered(5, 5))
    messages = await read(client, name)
    assert numbers(messages) == list(range(10))
    assert offsets(messages)[:5] == [0, 1, 2, 3, 4]
    assert offsets(messages)[5] > 5, "no offset was taken, and this test shows nothing"
    assert numbers(await read(client, name, 5)) == list(range(5, 10))


async def store_until_seen(client: Client, name: str) -> None:
    before = (await client.stream_statistics(name)).committed_chunk_id
    await client.store_offset("reader", name, 3)
    await until_grown(client, name, before)


async def test_an_end_that_is_none_is_refused(client: Client, stream: Streams) -> None:
    name = stream({})
    for wrong in ("never", -1, True):
        with pytest.raises(errors.InvalidArgument):
            await client.consumer(name, until=wrong)
    assert not client._handles


# In which shapes


async def test_batches_are_what_is_left_of_a_chunk(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    whole = [chunk.records for chunk in await chunks_of(client, name)]
    async with await client.consumer(name, "first", until="end") as consumer:
        assert [len(batch) async for batch in consumer.batches()] == whole
    async with await client.consumer(name, "first", until="end") as consumer:
        assert numbers([await anext(consumer)]) == [0]
        batches = [numbers(batch) async for batch in consumer.batches(4)]
        assert list(itertools.chain(*batches)) == list(range(1, 30))
        assert max(map(len, batches)) == 4
        assert consumer.completed == 29


async def test_an_iteration_that_is_left_is_taken_up_after_its_last_message(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20), chunk=10)
    async with await client.consumer(name, "first", until="end") as consumer:
        async for message in consumer:
            if message.offset == 6:
                break
        assert consumer.completed == 5, "the message in hand when the loop was left is not completed yet"
        async for batch in consumer.batches(2):
            assert numbers(batch) == [7, 8]
            break
        assert consumer.completed == 6
        assert numbers(await take_all(consumer)) == list(range(9, 20))
        assert consumer.completed == 19


async def test_a_paused_consumer_gets_its_credit_and_no_more_until_it_resumes(client: Client, stream: Streams) -> None:
    name = stream({})
    # There before the subscription: of chunks that come one by one, a broker holds back what is half of the credit.
    await publish(client, name, numbered(20), chunk=1)
    async with await client.consumer(name, "first", credit=4) as consumer:
        consumer.pause()
        early = await take(consumer, 4)
        waiting = asyncio.ensure_future(anext(consumer))
        await publish(client, name, numbered(1, 20))  # the broker had every reason to send
        assert not waiting.done()
        consumer.resume()
        assert numbers([*early, await waiting, *await take(consumer, 16)]) == list(range(21))


async def test_f57_a_handler_that_fails_stops_by_default_and_its_message_comes_again(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(10))
    handled: list[int] = []

    def handle(message: Message) -> None:
        if message.offset == 4 and 4 not in failed:
            failed.append(4)
            raise KeyError("four")
        handled.append(message.offset)

    failed: list[int] = []
    async with await client.consumer(name, "first", until="end") as consumer:
        with pytest.raises(errors.HandlerFailed) as caught:
            await consumer.run(handle)
        assert isinstance(caught.value.__cause__, KeyError)
        assert caught.value.offset == consumer.position == 4
        assert consumer.completed == 3
        await consumer.run(handle)
        assert handled == list(range(10))
        assert consumer.completed == 9


@pytest.mark.parametrize("then", [Skip(), Stop()])
async def test_f57_a_handler_is_tried_again_as_often_as_its_policy_says(
    client: Client, stream: Streams, then: Skip | Stop
) -> None:
    name = stream({})
    await publish(client, name, numbered(5))
    tries: list[int] = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(0)
        tries.append(message.offset)
        if message.offset == 2:
            raise ValueError

    policy = ErrorPolicy(retries=2, backoff=actorstream.BackoffPolicy(base_s=0.001, cap_s=0.002), then=then)
    async with await client.consumer(name, "first", until="end") as consumer:
        if isinstance(then, Skip):
            await consumer.run(handle, on_error=policy)
            assert tries == [0, 1, 2, 2, 2, 3, 4]
            assert consumer.completed == 4
        else:
            with pytest.raises(errors.HandlerFailed):
                await consumer.run(handle, on_error=policy)
            assert tries == [0, 1, 2, 2, 2]
            assert consumer.completed == 1


async def test_f57_a_message_is_parked_with_where_it_came_from(client: Client, stream: Streams) -> None:
    name, parked = stream({}), stream({})
    properties = Properties(message_id="m-1", subject="orders")
    async with await client.producer(name) as producer:
        await producer.send_wait(b"fine")
        await producer.send_wait(Message(b"bad", properties=properties, application_properties={"shop": "a"}))
        await producer.send_wait(b"fine too")
    handled: list[bytes] = []

    def handle(message: Message) -> None:
        if message.body == b"bad":
            raise ValueError("no such shop")
        handled.append(message.body)

    async with await client.consumer(name, "first", until="end") as consumer:
        await consumer.run(handle, on_error=ErrorPolicy(then=Park(parked)))
    assert handled == [b"fine", b"fine too"]
    (message,) = await read(client, parked)
    assert message.body == b"bad"
    assert message.properties is not None
    assert (message.properties.message_id, message.properties.subject) == ("m-1", "orders")
    assert message.application_properties == {
        "shop": "a",
        "x-origin-stream": name,
        "x-origin-offset": 1,
        "x-reason": "ValueError: no such shop",
    }


async def test_parking_where_no_stream_is_says_so_before_anything_is_handled(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(1))
    handled: list[Message] = []
    async with await client.consumer(name, "first", until="end") as consumer:
        with pytest.raises(errors.StreamDoesNotExist):
            await consumer.run(handled.append, on_error=ErrorPolicy(then=Park(stream())))
        assert handled == []
        assert numbers(await take_all(consumer)) == [0]


class Collector(pykka.ThreadingActor):
    """Acknowledges what it gets, until it has had enough."""

    def __init__(self, dies_at: int = -1) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.dies_at = dies_at

    def on_receive(self, message: object) -> None:
        match message:
            case Deliver(messages=messages):
                if any(one.offset == self.dies_at for one in messages):
                    raise SystemExit  # dies without a log
                self.seen += numbers(messages)
                message.acknowledge()


async def test_an_actor_is_told_batches_and_gets_the_next_when_it_has_acknowledged(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(30), chunk=10)
    ref = Collector.start()
    try:
        async with await client.consumer(name, "first", until="end") as consumer:
            async with asyncio.timeout(5):
                await consumer.deliver_to(ref, max_size=7)
            assert consumer.completed == 29
        proxy = ref.proxy()
        assert await asyncio.to_thread(lambda: proxy.seen.get(timeout=5)) == list(range(30))
    finally:
        await asyncio.to_thread(ref.stop)


async def test_f80_delivering_to_an_actor_that_dies_ends_and_its_batch_is_not_lost(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(9))
    told: list[Deliver] = []

    class Dead:
        alive = True

        def tell(self, message: object) -> None:
            assert isinstance(message, Deliver)
            told.append(message)
            if len(told) == 2:
                self.alive = False
            else:
                message.acknowledge()

        def is_alive(self) -> bool:
            return self.alive

    async with await client.consumer(name, "first", until="end") as consumer:
        async with asyncio.timeout(5):
            await consumer.deliver_to(Dead(), max_size=3)
        assert [numbers(one.messages) for one in told] == [[0, 1, 2], [3, 4, 5]]
        assert consumer.completed == 2
        assert consumer.position == 3
        assert numbers(await take_all(consumer)) == [3, 4, 5, 6, 7, 8]


async def test_f76_delivering_to_an_actor_that_never_acknowledges_ends_with_close(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(3))

    class Lazy:
        def tell(self, _message: object) -> None:
            told.set()

    told = asyncio.Event()
    async with await client.consumer(name, "first") as consumer:
        delivering = asyncio.create_task(consumer.deliver_to(Lazy()))
        await told.wait()
    async with asyncio.timeout(2):
        await delivering
    assert consumer.completed is None


# What is in the messages


@pytest.mark.parametrize("compression", list(Compression))
async def test_f47_batches_in_a_chunk_count_by_record(
    client: Client, stream: Streams, compression: Compression
) -> None:
    if compression in (Compression.SNAPPY, Compression.ZSTD):
        pytest.importorskip("cramjam")
    name = stream({})
    batch = [data_entry(body) for body in numbered(50, 1)]
    entries = [
        data_entry(b"0"),
        sub_batch_entry(batch, compression),
        data_entry(b"51"),
        sub_batch_entry([data_entry(b"52")], compression),
    ]
    await publish_entries(client, name, entries)
    for begin in (0, 1, 25, 51, 52):
        messages = await read(client, name, begin)
        assert offsets(messages) == numbers(messages) == list(range(begin, 53))
    async with await client.consumer(name, 3, until=40) as consumer:
        assert numbers(await take_all(consumer)) == list(range(3, 41))


async def test_messages_of_every_shape_arrive_as_they_were_sent(client: Client, stream: Streams) -> None:
    name = stream({})
    sent = [
        Message(b""),
        Message(b"x" * 300),
        Message(b"x" * 70_000),
        Message(value={"key": [1, 2.5, None, "text"]}),
        Message(sequence=[[1, 2], ["a"]]),
        Message(b"body", properties=Properties(correlation_id=7), annotations={"x-a": 1}),
    ]
    several = b"".join(b"\x00\x53\x75\xa0" + bytes([len(part)]) + part for part in (b"two ", b"sections"))
    await publish_entries(client, name, [raw_entry(message.encode()) for message in sent] + [raw_entry(several)])
    received = await read(client, name)
    assert [message.body for message in received[:3]] == [b"", b"x" * 300, b"x" * 70_000]
    assert received[3].value == {"key": [1, 2.5, None, "text"]}
    assert received[5].properties is not None
    assert received[5].properties.correlation_id == 7
    assert received[6].body == b"two sections"
    assert [message.encode() for message in received] == [message.encode() for message in sent] + [several]


async def test_what_is_no_message_at_all_is_delivered_and_fails_only_when_it_is_read(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    record = struct.pack(">I", 0xDEADBEEF)
    await publish_entries(client, name, [raw_entry(record), data_entry(b"after")])
    first, second = await read(client, name)
    with pytest.raises(errors.MessageCodecError):
        _ = first.body
    assert second.body == b"after"
    async with await client.consumer(name, "first", until="end", raw=True) as consumer:
        assert [message.body for message in await take_all(consumer)] == [record, Message(b"after").encode()]


@pytest.mark.parametrize("raw", [False, True])
async def test_f57_a_record_that_is_no_amqp_message_is_parked_as_the_body_of_one(
    client: Client, stream: Streams, raw: bool
) -> None:
    name, parked = stream({}), stream({})
    await publish_entries(client, name, [data_entry(b"good"), raw_entry(b"\xde\xad\xbe\xef")])

    def handle(message: Message) -> None:
        if b"good" not in message.body:
            raise ValueError("no message")

    async with await client.consumer(name, "first", until="end", raw=raw) as consumer:
        await consumer.run(handle, on_error=ErrorPolicy(then=Park(parked)))
        assert consumer.completed == 1
    (message,) = await read(client, parked)
    assert message.body == b"\xde\xad\xbe\xef"
    assert message.application_properties["x-raw"] is True
    assert (message.application_properties["x-origin-stream"], message.application_properties["x-origin-offset"]) == (
        name,
        1,
    )


async def test_to_park_in_the_stream_itself_is_refused(client: Client, stream: Streams) -> None:
    name = stream({})
    async with await client.consumer(name, "first", until="end") as consumer:
        with pytest.raises(errors.InvalidArgument, match="comes again"):
            await consumer.run(print, on_error=ErrorPolicy(then=Park(name)))


# Whose loop, whose thread


async def test_f56_actors_in_a_thread_of_their_own_go_on_while_the_caller_blocks(
    broker: Broker, stream: Streams
) -> None:
    name = stream({})
    async with connected(broker, own_thread=True) as client:
        await publish(client, name, numbered(10), chunk=1)  # before: a broker sends nothing new at half of the credit
        async with await client.consumer(name, "first", credit=2) as consumer:
            await anext(consumer)

            def arrived() -> int:
                return len(consumer._state.deliveries)

            deadline = time.monotonic() + 5
            while arrived() < 1:  # blocks this loop, on purpose
                assert time.monotonic() < deadline, "nothing arrived while the caller's loop stood still"
                time.sleep(0.001)  # noqa: ASYNC251
            assert numbers(await take(consumer, 9)) == list(range(1, 10))
        messages = await read(client, name)
        assert numbers(messages) == list(range(10))


def test_the_blocking_handles_do_the_same(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with blocking.connect(broker.uri) as client:
        with client.producer(name) as producer:
            for receipt in [producer.send(body) for body in numbered(20)]:
                receipt.result(timeout=10)
        with client.consumer(name, "first", until="end") as consumer:
            first = next(iter(consumer))
            assert first.body == b"0"
            assert numbers(next(iter(consumer.batches(5)))) == [1, 2, 3, 4, 5]
            assert numbers(list(consumer)) == list(range(6, 20))
        with client.consumer(name, 10, until=14) as consumer:
            seen: list[int] = []
            consumer.run(lambda message: seen.append(message.offset))
            assert seen == list(range(10, 15))


def test_a_blocking_call_on_the_loops_own_thread_says_so(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with blocking.connect(broker.uri) as client:
        with client.producer(name) as producer:
            producer.send_wait(b"one")
        with client.consumer(name, "first", until="end") as consumer:
            caught: list[BaseException] = []

            def handle(message: Message) -> None:
                try:
                    client.stream_exists(name)
                except errors.WrongLoop as error:
                    caught.append(error)

            consumer.run(handle, threads=False)
            assert len(caught) == 1


def test_a_blocking_iteration_ends_when_another_thread_closes_the_consumer(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with blocking.connect(broker.uri) as client:
        with client.producer(name) as producer:
            producer.send_wait(b"0")
        consumer = client.consumer(name, "first")
        seen: list[int] = []
        started = threading.Event()

        def iterate() -> None:
            for message in consumer:
                seen.append(message.offset)
                started.set()

        thread = threading.Thread(target=iterate)
        thread.start()
        assert started.wait(5)
        consumer.close()
        thread.join(5)
        assert not thread.is_alive()
        assert seen == [0]


async def test_the_lag_can_be_told(client: Client, stream: Streams) -> None:
    name = stream({})
    async with await client.consumer(name, "first") as consumer:
        assert consumer.committed_chunk_id == -1
        await publish(client, name, numbered(20), chunk=10)
        await take(consumer, 20)
        assert 0 < consumer.committed_chunk_id < consumer.position == 20


async def test_f92_handles_come_and_go_without_leaving_anything(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(3))

    async def one() -> None:
        consumer: Consumer
        async with await client.consumer(name, "first") as consumer:
            await anext(consumer)

    for _ in range(5):
        await asyncio.gather(*(one() for _ in range(20)))
    assert not client._handles
    assert (await actors(client, "subscribers")) == ()

    async def all_given_back() -> bool:
        (pool,) = await actors(client, "pool")
        return pool.details["entities"] == 0

    await until(all_given_back, "all ids are given back")
    connections = [node.details["role"] for node in await actors(client, "connections")]
    assert connections.count("consumer") == 1, "100 consumers, 20 at a time, share one connection"


async def actors(client: Client, name: str) -> tuple[actorstream.Node, ...]:
    (found,) = [child for child in (await client.tree()).children if child.name == name]
    return found.children if found.kind == "Supervisor" else (found,)
