"""Pauses: the first is none, the others are random below a bound that grows up to a cap."""

import math
import random

import pytest
from hypothesis import given, strategies as st

from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.errors import InvalidArgument


class Highest(random.Random):
    """Draws the upper bound each time."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0
        return b


def highest(count: int, policy: BackoffPolicy) -> list[float]:
    backoff = Backoff(policy, Highest())
    return [backoff.next_delay() for _ in range(count)]


def test_the_first_retry_is_at_once_and_the_bound_grows_to_the_cap() -> None:
    policy = BackoffPolicy(base_s=0.5, factor=2.0, cap_s=3.0)
    assert highest(6, policy) == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_an_outage_of_a_week_does_not_overflow() -> None:
    assert highest(10_000, BackoffPolicy(cap_s=60.0))[-1] == 60.0


@given(st.integers(), st.integers(2, 40))
def test_f18_the_jitter_is_full(seed: int, tries: int) -> None:
    policy = BackoffPolicy(base_s=0.1, factor=3.0, cap_s=5.0)
    backoff = Backoff(policy, random.Random(seed))
    for bound in highest(tries, policy):
        assert 0.0 <= backoff.next_delay() <= bound
    assert backoff.attempts == tries


def test_f18_two_clients_do_not_stay_in_step() -> None:
    one, other = (Backoff(BackoffPolicy()) for _ in range(2))
    assert [one.next_delay() for _ in range(9)] != [other.next_delay() for _ in range(9)]


def test_f82_two_entities_share_a_policy_and_no_state() -> None:
    policy = BackoffPolicy()
    one, other = Backoff(policy), Backoff(policy)
    one.next_delay()
    one.next_delay()
    assert other.next_delay() == 0.0


def test_a_success_resets_only_when_it_lasted() -> None:
    backoff = Backoff(BackoffPolicy(base_s=1.0, stable_s=30.0), Highest())
    assert [backoff.next_delay(), backoff.next_delay()] == [0.0, 1.0]
    backoff.succeeded(now=100.0)
    backoff.failed(now=129.9)
    assert backoff.next_delay() == 2.0
    backoff.succeeded(now=200.0)
    backoff.failed(now=230.0)
    assert backoff.attempts == 0
    assert backoff.next_delay() == 0.0


def test_what_outlived_the_longest_pause_is_stable() -> None:
    backoff = Backoff(BackoffPolicy(base_s=0.5, cap_s=4.0), Highest())
    delays = []
    for outage in range(5):
        delays += [backoff.next_delay() for _ in range(3)]
        backoff.succeeded(now=100.0 * outage)
        backoff.failed(now=100.0 * outage + 4.0)

    assert delays == [0.0, 0.5, 1.0] * 5
    backoff.next_delay()
    backoff.succeeded(now=1000.0)
    backoff.failed(now=1003.9)
    assert backoff.next_delay() > 0.0


def test_another_success_does_not_make_the_first_one_younger() -> None:
    backoff = Backoff(BackoffPolicy(base_s=1.0, stable_s=30.0), Highest())
    backoff.next_delay()
    for now in (100.0, 120.0, 129.0):
        backoff.succeeded(now)
    backoff.failed(now=130.0)
    assert backoff.next_delay() == 0.0


def test_failing_to_come_up_for_long_is_not_being_stable() -> None:
    backoff = Backoff(BackoffPolicy(base_s=1.0, stable_s=30.0), Highest())
    backoff.succeeded(now=0.0)
    backoff.failed(now=1.0)
    backoff.next_delay()
    backoff.failed(now=1000.0)
    assert backoff.next_delay() == 1.0


def test_reset_starts_again() -> None:
    backoff = Backoff(BackoffPolicy(base_s=1.0), Highest())
    first = [backoff.next_delay() for _ in range(4)]
    backoff.reset()
    assert [backoff.next_delay() for _ in range(4)] == first


@pytest.mark.parametrize(
    ("name", "value"),
    [("base_s", -1.0), ("base_s", math.nan), ("factor", 0.5), ("cap_s", 0.01), ("stable_s", -0.1)],
)
def test_a_policy_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=name):
        BackoffPolicy(**{name: value})
