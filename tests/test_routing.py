"""Where messages go: the hash that all clients agree on, routes that are kept, and what is no routing."""

from __future__ import annotations

import struct
import threading
from typing import Any

import pytest
from hypothesis import given, strategies as st

from actorstream.actors.routing_table import Ask, Routes, RoutingTable
from actorstream.errors import InvalidArgument, NoRoute
from actorstream.routing import HashRouting, KeyRouting, check_routing, murmur3

PARTITIONS = ("ss-0", "ss-1", "ss-2")

# Keys, their hash, and their partition of 3 and of 10. The first four are in the Java client's own tests.
VECTORS = [
    ("hello", 1321743225, 0, 5),
    ("brave", 3825276426, 0, 6),
    ("new", 2970740106, 0, 6),
    ("world", 2453398188, 0, 8),
    ("", 3329588566, 1, 6),
    ("é", 2922484690, 1, 0),
    ("customer-1", 536801432, 2, 2),
]


def same(message: str) -> str:
    return message


def table(routing: Any, partitions: tuple[str, ...] = PARTITIONS) -> RoutingTable:
    made = RoutingTable("ss", routing)
    made.use(partitions)
    return made


def murmur3_as_published(data: bytes, seed: int) -> int:
    """MurmurHash3 x86 32, written down once more from its definition."""

    def mix(block: int) -> int:
        block = block * 0xCC9E2D51 & 0xFFFFFFFF
        block = (block << 15 | block >> 17) & 0xFFFFFFFF
        return block * 0x1B873593 & 0xFFFFFFFF

    state = seed
    whole = len(data) // 4 * 4
    for (block,) in struct.iter_unpack("<I", data[:whole]):
        state ^= mix(block)
        state = (state << 13 | state >> 19) & 0xFFFFFFFF
        state = (state * 5 + 0xE6546B64) & 0xFFFFFFFF
    state ^= mix(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        state ^= state >> shift
        state = state * factor & 0xFFFFFFFF
    return state


# Hash routing


@pytest.mark.parametrize(("key", "number", "of_3", "of_10"), VECTORS)
def test_the_hash_of_a_key_is_that_of_the_other_clients(key: str, number: int, of_3: int, of_10: int) -> None:
    assert murmur3(key) == number
    routing = HashRouting(same)
    for count, index in ((3, of_3), (10, of_10)):
        partitions = tuple(f"p{place}" for place in range(count))
        assert routing(key, partitions) == f"p{index}"


def test_keys_are_spread_as_the_java_clients_test_says() -> None:
    routing = HashRouting(same)
    found = [PARTITIONS.index(routing(f"hello{number}", PARTITIONS)) + 1 for number in range(1, 11)]
    assert found == [2, 1, 2, 3, 1, 3, 1, 2, 1, 3]


@given(st.text())
def test_every_key_has_the_hash_of_the_definition(key: str) -> None:
    assert murmur3(key) == murmur3_as_published(key.encode(), 104_729)


def test_the_order_of_the_partitions_counts_and_not_their_names() -> None:
    routing = HashRouting(same)
    assert routing("hello", ("z", "a", "m")) == "z"


def test_another_hash_may_be_given() -> None:
    routing = HashRouting(same, hash_function=len)
    assert [routing("x" * size, PARTITIONS) for size in range(4)] == ["ss-0", "ss-1", "ss-2", "ss-0"]


@pytest.mark.parametrize("number", [-1, 1.5, "1", None, True])
def test_a_hash_that_is_no_index_is_told(number: Any) -> None:
    with pytest.raises(InvalidArgument, match="the hash of a routing key"):
        HashRouting(same, hash_function=lambda _key: number)("key", PARTITIONS)


@pytest.mark.parametrize("routing", [HashRouting, KeyRouting])
@pytest.mark.parametrize("key", [1, b"bytes", None])
def test_a_key_that_is_no_text_is_told(routing: Any, key: Any) -> None:
    with pytest.raises(InvalidArgument, match="a routing key is a string"):
        table(routing(lambda _message: key)).find("message")


def test_a_key_without_utf8_is_told() -> None:
    with pytest.raises(InvalidArgument, match="cannot be encoded"):
        murmur3("\ud800")


# A routing of one's own


def test_a_callable_chooses_one_partition_or_several() -> None:
    def route(message: str, partitions: tuple[str, ...]) -> str | tuple[str, ...]:
        return partitions if message == "all" else partitions[-1]

    routing = table(route)
    assert routing.find("all") == PARTITIONS
    assert routing.find("one") == ("ss-2",)


def test_a_partition_that_is_chosen_twice_gets_a_message_once() -> None:
    assert table(lambda _message, partitions: [partitions[1], partitions[0], partitions[1]]).find("m") == (
        "ss-1",
        "ss-0",
    )


def test_no_partition_is_a_typed_error() -> None:
    with pytest.raises(NoRoute, match="chose no partition of super stream 'ss'"):
        table(lambda _message, _partitions: ()).find("m")


@pytest.mark.parametrize("chosen", ["ss-3", ["ss-0", "ss-3"]])
def test_what_is_no_partition_is_refused(chosen: Any) -> None:
    with pytest.raises(InvalidArgument, match="'ss-3', which is no partition of 'ss'"):
        table(lambda _message, _partitions: chosen).find("m")


@pytest.mark.parametrize("chosen", [None, 0])
def test_a_routing_that_gives_no_name_is_told(chosen: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"and not {chosen}"):
        table(lambda _message, _partitions: chosen).find("m")


@pytest.mark.parametrize("routing", [None, "hash", 3])
def test_what_is_no_routing_is_refused(routing: Any) -> None:
    with pytest.raises(InvalidArgument, match="routing is a HashRouting, a KeyRouting, or a callable"):
        check_routing(routing)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HashRouting("key"),  # type: ignore[arg-type]
        lambda: HashRouting(same, hash_function=3),  # type: ignore[arg-type]
        lambda: KeyRouting("key"),  # type: ignore[arg-type]
        lambda: KeyRouting(same, fallback=""),
        lambda: KeyRouting(same, max_cached=0),
    ],
)
def test_what_a_routing_cannot_be_made_of_is_refused(make: Any) -> None:
    with pytest.raises(InvalidArgument):
        make()


