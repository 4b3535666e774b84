"""Publishing ids: counted here or given by the sender, and compared with what the broker holds under the same name.

A broker that deduplicates takes every id that is not above the highest it has for a duplicate, which it drops and
confirms. So ids may only ever grow, those of a new producer begin above what an earlier one has left, and an id on the
broker that we have not sent means that somebody else sends under our name.
"""

from __future__ import annotations

from actorstream.errors import InvalidArgument, PublisherFenced

PUBLISHING_ID_MAX = 2**64 - 1


class Numbering:
    """The ids of one outbox.

    Attributes:
        last: the highest publishing id used or seen; 0 when there is none: ids begin at 1, since a broker says 0 for
            "none" (F27).
        last_sent: the highest that was sent; -1 when none was.
        stored: the highest that the broker had when it was last asked; 0 for none.
        is_given: whether the sender gives the ids.
    """

    def __init__(self) -> None:
        self.last = 0
        self.last_sent = -1
        self.stored = 0
        self.is_given = False
        self._last_given = -1

    def check_counted(self) -> None:
        """Raise InvalidArgument for an entry that has no id although others of the producer had."""
        if self.is_given:
            raise InvalidArgument("this producer's publishing ids are given by its user: give one with each message")

    def check_given(self, publishing_id: object, *, is_first: bool) -> None:
        """Whether an entry may have this id; `is_first`: the producer has accepted none before.

        Raises:
            InvalidArgument: it is none, or not above the one before it, or the ones before were counted.
        """
        is_integer = isinstance(publishing_id, int) and not isinstance(publishing_id, bool)
        if not is_integer or not 0 <= publishing_id <= PUBLISHING_ID_MAX:  # type: ignore[operator]
            raise InvalidArgument(f"a publishing id is an integer from 0 to 2**64-1, not {publishing_id!r}")
        assert isinstance(publishing_id, int)
        if not is_first and not self.is_given:
            raise InvalidArgument("this producer counts its publishing ids itself: give one from the first message on")
        if publishing_id <= self._last_given:
            raise InvalidArgument(
                f"publishing id {publishing_id} does not exceed the one before it ({self._last_given}): "
                "the broker would take the message for a duplicate and drop it"
            )

    def give(self, publishing_id: int) -> None:
        """An entry is accepted under this id, which was checked."""
        self.is_given = True
        self._last_given = publishing_id

    def used(self, publishing_id: int) -> None:
        """An entry goes out for the first time under this id, the highest so far."""
        self.last = self.last_sent = publishing_id

    def continue_after(self, sequence: int) -> None:
        """Number new entries above what the broker has stored under this name (F26); never below our own window.

        Raises:
            PublisherFenced: see `check_fence`.
        """
        self.check_fence(sequence)
        self.stored = sequence
        self.last = max(self.last, sequence)

    def check_fence(self, sequence: int) -> None:
        """Compare what the broker has stored under this name with what we have sent.

        What it had at first is no news: who gives ids may begin with some that are stored, to have them dropped.

        Raises:
            PublisherFenced: it has a higher id than any that we have sent.
        """
        if self.last_sent >= 0 and sequence > max(self.last_sent, self.stored):
            raise PublisherFenced(sequence, self.last_sent)
