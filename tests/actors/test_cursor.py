"""The cursor and the ledger of credit: where a consumer is, and what the broker may still send."""

import struct
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actorstream import offset
from actorstream.actors.cursor import CreditLedger, Cursor
from actorstream.offset import OffsetSpecification
from actorstream.wire.chunk import Chunk


def chunk(chunk_id: int, records: int, kind: int = 0) -> Chunk:
    header = struct.pack(">BBHIqQQIIIB3x", 0x50, kind, records, records, 0, 1, chunk_id, zlib.crc32(b""), 0, 0, 0)
    return Chunk.parse(header)


# Where a new subscription starts

SPECIFICATIONS = [offset.first(), offset.last(), offset.next(), offset.at(7), offset.since(1.0)]


@pytest.mark.parametrize("specification", SPECIFICATIONS, ids=str)
def test_f48_with_nothing_received_a_new_subscription_is_what_the_user_asked_for(
    specification: OffsetSpecification,
) -> None:
    cursor = Cursor(specification)
    assert cursor.resume() == specification
    assert not cursor.pinned


@pytest.mark.parametrize("specification", [offset.first(), offset.last(), offset.since(1.0)], ids=str)
def test_f48_with_a_chunk_received_and_nothing_dispatched_it_is_that_chunk(specification: OffsetSpecification) -> None:
    cursor = Cursor(specification)
    cursor.received(chunk(100, 10))
    cursor.received(chunk(110, 10))
    assert cursor.resume() == offset.at(100)


def test_f46_it_is_the_message_after_the_last_one_that_was_dispatched() -> None:
    cursor = Cursor(offset.first())
    cursor.received(chunk(100, 10))
    cursor.progress.position = 104
    assert cursor.resume() == offset.at(104)
    assert cursor.start_in(chunk(100, 10)) == 104


def test_f48_a_pin_stands_for_the_specification_until_something_was_dispatched() -> None:
    cursor = Cursor(offset.next())
    cursor.pin(offset.at(50), skip_through=50)
    assert cursor.pinned
    assert cursor.resume() == offset.at(50)
    cursor.received(chunk(50, 10))
    assert cursor.resume() == offset.at(50)
    assert cursor.start_in(chunk(50, 10)) == 60, "what was there before the consumer came is not for it"
    assert cursor.start_in(chunk(60, 10)) == 60
    cursor.progress.position = 60
    assert cursor.resume() == offset.at(60)


def test_f50_a_pin_says_that_its_chunk_was_there() -> None:
    cursor = Cursor(offset.next())
    cursor.pin(offset.at(50), skip_through=50)
    assert cursor.last_chunk_id == 50
    cursor.received(chunk(40, 1))
    assert cursor.last_chunk_id == 50, "which never goes back"


def test_f47_the_chunk_that_holds_an_offset_is_cut_there() -> None:
    cursor = Cursor(offset.at(105))
    assert cursor.start_in(chunk(100, 10)) == 105
    assert cursor.start_in(chunk(110, 10)) == 110


def test_f50_after_a_restart_what_still_holds_the_old_progress_changes_nothing() -> None:
    cursor = Cursor(offset.at(500))
    old = cursor.progress
    cursor.received(chunk(500, 10))
    old.position, old.completed = 505, 504
    cursor.restart(offset.first())
    assert cursor.progress is not old
    old.position = 510
    assert cursor.resume() == offset.first()
    assert (cursor.progress.position, cursor.progress.completed, cursor.last_chunk_id) == (0, None, -1)
    assert cursor.start_in(chunk(0, 10)) == 0


# A consumer whose broker comes and goes


