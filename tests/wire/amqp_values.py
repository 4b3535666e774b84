"""Values of every AMQP 1.0 type, and a comparison that also looks at the types."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from hypothesis import strategies as st

from actorstream.wire import amqp

texts = st.text(st.characters(codec="utf-8"), max_size=30)
symbols = st.text(st.characters(codec="ascii"), max_size=30).map(amqp.Symbol)
moments = st.datetimes(
    min_value=amqp.FIRST_MOMENT.replace(tzinfo=None),
    max_value=amqp.LAST_MOMENT.replace(tzinfo=None),
    timezones=st.just(dt.UTC),
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
floats32 = st.floats(width=32).map(amqp.Float)


def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1) | st.integers(0, 300).filter(lambda value: value < 2**bits)


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) | st.integers(-128, 127)


BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "ubyte": unsigned(8).map(amqp.UByte),
    "ushort": unsigned(16).map(amqp.UShort),
    "uint": unsigned(32).map(amqp.UInt),
    "ulong": unsigned(64).map(amqp.ULong),
    "byte": signed(8).map(amqp.Byte),
    "short": signed(16).map(amqp.Short),
    "int": signed(32).map(amqp.Int),
    "long": signed(64),
    "float": floats32,
    "double": st.floats(),
    "decimal32": st.binary(min_size=4, max_size=4).map(amqp.Decimal32),
    "decimal64": st.binary(min_size=8, max_size=8).map(amqp.Decimal64),
    "decimal128": st.binary(min_size=16, max_size=16).map(amqp.Decimal128),
    "char": st.characters(codec="utf-8").map(amqp.Char),
    "timestamp": moments,
    "uuid": st.uuids(),
    "binary": st.binary(max_size=300),
    "string": texts | st.text("aé😀", min_size=200, max_size=300),
    "symbol": symbols,
}

simple = st.one_of(*BY_TYPE.values())
# Keys of several numeric types could be equal to each other, and then a dict holds one of them only.
keys = texts | symbols | st.binary(max_size=10)

# One kind of element each, and sometimes long enough for the wide encoding.
arrays = st.one_of(
    *[st.lists(one, min_size=1, max_size=6).map(lambda items: amqp.Array(tuple(items))) for one in BY_TYPE.values()],
    st.lists(signed(64), min_size=255, max_size=260).map(lambda items: amqp.Array(tuple(items))),
    st.lists(st.lists(simple, max_size=3), min_size=1, max_size=3).map(lambda items: amqp.Array(tuple(items))),
    st.lists(texts, min_size=1, max_size=4).map(
        lambda items: amqp.Array(tuple([amqp.Described(amqp.Symbol("d"), item) for item in items]))
    ),
)

values = st.recursive(
    simple | arrays,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(keys, inner, max_size=6),
        st.builds(amqp.Described, simple, inner),
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down; NaN counts as equal to NaN, and 0.0 not to -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, amqp.Array):
        return same(list(one.items), list(other.items))
    if isinstance(one, amqp.Described):
        return same(one.descriptor, other.descriptor) and same(one.value, other.value)
    return bool(one == other)