def test_what_inherits_from_hash_routing_does_what_it_says() -> None:
    class Reversed(HashRouting):
        def __call__(self, message: Any, partitions: tuple[str, ...]) -> str:
            return HashRouting.__call__(self, message, partitions[::-1])

    assert table(HashRouting(same)).find("customer-1") == ("ss-2",)
    assert table(Reversed(same)).find("customer-1") == ("ss-0",)
    assert table(HashRouting(same, hash_function=len)).find("four") == ("ss-1",)


@pytest.mark.parametrize(
    ("kind", "key", "told"),
    [
        (HashRouting, 7, "a routing key is a string, not 7"),
        (KeyRouting, 7, "a routing key is a string, not 7"),
        (HashRouting, "\ud800", "cannot be encoded in UTF-8"),
    ],
)
def test_a_key_that_is_none_is_refused_by_the_table(kind: Any, key: Any, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        table(kind(lambda _: key)).find("m")


# Key routing


def test_a_key_is_asked_for_once_and_each_has_its_own_route() -> None:
    routing = table(KeyRouting(same))
    assert routing.find("a") == Ask("a")
    routing.routes.put("a", ("ss-1",))
    routing.routes.put("b", ("ss-2", "ss-0"))
    assert routing.find("a") == ("ss-1",)
    assert routing.find("b") == ("ss-2", "ss-0")
    routing.routes.clear()
    assert routing.find("a") == Ask("a")


def test_a_key_without_a_route_is_an_error_or_goes_to_the_fallback() -> None:
    routing = table(KeyRouting(same))
    routing.routes.put("a", ())
    with pytest.raises(NoRoute, match="'ss' is bound with the routing key 'a'") as caught:
        routing.find("a")
    assert (caught.value.super_stream, caught.value.key) == ("ss", "a")
    assert table(KeyRouting(same, fallback="ss-0")).accept("a", ()) == ("ss-0",)


def test_f45_a_route_to_a_partition_that_is_not_in_use_is_none() -> None:
    routing = table(KeyRouting(same))
    assert routing.accept("a", ("ss-1", "ss-new")) == ("ss-1",)
    with pytest.raises(NoRoute):
        routing.accept("a", ("ss-new",))


def test_a_fallback_that_is_no_partition_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="'elsewhere'"):
        table(KeyRouting(same, fallback="elsewhere"))


def test_routes_are_bounded_and_the_least_recently_used_goes() -> None:
    routes = Routes(2)
    routes.put("a", ("ss-0",))
    routes.put("b", ())
    assert routes.get("a") == ("ss-0",)
    routes.put("c", ("ss-2",))
    assert (routes.get("a"), routes.get("b"), routes.get("c")) == (("ss-0",), None, ("ss-2",))
    assert len(routes) == 2


def test_routes_may_be_used_by_several_threads() -> None:
    routes = Routes(50)
    errors: list[Exception] = []

    def use(offset: int) -> None:
        try:
            for number in range(5_000):
                key = str((number + offset) % 100)
                assert routes.get(key) in (None, (key,))
                routes.put(key, (key,))
                if not number % 500:
                    routes.clear()
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=use, args=(offset,)) for offset in (0, 33, 66)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(routes) <= 50
