"""Grouping into sub-entries: consecutive messages share one entry, one publishing id, and one confirm.

Done when they are sent, so that groups grow with the load: a lone message does not wait for others to join it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actorstream.actors.entries import Entries, Failure, Lot, Outgoing, Settlement
from actorstream.compression import Compression
from actorstream.errors import InvalidArgument
from actorstream.wire.compression import MAX_UNCOMPRESSED, compress
from actorstream.wire.publish import SUB_BATCH_OVERHEAD, sub_batch_entry

Piece = tuple[Lot, int, int]
"""A stretch of the entries of a lot: from and up to."""


class Group:
    """One entry of the window with the messages of one or more lots. It is sent again as it was sent first."""

    __slots__ = ("_given_id", "_pieces", "_size", "_wire", "deadline", "publishing_id")

    version = 1

    def __init__(self, pieces: Sequence[Piece], size: int, wire: bytes) -> None:
        self._pieces = pieces
        self._size = size
        self._wire = wire
        self._given_id = pieces[-1][0].given_id
        self.publishing_id = -1
        self.deadline = min(lot.deadline for lot, _, _ in pieces)

    @property
    def lots(self) -> Sequence[Lot]:
        """Those whose messages these are."""
        return [lot for lot, _, _ in self._pieces]

    @property
    def undecided(self) -> int:
        """Lots that have messages without an outcome, here or elsewhere: enough to know whether to look again."""
        return sum(lot.undecided > 0 for lot, _, _ in self._pieces)

    def wire_of(self, publishing_id: int) -> bytes:  # noqa: ARG002 - there is one
        """What stands behind its id in the frame."""
        return self._wire

    def enter(self, window: dict[int, Entries], last_id: int, outgoing: Outgoing) -> int:
        """As `Lot.enter`; given ids are those of the last messages in each group."""
        self.publishing_id = last_id + 1 if self._given_id is None else self._given_id
        window[self.publishing_id] = self
        for lot, start, end in self._pieces:
            lot.join(start, end, self.publishing_id)
        outgoing.append(self.version, self.publishing_id, self._wire)
        return self.publishing_id

    def decide(self, ids: Sequence[int], failure: Failure | None, into: Settlement) -> None:  # noqa: ARG002
        """See `Entries`: one outcome for all of them."""
        into.released += sum(end - start for _, start, end in self._pieces)
        into.released_bytes += self._size
        for lot, start, end in self._pieces:
            lot.decide_part(start, end, failure, into)

    def give_up(self, now: float, failure: Failure, into: Settlement) -> bool:
        """See `Entries`: each message has a deadline of its own, and the entry goes when the last one has passed."""
        for lot, start, end in self._pieces:
            if lot.deadline <= now:
                lot.decide_part(start, end, failure, into)
        return all(lot.deadline <= now for lot, _, _ in self._pieces)


class Grouping:
    """Makes groups of at most `size` messages.

    Raises:
        CompressionError: the codec is not installed.
    """

    def __init__(self, size: int, compression: Compression) -> None:
        self._group_size = size
        self._compression = compression
        compress(compression, b"")  # raises here, and not in the actor, if the codec is not installed

    def group(
        self,
        lots: Sequence[Lot],
        limit: float,
        stored: int,
        too_large: Callable[[int], InvalidArgument],
        into: Settlement,
    ) -> list[Lot | Group]:
        """The lots' messages in groups that fit into `limit` bytes each; sub-entries by their sender stay as they are.

        A message that does not fit even by itself fails. `stored` is the highest publishing id that the broker has.
        """
        made: list[Lot | Group] = []
        pieces: list[Piece] = []
        count = size = 0

        def close() -> None:
            nonlocal count, size
            if pieces:
                made.extend(self._fitting(tuple(pieces), limit, too_large, into))
            pieces.clear()
            count = size = 0

        room = min(limit - SUB_BATCH_OVERHEAD, MAX_UNCOMPRESSED) if not self._compression else MAX_UNCOMPRESSED
        for lot in lots:
            if is_sub_entry(lot):
                close()
                if lot.drop_above(limit, too_large, into):
                    made.append(lot)
                continue
            if pieces and _is_stored(pieces[-1][0], stored) and not _is_stored(lot, stored):
                # In one group with what comes after it, what the broker has would be stored a second time.
                close()
            start = 0
            for index, entry in enumerate(lot.entries):
                if count and (count == self._group_size or size + len(entry) > room):
                    if index > start:
                        pieces.append((lot, start, index))
                    close()
                    start = index
                count, size = count + 1, size + len(entry)
            pieces.append((lot, start, len(lot.entries)))
        close()
        return made

    def _fitting(
        self, pieces: Sequence[Piece], limit: float, too_large: Callable[[int], InvalidArgument], into: Settlement
    ) -> list[Group]:
        """One group, or, where it comes out too large, two halves of it, and so on."""
        entries = [entry for lot, start, end in pieces for entry in lot.entries[start:end]]
        size = sum(map(len, entries))
        if len(entries) > 1 or (self._compression and size <= MAX_UNCOMPRESSED):
            wire = sub_batch_entry(entries, self._compression)
        else:
            wire = entries[0]
        if len(entries) == 1 and len(wire) >= size:
            wire = entries[0]  # a sub-entry with one message is worth it only where compression makes it smaller
        if len(wire) <= limit:
            return [Group(pieces, size, wire)]
        if len(entries) > 1:
            head, tail = _halves(pieces, len(entries) // 2)
            return self._fitting(head, limit, too_large, into) + self._fitting(tail, limit, too_large, into)
        ((lot, start, end),) = pieces
        into.released += 1
        into.released_bytes += size
        lot.decide_part(start, end, lambda: too_large(size), into)
        return []


def is_sub_entry(lot: Lot) -> bool:
    """Whether it is one already: a record's length never has the first bit set."""
    return lot.entries[0][0] >= 0x80


def _is_stored(lot: Lot, stored: int) -> bool:
    return lot.given_id is not None and lot.given_id <= stored


def _halves(pieces: Sequence[Piece], count: int) -> tuple[list[Piece], list[Piece]]:
    """The first `count` messages, and the others."""
    head: list[Piece] = []
    tail: list[Piece] = []
    for lot, start, end in pieces:
        middle = min(end, start + max(count, 0))
        if middle > start:
            head.append((lot, start, middle))
        if end > middle:
            tail.append((lot, middle, end))
        count -= end - start
    return head, tail
