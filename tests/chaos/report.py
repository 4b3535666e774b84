"""What a run left behind: `summary.json` for machines, and one page on which a person sees how the client lived."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from actorstream import events
from tests.chaos.campaign import Result, Sample
from tests.chaos.nemesis import FAULTS
from tests.chaos.recovery import by_fault

WIDTH, HEIGHT = 1400, 160
INVARIANTS = (
    ("I1 durability", "every message that was reported confirmed is in the stream"),
    ("I2 one outcome", "every message has exactly one outcome, and no refused one is stored"),
    ("I3 order", "the first occurrences of a producer's messages are in its order"),
    ("I4 named producer", "a named producer's messages are stored once"),
    ("I6 no hole", "a consumer is given every message of the stream"),
    ("I7 monotone", "offsets only grow: nothing comes twice within one consumer"),
    ("I8 one active", "at most one member of a group is inside dispatch of a partition"),
    ("exactly once", "a pipe's target holds each message of its source once, in its order"),
    ("told why", "who loses its stream or its permission is told so, by the right error, and nobody else is"),
    ("policy", "a handler that raises, hangs or is slow: what becomes of its messages is what its policy says"),
    ("I9 liveness", "after each fault everybody goes on; the times are in the table above, beside what they should be"),
    ("I11 resources", "tasks, threads, descriptors and memory are back where they began"),
    ("I12 topology", "one publisher and one subscription on the brokers for each of ours"),
    ("I14 close", "closing is bounded"),
    ("I15 no hot loop", "connection attempts are bounded"),
    ("I16 the fault happened", "each fault was seen to happen"),
)


def summary(result: Result) -> dict[str, object]:
    """Everything in figures."""
    return {
        "seed": result.plan.seed,
        "duration_s": round(result.ended_at - result.began_at, 1),
        "faults": len(result.recoveries),
        "violations": [f"{one.invariant}: {one.text}" for one in result.violations],
        "recovery": by_fault(result.recoveries),
        "counts": {name: dataclasses.asdict(counts) for name, counts in result.counts.items()},
        "processed_again_by_the_group": result.processed_again,
        "connection_attempts_per_second": result.attempts,
        "memory": memory(result.samples),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }


def memory(samples: Sequence[Sample]) -> dict[str, float]:
    """How memory went, in MiB; the slope by the medians of the first and the last third, per hour."""
    if len(samples) < 6:
        return {}
    third = len(samples) // 3
    early, late = samples[:third], samples[-third:]
    mib = 2**20
    hours = (statistics.median(s.at for s in late) - statistics.median(s.at for s in early)) / 3600
    grown = statistics.median(s.rss_bytes for s in late) - statistics.median(s.rss_bytes for s in early)
    return {
        "first_mib": round(samples[0].rss_bytes / mib, 1),
        "last_mib": round(samples[-1].rss_bytes / mib, 1),
        "slope_mib_per_hour": round(grown / mib / hours, 1) if hours else 0.0,
    }


def write(result: Result, folder: Path) -> None:
    """Write both into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary(result), indent=2) + "\n")
    (folder / "report.html").write_text(page(result))


def page(result: Result) -> str:
    """The page, whole: no script, and nothing from elsewhere."""
    verdict = "no violation" if not result.violations else f"{len(result.violations)} violations"
    seconds = result.ended_at - result.began_at
    about = f"seed {result.plan.seed}, {len(result.recoveries)} faults in {seconds:,.0f} s, {os.cpu_count()} cores"
    parts = [
        f"<h1>{verdict}</h1><p>{about}</p>",
        "<h2>Confirmed and delivered, messages a second; faults in red until they are healed</h2>",
        _timeline(result, result.confirmed_at, "confirmed"),
        _timeline(result, result.received_at, "delivered"),
        "<h2>Restarts of actors, a second</h2>",
        _timeline(result, [at for at, event in result.diary.entries if isinstance(event, events.ActorRestarting)], ""),
        "<h2>Recovery, seconds from when the broker could serve again</h2>",
        _recoveries(result),
        "<h2>Invariants</h2>",
        _table(
            ("", "invariant", "what it says", "violations"),
            [
                ("ok" if not texts else "WRONG", name, meaning, "; ".join(texts))
                for name, meaning in INVARIANTS
                for texts in [[one.text for one in result.violations if one.invariant == name]]
            ],
        ),
        "<h2>Messages</h2>",
        _table(
            ("stream", "sent", "confirmed", "rejected", "unconfirmed", "refused", "stored", "stored twice"),
            [(name, *map(str, dataclasses.astuple(counts))) for name, counts in result.counts.items()],
        ),
        "<h2>What happened around each fault</h2>",
        *_diaries(result),
    ]
    style = (
        "body{font:14px/1.4 sans-serif;margin:2em;max-width:1450px}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:2px 8px;text-align:left;vertical-align:top}svg{background:#fafafa}"
        "pre{font-size:12px;white-space:pre-wrap}"
    )
    return f"<!doctype html><meta charset=utf-8><title>{verdict}</title><style>{style}</style>{''.join(parts)}\n"


def _timeline(result: Result, times: Iterable[float], label: str) -> str:
    begin, end = result.began_at, max(result.ended_at, result.began_at + 1)
    seconds = int(end - begin) + 1
    rates = [0] * seconds
    for at in times:
        if 0 <= int(at - begin) < seconds:
            rates[int(at - begin)] += 1
    most = max(rates, default=0) or 1
    scale = WIDTH / seconds
    bands = "".join(
        f'<rect x="{(one.injected_at - begin) * scale:.1f}" y="0" height="{HEIGHT}" fill="#f5b7b1" '
        f'width="{max((one.healed_at - one.injected_at) * scale, 1.5):.1f}">'
        f"<title>{html.escape(one.fault)}</title></rect>"
        for one in result.recoveries
    )
    points = " ".join(f"{i * scale:.1f},{HEIGHT - rate / most * (HEIGHT - 14):.1f}" for i, rate in enumerate(rates))
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT + 16}">{bands}<polyline points="{points}" fill="none" stroke="#1f618d"/>'
        f'<text x="4" y="12">{label} (most: {most})</text><text x="4" y="{HEIGHT + 13}">0 s</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT + 13}">{seconds} s</text></svg><br>'
    )


def _recoveries(result: Result) -> str:
    limits = {fault.name: fault.limit_s for fault in FAULTS}
    rows = [
        (name, *(("" if figure is None else f"{figure}") for figure in figures.values()), f"{limits.get(name, '')}")
        for name, figures in by_fault(result.recoveries).items()
    ]
    heads = ("fault", "times", "confirm p50", "p99", "max", "delivery p50", "p99", "max", "limit")
    return _table(heads, rows)


def _diaries(result: Result) -> Iterable[str]:
    for one in result.recoveries:
        lines = [
            f"{at - one.injected_at:+7.2f}  {event.title}: {event}"
            for at, event in result.diary.entries
            if one.injected_at - 0.5 <= at <= one.healed_at + 10
        ]
        title = f"{one.injected_at - result.began_at:,.1f} s: {one.fault} ({one.proof}), {len(lines)} events"
        log = html.escape("\n".join(lines[:200]))
        yield f"<details><summary>{html.escape(title)}</summary><pre>{log}</pre></details>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
