"""The benchmark runs, and says what it promises; its figures are not judged here."""

import json
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.workload import Task, bodies, check
from lab.broker import Broker
from tests.interop.conftest import Peer

FEW = ["--rounds", "1", "--publish", "3000", "--consume", "3000", "--wait", "20"]


def test_one_small_round_measures_every_contender(
    broker: Broker, peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "latest.json"
    assert compare.main([*FEW, "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["ratios"].keys() == compare.RATIOS.keys()
    assert all(value > 0 for value in result["ratios"].values())
    table = capsys.readouterr().out
    for contender in (*compare.PUBLISH, *compare.CONSUME, *compare.WAIT):
        assert contender.label in table


@pytest.mark.parametrize("lost", [0, 1024, 2999])
def test_a_lost_message_is_no_result(lost: int) -> None:
    task = Task("consume", "", "", 0, "", 3000)
    sent = bodies(3000)
    check(sent[::1024], 3000, 300_000, task)
    del sent[lost]
    with pytest.raises(AssertionError):
        check(sent[::1024], len(sent), 299_900, task)


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    found = {name: [1.0, 1.0, 1.0] for pair in compare.RATIOS.values() for name in pair}
    found["publish_send"] = [10.0, 1.0, 30.0]
    found["publish_ceiling"] = [20.0, 1.0, 300.0]
    assert compare.ratios(found)["publish_send_vs_ceiling"] == 0.5
