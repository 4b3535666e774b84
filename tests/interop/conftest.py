"""The two sides of a test: `ours`, this project's client; and `peer`, the scripts of the others, or `java`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import actorstream
from actorstream.wire.message import Message
from lab.broker import Broker
from tests.broker.reading import publish_entries, until
from tests.conftest import have
from tests.interop.peers import environment
from tests.interop.peers.jvm import Jvm
from tests.interop.peers.plain import Plain

MODULES = "tests.interop.peers"


@dataclass(frozen=True)
class Ours:
    """This project's client."""

    broker: Broker

    async def publish(self, stream: str, messages: Sequence[Message | bytes | str]) -> None:
        async with actorstream.connect(self.broker.uri) as client, await client.producer(stream) as producer:
            await (await producer.send_batch(messages))

    async def publish_entries(self, stream: str, entries: Sequence[bytes]) -> None:
        """Publish sub-entry batches and the like, as they stand on the wire."""
        async with actorstream.connect(self.broker.uri) as client:
            await publish_entries(client, stream, entries)

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

    async def read(self, module: str, stream: str, count: int, offset: int = 0, **options: Any) -> list[Plain]:
        found: list[Plain] = await self._call(module, stream=stream, count=count, offset=offset, options=options)
        return found

    async def _call(self, module: str, **request: Any) -> Any:
        where = {"uri": self.broker.uri, "amqp_port": self.broker.amqp_port}
        return await asyncio.to_thread(environment.call, f"{MODULES}.{module}", {**where, **request})


@dataclass(frozen=True)
class Java:
    """The Java client, at the shared broker; what it can be asked for is in `peers/java/Peer.java`."""

    broker: Broker
    jvm: Jvm

    async def call(self, op: str, **request: Any) -> Any:
        return await asyncio.to_thread(self.jvm.call, op, uri=self.broker.uri, **request)

    async def publish(self, stream: str, messages: Sequence[Plain], **options: Any) -> None:
        assert await self.call("publish", stream=stream, messages=list(messages), **options) == []

    async def read(self, stream: str, count: int, offset: int | str = 0, **options: Any) -> list[Plain]:
        async with self.reader(stream=stream, offset=offset, **options) as take:
            return await take(count)

    @asynccontextmanager
    async def reader(self, *, is_done_then: bool = True, **options: Any) -> AsyncIterator[JavaReader]:
        """A consumer; `is_done_then` False: that it is closed is not waited for. For one of a group, it takes long.

        At its end it looks for ten seconds whether its last offset is stored, which it does not always find.
        """
        reader = JavaReader(self, await self.call("open", **options))
        try:
            yield reader
        finally:
            await reader.close("close" if is_done_then else "leave")


@dataclass
class JavaReader:
    """A consumer of the Java client, open until it is closed."""

    java: Java
    consumer: str
    closed: bool = False

    async def __call__(self, count: int) -> list[Plain]:
        """Wait for so many messages."""
        found: list[Plain] = await self.java.call("take", consumer=self.consumer, count=count)
        return found

    async def so_far(self) -> list[Plain]:
        """Whatever is there by now."""
        found: list[Plain] = await self.java.call("taken", consumer=self.consumer)
        return found

    async def store(self, offset: int) -> None:
        """Store an offset, and wait until it is stored."""
        await self.java.call("store", consumer=self.consumer, offset=offset)

        async def stored() -> bool:
            return await self.stored() == offset

        await until(stored, f"the Java client has stored {offset}")

    async def stored(self) -> int | None:
        found: int | None = await self.java.call("stored", consumer=self.consumer)
        return found

    async def close(self, how: str = "close") -> None:
        if not self.closed:
            self.closed = True
            await self.java.call(how, consumer=self.consumer)


@pytest.fixture
def ours(broker: Broker) -> Ours:
    return Ours(broker)


@pytest.fixture(scope="session")
def peer(broker: Broker) -> Peer:
    have(environment.ensure)
    return Peer(broker)


@pytest.fixture(scope="module")
def jvm() -> Iterator[Jvm]:
    """A process for each module: members of groups, which the Java client takes long to close, hold up no other one."""
    process = have(Jvm)
    yield process
    process.close()


@pytest.fixture
def java(broker: Broker, jvm: Jvm) -> Java:
    return Java(broker, jvm)
