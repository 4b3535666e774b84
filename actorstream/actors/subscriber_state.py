"""What a subscriber knows beside its cursor: what outlives its incarnations, and what a stream holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from actorstream.actors.cursor import Cursor, Delivery
from actorstream.actors.desk import CarryOut
from actorstream.actors.direct import Direct
from actorstream.actors.future import Channel, LoopFuture
from actorstream.actors.messages import Members
from actorstream.options import Endpoint

EMPTY = -1
"""What StreamStats says of a stream without chunks."""


@dataclass(slots=True)
class SubscriberState:
    """What survives an incarnation beside the cursor. `carry_out` is for what only the handle can do.

    `chunk_done` is the present incarnation's step for a chunk, by its attachment, whose credit may go back.

    `chunks`, with the `records` and the `chunk_bytes` in them, are those that were handed to the consumer so far.
    """

    cursor: Cursor
    deliveries: Channel[Delivery]
    ready: LoopFuture[None]
    bounded: bool = False
    attachment: int = -1
    paused: bool = False
    last_broker: Endpoint | None = None
    members: Members | None = None
    tried: set[Endpoint] = field(default_factory=set)
    wants_leader: bool = False
    broken_at: tuple[str, int] = ("", -1)
    broken_tries: int = 0
    committed_chunk_id: int = EMPTY
    chunks: int = 0
    records: int = 0
    chunk_bytes: int = 0
    carry_out: CarryOut | None = None
    chunk_done: Direct[int] | None = None


@dataclass(frozen=True, slots=True)
class StreamExtent:
    """The ids (first offsets) of the first chunk, of the last one and of the last committed one; `EMPTY` for none."""

    first: int
    last: int
    committed: int
