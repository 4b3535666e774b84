"""What is made of a run: the verdict on its recovery times, its slopes, its lag, its page; and what a member wrote."""

import json
import re
from array import array
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from actorstream import events
from tests.chaos import report
from tests.chaos.checker import Violation
from tests.chaos.holdings import Sample, check_flat, check_left, slopes
from tests.chaos.logbook import Logbook
from tests.chaos.recovery import Recovery, limits
from tests.chaos.report import behind
from tests.chaos.result import Episode, Plan, Result
from tests.chaos.share import Share
from tests.chaos.worker import Orders, Progress


def recovery(fault: str, confirm_s: list[float], delivery_s: list[float], limit_s: float = 1.0) -> Recovery:
    return Recovery(fault, 10.0, 11.0, 11.0, limit_s, tuple(confirm_s), tuple(delivery_s))


def test_a_recovery_over_its_limit_is_said_to_be_so() -> None:
    found = limits(
        [recovery("slow", [0.1, 1.2], [0.1]), recovery("quick", [0.1], [0.9]), recovery("unmeasured", [], [])]
    )
    assert found == {
        "quick": {"limit_s": 1.0, "worst_s": 0.9, "ok": True},
        "slow": {"limit_s": 1.0, "worst_s": 1.2, "ok": False},
    }


def test_one_late_stream_of_many_is_above_the_99th_percentile_only_with_enough_of_them() -> None:
    assert limits([recovery("cut", [0.1] * 200 + [9.0], [])])["cut"]["ok"]
    assert not limits([recovery("cut", [0.1] * 50 + [9.0], [])])["cut"]["ok"]


def growing(seconds: int, per_hour_mib: float, tasks: int = 10) -> list[Sample]:
    return [Sample(float(at), tasks, 5, 40, 100.0 + per_hour_mib * at / 3600) for at in range(0, seconds, 2)]


def test_what_grows_over_a_long_run_is_found_and_a_short_one_tells_nothing() -> None:
    assert check_flat(growing(1800, 10.0)) == []
    assert [violation.invariant for violation in check_flat(growing(1800, 100.0))] == ["I11 resources"]
    assert check_flat(growing(300, 1000.0)) == []
    assert slopes(growing(300, 1000.0))["rss_mib"]["per_hour"] is None
    assert slopes(growing(1800, 100.0))["rss_mib"]["per_hour"] == pytest.approx(100.0, rel=0.05)
    assert slopes(growing(30, 1.0)) == {}


def test_growth_during_the_warm_up_is_not_counted() -> None:
    warm = [Sample(float(at), 10, 5, 40, 500.0) for at in range(-58, 0, 2)]
    assert slopes([*warm, *growing(1800, 0.0)])["rss_mib"] == {"first": 100, "last": 100, "most": 100, "per_hour": 0}


def test_what_is_left_after_closing_is_found() -> None:
    before = Sample(0.0, 3, 2, 20, 0.0)
    assert check_left(before, Sample(9.0, 4, 3, 21, 0.0)) == []
    assert len(check_left(before, Sample(9.0, 5, 4, 22, 0.0))) == 3


def test_lag_is_the_most_that_was_on_its_way_within_each_second() -> None:
    assert behind((0.0, 4.0), [0.1, 0.2, 0.3, 1.1], [0.4, 3.5, 3.6, 3.7]) == [3, 3, 3, 3, 0]
    assert behind((0.0, 2.0), [], []) == [0, 0, 0]


@pytest.mark.parametrize("wrong", [False, True])
def test_the_page_and_the_summary_tell_a_run(tmp_path: Path, wrong: bool) -> None:
    logbook = Logbook(tmp_path / "events.log")
    logbook.file.write_text("3.000\tdisconnected: from <broker>\n90.000\tconnected: later\n")
    logbook.restarts = array("d", [3.0])
    result = Result(Plan(7), 0.0, logbook, ended_at=20.0)
    result.episodes = [Episode(("leader's node killed",), ("it answers no more",), 2.0, 9.0, 9.5)]
    result.recoveries = [recovery("leader's node killed", [2.5 if wrong else 0.5], [0.4])]
    result.confirmed_at, result.sent_at, result.received_at = [1.0, 3.0], [1.0, 2.0], [1.5, 4.5]
    if wrong:
        result.found([Violation("I3 order", "7 comes first after 8")])
    report.write(result, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["seed"] == 7
    assert summary["limits"]["leader's node killed"]["ok"] == (not wrong)
    assert summary["recovery"]["leader's node killed"]["confirm_p99_s"] == (2.5 if wrong else 0.5)
    assert summary["violations"] == (["I3 order: 7 comes first after 8"] if wrong else [])
    page = (tmp_path / "report.html").read_text()
    assert ("1 violations" in page, ">WRONG<" in page, ">LATE<" in page) == (wrong, wrong, wrong)
    plots = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page)]
    assert [len(plot.findall("polyline")) for plot in plots] == [1, 1, 1, 1]
    assert "disconnected: from &lt;broker&gt;" in page
    assert "connected: later" not in page
    assert page.count("<title>leader&#x27;s node killed</title>") == 8, (
        "marked in four plots, with a band for each part"
    )


def test_connection_attempts_are_counted_by_broker_and_second(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path / "events.log")
    for at, broker in ((1.0, "a"), (1.5, "a"), (2.0, "a"), (1.2, "b")):
        logbook._count(at, events.Connected(path="root", broker=broker, version="4"))
    assert logbook.attempts_per_second() == {"a": 2, "b": 1}


class Member:
    """A worker that exists only in what it wrote down."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders


def test_a_members_lines_tell_what_it_had_in_hand_and_until_when(tmp_path: Path) -> None:
    file = tmp_path / "member.txt"
    file.write_text(
        "+ p 2 1.0\n= p 5 7 0 1.1\n= p 6 7 1 1.2\n- p 1.3\n+ q 3 2.0\n= q 0 7 2 2.1\n! 2.5\n+ q 3 4.0\n= q 0 7"
    )
    assert Progress.of(str(file)) == Progress(0, 3)
    share = Share(Member(Orders("member", "one", {}, "s", file=str(file))))  # type: ignore[arg-type]
    assert list(share.history("p").offsets) == [5, 6]
    assert list(share.history("q").offsets) == [0], "a line that is not whole yet is not read"
    spans = [(span.partition, span.since, span.until) for span in share.spans()]
    assert spans == [("p", 1.0, 1.3), ("q", 2.0, 2.5), ("q", 4.0, float("inf"))]


@pytest.mark.parametrize(
    ("lines", "within"),
    [
        ("", False),
        ("+ p 2 1.0\n", False),
        ("+ p 2 1.0\n= p 0 7 0 1.1\n", True),
        ("+ p 2 1.0\n= p 0 7 0 1.1\n= p 1 7 1 1.2\n", False),
        ("+ p 2 1.0\n= p 0 7 0 1.1\n! 1.2\n", False),
    ],
)
def test_who_has_some_of_a_batch_behind_it_is_amid_it(tmp_path: Path, lines: str, within: bool) -> None:
    file = tmp_path / "member.txt"
    file.write_text(lines)
    assert Progress.of(str(file)).is_within == within
