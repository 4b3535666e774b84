"""Plots as SVG, by hand: bars and lines on a logarithmic scale are all that is needed, and no package for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 210, 40, 45
COLOURS = ("#1b6ca8", "#d1495b", "#edae49", "#66a182", "#5f4b8b", "#8d96a3", "#2e4057", "#b56576")


def lines(title: str, across: str, upward: str, series: Mapping[str, Mapping[float, float]]) -> str:
    """A line for each of the series, of y by x, both logarithmic."""
    points = [(x, y) for values in series.values() for x, y in values.items()]
    xs, ys = _Scale([x for x, _ in points]), _Scale([y for _, y in points])
    parts = [*_frame(title, across, upward, ys)]
    marks = sorted({x for x, _ in points})
    parts += [_text(xs.at(x, LEFT, WIDTH - RIGHT), HEIGHT - BOTTOM + 16, _number(x), "middle") for x in marks]
    for index, (name, values) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [(xs.at(x, LEFT, WIDTH - RIGHT), ys.at(y, HEIGHT - BOTTOM, TOP)) for x, y in sorted(values.items())]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts += _key(index, name, colour)
    return _svg(parts)


def bars(title: str, upward: str, series: Mapping[str, Mapping[str, float]]) -> str:
    """Groups of bars: by group, the value of each name; logarithmic."""
    ys = _Scale([value for values in series.values() for value in values.values()])
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    parts = [*_frame(title, "", upward, ys)]
    room = (WIDTH - LEFT - RIGHT) / max(len(series), 1)
    for place, (group, values) in enumerate(series.items()):
        begin = LEFT + room * (place + 0.1)
        wide = room * 0.8 / len(names)
        for index, name in enumerate(names):
            if name in values:
                top = ys.at(values[name], HEIGHT - BOTTOM, TOP)
                parts.append(
                    f'<rect x="{begin + wide * index:.1f}" y="{top:.1f}" width="{wide * 0.9:.1f}" '
                    f'height="{HEIGHT - BOTTOM - top:.1f}" fill="{COLOURS[index % len(COLOURS)]}">'
                    f"<title>{escape(name)}: {values[name]:,.4g}</title></rect>"
                )
        parts.append(_text(begin + room * 0.4, HEIGHT - BOTTOM + 16, group, "middle"))
    for index, name in enumerate(names):
        parts += _key(index, name, COLOURS[index % len(COLOURS)])
    return _svg(parts)


class _Scale:
    """From values to places, logarithmic, between powers of ten."""

    def __init__(self, values: list[float]) -> None:
        positive = [value for value in values if value > 0] or [1.0]
        self.low = math.floor(math.log10(min(positive)) - 1e-9)
        self.high = max(math.ceil(math.log10(max(positive)) + 1e-9), self.low + 1)

    def at(self, value: float, begin: float, end: float) -> float:
        share = (math.log10(max(value, 10.0**self.low)) - self.low) / (self.high - self.low)
        return begin + (end - begin) * share


def _frame(title: str, across: str, upward: str, ys: _Scale) -> list[str]:
    parts = [_text(LEFT, 22, title, "start", 15), _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, across, "middle")]
    parts.append(_text(12, TOP - 8, upward, "start"))
    for power in range(ys.low, ys.high + 1):
        y = ys.at(10.0**power, HEIGHT - BOTTOM, TOP)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 6, y + 4, _number(10.0**power), "end"))
    return parts


def _key(index: int, name: str, colour: str) -> list[str]:
    y = TOP + 18 * index
    mark = f'<rect x="{WIDTH - RIGHT + 12}" y="{y}" width="10" height="10" fill="{colour}"/>'
    return [mark, _text(WIDTH - RIGHT + 28, y + 9, name, "start")]


def _text(x: float, y: float, text: str, anchor: str, size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _svg(parts: list[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{inside}\n</svg>\n'
    )
