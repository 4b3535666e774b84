"""Many messages that were accepted in one step, and what `send_batch` returns for them.

No message of a batch has an object of its own: what a receipt would say is kept in columns, and a receipt is made of
them when somebody asks for one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from actorstream.actors.entries import NEVER, Entries, Failure, Outgoing, Settlement
from actorstream.actors.future import LoopFuture
from actorstream.actors.receipt import Receipt, making_futures
from actorstream.errors import InvalidArgument, PublishError

# One for all runs: receipts are made once for each, and rarely.
_making_receipts = threading.Lock()


class Run:
    """A lot of many messages, whose publishing ids follow each other; or are those of the sub-entries they went into.

    The publisher actor alone settles it; it may be awaited, and its receipts asked for, by any thread.
    """

    __slots__ = (
        "_decided",
        "_errors",
        "_first_id",
        "_future",
        "_ids",
        "_receipts",
        "_wires",
        "deadline",
        "largest",
        "messages",
        "size",
        "undecided",
        "version",
    )

    given_id: int | None = None

    def __init__(self, wires: list[bytes], *, version: int = 1, deadline: float = NEVER) -> None:
        self._wires = wires
        self.version = version
        self.deadline = deadline
        self.size = sum(map(len, wires))
        self.largest = max(map(len, wires))
        self.messages = self.undecided = len(wires)
        self._decided = bytearray(len(wires))
        self._errors: dict[int, PublishError | InvalidArgument] = {}
        self._first_id = -1
        self._ids: list[int] | None = None  # only where they do not follow each other
        self._receipts: list[Receipt] | None = None
        self._future: LoopFuture[None] | None = None

    def __len__(self) -> int:
        return len(self._decided)

    def receipts(self) -> list[Receipt]:
        """A receipt for each message."""
        with _making_receipts:
            if self._receipts is None:
                self._receipts = [Receipt(b"", version=self.version, deadline=self.deadline) for _ in self._decided]
                # What is settled, or gets its id, from here on is told to them, too; so nothing is missed in between.
                self._tell_ids(0, len(self))
                self._tell_outcomes(0, len(self))
            return self._receipts

    @property
    def error(self) -> PublishError | InvalidArgument | None:
        """The error of the first message that has one."""
        return self._errors[min(self._errors)] if self._errors else None

    def outcome(self) -> LoopFuture[None]:
        """A future that is set once every message has its outcome."""
        future = self._future
        if future is None:
            with making_futures:
                future = self._future = self._future or LoopFuture()
        if not self.undecided:  # perhaps just before the other side could see the future
            future.try_set(None)
        return future

    # As a lot -------------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> Sequence[bytes]:
        """What stands behind each id."""
        return self._wires

    @property
    def lots(self) -> Sequence[Run]:
        """Itself."""
        return (self,)

    def enter(self, window: dict[int, Entries], last_id: int, outgoing: Outgoing) -> int:
        """See `Lot`. An entry that was dropped before leaves its id unused."""
        self._first_id = last_id + 1
        ids: Sequence[int] = range(self._first_id, self._first_id + len(self))
        last_id = ids[-1]
        wires = self._wires
        if self.undecided < len(self):
            left = [index for index, decided in enumerate(self._decided) if not decided]
            ids, wires = [ids[index] for index in left], [wires[index] for index in left]
        window.update(dict.fromkeys(ids, self))
        outgoing.extend(self.version, ids, wires)
        self._tell_ids(0, len(self))
        return last_id

    def drop_above(self, limit: float, failure: Callable[[int], InvalidArgument], into: Settlement) -> bool:
        """See `Lot`."""
        if self.largest > limit:
            for index, size in enumerate(map(len, self._wires)):
                if size > limit:
                    self._release(index, index + 1, into)
                    self.decide_part(index, index + 1, lambda size=size: failure(size), into)  # type: ignore[misc]
        return self.undecided > 0

    def refuse(self, failure: Failure, into: Settlement) -> None:
        """See `Lot`."""
        self._release(0, len(self), into)
        self.decide_part(0, len(self), failure, into)

    def join(self, start: int, end: int, publishing_id: int) -> None:
        """See `Lot`."""
        if self._ids is None:
            self._ids = [-1] * len(self)
        self._ids[start:end] = [publishing_id] * (end - start)
        self._wires[start:end] = [b""] * (end - start)
        self._tell_ids(start, end)

    def decide_part(self, start: int, end: int, failure: Failure | None, into: Settlement) -> None:
        """See `Lot`."""
        count = self._decided.count(0, start, end)
        if not count:
            return
        fresh: Sequence[int] = range(start, end)
        if count < end - start:
            fresh = [index for index in fresh if not self._decided[index]]
        if failure is not None:
            self._errors.update((index, failure()) for index in fresh)
        self._decided[start:end] = b"\x01" * (end - start)
        self.undecided -= count
        into.settled += count
        self._tell_outcomes(start, end)
        if into.receipts is not None:
            receipts = self.receipts()
            into.receipts.extend(receipts[index] for index in fresh)
        if not self.undecided and self._future is not None:
            self._future.try_set(None)

    # As entries -----------------------------------------------------------------------------------------------------

    def wire_of(self, publishing_id: int) -> bytes:
        """What stands behind an id in the frame."""
        return self._wires[publishing_id - self._first_id]

    def decide(self, ids: Sequence[int], failure: Failure | None, into: Settlement) -> None:
        """See `Entries`."""
        start, end = min(ids) - self._first_id, max(ids) - self._first_id + 1
        if end - start == len(ids):
            self._release(start, end, into)
            self.decide_part(start, end, failure, into)
        else:
            for publishing_id in ids:
                index = publishing_id - self._first_id
                self._release(index, index + 1, into)
                self.decide_part(index, index + 1, failure, into)

    def give_up(self, now: float, failure: Failure, into: Settlement) -> bool:
        """See `Entries`."""
        if self.deadline <= now:
            self.decide_part(0, len(self), failure, into)
        return not self.undecided

    # Inside ---------------------------------------------------------------------------------------------------------

    def _release(self, start: int, end: int, into: Settlement) -> None:
        into.released += end - start
        into.released_bytes += sum(map(len, self._wires[start:end]))
        self._wires[start:end] = [b""] * (end - start)  # whoever keeps the receipt keeps no message

    def _id_of(self, index: int) -> int:
        if self._ids is not None:
            return self._ids[index]
        return self._first_id + index if self._first_id >= 0 else -1

    def _tell_ids(self, start: int, end: int) -> None:
        if (receipts := self._receipts) is not None:
            for index in range(start, end):
                receipts[index].publishing_id = self._id_of(index)

    def _tell_outcomes(self, start: int, end: int) -> None:
        if (receipts := self._receipts) is not None:
            for index in range(start, end):
                if self._decided[index]:
                    receipts[index].settle(self._errors.get(index))


class BatchReceipt:
    """The outcome of one `send_batch`: awaiting it raises the first error, if any message has one.

    It may be awaited any number of times, from any loop, or not at all.
    """

    __slots__ = ("_lots",)

    def __init__(self, lots: Sequence[Receipt | Run]) -> None:
        self._lots = lots

    @property
    def receipts(self) -> list[Receipt]:
        """Those of the single messages, in the order given; made when first asked for."""
        return [receipt for lot in self._lots for receipt in lot.receipts()]

    @property
    def done(self) -> bool:
        """Whether every outcome is known."""
        return not any(lot.undecided for lot in self._lots)

    def __await__(self) -> Generator[Any, None, None]:
        for lot in self._lots:
            if lot.undecided:
                yield from lot.outcome().__await__()
        for lot in self._lots:
            error = lot.error
            if error is not None:
                raise error

    def __len__(self) -> int:
        return sum(lot.messages for lot in self._lots)

    def __repr__(self) -> str:
        return f"<BatchReceipt of {len(self)}: {'done' if self.done else 'waiting'}>"
