"""Groups of single active consumers with members of both clients: who takes over goes on where the other stopped."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest_asyncio

import actorstream
from actorstream import Client
from lab.broker import Broker
from tests.broker.reading import numbered, numbers, publish, take, until
from tests.conftest import Streams
from tests.interop.conftest import Java
from tests.interop.peers.plain import Plain

GROUP = "group"


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
