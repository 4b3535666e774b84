"""The producers behind a `SuperStreamProducer`: one for each partition, and how a message gets into several."""

# ruff: noqa: SLF001 - a producer of a super stream and those of its partitions are one thing in several classes

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from actorstream.actors import messages as m
from actorstream.actors.receipt import Receipt
from actorstream.errors import ActorStreamError, Closed, InvalidArgument, OutboxFull, PublishError, Unconfirmed
from actorstream.producer import Producer
from actorstream.routed_receipt import receipt_of_all

T = TypeVar("T")

Parts = Sequence[tuple[Producer, Receipt]]
"""What is going to be offered to each partition that something goes to."""


class PartitionProducers:
    """The producers of all partitions that were ever in use. Any thread may look at them.

    They are started together: so a partition that may not be written to is told at the start and not by a later
    message, and none begins with a connection of its own to be made.
    """

    def __init__(
        self,
        make: Callable[[str], Producer],
        start: Callable[[Producer], Awaitable[None]],
        on_gone: Callable[[], None],
    ) -> None:
        """`make` makes one that is not started; `on_gone` is called when one ended for good, on the tree's loop."""
        self._make = make
        self._start = start
        self._on_gone = on_gone
        self._by_partition: dict[str, Producer] = {}  # replaced, and never changed, since any thread may read it
        self._replaced: list[Producer] = []

    @property
    def all(self) -> list[Producer]:
        """Those in use, and those that were."""
        return [*self._replaced, *self._by_partition.values()]

    @property
    def refs(self) -> dict[str, m.Ref]:
        """Their actors, by partition."""
        return {name: producer.ref for name, producer in self._by_partition.items()}

    def of(self, partitions: Iterable[str]) -> list[Producer]:
        """Those of some partitions.

        Raises:
            Closed: one of them has ended; it is told before any partition gets the message.
        """
        producers = [self._by_partition[partition] for partition in partitions]
        for producer in producers:
            if not producer._is_open:
                raise Closed(f"partition {producer.stream!r} cannot be published to any more") from producer._closed
        return producers

    def ended(self, partitions: Iterable[str]) -> set[str]:
        """Which of these had a producer that has ended: the partition was deleted, or may not be written to."""
        known = self._by_partition
        return {name for name in partitions if name in known and not known[name]._is_open}

    async def have(self, partitions: Iterable[str]) -> None:
        """Start those of these partitions that are missing, or have ended; they are attached later on."""
        known = self._by_partition
        new = {name: self._make(name) for name in partitions if name not in known or not known[name]._is_open}
        for producer in new.values():
            producer._on_gone = self._on_gone
        self._replaced.extend(known[name] for name in new if name in known)
        self._by_partition = {**known, **new}
        await all_of(self._start(producer) for producer in new.values())

    async def attached(self, until: str, seconds: float | None = None) -> None:
        """Wait until one (`asyncio.FIRST_COMPLETED`) or all of them are; raises why one never will be."""
        waiting = [asyncio.ensure_future(producer._attached()) for producer in self._by_partition.values()]
        try:
            done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=until)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close_all_but(self, partitions: Iterable[str]) -> None:
        """Close those of other partitions, once what they have accepted has its outcome."""
        await all_of(self._by_partition[name].close() for name in self._by_partition.keys() - set(partitions))

    async def close(self, timeout: float) -> None:
        """Close all of them; raises the first error that one ends with, when all have ended."""
        await all_of(producer.close(timeout) for producer in self.all)


def offer(parts: Parts, messages: int = 1) -> Receipt | None:
    """Have every partition accept its part, or none: None when one has no room. One receipt for all.

    From any thread.

    Raises:
        what one of them would raise; none has its part then.
    """
    willing = [producer._would_take(part) for producer, part in parts]  # all are asked: an error comes before a wait
    if not all(willing):
        return None
    (first, part), *others = parts
    if not first._offer(part):
        return None
    for producer, part in others:
        # From here on, what goes wrong with one partition can only be the outcome of what another one has accepted:
        # its producer ended, or another thread took its room, between the look and this.
        try:
            if not producer._offer(part):
                part.settle(OutboxFull(f"partition {producer.stream!r} had no room left; another one has the message"))
        except (PublishError, InvalidArgument) as error:
            part.settle(error)
        except ActorStreamError as error:
            part.settle(Unconfirmed(f"partition {producer.stream!r} did not take it, and another one has it: {error}"))
    return receipt_of_all([part for _, part in parts], messages=messages)


async def offer_when_room(parts: Parts, messages: int = 1) -> Receipt:
    """Have all parts accepted, as soon as all of them find room; cancelling it leaves none behind."""
    while (receipt := offer(parts, messages)) is None:
        for producer, part in parts:
            if not producer._would_take(part):
                await producer._until_room(part)
                break
    return receipt


async def all_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results; all of it has ended when the first error is raised."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
