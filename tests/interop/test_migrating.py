"""docs/migrating-from-rstream.md, line by line: what its pairs of blocks print and store is the same."""

import asyncio
import contextlib
import io
import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import actorstream
from lab.broker import Broker
from tests.broker.reading import publish, read
from tests.conftest import Streams, have
from tests.interop.peers import environment, migrating

PAGE = Path(__file__).parent.parent.parent / "docs" / "migrating-from-rstream.md"
BLOCK = re.compile(r"```python\n# (rstream|actorstream)\n(.*?)```", re.DOTALL)


class Pair(NamedTuple):
    title: str
    theirs: str
    ours: str


def pairs() -> list[Pair]:
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        blocks = dict(BLOCK.findall(section))
        if blocks:
            assert blocks.keys() == {"rstream", "actorstream"}, section
            found.append(Pair(section.splitlines()[0], blocks["rstream"], blocks["actorstream"]))
    return found


PAIRS = pairs()


def test_every_block_of_the_page_is_one_of_a_pair() -> None:
    assert PAGE.read_text().count("```python") == 2 * len(PAIRS)
    assert len(PAIRS) > 10


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.title)
async def test_what_both_print_and_store_is_the_same(broker: Broker, stream: Streams, pair: Pair) -> None:
    have(environment.ensure)
    theirs, ours = stream(), stream()
    uri = actorstream.options.parse_uri(broker.uri)
    async with actorstream.connect(broker.uri) as client:
        for prefix in (theirs, ours):
            await client.create_stream(f"{prefix}.orders")
            await publish(client, f"{prefix}.orders", [b"order %d" % number for number in range(5)])
        names = {"HOST": broker.host, "PORT": broker.port, "USER": uri.username, "PASSWORD": uri.password}
        request = {"block": pair.theirs.replace('"shop.', f'"{theirs}.'), "names": names}
        answer = await asyncio.to_thread(environment.call, migrating.__name__, request)
        printed = await run(pair.ours.replace('"shop.', f'"{ours}.'), URI=broker.uri)
        assert printed, "a block says what it did"
        assert printed == answer["printed"]
        assert await stored(client, broker, ours) == await stored(client, broker, theirs)


async def run(block: str, **names: Any) -> list[str]:
    scope: dict[str, Any] = {**vars(actorstream), "actorstream": actorstream, "asyncio": asyncio, **names}
    printed = io.StringIO()
    exec(migrating.MAIN.format(block=textwrap.indent(block, "    ")), scope)
    with contextlib.redirect_stdout(printed):
        async with asyncio.timeout(25):
            await scope["main"]()
    return printed.getvalue().splitlines()


async def stored(client: actorstream.Client, broker: Broker, prefix: str) -> dict[str, list[tuple[bytes, Any, Any]]]:
    """The messages of all streams of a run; those of a super stream's partitions together, since hashes differ."""
    found: dict[str, list[tuple[bytes, Any, Any]]] = {}
    for name in sorted(broker.management.streams(prefix + ".")):
        messages = await read(client, name)
        kept = found.setdefault(re.sub(r"-\d+$", "", name.removeprefix(prefix)), [])
        for message in messages:
            properties = message.properties
            identity = None if properties is None else (plain(properties.message_id), plain(properties.content_type))
            kept.append(
                (message.body, identity, {plain(k): plain(v) for k, v in message.application_properties.items()})
            )
    return {name: sorted(messages, key=repr) if name == ".payments" else messages for name, messages in found.items()}


def plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
