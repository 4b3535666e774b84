"""The loops that run for each message, one at a time and without a broker: `python -m benchmarks.loops NAME MESSAGES`.

`count` runs them, and counts. Each keeps what it makes until its end, so that what a message leaves in memory counts.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

from actorstream import offset
from actorstream.actors.cursor import Cursor
from actorstream.actors.encoding import Encoder
from actorstream.actors.future import Channel, LoopFuture
from actorstream.actors.intake import Intake
from actorstream.actors.outbox import Outbox
from actorstream.actors.progress import Hand, Iteration, Progress
from actorstream.actors.routing_table import RoutingTable
from actorstream.actors.spread import Spread
from actorstream.actors.subscriber_state import SubscriberState
from actorstream.options import ProducerOptions
from actorstream.routing import HashRouting
from actorstream.wire.chunk import Chunk
from actorstream.wire.commands import decode
from actorstream.wire.constants import Key
from actorstream.wire.message import Message
from actorstream.wire.publish import data_entry, publish_frames

BODY = bytes(100)
AT_ONCE = 1_000
SMALL_BATCH = 50
"""Messages of a chunk where a thousand streams share a broker. The fewer, the more counting there is for each."""


def chunk(count: int) -> Chunk:
    """A chunk of so many messages."""
    content = data_entry(BODY) * count
    header = struct.pack(">BBHIqQQIIIB3x", 0x50, 0, count, count, 1, 1, 0, zlib.crc32(content), len(content), 0, 0)
    return Chunk.parse(header + content)


def decoding(count: int) -> list[Any]:
    """Chunks to messages."""
    one = chunk(AT_ONCE)
    found: list[Any] = []
    for _ in range(count // AT_ONCE):
        one.verify()
        found += one.messages()
    return found


def bodies(count: int) -> list[Any]:
    """The bodies of messages, of which as many are made as are read."""
    return [message.body for message in decoding(count)]


def iterating(count: int) -> list[Any]:
    """`async for`, without the reading of chunks from a socket."""
    one = chunk(AT_ONCE)
    hand = Hand(Progress(0), sys.maxsize, lambda: None)
    left = count // AT_ONCE
    found: list[Any] = []

    async def fetch() -> None:
        nonlocal left
        if not left:
            raise StopAsyncIteration
        left -= 1
        hand.hold(one.messages())

    async def main() -> None:
        async for message in Iteration(hand, fetch):
            found.append(message)  # noqa: PERF401 - the loop is what is counted

    asyncio.run(main())
    return found


def encoding(count: int) -> list[Any]:
    """Bodies to entries."""
    return [data_entry(BODY) for _ in range(count)]


def messages(count: int) -> list[Any]:
    """Message objects to publish."""
    return [Message(BODY) for _ in range(count)]


def framing(count: int) -> list[Any]:
    """Entries to Publish frames."""
    entries = [data_entry(BODY)] * AT_ONCE
    return [
        publish_frames(1, 1, range(first, first + AT_ONCE), entries, 1_048_576) for first in range(0, count, AT_ONCE)
    ]


def confirms(count: int) -> list[Any]:
    """PublishConfirm frames to publishing ids."""
    ids = struct.pack(f">{AT_ONCE}Q", *range(AT_ONCE))
    frame = struct.pack(">HHBI", Key.PUBLISH_CONFIRM, 1, 1, AT_ONCE) + ids
    return [decode(frame) for _ in range(count // AT_ONCE)]


def publishing(count: int) -> list[Any]:
    """What `send` does with a message until it is confirmed, without the socket."""
    outbox = Outbox(named=False, max_messages=AT_ONCE, max_bytes=2**40)
    encoder = Encoder(ProducerOptions())
    kept: list[Any] = []
    for _ in range(count // AT_ONCE):
        for _ in range(AT_ONCE):
            receipt = encoder.receipt(outbox, BODY)
            outbox.offer(receipt)
            kept.append(receipt)
        for _, ids, wires in outbox.take().parts:
            kept.append(publish_frames(1, 1, ids, wires, 1_048_576))
            outbox.confirm(tuple(ids))
    assert outbox.confirmed == count
    return kept


def counters(count: int) -> list[Any]:
    """What is counted while messages are confirmed and delivered, for metrics and the tree alone: batch by batch."""
    outbox = Outbox(named=False, max_messages=AT_ONCE, max_bytes=2**40)
    state = SubscriberState(Cursor(offset.first()), Channel(), LoopFuture())
    one = chunk(SMALL_BATCH)
    for _ in range(count // SMALL_BATCH):
        outbox.confirmed += SMALL_BATCH
        outbox.confirmed_bytes += one.size
        state.chunks += 1
        state.records += one.records
        state.chunk_bytes += one.size
        state.committed_chunk_id = one.chunk_id
    assert outbox.confirmed == state.records == count
    return [outbox, state]


PARTITIONS = tuple(f"partition-{number}" for number in range(50))


def spreading(count: int) -> list[Any]:
    """`publishing` to a super stream: each message goes to one of 50 partitions, by the hash of a key."""
    outboxes = {name: Outbox(named=False, max_messages=AT_ONCE, max_bytes=2**40) for name in PARTITIONS}
    encoder = Encoder(ProducerOptions())
    spread = Spread(RoutingTable("super stream", HashRouting(lambda message: message[:8].hex())))
    spread.use(
        {name: Intake(name, outbox, encoder, None, lambda: 0.0) for name, outbox in outboxes.items()}, PARTITIONS
    )
    messages = [number.to_bytes(8, "big") + BODY[8:] for number in range(AT_ONCE)]
    kept: list[Any] = []
    for _ in range(count // AT_ONCE):
        kept += [spread.place(message, None, None, in_turn=True) for message in messages]
        for outbox in outboxes.values():
            for _, ids, wires in outbox.take().parts:
                kept.append(publish_frames(1, 1, ids, wires, 1_048_576))
                outbox.confirm(tuple(ids))
    assert sum(outbox.confirmed for outbox in outboxes.values()) == count
    return kept


LOOPS: dict[str, Callable[[int], list[Any]]] = {
    "decoding": decoding,
    "bodies": bodies,
    "iterating": iterating,
    "encoding": encoding,
    "messages": messages,
    "framing": framing,
    "confirms": confirms,
    "publishing": publishing,
    "counters": counters,
    "spreading": spreading,
}


def main() -> None:
    """Run a loop, and print how many blocks of memory it left for each message."""
    name, count = sys.argv[1], int(sys.argv[2])
    loop = LOOPS[name]
    loop(AT_ONCE)  # what is made once
    before = sys.getallocatedblocks()
    kept = loop(count)
    print((sys.getallocatedblocks() - before) / count)
    del kept


if __name__ == "__main__":
    main()
