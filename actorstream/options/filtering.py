"""Which messages of a stream a consumer wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from actorstream.options.checks import require

MAX_VALUE_BYTES = 2**15 - 1


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages a consumer wants, in two steps.

    The broker leaves out chunks in which no message has one of the `values` (it looks into a Bloom filter of each
    chunk). What it sends is whole chunks, and now and then one without any such value; and it does not tell which value
    a message has. So the second step is the `predicate`, here: it is called with each `Message` that arrives, and has
    to find out from its body or properties.

    Attributes:
        values: one value or several, any of which is wanted. Without any, the broker sends everything, and the
            predicate decides; that works with every broker.
        match_unfiltered: messages that were published without a value are wanted, too.
        predicate: whether a message is wanted. Called once, on the consumer's loop; it should not block.
    """

    values: str | Iterable[str] = ()
    match_unfiltered: bool = field(default=False, kw_only=True)
    predicate: Callable[[Any], bool] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        values = (self.values,) if isinstance(self.values, str) else tuple(self.values)
        for value in values:
            require(isinstance(value, str), f"a filter value is a string, not {value!r}")
            size = len(value.encode("utf-8", "surrogatepass"))
            require(size <= MAX_VALUE_BYTES, f"a filter value has {MAX_VALUE_BYTES} bytes in UTF-8 at most, not {size}")
        require(
            self.predicate is None or callable(self.predicate),
            f"predicate is a function of a message, not {self.predicate!r}",
        )
        require(bool(values) or self.predicate is not None, "a filter has values, a predicate, or both")
        require(bool(values) or not self.match_unfiltered, "match_unfiltered adds to values, and there are none")
        object.__setattr__(self, "values", values)

    @property
    def subscription(self) -> dict[str, str]:
        """The first step, in the properties of a subscription (protocol section Subscribe)."""
        properties = {f"filter.{number}": value for number, value in enumerate(self.values)}
        return properties | ({"match-unfiltered": "true"} if self.match_unfiltered else {})