class Interrupted(RuleBasedStateMachine):
    """A stream is written, read and lost at any time. Whatever happens, each record is dispatched once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[Chunk] = []
        self.end = 0
        self.queue: list[Chunk] = []  # delivered by this subscription, and not yet looked at
        self.sent_through = 0  # the broker's own position for this subscription
        self.in_hand: Chunk | None = None
        self.ready: list[int] = []
        self.dispatched: list[int] = []
        self.connected = False

    @initialize(
        sizes=st.lists(st.integers(1, 5), max_size=4),
        begin=st.one_of(st.sampled_from(["first", "next"]), st.integers(0, 20)),
    )
    def start(self, sizes: Sequence[int], begin: str | int) -> None:
        for size in sizes:
            self.write(size, gap=0)
        self.cursor = Cursor(offset.parse(begin))
        self.wanted_from = {"first": 0, "next": self.end}[begin] if isinstance(begin, str) else begin
        if begin == "next":
            last = self.chunks[-1].chunk_id if self.chunks else None
            if last is None:
                self.cursor.pin(offset.at(0))
            else:
                self.cursor.pin(offset.at(last), skip_through=last)

    @rule(size=st.integers(1, 5), gap=st.integers(0, 2))
    def write(self, size: int, gap: int) -> None:
        """`gap`: offsets taken by the broker's own chunks."""
        self.end += gap
        self.chunks.append(chunk(self.end, size))
        self.end += size

    @precondition(lambda self: not self.connected)
    @rule()
    def subscribe(self) -> None:
        wanted = self.cursor.resume()
        self.sent_through = 0 if wanted.type is offset.OffsetType.FIRST else wanted.value
        self.queue.clear()
        self.connected = True

    @precondition(lambda self: self.connected)
    @rule()
    def deliver(self) -> None:
        """A broker delivers the chunk that holds the offset, and then the ones after it."""
        following = next((one for one in self.chunks if one.next_offset > self.sent_through), None)
        if following is not None:
            self.sent_through = following.next_offset
            self.queue.append(following)
            self.cursor.received(following)

    @rule()
    def lose(self) -> None:
        self.connected = False

    @precondition(lambda self: not self.ready)
    @rule()
    def fetch(self) -> None:
        progress = self.cursor.progress
        if self.in_hand is not None:
            progress.position = max(progress.position, self.in_hand.next_offset)
            self.in_hand = None
        if self.queue:
            self.in_hand = self.queue.pop(0)
            self.ready = list(range(self.cursor.start_in(self.in_hand), self.in_hand.next_offset))

    @precondition(lambda self: self.ready)
    @rule()
    def dispatch(self) -> None:
        number = self.ready.pop(0)
        self.dispatched.append(number)
        self.cursor.progress.position = number + 1

    @invariant()
    def nothing_is_skipped_or_repeated(self) -> None:
        if hasattr(self, "wanted_from"):
            records = [n for one in self.chunks for n in range(one.chunk_id, one.next_offset) if n >= self.wanted_from]
            assert self.dispatched == records[: len(self.dispatched)]

    def teardown(self) -> None:
        """I6: once the broker stays, all of it arrives."""
        if not hasattr(self, "wanted_from"):
            return
        if not self.connected:
            self.subscribe()
        for _ in range(2 * len(self.chunks) + 2):
            self.deliver()
            while self.ready:
                self.dispatch()
            self.fetch()
        while self.ready:
            self.dispatch()
        records = [n for one in self.chunks for n in range(one.chunk_id, one.next_offset) if n >= self.wanted_from]
        assert self.dispatched == records


TestI6Interrupted = Interrupted.TestCase


# Credit


@given(
    initial=st.integers(2, 20),
    steps=st.lists(st.sampled_from(["deliver", "finish", "pause", "resume"]), max_size=200),
)
def test_f58_i13_granted_less_delivered_is_outstanding_and_all_of_it_comes_back(
    initial: int, steps: Sequence[str]
) -> None:
    ledger = CreditLedger(initial)
    broker = initial  # what the broker thinks that it may send
    for step in steps:
        match step:
            case "deliver" if broker:
                broker -= 1
                ledger.deliver()
            case "finish" if ledger.in_hand:
                broker += ledger.give_back(1)
            case "pause":
                ledger.pause()
            case "resume":
                broker += ledger.resume()
        assert ledger.outstanding == broker
        assert broker + ledger.in_hand + ledger.held == initial, "credit is neither lost nor made"
    broker += ledger.give_back(ledger.in_hand)
    broker += ledger.resume()
    assert broker == ledger.outstanding == initial


@given(initial=st.integers(2, 40), order=st.lists(st.sampled_from(["arrive", "finish"]), max_size=300))
def test_f58_what_is_held_back_never_stops_a_broker_that_needs_more_than_half(
    initial: int, order: Sequence[str]
) -> None:
    ledger = CreditLedger(initial)
    credit, on_the_way, left = initial, 0, 200

    def send() -> None:
        nonlocal credit, on_the_way, left
        if credit > initial // 2:
            sent = min(credit, left)
            credit, on_the_way, left = credit - sent, on_the_way + sent, left - sent

    for step in (*order, *["arrive", "finish"] * 400):
        send()
        if step == "arrive" and on_the_way:
            on_the_way -= 1
            ledger.deliver()
        elif step == "finish" and ledger.in_hand:
            credit += ledger.give_back(1)
        assert ledger.in_hand + on_the_way <= initial, "more is under way than there is credit"
    assert (left, on_the_way, ledger.in_hand) == (0, 0, 0), "the broker waits for credit, and we wait for the broker"


def test_credit_is_granted_in_portions_while_the_broker_has_some_and_at_once_when_it_is_enough_to_go_on() -> None:
    ledger = CreditLedger(10)
    for _ in range(3):
        ledger.deliver()
    assert [ledger.give_back(1) for _ in range(3)] == [0, 0, 3]
    for _ in range(10):
        ledger.deliver()
    assert [ledger.give_back(1) for _ in range(7)] == [0, 0, 0, 0, 0, 6, 0]
    assert [ledger.give_back(1) for _ in range(3)] == [0, 3, 0]


def test_f58_a_paused_ledger_grants_all_that_was_held_at_once_when_it_resumes() -> None:
    ledger = CreditLedger(4)
    for _ in range(4):
        ledger.deliver()
    assert ledger.give_back(3) == 3
    ledger.pause()
    assert ledger.give_back(1) == 0
    assert ledger.resume() == 1
    assert ledger.outstanding == 4
