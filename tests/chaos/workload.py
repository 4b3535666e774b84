"""The producers and consumers that have to live through it, and what they remember of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import time
from array import array
from dataclasses import dataclass, field

from actorstream import Client, Consumer, Receipt, events
from actorstream.base_producer import BaseProducer
from actorstream.errors import ActorStreamError, PublishRejected
from tests.chaos.history import ConsumerHistory, Outcome, ProducerHistory, ReadBack, body_of

STEP_S = 0.02


class Writer:
    """Sends numbered messages at a steady rate, and notes the outcome of each.

    `every_s`: so many at once that it comes to this rate; where that is long, its confirms do not tell how fast others
    could have had theirs.
    """

    def __init__(self, producer: BaseProducer, history: ProducerHistory, rate: int, every_s: float = STEP_S) -> None:
        self.is_steady = every_s == STEP_S
        self.producer = producer
        self.history = history
        self.confirmed_at: array[float] = array("d")
        self.settled_twice = 0
        self._rate = rate
        self._every_s = every_s
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    @property
    def stream(self) -> str:
        """The stream, or the super stream, that it writes to."""
        return self.history.target

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        sent = 0
        while not self._stop.is_set():
            due = int((loop.time() - begin) * self._rate) - sent
            # While the window is full `send` waits; what could not be sent meanwhile is not made up for.
            for _ in range(min(due, self._rate)):
                await self._send()
            sent += max(due, 0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._every_s)

    async def _send(self) -> None:
        number = self.history.sending()
        try:
            receipt = await self.producer.send(body_of(self.history.number, number))
        except ActorStreamError:
            self.history.settled(number, Outcome.REFUSED)
            raise
        receipt.add_done_callback(functools.partial(self._settled, number))

    def _settled(self, number: int, receipt: Receipt) -> None:
        error = receipt.error
        if error is None:
            outcome = Outcome.CONFIRMED
            self.confirmed_at.append(time.monotonic())
        else:
            outcome = Outcome.REJECTED if isinstance(error, PublishRejected) else Outcome.UNCONFIRMED
        if not self.history.settled(number, outcome):
            self.settled_twice += 1

    def got_on(self, since: float) -> bool:
        """Whether something that was sent since then is confirmed."""
        history = self.history
        for number in range(len(history.outcomes) - 1, -1, -1):
            if history.sent_at[number] < since:
                return False
            if history.outcomes[number] == Outcome.CONFIRMED:
                return True
        return False

    async def stop(self) -> None:
        """Send no more, and wait for what is under way to have its outcome."""
        self._stop.set()
        await self.task
        await self.producer.flush(60)

    @property
    def failure(self) -> BaseException | None:
        """What ended it before it was stopped."""
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None


class Reader:
    """Reads one stream from its first message on, and notes what it was given."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.history = ConsumerHistory(consumer.stream)
        self.task = asyncio.create_task(self._run())

    @property
    def stream(self) -> str:
        """The stream that it reads."""
        return self.history.stream

    async def _run(self) -> None:
        async for message in self.consumer:
            self.history.received(message.offset, message.body)

    def got_on(self, since: float) -> bool:
        """Whether it was given something since then."""
        received = self.history.received_at
        return bool(received) and received[-1] >= since

    async def stop(self) -> None:
        """Read no more."""
        await self.consumer.close()
        await self.task

    @property
    def failure(self) -> BaseException | None:
        """What ended it before it was stopped."""
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None


@dataclass
class Diary:
    """The events of a client, with their times."""

    entries: list[tuple[float, events.Event]] = field(default_factory=list)

    async def keep(self, client: Client) -> None:
        """Write down what happens, until the client is closed."""
        async for event in client.events():
            self.entries.append((time.monotonic(), event))


async def read_back(client: Client, stream: str) -> ReadBack:
    """All that a stream holds now."""
    found = ReadBack(stream)
    async with await client.consumer(stream, "first", until="end") as consumer:
        async for batch in consumer.batches():
            for message in batch:
                found.add(message.offset, message.body)
    return found


@dataclass
class Workload:
    """All writers and readers of one process, each stream with one of each."""

    writers: list[Writer] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)

    def failures(self) -> list[str]:
        """Who ended although nobody asked for it."""
        ended = [(f"the writer of {one.history.target}", one.failure) for one in self.writers]
        ended += [(f"the reader of {one.history.stream}", one.failure) for one in self.readers]
        return [f"{who}: {failure!r}" for who, failure in ended if failure is not None]

    def progressed_since(self, moment: float) -> bool:
        """Whether each writer has sent something since, and had it confirmed, and each reader has received since."""
        return all(writer.got_on(moment) for writer in self.writers) and all(
            reader.got_on(moment) for reader in self.readers
        )

    def size_bytes(self) -> int:
        """Memory that the histories take."""
        writers = (one.history.size_bytes() + sys.getsizeof(one.confirmed_at) for one in self.writers)
        return sum(writers) + sum(one.history.size_bytes() for one in self.readers)

    async def stop_writing(self) -> None:
        """Stop all writers, and wait for their outcomes."""
        await asyncio.gather(*(writer.stop() for writer in self.writers))
