"""The rules of a group of single active consumers, without actors: roles, epochs, the gate, and where to begin."""

import itertools
import random
import threading
from typing import Any

import pytest

from actorstream import offset
from actorstream.actors.coordinator import starting_offset
from actorstream.actors.cursor import Cursor
from actorstream.actors.gate import Gate
from actorstream.actors.membership import Membership, Role, Work
from actorstream.actors.messages import ConsumerUpdated
from actorstream.actors.progress import Progress

NOBODY: Any = None
PROGRESS = Progress(0)
_numbers = itertools.count()


def update(active: bool, attachment: int = 7) -> ConsumerUpdated:
    return ConsumerUpdated(NOBODY, attachment, next(_numbers), active)


def member(role: Role = Role.INACTIVE) -> Membership:
    """A member that came to a role in the ordinary way."""
    membership = Membership("s", "group")
    if role is Role.AWAY:
        return membership
    membership.attached(7)
    if role in (Role.ACTIVATING, Role.ACTIVE, Role.STEPPING_DOWN):
        membership.updated(update(active=True))
    if role in (Role.ACTIVE, Role.STEPPING_DOWN):
        assert len(membership.begun(membership.epoch, PROGRESS)) == 1
    if role is Role.STEPPING_DOWN:
        membership.updated(update(active=False))
    assert membership.role is role
    return membership


# Roles


def test_a_member_dispatches_only_after_its_activation_is_carried_out() -> None:
    membership = member()
    wanted = update(active=True)
    work = membership.updated(wanted)
    assert (work, membership.role, membership.gate.is_open) == (Work(membership.epoch), Role.ACTIVATING, False)
    assert list(membership.begun(membership.epoch, PROGRESS)) == [wanted]
    assert (membership.role, membership.gate.is_open) == (Role.ACTIVE, True)


def test_f67_dispatch_stops_before_anything_else_is_done_about_a_step_down() -> None:
    membership = member(Role.ACTIVE)
    wanted = update(active=False)
    work = membership.updated(wanted)
    assert (work, membership.role, membership.gate.is_open) == (Work(membership.epoch), Role.STEPPING_DOWN, False)
    assert list(membership.stepped_down(membership.epoch)) == [wanted]
    assert membership.role is Role.INACTIVE


@pytest.mark.parametrize("role", [Role.AWAY, Role.INACTIVE])
def test_f66_who_is_not_active_answers_a_step_down_at_once(role: Role) -> None:
    membership = member(role)
    wanted = update(active=False)
    assert membership.updated(wanted) == Work(void=(wanted,))


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("active", [True, False])
def test_f66_what_belongs_to_another_subscription_is_answered_at_once_and_changes_nothing(
    role: Role, active: bool
) -> None:
    membership = member(role)
    before = (membership.role, membership.epoch, membership.gate.is_open)
    wanted = update(active, attachment=6)
    assert membership.updated(wanted) == Work(void=(wanted,))
    assert (membership.role, membership.epoch, membership.gate.is_open) == before


def test_a_repeated_activation_of_who_is_active_changes_nothing() -> None:
    membership = member(Role.ACTIVE)
    epoch, wanted = membership.epoch, update(active=True)
    assert membership.updated(wanted) == Work(again=wanted)
    assert (membership.role, membership.epoch, membership.gate.is_open) == (Role.ACTIVE, epoch, True)


def test_a_repeated_activation_of_who_is_activating_is_answered_with_the_first() -> None:
    membership = member()
    both = [update(active=True), update(active=True)]
    membership.updated(both[0])
    epoch = membership.epoch
    assert membership.updated(both[1]) == Work()
    assert list(membership.begun(epoch, PROGRESS)) == both


def test_f75_a_step_down_supersedes_an_activation_and_both_are_answered() -> None:
    membership = member()
    first, second = update(active=True), update(active=False)
    superseded = membership.updated(first).epoch
    assert superseded is not None
    assert membership.updated(second) == Work(void=(first, second))
    assert list(membership.begun(superseded, PROGRESS)) == []
    assert (membership.role, membership.gate.is_open) == (Role.INACTIVE, False)


def test_an_activation_waits_for_the_step_down_before_it() -> None:
    membership = member(Role.STEPPING_DOWN)
    epoch, wanted = membership.epoch, update(active=True)
    assert membership.updated(wanted) == Work()
    assert (membership.role, membership.epoch) == (Role.STEPPING_DOWN, epoch)
    assert len(membership.stepped_down(epoch)) == 1
    assert membership.take_next() is wanted
    assert membership.take_next() is None


def test_a_step_down_takes_back_the_activation_that_waits() -> None:
    membership = member(Role.STEPPING_DOWN)
    first, second = update(active=True), update(active=False)
    membership.updated(first)
    assert membership.updated(second) == Work(void=(first,))
    assert second in membership.stepped_down(membership.epoch)
    assert membership.take_next() is None


@pytest.mark.parametrize("role", list(Role))
def test_f69_a_lost_subscription_is_inactive_at_once_and_its_work_is_void(role: Role) -> None:
    membership = member(role)
    epoch = membership.epoch
    assert membership.lost() is (role in (Role.ACTIVE, Role.STEPPING_DOWN))
    assert (membership.role, membership.gate.is_open, membership.attachment) == (Role.AWAY, False, -1)
    assert list(membership.begun(epoch, PROGRESS)) == list(membership.stepped_down(epoch)) == []
    assert membership.lost() is False


