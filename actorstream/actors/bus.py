"""One source for what happens: each event is logged, and handed to whoever iterates `client.events()`."""

from __future__ import annotations

import logging
import weakref
from dataclasses import fields
from typing import Any

import structlog

from actorstream import events
from actorstream.actors.future import Channel

MAX_UNREAD = 10_000
"""Events kept for an iterator that does not read; it misses those beyond that, so that it cannot fill the memory."""


def _make_logger() -> Any:
    """A structlog logger that ends in stdlib logging, whatever the application's structlog configuration is.

    `logging.getLogger("actorstream")` shows, filters and routes; without a handler of the application nothing is shown.
    """
    stdlib = logging.getLogger("actorstream")
    stdlib.addHandler(logging.NullHandler())
    return structlog.wrap_logger(
        stdlib,
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
    )


_log = _make_logger()


class EventBus:
    """Where actors emit events. Used on the tree's loop; its channels may be read on any."""

    def __init__(self) -> None:
        # Weak: whoever asked for events and lost interest before the first one is not kept waiting for.
        self._channels: list[weakref.ref[Channel[events.Event]]] = []

    def emit(self, event: events.Event) -> None:
        """Log an event and hand it to all who listen."""
        level = logging.getLevelName(event.level)
        if logging.getLogger("actorstream").isEnabledFor(level):
            details = {field.name: getattr(event, field.name) for field in fields(event)}
            _log.log(level, event.title, **details)
        for listener in self._channels:
            channel = listener()
            if channel is not None and len(channel) < MAX_UNREAD:
                channel.put(event)

    def listen(self) -> Channel[events.Event]:
        """A new channel that gets every event from now on."""
        channel: Channel[events.Event] = Channel()
        self._channels = [*(one for one in self._channels if one() is not None), weakref.ref(channel)]
        return channel

    def ignore(self, channel: Channel[events.Event]) -> None:
        """Take a channel off."""
        self._channels = [one for one in self._channels if one() not in (None, channel)]

    def close(self, error: Exception) -> None:
        """End all iterations once they have read what is there."""
        channels, self._channels = self._channels, []
        for listener in channels:
            if (channel := listener()) is not None:
                channel.close(error)
