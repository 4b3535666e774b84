"""Correlation ids and deadlines of requests that wait."""

from __future__ import annotations

from actorstream.wire.commands import Delete
from actorstream.wire.requests import RequestLedger


def add(ledger: RequestLedger, now: float, timeout_s: float) -> int:
    correlation_id = ledger.next_id()
    ledger.add(correlation_id, Delete("s"), now, timeout_s)
    return correlation_id


def test_ids_wrap_around_and_pass_over_those_that_wait() -> None:
    ledger = RequestLedger(last_id=2**32 - 3)
    assert [add(ledger, 0, 1), add(ledger, 0, 1), add(ledger, 0, 1)] == [2**32 - 2, 2**32 - 1, 0]
    wrapped = RequestLedger(last_id=2**32 - 1)
    wrapped.add(0, Delete("s"), 0, 1)
    wrapped.add(1, Delete("s"), 0, 1)
    assert wrapped.next_id() == 2


def test_a_request_is_taken_once() -> None:
    ledger = RequestLedger()
    one = add(ledger, 0, 1)
    assert len(ledger) == 1
    pending = ledger.take(one)
    assert pending is not None
    assert pending.request == Delete("s")
    assert ledger.take(one) is None
    assert len(ledger) == 0


def test_the_deadline_is_that_of_the_first_request_that_still_waits() -> None:
    ledger = RequestLedger()
    assert ledger.deadline() is None
    long, short = add(ledger, 0, 20), add(ledger, 0, 10)
    assert ledger.deadline() == 10
    ledger.take(short)
    assert ledger.deadline() == 20
    ledger.take(long)
    assert ledger.deadline() is None


def test_expired_requests_come_earliest_first_and_the_others_wait_on() -> None:
    ledger = RequestLedger()
    third, first, second = add(ledger, 0, 3), add(ledger, 0, 1), add(ledger, 0, 2)
    assert ledger.take_expired(0.9) == []
    assert [pending.correlation_id for pending in ledger.take_expired(2)] == [first, second]
    assert ledger.take(third) is not None


def test_an_id_in_use_again_has_the_deadline_of_its_new_request() -> None:
    ledger = RequestLedger()
    ledger.add(7, Delete("old"), 0, 1)
    ledger.take(7)
    ledger.add(7, Delete("new"), 0, 5)
    assert ledger.take_expired(1) == []
    assert ledger.deadline() == 5


def test_after_clear_nobody_waits() -> None:
    ledger = RequestLedger()
    one = add(ledger, 0, 1)
    ledger.clear()
    assert ledger.deadline() is None
    assert ledger.take(one) is None
