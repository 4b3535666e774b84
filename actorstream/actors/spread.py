"""How the messages of a super stream's producer get to the outboxes of its partitions, in one step where that can be.

What a message costs more than one that is sent to a plain stream is the time between its handle and its partition's
outbox: so all of that is here, and is compiled with the outbox. What has to wait (for an answer of the broker, for
room) and what goes to several partitions at once is left to the handle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from actorstream.actors.intake import Intake, Unplaced
from actorstream.actors.receipt import Receipt
from actorstream.actors.routing_table import Ask, RoutingTable


class Spread:
    """The table, and the ways into the partitions that it names. Any thread."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._intakes: Mapping[str, Intake] = {}

    def use(self, intakes: Mapping[str, Intake], partitions: tuple[str, ...]) -> None:
        """Spread messages over these partitions from now on; `intakes`, which is never changed, has them all.

        Raises:
            InvalidArgument: see `RoutingTable.use`.
        """
        self._intakes = intakes
        self._table.use(partitions)

    def place(
        self, message: Any, publishing_id: Any, filter_value: Any, *, in_turn: bool
    ) -> Receipt | Unplaced | tuple[str, ...] | Ask:
        """Route one message, and have it accepted, if it goes to one partition that has room for it.

        Args:
            message, publishing_id, filter_value, in_turn: as for `Intake.place`.

        Returns:
            Its receipt; or, when nothing was accepted, how far it came: it is encoded for its partition, or it is known
            to go to these partitions (to one that has ended, perhaps), or the broker has to be asked.

        Raises:
            as `RoutingTable.find` and `Intake.place`; nothing was accepted.
        """
        targets = self._table.find(message)
        if isinstance(targets, Ask) or len(targets) > 1:
            return targets
        intake = self._intakes.get(targets[0])
        if intake is None or intake.closed is not None:
            return targets
        return intake.place(message, publishing_id, filter_value, in_turn=in_turn)

    def sort(self, messages: Iterator[Any], into: Sorted) -> tuple[Any, Ask] | None:
        """Route messages until there are none left, or one whose key the broker has to be asked for: that one.

        Raises:
            as `RoutingTable.find`.
        """
        find = self._table.find
        for message in messages:
            targets = find(message)
            if isinstance(targets, Ask):
                return message, targets
            into.add(message, targets)
        return None


class Sorted:
    """Messages by the partitions that they go to.

    Attributes:
        count: how many there are.
        parts: for each partition its messages, and the places that they have among all.
    """

    __slots__ = ("count", "parts")

    def __init__(self) -> None:
        self.count = 0
        self.parts: dict[str, tuple[list[int], list[Any]]] = {}

    def add(self, message: Any, partitions: tuple[str, ...]) -> None:
        """One more."""
        for partition in partitions:
            part = self.parts.get(partition)
            if part is None:
                part = self.parts[partition] = ([], [])
            part[0].append(self.count)
            part[1].append(message)
        self.count += 1
