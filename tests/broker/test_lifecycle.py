"""Clients and handles on a real broker: how many they are there, that they end, and that nothing is left."""

import asyncio
import time

import pytest

import actorstream
from actorstream import Client, ConnectionOptions, errors, events
from lab.broker import Broker
from tests.broker.reading import connected, numbered, numbers, publish, read, take, until, watching
from tests.conftest import Streams


def unique() -> str:
    return f"lifecycle-{time.time_ns()}"


async def rows(broker: Broker, name: str) -> int:
    """How many connections with that name the broker has."""
    found = await asyncio.to_thread(broker.management.connections)
    return sum(1 for row in found if row.get("client_properties", {}).get("connection_name", "").startswith(name))


@pytest.mark.parametrize("own_thread", [False, True])
async def test_i11_the_broker_knows_nothing_of_a_client_that_was_closed(
    broker: Broker, stream: Streams, own_thread: bool
) -> None:
    name, target = unique(), stream({})
    async with connected(broker, name, own_thread=own_thread) as client:
        await client.consumer(target)
        await client.producer(target)

        async def all_there() -> bool:
            return await rows(broker, name) == 3  # control, publisher, consumer

        await until(all_there, "three connections")

    async def none_there() -> bool:
        return await rows(broker, name) == 0

    await until(none_there, "no connection")


async def test_i12_one_subscription_for_each_consumer_after_every_recovery(
    chaos: Broker, chaos_stream: Streams
) -> None:
    name, target = unique(), chaos_stream({})
    async with connected(chaos, name) as client:
        consumers = [await client.consumer(target, "first") for _ in range(5)]
        for round_ in range(3):
            await asyncio.to_thread(chaos.management.close_connections, f"{name}-consumer")
            await publish(client, target, numbered(10, round_ * 10))
            for consumer in consumers:
                assert numbers(await take(consumer, 10)) == list(range(round_ * 10, round_ * 10 + 10))

        async def five() -> bool:
            found = await asyncio.to_thread(chaos.management.consumers, target)
            return len(found) == 5

        await until(five, "five subscriptions")
        await asyncio.gather(*(consumer.close() for consumer in consumers))

        async def none() -> bool:
            return not await asyncio.to_thread(chaos.management.consumers, target)

        await until(none, "no subscription")


@pytest.mark.parametrize("fault", ["pause", "cut", "kill"])
@pytest.mark.parametrize("own_thread", [False, True])
async def test_i14_f77_closing_is_bounded_when_the_broker_is_silent_or_gone(
    chaos: Broker, chaos_stream: Streams, fault: str, own_thread: bool
) -> None:
    target = chaos_stream({})
    client = await actorstream.connect(chaos.uri, own_thread=own_thread)
    try:
        await publish(client, target, numbered(5))
        consumer = await client.consumer(target, "first")
        await take(consumer, 2)
        iterating = asyncio.create_task(drain(consumer))
        await asyncio.to_thread(getattr(chaos, fault))
    finally:
        begin = time.monotonic()
        await client.close()
    assert time.monotonic() - begin < 5
    await asyncio.wait_for(iterating, 1)


async def drain(consumer: actorstream.Consumer) -> None:
    async for _message in consumer:
        pass


async def test_i14_f06_connecting_to_a_frozen_broker_ends_after_its_time(chaos: Broker, chaos_stream: Streams) -> None:
    await asyncio.to_thread(chaos.pause)
    options = ConnectionOptions(rpc_timeout_s=1.0, connect_timeout_s=1.0)
    begin = time.monotonic()
    with pytest.raises(errors.ConnectionLost):
        await actorstream.connect(chaos.uri, options=options)
    assert time.monotonic() - begin < 4


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"password": "wrong"}, errors.AuthenticationFailure), ({"vhost": "none"}, errors.VirtualHostAccessFailure)],
)
async def test_f87_what_a_broker_refuses_at_the_start_is_told_and_not_insisted_on(
    broker: Broker, wrong: dict[str, str], error: type[errors.ResponseError]
) -> None:
    with pytest.raises(error):
        await actorstream.connect(broker.uri, username="guest", **wrong)  # type: ignore[arg-type]


