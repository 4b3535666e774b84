"""The benchmark runs, and says what it promises; its figures are not judged here."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, contenders as c, count
from benchmarks.loops import LOOPS
from benchmarks.measure import ratios
from benchmarks.workload import Task, bodies, check
from lab.broker import Broker
from tests.interop.conftest import Peer

FEW = ["--quick", "--publish", "3000", "--consume", "3000", "--wait", "20", "--handles", "20", "--outage-s", "1"]


def run(output: Path, *sections: str) -> Any:
    assert compare.main([*FEW, "--sections", *sections, "--output", str(output)]) == 0
    return json.loads(output.read_text())


@pytest.mark.timeout(180)
def test_one_small_round_measures_every_contender(
    broker: Broker, peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(tmp_path / "latest.json", "throughput", "steady")
    scale = {"many_handles_vs_ten", "many_handles_vs_ten_ceiling", "super_stream_vs_streams"}
    assert result["ratios"].keys() == (c.RATES.keys() | c.COSTS.keys()) - scale
    assert all(value > 0 for value in result["ratios"].values())
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"throughput", "cost", "latency"}
    table = capsys.readouterr().out
    for contender in (*c.PUBLISH, *c.CONSUME, *c.WAIT, *c.LATENCY, *c.STEADY_PUBLISH, *c.STEADY_CONSUME):
        assert contender.label in table


@pytest.mark.timeout(180)
def test_many_handles_are_measured_beside_few_and_a_super_stream_beside_streams(broker: Broker, tmp_path: Path) -> None:
    result = run(tmp_path / "latest.json", "scale")
    assert result["ratios"].keys() == {"many_handles_vs_ten", "many_handles_vs_ten_ceiling", "super_stream_vs_streams"}
    many = result["scale"]["many_handles"]
    assert many["handles"] == 20
    assert many["connections"] >= 2  # one for those who publish, one for those who consume
    assert (tmp_path / "scaling.svg").exists()


@pytest.mark.timeout(180)
def test_memory_is_measured_of_who_does_not_keep_up_and_of_who_finds_no_broker(
    broker: Broker, chaos: Broker, tmp_path: Path
) -> None:
    result = run(tmp_path / "latest.json", "memory")
    outage = result["scale"]["outage"]
    assert 0 < outage["undecided"] <= 10_000
    assert result["scale"]["slow_consumer"]["messages_in_stream"] == 3000


@pytest.mark.parametrize("lost", [0, 1024, 2999])
def test_a_lost_message_is_no_result(lost: int) -> None:
    task = Task("consume", "", "", 0, "", 3000)
    sent = bodies(3000)
    check(sent[::1024], 3000, 300_000, task)
    del sent[lost]
    with pytest.raises(AssertionError):
        check(sent[::1024], len(sent), 299_900, task)


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    found = {
        "publish_send": [{"rate": 10.0}, {"rate": 1.0}, {"rate": 30.0}],
        "publish_ceiling": [{"rate": 20.0}, {"rate": 1.0}, {"rate": 300.0}],
    }
    assert ratios(found) == {"publish_send_vs_ceiling": 0.5}


@pytest.mark.parametrize(
    ("value", "worse"), [(105.0, False), (106.0, True), (50.0, False)], ids=["within", "beyond", "better"]
)
def test_what_takes_more_than_it_did_beyond_a_tolerance_is_a_regression(value: float, worse: bool) -> None:
    stored = {"compiled decoding": {"instructions": 100.0, "blocks": 2.0}}
    counted = {"compiled decoding": {"instructions": value, "blocks": 2.0}, "compiled new": {"blocks": 7.0}}
    assert bool(count.regressions(counted, stored)) is worse


@pytest.mark.parametrize("name", LOOPS)
def test_every_loop_that_is_counted_handles_as_many_messages_as_it_should(name: str) -> None:
    kept = LOOPS[name](2_000)
    assert len(kept) >= 2  # frames of a thousand, at least


def test_blocks_of_memory_are_counted_alike_each_time() -> None:
    assert count.blocks("decoding", compiled=False) == count.blocks("decoding", compiled=False) > 1
