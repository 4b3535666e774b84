"""One source for what happens: listeners and the log get the same events."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
import structlog

from actorstream import events
from actorstream.actors import bus as bus_module
from actorstream.actors.bus import EventBus
from actorstream.errors import Closed


def happening(path: str = "root/x") -> events.Connected:
    return events.Connected(path=path, broker="node-0:5552", version="4.0.5")


async def test_every_listener_gets_every_event_in_order() -> None:
    bus = EventBus()
    one, other = bus.listen(), bus.listen()
    for number in range(3):
        bus.emit(happening(str(number)))

    for channel in (one, other):
        assert [(await channel.get()).path for _ in range(3)] == ["0", "1", "2"]


async def test_who_does_not_listen_any_more_gets_nothing() -> None:
    bus = EventBus()
    channel, other = bus.listen(), bus.listen()
    bus.ignore(channel)
    bus.emit(happening())

    assert len(channel) == 0
    assert len(other) == 1


def test_a_listener_that_was_forgotten_is_not_kept() -> None:
    bus = EventBus()
    bus.listen()
    gc.collect()
    bus.emit(happening())
    bus.listen()

    assert len(bus._channels) == 1


def test_a_listener_that_does_not_read_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "MAX_UNREAD", 5)
    bus = EventBus()
    channel = bus.listen()
    for number in range(10):
        bus.emit(happening(str(number)))

    assert len(channel) == 5


async def test_the_end_comes_after_what_is_there() -> None:
    bus = EventBus()
    channel = bus.listen()
    bus.emit(happening())
    bus.close(Closed("the end"))
    bus.emit(happening())

    assert await channel.get() == happening()
    with pytest.raises(Closed, match="the end"):
        await channel.get()


def test_an_event_is_logged_with_its_level_and_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    structlog.configure(processors=[])  # an application's own configuration does not matter
    try:
        with caplog.at_level(logging.DEBUG, "actorstream"):
            EventBus().emit(happening())
            EventBus().emit(events.Disconnected(path="root/x", broker="node-0:5552", reason=ValueError("why")))
    finally:
        structlog.reset_defaults()

    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert [record.name for record in caplog.records] == ["actorstream", "actorstream"]
    assert "broker='node-0:5552'" in caplog.messages[0]
    assert "why" in caplog.messages[1]


def test_what_is_not_shown_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "actorstream"):
        EventBus().emit(happening())

    assert not caplog.records


async def test_a_channel_may_be_read_on_another_loop() -> None:
    bus = EventBus()
    channel = bus.listen()
    reading = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(channel.get())))
    await asyncio.sleep(0)
    bus.emit(happening())

    assert await reading == happening()
