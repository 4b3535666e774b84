"""`publish`: a message for each line, each with an outcome; a run with a name can be resumed."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated

import typer

from actorstream.actors.encoding import Body
from actorstream.actors.receipt import Receipt
from actorstream.base_producer import BaseProducer
from actorstream.cli.arguments import parse_pairs
from actorstream.cli.exits import Exit, one_line
from actorstream.cli.lines import read_lines
from actorstream.cli.running import Broker, command, say
from actorstream.client import Client
from actorstream.errors import InvalidArgument, NoRoute
from actorstream.options import ProducerKeywords
from actorstream.producing import OnConfirm
from actorstream.routing import HashRouting, KeyRouting
from actorstream.wire.amqp import Properties
from actorstream.wire.message import Message


class By(enum.Enum):
    """How the key of a message chooses its partition."""

    HASH = "hash"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Messages:
    """Makes the message of a line: what is said of all of them, and the key that the line may begin with."""

    key: str | None = None
    key_separator: str | None = None
    content_type: str | None = None
    properties: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.key is not None and self.key_separator is not None:
            raise InvalidArgument("give --key, the same for all lines, or --key-separator, not both")
        if self.key_separator == "":
            raise InvalidArgument("a --key-separator has one character at least")

    def of(self, line: bytes) -> Body:
        """The message.

        Raises:
            InvalidArgument: the line has no key where one is wanted.
        """
        key = self.key
        if self.key_separator is not None:
            begin, found, line = line.partition(self.key_separator.encode())
            if not found:
                raise InvalidArgument(f"there is no key, which would end at {self.key_separator!r}")
            key = begin.decode("utf-8", "replace")
        if key is None and self.content_type is None and not self.properties:
            return line
        return Message(
            line,
            properties=Properties(subject=key, content_type=self.content_type),
            application_properties=self.properties or None,
        )


@dataclass(slots=True)
class Tally:
    """What became of the lines."""

    skipped: int = 0
    not_sent: int = 0
    is_told: bool = False

    def settled(self, receipt: Receipt) -> None:
        """A message has its outcome. The first one that failed is told; the others are counted."""
        if receipt.error is not None and not self.is_told:
            self.is_told = True
            say(one_line(receipt.error))

    def report(self, producer: BaseProducer) -> Exit:
        """Tell it, in one line."""
        failed = producer.failed + self.not_sent
        parts = [f"{producer.confirmed} confirmed", f"{failed} failed"]
        parts += [f"{self.skipped} skipped, which were stored before"] if self.skipped else []
        parts += [f"{producer.unsettled} without an outcome"] if producer.unsettled else []
        say(", ".join(parts))
        return Exit.FAILED if failed or producer.unsettled else Exit.DONE


async def publish(
    broker: Broker,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="A stream, or with --super-stream a super stream.")],
    file: Annotated[str | None, typer.Option("--lines", "-l", metavar="FILE", help="Read lines of a file.")] = None,
    name: Annotated[
        str, typer.Option(help="Number the lines under this name: run again, it sends only what is not stored yet.")
    ] = "",
    properties: Annotated[
        list[str] | None, typer.Option("--property", "-p", metavar="NAME=VALUE", help="An application property.")
    ] = None,
    content_type: Annotated[str | None, typer.Option(help="The content type of each message.")] = None,
    filter_value: Annotated[str | None, typer.Option(help="What consumers may filter by.")] = None,
    key: Annotated[str | None, typer.Option("--key", "-k", help="The key (subject) of each message.")] = None,
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", "-K", help="Each line begins with its key and this.")
    ] = None,
    super_stream: Annotated[bool, typer.Option("--super-stream", help="STREAM is a super stream.")] = False,
    routing: Annotated[By, typer.Option(help="Partitions by the key's hash, or by their binding keys.")] = By.HASH,
    sub_entry_size: Annotated[int, typer.Option(help="So many lines share an entry, once they are there.")] = 1,
    compression: Annotated[str, typer.Option(help="Of sub-entries: none, gzip, snappy, lz4 or zstd.")] = "none",
    confirm_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Give up a message that is not confirmed; default: never.")
    ] = None,
) -> Exit:
    """Publish each line of stdin, or of a file, as a message, and wait for its confirm.

    Says at the end how many are confirmed. The exit code is 1 if any failed.
    """
    messages = Messages(key, key_separator, content_type, parse_pairs(properties or ()))
    if filter_value is not None and sub_entry_size > 1:
        raise InvalidArgument("the protocol has no filter values in sub-entries: leave out one of the two")
    if super_stream and key is None and key_separator is None:
        raise InvalidArgument("a super stream's partition is chosen by a key: give --key or --key-separator")
    if super_stream and name and sub_entry_size > 1:
        raise InvalidArgument(
            "a run over a super stream is resumed line by line: leave out --name or --sub-entry-size"
        )  # each partition has come as far as its lines, and what a sub-entry holds is known to one number alone
    if compression != "none" and sub_entry_size == 1:
        raise InvalidArgument("what is compressed are sub-entries: give --sub-entry-size as well, such as 100")
    tally = Tally()
    options = ProducerKeywords(
        confirm_timeout_s=confirm_timeout, sub_entry_size=sub_entry_size, compression=compression
    )
    async with broker.client() as client:
        by = routing if super_stream else None
        producer = await _producer(client, stream, name, by, tally.settled, options)
        try:
            async with producer:
                last = await producer.last_publishing_id() if name else 0
                async for first, group in _groups(read_lines(file), sub_entry_size):
                    done = min(max(last - first + 1, 0), len(group))
                    tally.skipped += done
                    if group := group[done:]:
                        await _send(producer, first + done, group, messages, filter_value, tally)
                await producer.flush()
        finally:
            code = tally.report(producer)
    return code


async def _producer(
    client: Client, stream: str, name: str, routing: By | None, on_confirm: OnConfirm, options: ProducerKeywords
) -> BaseProducer:
    if routing is None:
        return await client.producer(stream, name=name, on_confirm=on_confirm, **options)
    by = {By.HASH: HashRouting, By.KEY: KeyRouting}[routing]
    routed = by(_key_of)
    return await client.super_stream_producer(stream, routing=routed, name=name, on_confirm=on_confirm, **options)


def _key_of(message: Message) -> str:
    properties = message.properties
    return (properties and properties.subject) or ""


async def _groups(lines: AsyncIterator[list[bytes]], size: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """The lines in groups of a size, the last one perhaps smaller; each with the number of its first line."""
    number = 1
    left: list[bytes] = []
    async for some in lines:
        left += some
        whole = len(left) - len(left) % size
        for begin in range(0, whole, size):
            yield number, left[begin : begin + size]
            number += size
        left = left[whole:]
    if left:
        yield number, left


async def _send(
    producer: BaseProducer, first: int, group: list[bytes], messages: Messages, filter_value: str | None, tally: Tally
) -> None:
    """Send the lines of one entry. Those that cannot be sent are told; a run that can be resumed ends there.

    Otherwise the broker would hold a higher number than theirs, and no later run would send them.
    """
    number = first + len(group) - 1 if producer.name else None
    try:
        bodies = [messages.of(line) for line in group]
        if len(bodies) == 1:
            await producer.send(bodies[0], publishing_id=number, filter_value=filter_value)
        else:
            await producer.send_sub_entry(bodies, publishing_id=number)
    except (InvalidArgument, NoRoute) as error:
        tally.not_sent += len(group)
        where = f"line {first}" if len(group) == 1 else f"lines {first} to {first + len(group) - 1}"
        say(f"{where}: {one_line(error)}")
        if producer.name:
            raise typer.Exit(Exit.FAILED) from None


def add_to(app: typer.Typer) -> None:
    """Make it a command."""
    command(app, "publish")(publish)
