"""The producers behind a `SuperStreamProducer`: one for each partition, and how a message gets into several."""

# ruff: noqa: SLF001 - a producer of a super stream and those of its partitions are one thing in several classes

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from actorstream.actors import messages as m
from actorstream.actors.intake import Intake, Load
from actorstream.actors.receipt import Receipt
from actorstream.errors import ActorStreamError, Closed, InvalidArgument, OutboxFull, PublishError, Unconfirmed
from actorstream.producer import Producer
from actorstream.routed_receipt import receipt_of_all

T = TypeVar("T")

Parts = Sequence[tuple[Producer, Receipt]]
"""What is going to be offered to each partition that something goes to."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What producers count, see `BaseProducer`; of several together."""

    unsettled: int = 0
    confirmed: int = 0
    failed: int = 0
    accepted_bytes: int = 0
    confirmed_bytes: int = 0

    def and_of(self, producers: Iterable[Producer]) -> Counts:
        """With what these have counted so far."""
        each: list[Counts | Producer] = [self, *producers]
        return Counts(
            sum(one.unsettled for one in each),
            sum(one.confirmed for one in each),
            sum(one.failed for one in each),
            sum(one.accepted_bytes for one in each),
            sum(one.confirmed_bytes for one in each),
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """The producers at one moment.

    Attributes:
        of: by partition.
        replaced: those that were, and have not been closed yet.
        past: what those counted that are closed, and are not kept: a super stream may change for ever.
    """

    of: Mapping[str, Producer] = field(default_factory=dict)
    replaced: tuple[Producer, ...] = ()
    past: Counts = Counts()

    @property
    def all(self) -> list[Producer]:
        return [*self.replaced, *self.of.values()]


class PartitionProducers:
    """The producers of all partitions in use, and of those that were, until they are closed. Any thread may look.

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
        self._known = _Known()  # replaced, and never changed, since any thread may read it

    @property
    def all(self) -> list[Producer]:
        """Those in use, and those that were and are not closed yet."""
        return self._known.all

    @property
    def counts(self) -> Counts:
        """Of all that there ever were."""
        known = self._known
        return known.past.and_of(known.all)

    @property
    def refs(self) -> dict[str, m.Ref]:
        """Their actors, by partition."""
        return {name: producer.ref for name, producer in self._known.of.items()}

    @property
    def intakes(self) -> dict[str, Intake]:
        """The ways into their outboxes, by partition."""
        return {name: producer._intake for name, producer in self._known.of.items()}

    def of(self, partitions: Iterable[str]) -> list[Producer]:
        """Those of some partitions.

        Raises:
            Closed: one of them has ended; it is told before any partition gets the message.
        """
        known = self._known.of
        producers: list[Producer] = []
        for name in partitions:
            producer = known.get(name)
            if producer is None or not producer._is_open:
                reason = None if producer is None else producer._closed
                raise Closed(f"partition {name!r} cannot be published to any more") from reason
            producers.append(producer)
        return producers

    def ended(self, partitions: Iterable[str]) -> set[str]:
        """Which of these had a producer that has ended: the partition was deleted, or may not be written to."""
        known = self._known.of
        return {name for name in partitions if name in known and not known[name]._is_open}

    async def have(self, partitions: Iterable[str]) -> None:
        """Start those of these partitions that are missing, or have ended; they are attached later on."""
        known = self._known
        new = {name: self._make(name) for name in partitions if name not in known.of or not known.of[name]._is_open}
        for producer in new.values():
            producer._on_gone = self._on_gone
        replaced = [known.of[name] for name in new if name in known.of]
        self._known = replace(known, of={**known.of, **new}, replaced=(*known.replaced, *replaced))
        await all_of(self._start(producer) for producer in new.values())

    async def attached(self, until: str, seconds: float | None = None) -> None:
        """Wait until one (`asyncio.FIRST_COMPLETED`) or all of them are; raises why one never will be."""
        waiting = [asyncio.ensure_future(producer._attached()) for producer in self._known.of.values()]
        try:
            done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=until)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close_all_but(self, partitions: Iterable[str]) -> None:
        """Close those that were replaced, and those of other partitions, once what they have accepted has its outcome.

        Of these only the counts are kept. One task at a time.
        """
        kept = {name: producer for name, producer in self._known.of.items() if name in set(partitions)}
        leaving = [producer for producer in self._known.all if producer not in kept.values()]
        await all_of(producer.close() for producer in leaving)
        self._known = _Known(kept, past=self._known.past.and_of(leaving))

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


async def offer_loads(loads: Iterable[tuple[Producer, Load]]) -> None:
    """Have all loads accepted, each by its partition: side by side, one without room holds up its own only.

    Most have room, and are accepted without a task for each.

    Raises:
        what one of them raises, when the others have done what they can.
    """
    waiting: list[tuple[Producer, Load]] = []
    failure: ActorStreamError | None = None
    for producer, load in loads:
        try:
            load.offer_in_turn()
        except ActorStreamError as error:
            failure = failure or error
        else:
            if load.left:
                waiting.append((producer, load))
    if waiting:
        await all_of(producer._offer_all(load) for producer, load in waiting)
    if failure is not None:
        raise failure


async def all_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results; all of it has ended when the first error is raised."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
