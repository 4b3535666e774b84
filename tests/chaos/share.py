"""What one process of a group wrote down: which messages it had in hand, and when.

+ PARTITION SIZE SECONDS                       it has a batch in hand
= PARTITION OFFSET PRODUCER NUMBER SECONDS     it is done with one message of it
- PARTITION SECONDS                            and with the batch
! SECONDS                                      it was killed, says who did it
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.history import ConsumerHistory, Span
from tests.chaos.worker import Worker


class Share:
    """The lines of one member's file; read anew each time that it has grown."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._read = 0
        self._histories: dict[str, ConsumerHistory] = {}
        self._begun: dict[str, float] = {}
        self._spans: list[Span] = []

    def last(self, partition: str) -> int:
        """The highest offset processed so far; -1 before the first."""
        offsets = self.history(partition).offsets
        return max(offsets) if offsets else -1

    def history(self, partition: str) -> ConsumerHistory:
        """What it processed of a partition, in all its lives."""
        self._take_in()
        return self._histories.setdefault(partition, ConsumerHistory(partition))

    def spans(self) -> Iterator[Span]:
        """When it had a batch in hand; of one that it was killed with, until it was."""
        self._take_in()
        yield from self._spans
        for partition, since in self._begun.items():
            yield self._span(partition, since, math.inf)

    def _span(self, partition: str, since: float, until: float) -> Span:
        return Span(self.worker.orders.name, partition, since, until)

    def _take_in(self) -> None:
        file = Path(self.worker.orders.file)
        if not file.exists():
            return
        with file.open("rb") as lines:
            lines.seek(self._read)
            whole = lines.read().rpartition(b"\n")[0]
        if not whole:
            return
        self._read += len(whole) + 1
        for line in whole.decode().splitlines():
            kind, *values = line.split()
            at = float(values[-1])
            if kind == "!":
                self._spans += [self._span(partition, since, at) for partition, since in self._begun.items()]
                self._begun.clear()
            elif kind == "+":
                self._begun[values[0]] = at
            elif kind == "-":
                self._spans.append(self._span(values[0], self._begun.pop(values[0]), at))
            else:
                history = self._histories.setdefault(values[0], ConsumerHistory(values[0]))
                history.offsets.append(int(values[1]))
                history.producers.append(int(values[2]))
                history.numbers.append(int(values[3]))
                history.received_at.append(at)
