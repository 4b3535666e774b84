"""How a producer's handle waits for its outbox: in turn for room, and for outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actorstream.actors.outbox import Outbox
from actorstream.errors import OutboxFull


async def when_room(
    outbox: Outbox, messages: int, size: int, offer: Callable[[], bool], timeout_s: float | None
) -> None:
    """Wait for room in turn, again if somebody else was faster, until `offer` says that it has used it.

    Cancellation-safe: the turn goes to whoever is next.

    Raises:
        OutboxFull: no room within so many seconds; or none at all, when the broker is away and that is not waited for.
        and whatever `offer` raises.
    """
    room = outbox.room
    again = False
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                turn = room.wait(messages, size, again=again)
                try:
                    outbox.check_wait()
                    await turn
                    accepted = offer()
                except BaseException:
                    room.leave(turn, messages, size, again=again)
                    raise
                room.turn_over(messages, size, again=again)
                if accepted:
                    return
                if not again and room.is_large(messages, size):
                    room.overtaken(1)
                again = True
    except TimeoutError:
        raise OutboxFull(
            f"{room.held} messages ({room.held_bytes} bytes) are unconfirmed, and no room "
            f"came up within {timeout_s:g} s"
        ) from None
    finally:
        if again and room.is_large(messages, size):
            room.overtaken(-1)


async def until(outbox: Outbox, condition: Callable[[], bool]) -> None:
    """Wait for something that only the settling of messages can bring about."""
    while not condition():
        change = outbox.changed.wait()
        try:
            if not condition():  # it may have come true before the wait was registered
                await change
        finally:
            outbox.changed.ignore(change)
