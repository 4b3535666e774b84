"""`create`, `delete`, `super-create`, `super-delete`, and `offset`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from actorstream.cli.arguments import StreamName, parse_age, parse_offset
from actorstream.cli.exits import Exit
from actorstream.cli.running import Broker, command, say
from actorstream.errors import RequestTimeout
from actorstream.options import StreamArguments

LOOKS = 100
LOOK_EVERY_S = 0.05

SuperStreamName = Annotated[str, typer.Argument(metavar="SUPER_STREAM", help="The super stream's name.")]
MaxLength = Annotated[str | None, typer.Option(metavar="SIZE", help="Bytes to keep: 10GB, 500MiB, …")]
MaxAge = Annotated[str | None, typer.Option(metavar="AGE", help="How long to keep: 90s, 12h, 7d, …")]
MaxSegmentSize = Annotated[str | None, typer.Option(metavar="SIZE", help="Bytes of a segment file.")]
Locator = Annotated[str | None, typer.Option("--leader-locator", help="client-local or balanced.")]
ClusterSize = Annotated[int | None, typer.Option("--initial-cluster-size", help="Members of the stream.")]
FilterSize = Annotated[int | None, typer.Option(help="Bytes of a chunk's Bloom filter, 16 to 255.")]
ExistOk = Annotated[bool, typer.Option("--exist-ok", help="It is fine if there is one already.")]
MissingOk = Annotated[bool, typer.Option("--missing-ok", help="It is fine if there is none.")]
Reference = Annotated[str, typer.Argument(metavar="NAME", help="The consumer's name.")]


def _arguments(
    max_length: str | None,
    max_age: str | None,
    max_segment_size: str | None,
    leader_locator: str | None,
    initial_cluster_size: int | None,
    filter_size: int | None,
) -> StreamArguments:
    return StreamArguments(
        max_length=max_length,
        max_age=parse_age(max_age),
        max_segment_size=max_segment_size,
        leader_locator=leader_locator,
        initial_cluster_size=initial_cluster_size,
        filter_size=filter_size,
    )


async def create(
    broker: Broker,
    stream: StreamName,
    max_length: MaxLength = None,
    max_age: MaxAge = None,
    max_segment_size: MaxSegmentSize = None,
    leader_locator: Locator = None,
    initial_cluster_size: ClusterSize = None,
    filter_size: FilterSize = None,
    exist_ok: ExistOk = False,
) -> Exit:
    """Create a stream."""
    arguments = _arguments(max_length, max_age, max_segment_size, leader_locator, initial_cluster_size, filter_size)
    async with broker.client() as client:
        await client.create_stream(stream, arguments, exist_ok=exist_ok)
    return Exit.DONE


async def delete(broker: Broker, stream: StreamName, missing_ok: MissingOk = False) -> Exit:
    """Delete a stream with all its messages and offsets."""
    async with broker.client() as client:
        await client.delete_stream(stream, missing_ok=missing_ok)
    return Exit.DONE


async def super_create(
    broker: Broker,
    name: SuperStreamName,
    partitions: Annotated[int | None, typer.Option(help="How many.", show_default="3")] = None,
    binding_keys: Annotated[
        list[str] | None, typer.Option("--binding-key", help="Instead, a partition for this key, and so on.")
    ] = None,
    max_length: MaxLength = None,
    max_age: MaxAge = None,
    max_segment_size: MaxSegmentSize = None,
    leader_locator: Locator = None,
    initial_cluster_size: ClusterSize = None,
    filter_size: FilterSize = None,
    exist_ok: ExistOk = False,
) -> Exit:
    """Create a super stream; what limits a stream limits each partition."""
    arguments = _arguments(max_length, max_age, max_segment_size, leader_locator, initial_cluster_size, filter_size)
    async with broker.client() as client:
        await client.create_super_stream(
            name, partitions=partitions, binding_keys=binding_keys or None, arguments=arguments, exist_ok=exist_ok
        )
    return Exit.DONE


async def super_delete(broker: Broker, name: SuperStreamName, missing_ok: MissingOk = False) -> Exit:
    """Delete a super stream with all its partitions."""
    async with broker.client() as client:
        await client.delete_super_stream(name, missing_ok=missing_ok)
    return Exit.DONE


async def query(broker: Broker, name: Reference, stream: StreamName) -> Exit:
    """Print the offset that is stored under a name; exit code 4 if there is none."""
    async with broker.client() as client:
        stored = await client.query_offset(name, stream)
    if stored is None:
        say(f"no offset is stored under {name!r} in {stream!r}")
        return Exit.NOT_FOUND
    typer.echo(stored)
    return Exit.DONE


async def store(
    broker: Broker,
    name: Reference,
    stream: StreamName,
    value: Annotated[int, typer.Argument(metavar="OFFSET", help="The last one that is done.")],
) -> Exit:
    """Store an offset under a name, and make sure of it: the consumer goes on after it."""
    async with broker.client() as client:
        await client.stream_metadata(stream)  # of a stream that does not exist, a store would not be heard of
        await client.store_offset(name, stream, value)
        for _ in range(LOOKS):
            if await client.query_offset(name, stream) == value:
                return Exit.DONE
            await asyncio.sleep(LOOK_EVERY_S)
    raise RequestTimeout("StoreOffset, as read back,", LOOKS * LOOK_EVERY_S)


async def resolve(
    broker: Broker,
    stream: StreamName,
    offset: Annotated[str, typer.Argument(help="first, last, next, a number, or a moment in ISO 8601.")],
) -> Exit:
    """Print where a consumer would begin (RabbitMQ 4.3)."""
    specification = parse_offset(offset)
    async with broker.client() as client:
        resolved = await client.resolve_offset(stream, specification)
    if resolved is None:
        say(f"there is no place {offset} in {stream!r}")
        return Exit.NOT_FOUND
    typer.echo(resolved)
    return Exit.DONE


def add_to(app: typer.Typer) -> None:
    """Make them commands."""
    command(app, "create")(create)
    command(app, "delete")(delete)
    command(app, "super-create")(super_create)
    command(app, "super-delete")(super_delete)
    offset = typer.Typer(help="Stored offsets, and where an offset is.", no_args_is_help=True)
    command(offset, "query")(query)
    command(offset, "store")(store)
    command(offset, "resolve")(resolve)
    app.add_typer(offset, name="offset")
