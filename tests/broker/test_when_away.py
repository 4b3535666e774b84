"""What `send` does while there is no broker: the three choices of `when_away`, over a real outage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import actorstream
from actorstream import Client, ConnectionOptions, Producer, WhenAway
from actorstream.errors import BrokerAway, OutboxFull
from lab.broker import Broker
from tests.actors.publishing import find
from tests.broker.reading import numbered, read, until
from tests.conftest import Streams

pytestmark = pytest.mark.timeout(120)

IMPATIENT = ConnectionOptions(heartbeat_s=1, rpc_timeout_s=4.0)
"""To notice soon that a broker is frozen."""


async def do(fault: Callable[[], Any]) -> None:
    await asyncio.to_thread(fault)


async def noticed(client: Client) -> None:
    """Wait until the publisher knows that its broker is gone."""

    async def away() -> bool:
        publishers = await find(client, "Publisher")
        return not publishers or publishers[0].details.get("doing") != "publishing"

    await until(away, "the outage is noticed")


async def finish(client: Client, producer: Producer, stream: str, count: int) -> None:
    """After the outage everything that was accepted is there, once, in order."""
    await producer.flush(60)
    assert (producer.confirmed, producer.failed) == (count, 0)
    await producer.close()
    assert [message.body for message in await read(client, stream)] == numbered(count)


async def test_f36_wait_accepts_up_to_the_bound_and_then_waits_for_the_broker(
    chaos: Broker, chaos_stream: Streams
) -> None:
    name = chaos_stream({})
    async with actorstream.connect(chaos.uri) as client:
        producer = await client.producer(name, name="me", max_unconfirmed=10)
        await producer.send_wait(b"0")
        await do(chaos.kill)
        await noticed(client)
        for body in numbered(10, 1):
            await producer.send(body)
        eleventh = asyncio.create_task(producer.send(b"11"))
        await until(lambda: producer._outbox.room.waiting == 1, "the eleventh waits")
        assert not eleventh.done()
        await do(chaos.start)
        await asyncio.wait_for(eleventh, 60)
        await finish(client, producer, name, 12)


async def test_f36_wait_gives_up_after_the_send_timeout(chaos: Broker, chaos_stream: Streams) -> None:
    name = chaos_stream({})
    async with actorstream.connect(chaos.uri) as client:
        producer = await client.producer(name, name="me", max_unconfirmed=10, send_timeout_s=0.2)
        await do(chaos.kill)
        await noticed(client)
        await producer.send_batch(numbered(10))
        with pytest.raises(OutboxFull, match=r"no room came up within 0\.2 s"):
            await producer.send(b"refused")
        await do(chaos.start)
        await finish(client, producer, name, 10)


async def test_f36_buffer_accepts_up_to_the_bound_and_then_raises_at_once(chaos: Broker, chaos_stream: Streams) -> None:
    name = chaos_stream({})
    async with actorstream.connect(chaos.uri, options=IMPATIENT) as client:
        producer = await client.producer(name, name="me", max_unconfirmed=10, when_away=WhenAway.BUFFER)
        await do(chaos.pause)
        await producer.send_batch(numbered(10))
        waiting = asyncio.create_task(producer.send(b"refused"))  # it is not away yet: this one waits
        await until(lambda: producer._outbox.room.waiting == 1, "it waits for room")
        with pytest.raises(OutboxFull, match="there is no connection"):
            await asyncio.wait_for(waiting, 30)
        await noticed(client)
        with pytest.raises(OutboxFull, match="there is no connection"):
            await asyncio.wait_for(producer.send_batch([b"refused"]), 1)
        assert producer.try_send(b"refused") is None
        await do(chaos.unpause)
        await finish(client, producer, name, 10)


async def test_fail_refuses_while_there_is_no_broker_and_keeps_what_was_accepted(
    chaos: Broker, chaos_stream: Streams
) -> None:
    name = chaos_stream({})
    async with actorstream.connect(chaos.uri, options=IMPATIENT) as client:
        producer = await client.producer(name, name="me", when_away=WhenAway.FAIL)
        await do(chaos.pause)
        await producer.send_batch(numbered(10))
        await noticed(client)
        for send in (producer.send(b"x"), producer.send_batch([b"x"]), producer.send_sub_entry([b"x"])):
            with pytest.raises(BrokerAway, match="no connection to the stream's leader"):
                await send
        with pytest.raises(BrokerAway):
            producer.try_send(b"x")
        assert producer.unsettled == 10
        await do(chaos.unpause)

        async def back() -> bool:
            try:
                await producer.send(b"10")
            except BrokerAway:
                return False
            return True

        await until(back, "it can send again", 60)
        await finish(client, producer, name, 11)
