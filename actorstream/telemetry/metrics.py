"""Metrics: the counters of a client's handles, and its events, as instruments of OpenTelemetry.

The instruments are observable: they are read when the SDK collects, on whichever thread that does, and nothing is
added to what a message passes through. What happens is counted from `Client.events()`, by a task.
"""

# ruff: noqa: SLF001 - a client, its handles and what reads them are one thing in several classes

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial

from opentelemetry import metrics

from actorstream import __version__, blocking, events
from actorstream.base_producer import BaseProducer
from actorstream.client import Client
from actorstream.consumer import Consumer
from actorstream.options.checks import require
from actorstream.producer import Producer
from actorstream.reading import Reader
from actorstream.telemetry.instruments import (
    CLIENT,
    CONNECTIONS,
    CONSUMER_NAME,
    COUNTED,
    INSTRUMENTS,
    PRODUCER_NAME,
    READINGS,
    ROLE,
    STREAM,
    SYSTEM,
    Attributes,
    Instrument,
    Kind,
)

Figure = tuple[Attributes, float]


def instrument(
    client: Client | blocking.Client, *, meter_provider: metrics.MeterProvider | None = None
) -> Instrumentation:
    """Export a client's figures from now on; docs/observing.md lists the instruments.

    Call it right after `connect`, since events are counted from here on; of a `Client`, on its loop.

    Args:
        client: of either kind.
        meter_provider: whose SDK collects; by default the application's global one, which has to be set before.

    Raises:
        InvalidArgument: it is no client, or one that is instrumented for this provider already.
        Closed: the client is closed.
    """
    require(isinstance(client, Client | blocking.Client), f"what is instrumented is a client, not {client!r}")
    board = _board_of(metrics.get_meter_provider() if meter_provider is None else meter_provider)
    if isinstance(client, Client):
        return Instrumentation(client, board)

    async def on_its_loop() -> Instrumentation:
        return Instrumentation(client.asynchronous, board)

    return client._runner.run(on_its_loop())


class Instrumentation:
    """One client's part in the instruments, until this is closed, or the client is. Made by `instrument`."""

    def __init__(self, client: Client, board: _Board) -> None:
        self.client = client
        self._board = board
        self._common: Attributes = (SYSTEM, (CLIENT, client._options.name))
        self._closed_handles: weakref.WeakSet[BaseProducer | Reader] = weakref.WeakSet()
        self._loop = asyncio.get_running_loop()
        happening = client.events()
        board.add(self)
        self._counting = asyncio.ensure_future(self._count(happening))
        client._on_forget.append(self._on_closed)

    def close(self) -> None:
        """Read nothing any more; what was counted stays counted. Safe to call again, and from any thread."""
        if self._board.remove(self):
            self.client._on_forget.remove(self._on_closed)
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the task has ended with it
                self._loop.call_soon_threadsafe(self._counting.cancel)

    async def _count(self, happening: AsyncIterator[events.Event]) -> None:
        """Count what happens, until the client is closed."""
        try:
            async for event in happening:
                for counted in COUNTED.get(type(event), ()):
                    attributes = self._common + counted.attributes(event)
                    self._board.count(counted.instrument, attributes, counted.amount(event))
        finally:
            self.close()

    def _on_closed(self, handle: BaseProducer | Reader) -> None:
        """A handle counts nothing any more: what it has counted is kept without it."""
        self._board.keep(self, handle)

    # For the board, under its lock ----------------------------------------------------------------------------------

    def read(self, name: str) -> Iterator[Figure]:
        """What an instrument has to tell of this client now."""
        if name == CONNECTIONS and self.client._tree is not None:
            for role in self.client._tree.connections():
                yield (*self._common, (ROLE, role)), 1
        for handle in tuple(self.client._handles):
            if handle not in self._closed_handles:
                yield from self.read_handle(name, handle)

    def read_handle(self, name: str, handle: BaseProducer | Reader) -> Iterator[Figure]:
        """What it has to tell of one handle. Of a super stream, the handles of its partitions tell."""
        for reading in READINGS.get(name, ()):
            if isinstance(handle, Producer) and reading.of_producer is not None:
                value, named = reading.of_producer(handle), (PRODUCER_NAME, handle.name)
            elif isinstance(handle, Consumer) and reading.of_consumer is not None:
                value, named = reading.of_consumer(handle), (CONSUMER_NAME, handle.name)
            else:
                continue
            if value is not None:
                whose: Attributes = ((STREAM, handle.stream), named) if named[1] else ((STREAM, handle.stream),)
                yield (*self._common, *whose, *reading.attributes), value

    def leave_out(self, handle: BaseProducer | Reader) -> bool:
        """Read this handle no more; False if it is not read any more already."""
        if handle in self._closed_handles:
            return False
        self._closed_handles.add(handle)
        return True


