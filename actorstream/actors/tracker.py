"""Keeps the place of one named consumer: loads it at the start, and stores it while the consumer goes on.

What is stored is how far processing has been *completed*, as the cursor's progress says: by how many were completed
since, by time, when the user says so, and at the end. One offset at a time is on its way, always the newest: what
comes meanwhile is stored with the next one. Consumers of one name in one process share what they know to be stored, so
that a late store never takes back a newer one (F52).

The broker does not answer a store, and forgets it when the stream has no leader at that moment (F51). So what is not
known to be stored is read back: soon after it was sent, and at the end before the consumer goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from actorstream import events, offset
from actorstream.actors import messages as m
from actorstream.actors.cursor import Cursor
from actorstream.actors.future import LoopFuture
from actorstream.actors.membership import Membership
from actorstream.actors.offset_store import Store
from actorstream.actors.progress import Progress
from actorstream.actors.runtime import StreamActor
from actorstream.backoff import Backoff, BackoffPolicy
from actorstream.errors import ActorStreamError, ConsumeError, OffsetStoreFailed, RequestTimeout
from actorstream.offset import OffsetSpecification
from actorstream.options import AutoTracking

CHECK_S = 5.0
"""How soon a store that nobody answered is read back, where the policy names no interval."""
READ_BACK_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Pauses before each look whether a store arrived, until it is sent again: it passes through the stream's leader."""


class StoredOffset:
    """What one name is known to have stored for one stream; shared by its consumers in this process."""

    __slots__ = ("__weakref__", "lock", "replaces", "sent", "value")

    def __init__(self) -> None:
        self.value: int | None = None
        """What the store was last known to hold."""
        self.sent: int | None = None
        """The newest offset that was handed to the store."""
        self.replaces = False
        """Whether what was handed over takes the place of something newer, which the store may still hold."""
        self.lock = asyncio.Lock()
        """One of its consumers stores at a time: two messages to one broker may take different ways."""

    @property
    def is_certain(self) -> bool:
        """Whether nothing was handed over that may have been lost."""
        return self.sent == self.value

    def found(self, value: int | None) -> None:
        """This is what the store holds."""
        self.value = self.sent = value
        self.replaces = False

    def forget(self) -> None:
        """What is stored next need not be newer."""
        self.value = self.sent = None
        self.replaces = True

    def is_in(self, found: int) -> bool:
        """Whether a store that holds this has got what was sent, or something newer since."""
        return self.sent is None or found == self.sent or (found > self.sent and not self.replaces)


@dataclass(slots=True)
class TrackerState:
    """What survives an incarnation.

    Attributes:
        specification: what the user asked for, where nothing is stored.
        policy: None: only what the user hands over is stored.
        progress: the place whose offsets are stored; in another one, lower ones are news.
        resting: the consumer has no place of its own at this moment: before it has started, and after its end.
        membership: of a single active consumer.
    """

    name: str
    stream: str
    specification: OffsetSpecification
    cursor: Cursor
    policy: AutoTracking | None
    stored: StoredOffset = field(default_factory=StoredOffset)
    resting: bool = True
    given: int | None = None
    failing: bool = False
    progress: Progress | None = None
    membership: Membership | None = None

    @property
    def is_resting(self) -> bool:
        """Whether nothing is stored: it has no place, or another member of its group has the word (F52)."""
        return self.resting or (self.membership is not None and not self.membership.may_store)

    def target(self) -> int | None:
        """The offset that should be stored now; None when there is nothing to store."""
        if self.is_resting:
            return None
        progress = self.cursor.progress
        if progress is not self.progress:
            # The consumer was sent elsewhere, or its stream was made anew: offsets below the old ones are news.
            if self.progress is not None:
                self.stored.forget()
            self.progress, self.given = progress, None
        completed = None if self.policy is None else progress.completed
        offsets = [one for one in (completed, self.given) if one is not None]
        return max(offsets) if offsets else None

    def news(self) -> int | None:
        """The target, if it was not handed to the store before."""
        target, sent = self.target(), self.stored.sent
        return target if target is not None and (sent is None or target > sent) else None


