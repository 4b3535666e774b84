"""The same handles for code without asyncio: everything runs on a loop in a thread of its own.

    with actorstream.blocking.connect("rabbitmq-stream://localhost") as client:
        with client.producer("orders") as producer:
            producer.send(b"hello").result()
        for message in client.consumer("orders", "first", until="end"):
            print(message.body)

Handles may be used from any thread. Arguments, results and errors are those of `actorstream.Client`, `Producer` and
`Consumer`, whose documentation holds here too. Ctrl-C interrupts a call and leaves the handles usable.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from actorstream import (
    client as asynchronous,
    connecting,
    super_stream_producer,
)
from actorstream.actors.batch import BatchReceipt
from actorstream.actors.encoding import Body
from actorstream.actors.receipt import Receipt
from actorstream.actors.runtime import Home
from actorstream.actors.supervisor import Node
from actorstream.administration import StreamMetadata, StreamStatistics
from actorstream.base_producer import BaseProducer
from actorstream.blocking.consumers import Consumer, SuperStreamConsumer
from actorstream.blocking.runner import Runner
from actorstream.compression import Compression
from actorstream.offset import OffsetLike
from actorstream.options import ProducerKeywords, StreamArguments, SuperStreamProducerKeywords
from actorstream.pipe import Function, Output, Pipe
from actorstream.routing import KeyRouting, Routing
from actorstream.wire.message import Message

T = TypeVar("T")

CLEAN_UP_S = 5.0
"""How long an interrupted `connect` may take to clean up behind itself."""


def connect(uri: str | list[str], **options: Any) -> Client:
    """Connect, in a thread of its own; see `actorstream.connect`. Use the client with `with`, or close it."""
    home = Home.in_thread("actorstream-blocking")
    runner = Runner(home)
    ended = threading.Event()

    async def work() -> asynchronous.Client:
        try:
            return await connecting.connect(uri, **options)
        finally:
            ended.set()

    try:
        return Client(runner, runner.run(work()))
    except BaseException:
        ended.wait(CLEAN_UP_S)  # after Ctrl-C: what was begun is taken back before its loop ends
        runner.close()
        raise


class Producer:
    """See `actorstream.Producer`."""

    def __init__(self, runner: Runner, producer: BaseProducer) -> None:
        self._runner = runner
        self.asynchronous = producer
        """The handle behind this one: its properties (`confirmed`, `ref`, …) may be read from any thread."""

    def send(self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None) -> Receipt:
        """Queue one message; `Receipt.result()` blocks for its outcome. See `Producer.send`."""
        receipt = self.asynchronous.try_send(message, publishing_id=publishing_id, filter_value=filter_value)
        if receipt is not None:
            return receipt
        return self._runner.run(self.asynchronous.send(message, publishing_id=publishing_id, filter_value=filter_value))

    def send_batch(self, messages: Iterable[Body]) -> BatchReceipt:
        """See `Producer.send_batch`."""
        return self._runner.run(self.asynchronous.send_batch(messages))

    def send_sub_entry(
        self,
        messages: Iterable[Body],
        *,
        compression: Compression | str | None = None,
        publishing_id: int | None = None,
    ) -> Receipt:
        """See `Producer.send_sub_entry`."""
        return self._runner.run(
            self.asynchronous.send_sub_entry(messages, compression=compression, publishing_id=publishing_id)
        )

    def send_wait(self, message: Body, *, publishing_id: int | None = None, filter_value: str | None = None) -> None:
        """See `Producer.send_wait`."""
        self._runner.run(self.asynchronous.send_wait(message, publishing_id=publishing_id, filter_value=filter_value))

    def flush(self, timeout: float | None = None) -> None:
        """See `Producer.flush`."""
        self._runner.run(self.asynchronous.flush(timeout))

    def last_publishing_id(self) -> int:
        """See `Producer.last_publishing_id`."""
        return self._runner.run(self.asynchronous.last_publishing_id())

    def close(self, timeout: float | None = None) -> None:
        """See `Producer.close`."""
        self._runner.run(self.asynchronous.close(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SuperStreamProducer(Producer):
    """See `actorstream.SuperStreamProducer`."""

    def __init__(self, runner: Runner, producer: super_stream_producer.SuperStreamProducer) -> None:
        super().__init__(runner, producer)
        self._of_partitions = producer

    @property
    def partitions(self) -> tuple[str, ...]:
        """See `SuperStreamProducer.partitions`."""
        return self._of_partitions.partitions

    def last_publishing_ids(self) -> dict[str, int]:
        """See `SuperStreamProducer.last_publishing_ids`."""
        return self._runner.run(self._of_partitions.last_publishing_ids())


class Client:
    """See `actorstream.Client`; made by `connect`."""

    def __init__(self, runner: Runner, client: asynchronous.Client) -> None:
        self._runner = runner
        self.asynchronous = client
        """The client behind this one, on the loop of its thread."""

    def create_stream(self, stream: str, arguments: StreamArguments | None = None, *, exist_ok: bool = False) -> None:
        """See `Client.create_stream`."""
        self._runner.run(self.asynchronous.create_stream(stream, arguments, exist_ok=exist_ok))

    def delete_stream(self, stream: str, *, missing_ok: bool = False) -> None:
        """See `Client.delete_stream`."""
        self._runner.run(self.asynchronous.delete_stream(stream, missing_ok=missing_ok))

    def stream_exists(self, stream: str) -> bool:
        """See `Client.stream_exists`."""
        return self._runner.run(self.asynchronous.stream_exists(stream))

    def stream_metadata(self, stream: str) -> StreamMetadata:
        """See `Client.stream_metadata`."""
        return self._runner.run(self.asynchronous.stream_metadata(stream))

    def stream_statistics(self, stream: str) -> StreamStatistics:
        """See `Client.stream_statistics`."""
        return self._runner.run(self.asynchronous.stream_statistics(stream))

    def store_offset(self, reference: str, stream: str, value: int) -> None:
        """See `Client.store_offset`."""
        self._runner.run(self.asynchronous.store_offset(reference, stream, value))

    def query_offset(self, reference: str, stream: str) -> int | None:
        """See `Client.query_offset`."""
        return self._runner.run(self.asynchronous.query_offset(reference, stream))

    def resolve_offset(self, stream: str, offset: OffsetLike) -> int | None:
        """See `Client.resolve_offset`."""
        return self._runner.run(self.asynchronous.resolve_offset(stream, offset))

    def create_super_stream(
        self,
        name: str,
        *,
        partitions: int | None = None,
        binding_keys: Sequence[str] | None = None,
        arguments: StreamArguments | None = None,
        exist_ok: bool = False,
    ) -> None:
        """See `Client.create_super_stream`."""
        created = self.asynchronous.create_super_stream(
            name, partitions=partitions, binding_keys=binding_keys, arguments=arguments, exist_ok=exist_ok
        )
        self._runner.run(created)

    def delete_super_stream(self, name: str, *, missing_ok: bool = False) -> None:
        """See `Client.delete_super_stream`."""
        self._runner.run(self.asynchronous.delete_super_stream(name, missing_ok=missing_ok))

    def super_stream_exists(self, name: str) -> bool:
        """See `Client.super_stream_exists`."""
        return self._runner.run(self.asynchronous.super_stream_exists(name))

    def partitions(self, super_stream: str) -> tuple[str, ...]:
        """See `Client.partitions`."""
        return self._runner.run(self.asynchronous.partitions(super_stream))

    def route(self, key: str, super_stream: str) -> tuple[str, ...]:
        """See `Client.route`."""
        return self._runner.run(self.asynchronous.route(key, super_stream))

    def producer(
        self,
        stream: str,
        *,
        name: str = "",
        on_confirm: Callable[[Receipt], Awaitable[None] | None] | None = None,
        start_timeout_s: float = 30.0,
        **options: Unpack[ProducerKeywords],
    ) -> Producer:
        """See `Client.producer`; `on_confirm` is called on the thread of the loop."""
        started = self.asynchronous.producer(
            stream, name=name, on_confirm=on_confirm, start_timeout_s=start_timeout_s, **options
        )
        return Producer(self._runner, self._runner.run(started))

    def super_stream_producer(
        self,
        super_stream: str,
        *,
        routing: Routing | KeyRouting,
        name: str = "",
        on_confirm: Callable[[Receipt], Awaitable[None] | None] | None = None,
        start_timeout_s: float = 30.0,
        **options: Unpack[SuperStreamProducerKeywords],
    ) -> SuperStreamProducer:
        """See `Client.super_stream_producer`; the routing may be called on the thread of the loop."""
        started = self.asynchronous.super_stream_producer(
            super_stream,
            routing=routing,
            name=name,
            on_confirm=on_confirm,
            start_timeout_s=start_timeout_s,
            **options,
        )
        return SuperStreamProducer(self._runner, self._runner.run(started))

    def consumer(self, stream: str, offset: OffsetLike = "next", **options: Any) -> Consumer:
        """See `Client.consumer`."""
        return Consumer(self._runner, self._runner.run(self.asynchronous.consumer(stream, offset, **options)))

    def super_stream_consumer(
        self, super_stream: str, offset: OffsetLike = "next", **options: Any
    ) -> SuperStreamConsumer:
        """See `Client.super_stream_consumer`."""
        started = self.asynchronous.super_stream_consumer(super_stream, offset, **options)
        return SuperStreamConsumer(self._runner, self._runner.run(started))

    def run_pipe(self, source: str, target: str, function: Function, **options: Any) -> None:
        """Run a `Pipe` until it ends. The function is called in a thread, where it may block, unless it is `async`."""

        async def in_thread(message: Message) -> Output:
            result: Any = await asyncio.to_thread(function, message)
            return result  # type: ignore[no-any-return]

        called = function if inspect.iscoroutinefunction(function) else in_thread
        self._runner.run(Pipe(self.asynchronous, source, target, called, **options).run())

    def tree(self) -> Node:
        """See `Client.tree`."""
        return self._runner.run(self.asynchronous.tree())

    def close(self) -> None:
        """See `Client.close`; ends the thread too. Safe to call again."""
        try:
            if not self._runner.closed:
                self._runner.run(self.asynchronous.close())
        finally:
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
