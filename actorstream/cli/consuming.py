"""`consume`: each message written to stdout, until the end that was asked for, or Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from actorstream.cli.arguments import JsonFlag, parse_offset
from actorstream.cli.exits import Exit
from actorstream.cli.formats import DEFAULT, Render, as_json, compile_format
from actorstream.cli.running import Broker, command
from actorstream.client import Client
from actorstream.errors import InvalidArgument
from actorstream.offset import OffsetSpecification
from actorstream.options import ConsumerKeywords, Filter
from actorstream.reading import Reader

MOST = 1_000
"""Messages that are written before they are completed together."""


async def consume(
    broker: Broker,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="A stream, or with --super-stream a super stream.")],
    super_stream: Annotated[bool, typer.Option("--super-stream", help="STREAM is a super stream.")] = False,
    offset: Annotated[
        str | None,
        typer.Option(
            "--offset", "-o", help="first, last, next, a number, or a moment in ISO 8601.", show_default="next"
        ),
    ] = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", "-e", help="End with what is stored now; begins at first by default.")
    ] = False,
    count: Annotated[int | None, typer.Option("--count", "-c", min=1, help="End after so many messages.")] = None,
    name: Annotated[str, typer.Option(help="Go on where the last run of this name ended.")] = "",
    single_active: Annotated[
        bool, typer.Option("--single-active", help="Share the stream, or the partitions, with others of this name.")
    ] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="Chunks with this filter value; may be given several times.")
    ] = None,
    match_unfiltered: Annotated[bool, typer.Option("--match-unfiltered", help="And those without any value.")] = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help=r"%s body, %S size, %o offset, %T timestamp (ms), %t stream, %k key, %p properties, %%, \n, \t, …",
        ),
    ] = DEFAULT,
    json: JsonFlag = False,
    raw: Annotated[bool, typer.Option("--raw", help="Records as they are stored, not taken for AMQP 1.0.")] = False,
) -> Exit:
    """Write each message to stdout, from now on, or from elsewhere.

    Goes on until Ctrl-C, which ends it in good order, with exit code 0. What was written is completed: with --name,
    the next run goes on after it.
    """
    if json and form != DEFAULT:
        raise InvalidArgument("give --json or --format, not both")
    if filters and until_end:
        raise InvalidArgument(
            "--filter and --until-end exclude each other: the broker leaves out what does not match, perhaps the end"
        )
    render = as_json if json else compile_format(form)
    begin = parse_offset(offset or ("first" if until_end else "next"))
    options = ConsumerKeywords(raw=raw, single_active=single_active)
    if filters or match_unfiltered:
        options["filter"] = Filter(filters or (), match_unfiltered=match_unfiltered)
    async with (
        broker.client() as client,
        await _consumer(
            client, stream, begin, options, name=name, until="end" if until_end else None, super_stream=super_stream
        ) as reader,
    ):
        await _write(reader, render, count)
    return Exit.DONE


async def _consumer(
    client: Client,
    stream: str,
    begin: OffsetSpecification,
    options: ConsumerKeywords,
    *,
    name: str,
    until: str | None,
    super_stream: bool,
) -> Reader:
    make = client.super_stream_consumer if super_stream else client.consumer
    return await make(stream, begin, name=name, until=until, **options)


async def _write(reader: Reader, render: Render, count: int | None) -> None:
    """Write messages; each is completed when it is out of our hands, and not before."""
    out = sys.stdout.buffer
    left = count
    while left != 0:
        batch = reader.take_batch(MOST if left is None else min(left, MOST))
        if batch:
            out.write(b"".join([render(message) for message in batch]))
            out.flush()
            reader.complete()
            left = None if left is None else left - len(batch)
            await asyncio.sleep(0)  # also while there is always more, Ctrl-C is heard
            continue
        try:
            await reader.fetch()
        except StopAsyncIteration:
            return


def add_to(app: typer.Typer) -> None:
    """Make it a command."""
    command(app, "consume", when_interrupted=Exit.DONE)(consume)
