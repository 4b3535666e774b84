"""Curves over a run as SVG, with its faults marked."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from tests.chaos.result import Episode

WIDTH, HEIGHT = 1400, 130
Span = tuple[float, float]


def bars(span: Span, times: Iterable[float]) -> list[int]:
    """How many of these times are in each second."""
    counts = [0] * (int(span[1] - span[0]) + 1)
    for at in times:
        if 0 <= int(at - span[0]) < len(counts):
            counts[int(at - span[0])] += 1
    return counts


def curve(span: Span, values: Sequence[int], episodes: Iterable[Episode]) -> str:
    """One value for each second."""
    most = max(values, default=0) or 1
    scale = WIDTH / len(values)
    points = " ".join(f"{i * scale:.1f},{HEIGHT - value / most * (HEIGHT - 14):.1f}" for i, value in enumerate(values))
    marks = "".join(_mark(one, span[0], scale) for one in episodes)
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT + 16}">{marks}<polyline points="{points}" fill="none" stroke="#1f618d"/>'
        f'<text x="4" y="12">most: {most:,}</text><text x="4" y="{HEIGHT + 13}">0 s</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT + 13}">{len(values)} s</text></svg><br>'
    )


def _mark(one: Episode, begin: float, scale: float) -> str:
    title = f"<title>{html.escape(one.title)}</title>"
    return "".join(
        f'<rect x="{(since - begin) * scale:.1f}" y="0" height="{HEIGHT}" fill="{colour}" '
        f'width="{max((until - since) * scale, least):.1f}">{title}</rect>'
        for since, until, colour, least in (
            (one.began_at, one.healed_at, "#f5b7b1", 1.5),
            (one.healed_at, one.went_on_at, "#f9e79f", 0.0),
        )
    )
