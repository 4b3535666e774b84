"""Where the messages of one super stream's producer go, as far as that is known here.

The rules (`HashRouting`, `KeyRouting`, a callable) are the user's; here they are applied to each message, which is why
this is compiled, and they are not.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mmh3

from actorstream.errors import ActorStreamError, InvalidArgument, NoRoute
from actorstream.routing import SEED, HashRouting, KeyRouting, Routing, check_key, murmur3


@dataclass(frozen=True, slots=True)
class Ask:
    """What `RoutingTable.find` answers for a key whose route is not known: ask the broker, and call `accept`."""

    key: str


class Routes:
    """The broker's answers to Route, by key: at most so many, the least recently used go first. Any thread."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._routes: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> tuple[str, ...] | None:
        """The partitions of a key, which may be none; None when it has to be asked for."""
        with self._lock:
            route = self._routes.get(key)
            if route is not None:
                self._routes.move_to_end(key)
            return route

    def put(self, key: str, route: tuple[str, ...]) -> None:
        """Keep an answer."""
        with self._lock:
            self._routes[key] = route
            self._routes.move_to_end(key)
            if len(self._routes) > self._maximum:
                self._routes.popitem(last=False)

    def clear(self) -> None:
        """Forget all of them: each key is asked for again when it is used."""
        with self._lock:
            self._routes.clear()

    def __len__(self) -> int:
        return len(self._routes)


class RoutingTable:
    """Where the messages of one producer go, as far as that is known here. Any thread.

    Attributes:
        super_stream: its name, for errors.
        routes: what the broker has said of keys; whoever asks it puts the answers there.
        refusal: why nothing is published any more, if the owner says so.
        partitions: those that messages are spread over, in the broker's order.
    """

    def __init__(self, super_stream: str, routing: Routing | KeyRouting) -> None:
        self.super_stream = super_stream
        self._routing: Any = routing
        # What they give is `Any`: compiled, a string that is none would be refused without saying what to do.
        self._asked_key: Callable[[Any], Any] | None = routing.key if isinstance(routing, KeyRouting) else None
        self._hashed_key: Callable[[Any], Any] | None = None
        if type(routing) is HashRouting and routing.hash_function is murmur3:  # what inherits from it may be otherwise
            self._hashed_key = routing.key
        self.routes = Routes(routing.max_cached if isinstance(routing, KeyRouting) else 1)
        self.refusal: ActorStreamError | None = None
        self.partitions: tuple[str, ...] = ()
        self._known: frozenset[str] = frozenset()

    def use(self, partitions: tuple[str, ...]) -> None:
        """Spread messages over these from now on.

        Raises:
            InvalidArgument: the fallback is none of them.
        """
        routing = self._routing
        if isinstance(routing, KeyRouting) and routing.fallback is not None:
            self._check(routing.fallback, frozenset(partitions))
        self.partitions, self._known = partitions, frozenset(partitions)

    def check(self) -> None:
        """Raise the refusal, if there is one."""
        if self.refusal is not None:
            raise self.refusal.with_traceback(None)

    def find(self, message: Any) -> tuple[str, ...] | Ask:
        """The partitions of a message, at least one; or the key that the broker has to be asked for.

        Raises:
            the refusal, if there is one.
            NoRoute: there is none.
            InvalidArgument: its key is no text, or the user's routing names what is no partition.
            and whatever the user's callables raise.
        """
        self.check()
        if self._hashed_key is not None:
            partitions = self.partitions
            return (partitions[_hash(self._hashed_key(message)) % len(partitions)],)
        if self._asked_key is not None:
            key = check_key(self._asked_key(message))
            route = self.routes.get(key)
            return Ask(key) if route is None else self.accept(key, route)
        return self._chosen(self._routing(message, self.partitions))

    def accept(self, key: str, route: tuple[str, ...]) -> tuple[str, ...]:
        """The partitions for a key, of those that the broker has named.

        Raises:
            NoRoute: it named none of those in use, and there is no fallback.
        """
        targets = tuple([name for name in route if name in self._known])
        if targets:
            return targets
        routing = self._routing
        if isinstance(routing, KeyRouting) and routing.fallback is not None:
            return (routing.fallback,)
        raise NoRoute(self.super_stream, key)

    def _chosen(self, chosen: Any) -> tuple[str, ...]:
        """What the user's routing gave, as names of partitions."""
        if isinstance(chosen, str):
            self._check(chosen, self._known)
            return (chosen,)
        if not isinstance(chosen, Iterable):
            raise InvalidArgument(f"the routing gives the name of a partition, or several names, and not {chosen!r}")
        names = tuple(dict.fromkeys(chosen))
        for name in names:
            self._check(name, self._known)
        if not names:
            raise NoRoute(self.super_stream, None)
        return names

    def _check(self, name: Any, known: frozenset[str]) -> None:
        if name not in known:
            raise InvalidArgument(f"the routing names {name!r}, which is no partition of {self.super_stream!r} in use")


def _hash(key: Any) -> int:
    """`murmur3` of a key, without a call into what is not compiled."""
    if not isinstance(key, str):
        check_key(key)
    try:
        return mmh3.mmh3_32_uintdigest(key.encode(), SEED)
    except UnicodeEncodeError:
        return murmur3(key)  # which says so
