"""The pipe: each message once, in order, whatever is killed or cut; and typed errors where that cannot be."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import actorstream
from actorstream import Client, ErrorPolicy, Message, Park, Pipe, Skip, StreamArguments, blocking, errors
from lab.broker import Broker
from tests.broker import piping
from tests.broker.reading import connected, numbered, publish, read, until
from tests.conftest import Streams

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 30.0


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with connected(broker, "pipe") as client:
        yield client


def double(message: Message) -> bytes:
    return message.body * 2


def bodies(messages: Sequence[Message]) -> list[bytes]:
    return [message.body for message in messages]


async def run(pipe: Pipe) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await pipe.run()


async def test_each_message_comes_out_once_and_a_second_run_goes_on_behind_it(client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(100))
    pipe = Pipe(client, source, target, double, name="pipe", until="end")
    await run(pipe)
    assert (pipe.position, pipe.completed, pipe.read, pipe.published) == (100, 100, 100, 100)
    await publish(client, source, numbered(50, 100))
    await run(pipe)
    assert bodies(await read(client, target)) == [b"%d%d" % (number, number) for number in range(150)]
    assert pipe.read == 150, "it has read none again: all of it was confirmed, and the source knew"


async def test_the_publishing_id_is_the_offset_plus_one(client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(10))
    await run(Pipe(client, source, target, double, name="pipe", until="end"))
    assert await client.publishing_sequence("pipe", target) == 10
    assert await client.query_offset("pipe:pipe", source) == 10


async def test_what_is_filtered_out_at_the_end_is_not_read_again(client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, [b"keep", *[b"drop"] * 99])

    def keep(message: Message) -> bytes | None:
        return message.body if message.body == b"keep" else None

    await run(Pipe(client, source, target, keep, name="pipe", until="end"))
    again = Pipe(client, source, target, keep, name="pipe", until="end")
    await run(again)
    assert again.read == 0
    assert bodies(await read(client, target)) == [b"keep"]


async def test_f31_what_the_source_was_not_told_is_sent_again_and_dropped_by_the_broker(
    client: Client, stream: Streams
) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(100))
    await run(Pipe(client, source, target, double, name="pipe", until="end"))
    await client.store_offset("pipe:pipe", source, 40)  # as if the rest had not been confirmed when it was killed

    async def told() -> bool:
        return await client.query_offset("pipe:pipe", source) == 40

    await until(told, "the source was told")
    await publish(client, source, numbered(10, 100))
    again = Pipe(client, source, target, double, name="pipe", until="end")
    await run(again)
    assert again.read == again.published == 70
    assert bodies(await read(client, target)) == [b"%d%d" % (number, number) for number in range(110)]


async def test_several_outputs_of_one_message_share_its_id_and_are_there_together(
    client: Client, stream: Streams
) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(10))

    def function(message: Message) -> list[bytes | Message]:
        made: list[bytes | Message] = [message.body, Message(message.body, application_properties={"copy": 1}), b"x"]
        return made[: int(message.body) % 4]

    for _ in range(2):
        await run(Pipe(client, source, target, function, name="pipe", until="end"))
        await client.store_offset("pipe:pipe", source, 0)  # so that all of it is sent again
    messages = await read(client, target)
    assert bodies(messages) == [
        body for number in range(10) for body in [b"%d" % number, b"%d" % number, b"x"][: number % 4]
    ]
    assert await client.publishing_sequence("pipe", target) == 10


async def test_whole_messages_pass_through_with_all_their_sections(client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    async with await client.producer(source) as producer:
        await producer.send_wait(Message(b"body", application_properties={"shop": "a"}))

    async def enrich(message: Message) -> Message:
        await asyncio.sleep(0)
        return message.copy(application_properties={**message.application_properties, "seen": True})

    await run(Pipe(client, source, target, enrich, name="pipe", until="end"))
    (message,) = await read(client, target)
    assert (message.body, message.application_properties) == (b"body", {"shop": "a", "seen": True})


async def test_f57_a_function_that_raises_stops_the_pipe_and_its_message_is_the_first_of_the_next_run(
    client: Client, stream: Streams
) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(10))
    fails = [b"4"]

    def function(message: Message) -> bytes:
        if message.body in fails:
            raise KeyError(message.body)
        return message.body

    pipe = Pipe(client, source, target, function, name="pipe", until="end")
    with pytest.raises(errors.HandlerFailed) as caught:
        await run(pipe)
    assert isinstance(caught.value.__cause__, KeyError)
    assert (caught.value.stream, caught.value.offset) == (source, 4)
    assert bodies(await read(client, target)) == numbered(4)
    fails.clear()
    await run(pipe)
    assert bodies(await read(client, target)) == numbered(10)


async def test_f57_what_cannot_be_published_is_the_fault_of_its_message(client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(4))

    def function(message: Message) -> Any:
        return {b"1": 17, b"2": b"x" * 2**21}.get(message.body, message.body)

    pipe = Pipe(client, source, target, function, name="pipe", until="end", on_error=ErrorPolicy(then=Skip()))
    await run(pipe)
    assert bodies(await read(client, target)) == [b"0", b"3"]
    with pytest.raises(errors.HandlerFailed) as caught:
        await run(Pipe(client, source, stream({}), function, name="pipe", until="end"))
    assert isinstance(caught.value.__cause__, errors.InvalidArgument)


async def test_f57_what_is_parked_is_parked_once(client: Client, stream: Streams) -> None:
    source, target, parked = stream({}), stream({}), stream({})
    await publish(client, source, numbered(10))

    def function(message: Message) -> bytes:
        if int(message.body) % 3 == 1:
            raise ValueError
        return message.body

    policy = ErrorPolicy(then=Park(parked))
    for _ in range(2):
        await run(Pipe(client, source, target, function, name="pipe", until="end", on_error=policy))
        await client.store_offset("pipe:pipe", source, 0)
    assert bodies(await read(client, parked)) == [b"1", b"4", b"7"]
    assert bodies(await read(client, target)) == [b"0", b"2", b"3", b"5", b"6", b"8", b"9"]


@pytest.mark.parametrize(
    ("begin", "wanted"), [("next", [b"seen", b"meanwhile"]), ("last", [b"c", b"seen", b"meanwhile"])]
)
async def test_f48_next_and_last_mean_what_they_meant_when_the_pipe_ran_first(
    client: Client, stream: Streams, begin: str, wanted: list[bytes]
) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, [b"a", b"b", b"c"], chunk=1)
    pipe = Pipe(client, source, target, lambda message: message.body, name="pipe", offset=begin)
    running = asyncio.create_task(pipe.run())
    await until(lambda: pipe.position > 0, "it has begun")
    running.cancel()  # before anything came
    await asyncio.gather(running, return_exceptions=True)
    await publish(client, source, [b"seen", b"meanwhile"])
    await run(Pipe(client, source, target, lambda message: message.body, name="pipe", offset=begin, until="end"))
    assert bodies(await read(client, target)) == wanted


async def test_next_of_an_empty_source_is_its_first_message(client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    pipe = Pipe(client, source, target, double, name="pipe", offset="next")
    running = asyncio.create_task(run(pipe))

    async def begun() -> bool:
        return await client.query_offset("pipe:pipe", source) is not None

    await until(begun, "it knows what next means")
    await publish(client, source, [b"a"])
    await until(lambda: pipe.published == 1 and not pipe._pending, "it came through")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bodies(await read(client, target)) == [b"aa"]


async def test_a_target_made_anew_gets_everything_from_the_beginning(
    broker: Broker, client: Client, stream: Streams
) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(20))
    await run(Pipe(client, source, target, double, name="pipe", until="end"))
    broker.management.delete_stream(target)
    broker.management.create_stream(target)
    await run(Pipe(client, source, target, double, name="pipe", until="end"))
    assert len(await read(client, target)) == 20


async def test_a_source_made_anew_is_refused_since_its_messages_would_be_taken_for_duplicates(
    broker: Broker, client: Client, stream: Streams
) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(20))
    await run(Pipe(client, source, target, double, name="pipe", until="end"))
    broker.management.delete_stream(source)
    broker.management.create_stream(source)
    await publish(client, source, numbered(100))
    with pytest.raises(errors.SourceReplaced) as caught:
        await run(Pipe(client, source, target, double, name="pipe", until="end"))
    assert (caught.value.stream, caught.value.name) == (source, "pipe")
    await run(Pipe(client, source, target, double, name="another pipe", until="end"))
    assert len(await read(client, target)) == 120


async def test_a_source_made_anew_while_the_pipe_runs_ends_it(broker: Broker, client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(20))
    pipe = Pipe(client, source, target, double, name="pipe")
    running = asyncio.create_task(run(pipe))
    await until(lambda: pipe.completed == 20, "all is through")
    broker.management.delete_stream(source)
    broker.management.create_stream(source)
    await publish(client, source, numbered(3))
    with pytest.raises(errors.StreamTruncated):
        await running


async def test_a_target_that_is_deleted_ends_the_pipe(broker: Broker, client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, numbered(20))
    pipe = Pipe(client, source, target, double, name="pipe")
    running = asyncio.create_task(run(pipe))
    await until(lambda: pipe.completed == 20, "all is through")
    broker.management.delete_stream(target)
    await publish(client, source, numbered(1))
    with pytest.raises((errors.Closed, errors.Unconfirmed)) as caught:
        await running
    assert "stream does not exist" in str(caught.value.__cause__ or caught.value)


async def test_its_producer_and_its_consumer_are_in_the_tree_while_it_runs(client: Client, stream: Streams) -> None:
    source, target = stream({}), stream({})
    pipe = Pipe(client, source, target, double, name="pipe")
    running = asyncio.create_task(pipe.run())

    async def names() -> set[str]:
        return {child.name.rpartition("-")[0] for room in (await client.tree()).children for child in room.children}

    async def there() -> bool:
        return {source, target} <= await names()

    await until(there, "both are in the tree")
    with pytest.raises(errors.InvalidArgument, match="runs already"):
        await pipe.run()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not {source, target} & await names()
    assert not client._handles


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "a"},
        {"name": ""},
        {"name": "x" * 251},
        {"function": "double"},
        {"offset": "begin"},
        {"on_error": ErrorPolicy(then=Park("a"))},
        {"on_error": ErrorPolicy(then=Park("b"))},
        {"start_timeout_s": 0},
    ],
)
async def test_what_cannot_be_a_pipe_is_refused_when_it_is_made(client: Client, wrong: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidArgument):
        Pipe(client, **{"source": "a", "target": "b", "function": double, "name": "pipe", **wrong})  # type: ignore[arg-type]


async def test_a_stream_that_is_not_there_is_told_at_the_start(client: Client, stream: Streams) -> None:
    source, missing = stream({}), stream()
    for pair in ((source, missing), (missing, source)):
        with pytest.raises(errors.StreamDoesNotExist):
            await run(Pipe(client, *pair, double, name="pipe"))
    assert not client._handles


def test_the_blocking_client_runs_a_pipe_whose_function_may_block(broker: Broker, stream: Streams) -> None:
    source, target = stream({}), stream({})
    with blocking.connect(broker.uri) as client:
        with client.producer(source) as producer:
            for body in numbered(5):
                producer.send_wait(body)

        def function(message: Message) -> bytes | None:
            return message.body if client.stream_exists(source) else None  # a blocking call

        async def on_the_loop(message: Message) -> bytes:
            await asyncio.sleep(0)
            return message.body

        client.run_pipe(source, target, function, name="pipe", until="end")
        client.run_pipe(source, target, on_the_loop, name="pipe on the loop", until="end")
        with client.consumer(target, "first", until="end") as consumer:
            assert bodies(list(consumer)) == [*numbered(5), *numbered(5)]


# Killed, and cut


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(10**6)])
async def test_i4_killed_again_and_again_it_loses_nothing_and_repeats_nothing(
    broker: Broker, client: Client, stream: Streams, seed: int
) -> None:
    """SIGKILL at random moments: before it has begun, in the middle, and with much unconfirmed."""
    rng = random.Random(seed)
    source, target, parked = stream({}), stream({}), stream({})
    count, kills = 30_000, 12
    await publish(client, source, numbered(count), chunk=100)
    names = (broker.uri, source, target, parked, "killed")
    lengths = []
    for number in range(kills):
        # Half of them before the source was told how far it has come.
        after_s = rng.uniform(0.0, 0.4) if number % 2 else rng.uniform(0.9, 1.5)
        with process(*names, "0.004") as piping_process:
            await asyncio.to_thread(first_line, piping_process, after_s)
            piping_process.kill()
            piping_process.wait()
        lengths.append(len(await read(client, target)))
    with process(*names, "0", "end") as piping_process:
        assert await asyncio.to_thread(piping_process.wait, 60) == 0
    assert len(set(lengths)) > kills / 3, f"killed in the middle: {lengths}"
    assert lengths[-1] < count, "it was still at work when it was killed last"
    through = [number for number in range(count) if not piping.is_parked(number)]
    assert bodies(await read(client, target)) == [one for number in through for one in piping.outputs_of(number)]
    assert bodies(await read(client, parked)) == [b"%d" % number for number in range(count) if piping.is_parked(number)]


def in_turn(*steps: Callable[[], object]) -> None:
    for step in steps:
        step()


def process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.broker.piping", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def first_line(running: subprocess.Popen[str], after_s: float) -> None:
    """Wait until it says that it runs, and a little longer."""
    assert running.stdout is not None
    assert running.stdout.readline() == "running\n"
    time.sleep(after_s)


@pytest.mark.timeout(180)
async def test_i4_a_broker_that_is_cut_killed_and_restarted_under_it_changes_nothing(
    chaos: Broker, chaos_stream: Streams
) -> None:
    source, target = chaos_stream({}), chaos_stream({})
    async with actorstream.connect(chaos.uri, name="chaos-pipe") as client:
        pipe = Pipe(client, source, target, double, name="pipe")
        running = asyncio.create_task(pipe.run())
        faults = [
            lambda: chaos.management.close_connections("chaos-pipe-publisher"),
            lambda: chaos.management.close_connections("chaos-pipe-consumer"),
            lambda: chaos.kill_stream_leader(target),
            chaos.restart,
            lambda: in_turn(chaos.kill, chaos.start),
        ]
        for number, fault in enumerate(faults):
            publishing = asyncio.create_task(publish(client, source, numbered(2_000, 2_000 * number), chunk=50))
            await until(lambda: pipe.read > 2_000 * number + 200, "it is under way", PATIENCE_S)  # noqa: B023
            await asyncio.to_thread(fault)
            await publishing
        total = 2_000 * len(faults)
        await until(lambda: running.done() or pipe.completed >= total, "all is through", 60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        sent = bodies(await read(client, source))
        assert set(sent) == set(numbered(total))
        assert bodies(await read(client, target)) == [body * 2 for body in sent]


async def test_next_is_behind_the_last_message_also_when_a_chunk_of_the_brokers_own_is_the_last(
    client: Client, stream: Streams
) -> None:
    source, target = stream({}), stream({})
    await publish(client, source, [b"a", b"b"], chunk=1)
    await client.store_offset("somebody else", source, 0)

    async def stored() -> bool:
        return await client.query_offset("somebody else", source) == 0

    await until(stored, "the broker has written a chunk of its own")
    pipe = Pipe(client, source, target, double, name="pipe", offset="next")
    running = asyncio.create_task(run(pipe))
    await until(lambda: pipe.position > 1, "it knows what next means")
    await publish(client, source, [b"c"])
    await until(lambda: pipe.published == 1 and not pipe._pending, "it came through")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bodies(await read(client, target)) == [b"cc"]


async def test_f49_what_retention_took_before_the_pipe_had_read_it_is_told(client: Client, stream: Streams) -> None:
    source, target = stream(), stream({})
    await client.create_stream(source, StreamArguments(max_length=200_000, max_segment_size=50_000))
    await publish(client, source, numbered(20))
    pipe = Pipe(client, source, target, double, name="pipe", until="end")
    await run(pipe)
    filler = [b"x" * 1_000] * 50

    async def overtaken() -> bool:
        await publish(client, source, filler, chunk=10)
        return (await client.stream_statistics(source)).first_chunk_id > pipe.completed

    await until(overtaken, "retention has gone beyond the pipe", PATIENCE_S)
    with pytest.raises(errors.OffsetGap) as caught:
        await run(pipe)
    assert caught.value.stream == source
    assert caught.value.wanted >= 20
    assert len(await read(client, target)) == 20
