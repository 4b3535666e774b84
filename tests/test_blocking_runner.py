"""Ctrl-C while a thread waits for what runs on the loop of another one."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from actorstream.actors.runtime import Home
from actorstream.blocking import runner as blocking
from actorstream.blocking.runner import Runner


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(Home.in_thread("runner"))
    yield runner
    runner.close()


class Interrupted:
    """Work during which Ctrl-C is pressed; it takes a moment to end, or does not end."""

    def __init__(self, *, ends: bool = True) -> None:
        self.ends = asyncio.Event()
        self.ended = False
        self._begun = threading.Event()
        self._will_end = ends

    async def __call__(self) -> None:
        self._begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            if self._will_end:
                await asyncio.sleep(0.05)
                self.ended = True
            else:
                await self.ends.wait()

    def press(self) -> None:
        self._begun.wait(10)
        os.kill(os.getpid(), signal.SIGINT)


def interrupt(runner: Runner, work: Interrupted) -> None:
    pressing = threading.Thread(target=work.press)
    pressing.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run(work())
    finally:
        pressing.join()


def test_i14_what_is_interrupted_has_ended_when_the_interruption_is_raised(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "CANCEL_S", 30.0)
    work = Interrupted()
    begin = time.monotonic()
    interrupt(runner, work)
    assert work.ended
    assert time.monotonic() - begin < 10, "it was waited for, and not for the bound"

    async def go_on() -> int:
        return 1

    assert runner.run(go_on()) == 1


def test_i14_what_does_not_end_is_not_waited_for_long(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "CANCEL_S", 0.05)
    work = Interrupted(ends=False)
    interrupt(runner, work)

    async def end() -> None:
        work.ends.set()

    runner.run(end())
