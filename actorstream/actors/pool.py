"""Which connection hosts which publisher and subscriber: up to 256 of a kind on one, publishers and subscribers apart.

The broker stops reading a connection whose publishers are ahead of the disk, and with it everything else that comes
over that socket; hence one connection never has both. Connections are made when they are needed, shared by whoever
goes to the same broker in the same role, and closed when nobody is left on them.

Nobody else opens a connection. So this is also where a broker that cannot be reached is spared: all who want to go
there wait for one attempt, and the attempts are spaced, however many entities ask (F18).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pykka

from actorstream import events
from actorstream.actors import messages as m
from actorstream.actors.calls import tell
from actorstream.actors.connection import Connection
from actorstream.actors.dialing import Dialer, Goal
from actorstream.actors.future import LoopFuture
from actorstream.actors.runtime import StreamActor, Timer, ask
from actorstream.actors.supervisor import ChildSpec, RestartPolicy, StartChild, StopChild
from actorstream.backoff import Backoff
from actorstream.errors import ActorStreamError, ResponseError
from actorstream.options import ConnectionOptions, Endpoint

CONTROL = "control"
PUBLISHING = "publisher"
CONSUMING = "consumer"

IDS = 256
"""Publisher ids, and subscription ids, of one connection: they are one byte each (W13)."""
LINGER_S = 2.0
"""How long an empty connection is kept for the next one who goes there: a restart should not cost a handshake."""
LOST_CREDIT_LIMIT = 10_000
"""Entries whose credit a connection may lose before it takes no new publisher. The broker blocks at 50,000 (W5)."""
REFUSED_DELAY_S = 5.0
"""Least pause after a log-in was refused: to insist would lock the account (F87)."""

_attachments = itertools.count(1)


def next_attachment() -> int:
    """A number for a tie between an entity and a connection; never used twice in this process."""
    return next(_attachments)


async def lease(pool: m.Ref, endpoint: Endpoint, role: str, alternatives: tuple[Endpoint, ...] = ()) -> m.Slot:
    """Ask the pool for a slot. Cancellation-safe: one that comes too late goes back."""
    answer: LoopFuture[m.Slot] = ask(pool, m.Lease(endpoint, role, alternatives))
    try:
        return await answer
    except asyncio.CancelledError:
        answer.add_done_callback(lambda late: _give_back(pool, late))
        raise


def _give_back(pool: m.Ref, answer: LoopFuture[m.Slot]) -> None:
    with contextlib.suppress(ActorStreamError, pykka.ActorDeadError):  # there was none
        tell(pool, m.Release(answer.get(timeout=0)))


class EntityIds:
    """The ids 0 to 255 of one kind on one connection, given out round robin.

    Round robin, and not the lowest free one: what is still on the wire for an id that was given back should find it
    unused for as long as possible (F32, F61).
    """

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._next = 0

    def __len__(self) -> int:
        return len(self._used)

    @property
    def full(self) -> bool:
        """Whether none is left."""
        return len(self._used) == IDS

    def take(self) -> int:
        """A free id. There must be one."""
        while self._next in self._used:
            self._next = (self._next + 1) % IDS
        entity_id = self._next
        self._used.add(entity_id)
        self._next = (entity_id + 1) % IDS
        return entity_id

    def give_back(self, entity_id: int) -> None:
        """The id is free again; one that is free already stays so."""
        self._used.discard(entity_id)


@dataclass(slots=True)
class _Line:
    """One connection, as the pool sees it. What it `accepts` is where it may lead, until it is known where it does."""

    name: str
    endpoint: Endpoint
    accepts: frozenset[Endpoint] | None
    role: str
    ref: m.Ref
    since: float
    ids: EntityIds = field(default_factory=EntityIds)
    retired: bool = False
    came_up: bool = False
    lost_credit: int = 0
    closing: Timer | None = None

    def stay(self) -> None:
        """It is not going to be looked at, whether it is idle."""
        if self.closing is not None:
            self.closing.cancel()
            self.closing = None

    def serves(self, wanted: m.Lease) -> bool:
        """Whether it leads, wherever it leads, to a broker that is wanted."""
        if wanted.role != self.role or self.retired or self.ids.full:
            return False
        if wanted.alternatives is None:
            return self.endpoint == wanted.endpoint
        return self.accepts is not None and self.accepts <= _accepted(wanted)


def _accepted(wanted: m.Lease) -> frozenset[Endpoint]:
    return frozenset({wanted.endpoint, *(wanted.alternatives or ())})


@dataclass(slots=True)
class _Gate:
    """When a broker may be tried again.

    A connection that came up and was lost soon counts like one that did not come up: a broker that accepts everybody
    and then drops them must not be stormed either (I15).
    """

    backoff: Backoff
    failed_at: float = -math.inf
    until: float = -math.inf
    refused_at: float = -math.inf
    """When an attempt last failed; -inf if one has worked since."""

    def worked(self, now: float) -> None:
        """A connection has come up."""
        self.backoff.succeeded(now)
        self.refused_at = -math.inf

    def failed(self, since: float, now: float, least_s: float) -> None:
        """A connection that was begun at `since` has ended; the next attempt waits, `least_s` seconds at least."""
        if since >= self.failed_at:  # of several that were there at the same time, the first to end counts
            self.failed_at = now
            self.backoff.failed(now)
            self.until = now + max(self.backoff.next_delay(), least_s)


@dataclass(slots=True)
class PoolState:
    """What survives an incarnation of the pool: the connections do not end with it."""

    lines: dict[str, _Line] = field(default_factory=dict)
    gates: dict[Endpoint, _Gate] = field(default_factory=dict)
    was_up: bool = False
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def roles(self) -> list[str]:
        """The role of each connection that is there, or being made; for any thread."""
        return [line.role for line in list(self.lines.values())]

    def refused_at(self, endpoint: Endpoint) -> float:
        """When a broker could last not be reached, in the loop's time; -inf if it could ever since, or never tried."""
        gate = self.gates.get(endpoint)
        return -math.inf if gate is None else gate.refused_at


