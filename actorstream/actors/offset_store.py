"""The broker as a store of offsets: what it does not say about them is found out by asking."""

from __future__ import annotations

from typing import Protocol

from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.errors import Closed, NoOffset
from actorstream.wire import commands as c


class Store(Protocol):
    """Where the offset of one consumer lives, as its tracker sees it: `OffsetStore`, with name and stream filled in.

    Attributes:
        answers: whether an offset is stored once `store` returns. Otherwise it has to be read back to be sure.
    """

    answers: bool

    async def load(self) -> int | None:
        """The offset that is stored; None when there is none, and only then."""

    async def store(self, offset: int) -> None:
        """Store it, or hand it over to be stored."""


class BrokerStore:
    """The broker's own store. StoreOffset has no answer (protocol section 4.5), not even to say that it failed."""

    answers = False

    def __init__(self, locator: m.Ref, name: str, stream: str) -> None:
        self._locator = locator
        self._name = name
        self._stream = stream

    async def load(self) -> int | None:
        """See `Store`. Only NO_OFFSET means that there is none: everything else is raised (F53)."""
        try:
            response = await call(
                self._locator, m.Administer(c.QueryOffset(self._name, self._stream), repeatable=True), dead=Closed
            )
        except NoOffset:
            return None
        assert isinstance(response, c.QueryOffsetResponse)
        return response.offset

    async def store(self, offset: int) -> None:
        """See `Store`."""
        await call(self._locator, m.StoreOffset(self._name, self._stream, offset), dead=Closed)
