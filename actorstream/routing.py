"""Which partitions of a super stream a message goes to: rules without I/O.

A *routing* is any callable that takes a message and the partitions, in the broker's order, and returns the name of one
of them, or several names:

    HashRouting(lambda message: message.properties.subject)      spread by the hash of a key, as all clients do
    lambda message, partitions: partitions[0]                    one's own rule

`KeyRouting` is the one that the broker decides: a message goes to the partitions that are bound with its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mmh3

from actorstream.errors import InvalidArgument
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
    return mmh3.mmh3_32_uintdigest(data, SEED)


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
        number = self.hash_function(check_key(self.key(message)))
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


def check_routing(routing: Routing | KeyRouting) -> None:
    """Raise InvalidArgument for what is no routing."""
    require(
        isinstance(routing, KeyRouting) or callable(routing),
        "routing is a HashRouting, a KeyRouting, or a callable that takes a message and the partitions and returns "
        f"the names of those that it goes to, not {routing!r}",
    )


def _check_callable(name: str, value: object) -> None:
    require(callable(value), f"{name} is a callable, not {value!r}")


def check_key(key: object) -> str:
    """A routing key as it is.

    Raises:
        InvalidArgument: it is no text.
    """
    if not isinstance(key, str):
        raise InvalidArgument(f"a routing key is a string, not {key!r}: let `key` convert it")
    return key
