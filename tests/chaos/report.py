"""What a person reads of a run: `summary.json` and one HTML page."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.chaos import holdings
from tests.chaos.plots import bars, curve
from tests.chaos.recovery import by_fault, limits
from tests.chaos.result import Result

AROUND_S = (0.5, 5.0)
"""How long before a fault and after everybody had got on the event log is shown."""
EVENTS_SHOWN = 200
INVARIANTS = (
    ("I1 durability", "every message that was reported confirmed is in the stream"),
    ("I2 one outcome", "every message has exactly one outcome, none is pending after close, no refused one is stored"),
    ("I3 order", "the first occurrences of a producer's messages are in its order"),
    ("I4 named producer", "a named producer's messages are stored once"),
    ("I6 no hole", "a consumer is given every message of the stream"),
    ("I7 monotone", "offsets only grow: nothing comes twice within one consumer"),
    ("I8 one active", "at most one member of a group has a batch of a partition in hand, but for the declared windows"),
    ("exactly once", "a pipe's target holds each message of its source once, in its order"),
    ("told why", "who loses its stream or its permission is told so, by the right error, and nobody else is"),
    ("policy", "a handler that raises, hangs or is slow: what becomes of its messages is what its policy says"),
    ("I9 liveness", "after each fault everybody goes on; the times are in the table above, beside their limits"),
    (
        "I11 resources",
        "nothing grows, and what is left after closing is what was there before: here and on the brokers",
    ),
    ("I12 topology", "exactly one publisher and one subscription on the brokers for each of ours"),
    ("I14 close", "closing is bounded"),
    ("I15 no hot loop", "connection attempts are bounded"),
    ("I16 the fault happened", "each fault was seen to happen"),
)


def summary(result: Result) -> dict[str, object]:
    """Everything in figures."""
    return {
        "seed": result.plan.seed,
        "duration_s": round(result.ended_at - result.began_at, 1),
        "faults": sum(len(episode.faults) for episode in result.episodes),
        "violations": [f"{one.invariant}: {one.text}" for one in result.violations],
        "limits": limits(result.recoveries),
        "recovery": by_fault(result.recoveries),
        "counts": {name: dataclasses.asdict(counts) for name, counts in result.counts.items()},
        "checked": result.checked,
        "processed_again_by_the_group": result.processed_again,
        "overlaps_in_declared_windows": result.overlaps_in_declared_windows,
        "connection_attempts_per_second": result.logbook.attempts_per_second(),
        "resources": holdings.slopes(result.samples),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }


def write(result: Result, folder: Path) -> None:
    """Write both into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary(result), indent=2) + "\n")
    (folder / "report.html").write_text(page(result))


def page(result: Result) -> str:
    """The page, whole: no script, and nothing from elsewhere."""
    late = [fault for fault, limit in limits(result.recoveries).items() if not limit["ok"]]
    verdict = "no violation" if not result.violations else f"{len(result.violations)} violations"
    title = verdict + (f", {len(late)} recoveries over their limit" if late else ", all recoveries within their limits")
    seconds = result.ended_at - result.began_at
    about = f"seed {result.plan.seed}, {len(result.episodes)} episodes in {seconds:,.0f} s, {os.cpu_count()} cores"
    parts = [
        f"<h1 class={'bad' if result.violations or late else 'good'}>{title}</h1><p>{about}</p>",
        _timelines(result),
        "<h2>Recovery, seconds from when the broker could serve again</h2>",
        _recoveries(result),
        "<h2>Invariants</h2>",
        _invariants(result),
        _looked_at(result),
        "<h2>Messages</h2>",
        _table(
            ("producer", "sent", "confirmed", "rejected", "unconfirmed", "refused", "stored", "stored twice"),
            [(name, *map(str, dataclasses.astuple(counts))) for name, counts in result.counts.items()],
        ),
        "<h2>Tasks, threads, file descriptors, memory</h2>",
        _resources(result),
        "<h2>What happened around each fault</h2>",
        *_logs(result),
    ]
    style = (
        "body{font:14px/1.4 sans-serif;margin:2em;max-width:1450px}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:2px 8px;text-align:left;vertical-align:top}svg{background:#fafafa}"
        "pre{font-size:12px;white-space:pre-wrap}.bad{color:#b03a2e}.good{color:#1e8449}h3{margin:8px 0 2px}"
    )
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style>{''.join(parts)}\n"