async def test_f89_a_permission_that_is_missing_or_withdrawn_is_raised(chaos: Broker, chaos_stream: Streams) -> None:
    """A stream that may not be read; then one that might, until its permission went and the connection was lost."""
    name, user, allowed, denied = unique(), unique(), chaos_stream({}), chaos_stream({})
    management = chaos.management
    management.put_user(user, "secret")
    try:
        management.put_permissions(user, read=f"^{allowed}$", write="", configure="")
        async with actorstream.connect(chaos.uri, username=user, password="secret", name=name) as client:
            with pytest.raises(errors.AccessRefused):
                await client.consumer(denied)
            with pytest.raises(errors.AccessRefused):
                await client.producer(allowed)
            consumer = await client.consumer(allowed)
            management.put_permissions(user, read="", write="", configure="")
            await asyncio.to_thread(management.close_connections, f"{name}-consumer")
            with pytest.raises(errors.AccessRefused):
                await take(consumer, 1)
            assert (await client.tree()).children[-1].children == ()
    finally:
        management.delete_user(user)


async def test_i15_f81_while_the_broker_is_away_tries_are_spaced_and_seen_and_never_given_up(
    chaos: Broker, chaos_stream: Streams
) -> None:
    target = chaos_stream({})
    async with connected(chaos) as client, watching(client) as seen:
        consumer = await client.consumer(target, "first")
        await asyncio.to_thread(chaos.kill)
        begin = time.monotonic()

        def restarts() -> list[events.ActorRestarting]:
            return [
                event for event in seen if isinstance(event, events.ActorRestarting) and "subscribers" in event.path
            ]

        await until(restarts, "the loss is noticed")
        assert subscribers(await client.tree())
        await asyncio.to_thread(chaos.start)
        away = time.monotonic() - begin
        await publish(client, target, numbered(5))
        assert numbers(await take(consumer, 5)) == list(range(5))
        assert len(restarts()) < 10 + 5 * away, f"{len(restarts())} restarts in {away:.1f} s"
        gave_up = [event.path for event in seen if isinstance(event, events.ActorGaveUp)]
        assert not [path for path in gave_up if "connections" not in path]


def subscribers(root: actorstream.Node) -> tuple[actorstream.Node, ...]:
    return root.children[-1].children


async def test_f91_clients_one_after_the_other_and_beside_each_other_do_not_mix(
    broker: Broker, stream: Streams
) -> None:
    target = stream({})

    async def one(own_thread: bool) -> list[int]:
        async with connected(broker, own_thread=own_thread) as client:
            return numbers(await read(client, target))

    async with connected(broker) as client:
        await publish(client, target, numbered(5))
    assert await asyncio.gather(*(one(own) for own in (False, True, False, True))) == [list(range(5))] * 4


def test_f91_a_loop_after_another_has_its_own_client(broker: Broker, stream: Streams) -> None:
    target = stream({})

    async def once(start: int) -> list[int]:
        async with connected(broker) as client:
            await publish(client, target, numbered(3, start))
            return numbers(await read(client, target))

    assert asyncio.run(once(0)) == [0, 1, 2]
    assert asyncio.run(once(3)) == [0, 1, 2, 3, 4, 5]


async def test_f56_a_loop_that_was_blocked_finds_its_connections_alive(broker: Broker, stream: Streams) -> None:
    """Longer than twice the heartbeat: the broker was not silent, we were deaf."""
    target = stream({})
    options = ConnectionOptions(heartbeat_s=1)
    async with actorstream.connect(broker.uri, options=options) as client, watching(client) as seen:
        consumer = await client.consumer(target, "first")
        await publish(client, target, numbered(3))
        assert numbers(await take(consumer, 3)) == [0, 1, 2]
        time.sleep(2.3)  # noqa: ASYNC251 - on purpose
        await publish(client, target, numbered(3, 3))
        assert numbers(await take(consumer, 3)) == [3, 4, 5]
        await until(lambda: any(isinstance(event, events.EventLoopBlocked) for event in seen), "it is told")
        lost = [event for event in seen if isinstance(event, events.Disconnected)]
        assert not [event for event in lost if isinstance(event.reason, errors.HeartbeatTimeout)]


async def test_the_same_client_serves_many_streams_at_once(broker: Broker, stream: Streams) -> None:
    targets = [stream({}) for _ in range(10)]

    async def one(client: Client, target: str, index: int) -> None:
        async with await client.consumer(target, "first") as consumer:
            await publish(client, target, numbered(20, index * 100))
            assert numbers(await take(consumer, 20)) == list(range(index * 100, index * 100 + 20))

    async with connected(broker) as client:
        await asyncio.gather(*(one(client, target, index) for index, target in enumerate(targets)))
