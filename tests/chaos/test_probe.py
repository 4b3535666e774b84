"""When a stream could be served again, by what its brokers said."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.chaos.probe import Look, Probe

PORTS = (1, 2, 3)


class Node:
    def __init__(self, port: int) -> None:
        self.port = port
        self.node = f"rabbit@node{port}"


def probe(looks: Iterable[tuple[float, int, int | None]]) -> Probe:
    """What was seen: when, by asking which node, and which port it named as the leader's."""
    nodes = [Node(port) for port in PORTS]
    return Probe(nodes, ["s"], [Look(at, node, {"s": leader}) for at, node, leader in looks])  # type: ignore[arg-type]


def steady(begin: float, end: float, nodes: Iterable[int], leader: int | None) -> list[tuple[float, int, int | None]]:
    count = round((end - begin) * 10)
    return [(begin + step / 10 + node / 100, node, leader) for step in range(count) for node in nodes]


def test_a_stream_is_served_when_its_leader_is_named_and_answers() -> None:
    looks = [*steady(0.0, 3.0, (1, 2), None), *steady(3.0, 6.0, (1, 2), 2)]
    assert probe(looks).served_at("s", 0.0) == [pytest.approx(3.01)]


def test_a_leader_that_is_named_and_does_not_answer_does_not_serve() -> None:
    looks = [*steady(0.0, 3.0, (1, 2), 1), *steady(3.0, 6.0, (1, 2), 3)]
    assert probe(looks).served_at("s", 0.0) == [pytest.approx(3.01)]


def test_the_last_word_of_a_node_that_died_is_no_service() -> None:
    looks = [(0.0, 0, 1), *steady(0.05, 3.0, (1, 2), 1), *steady(3.0, 6.0, (1, 2), 2)]
    assert probe(looks).served_at("s", 0.0) == [pytest.approx(3.01)]


def test_a_stream_that_another_node_leads_is_served_all_the_time() -> None:
    assert probe(steady(0.05, 6.0, (1, 2), 2)).served_at("s", 0.0) == [pytest.approx(0.06)]


def test_what_is_seen_for_a_moment_and_then_nothing_for_long_is_no_service() -> None:
    looks = [*steady(0.05, 0.3, (1, 2), 2), *steady(12.0, 15.0, (1, 2), 2)]
    assert probe(looks).served_at("s", 0.0) == [pytest.approx(12.01)]


def test_service_that_comes_and_goes_begins_each_time() -> None:
    looks = [*steady(0.05, 2.0, (1, 2), 2), *steady(2.0, 2.5, (1, 2), None), *steady(2.5, 5.0, (1, 2), 2)]
    assert probe(looks).served_at("s", 0.0) == [pytest.approx(0.06), pytest.approx(2.51)]
