"""What outlives a publisher's incarnations: every message that has no outcome yet, in order, with its publishing id.

A plain object with two sides. Messages are *offered* by the handle, and by the actor itself for those who tell it to
publish; the *publisher actor* alone takes them, and settles them when the broker has spoken. The two may live on
different threads: a lock makes each offer one step (is there room, is it open, is its id in order, who wakes the
actor), everything else has one writer.

A lot is in the queue (accepted, without an id), then its entries are in the window (they have ids, and were or will be
sent), then they are settled. Each message leaves with exactly one outcome. A named publisher keeps an entry whose
deadline has passed in the window, since a gap in the replay would let the broker take a later id for the highest and
drop what is sent again (F26, F38).
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate

from actorstream.actors.batch import Run
from actorstream.actors.direct import Direct
from actorstream.actors.entries import NEVER, Failure, Lot, Outgoing, Settlement
from actorstream.actors.grouping import Grouping
from actorstream.actors.messages import Negotiated
from actorstream.actors.numbering import Numbering
from actorstream.actors.receipt import Receipt
from actorstream.actors.room import Bell, Room
from actorstream.actors.window import Window
from actorstream.errors import (
    BrokerAway,
    Closed,
    InvalidArgument,
    MessageTooLarge,
    OutboxFull,
    PublishRejected,
    Unconfirmed,
)
from actorstream.options import WhenAway
from actorstream.wire.capabilities import Feature
from actorstream.wire.publish import PUBLISH_OVERHEAD

FLUSH_MESSAGES = 2_048
FLUSH_BYTES = 1_048_576
"""About what one flush takes, before the loop turns and the next one takes more; a lot is never divided for it."""

_ALONE = PUBLISH_OVERHEAD - 4
"""What counts against frame_max besides the entry, when it is alone in its frame."""


class Outbox:
    """The unconfirmed window of one logical publisher, and the queue in front of it; see the module.

    Attributes:
        negotiated: what the publisher's last connection can do; None before the first one.
        filtered: whether it has taken an entry with a filter value, which not every broker understands.
        confirmed, failed: messages with that outcome so far.
        confirmed_bytes: of the entries that the broker confirmed so far, as they were accepted.
        numbering: the publishing ids.
        room: the bounds, and who waits.
        changed: rung when some message has got its outcome or given up its room.
    """

    def __init__(
        self,
        *,
        named: bool,
        max_messages: int,
        max_bytes: int,
        when_away: WhenAway = WhenAway.WAIT,
        grouping: Grouping | None = None,
        on_settled: Callable[[list[Receipt]], None] | None = None,
    ) -> None:
        self.named = named
        self.on_settled = on_settled
        self.filtered = False
        self.confirmed = 0
        self.confirmed_bytes = 0
        self.failed = 0
        self.numbering = Numbering()
        self.room = Room(max_messages, max_bytes)
        self.changed = Bell()
        self._when_away = when_away
        self.negotiated: Negotiated | None = None
        self._attached = False
        self._frame_max = 0
        self._lowered = False  # something may be queued that no longer fits
        self._grouping = grouping
        self._queue: deque[Lot] = deque()
        self._window = Window()
        self._flusher: Direct[None] | None = None
        # Written under the lock, by whoever offers:
        self._offering = threading.Lock()
        self._ended = False

    # Whoever offers: any thread ----------------------------------------------------------------------------------

    def check_size(self, size: int) -> None:
        """Raise `MessageTooLarge` for an entry of so many bytes, if it would not fit a frame of its own."""
        if self.frame_max and size + _ALONE > self.frame_max:
            raise MessageTooLarge(size + _ALONE, self.frame_max)

    def check_filters(self) -> None:
        """Whether entries may have filter values.

        Raises:
            InvalidArgument: the producer groups messages, and the protocol has no filter values in sub-entries.
            UnsupportedByBroker: it does not know them.
        """
        if self._grouping is not None:
            raise InvalidArgument(
                "filter_value and sub_entry_size exclude each other: the protocol has no filter values in sub-entries"
            )
        if self.negotiated is not None:
            self.negotiated.require(Feature.FILTERING)

    def offer(self, receipt: Receipt) -> bool | None:
        """Accept one entry; None when there is no room for it, and it may be offered again.

        Returns:
            Whether the caller has to wake the actor: it is the first that waits.

        Raises:
            Closed: `end` was called.
            BrokerAway: there is no connection, and the producer's option says to fail then.
            InvalidArgument: the publishing id does not fit.
        """
        size = len(receipt.wire)
        with self._offering:
            if self._ended or not self._attached:
                self._check_open()
            if receipt.given_id is not None or self.numbering.is_given:
                self._check_id(receipt)
            if not self.room.take_if_fits(receipt.messages, size):
                return None
            if receipt.given_id is not None:
                self.numbering.give(receipt.given_id)
            return self._accept(receipt)

    def flush_if_alone(self) -> bool:
        """Have the one message that is queued sent at once, if it is alone: whether that was done.

        Where others are under way already, more may come until the loop has turned, and leave in the same frame.
        """
        flusher = self._flusher
        return flusher is not None and not self._window and flusher(None)

    def would_take(self, receipt: Receipt) -> bool:
        """Whether `offer` would accept it at this moment; raises what that would raise."""
        with self._offering:
            self._check_open()
            self._check_id(receipt)
            return self.room.fits(receipt.messages, receipt.size)

    def offer_many(self, wires: Sequence[bytes], version: int, deadline: float) -> tuple[list[Run], bool] | None:
        """Accept as many entries as there is room for, from the first on, in one step; None when there is none.

        Returns:
            What was accepted, and whether the caller has to wake the actor.

        Raises:
            Closed, BrokerAway, InvalidArgument: as for `offer`.
        """
        with self._offering:
            self._check_open()
            self.numbering.check_counted()
            sizes = list(map(len, wires))
            count = self.room.how_many(sizes)
            if not count:
                return None
            runs = [
                Run(list(wires[start:end]), version=version, deadline=deadline) for start, end in _parts(sizes[:count])
            ]
            self.room.take(count, sum(run.size for run in runs))
            wakes = [self._accept(run) for run in runs]
            # Any of them, not the first alone: another thread may have taken all that was there in between.
            return runs, any(wakes)

    def _accept(self, lot: Lot) -> bool:
        if lot.version > 1:
            self.filtered = True
        self._queue.append(lot)
        # Looked at after the append: whoever was there before is still to be taken, and the actor looks again after it
        # has taken some. Under the lock, or of two who append at once each would leave it to the other.
        return len(self._queue) == 1

    def _check_id(self, receipt: Receipt) -> None:
        if receipt.given_id is None:
            self.numbering.check_counted()
        else:
            self.numbering.check_given(receipt.given_id, is_first=not self.room.accepted)

    def _check_open(self) -> None:
        if self._ended:
            raise Closed("the producer is closed")
        if self._when_away is WhenAway.FAIL and not self._attached:
            raise BrokerAway("there is no connection to the stream's leader at this moment; the message was not sent")

    def check_wait(self) -> None:
        """Raise `OutboxFull` if whoever has found no room is not to wait for it: the broker is away, and so chosen.

        Raises:
            Closed, BrokerAway: as for `offer`.
        """
        self._check_open()
        if self._when_away is WhenAway.BUFFER and not self._attached:
            raise OutboxFull(
                f"{self.room.held} messages ({self.room.held_bytes} bytes) are unconfirmed, and there is no connection "
                "to the stream's leader at this moment"
            )

    @property
    def undecided(self) -> int:
        """Messages without an outcome."""
        return self.room.accepted - self.confirmed - self.failed

    def without_outcome(self) -> list[Lot]:
        """What was accepted so far and has no outcome yet, in its order."""
        queued = list(self._queue)  # before the window: what moves meanwhile is in both, and not in neither
        return [lot for lot in dict.fromkeys((*self._window.lots(), *queued)) if lot.undecided]

    @property
    def queued(self) -> int:
        """Messages that were not sent yet."""
        return sum(lot.undecided for lot in list(self._queue))

    @property
    def is_queued(self) -> bool:
        """Whether something was not sent yet."""
        return bool(self._queue)

    # The actor's side -------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Entries in the window: sent, or to be sent again."""
        return len(self._window)

    def attach(self, flusher: Direct[None]) -> None:
        """There is a connection, and what is accepted is sent at once; `flusher` sends what is queued."""
        self._attached = True
        self._flusher = flusher

    def detach(self) -> None:
        """There is none: whoever waits for room looks again whether to wait on."""
        self._attached = False
        self._flusher = None
        if self._when_away is not WhenAway.WAIT:
            self.room.wake_all()

    def take(self) -> Outgoing:
        """Move lots from the queue into the window, each entry with its publishing id, in the order accepted.

        About `FLUSH_MESSAGES` of them, or `FLUSH_BYTES`: then `is_queued` says whether there are more. What does not
        fit a frame fails here: it was queued when the broker before this one allowed larger ones.
        """
        outgoing = Outgoing()
        dropped = self._settlement()
        if self._grouping is None:
            self._take_lots(outgoing, dropped)
        else:
            self._take_groups(self._grouping, outgoing, dropped)
        self._close_failed(dropped)
        return outgoing

    def _take_lots(self, outgoing: Outgoing, dropped: Settlement) -> None:
        queue, window, limit, last_id = self._queue, self._window, self._limit, self.numbering.last
        while queue and outgoing.count < FLUSH_MESSAGES and outgoing.size < FLUSH_BYTES:
            lot = queue[0]
            if not self._lowered or lot.drop_above(limit, self._too_large, dropped):
                last_id = lot.enter(window, last_id, outgoing)
            queue.popleft()  # only now: another thread that looks finds it in the one or in the other
        if outgoing.count:
            self.numbering.used(last_id)

    def _take_groups(self, grouping: Grouping, outgoing: Outgoing, dropped: Settlement) -> None:
        queue = self._queue
        lots: list[Lot] = []
        messages = size = 0
        while len(lots) < len(queue) and messages < FLUSH_MESSAGES and size < FLUSH_BYTES:
            lot = queue[len(lots)]
            lots.append(lot)
            messages, size = messages + lot.messages, size + lot.size
        numbering = self.numbering
        for group in grouping.group(lots, self._limit, numbering.stored, self._too_large, dropped):
            numbering.used(group.enter(self._window, numbering.last, outgoing))
        for _ in lots:
            queue.popleft()

    @property
    def frame_max(self) -> int:
        """Of the connection that the publisher is attached to, or was; 0 for no limit."""
        return self._frame_max

    @frame_max.setter
    def frame_max(self, frame_max: int) -> None:
        if frame_max and (not self._frame_max or frame_max < self._frame_max):
            # Once and for all: someone may have compared with the old one, and not have queued it yet.
            self._lowered = self._lowered or bool(self._frame_max) or bool(self._queue)
        self._frame_max = frame_max

    @property
    def _limit(self) -> float:
        """Bytes of the largest entry that may be sent."""
        return self._frame_max - _ALONE if self._frame_max else math.inf

    def _too_large(self, size: int) -> MessageTooLarge:
        return MessageTooLarge(size + _ALONE, self.frame_max)

    def replay(self) -> Outgoing:
        """The whole window in its order, to be sent before anything new, under the same ids and in the same groups.

        What does not fit a frame of the new connection cannot be sent again: its fate stays unknown.
        """
        outgoing, oversized = self._window.replay(self._limit)
        text = f"it may be stored, and does not fit this broker's frame_max of {self.frame_max} to be sent again"
        self._decide(oversized, partial(Unconfirmed, text))
        return outgoing

    def confirm(self, ids: Sequence[int]) -> None:
        """The broker confirmed these ids: a set, never cumulative. Unknown ones (late, repeated) are ignored."""
        self._decide(ids, None)

    def reject(self, failures: Iterable[tuple[int, int]]) -> None:
        """The broker refused these (publishing id, code); they are not replayed (F43)."""
        for publishing_id, code in failures:
            self._decide((publishing_id,), partial(PublishRejected, code))

    def fail_window(self, failure: Failure) -> None:
        """Give everything that was sent its outcome: the fate is unknown and nobody will ask again."""
        self._decide(list(self._window), failure)

    def end(self, failure: Failure) -> None:
        """Accept nothing any more, and give everything its outcome, sent or not. When the actor is gone; repeatable."""
        with self._offering:  # whoever offers at this moment gets in before, and has an outcome, or is told
            self._ended = True
        self.room.end()
        self.fail_window(failure)
        self._refuse_queued(NEVER, failure)

    def expire(self, now: float) -> bool:
        """Settle what has passed its deadline as `Unconfirmed`; True when something that was sent is among it."""
        sent = self._settlement()
        failure = partial(Unconfirmed, "no confirm by the deadline: it may be stored")
        over = self._window.give_up(now, failure, sent)
        self._close_failed(sent)
        if not self.named:
            self._decide(over, failure)
        self._refuse_queued(now, partial(Unconfirmed, "it was not sent by the deadline, and will not be"))
        return sent.settled > 0

    def next_deadline(self) -> float:
        """When `expire` has something to do; `NEVER` when nothing waits."""
        return min(self._window.next_deadline(), self._queue[0].deadline if self._queue else NEVER)

    # Books ------------------------------------------------------------------------------------------------------

    def _decide(self, ids: Sequence[int], failure: Failure | None) -> None:
        """Take these out of the window, each with its outcome."""
        settlement = self._settlement()
        self._window.decide(ids, failure, settlement)
        if failure is None:
            self.confirmed += settlement.settled
            self.confirmed_bytes += settlement.released_bytes
            self._close(settlement)
        else:
            self._close_failed(settlement)

    def _refuse_queued(self, until: float, failure: Failure) -> None:
        settlement = self._settlement()
        while self._queue and self._queue[0].deadline <= until:
            self._queue[0].refuse(failure, settlement)
            self._queue.popleft()
        self._close_failed(settlement)

    def _settlement(self) -> Settlement:
        return Settlement(with_receipts=self.on_settled is not None)

    def _close_failed(self, settlement: Settlement) -> None:
        self.failed += settlement.settled
        self._close(settlement)

    def _close(self, settlement: Settlement) -> None:
        if settlement.receipts and self.on_settled is not None:
            self.on_settled(settlement.receipts)
        if settlement.settled or settlement.released:
            self.room.release(settlement.released, settlement.released_bytes)
            self.changed.ring()


def _parts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """From and up to: what one flush takes, so that a flush never has to divide a lot."""
    parts: list[tuple[int, int]] = []
    start, ends = 0, list(accumulate(sizes))
    while start < len(sizes):
        before = ends[start] - sizes[start]
        end = min(start + FLUSH_MESSAGES, bisect_left(ends, before + FLUSH_BYTES, start) + 1, len(sizes))
        parts.append((start, end))
        start = end
    return parts
