"""What says that an actor has ended."""

import threading

import pytest

from actorstream.actors.flag import Flag


def test_it_is_set_once_and_stays_set() -> None:
    flag = Flag()
    assert not flag.is_set()
    flag.set()
    flag.set()
    assert flag.is_set()


def test_whoever_waits_is_woken() -> None:
    flag = Flag()
    woken: list[bool] = []
    waiters = [threading.Thread(target=lambda: woken.append(flag.wait(10))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    flag.set()
    for waiter in waiters:
        waiter.join()
    assert woken == [True, True, True]


@pytest.mark.parametrize("timeout", [0.0, None])
def test_a_wait_for_what_is_set_ends_at_once(timeout: float | None) -> None:
    flag = Flag()
    flag.set()
    assert flag.wait(timeout)


def test_a_wait_that_is_over_says_that_it_was_not_set() -> None:
    flag = Flag()
    assert not flag.wait(0.001)
    flag.set()
    assert flag.wait(0.0)


def test_it_is_small_until_somebody_waits() -> None:
    flag = Flag()
    flag.set()
    assert flag._event is None
