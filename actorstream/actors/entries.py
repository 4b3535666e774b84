"""How an outbox sees what it holds: *lots* that wait in its queue, and *entries* that are in its window.

A lot is what was accepted in one step: one message (`Receipt`) or many (`Run`). Entries are what stands behind
publishing ids: the same objects, or, where messages are grouped into sub-entries, a `Group` of pieces of them. The
outbox deals with whole lots and with sequences of ids, so that what it does for each message is done in C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from actorstream.errors import InvalidArgument, PublishError

if TYPE_CHECKING:
    from actorstream.actors.future import LoopFuture
    from actorstream.actors.receipt import Receipt

NEVER = float("inf")
"""The deadline of what has none."""

Failure = Callable[[], PublishError | InvalidArgument]
"""Makes the error of one message: each has its own, since an error carries the traceback of whoever raised it."""


class Settlement:
    """What one step of settling comes to; the outbox keeps its books by it.

    Attributes:
        settled: messages that got their outcome.
        released, released_bytes: messages that give up their room, and their bytes.
        receipts: those of the messages that got their outcome; None when nobody wants to know.
    """

    __slots__ = ("receipts", "released", "released_bytes", "settled")

    def __init__(self, *, with_receipts: bool) -> None:
        self.settled = 0
        self.released = 0
        self.released_bytes = 0
        self.receipts: list[Receipt] | None = [] if with_receipts else None


class Outgoing:
    """Entries to be sent, in order.

    Attributes:
        parts: for each stretch of one version of Publish, the ids and what stands behind them.
        count, size: entries, and their bytes.
    """

    __slots__ = ("_ids", "_version", "_wires", "count", "parts", "size")

    def __init__(self) -> None:
        self.parts: list[tuple[int, list[int], list[bytes]]] = []
        self.count = 0
        self.size = 0
        self._version = 0
        self._ids: list[int] = []
        self._wires: list[bytes] = []

    def append(self, version: int, publishing_id: int, wire: bytes) -> None:
        """Put one behind the others."""
        if version != self._version:
            self._begin(version)
        self._ids.append(publishing_id)
        self._wires.append(wire)
        self.count += 1
        self.size += len(wire)

    def extend(self, version: int, ids: Sequence[int], wires: Sequence[bytes]) -> None:
        """Put many behind the others."""
        if version != self._version:
            self._begin(version)
        self._ids.extend(ids)
        self._wires.extend(wires)
        self.count += len(ids)
        self.size += sum(map(len, wires))

    def _begin(self, version: int) -> None:
        self._version, self._ids, self._wires = version, [], []
        self.parts.append((version, self._ids, self._wires))


class Entries(Protocol):
    """What the window holds under one or more publishing ids."""

    deadline: float
    """When the first of its messages gives up."""

    @property
    def version(self) -> int:
        """Of Publish."""

    @property
    def undecided(self) -> int:
        """Messages without an outcome."""

    @property
    def lots(self) -> Sequence[Lot]:
        """Those whose messages these are."""

    def wire_of(self, publishing_id: int) -> bytes:
        """What stands behind an id in the frame."""

    def decide(self, ids: Sequence[int], failure: Failure | None, into: Settlement) -> None:
        """The ids, all of them ours and in the window until now, have their outcome, and give up their room."""

    def give_up(self, now: float, failure: Failure, into: Settlement) -> bool:
        """Settle what has passed its deadline, and keep it; whether nothing is without an outcome any more."""


class Lot(Protocol):
    """What was accepted in one step, and waits to be sent."""

    deadline: float
    messages: int

    @property
    def size(self) -> int:
        """Bytes of its entries, while they wait."""

    @property
    def version(self) -> int:
        """Of Publish, for its entries."""

    @property
    def entries(self) -> Sequence[bytes]:
        """What stands behind each publishing id, while they wait."""

    @property
    def given_id(self) -> int | None:
        """The publishing id that its sender gave it; None: the outbox counts."""

    @property
    def undecided(self) -> int:
        """Messages without an outcome."""

    def enter(self, window: dict[int, Entries], last_id: int, outgoing: Outgoing) -> int:
        """Go from the queue into the window, under ids after `last_id` unless they were given; the last one used."""

    def drop_above(self, limit: float, failure: Callable[[int], InvalidArgument], into: Settlement) -> bool:
        """Fail the entries of more than `limit` bytes, each for its size; whether something is left."""

    def refuse(self, failure: Failure, into: Settlement) -> None:
        """It is not going to be sent: give it its outcome, and its room to others."""

    def decide_part(self, start: int, end: int, failure: Failure | None, into: Settlement) -> None:
        """Give a stretch of its entries their outcome; whoever holds their bytes gives up the room."""

    def join(self, start: int, end: int, publishing_id: int) -> None:
        """A stretch of its entries went into a sub-entry, which holds the bytes from now on."""

    def outcome(self) -> LoopFuture[None]:
        """A future that is set once everything in it has its outcome."""
