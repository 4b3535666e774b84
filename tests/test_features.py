"""docs/features.md tells the truth: each row's test and example are there, and no feature is missing."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
HEADER = ["feature", "here", "test", "example"]


REQUIRED = """
send, and go on
send, and wait for the confirm
many at once, with one receipt for all
a callback for each outcome
batches that grow with the load
back pressure
a deadline for the confirm
frames cut by their exact size
while the broker is away: wait, buffer to the bound, or fail
sub-entries by hand, in every codec: none, gzip, snappy, lz4, zstd
sub-entries by themselves
deduplication by a name
deduplication by ids of one's own
the highest publishing id that the broker has
filter values of messages
bytes as they are, not as AMQP 1.0
hash routing, to the same partition as every other client
key routing
a routing of your own
every way to send
deduplication over all partitions
all partitions read as one
iteration, message by message
batches, at the size of a chunk or smaller
a handler, and a policy for when it raises
the beginning: first, last, next, an offset, a moment
flow control by credit
the checksum of each chunk
sub-entries, also of other clients, in all codecs
a limit to what a sub-entry may decompress to
a filter on the broker
a filter here
several consumers of one stream
resuming by name alone
storing and querying an offset by hand
automatic tracking by count
automatic tracking by time
offsets that live elsewhere
where a specification leads
one active consumer of a name
partitions of a super stream shared by members
a callback that may choose the offset
streams with all their arguments
deleting; whether a stream exists
where a stream's leader and replicas are
the first and the last chunk of a stream
super streams, by a number of partitions or by binding keys
deleting a super stream
the partitions of a super stream
where the broker routes a key
versions of commands exchanged
TLS, verified always
mutual TLS
SASL PLAIN
SASL EXTERNAL
SASL ANONYMOUS
OAuth 2: one token for all connections, renewed while they are open
one URI, or several
a cluster behind a load balancer
brokers that are elsewhere than they advertise
pooling
control connections
names of connections
a lost connection: publishing goes on
a lost connection: reading goes on
a leader that moves (MetadataUpdate) is followed
what is unconfirmed is sent again
pauses between tries, of your choice
heartbeats; a peer that is silent is given up
every section of AMQP 1.0
objects by content type
the same handles without asyncio
what happens, as events
what happens, in the log
counters of what was confirmed
a command line
a performance tool
metrics through OpenTelemetry
tracing: a trace goes with a message
""".strip().splitlines()
"""What any other client for RabbitMQ Streams can do; each is the beginning of a row's first cell, or a part of it."""


class Row(NamedTuple):
    section: str
    feature: str
    here: str
    test: str
    example: str


def rows() -> list[Row]:
    found: list[Row] = []
    section = ""
    for line in (ROOT / "docs" / "features.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("|"):
            # A cell may hold a vertical bar, escaped.
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if cells != HEADER and set("".join(cells)) != {"-"}:
                assert len(cells) == len(HEADER), line
                found.append(Row(section, *cells))
    return found


ROWS = rows()
BY_FEATURE = pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.section}: {row.feature}".replace("`", "")) for row in ROWS]
)


@functools.cache
def functions_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@BY_FEATURE
def test_the_test_of_a_feature_is_there(row: Row) -> None:
    named = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)(\[[^\]]+\])?`", row.test)
    assert named, row.test
    assert named[2] in functions_in(named[1]), row.test


@BY_FEATURE
def test_the_example_of_a_feature_is_there_and_is_run(row: Row) -> None:
    named = re.fullmatch(r"`examples/(\w+)\.py`", row.example)
    assert named, row.example
    assert (ROOT / "examples" / f"{named[1]}.py").exists()
    # `make demo` breaks brokers, and says itself whether all went well.
    assert named[1] == "demo" or (ROOT / "tests" / "examples" / f"{named[1]}.regex").exists()


def test_no_feature_has_two_rows() -> None:
    features = [(row.section, row.feature) for row in ROWS]
    assert len(features) == len(set(features))


@pytest.mark.parametrize("feature", REQUIRED)
def test_what_any_other_client_can_do_has_a_row(feature: str) -> None:
    assert [row for row in ROWS if feature in row.feature]
