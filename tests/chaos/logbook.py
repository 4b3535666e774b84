"""The events of a client, written to a file as they come: kept in memory, they would be taken for the client's own."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from actorstream import Client, events


class Logbook:
    """Line by line: seconds of the monotonic clock, a tab, what happened."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.restarts: array[float] = array("d")
        self._attempts: dict[tuple[str, int], int] = {}

    async def keep(self, client: Client) -> None:
        """Write down what happens, until the client is closed."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w") as lines:
            async for event in client.events():
                at = time.monotonic()
                self._count(at, event)
                lines.write(f"{at:.3f}\t{event.title}: {event}\n")

    def _count(self, at: float, event: events.Event) -> None:
        if isinstance(event, events.ActorRestarting):
            self.restarts.append(at)
        elif isinstance(event, (events.Connected, events.Disconnected)):
            key = event.broker, int(at)
            self._attempts[key] = self._attempts.get(key, 0) + 1

    def attempts_per_second(self) -> dict[str, int]:
        """By broker, the most connections that were tried in one second (I15)."""
        most: dict[str, int] = {}
        for (broker, _), count in self._attempts.items():
            most[broker] = max(most.get(broker, 0), count)
        return most

    def between(self, begin: float, end: float) -> Iterator[tuple[float, str]]:
        """What happened in that time."""
        with self.file.open() as lines:
            for line in lines:
                at, _, text = line.rstrip("\n").partition("\t")
                if text and begin <= float(at) <= end:
                    yield float(at), text
