"""Groups of single active consumers with members of both clients: who takes over goes on where the other stopped."""

from __future__ import annotations

import base64
import functools
from collections.abc import AsyncIterator

import pytest_asyncio

import actorstream
from actorstream import Client, Message
from lab.broker import Broker
from tests.broker.reading import numbered, numbers, publish, take, until
from tests.conftest import Streams
from tests.interop.conftest import Java, JavaReader
from tests.interop.peers.plain import Plain

GROUP = "group"


PARTITIONS = 4
ROUND = 10


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with actorstream.connect(broker.uri) as client:
        yield client


def numbers_of(messages: list[Plain]) -> list[int]:
    """What is in them: offsets have holes where the broker writes down what is stored."""
    return [int(base64.b64decode(message["body"]["v"])) for message in messages]


async def test_we_go_on_after_a_member_of_java(client: Client, java: Java, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20), chunk=10)
    async with (
        java.reader(stream=name, offset="first", name=GROUP, single_active=True, store_every=1) as theirs,
        await client.consumer(name, "first", name=GROUP, single_active=True) as ours,
    ):
        assert numbers_of(await theirs(20)) == list(range(20))
        await publish(client, name, numbered(5, start=20))
        assert numbers_of(await theirs(5)) == list(range(20, 25))
        assert not ours.active
        await theirs.close()
        await until(lambda: ours.active, "ours is the active one")
        await publish(client, name, numbered(5, start=25))
        assert numbers(await take(ours, 5)) == list(range(25, 30))


async def test_java_goes_on_after_a_member_of_ours(client: Client, java: Java, stream: Streams) -> None:
    name = stream({})
    await publish(client, name, numbered(20), chunk=10)
    async with (
        await client.consumer(name, "first", name=GROUP, single_active=True) as ours,
        java.reader(stream=name, offset="first", name=GROUP, single_active=True) as theirs,
    ):
        assert numbers(await take(ours, 13)) == list(range(13))
        assert await theirs.so_far() == []
        ours.complete()
        await ours.close()
        assert await client.query_offset(GROUP, name) == 12
        # It asks to begin at 13, and does not leave out what comes before that in the same chunk.
        assert numbers_of(await theirs(10)) == list(range(10, 20))


async def test_the_word_goes_from_hand_to_hand_and_nothing_is_lost_or_repeated(
    client: Client, java: Java, stream: Streams
) -> None:
    name = stream({})
    await publish(client, name, numbered(60), chunk=7)
    seen: list[int] = []
    for _ in range(2):
        async with await client.consumer(name, "first", name=GROUP, single_active=True) as ours:
            seen += numbers(await take(ours, 10))
            ours.complete()
        async with java.reader(stream=name, offset="first", name=GROUP, single_active=True) as theirs:
            # It is given more than it stores: what it was given beyond that comes again, to us.
            read = await theirs(20)
            seen += numbers_of(read)
            await theirs.store(read[-1]["offset"])
    assert seen == list(range(60))


async def test_partitions_of_a_super_stream_go_back_and_forth_and_each_message_is_read_once(
    client: Client, java: Java, stream: Streams
) -> None:
    name = stream()
    await client.create_super_stream(name, partitions=PARTITIONS)
    seen: list[tuple[str, int]] = []
    join = functools.partial(
        java.reader,
        super_stream=name,
        offset="first",
        name=GROUP,
        single_active=True,
        store_every=PARTITIONS,  # it divides that by their number
        is_done_then=False,
    )
    async with join() as first:
        await _publish_round(client, name, 0)
        seen += _theirs(await first(PARTITIONS * ROUND))

        ours = await client.super_stream_consumer(name, "first", name=GROUP, single_active=True)
        async with ours:
            await until(lambda: len(ours.active_partitions) == 2, "half of the partitions are ours")
            await _publish_round(client, name, 1)
            seen += _ours(await take(ours, 2 * ROUND))
            ours.complete()
            seen += _theirs(await first(2 * ROUND))

            async with join() as second:
                await until(lambda: len(ours.active_partitions) == 1, "one of our partitions is given up")
                await _publish_round(client, name, 2)
                seen += _ours(await take(ours, ROUND))
                ours.complete()
                seen += await _so_far_from(first, second, (PARTITIONS - 1) * ROUND)

                await ours.close()
                await _publish_round(client, name, 3)
                seen += await _so_far_from(first, second, PARTITIONS * ROUND)
    everything = [(partition, number) for partition in ours.partitions for number in range(4 * ROUND)]
    assert sorted(seen) == sorted(everything)


async def _publish_round(client: Client, super_stream: str, number: int) -> None:
    """One chunk in each partition, so that no member is sent what comes before its offset in the same chunk."""
    for partition in await client.partitions(super_stream):
        await publish(client, partition, numbered(ROUND, start=number * ROUND))


def _ours(messages: list[Message]) -> list[tuple[str, int]]:
    return [(str(message.stream), int(message.body)) for message in messages]


def _theirs(messages: list[Plain]) -> list[tuple[str, int]]:
    return list(zip([message["stream"] for message in messages], numbers_of(messages), strict=True))


async def _so_far_from(first: JavaReader, second: JavaReader, count: int) -> list[tuple[str, int]]:
    """What both together are given, once there is so much."""
    found: list[tuple[str, int]] = []

    async def enough() -> bool:
        for member in (first, second):
            found.extend(_theirs(await member.so_far()))
        return len(found) >= count

    await until(enough, f"{count} messages for the Java clients")
    return found
