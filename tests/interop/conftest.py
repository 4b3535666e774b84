"""The two sides of a test: `ours`, this project's client, and `peer`, the scripts of the others."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

import actorstream
from actorstream.wire.message import Message
from lab.broker import Broker
from tests.conftest import have
from tests.interop.peers import environment
from tests.interop.peers.plain import Plain

MODULES = "tests.interop.peers"


@dataclass(frozen=True)
class Ours:
    """This project's client."""

    broker: Broker

    async def publish(self, stream: str, messages: Sequence[Message | bytes | str]) -> None:
        async with actorstream.connect(self.broker.uri) as client, await client.producer(stream) as producer:
            await (await producer.send_batch(messages))

    async def read(self, stream: str, count: int, offset: int = 0) -> list[Message]:
        found: list[Message] = []
        async with actorstream.connect(self.broker.uri) as client, await client.consumer(stream, offset) as consumer:
            async for message in consumer:
                found.append(message)
                if len(found) == count:
                    break
        return found


@dataclass(frozen=True)
class Peer:
    """The scripts of the other clients, by the names of their modules."""

    broker: Broker

    async def publish(self, module: str, stream: str, messages: Sequence[Plain], **options: Any) -> None:
        await self._call(module, stream=stream, publish=list(messages), options=options)

    async def read(self, module: str, stream: str, count: int, offset: int = 0) -> list[Plain]:
        found: list[Plain] = await self._call(module, stream=stream, count=count, offset=offset)
        return found

    async def _call(self, module: str, **request: Any) -> Any:
        where = {"uri": self.broker.uri, "amqp_port": self.broker.amqp_port}
        return await asyncio.to_thread(environment.call, f"{MODULES}.{module}", {**where, **request})


@pytest.fixture
def ours(broker: Broker) -> Ours:
    return Ours(broker)


@pytest.fixture(scope="session")
def peer(broker: Broker) -> Peer:
    have(environment.ensure)
    return Peer(broker)
