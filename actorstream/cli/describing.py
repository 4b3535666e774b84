"""`describe`: where a stream is and what it holds; of a super stream, each partition."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from actorstream.administration import StreamStatistics
from actorstream.cli.arguments import JsonFlag
from actorstream.cli.exits import Exit
from actorstream.cli.running import Broker, command
from actorstream.client import Client
from actorstream.errors import StreamNotAvailable

WIDE = 240
"""Columns of what is no terminal: nothing is cut off there."""


@dataclass(frozen=True, slots=True)
class Description:
    """A row; None is what nobody knows at this moment, or what is not there."""

    stream: str
    leader: str | None
    replicas: list[str]
    first_offset: int | None
    committed_chunk_id: int | None


async def describe(
    broker: Broker,
    name: Annotated[str, typer.Argument(metavar="STREAM", help="A stream or a super stream.")],
    json: JsonFlag = False,
) -> Exit:
    """Show where a stream is and what it holds; of a super stream, each partition."""
    async with broker.client() as client:
        is_super = not await client.stream_exists(name) and await client.super_stream_exists(name)
        streams = await client.partitions(name) if is_super else (name,)
        rows = [await _describe(client, stream) for stream in streams]
    if json:
        row = {"super_stream": name, "partitions": [asdict(one) for one in rows]} if is_super else asdict(rows[0])
        typer.echo(json_module.dumps(row))
        return Exit.DONE
    table = Table("partition" if is_super else "stream", "leader", "replicas", "first offset", "last chunk", box=None)
    for one in rows:
        first, last = one.first_offset, one.committed_chunk_id
        numbers = ["empty" if number is None else str(number) for number in (first, last)]
        table.add_row(one.stream, one.leader or "none", ", ".join(one.replicas) or "none", *numbers)
    console = Console()
    console.width = console.width if console.is_terminal else WIDE
    console.print(table)
    return Exit.DONE


async def _describe(client: Client, stream: str) -> Description:
    metadata = await client.stream_metadata(stream)
    try:
        statistics = await client.stream_statistics(stream)
    except StreamNotAvailable:
        statistics = StreamStatistics(-1, -1)
    return Description(
        stream,
        None if metadata.leader is None else str(metadata.leader),
        [str(replica) for replica in metadata.replicas],
        *(None if number < 0 else number for number in (statistics.first_chunk_id, statistics.committed_chunk_id)),
    )


def add_to(app: typer.Typer) -> None:
    """Make it a command."""
    command(app, "describe")(describe)