def _timelines(result: Result) -> str:
    span = result.began_at, max(result.ended_at, result.began_at + 1)
    plots = [
        ("Confirmed, messages a second", bars(span, result.confirmed_at)),
        ("Delivered, messages a second", bars(span, result.received_at)),
        (
            "Lag: messages sent and not yet delivered, most in a second",
            behind(span, result.sent_at, result.received_at),
        ),
        ("Restarts of actors, a second", bars(span, result.logbook.restarts)),
    ]
    shown = "".join(f"<h3>{title}</h3>{curve(span, values, result.episodes)}" for title, values in plots)
    legend = "Faults in red until they are healed, in yellow until everybody had got on; point at one to see its name."
    return f"<h2>Timeline</h2><p>{legend}</p>{shown}"


def behind(span: tuple[float, float], sent: Iterable[float], received: Iterable[float]) -> list[int]:
    """For each second, the most messages at a time that were sent and not yet delivered."""
    moments = sorted([(at, 1) for at in sent] + [(at, -1) for at in received])
    most = [0] * (int(span[1] - span[0]) + 1)
    now = last = 0
    for at, change in moments:
        second = min(max(int(at - span[0]), 0), len(most) - 1)
        for passed in range(last + 1, second + 1):
            most[passed] = now
        now += change
        most[second], last = max(most[second], now), second
    return most


def _recoveries(result: Result) -> str:
    verdicts = limits(result.recoveries)
    rows = [
        (
            "" if name not in verdicts else "ok" if verdicts[name]["ok"] else "LATE",
            name,
            *("" if figure is None else f"{figure}" for figure in figures.values()),
            f"{verdicts[name]['limit_s']}" if name in verdicts else "",
        )
        for name, figures in by_fault(result.recoveries).items()
    ]
    heads = ("", "fault", "times", "confirm p50", "p99", "max", "delivery p50", "p99", "max", "limit of p99")
    return _table(heads, rows)


def _invariants(result: Result) -> str:
    texts = {name: [one.text for one in result.violations if one.invariant == name] for name, _ in INVARIANTS}
    rows = [("WRONG" if texts[name] else "ok", name, meaning, "; ".join(texts[name])) for name, meaning in INVARIANTS]
    return _table(("", "invariant", "what it says", "violations"), rows)


def _looked_at(result: Result) -> str:
    checked = "; ".join(f"{count:,} {what}" for what, count in result.checked.items())
    return (
        f"<p>Looked at: {checked}. The group processed {result.processed_again:,} messages again, as it may when a "
        f"member is killed or cut off; {result.overlaps_in_declared_windows} batches overlapped in two hands then.</p>"
    )


def _resources(result: Result) -> str:
    rows = [
        (kind, *("too short to tell" if figure is None else f"{figure:g}" for figure in figures.values()))
        for kind, figures in holdings.slopes(result.samples).items()
    ]
    return _table(("", "first third (median)", "last third", "most", "an hour"), rows)


def _logs(result: Result) -> Iterable[str]:
    for one in result.episodes:
        entries = list(result.logbook.between(one.began_at - AROUND_S[0], one.went_on_at + AROUND_S[1]))
        lines = [f"{at - one.began_at:+7.2f}  {text}" for at, text in entries[:EVENTS_SHOWN]]
        if len(entries) > EVENTS_SHOWN:
            lines.append(f"… and {len(entries) - EVENTS_SHOWN} more")
        proofs = "; ".join(one.proofs)
        title = f"{one.began_at - result.began_at:,.1f} s: {one.title} ({proofs}), {len(entries)} events"
        yield f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(chr(10).join(lines))}</pre></details>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(text: str) -> str:
    colour = {"ok": " class=good", "WRONG": " class=bad", "LATE": " class=bad"}.get(text, "")
    return f"<td{colour}>{html.escape(text)}</td>"
