"""How messages come from a handle into an outbox: encoded, with their deadline, and with a word to the actor.

What a handle does for each message is here, and is compiled with the outbox; what takes waiting is the handle's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from actorstream.actors import messages as m
from actorstream.actors.batch import Run
from actorstream.actors.calls import tell
from actorstream.actors.encoding import Encoder, several
from actorstream.actors.entries import NEVER
from actorstream.actors.mailbox import Tellable
from actorstream.actors.outbox import Outbox
from actorstream.actors.receipt import Receipt
from actorstream.errors import ActorStreamError, Closed

_FLUSH = m.Flush()


class Intake:
    """The way into one outbox, for those who hold its producer. Any thread.

    Attributes:
        stream: its name, for errors.
        outbox: what takes the messages.
        ref: the actor that is told when the first one waits; None: it is not started yet, and looks by itself.
        closed: why nothing is taken any more, once that is so.
    """

    def __init__(
        self, stream: str, outbox: Outbox, encoder: Encoder, confirm_timeout_s: float | None, now: Callable[[], float]
    ) -> None:
        """`now` gives the seconds of the loop's clock, by which deadlines are kept."""
        self.stream = stream
        self.outbox = outbox
        self.ref: Tellable | None = None
        self.closed: ActorStreamError | None = None
        self._encoder = encoder
        self._timeout_s = confirm_timeout_s
        self._now = now

    def check_open(self) -> None:
        """Raise `Closed`, with the reason chained, if nothing is taken any more."""
        if self.closed is not None:
            error = Closed(f"the producer of {self.stream!r} is closed")
            error.__cause__ = self.closed  # compiled, `raise from` leaves the cause out
            raise error

    def place(
        self, message: Any, publishing_id: Any, filter_value: Any, *, in_turn: bool, awaited: bool = False
    ) -> Receipt | Unplaced:
        """Encode one message, and have it accepted if there is room for it.

        Args:
            message: what users publish.
            publishing_id, filter_value: as for `Encoder.receipt`.
            in_turn: do not overtake those who wait, where that would be unjust.
            awaited: whoever sends it does nothing before it is confirmed: alone, it need not wait for the loop to turn.

        Raises:
            as `Encoder.receipt` and `offer`; nothing was accepted.
        """
        receipt = self._encoder.receipt(self.outbox, message, publishing_id, filter_value)
        if (in_turn and self.outbox.room.others_first) or not self.offer(receipt, awaited=awaited):
            return Unplaced(self, receipt)
        return receipt

    def encode(self, message: Any, publishing_id: Any, filter_value: Any) -> Receipt:
        """One message, ready to be offered; see `Encoder.receipt`."""
        return self._encoder.receipt(self.outbox, message, publishing_id, filter_value)

    def offer(self, receipt: Receipt, *, awaited: bool = False) -> bool:
        """Have it accepted, if there is room. `awaited`: as for `place`.

        Raises:
            Closed: the producer is closed.
            BrokerAway, InvalidArgument: as `Outbox.offer`.
        """
        if self.closed is not None:
            self.check_open()
        receipt.deadline = self._deadline()
        is_first = self.outbox.offer(receipt)
        if is_first and not (awaited and self.outbox.flush_if_alone()):
            tell(self.ref, _FLUSH)
        return is_first is not None

    def would_take(self, receipt: Receipt) -> bool:
        """Whether `offer` would have it accepted at this moment; raises what that would raise."""
        self.check_open()
        return self.outbox.would_take(receipt)

    def load(self, messages: Iterable[Any]) -> Load:
        """Many messages, encoded and ready to be offered.

        Raises:
            InvalidArgument, MessageCodecError, MessageTooLarge: one cannot be encoded or sent.
        """
        encode = self._encoder.encode
        wires = [encode(body) for body in several(messages)]
        if wires:
            self.outbox.check_size(max(map(len, wires)))
        return Load(self, wires)

    def offer_many(self, wires: list[bytes]) -> list[Run]:
        """Have as many of them accepted as there is room for, from the first on; what they are now.

        Raises:
            Closed, BrokerAway, InvalidArgument: as `offer`.
        """
        self.check_open()
        accepted = self.outbox.offer_many(wires, self._encoder.version, self._deadline())
        if accepted is None:
            return []
        runs, is_first = accepted
        if is_first:
            tell(self.ref, _FLUSH)
        return runs

    def _deadline(self) -> float:
        timeout = self._timeout_s
        return NEVER if timeout is None else self._now() + timeout


class Unplaced:
    """A message for which there was no room, or before which it is another one's turn.

    Attributes:
        intake: where it has to go.
        receipt: the message, encoded, to be offered there.
    """

    __slots__ = ("intake", "receipt")

    def __init__(self, intake: Intake, receipt: Receipt) -> None:
        self.intake = intake
        self.receipt = receipt


class Load:
    """The messages of one batch on their way into one outbox.

    Attributes:
        runs: those that were accepted.
    """

    __slots__ = ("_intake", "_wires", "runs")

    def __init__(self, intake: Intake, wires: list[bytes]) -> None:
        self.runs: list[Run] = []
        self._intake = intake
        self._wires = wires

    @property
    def left(self) -> int:
        """How many are not accepted yet."""
        return len(self._wires)

    @property
    def next_size(self) -> int:
        """Bytes of the first one of these."""
        return len(self._wires[0])

    def offer(self) -> bool:
        """Have as many accepted as there is room for; whether that is any. Raises as `Intake.offer_many`."""
        runs = self._intake.offer_many(self._wires)
        if not runs:
            return False
        self.runs.extend(runs)
        self._wires = self._wires[sum(map(len, runs)) :]
        return True

    def offer_in_turn(self) -> bool:
        """`offer`, unless that would overtake somebody who should not be."""
        return not self._intake.outbox.room.others_first and self.offer()
