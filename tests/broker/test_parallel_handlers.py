"""Parallel handlers over a real stream: order, completion, and what comes again after a failure or a cut."""

import asyncio
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from actorstream import BackoffPolicy, Client, ErrorPolicy, HashRouting, Message, Park, Skip, blocking, errors
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, offsets, publish, read, take_all, until
from tests.conftest import Streams

NAME = "parallel-handlers"


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker, NAME) as client:
        yield client


def customer(message: Message) -> int:
    return int(message.body) % 7


class Log:
    """What was handled, in its order, and by whom at the same time."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.at_work: set[int] = set()
        self.most = 0

    async def __call__(self, message: Message) -> None:
        number = int(message.body)
        assert customer(message) not in {other % 7 for other in self.at_work}, "two of one customer side by side"
        self.at_work.add(number)
        self.most = max(self.most, len(self.at_work))
        await asyncio.sleep(0.001 * (number % 3))
        self.at_work.remove(number)
        self.handled.append(number)

    def check_order(self) -> None:
        of_customer = defaultdict(list)
        for number in self.handled:
            of_customer[number % 7].append(number)
        for handled in of_customer.values():
            assert all(before < after for before, after in itertools.pairwise(handled))


async def test_every_message_is_handled_once_and_in_the_order_of_its_key(client: Client, stream: Streams) -> None:
    name, log = stream({}), Log()
    await publish(client, name, numbered(700), chunk=50)
    async with await client.consumer(name, "first", until="end") as consumer:
        await consumer.run(log, workers=5, key=customer)
        assert (consumer.completed, consumer.position, consumer.received) == (699, 700, 700)
    assert sorted(log.handled) == list(range(700))
    assert log.handled != list(range(700))
    assert log.most == 5
    log.check_order()


async def test_without_a_key_any_may_be_handled_beside_any_other(client: Client, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(8))
    together = asyncio.Barrier(8)

    async def handle(_message: Message) -> None:
        await together.wait()

    async with asyncio.timeout(10), await client.consumer(name, "first", until="end") as consumer:
        await consumer.run(handle, workers=8)
        assert consumer.completed == 7


async def test_handlers_that_block_run_in_threads(client: Client, stream: Streams) -> None:
    name, handled = stream({}), list[int]()
    await publish(client, name, numbered(40))
    together = threading.Barrier(4, timeout=10)

    def handle(message: Message) -> None:
        together.wait()
        handled.append(int(message.body))

    async with await client.consumer(name, "first", until="end") as consumer:
        await consumer.run(handle, workers=4, threads=True)
        assert consumer.completed == 39
    assert sorted(handled) == list(range(40))


async def test_f57_stop_counts_nothing_beyond_the_failure_and_all_of_that_comes_again(
    client: Client, stream: Streams
) -> None:
    name, handled = stream({}), list[int]()
    await publish(client, name, numbered(300), chunk=10)

    async def handle(message: Message) -> None:
        if message.offset == 123 and 123 not in failed:
            await asyncio.sleep(0.02)  # those behind it are completed meanwhile
            failed.append(123)
            raise KeyError
        handled.append(message.offset)

    failed: list[int] = []
    async with await client.consumer(name, "first", until="end") as consumer:
        with pytest.raises(errors.HandlerFailed) as caught:
            await consumer.run(handle, workers=4, max_in_flight=50)
        assert caught.value.offset == consumer.position == 123
        assert consumer.completed == 122
        assert consumer.received == 123
        assert max(handled) > 123
        again = [message.offset for message in await take_all(consumer)]
        assert again == list(range(123, 300))
        assert consumer.completed == 299


async def test_f57_retry_skip_and_park_go_on_side_by_side(client: Client, stream: Streams) -> None:
    name, parked = stream({}), stream({})
    await publish(client, name, numbered(200))
    tries: dict[int, int] = defaultdict(int)

    async def handle(message: Message) -> None:
        number = int(message.body)
        tries[number] += 1
        if number % 10 == 3 or (number % 10 == 4 and tries[number] == 1):
            raise ValueError(f"number {number}")

    policy = ErrorPolicy(retries=1, backoff=BackoffPolicy(base_s=0.001, cap_s=0.001), then=Park(parked))
    async with await client.consumer(name, "first", until="end") as consumer:
        await consumer.run(handle, on_error=policy, workers=6)
        assert consumer.completed == 199
    messages = await read(client, parked)
    assert sorted(numbers(messages)) == list(range(3, 200, 10))
    for message in messages:
        number = int(message.body)
        assert message.application_properties == {
            "x-origin-stream": name,
            "x-origin-offset": number,
            "x-reason": f"ValueError: number {number}",
        }
    async with await client.consumer(name, "first", until="end") as consumer:
        await consumer.run(handle, on_error=ErrorPolicy(then=Skip()), workers=6)
        assert consumer.completed == 199


async def test_i6_cut_connections_neither_lose_nor_repeat_what_is_handled_side_by_side(
    broker: Broker, client: Client, stream: Streams
) -> None:
    name, log = stream({}), Log()
    async with await client.consumer(name, "first", credit=2) as consumer:
        running = asyncio.create_task(consumer.run(log, workers=5, key=customer, max_in_flight=30))
        for round_ in range(3):
            await publish(client, name, numbered(200, 200 * round_), chunk=20)
            await asyncio.to_thread(broker.management.close_connections, f"{NAME}-consumer")
        await until(lambda: consumer.completed == 599, "everything is handled")
        await consumer.close()
        await running
    assert sorted(log.handled) == list(range(600))
    log.check_order()


async def test_a_stream_made_anew_has_a_completion_of_its_own(broker: Broker, client: Client, stream: Streams) -> None:
    name, log = stream({}), list[tuple[bytes, int]]()
    await publish(client, name, [b"old"] * 10)
    hold = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.body == b"old" and message.offset == 5:
            await hold.wait()
        log.append((message.body, message.offset))

    async with await client.consumer(name, "first") as consumer:
        running = asyncio.create_task(consumer.run(handle, workers=3))
        await until(lambda: len(log) == 9, "all but one are handled")
        assert consumer.completed == 4
        broker.management.delete_stream(name)
        broker.management.create_stream(name)
        await publish(client, name, [b"new"] * 3)
        await until(lambda: len(log) == 12, "the new ones are handled")
        assert consumer.completed == 2
        hold.set()
        await until(lambda: len(log) == 13, "the old one has ended")
        assert consumer.completed == 2, "which says nothing of the new stream"
        await consumer.close()
        await running
    assert log[-4:] == [(b"new", 0), (b"new", 1), (b"new", 2), (b"old", 5)]


async def test_a_cancelled_run_hands_all_that_is_not_completed_to_the_next_one(client: Client, stream: Streams) -> None:
    name, log = stream({}), list[int]()
    await publish(client, name, numbered(100), chunk=5)
    hold = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.offset == 20:
            await hold.wait()
        log.append(message.offset)

    async with await client.consumer(name, "first", until="end") as consumer:
        running = asyncio.create_task(consumer.run(handle, workers=3, max_in_flight=30))
        await until(lambda: len(log) == 49, "as many are handled as may be beyond one that is not")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (consumer.completed, consumer.position) == (19, 20)
        hold.set()
        await consumer.run(handle, workers=3)
        assert consumer.completed == 99
    assert sorted(set(log)) == list(range(100))


def test_the_blocking_handles_call_a_handler_in_threads_where_it_may_use_them(broker: Broker, stream: Streams) -> None:
    source, target = stream({}), stream({})
    with blocking.connect(broker.uri) as client, client.producer(target) as producer:
        with client.producer(source) as filling:
            for body in numbered(50):
                filling.send_wait(body)

        def handle(message: Message) -> None:
            time.sleep(0.001)
            producer.send_wait(message.body)

        with client.consumer(source, "first", until="end") as consumer:
            consumer.run(handle, workers=4, key=customer)
            assert consumer.asynchronous.completed == 49
        with client.consumer(target, "first", until="end") as consumer:
            assert sorted(numbers(consumer)) == list(range(50))


async def test_the_partitions_of_a_super_stream_are_handled_side_by_side_and_each_is_completed_in_its_order(
    client: Client, stream: Streams
) -> None:
    name, log = stream(), Log()
    await client.create_super_stream(name, partitions=3)
    routing = HashRouting(lambda message: str(int(message.body) % 7))
    async with await client.super_stream_producer(name, routing=routing) as producer:
        await (await producer.send_batch([Message(body) for body in numbered(210)]))
    async with await client.super_stream_consumer(name, "first", until="end") as consumer:
        await consumer.run(log, workers=5, key=customer)
        kept = {partition: offsets(await read(client, partition)) for partition in consumer.partitions}
        assert consumer.completed == {partition: max(at, default=None) for partition, at in kept.items()}
    assert sorted(log.handled) == list(range(210))
    log.check_order()


async def test_f57_stop_over_several_partitions_hands_back_what_each_of_them_has_not_completed(
    client: Client, stream: Streams
) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=3)
    routing = HashRouting(lambda message: message.body.decode())
    async with await client.super_stream_producer(name, routing=routing) as producer:
        await (await producer.send_batch([Message(body) for body in numbered(150)]))
    handled: list[int] = []
    failed: list[int] = []

    async def handle(message: Message) -> None:
        if int(message.body) == 60 and not failed:
            failed.append(message.offset)
            raise KeyError
        handled.append(int(message.body))

    async with await client.super_stream_consumer(name, "first", until="end") as consumer:
        with pytest.raises(errors.HandlerFailed) as caught:
            await consumer.run(handle, workers=4, max_in_flight=20)
        reached = consumer.completed[caught.value.stream]
        assert reached is None or reached < failed[0] == consumer.positions[caught.value.stream]
        await consumer.run(handle, workers=4)
        assert sorted(set(handled)) == list(range(150))


async def test_f46_what_is_stored_under_a_name_never_passes_a_message_that_is_not_completed(
    client: Client, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(300), chunk=10)
    stuck, log = asyncio.Event(), list[int]()

    async def handle(message: Message) -> None:
        if message.offset == 100 and not stuck.is_set():
            await until(lambda: len(log) == 149, "those behind it are completed")
            stuck.set()
            raise KeyError
        log.append(message.offset)

    async with await client.consumer(name, "first", name="group") as consumer:
        with pytest.raises(errors.HandlerFailed):
            await consumer.run(handle, workers=4, max_in_flight=50)
    assert max(log) == 149
    assert await client.query_offset("group", name) == 99
    async with await client.consumer(name, "first", name="group") as consumer:
        running = asyncio.create_task(consumer.run(handle, workers=4))
        await until(lambda: consumer.completed == 299, "the rest is handled")
        await consumer.close()
        await running
    assert sorted(set(log)) == list(range(300))
    assert len(log) == 149 + 200, "from 100 on once more"
