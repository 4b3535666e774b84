"""The client: how it comes up, what it shows, how it ends, and that it ends in every state."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import actorstream
from actorstream import Client, ConnectionOptions, Node, StreamArguments, blocking, errors, events
from actorstream.actors.supervisor import Supervisor
from actorstream.wire import commands as c
from tests.actors.test_subscriber import connected, fill, subscribed, take
from tests.peer import FakeCluster, until


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster()
    made.create("s")
    return made


@contextlib.contextmanager
def within(seconds: float) -> Any:
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    assert took < seconds, f"took {took:.2f} s"


# Coming up


async def test_connect_is_awaited_or_entered(cluster: FakeCluster) -> None:
    client = await actorstream.connect(cluster.uri, opener=cluster.open)
    assert await client.stream_exists("s")
    await client.close()
    async with actorstream.connect(cluster.uri, opener=cluster.open) as client:
        assert not await client.stream_exists("none")
    async with await actorstream.connect(cluster.uri, opener=cluster.open) as client:
        assert await client.stream_exists("s")


async def test_any_seed_that_answers_will_do() -> None:
    cluster = FakeCluster(nodes=2)
    cluster.create("s")
    cluster.network.refuse("node-0", 5552)
    async with actorstream.connect(cluster.uris, opener=cluster.open) as client:
        assert await client.stream_exists("s")


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (lambda cluster: cluster.network.refuse("node-0", 5552), errors.ConnectFailed),
        (lambda cluster: cluster.users.update(guest="another"), errors.AuthenticationFailure),
        (lambda cluster: cluster.vhosts.clear(), errors.VirtualHostAccessFailure),
        (lambda cluster: cluster.script.disconnect(c.Open), errors.ConnectionLost),
    ],
)
@pytest.mark.parametrize("own_thread", [False, True])
async def test_f87_what_keeps_a_client_from_coming_up_is_raised_and_nothing_is_left(
    cluster: FakeCluster, prepare: Callable[[FakeCluster], object], error: type[Exception], own_thread: bool
) -> None:
    prepare(cluster)
    with within(5), pytest.raises(error):
        await actorstream.connect(cluster.uri, opener=cluster.open, own_thread=own_thread)
    await until(lambda: not cluster.connections())
    assert not [thread for thread in threading.enumerate() if "actorstream" in thread.name]


@pytest.mark.parametrize("own_thread", [False, True])
async def test_f06_i14_a_connect_to_a_frozen_broker_can_be_cancelled(cluster: FakeCluster, own_thread: bool) -> None:
    cluster.node(0).freeze()
    connecting = asyncio.create_task(_connect(cluster, own_thread=own_thread))
    await until(lambda: cluster.network.links("node-0", 5552))
    connecting.cancel()
    with within(3), pytest.raises(asyncio.CancelledError):
        await connecting


async def _connect(cluster: FakeCluster, **options: Any) -> Client:
    return await actorstream.connect(cluster.uri, opener=cluster.open, **options)


async def test_f06_a_frozen_broker_is_given_up_after_the_time_for_one_step(cluster: FakeCluster) -> None:
    cluster.node(0).freeze()
    options = ConnectionOptions(rpc_timeout_s=0.2, connect_timeout_s=0.2)
    with within(3), pytest.raises(errors.ConnectionLost):
        await actorstream.connect(cluster.uri, opener=cluster.open, options=options)


def test_f19_wrong_arguments_need_no_loop_to_be_refused() -> None:
    with pytest.raises(errors.InvalidArgument):
        actorstream.connect("http://localhost")
    with pytest.raises(errors.InvalidArgument):
        blocking.connect("http://localhost")


# Streams


async def test_streams_are_created_described_and_deleted(cluster: FakeCluster) -> None:
    async with connected(cluster) as client:
        await client.create_stream("new", StreamArguments(max_age=60))
        with pytest.raises(errors.StreamAlreadyExists):
            await client.create_stream("new", StreamArguments(max_age=60))
        await client.create_stream("new", StreamArguments(max_age=60), exist_ok=True)
        with pytest.raises(errors.PreconditionFailed):
            await client.create_stream("new", exist_ok=True)
        metadata = await client.stream_metadata("new")
        assert metadata.leader is not None
        assert metadata.leader.host == "node-0"
        assert (await client.stream_statistics("new")).committed_chunk_id == -1
        await client.delete_stream("new")
        with pytest.raises(errors.StreamDoesNotExist):
            await client.delete_stream("new")
        await client.delete_stream("new", missing_ok=True)
        for ask in (client.stream_metadata, client.stream_statistics, client.consumer, client.producer):
            with pytest.raises(errors.StreamDoesNotExist):
                await ask("new")
        assert not client._handles


async def test_a_broker_without_super_stream_commands_is_named_and_keeps_its_connection() -> None:
    cluster = FakeCluster(version="3.12.14")
    cluster.create_super_stream("ss", 2)
    async with connected(cluster) as client:
        for ask in (client.create_super_stream, client.delete_super_stream):
            with pytest.raises(errors.UnsupportedByBroker, match=r"needs RabbitMQ 3.13 or newer, .* is 3.12.14"):
                await ask("ss")
        assert await client.partitions("ss") == ("ss-0", "ss-1")
        assert await client.route("1", "ss") == ("ss-1",)
        assert not cluster.heard(c.CreateSuperStream)


async def test_f53_only_the_brokers_word_means_that_no_offset_is_stored(cluster: FakeCluster) -> None:
    async with connected(cluster, rpc_timeout_s=0.5) as client:
        assert await client.query_offset("reader", "s") is None
        await client.store_offset("reader", "s", 7)
        await until(lambda: cluster.stream("s").offsets)
        not_available = cluster.respond(c.QueryOffset, code=6)
        with pytest.raises(errors.StreamNotAvailable):
            await client.query_offset("reader", "s")
        not_available.cancel()
        assert await client.query_offset("reader", "s") == 7
        with pytest.raises(errors.StreamDoesNotExist):
            await client.query_offset("reader", "none")


# Ending


async def test_a_client_that_was_closed_says_so_everywhere(cluster: FakeCluster) -> None:
    async with connected(cluster) as client:
        pass
    with within(1):
        await client.close()
    calls: list[Callable[[], Any]] = [
        lambda: client.create_stream("x"),
        lambda: client.stream_exists("s"),
        lambda: client.store_offset("r", "s", 1),
        lambda: client.producer("s"),
        lambda: client.consumer("s", until="end"),
        client.tree,
    ]
    for call in calls:
        with pytest.raises(errors.Closed):
            await call()
    with pytest.raises(errors.Closed):
        client.events()


async def test_i11_closing_the_client_closes_its_handles_and_connections(cluster: FakeCluster) -> None:
    fill(cluster, "s", 1)
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first")
        producer = await client.producer("s")
        seen: list[int] = []

        async def iterate() -> None:
            async for message in consumer:
                seen.append(message.offset)  # noqa: PERF401 - each as it comes

        iterating = asyncio.create_task(iterate())
        receipt = await producer.send(b"5")
        await until(lambda: len(seen) == 6)
    async with asyncio.timeout(1):
        await iterating
    assert receipt.confirmed
    assert not cluster.connections()
    with pytest.raises(errors.Closed):
        await producer.send(b"late")
    with pytest.raises(StopAsyncIteration):
        await anext(consumer)


@pytest.mark.parametrize("command", [c.Metadata, c.StreamStats, c.Subscribe, c.DeclarePublisher])
async def test_i14_f76_the_client_closes_promptly_while_handles_start(
    cluster: FakeCluster, command: type[c.Command]
) -> None:
    async with connected(cluster) as client:
        hold = cluster.hold(command)
        start = client.producer if command is c.DeclarePublisher else client.consumer
        starting = asyncio.create_task(start("s"))
        await until(lambda: hold.waiting)
        with within(3):
            await client.close()
        with pytest.raises(errors.ActorStreamError):
            await starting


@pytest.mark.parametrize("fault", ["freeze", "cut_off", "stop"])
async def test_i14_f77_the_client_closes_in_time_whatever_became_of_the_brokers(
    cluster: FakeCluster, fault: str
) -> None:
    fill(cluster, "s", 1)
    async with connected(cluster) as client:
        consumer = await client.consumer("s", "first")
        await client.producer("s")
        assert await take(consumer, 2) == [0, 1]
        getattr(cluster.node(0), fault)()
        with within(4):
            await client.close()


async def test_i14_with_unconfirmed_messages_close_takes_its_time_out_and_no_longer(cluster: FakeCluster) -> None:
    cluster.drop((c.Publish, c.PublishFiltered))
    async with actorstream.connect(cluster.uri, opener=cluster.open, close_timeout_s=0.3) as client:
        producer = await client.producer("s")
        receipt = await producer.send(b"never confirmed")
        with within(2):
            await client.close()
        assert receipt.done
        assert not receipt.confirmed


async def test_closing_from_several_tasks_and_a_cancelled_close_all_wait_for_one(cluster: FakeCluster) -> None:
    async with connected(cluster) as client:
        closing = [asyncio.create_task(client.close()) for _ in range(3)]
        await asyncio.sleep(0)
        closing[0].cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        assert closing[0].cancelled()
    assert not cluster.connections()


async def test_i14_actors_that_do_not_end_are_left_behind_in_time_and_the_thread_ends(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("actorstream.client.FELL_TIMEOUT_S", 0.05)
    client = await actorstream.connect(cluster.uri, opener=cluster.open, own_thread=True)
    original = Supervisor.on_stop

    async def slow(self: Supervisor) -> None:
        await asyncio.sleep(0.2)
        await original(self)

    monkeypatch.setattr(Supervisor, "on_stop", slow)
    with within(5), caplog.at_level(logging.WARNING, "actorstream"):
        await client.close()
    assert "did not end within" in caplog.text
    assert not client._home._thread.is_alive()  # type: ignore[union-attr]


async def test_when_the_root_gives_up_every_handle_raises_why(cluster: FakeCluster) -> None:
    async with connected(cluster) as client:
        consumer = await client.consumer("s")
        producer = await client.producer("s")
        root: Any = client._grown._root.actor_inbox

        class Bug(Exception):
            pass

        for _ in range(6):
            watchdog = root.children["watchdog"].actor
            generation = watchdog.generation
            watchdog.exit(Bug("of the watchdog"))
            await until(lambda: root.stopped.is_set() or _lives(root, generation))  # noqa: B023 - within the round
        await until(root.stopped.is_set)
        with pytest.raises(errors.RestartIntensityExceeded) as caught:
            await anext(consumer)
        assert isinstance(caught.value.__cause__, Bug)
        with pytest.raises(errors.Closed) as closed:
            await producer.send(b"x")
        assert isinstance(closed.value.__cause__, errors.RestartIntensityExceeded)
        with pytest.raises(errors.ActorStreamError):
            await client.stream_exists("s")
        with within(2):
            await consumer.close()


def _lives(root: Any, generation: int) -> bool:
    place = root.children.get("watchdog")
    return bool(place is not None and place.alive and place.generation > generation and place.state == "running")


# Seeing


async def test_events_are_gathered_from_the_call_on(cluster: FakeCluster) -> None:
    async with connected(cluster) as client:
        listening = client.events()
        consumer = await client.consumer("s")
        subscribed(cluster)[0][0].drop()
        await until(lambda: len(cluster.heard(c.Subscribe)) == 2)
        await consumer.close()
    seen = [event async for event in listening]
    assert [type(event) for event in seen if isinstance(event, (events.Disconnected, events.ActorRestarting))] == [
        events.Disconnected,
        events.ActorRestarting,
    ]
    assert all(event.path.startswith("root/") for event in seen)


async def test_events_that_nobody_reads_are_bounded_and_those_who_left_cost_nothing(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actorstream.actors.bus.MAX_UNREAD", 5)
    async with connected(cluster) as client:
        lazy = client.events()
        for _ in range(3):
            client.events()
        left = client.events()
        for _ in range(3):
            async with await client.consumer("s"):
                pass
        assert isinstance(await anext(left), events.Event)
        assert isinstance(left, AsyncIterator)
        await left.aclose()  # type: ignore[attr-defined]
        bus = client._grown.bus
        assert sum(1 for listener in bus._channels if listener() is not None) == 1
    assert len([event async for event in lazy]) == 5


async def test_f80_the_tree_shows_who_waits_for_what_and_never_waits_itself(cluster: FakeCluster) -> None:
    def find(node: Node, name: str) -> Node:
        return next(child for child in node.children if child.name.startswith(name))

    async with connected(cluster) as client:
        await client.consumer("s", "first")
        root = await client.tree()
        assert [child.name for child in root.children] == [
            "credentials",
            "connections",
            "pool",
            "locator",
            "watchdog",
            "desk",
            "publishers",
            "trackers",
            "super_streams",
            "subscribers",
        ]
        shown = find(find(root, "subscribers"), "s-")
        assert (shown.details["doing"], shown.details["credit_outstanding"], shown.restarts) == ("consuming", 10, 0)
        cluster.move_leader("s", None)
        await until(lambda: not subscribed(cluster))
        for _ in range(100):
            with within(1):
                root = await client.tree()
            shown = find(find(root, "subscribers"), "s-")
            if shown.details.get("doing") == "waiting for a member":
                break
        assert shown.details["doing"] == "waiting for a member"
        assert shown.restarts == 1
        assert "not available" in shown.last_reason


async def test_f82_names_of_handles_do_not_clash_and_a_slash_is_no_path(cluster: FakeCluster) -> None:
    cluster.create("a/b")
    async with connected(cluster) as client:
        await asyncio.gather(*(client.consumer("a/b") for _ in range(3)))
        root = await client.tree()
        (subscribers,) = [child for child in root.children if child.name == "subscribers"]
        names = [child.name for child in subscribers.children]
        assert len(set(names)) == 3
        assert not any("/" in name for name in names)


# Without asyncio


def test_blocking_a_client_that_was_closed_says_so_and_may_be_closed_again(cluster: FakeCluster) -> None:
    with blocking.connect(cluster.uri, opener=cluster.open) as client:
        assert client.stream_exists("s")
        consumer = client.consumer("s")
        producer = client.producer("s")
    client.close()
    for call in (lambda: client.stream_exists("s"), lambda: client.consumer("s"), consumer.close, producer.flush):
        with pytest.raises(errors.Closed):
            call()
    assert [*consumer] == []


def test_blocking_a_connect_that_fails_leaves_no_thread(cluster: FakeCluster) -> None:
    cluster.network.refuse("node-0", 5552)
    with within(3), pytest.raises(errors.ConnectFailed):
        blocking.connect(cluster.uri, opener=cluster.open)


def test_blocking_a_call_that_waits_ends_when_another_thread_closes_the_client(cluster: FakeCluster) -> None:
    client = blocking.connect(cluster.uri, opener=cluster.open)
    consumer = client.consumer("s")
    outcome: list[object] = []
    thread = threading.Thread(target=lambda: outcome.append(list(consumer)))
    thread.start()
    deadline = time.monotonic() + 5
    while consumer.asynchronous._state.deliveries._waiter is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with within(3):
        client.close()
    thread.join(5)
    assert outcome == [[]]
