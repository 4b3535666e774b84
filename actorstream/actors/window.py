"""The entries that were sent and are not settled, in the order of their publishing ids.

It maps ids to what stands behind them: a `Receipt`, a `Run`, a `Group`. Several ids may lead to one of these, and those
of one stand together; so neighbours are dealt with in one step.
"""

from __future__ import annotations

from collections.abc import Sequence

from actorstream.actors.entries import NEVER, Entries, Failure, Lot, Outgoing, Settlement


class Window(dict[int, Entries]):
    """See the module. Only the publisher actor changes it; any thread may ask for its `lots`."""

    def lots(self) -> list[Lot]:
        """Those whose messages are in it, each once or more."""
        # The copies are made in C, while no other thread runs.
        return [lot for entries in dict.fromkeys(list(self.values())) for lot in entries.lots]

    def replay(self, limit: float) -> tuple[Outgoing, list[int]]:
        """All of it, to be sent again; and the ids of what does not fit into `limit` bytes, and is left out."""
        outgoing = Outgoing()
        oversized: list[int] = []
        for publishing_id, entries in self.items():
            wire = entries.wire_of(publishing_id)
            if len(wire) > limit:
                oversized.append(publishing_id)
            else:
                outgoing.append(entries.version, publishing_id, wire)
        return outgoing, oversized

    def decide(self, ids: Sequence[int], failure: Failure | None, into: Settlement) -> None:
        """Take these out, each with its outcome. Ids that are not there (late, repeated) are ignored."""
        pop = self.pop
        found = [pop(publishing_id, None) for publishing_id in ids]
        count = len(found)
        start = 0
        while start < count:
            entries = found[start]
            end = start + 1
            while end < count and found[end] is entries:
                end += 1
            if entries is not None:
                entries.decide(ids[start:end], failure, into)
            start = end

    def give_up(self, now: float, failure: Failure, into: Settlement) -> list[int]:
        """Settle what has passed its deadline, and keep it; the ids behind which nothing waits any more."""
        over: list[int] = []
        last: Entries | None = None
        is_over = False
        for publishing_id, entries in self.items():
            if entries is not last:
                if entries.deadline > now:
                    break
                last, is_over = entries, entries.give_up(now, failure, into)
            if is_over:
                over.append(publishing_id)
        return over

    def next_deadline(self) -> float:
        """When `give_up` has something to do."""
        return next((entries.deadline for entries in self.values() if entries.undecided), NEVER)
