"""The outcome of what went to several partitions of a super stream, told by one receipt."""

from __future__ import annotations

from collections.abc import Sequence

from actorstream.actors.batch import BatchReceipt, Run
from actorstream.actors.receipt import Receipt


def receipt_of_all(receipts: Sequence[Receipt], *, messages: int = 1) -> Receipt:
    """One receipt for what went to several partitions: it is confirmed when all of them have confirmed it.

    It is settled when all are, with the first error of theirs, in the order given.
    """
    if len(receipts) == 1:
        return receipts[0]
    whole = Receipt(b"", receipts[0].given_id, messages=messages)

    def one_is_done(_: Receipt) -> None:
        # Two of them may come here at once, on two threads; the last one sees all, and only one call counts.
        if all(receipt.done for receipt in receipts):
            whole.settle(next((receipt.error for receipt in receipts if receipt.error is not None), None))

    for receipt in receipts:
        receipt.add_done_callback(one_is_done)
    return whole


class RoutedBatchReceipt(BatchReceipt):
    """The outcome of one `SuperStreamProducer.send_batch`: awaiting it raises the first error of some partition."""

    __slots__ = ("_parts", "_receipts")

    def __init__(self, messages: int, parts: Sequence[tuple[Sequence[int], Sequence[Run]]]) -> None:
        """`parts`: what each partition took, and the places of that among the messages given."""
        super().__init__([run for _, runs in parts for run in runs])
        self._parts = parts
        self._receipts: list[Receipt | None] = [None] * messages

    @property
    def receipts(self) -> list[Receipt]:
        """Those of the single messages, in the order given, whatever their partitions; made when first asked for."""
        of_message: list[list[Receipt]] = [[] for _ in self._receipts]
        for places, runs in self._parts:
            for place, receipt in zip(places, (one for run in runs for one in run.receipts()), strict=True):
                of_message[place].append(receipt)
        for place, receipts in enumerate(of_message):
            if self._receipts[place] is None:
                self._receipts[place] = receipt_of_all(receipts)
        return [receipt for receipt in self._receipts if receipt is not None]

    def __len__(self) -> int:
        return len(self._receipts)
