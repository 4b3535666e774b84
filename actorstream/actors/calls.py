"""Asking and telling for those outside the actors: Pykka's own error for a dead actor becomes one of ours."""

from __future__ import annotations

import contextlib
from typing import Any

import pykka

from actorstream.actors.mailbox import Tellable
from actorstream.actors.messages import Ref
from actorstream.actors.runtime import ask
from actorstream.errors import ActorStreamError, ConnectionLost


async def call(ref: Ref, message: object, dead: type[ActorStreamError] = ConnectionLost) -> Any:
    """Ask, and wait for the answer on any loop. Cancelling it leaves the request on its way.

    Raises:
        dead: the actor ended without having said why.
        and whatever the actor answers with.
    """
    try:
        return await ask(ref, message)
    except pykka.ActorDeadError as error:
        raise dead(str(error)) from error


def tell(ref: Tellable | None, message: object) -> bool:
    """Tell what has no meaning once the actor is gone; whether it was there to be told."""
    if ref is None:
        return False
    with contextlib.suppress(pykka.ActorDeadError):
        ref.tell(message)
        return True
    return False