def test_f69_after_a_new_subscription_it_waits_to_be_told() -> None:
    membership = member(Role.ACTIVE)
    membership.lost()
    membership.attached(8)
    assert (membership.role, membership.gate.is_open) == (Role.INACTIVE, False)


@pytest.mark.parametrize("seed", range(200))
def test_every_update_is_answered_exactly_once_whatever_happens_in_whatever_order(seed: int) -> None:
    """Except where the subscription is lost: the connection answers then (F72)."""
    rng = random.Random(seed)
    membership = member()
    asked: list[ConsumerUpdated] = []
    answered: list[ConsumerUpdated] = []

    def note(work: Work) -> None:
        answered.extend(work.void)
        answered.extend([] if work.again is None else [work.again])

    def finish() -> None:
        answered.extend(membership.begun(membership.epoch, PROGRESS))
        answered.extend(membership.stepped_down(membership.epoch))
        following = membership.take_next() if membership.role is Role.INACTIVE else None
        if following is not None:
            note(membership.updated(following))

    for _ in range(50):
        if rng.random() < 0.6:
            asked.append(update(active=rng.random() < 0.5))
            note(membership.updated(asked[-1]))
        else:
            finish()
        assert membership.gate.is_open is (membership.role is Role.ACTIVE)
    while membership.role in (Role.ACTIVATING, Role.STEPPING_DOWN):
        finish()
    assert sorted(one.correlation_id for one in answered) == [one.correlation_id for one in asked]


# The gate


def test_f67_the_gate_is_empty_once_nothing_is_in_hand() -> None:
    gate = Gate()
    gate.admit(PROGRESS)
    assert gate.enter(PROGRESS)
    gate.shut()
    emptied = gate.empty()
    assert not emptied.done()
    gate.leave()
    assert emptied.done()
    assert not gate.enter(PROGRESS)
    assert gate.empty().done()


def test_f69_what_was_taken_in_an_earlier_activation_is_not_handed_out_in_the_next() -> None:
    gate = Gate()
    gate.admit(PROGRESS)
    gate.shut()
    gate.admit(Progress(5))
    assert not gate.enter(PROGRESS)
    assert gate.empty().done()


def test_f67_nobody_is_inside_a_gate_that_was_shut_and_found_empty_on_whatever_thread() -> None:
    for _ in range(200):
        gate = Gate()
        gate.admit(PROGRESS)
        entered: list[bool] = []
        begin = threading.Barrier(2)

        def hand_out(gate: Gate = gate, begin: threading.Barrier = begin, entered: list[bool] = entered) -> None:
            begin.wait()
            while gate.enter(PROGRESS):
                entered.append(gate.is_open)
                gate.leave()

        handle = threading.Thread(target=hand_out)
        handle.start()
        begin.wait()
        gate.shut()
        gate.empty().get(timeout=5)
        count = len(entered)
        handle.join()
        assert len(entered) == count, "a message was handed out after the gate was shut and empty"


# Where to begin


@pytest.mark.parametrize(
    ("stored", "completed", "begin"),
    [
        (None, None, None),
        (10, None, offset.at(11)),
        (None, 10, offset.at(11)),
        (20, 10, offset.at(21)),
        (10, 20, offset.at(21)),
        (0, None, offset.at(1)),
    ],
    ids=["nobody did anything", "stored", "own", "another member went on", "the store was late", "offset 0"],
)
def test_f70_an_activated_consumer_begins_after_the_furthest_that_is_known_to_be_done(
    stored: int | None, completed: int | None, begin: offset.OffsetSpecification | None
) -> None:
    assert starting_offset(stored, completed) == begin


@pytest.mark.parametrize("specification", [offset.first(), offset.next(), offset.last(), offset.at(40)])
def test_f70_where_nothing_is_known_it_begins_where_the_user_said(specification: offset.OffsetSpecification) -> None:
    cursor = Cursor(specification)
    cursor.activate(None)
    assert cursor.resume() == specification


def test_f70_next_means_what_it_meant_when_the_consumer_was_made() -> None:
    cursor = Cursor(offset.next())
    cursor.pin(offset.at(30), skip_through=30)
    cursor.activate(None)
    assert cursor.resume() == offset.at(30)


def test_an_activation_begins_at_the_offset_that_was_decided_even_before_what_was_dispatched() -> None:
    cursor = Cursor(offset.first())
    cursor.progress.position, cursor.progress.completed, cursor.last_chunk_id = 60, 59, 50
    cursor.activate(offset.at(10))
    assert (cursor.resume(), cursor.progress.position) == (offset.at(10), 10)
    cursor.activate(offset.at(0))
    assert (cursor.resume(), cursor.progress.position) == (offset.at(0), 0)


def test_f66_what_completes_after_the_fence_does_not_count() -> None:
    cursor = Cursor(offset.first())
    in_hand = cursor.progress
    in_hand.position, in_hand.completed = 8, 6
    cursor.fence()
    in_hand.completed = 7
    assert (cursor.completed, cursor.progress.position) == (6, 7)
    cursor.activate(offset.at(7))
    assert cursor.completed == 6
