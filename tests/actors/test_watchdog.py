"""The watchdog: a loop that stood still is told, one that is merely busy is not."""

from __future__ import annotations

import asyncio
import time

from actorstream import events
from actorstream.actors.runtime import Home, start_in
from actorstream.actors.watchdog import INTERVAL_S, TOLERANCE_S, Watchdog
from tests.actors.clock import ManualClock, settle, until


async def test_f56_a_late_look_is_told_with_its_delay_and_a_punctual_one_is_not() -> None:
    clock = ManualClock()
    told: list[events.Event] = []
    ref = start_in(Home.here(clock=clock), lambda: Watchdog(emit=told.append), name="watchdog")
    await settle()
    for _ in range(5):
        clock.advance(INTERVAL_S)
        await settle()
    assert told == []

    for late, expected in ((TOLERANCE_S - 0.01, 0), (TOLERANCE_S + 0.01, 1), (3.0, 2)):
        # The timer falls due, and the clock goes on before anything else gets to run.
        clock.advance(INTERVAL_S)
        clock.now += late
        await settle()
        assert len(told) == expected

    blocked = told[-1]
    assert isinstance(blocked, events.EventLoopBlocked)
    assert abs(blocked.seconds - 3.0) < 0.01
    await ref.stop(block=False)


async def test_f56_a_real_block_of_the_loop_is_told() -> None:
    told: list[events.Event] = []
    ref = start_in(Home.here(), lambda: Watchdog(emit=told.append), name="watchdog")
    await asyncio.sleep(0.05)
    time.sleep(TOLERANCE_S + INTERVAL_S + 0.1)  # noqa: ASYNC251 - what is to be noticed
    await until(lambda: told)

    assert isinstance(told[0], events.EventLoopBlocked)
    await ref.stop(block=False)
