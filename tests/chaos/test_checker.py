"""The checker finds each kind of damage, and none where there is none."""

import math

import pytest

from tests.chaos.checker import (
    check_bound,
    check_consumer,
    check_exclusive,
    check_group,
    check_handled,
    check_made_anew,
    check_producer,
    check_settled,
    check_transfer,
    check_until_deleted,
)
from tests.chaos.history import ConsumerHistory, Outcome, ProducerHistory, ReadBack, Span, body_of, identity_of

S = Outcome


def sent(outcomes: list[Outcome], *, named: bool = True) -> ProducerHistory:
    history = ProducerHistory(7, "orders", named)
    for outcome in outcomes:
        number = history.sending()
        if outcome is not Outcome.PENDING:
            history.settled(number, outcome)
    return history


def stored(numbers: list[int], producer: int = 7, stream: str = "orders") -> ReadBack:
    read = ReadBack(stream)
    for offset, number in enumerate(numbers):
        read.add(offset, body_of(producer, number))
    return read


def given(offsets: list[int], numbers: list[int] | None = None) -> ConsumerHistory:
    history = ConsumerHistory("orders")
    for offset, number in zip(offsets, numbers or offsets, strict=True):
        history.received(offset, body_of(7, number))
    return history


def test_a_body_carries_its_identity() -> None:
    assert identity_of(body_of(3, 2**40)) == (3, 2**40)


def test_a_clean_run_has_no_violation() -> None:
    found, counts = check_producer(sent([S.CONFIRMED] * 3 + [S.UNCONFIRMED]), [stored([0, 1, 2])])
    assert (found, counts.sent, counts.confirmed, counts.unconfirmed) == ([], 4, 3, 1)
    assert check_consumer(given([0, 1, 2]), stored([0, 1, 2])) == []


@pytest.mark.parametrize(
    ("outcomes", "there", "invariant"),
    [
        ([S.CONFIRMED, S.CONFIRMED], [0], "I1"),
        ([S.CONFIRMED, S.PENDING], [0, 1], "I2"),
        ([S.CONFIRMED, S.REFUSED], [0, 1], "I2"),
        ([S.CONFIRMED, S.REJECTED], [0, 1], "I2"),
        ([S.CONFIRMED], [0, 1], "I2"),
        ([S.CONFIRMED, S.CONFIRMED], [1, 0], "I3"),
        ([S.CONFIRMED, S.CONFIRMED], [0, 1, 1], "I4"),
    ],
)
def test_damage_to_a_producer_is_found(outcomes: list[Outcome], there: list[int], invariant: str) -> None:
    found, _ = check_producer(sent(outcomes), [stored(there)])
    assert [violation.invariant.split()[0] for violation in found] == [invariant]


def test_i5_an_unnamed_producer_may_repeat_and_that_is_counted() -> None:
    found, counts = check_producer(sent([S.CONFIRMED] * 2, named=False), [stored([0, 1, 0, 1])])
    assert (found, counts.duplicates) == ([], 2)


def test_another_producers_messages_are_not_ours() -> None:
    found, _ = check_producer(sent([S.CONFIRMED]), [stored([0], producer=8)])
    assert [violation.invariant for violation in found] == ["I1 durability"]


def test_order_holds_within_each_partition() -> None:
    found, _ = check_producer(sent([S.CONFIRMED] * 4), [stored([1, 3]), stored([0, 2])])
    assert found == []


@pytest.mark.parametrize(
    ("offsets", "numbers", "invariant"),
    [
        ([0, 2], [0, 2], "I6"),
        ([0, 1, 2, 3], [0, 1, 2, 3], "I6"),
        ([0, 1, 2], [0, 5, 2], "I6"),
        ([0, 1, 1, 2], [0, 1, 1, 2], "I7"),
        ([0, 2, 1], [0, 2, 1], "I7"),
    ],
)
def test_damage_to_a_consumer_is_found(offsets: list[int], numbers: list[int], invariant: str) -> None:
    found = check_consumer(given(offsets, numbers), stored([0, 1, 2]))
    assert {violation.invariant.split()[0] for violation in found} == {invariant}


