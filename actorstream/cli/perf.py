"""`perf`: publishes and consumes as fast as it can, or at a rate, and says how fast that was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from actorstream.actors.batch import BatchReceipt
from actorstream.cli.exits import Exit, one_line
from actorstream.cli.measuring import Meter
from actorstream.cli.running import Broker, command, say
from actorstream.client import Client
from actorstream.consumer import Consumer
from actorstream.errors import InvalidArgument
from actorstream.options import ProducerOptions, StreamArguments
from actorstream.producer import Producer

STAMP = 8
"""Bytes of the time (ns) with which each body begins."""

BATCHES_AHEAD = 64
SAMPLES = 10
"""Messages of a batch whose time is looked at; each stands for its share of the others."""

LOOKS = 500
LOOK_EVERY_S = 0.02
MAX_LENGTH = "20GB"


@dataclass(frozen=True, slots=True)
class Load:
    """What is published and consumed."""

    publishers: int
    consumers: int
    rate: int
    size: int
    batch_size: int
    sub_entry_size: int
    compression: str

    def __post_init__(self) -> None:
        if self.publishers < 0 or self.consumers < 0 or self.publishers + self.consumers == 0:
            raise InvalidArgument("one publisher or one consumer is needed at least")
        if self.size < STAMP:
            raise InvalidArgument(f"a message has {STAMP} bytes at least, for the time at which it was sent")
        if self.rate < 0 or self.batch_size < 1:
            raise InvalidArgument("--rate is 0, for no limit, or above; --batch-size is 1 or above")
        if self.compression != "none" and self.sub_entry_size == 1:
            raise InvalidArgument("what is compressed are sub-entries: give --sub-entry-size as well, such as 100")
        ProducerOptions(sub_entry_size=self.sub_entry_size, compression=self.compression)  # which checks them


async def perf(
    broker: Broker,
    stream: Annotated[
        str | None, typer.Argument(metavar="STREAM", help="By default, one that is made for this, and deleted.")
    ] = None,
    publishers: Annotated[int, typer.Option("--publishers", "-x")] = 1,
    consumers: Annotated[int, typer.Option("--consumers", "-y")] = 1,
    rate: Annotated[int, typer.Option(help="Messages a second of each publisher; 0: no limit.")] = 0,
    size: Annotated[int, typer.Option("--size", "-s", help="Bytes of a body.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Messages that are sent at a time.")] = 100,
    sub_entry_size: Annotated[int, typer.Option(help="Messages that share an entry at most.")] = 1,
    compression: Annotated[str, typer.Option(help="Of sub-entries: none, gzip, snappy, lz4 or zstd.")] = "none",
    seconds: Annotated[
        float | None, typer.Option("--time", "-z", min=0.1, metavar="SECONDS", help="Default: until Ctrl-C.")
    ] = None,
    summary_file: Annotated[Path | None, typer.Option(help="Write the summary there, in JSON.")] = None,
) -> Exit:
    """Measure: messages confirmed and consumed a second, and how long that takes.

    Prints a line a second, and a summary. The exit code is 1 if a message failed.
    """
    load = Load(publishers, consumers, rate, size, batch_size, sub_entry_size, compression)
    meter = Meter()
    async with broker.client(own_thread=False) as client, _stream_of(client, stream) as name:
        begin = time.monotonic()
        published_for, consumed_for = await _run(client, name, load, meter, seconds, begin)
    summary = meter.summary(published_for, consumed_for, asdict(load))
    total = meter.total
    typer.echo(
        f"summary  {total.confirmed} confirmed ({summary['confirmed_per_s']:,.0f}/s), {total.failed} failed, "
        f"{total.consumed} consumed ({summary['consumed_per_s']:,.0f}/s), "
        f"confirm p50/p95/p99 {total.confirm_latency} ms, end to end p50/p95/p99 {total.latency} ms"
    )
    if summary_file is not None:
        summary_file.write_text(json.dumps(summary, indent=2) + "\n")
    return Exit.FAILED if total.failed else Exit.DONE


@contextlib.asynccontextmanager
async def _stream_of(client: Client, stream: str | None) -> AsyncIterator[str]:
    if stream is not None:
        yield stream
        return
    name = f"actorstream-perf-{uuid.uuid4().hex[:8]}"
    await client.create_stream(name, StreamArguments(max_length=MAX_LENGTH, max_segment_size="100MB"))
    try:
        yield name
    finally:
        await client.delete_stream(name)


async def _run(
    client: Client, stream: str, load: Load, meter: Meter, seconds: float | None, begin: float
) -> tuple[float, float]:
    """Publish for so long, or until Ctrl-C; then wait for what is under way. How long each of the two took."""
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(await client.consumer(stream)) for _ in range(load.consumers)]
        producers = [
            await stack.enter_async_context(
                await client.producer(stream, sub_entry_size=load.sub_entry_size, compression=load.compression)
            )
            for _ in range(load.publishers)
        ]
        reading = [asyncio.create_task(_read(reader, meter)) for reader in readers]
        writing = [asyncio.create_task(_write(producer, load, meter, stop)) for producer in producers]
        telling = asyncio.create_task(_tell(meter, begin))
        try:
            await _until_over([*reading, *writing], seconds)
            stop.set()
            await asyncio.gather(*writing)
            published_for = time.monotonic() - begin
            if load.publishers:
                await _catch_up(readers, meter)
            return published_for, time.monotonic() - begin
        finally:
            for task in (telling, *reading, *writing):
                task.cancel()
            await asyncio.gather(telling, *reading, *writing, return_exceptions=True)


async def _until_over(working: list[asyncio.Task[None]], seconds: float | None) -> None:
    """Wait so long, or until Ctrl-C, which is no error here; or until one of them fails, which is."""
    try:
        done, _ = await asyncio.wait(working, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        return
    for task in done:
        task.result()


async def _write(producer: Producer, load: Load, meter: Meter, stop: asyncio.Event) -> None:
    """Publish batch by batch; not further ahead of the confirms than the queue is long."""
    sent: asyncio.Queue[tuple[BatchReceipt, float] | None] = asyncio.Queue(BATCHES_AHEAD)
    settling = asyncio.create_task(_settle(sent, meter))
    padding = bytes(load.size - STAMP)
    due = time.monotonic()
    try:
        while not stop.is_set():
            body = time.monotonic_ns().to_bytes(STAMP, "big") + padding
            await sent.put((await producer.send_batch([body] * load.batch_size), time.monotonic()))
            meter.published(load.batch_size)
            if load.rate:
                due = max(due + load.batch_size / load.rate, time.monotonic() - 1.0)  # what was missed is not made up
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(due - time.monotonic(), 0.0)):
                        await stop.wait()
        await sent.put(None)
        await settling
    finally:
        settling.cancel()


async def _settle(sent: asyncio.Queue[tuple[BatchReceipt, float] | None], meter: Meter) -> None:
    """Wait for the outcomes, batch by batch: a batch took as long as its last message."""
    while (item := await sent.get()) is not None:
        receipt, at = item
        failed = 0
        try:
            await receipt
        except Exception as error:  # noqa: BLE001 - counted, whatever it is
            failed = sum(one.error is not None for one in receipt.receipts)
            if not meter.total.failed:  # the others are counted
                say(one_line(error))
        meter.settled(len(receipt) - failed, failed, time.monotonic() - at)


async def _read(reader: Consumer, meter: Meter) -> None:
    async for batch in reader.batches():
        now = time.monotonic_ns()
        step = max(len(batch) // SAMPLES, 1)
        meter.consumed(len(batch))
        for start in range(0, len(batch), step):
            sent = int.from_bytes(batch[start].body[:STAMP], "big")
            meter.took((now - sent) / 1e9, min(step, len(batch) - start))


async def _catch_up(readers: list[Consumer], meter: Meter) -> None:
    """Let consumers read what was confirmed; what they cannot is in the summary."""
    wanted = meter.total.confirmed
    for _ in range(LOOKS):
        if all(reader.received >= wanted for reader in readers):
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _tell(meter: Meter, begin: float) -> None:
    last = begin
    while True:
        await asyncio.sleep(1.0)
        now = time.monotonic()
        typer.echo(meter.take_recent().line(now - begin, now - last))
        last = now


def add_to(app: typer.Typer) -> None:
    """Make it a command."""
    command(app, "perf")(perf)