class _Board:
    """All instruments of one meter provider, which has each of them once, however many clients there are.

    It keeps the sums of what cannot be read any more: events, and what handles have counted that are closed. Otherwise
    a sum would get less when a handle is closed.
    """

    def __init__(self, provider: metrics.MeterProvider) -> None:
        self._lock = threading.Lock()
        self._parts: list[Instrumentation] = []
        self._kept: dict[str, dict[Attributes, float]] = {name: {} for name in INSTRUMENTS}
        meter = provider.get_meter("actorstream", __version__)
        make = {
            Kind.COUNTER: meter.create_observable_counter,
            Kind.SUM: meter.create_observable_up_down_counter,
            Kind.HIGHEST: meter.create_observable_gauge,
            Kind.LOWEST: meter.create_observable_gauge,
        }
        for one in INSTRUMENTS.values():
            make[one.kind](one.name, [partial(self._observe, one)], one.unit, one.description)

    def add(self, part: Instrumentation) -> None:
        """Read it, too."""
        with self._lock:
            is_new = all(part.client is not one.client for one in self._parts)
            require(is_new, "this client is instrumented for this meter provider already: it would count twice")
            self._parts.append(part)

    def remove(self, part: Instrumentation) -> bool:
        """Read it no more, and keep what it has counted; False if it is not read any more already."""
        with self._lock:
            if part not in self._parts:
                return False
            self._parts.remove(part)
            for name in INSTRUMENTS:
                self._keep(name, part.read(name))
            return True

    def keep(self, part: Instrumentation, handle: BaseProducer | Reader) -> None:
        """Read a handle no more, and keep what it has counted."""
        with self._lock:
            if part.leave_out(handle):
                for name in INSTRUMENTS:
                    self._keep(name, part.read_handle(name, handle))

    def count(self, name: str, attributes: Attributes, amount: float) -> None:
        """Something happened."""
        with self._lock:
            self._keep(name, [(attributes, amount)])

    def _keep(self, name: str, figures: Iterable[Figure]) -> None:
        if INSTRUMENTS[name].kind is Kind.COUNTER:
            _put(self._kept[name], figures, Kind.COUNTER)

    def _observe(self, one: Instrument, _: metrics.CallbackOptions) -> list[metrics.Observation]:
        with self._lock:
            found = dict(self._kept[one.name])
            for part in self._parts:
                _put(found, part.read(one.name), one.kind)
        return [metrics.Observation(value, dict(attributes)) for attributes, value in found.items()]


def _put(into: dict[Attributes, float], figures: Iterable[Figure], kind: Kind) -> None:
    for attributes, value in figures:
        there = into.get(attributes)
        into[attributes] = value if there is None else kind.combine(there, value)


_boards: weakref.WeakKeyDictionary[metrics.MeterProvider, _Board] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _board_of(provider: metrics.MeterProvider) -> _Board:
    with _making:
        board = _boards.get(provider)
        if board is None:
            board = _boards[provider] = _Board(provider)
        return board
