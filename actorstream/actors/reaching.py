"""Waiting for a connection to a member of a stream, for no longer than it is the right one.

A broker that was frozen, or cut off, takes connections and does not answer; that is known only when the handshake's
time is over. Nobody should stand at that door while the stream can be had elsewhere.
"""

from __future__ import annotations

import asyncio

from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.runtime import Again, Retry, ask
from actorstream.errors import ActorStreamError, ConnectFailed
from actorstream.options import Endpoint

LEADER_PATIENCE_S = 0.3
"""How long a connection to a leader may take before it is asked whether another one leads the stream by now."""
MEMBER_PATIENCE_S = 2.0
"""How long a connection may take where another member would do as well."""


async def reach_leader(connection: m.Ref, stream: str, leader: Endpoint, locator: m.Ref) -> m.Negotiated:
    """Wait until the connection to a stream's leader is open.

    Raises:
        Again: another one leads the stream meanwhile.
        StreamDoesNotExist: nobody does any more.
        and why it cannot be opened.
    """
    opening = asyncio.ensure_future(_opened(connection))
    looking: asyncio.Future[None] | None = None
    try:
        await asyncio.wait([opening], timeout=LEADER_PATIENCE_S)
        if not opening.done():
            looking = asyncio.ensure_future(_led_elsewhere(locator, m.WhereIs(stream, other_than=leader)))
            await asyncio.wait([opening, looking], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                looking.result()
                raise Again
        return opening.result()
    finally:
        opening.cancel()
        if looking is not None:
            looking.cancel()


async def reach_member(connection: m.Ref, endpoint: Endpoint, *, is_last: bool) -> m.Negotiated:
    """Wait until the connection to a member is open; to the last one that there is, as long as it takes.

    Raises:
        Retry: it takes too long, and there are others.
        and why it cannot be opened.
    """
    try:
        async with asyncio.timeout(None if is_last else MEMBER_PATIENCE_S):
            return await _opened(connection)
    except TimeoutError:
        reason = f"no answer within {MEMBER_PATIENCE_S:g} s, and the stream has other members"
        raise Retry(ConnectFailed(str(endpoint), "connect", reason)) from None


async def _opened(connection: m.Ref) -> m.Negotiated:
    negotiated: m.Negotiated = await ask(connection, m.Open())
    return negotiated


async def _led_elsewhere(locator: m.Ref, question: m.WhereIs) -> None:
    """Return once it is; a question that had no answer in its time is asked again."""
    while True:
        try:
            await call(locator, question)
        except ActorStreamError as error:
            if not error.retryable:
                raise
        else:
            return
