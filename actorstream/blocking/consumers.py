"""Consumers for code without asyncio."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from actorstream import consumer, reading as asynchronous, super_stream_consumer
from actorstream.blocking.runner import Runner
from actorstream.errors import Closed
from actorstream.handling import ErrorPolicy, Handler
from actorstream.offset import OffsetLike
from actorstream.parallel import Key
from actorstream.wire.message import Message

R = TypeVar("R", bound=asynchronous.Reader)


class Reader(Generic[R]):
    """The ways to read; see `actorstream.Consumer`. By one thread at a time."""

    def __init__(self, runner: Runner, consumer: R) -> None:
        self._runner = runner
        self.asynchronous: R = consumer
        """The handle behind this one: its properties (`position`, `completed`, …) may be read from any thread."""

    def __iter__(self) -> Iterator[Message]:
        # A crossing for each chunk, not for each message: what is in hand is taken in this thread.
        try:
            while True:
                while (message := self.asynchronous.take()) is None:
                    self._runner.run(self.asynchronous.fetch())
                yield message
        except (StopAsyncIteration, Closed):
            return

    def batches(self, max_size: int | None = None) -> Iterator[list[Message]]:
        """See `Consumer.batches`."""
        try:
            while True:
                while not (batch := self.asynchronous.take_batch(max_size)):
                    self._runner.run(self.asynchronous.fetch())
                yield batch
        except (StopAsyncIteration, Closed):
            return

    def run(
        self,
        handler: Handler,
        *,
        on_error: ErrorPolicy | None = None,
        workers: int = 1,
        key: Key | None = None,
        threads: bool = True,
        max_in_flight: int | None = None,
    ) -> None:
        """See `Consumer.run`. The handler runs in threads of its own, where it may block and use these handles.

        With `threads=False`, as for an `async` one, it runs on the thread of the loop: it must not block there.
        """
        self._runner.run(
            self.asynchronous.run(
                handler, on_error=on_error, workers=workers, key=key, threads=threads, max_in_flight=max_in_flight
            )
        )

    def pause(self) -> None:
        """See `Consumer.pause`."""
        self.asynchronous.pause()

    def resume(self) -> None:
        """See `Consumer.resume`."""
        self.asynchronous.resume()

    def close(self) -> None:
        """See `Consumer.close`."""
        self._runner.run(self.asynchronous.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Consumer(Reader[consumer.Consumer]):
    """See `actorstream.Consumer`."""

    def seek(self, offset: OffsetLike) -> None:
        """See `Consumer.seek`."""
        self._runner.run(self.asynchronous.seek(offset))

    def store_offset(self, offset: int | None = None) -> None:
        """See `Consumer.store_offset`."""
        self._runner.run(self.asynchronous.store_offset(offset))

    def stored_offset(self) -> int | None:
        """See `Consumer.stored_offset`."""
        return self._runner.run(self.asynchronous.stored_offset())


class SuperStreamConsumer(Reader[super_stream_consumer.SuperStreamConsumer]):
    """See `actorstream.SuperStreamConsumer`."""

    def store_offset(self, message: Message | None = None) -> None:
        """See `SuperStreamConsumer.store_offset`."""
        self._runner.run(self.asynchronous.store_offset(message))

    def stored_offsets(self) -> dict[str, int | None]:
        """See `SuperStreamConsumer.stored_offsets`."""
        return self._runner.run(self.asynchronous.stored_offsets())