@dataclass(frozen=True, slots=True)
class _LineGone:
    name: str
    reason: BaseException | None


@dataclass(frozen=True, slots=True)
class _CloseIfIdle:
    name: str


class Pool(StreamActor):
    """The actor; see the module."""

    def __init__(
        self,
        *,
        state: PoolState,
        connections: m.Ref,
        credentials: m.Ref,
        options: ConnectionOptions,
        dialer: Dialer,
        emit: Callable[[events.Event], None],
    ) -> None:
        super().__init__()
        self._state = state
        self._connections = connections
        self._options = options
        self._credentials = credentials
        self._dialer = dialer
        self._emit = emit

    def on_start(self) -> None:
        """Take over what an earlier incarnation has left idle: its timers ended with it."""
        for line in self._state.lines.values():
            self._close_if_idle(line)

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        lines = self._state.lines.values()
        return {"connections": len(lines), "entities": sum(len(line.ids) for line in lines)}

    async def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To the Pool"."""
        match message:
            case m.Lease():
                return await self._lease(message)
            case m.Prepare(endpoint=endpoint, role=role):
                await self._prepare(m.Lease(endpoint, role))
            case m.Release(slot=slot):
                self._release(slot)
            case m.Retire(name=name):
                if (line := self._state.lines.get(name)) is not None:
                    await self._retire(line)
            case m.LostCredit(name=name, entries=entries):
                if (line := self._state.lines.get(name)) is not None:
                    line.lost_credit += entries
                    if line.lost_credit >= LOST_CREDIT_LIMIT:
                        await self._retire(line)
            case m.ConnectionUp(name=name, endpoint=endpoint):
                self._state.was_up = True
                if (line := self._state.lines.get(name)) is not None:
                    line.accepts = frozenset({endpoint})
                    line.came_up = True
                    self._gate(line.endpoint).worked(asyncio.get_running_loop().time())
            case _CloseIfIdle(name=name):
                line = self._state.lines.get(name)
                if line is not None and not len(line.ids):
                    await self._close(line)
            case _LineGone(name=name, reason=reason):
                self._on_gone(name, reason)
            case _:
                return super().on_receive(message)
        return None

    async def _lease(self, wanted: m.Lease) -> m.Slot:
        if not self._options.load_balancer_mode:  # whoever is at an address is the one that was meant
            wanted = replace(wanted, alternatives=())
        line = next((line for line in self._state.lines.values() if line.serves(wanted)), None)
        if line is None:
            line = await self._connect(wanted)
        entity_id = -1 if line.role == CONTROL else line.ids.take()
        return m.Slot(line.ref, line.name, wanted.endpoint, line.role, entity_id)

    async def _prepare(self, wanted: m.Lease) -> None:
        if self._options.load_balancer_mode or any(line.serves(wanted) for line in self._state.lines.values()):
            return  # behind a load balancer, a connection to one broker in particular may cost several
        self._close_if_idle(await self._connect(wanted))

    async def _connect(self, wanted: m.Lease) -> _Line:
        number = next(self._state.numbers)
        endpoint, role = wanted.endpoint, wanted.role
        name = f"{role}-{endpoint}-{number}"
        now = asyncio.get_running_loop().time()
        due = max(now, self._gate(endpoint).until)
        me = self.actor_ref
        accepts = None if wanted.alternatives is None else _accepted(wanted)

        def factory() -> Connection:
            return Connection(
                line_name=name,
                number=number,
                goal=Goal(endpoint, accepts, is_control=role == CONTROL),
                role=role,
                options=self._options,
                dialer=self._dialer,
                credentials=self._credentials,
                start_delay_s=due - now,
                was_up=lambda: self._state.was_up,
                pool=me,
                emit=self._emit,
            )

        def gone(reason: BaseException | None) -> None:
            tell(me, _LineGone(name, reason))

        spec = ChildSpec(name=name, factory=factory, restart=RestartPolicy.TEMPORARY, on_gone=gone)
        ref = await self._connections.ask(StartChild(spec), block=False)
        line = self._state.lines[name] = _Line(name, endpoint, accepts, role, ref, since=due)
        return line

    def _gate(self, endpoint: Endpoint) -> _Gate:
        gate = self._state.gates.get(endpoint)
        if gate is None:
            gate = self._state.gates[endpoint] = _Gate(Backoff(self._options.backoff, random.Random()))
        return gate

    def _release(self, slot: m.Slot) -> None:
        line = self._state.lines.get(slot.name)
        if line is not None:
            line.ids.give_back(slot.entity_id)
            self._close_if_idle(line)

    def _close_if_idle(self, line: _Line) -> None:
        if line.role != CONTROL and not len(line.ids):
            line.stay()
            line.closing = self.call_later(0.0 if line.retired else LINGER_S, _CloseIfIdle(line.name))

    async def _retire(self, line: _Line) -> None:
        line.retired = True
        if not len(line.ids):
            await self._close(line)

    async def _close(self, line: _Line) -> None:
        line.stay()
        del self._state.lines[line.name]
        # Told, not asked: a polite close may take a second, and nobody else should wait for it.
        self._connections.tell(StopChild(line.name))

    def _on_gone(self, name: str, reason: BaseException | None) -> None:
        line = self._state.lines.pop(name, None)
        if line is not None:  # not closed by us
            line.stay()
            refused = isinstance(reason, ResponseError) or isinstance(getattr(reason, "__cause__", None), ResponseError)
            now = asyncio.get_running_loop().time()
            gate = self._gate(line.endpoint)
            gate.failed(line.since, now, REFUSED_DELAY_S if refused else 0.0)
            if not line.came_up and isinstance(reason, ActorStreamError) and reason.retryable:
                gate.refused_at = now