def test_a_group_covers_the_stream_together_and_what_came_again_is_counted() -> None:
    assert check_group([given([0, 1]), given([1, 2])], stored([0, 1, 2])) == ([], 1)
    found, _ = check_group([given([0]), given([2])], stored([0, 1, 2]))
    assert [violation.invariant for violation in found] == ["I6 no hole"]


def test_i8_two_inside_at_once_are_found_unless_one_is_a_declared_zombie() -> None:
    spans = [Span("a", "p", 0.0, 2.0), Span("b", "p", 1.0, 3.0), Span("c", "q", 1.0, 2.0)]
    assert [violation.invariant for violation in check_exclusive(spans, {})] == ["I8 one active"]
    assert check_exclusive(spans, {"a": [(0.5, 2.0)]}) == []
    assert check_exclusive([Span("a", "p", 0.0, 1.0), Span("b", "p", 1.0, 2.0)], {}) == []
    assert check_exclusive([Span("a", "p", 0.0, math.inf), Span("b", "p", 9.0, 9.5)], {}) != []


@pytest.mark.parametrize(
    ("target", "ok"), [([0, 1, 2], True), ([0, 2], False), ([0, 1, 1, 2], False), ([1, 0, 2], False)]
)
def test_a_pipe_is_exact_or_not(target: list[int], ok: bool) -> None:
    assert (check_transfer(stored([0, 1, 2]), stored(target, stream="copy")) == []) == ok


def test_a_bound_is_kept_or_not() -> None:
    assert check_bound("I11 resources", "tasks", 3, 3) == []
    assert check_bound("I11 resources", "tasks", 4, 3) != []


def test_nothing_may_be_left_without_an_outcome_when_its_producer_is_closed() -> None:
    assert check_settled(sent([S.CONFIRMED, S.UNCONFIRMED, S.REFUSED])) == []
    assert [violation.invariant for violation in check_settled(sent([S.CONFIRMED, S.PENDING]))] == ["I2 one outcome"]


@pytest.mark.parametrize(
    ("offsets", "numbers", "ok"),
    [
        ([0, 1], [0, 1], True),
        ([], [], True),
        ([0, 2], [0, 2], False),
        ([0, 1], [0, 2], False),
        ([1, 2], [1, 2], False),
        ([0, 1, 2, 3], [0, 1, 2, 3], False),
    ],
)
def test_what_was_given_of_a_stream_that_is_gone_has_no_hole(offsets: list[int], numbers: list[int], ok: bool) -> None:
    found = check_until_deleted(sent([S.CONFIRMED] * 3), given(offsets, numbers))
    assert [violation.invariant for violation in found] == ([] if ok else ["I6 no hole"])


@pytest.mark.parametrize(
    ("outcomes", "there", "wrong"),
    [
        ([S.CONFIRMED] * 4, [2, 3], 0),
        ([S.CONFIRMED] * 3 + [S.REFUSED], [2], 0),
        ([S.CONFIRMED] * 4, [1, 3], 1),
        ([S.CONFIRMED] * 4, [2, 2, 3], 1),
        ([S.CONFIRMED, S.UNCONFIRMED, S.CONFIRMED], [2], 1),
    ],
)
def test_a_stream_made_anew_has_all_from_its_first_message_on(
    outcomes: list[Outcome], there: list[int], wrong: int
) -> None:
    assert len(check_made_anew(sent(outcomes), stored(there))) == wrong


@pytest.mark.parametrize("handled", [[0, 2], [0, 1, 1, 2], [1, 0, 2], [0, 1, 2, 3]])
def test_a_handler_gets_through_what_its_policy_says(handled: list[int]) -> None:
    assert check_handled("it", [0, 1, 2], [0, 1, 2]) == []
    assert [violation.invariant for violation in check_handled("it", handled, [0, 1, 2])] == ["policy"]
