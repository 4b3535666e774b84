"""A run: many messages that were accepted in one step, whose receipts are made when somebody asks for them."""

from __future__ import annotations

import asyncio

import pytest

from actorstream.actors.batch import BatchReceipt, Run
from actorstream.actors.entries import NEVER
from actorstream.actors.outbox import FLUSH_BYTES, FLUSH_MESSAGES, Outbox
from actorstream.actors.receipt import Receipt
from actorstream.errors import InvalidArgument, MessageTooLarge, PublishRejected, Unconfirmed


def make(*, named: bool = False, max_messages: int = 100_000, max_bytes: int = 10**9) -> Outbox:
    return Outbox(named=named, max_messages=max_messages, max_bytes=max_bytes)


def offer(outbox: Outbox, wires: list[bytes], deadline: float = NEVER) -> list[Run]:
    accepted = outbox.offer_many(wires, 1, deadline)
    assert accepted is not None
    return accepted[0]


def ids(outbox: Outbox) -> list[int]:
    """The ids of the next flush."""
    return [number for _, part, _ in outbox.take().parts for number in part]


def states(run: Run) -> list[str]:
    return ["waiting" if not one.done else "failed" if one.error else "confirmed" for one in run.receipts()]


def test_a_run_has_ids_that_follow_each_other() -> None:
    outbox = make()
    (run,) = offer(outbox, [b"a", b"b", b"c"])

    assert [receipt.publishing_id for receipt in run.receipts()] == [-1, -1, -1]
    assert outbox.take().parts == [(1, [1, 2, 3], [b"a", b"b", b"c"])]
    assert [receipt.publishing_id for receipt in run.receipts()] == [1, 2, 3]


@pytest.mark.parametrize("asked_before", [True, False])
def test_confirms_in_any_order_settle_what_they_name_and_nothing_else(asked_before: bool) -> None:
    outbox = make()
    (run,) = offer(outbox, [b"x"] * 6)
    if asked_before:
        run.receipts()
    outbox.take()
    outbox.confirm([6, 2, 4])
    if asked_before:
        assert states(run) == ["waiting", "confirmed"] * 3
    assert (run.undecided, outbox.confirmed, outbox.room.held, outbox.room.held_bytes) == (3, 3, 3, 3)
    outbox.reject([(3, 17)])
    outbox.confirm([1, 2, 5])

    assert states(run) == ["confirmed", "confirmed", "failed", "confirmed", "confirmed", "confirmed"]
    assert isinstance(run.error, PublishRejected)
    assert (outbox.confirmed, outbox.failed, outbox.undecided, outbox.room.held_bytes) == (5, 1, 0, 0)


def test_the_receipt_of_a_message_is_always_the_same() -> None:
    (run,) = offer(make(), [b"a", b"b"])
    batch = BatchReceipt([run])

    assert [id(receipt) for receipt in batch.receipts] == [id(receipt) for receipt in run.receipts()]


def test_as_many_are_accepted_as_there_is_room_for() -> None:
    outbox = make(max_messages=5, max_bytes=10)
    assert [len(run) for run in offer(outbox, [b"xxx"] * 5)] == [3]
    assert outbox.offer_many([b"xx"], 1, NEVER) is None
    assert [len(run) for run in offer(outbox, [b"x", b"x"])] == [1]
    outbox.take()
    outbox.confirm([1, 2])
    assert [len(run) for run in offer(outbox, [b"x"] * 9)] == [3], "five at most"


def test_a_message_above_the_byte_limit_gets_in_alone() -> None:
    outbox = make(max_bytes=10)
    assert [len(run) for run in offer(outbox, [b"x" * 50, b"x"])] == [1]


def test_one_flush_takes_a_bounded_part_and_says_that_there_is_more() -> None:
    outbox = make()
    runs = offer(outbox, [b"x"] * (2 * FLUSH_MESSAGES + 1))

    assert [len(run) for run in runs] == [FLUSH_MESSAGES, FLUSH_MESSAGES, 1]
    flushes = []
    while outbox.is_queued:
        flushes.append(ids(outbox))
    assert [len(flush) for flush in flushes] == [FLUSH_MESSAGES, FLUSH_MESSAGES, 1]
    assert [number for flush in flushes for number in flush] == list(range(1, 2 * FLUSH_MESSAGES + 2))


def test_a_flush_is_bounded_in_bytes_too_and_single_messages_count_as_much() -> None:
    outbox = make()
    offer(outbox, [b"x" * (FLUSH_BYTES // 2)] * 3)
    assert [len(ids(outbox)) for _ in range(2)] == [2, 1]
    for _ in range(FLUSH_MESSAGES + 5):
        outbox.offer(Receipt(b"x"))
    assert [len(ids(outbox)) for _ in range(2)] == [FLUSH_MESSAGES, 5]


def test_f34_what_no_longer_fits_fails_alone_and_the_others_keep_their_order() -> None:
    outbox = make()
    (run,) = offer(outbox, [b"a", b"x" * 2000, b"c"])
    outbox.frame_max = 1024

    assert outbox.take().parts == [(1, [1, 3], [b"a", b"c"])]
    outbox.confirm([1, 3])
    assert states(run) == ["confirmed", "failed", "confirmed"]
    assert isinstance(run.error, MessageTooLarge)
    assert (outbox.failed, outbox.room.held, outbox.room.held_bytes) == (1, 0, 0)


@pytest.mark.parametrize("named", [True, False])
def test_f38_at_the_deadline_all_that_wait_give_up_and_only_without_a_name_their_room(named: bool) -> None:
    outbox = make(named=named)
    (run,) = offer(outbox, [b"x"] * 4, 5.0)
    outbox.take()
    outbox.confirm([2])
    assert outbox.next_deadline() == 5.0

    assert outbox.expire(5.0) is True
    assert states(run) == ["failed", "confirmed", "failed", "failed"]
    assert isinstance(run.error, Unconfirmed)
    assert outbox.room.held == (3 if named else 0)
    assert outbox.replay().parts == ([(1, [1, 3, 4], [b"x"] * 3)] if named else [])
    assert outbox.next_deadline() == NEVER


def test_a_run_does_not_mix_with_ids_that_are_given() -> None:
    outbox = make()
    outbox.offer(Receipt(b"x", 1))
    with pytest.raises(InvalidArgument, match="give one with each message"):
        outbox.offer_many([b"x"], 1, NEVER)


def test_whoever_keeps_a_receipt_keeps_no_message() -> None:
    outbox = make()
    (run,) = offer(outbox, [b"x", b"x"])
    receipt = Receipt(b"x")
    outbox.offer(receipt)
    outbox.take()
    outbox.confirm([1, 2, 3])
    assert (list(run.entries), receipt.wire) == ([b"", b""], b"")


async def test_a_batch_is_awaited_by_many_and_each_hears_the_first_error() -> None:
    outbox = make()
    batch = BatchReceipt([*offer(outbox, [b"x"] * 3), *offer(outbox, [b"x"] * 2)])
    waiting = [asyncio.create_task(_await(batch)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[2].cancel()
    outbox.take()
    outbox.confirm([1, 2, 3])
    await asyncio.sleep(0)
    assert not waiting[0].done()
    outbox.reject([(5, 17), (4, 18)])

    for one in waiting[:2]:
        with pytest.raises(PublishRejected) as raised:
            await one
        assert raised.value.code == 18
    assert (batch.done, len(batch), waiting[2].cancelled()) == (True, 5, True)


async def _await(batch: BatchReceipt) -> None:
    await batch
