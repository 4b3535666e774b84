"""What one process of a group wrote down: which messages it had in hand, and when."""

from __future__ import annotations

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
        self._until: dict[str, list[float]] = {}

    def last(self, partition: str) -> int:
        """The highest offset processed so far; -1 before the first."""
        offsets = self.history(partition).offsets
        return max(offsets) if offsets else -1

    def history(self, partition: str) -> ConsumerHistory:
        """What it processed of a partition, in all its lives."""
        self._take_in()
        return self._histories.setdefault(partition, ConsumerHistory(partition))

    def spans(self) -> Iterator[Span]:
        """When it was inside dispatch, message by message."""
        self._take_in()
        for partition, history in self._histories.items():
            ends = self._until.get(partition, [])
            for since, until in zip(history.received_at, ends, strict=True):
                yield Span(self.worker.orders.name, partition, since, until)

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
            partition, offset, producer, number, since, until = line.split()
            history = self._histories.setdefault(partition, ConsumerHistory(partition))
            history.offsets.append(int(offset))
            history.producers.append(int(producer))
            history.numbers.append(int(number))
            history.received_at.append(float(since))
            self._until.setdefault(partition, []).append(float(until))
