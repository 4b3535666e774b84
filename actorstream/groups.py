"""Groups of single active consumers, as their handles see them: who shares a name, and where one begins.

The work is done by a `SacCoordinator`, an actor; one for each consumer that a user has, however many partitions it
reads. Here is the way there, and from there to the user's `on_activation`, which runs on the user's loop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from actorstream import offset as offset_module
from actorstream.actors import messages as m
from actorstream.actors.calls import call
from actorstream.actors.coordinator import Activation, Coordination, Decide, Join, Member
from actorstream.actors.membership import Membership
from actorstream.actors.tree import Gone, Tree
from actorstream.errors import Closed
from actorstream.handles import run_on
from actorstream.offset import OffsetLike, OffsetSpecification

OnActivation = Callable[[Activation], Awaitable[OffsetLike | None] | OffsetLike | None]
"""Called before a single active consumer begins to read; plain or `async`. It may choose the offset, and returns None
where it does not."""


class Group:
    """All groups that one consumer is in: of one stream, or one for each partition of a super stream.

    Args:
        name: of the group, and of its members.
        super_stream: "" for none.
        hand_over_timeout_s: see `ConsumerOptions`.
        on_activation: the user's, called on the loop on which this is made.
    """

    def __init__(
        self, name: str, super_stream: str, hand_over_timeout_s: float, on_activation: OnActivation | None
    ) -> None:
        decide = None if on_activation is None else _on_loop(asyncio.get_running_loop(), on_activation)
        self._state = Coordination(name, hand_over_timeout_s, decide)
        self._super_stream = super_stream
        self._ref: m.Ref | None = None

    def membership(self, stream: str) -> Membership:
        """A new member's."""
        return Membership(stream, self._state.group, self._super_stream)

    async def start(self, tree: Tree, child: str, gone: Gone) -> None:
        """Start the coordinator."""
        self._ref = await tree.start_coordinator(child, self._state, gone)

    async def join(self, member: Member) -> m.Ref:
        """Have the coordinator know a member, before it subscribes. -> the coordinator."""
        if self._ref is None:
            raise Closed(f"the group {self._state.group!r} was never started")
        await call(self._ref, Join(member), dead=Closed)
        return self._ref


def _on_loop(loop: asyncio.AbstractEventLoop, callback: OnActivation) -> Decide:
    async def on_the_users_loop(activation: Activation) -> OffsetSpecification | None:
        chosen = callback(activation)
        if inspect.isawaitable(chosen):
            chosen = await chosen
        return None if chosen is None else offset_module.parse(chosen)

    async def decide(activation: Activation) -> OffsetSpecification | None:
        return await run_on(loop, on_the_users_loop(activation))

    return decide