class OffsetTracker(StreamActor):
    """The actor; see the module. It handles one message at a time, and so has one store under way."""

    def __init__(
        self, *, state: TrackerState, store: Store, backoff: BackoffPolicy, emit: Callable[[events.Event], None]
    ) -> None:
        super().__init__()
        self._state = state
        self._store = store
        self._backoff = backoff
        self._emit = emit
        self._finding: asyncio.Task[None] | None = None

    def describe(self) -> dict[str, object]:
        """What the tree shows of it."""
        state = self._state
        return {
            "consumer": state.name,
            "stream": state.stream,
            "completed": state.cursor.progress.completed,
            "sent": state.stored.sent,
            "stored": state.stored.value,
            "resting": state.is_resting,
        }

    def on_start(self) -> None:
        """Look at the clock from now on."""
        self._look_again()

    def _look_again(self) -> None:
        policy = self._state.policy
        interval = policy.interval_s if policy is not None else CHECK_S
        self.call_later(CHECK_S if interval is None else interval, m.CheckTracking())

    async def on_receive(self, message: object) -> object:
        """Handle one message of `messages`, section "To an OffsetTracker"."""
        match message:
            case m.StartingOffset():
                answer: LoopFuture[OffsetSpecification] = LoopFuture()
                if self._finding is not None:
                    # Whoever asked before has given up, as each activation does in time; and what the store says to
                    # that question may be older than what another member of the group has stored since.
                    self._finding.cancel()
                self._finding = self.spawn(self._find_start(answer))
                return answer
            case m.StoreCompleted():
                await self._store_news()
            case m.CheckTracking():
                await self._on_time()
                self._look_again()
            case m.StoreThis(offset=value):
                await self._store_this(value)
            case m.FlushOffsets(within_s=seconds, rest=rest):
                return await self._flush(seconds, rest=rest)
            case m.StoredNow():
                return await self._store.load()
            case _:
                return super().on_receive(message)
        return None

    # Starting -------------------------------------------------------------------------------------------------------

    async def _find_start(self, answer: LoopFuture[OffsetSpecification]) -> None:
        """Ask the store until it answers: to begin elsewhere because it does not would skip or repeat (F53)."""
        pauses = Backoff(self._backoff)
        while True:
            try:
                async with self._state.stored.lock:
                    value = await self._store.load()
                    self._state.stored.found(value)
            except ActorStreamError as error:
                if not error.retryable:
                    answer.try_set_exception(error)
                    return
                await asyncio.sleep(pauses.next_delay())
            else:
                break
        self._state.resting = False
        answer.try_set(self._state.specification if value is None else offset.at(value + 1))

    # Storing --------------------------------------------------------------------------------------------------------

    async def _store_news(self) -> None:
        """Store what was completed since, if anything was; what fails is told once, and tried with the next one."""
        try:
            async with self._state.stored.lock:
                value = self._state.news()
                if value is not None:
                    await self._send(value)
        except ActorStreamError as error:
            self._failed(error)

    async def _on_time(self) -> None:
        """What the user handed over, or what failed before, is due whatever the policy says of time."""
        state = self._state
        if state.policy is None or state.policy.interval_s is not None or state.failing:
            await self._store_news()
        await self._check()

    async def _send(self, value: int) -> None:
        stored = self._state.stored
        await self._store.store(value)
        stored.sent = value
        if self._store.answers:
            self._arrived(value)

    def _arrived(self, value: int) -> None:
        state = self._state
        state.stored.found(value)
        state.failing = False
        self._emit(events.OffsetStored(path=self.path, stream=state.stream, name=state.name, offset=value))

    def _failed(self, error: ActorStreamError) -> None:
        state = self._state
        if not state.failing:
            state.failing = True
            self._emit(events.OffsetNotStored(path=self.path, stream=state.stream, name=state.name, reason=error))

    async def _check(self) -> None:
        """Look whether the last store arrived, and send it again if it did not."""
        state = self._state
        if state.is_resting or state.stored.is_certain:
            return
        try:
            async with state.stored.lock:
                await self._read_back(resend=True)
        except ActorStreamError as error:
            self._failed(error)

    async def _read_back(self, *, resend: bool) -> bool:
        """Whether the store holds what was sent last, or something newer."""
        stored = self._state.stored
        found = await self._store.load()
        if stored.sent is None:  # the consumer was sent elsewhere meanwhile
            return True
        if found is not None and stored.is_in(found):
            self._arrived(found)
            return True
        if resend:
            await self._send(stored.sent)
        return False

    async def _store_this(self, value: int) -> None:
        """What the user hands over. Like everything here, it never takes back what is stored."""
        state = self._state
        if state.is_resting:
            raise ConsumeError(
                f"the consumer {state.name!r} of stream {state.stream!r} is not active: it stores nothing"
            )
        state.target()  # forget what was given in another place
        state.given = value if state.given is None else max(value, state.given)
        async with state.stored.lock:
            news = state.news()
            if news is not None:
                await self._send(news)

    async def _flush(self, seconds: float, *, rest: bool) -> int | None:
        """Store the last completed offset, and make sure of it.

        Raises:
            OffsetStoreFailed: not in time, or not at all.
        """
        state = self._state
        try:
            async with asyncio.timeout(seconds):
                return await self._insist()
        except (TimeoutError, ActorStreamError) as error:
            cause = RequestTimeout("storing an offset", seconds) if isinstance(error, TimeoutError) else error
            self._failed(cause)
            raise OffsetStoreFailed(state.name, state.stream, "stored", cause) from error
        finally:
            if rest:
                state.resting = True

    async def _insist(self) -> int | None:
        pauses = Backoff(self._backoff)
        while True:
            try:
                async with self._state.stored.lock:
                    if await self._store_for_sure():
                        return self._state.stored.value
            except ActorStreamError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(pauses.next_delay())

    async def _store_for_sure(self) -> bool:
        """Send what is new, and look whether it arrived; sent again when it does not."""
        state = self._state
        news = state.news()
        if news is not None:
            await self._send(news)
        if state.is_resting or state.stored.is_certain:
            return True
        for pause in READ_BACK_S:
            await asyncio.sleep(pause)
            if await self._read_back(resend=pause == READ_BACK_S[-1]):
                return True
        return False
