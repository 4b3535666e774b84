"""The outbox: every receipt has exactly one outcome, order and bounds hold, whatever comes in whatever order."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from actorstream.actors import batch as batch_module, receipt as receipt_module
from actorstream.actors.batch import BatchReceipt, Run
from actorstream.actors.encoding import encode_entry
from actorstream.actors.entries import NEVER, Entries, Lot, Settlement
from actorstream.actors.future import LoopFuture
from actorstream.actors.grouping import Grouping
from actorstream.actors.outbox import FLUSH_MESSAGES, Outbox
from actorstream.actors.receipt import Receipt
from actorstream.compression import Compression
from actorstream.errors import (
    Closed,
    InvalidArgument,
    MessageTooLarge,
    PublisherFenced,
    PublishRejected,
    Unconfirmed,
)
from actorstream.wire.message import Message
from actorstream.wire.publish import PUBLISH_OVERHEAD, publish_frames
from tests.modes import interpreted_only


def make(
    *,
    named: bool = False,
    max_messages: int = 100,
    max_bytes: int = 10_000,
    on_settled: Callable[[list[Receipt]], None] | None = None,
) -> Outbox:
    return Outbox(named=named, max_messages=max_messages, max_bytes=max_bytes, on_settled=on_settled)


def offer(outbox: Outbox, wire: bytes = b"x", deadline: float = NEVER, publishing_id: int | None = None) -> Receipt:
    receipt = Receipt(wire, publishing_id, deadline=deadline)
    assert outbox.offer(receipt) is not None
    return receipt


def has_room(outbox: Outbox, wire: bytes = b"x") -> bool:
    """Whether an entry is accepted; then it is there."""
    return outbox.offer(Receipt(wire)) is not None


def take(outbox: Outbox) -> list[Entries]:
    """What goes into the window."""
    return [outbox._window[number] for _, ids, _ in outbox.take().parts for number in ids]


def replay(outbox: Outbox) -> list[Entries]:
    return [outbox._window[number] for _, ids, _ in outbox.replay().parts for number in ids]


def unconfirmed() -> Unconfirmed:
    return Unconfirmed("the end")


# Ids and order


def test_f27_ids_count_from_one_in_the_order_of_the_offers() -> None:
    """F27: 0 is what a broker says when it has nothing."""
    outbox = make()
    receipts = [offer(outbox) for _ in range(3)]

    assert take(outbox) == receipts
    assert [receipt.publishing_id for receipt in receipts] == [1, 2, 3]


def test_a_receipt_has_no_id_before_it_is_taken() -> None:
    assert offer(make()).publishing_id == -1


def test_f26_new_ids_begin_above_what_the_broker_has() -> None:
    outbox = make(named=True)
    waiting = offer(outbox)
    outbox.numbering.continue_after(41)
    take(outbox)

    assert waiting.publishing_id == 42


def test_f26_a_window_keeps_its_ids_whatever_the_broker_says() -> None:
    outbox = make(named=True)
    receipts = [offer(outbox) for _ in range(3)]
    take(outbox)
    outbox.numbering.continue_after(2)
    late = offer(outbox)

    assert outbox.replay().parts == [(1, [1, 2, 3], [b"x"] * 3)]
    assert replay(outbox) == receipts
    take(outbox)
    assert late.publishing_id == 4


def test_f42_numbering_goes_on_when_the_stream_was_made_anew() -> None:
    outbox = make(named=True)
    outbox.numbering.continue_after(10)
    offer(outbox)
    take(outbox)
    outbox.numbering.continue_after(0)
    late = offer(outbox)
    take(outbox)

    assert late.publishing_id == 12


def test_f28_an_id_above_all_that_we_have_sent_means_a_second_writer() -> None:
    outbox = make(named=True)
    outbox.numbering.continue_after(10)  # what an earlier process has left
    offer(outbox)
    take(outbox)
    outbox.numbering.continue_after(11)  # our own

    with pytest.raises(PublisherFenced) as raised:
        outbox.numbering.continue_after(12)
    assert (raised.value.sequence, raised.value.sent) == (12, 11)


def test_f28_before_anything_was_sent_no_id_of_the_broker_is_too_high() -> None:
    outbox = make(named=True)
    outbox.numbering.continue_after(10)
    outbox.numbering.continue_after(20)
    receipt = offer(outbox)
    take(outbox)

    assert receipt.publishing_id == 21


def test_f28_ids_given_from_below_what_the_broker_held_at_first_are_no_sign_of_a_second_writer() -> None:
    outbox = make(named=True)
    outbox.numbering.continue_after(100)
    offer(outbox, publishing_id=50)  # sent again by a process that does not know how far the one before it came
    take(outbox)
    outbox.numbering.continue_after(100)
    offer(outbox, publishing_id=103)
    take(outbox)
    outbox.numbering.continue_after(103)

    with pytest.raises(PublisherFenced):
        outbox.numbering.continue_after(104)


def test_ids_of_the_user_are_kept() -> None:
    outbox = make(named=True)
    outbox.numbering.continue_after(3)
    receipts = [offer(outbox, publishing_id=number) for number in (0, 7, 2**64 - 1)]
    take(outbox)

    assert [receipt.publishing_id for receipt in receipts] == [0, 7, 2**64 - 1]


@pytest.mark.parametrize("wrong", [-1, 2**64, "7", 1.0, True])
def test_an_id_that_is_none_is_refused_and_leaves_nothing_behind(wrong: Any) -> None:
    outbox = make()

    with pytest.raises(InvalidArgument, match="a publishing id is an integer from 0"):
        outbox.offer(Receipt(b"x", wrong))
    assert (outbox.room.held, outbox.queued, outbox.undecided) == (0, 0, 0)


@pytest.mark.parametrize("second", [5, 4, 0])
def test_an_id_that_does_not_exceed_the_one_before_is_refused(second: int) -> None:
    outbox = make()
    offer(outbox, publishing_id=5)

    with pytest.raises(InvalidArgument, match="does not exceed the one before it"):
        offer(outbox, publishing_id=second)
    assert outbox.room.held == 1


def test_a_producer_takes_all_ids_from_its_user_or_none() -> None:
    counting, given = make(), make()
    offer(counting)
    offer(given, publishing_id=1)

    with pytest.raises(InvalidArgument, match="from the first message on"):
        offer(counting, publishing_id=7)
    with pytest.raises(InvalidArgument, match="give one with each message"):
        offer(given)


def test_an_id_that_found_no_room_may_be_offered_again() -> None:
    outbox = make(max_messages=1)
    offer(outbox, publishing_id=1)
    assert outbox.offer(Receipt(b"x", 2)) is None
    take(outbox)
    outbox.confirm([1])

    assert outbox.offer(Receipt(b"x", 2)) is not None


# Outcomes


def test_confirms_are_a_set_and_never_cumulative() -> None:
    outbox = make()
    receipts = [offer(outbox) for _ in range(4)]
    take(outbox)
    outbox.confirm([4, 2])

    assert [receipt.confirmed for receipt in receipts] == [False, True, False, True]
    assert (outbox.confirmed, outbox.undecided) == (2, 2)


def test_f32_unknown_and_repeated_confirms_change_nothing() -> None:
    outbox = make()
    receipt = offer(outbox)
    take(outbox)
    outbox.confirm([1, 1, 99])
    outbox.confirm([1])

    assert receipt.confirmed
    assert (outbox.confirmed, outbox.room.held, outbox.room.held_bytes) == (1, 0, 0)


def test_f43_a_refusal_is_for_its_id_alone_and_is_not_replayed() -> None:
    outbox = make()
    first, second, third = (offer(outbox) for _ in range(3))
    take(outbox)
    outbox.reject([(2, 17), (50, 17)])

    assert isinstance(second.error, PublishRejected)
    assert second.error.code == 17
    assert replay(outbox) == [first, third]
    assert (outbox.failed, outbox.undecided) == (1, 2)


def test_a_confirm_after_the_deadline_does_not_change_the_outcome() -> None:
    outbox = make(named=True)
    receipt = offer(outbox, deadline=5.0)
    take(outbox)
    outbox.expire(5.0)
    outbox.confirm([1])

    assert isinstance(receipt.error, Unconfirmed)
    assert (outbox.confirmed, outbox.failed, outbox.room.held) == (0, 1, 0)


def test_the_end_settles_what_was_sent_and_what_was_not_and_takes_nothing_more() -> None:
    outbox = make()
    sent = offer(outbox)
    take(outbox)
    queued = offer(outbox)
    outbox.end(unconfirmed)
    outbox.end(unconfirmed)

    assert isinstance(sent.error, Unconfirmed)
    assert isinstance(queued.error, Unconfirmed)
    assert (outbox.failed, outbox.undecided, outbox.room.held, outbox.room.held_bytes) == (2, 0, 0, 0)
    with pytest.raises(Closed):
        offer(outbox)


def test_what_is_settled_is_told_in_batches() -> None:
    told: list[list[Receipt]] = []
    outbox = make(on_settled=told.append)
    receipts = [offer(outbox) for _ in range(3)]
    take(outbox)
    outbox.confirm([1, 2])
    outbox.confirm([1])
    outbox.end(unconfirmed)

    assert told == [receipts[:2], receipts[2:]]


# Deadlines


def test_f38_without_a_name_an_expired_message_is_given_up() -> None:
    outbox = make()
    early, late = offer(outbox, deadline=5.0), offer(outbox, deadline=6.0)
    take(outbox)

    assert outbox.expire(4.9) is False
    assert outbox.expire(5.0) is True
    assert isinstance(early.error, Unconfirmed)
    assert replay(outbox) == [late]
    assert outbox.room.held == 1


def test_f38_with_a_name_an_expired_message_stays_in_the_replay_and_holds_its_room() -> None:
    outbox = make(named=True)
    early, late = offer(outbox, deadline=5.0), offer(outbox, deadline=6.0)
    take(outbox)

    assert outbox.expire(5.0) is True
    assert isinstance(early.error, Unconfirmed)
    assert replay(outbox) == [early, late]
    assert (outbox.room.held, outbox.undecided, outbox.failed) == (2, 1, 1)
    assert outbox.expire(5.5) is False, "it expires once"
    assert outbox.next_deadline() == 6.0


@pytest.mark.parametrize("named", [False, True])
def test_what_was_not_sent_by_its_deadline_is_never_sent(named: bool) -> None:
    outbox = make(named=named)
    late = offer(outbox, deadline=5.0)
    fresh = offer(outbox, deadline=9.0)

    assert outbox.expire(5.0) is False, "the connection is not to blame for what it was not given"
    assert isinstance(late.error, Unconfirmed)
    assert take(outbox) == [fresh]
    assert fresh.publishing_id == 1
    assert outbox.room.held == 1


def test_the_next_deadline_is_the_earliest_of_what_waits() -> None:
    outbox = make()
    assert outbox.next_deadline() == NEVER
    offer(outbox, deadline=7.0)
    assert outbox.next_deadline() == 7.0
    take(outbox)
    offer(outbox, deadline=8.0)
    assert outbox.next_deadline() == 7.0
    outbox.confirm([1])
    assert outbox.next_deadline() == 8.0


# Bounds


def test_f36_the_bound_counts_what_is_queued_and_what_is_in_flight() -> None:
    outbox = make(max_messages=2)
    offer(outbox)
    take(outbox)
    offer(outbox)

    assert not has_room(outbox)
    outbox.confirm([1])
    assert has_room(outbox)


def test_f36_bytes_are_bounded_too() -> None:
    outbox = make(max_bytes=10)
    offer(outbox, b"x" * 6)

    assert not has_room(outbox, b"x" * 5)
    assert has_room(outbox, b"x" * 4)
    assert outbox.room.held_bytes == 10


def test_an_entry_above_the_byte_limit_gets_in_alone() -> None:
    outbox = make(max_bytes=10)
    offer(outbox, b"x" * 50)

    assert not has_room(outbox)
    take(outbox)
    outbox.confirm([1])
    assert outbox.room.held_bytes == 0


def test_f37_replaying_takes_no_room() -> None:
    outbox = make(max_messages=1)
    receipt = offer(outbox)
    take(outbox)

    assert replay(outbox) == replay(outbox) == [receipt]
    assert outbox.room.held == 1


def test_f34_one_entry_fits_exactly_as_long_as_its_frame_does() -> None:
    outbox = make()
    outbox.frame_max = 1024
    largest = b"x" * (1024 - PUBLISH_OVERHEAD + 4)
    outbox.check_size(len(largest))

    assert len(publish_frames(0, 1, [1], [largest], 1024)[0]) == 1024 + 4
    with pytest.raises(MessageTooLarge):
        outbox.check_size(len(largest) + 1)
    with pytest.raises(MessageTooLarge):
        publish_frames(0, 1, [1], [largest + b"x"], 1024)


def test_f34_what_was_queued_for_a_larger_frame_fails_alone_and_takes_no_id() -> None:
    outbox = make()
    before, large, after = offer(outbox), offer(outbox, b"x" * 2000), offer(outbox)
    outbox.frame_max = 1024

    assert take(outbox) == [before, after]
    assert isinstance(large.error, MessageTooLarge)
    assert [before.publishing_id, after.publishing_id] == [1, 2]
    assert outbox.room.held == 2


def test_f34_what_was_sent_in_a_larger_frame_is_unconfirmed_and_not_refused() -> None:
    outbox = make(named=True)
    before, large, after = offer(outbox), offer(outbox, b"x" * 2000), offer(outbox)
    take(outbox)
    outbox.frame_max = 1024

    assert replay(outbox) == [before, after]
    assert isinstance(large.error, Unconfirmed), "it may be stored"


async def test_a_change_wakes_all_who_wait() -> None:
    outbox = make()
    offer(outbox)
    take(outbox)
    one, other, gone = outbox.changed.wait(), outbox.changed.wait(), outbox.changed.wait()
    outbox.changed.ignore(gone)
    outbox.confirm([1])

    await one
    await other
    assert not gone.done()


# Two threads


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Interrupted(deque[Lot]):
    """A queue in the middle of whose first append another thread tries to offer, and has time to get through."""

    def __init__(self, other: threading.Thread) -> None:
        super().__init__()
        self._other = other

    def append(self, lot: Lot) -> None:
        super().append(lot)
        if not self._other.ident:
            self._other.start()
            self._other.join(0.1)


def offer_from_two_threads(outbox: Outbox) -> list[bool | None]:
    results: list[bool | None] = []
    other = threading.Thread(target=lambda: results.append(outbox.offer(Receipt(b"x"))))
    outbox._queue = Interrupted(other)
    results.append(outbox.offer(Receipt(b"x")))
    other.join(5)
    return results


def test_of_two_threads_that_offer_at_once_one_wakes_the_actor() -> None:
    results = offer_from_two_threads(make())

    assert sorted(map(bool, results)) == [False, True]


@interpreted_only
def test_an_offer_of_many_wakes_the_actor_also_when_it_took_the_first_of_them_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outbox = make(max_messages=10_000, max_bytes=1_000_000)
    offer(outbox)
    accept = outbox._accept

    def taken_at_once(lot: Lot) -> bool:
        wakes = accept(lot)
        if not outbox.in_flight:
            outbox.take()  # as the actor does on its own thread
            outbox.take()
        return wakes

    monkeypatch.setattr(outbox, "_accept", taken_at_once)
    accepted = outbox.offer_many([b"x"] * (FLUSH_MESSAGES + 1), 1, NEVER)
    assert accepted is not None
    runs, wakes = accepted
    assert len(runs) == 2
    assert outbox.is_queued
    assert wakes


@pytest.mark.usefixtures("hasty_threads")
def test_what_is_offered_while_the_outbox_ends_has_an_outcome_or_is_refused() -> None:
    for _ in range(20):
        outbox = make(max_messages=10**6, max_bytes=10**9)
        receipts: list[Receipt] = []
        started = threading.Event()

        def produce(outbox: Outbox = outbox, receipts: list[Receipt] = receipts, go: Any = started) -> None:
            try:
                while True:
                    receipts.append(offer(outbox))
                    go.set()
            except Closed:
                return

        thread = threading.Thread(target=produce)
        thread.start()
        assert started.wait(5)
        outbox.end(unconfirmed)
        thread.join(5)

        assert receipts
        assert all(receipt.done for receipt in receipts)
        assert outbox.undecided == 0


# Receipts


@interpreted_only
@pytest.mark.parametrize("module", [receipt_module, batch_module])
def test_two_threads_that_are_the_first_to_wait_for_one_outcome_are_both_told(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    lot: Receipt | Run = Receipt(b"x") if module is receipt_module else Run([b"x"])
    waited_for: list[LoopFuture[None]] = []
    other = threading.Thread(target=lambda: waited_for.append(lot.outcome()))

    class Slow(LoopFuture[None]):
        """In the middle of whose making another thread begins to wait, too."""

        def __init__(self) -> None:
            super().__init__()
            if not other.ident:
                other.start()
                other.join(0.1)

    monkeypatch.setattr(module, "LoopFuture", Slow)
    waited_for.append(lot.outcome())
    other.join(5)
    lot.refuse(unconfirmed, Settlement(with_receipts=False))
    assert [future.done() for future in waited_for] == [True, True]


async def test_a_receipt_is_awaited_any_number_of_times_and_survives_a_cancelled_wait() -> None:
    outbox = make()
    receipt = offer(outbox)
    waiting = asyncio.create_task(_await(receipt))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not receipt.done

    take(outbox)
    outbox.confirm([1])
    await receipt
    await receipt
    receipt.result(timeout=0)


async def test_a_batch_raises_the_first_error_when_all_outcomes_are_there() -> None:
    outbox = make()
    batch = BatchReceipt([offer(outbox) for _ in range(3)])
    waiting = asyncio.create_task(_await(batch))
    take(outbox)
    outbox.reject([(2, 17)])
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not batch.done
    outbox.confirm([1, 3])

    with pytest.raises(PublishRejected):
        await waiting
    assert batch.done
    assert len(batch) == 3


def test_only_the_first_outcome_counts() -> None:
    receipt = Receipt(b"", 1)

    assert receipt.settle() is True
    assert receipt.settle(Unconfirmed("late")) is False
    assert receipt.confirmed


async def _await(receipt: Receipt | BatchReceipt) -> None:
    await receipt


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"abc"), "abc"])
def test_bytes_and_text_are_one_data_section(body: Any) -> None:
    assert encode_entry(body, raw=False) == b"\0\0\0\x08\x00\x53\x75\xa0\x03abc"
    assert encode_entry(body, raw=True) == b"\0\0\0\x03abc"


@pytest.mark.parametrize("body", [None, 7, ["a"], "\ud800"])
def test_f35_what_cannot_be_encoded_is_refused_before_it_is_queued(body: Any) -> None:
    with pytest.raises(InvalidArgument):
        encode_entry(body, raw=False)


def test_a_raw_producer_takes_no_messages() -> None:
    with pytest.raises(InvalidArgument, match="raw"):
        encode_entry(Message(b"abc"), raw=True)


# Everything at once


class OutboxMachine(RuleBasedStateMachine):
    """The outbox against a model that is nothing but lists: one by one and in runs, grouped and not."""

    offered = Bundle("offered")

    @initialize(
        named=st.booleans(),
        max_messages=st.integers(1, 8),
        max_bytes=st.integers(1, 40),
        group_size=st.integers(1, 4),
        told=st.booleans(),
    )
    def begin(self, named: bool, max_messages: int, max_bytes: int, group_size: int, told: bool) -> None:
        self.settled: list[Receipt] | None = [] if told else None
        self.grouped = group_size > 1
        self.outbox = Outbox(
            named=named,
            max_messages=max_messages,
            max_bytes=max_bytes,
            grouping=Grouping(group_size, Compression.NONE) if self.grouped else None,
            on_settled=None if self.settled is None else self.settled.extend,
        )
        self.accepted: list[Receipt | Run] = []
        self.wire_log: list[int] = []  # ids in the order in which they left for the first time
        self.stored = 0  # what a broker has as the sequence
        self.now = 0.0
        self.answered: set[int] = set()

    def fits(self, messages: int, size: int) -> bool:
        room = self.outbox.room
        return not room.held or (room.held + messages <= room.max_messages and room.held_bytes + size <= room.max_bytes)

    @rule(size=st.integers(1, 12), messages=st.integers(1, 3))
    def offer(self, size: int, messages: int) -> None:
        # One lifetime for all, as a producer has: deadlines do not overtake each other.
        wire = (b"x" if messages == 1 else b"\x80") * size  # what stands for many is a sub-entry already
        receipt = Receipt(wire, messages=messages, deadline=self.now + 3.0)
        fits = self.fits(messages, size)
        is_first = self.outbox.offer(receipt)
        assert (is_first is not None) == fits
        if is_first is not None:
            assert is_first == (self.outbox.queued == messages)
            self.accepted.append(receipt)

    @rule(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=10))
    def offer_many(self, sizes: list[int]) -> None:
        fits, queued = self.fits(1, sizes[0]), self.outbox.queued
        accepted = self.outbox.offer_many([b"x" * size for size in sizes], 1, self.now + 3.0)
        assert (accepted is not None) == fits
        if accepted is not None:
            runs, is_first = accepted
            assert is_first == (not queued)
            count = sum(map(len, runs))
            assert count == len(sizes) or not self.fits(1, sizes[count]), "as many as there is room for"
            self.accepted += runs

    @rule(target=offered)
    def take(self) -> tuple[int, ...]:
        taken = self.outbox.take()
        ids = [number for _, part, _ in taken.parts for number in part]
        window = self.outbox._window
        assert all(window[number].undecided for number in ids), "what has its outcome is not sent for the first time"
        self.wire_log += ids
        return tuple(ids)

    @rule(ids=consumes(offered), part=st.data())
    def confirm(self, ids: tuple[int, ...], part: Any) -> None:
        some = part.draw(st.lists(st.sampled_from(ids), max_size=len(ids) + 2)) if ids else []
        self.stored = max([self.stored, *some])
        self.answered.update(some)
        self.outbox.confirm(some)

    @rule(ids=consumes(offered))
    def reject(self, ids: tuple[int, ...]) -> None:
        self.answered.update(ids[:1])
        self.outbox.reject([(number, 17) for number in ids[:1]])

    @rule(seconds=st.floats(0, 2))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds
        self.outbox.expire(self.now)
        assert all(not lot.undecided for lot in self.accepted if lot.deadline <= self.now)

    @rule()
    def reconnect(self) -> None:
        if self.outbox.named:
            self.outbox.numbering.continue_after(self.stored)
        before = {number: entries.wire_of(number) for number, entries in self.outbox._window.items()}
        parts = self.outbox.replay().parts
        replayed = {number: wire for _, ids, wires in parts for number, wire in zip(ids, wires, strict=True)}
        assert replayed == before, "byte for byte"
        assert list(replayed) == sorted(replayed)
        if self.outbox.named:
            assert set(replayed) == set(self.wire_log) - self.answered, "what has no answer is sent again"

    @rule()
    def fail_the_window(self) -> None:
        if not self.outbox.named:
            self.outbox.fail_window(unconfirmed)
            assert self.outbox.in_flight == 0

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "outbox"):
            return
        outbox, room = self.outbox, self.outbox.room
        undecided = sum(lot.undecided for lot in self.accepted)
        assert outbox.undecided == undecided
        assert outbox.confirmed + outbox.failed == room.accepted - undecided
        assert {id(lot) for lot in outbox.without_outcome()} == {id(lot) for lot in self.accepted if lot.undecided}
        assert self.wire_log == sorted(set(self.wire_log)), "ids only ever grow"
        assert room.held <= room.max_messages or self.is_alone()
        assert room.held_bytes <= room.max_bytes or self.is_alone()
        if self.settled is not None:
            receipts = [receipt for lot in self.accepted for receipt in lot.receipts()]
            done = [receipt for receipt in receipts if receipt.done]
            assert len(self.settled) == len({id(receipt) for receipt in self.settled}), "each told once"
            assert {id(receipt) for receipt in self.settled} == {id(receipt) for receipt in done}
            assert outbox.confirmed == sum(receipt.messages for receipt in receipts if receipt.confirmed)

    def is_alone(self) -> bool:
        """What is above a bound got in when there was nothing else."""
        holders = [*self.outbox._window.values(), *self.outbox._queue]
        return len(holders) == 1

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.end(unconfirmed)
            assert not any(lot.undecided for lot in self.accepted)
            assert all(receipt.done for lot in self.accepted for receipt in lot.receipts())
            assert (self.outbox.room.held, self.outbox.room.held_bytes, self.outbox.undecided) == (0, 0, 0)


TestOutboxMachine = OutboxMachine.TestCase
