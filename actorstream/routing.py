"""Which partitions of a super stream a message goes to: rules without I/O.

A *routing* is any callable that takes a message and the partitions, in the broker's order, and returns the name of one
of them, or several names:

    HashRouting(lambda message: message.properties.subject)      spread by the hash of a key, as all clients do
    lambda message, partitions: partitions[0]                    one's own rule

`KeyRouting` is the one that the broker decides: a message goes to the partitions that are bound with its key.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mmh3

from actorstream.errors import InvalidArgument, NoRoute
from actorstream.options.checks import check_name, count, require

SEED = 104_729
"""What the Java client seeds its hash with, and every other one after it."""

Routing = Callable[[Any, tuple[str, ...]], str | Iterable[str]]
"""A message (as it was given to `send`) and the partitions -> the names of those that it goes to."""

Key = Callable[[Any], str]
"""A message (as it was given to `send`) -> its routing key."""


def murmur3(key: str) -> int:
    """The hash that the clients for RabbitMQ Streams agree on: MurmurHash3 x86 32 of the key's UTF-8, unsigned.

    Raises:
        InvalidArgument: the key has no UTF-8.
    """
    try:
        data = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the routing key {key!r} cannot be encoded in UTF-8: {error}") from None
    return mmh3.hash(data, SEED, signed=False)


@dataclass(frozen=True, slots=True)
class HashRouting:
    """Spreads messages by the hash of their key: equal keys go to the same partition, in their order.

    The Java, Go, .NET, Rust and JavaScript clients send every key to the same partition as this one does, as long as
    `hash_function` is left as it is.

    Attributes:
        key: gives the key of a message.
        hash_function: gives an integer, 0 or above, for a key.
    """

    key: Key
    hash_function: Callable[[str], int] = murmur3

    def __post_init__(self) -> None:
        _check_callable("key", self.key)
        _check_callable("hash_function", self.hash_function)

    def __call__(self, message: Any, partitions: tuple[str, ...]) -> str:
        """The partition of a message.

        Raises:
            InvalidArgument: its key is no text, or the hash no such integer.
        """
        number = self.hash_function(_key_of(self.key, message))
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InvalidArgument(f"the hash of a routing key is an integer, 0 or above, not {number!r}")
        return partitions[number % len(partitions)]


@dataclass(frozen=True, slots=True)
class KeyRouting:
    """Sends a message to the partitions that are bound with exactly its key: the broker is asked once for each key.

    What it answers is kept until the partitions are looked at again (`refresh_s` of the producer), so that a binding
    that changes is noticed.

    Attributes:
        key: gives the key of a message.
        fallback: the partition for keys that none is bound with; None: `send` raises `NoRoute` for them.
        max_cached: keys whose routes are kept; beyond that, the one that was not used for longest goes.
    """

    key: Key
    fallback: str | None = None
    max_cached: int = 10_000

    def __post_init__(self) -> None:
        _check_callable("key", self.key)
        if self.fallback is not None:
            check_name("a partition's name", self.fallback)
        count("max_cached", self.max_cached, 1, 2**31)


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


@dataclass(frozen=True, slots=True)
class Ask:
    """What `RoutingTable.find` answers for a key whose route is not known: ask the broker, and call `accept`."""

    key: str


class RoutingTable:
    """Where the messages of one producer go, as far as that is known here. Any thread.

    Attributes:
        super_stream: its name, for errors.
        routes: what the broker has said of keys; whoever asks it puts the answers there.
    """

    def __init__(self, super_stream: str, routing: Routing | KeyRouting) -> None:
        self.super_stream = super_stream
        self._routing = routing
        self.routes = Routes(routing.max_cached if isinstance(routing, KeyRouting) else 1)
        self._partitions: tuple[str, ...] = ()
        self._known: frozenset[str] = frozenset()

    @property
    def partitions(self) -> tuple[str, ...]:
        """Those that messages are spread over, in the broker's order."""
        return self._partitions

    def use(self, partitions: tuple[str, ...]) -> None:
        """Spread messages over these from now on.

        Raises:
            InvalidArgument: the fallback is none of them.
        """
        routing = self._routing
        if isinstance(routing, KeyRouting) and routing.fallback is not None:
            self._check(routing.fallback, frozenset(partitions))
        self._partitions, self._known = partitions, frozenset(partitions)

    def find(self, message: Any) -> tuple[str, ...] | Ask:
        """The partitions of a message, at least one; or the key that the broker has to be asked for.

        Raises:
            NoRoute: there is none.
            InvalidArgument: its key is no text, or the user's routing names what is no partition.
            and whatever the user's callables raise.
        """
        routing = self._routing
        if isinstance(routing, KeyRouting):
            key = _key_of(routing.key, message)
            route = self.routes.get(key)
            return Ask(key) if route is None else self.accept(key, route)
        chosen = routing(message, self._partitions)
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

    def accept(self, key: str, route: tuple[str, ...]) -> tuple[str, ...]:
        """The partitions for a key, of those that the broker has named.

        Raises:
            NoRoute: it named none of those in use, and there is no fallback.
        """
        targets = tuple([name for name in route if name in self._known])
        if targets:
            return targets
        if isinstance(self._routing, KeyRouting) and self._routing.fallback is not None:
            return (self._routing.fallback,)
        raise NoRoute(self.super_stream, key)

    def _check(self, name: str, known: frozenset[str]) -> None:
        if name not in known:
            raise InvalidArgument(f"the routing names {name!r}, which is no partition of {self.super_stream!r} in use")


def check_routing(routing: Routing | KeyRouting) -> None:
    """Raise InvalidArgument for what is no routing."""
    require(
        isinstance(routing, KeyRouting) or callable(routing),
        "routing is a HashRouting, a KeyRouting, or a callable that takes a message and the partitions and returns "
        f"the names of those that it goes to, not {routing!r}",
    )


def _check_callable(name: str, value: object) -> None:
    require(callable(value), f"{name} is a callable, not {value!r}")


def _key_of(extract: Key, message: Any) -> str:
    key = extract(message)
    if not isinstance(key, str):
        raise InvalidArgument(f"a routing key is a string, not {key!r}: let `key` convert it")
    return key
