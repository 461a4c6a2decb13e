"""Line plots on two logarithmic axes, as SVG: no library, no script, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Line = Sequence[tuple[float, float]]

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 860, 420, 70, 46, 50, 290
COLOURS = ("#0b63ce", "#57a0f5", "#d1495b", "#edae49", "#8a5fbf", "#2a9d8f", "#777777", "#b56b45")


def plot(title: str, across: str, lines: Mapping[str, Line]) -> str:
    """The picture; `lines` have points with positive coordinates. Threadline's are thick; limits (bare) are dashed."""
    points = [point for line in lines.values() for point in line if min(point) > 0]
    xs, ys = _bounds([x for x, _ in points]), _bounds([y for _, y in points])
    right, bottom = WIDTH - LEGEND, HEIGHT - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - xs[0]) / (xs[1] - xs[0])
        above = (math.log10(y) - ys[0]) / (ys[1] - ys[0])
        return LEFT + along * (right - LEFT), bottom - above * (bottom - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold" fill="#222">{escape(title)}</text>',
    ]
    for power in range(math.ceil(xs[0] - 1e-9), math.floor(xs[1] + 1e-9) + 1):
        x, _ = at(10**power, 10 ** ys[0])
        out.append(_line(x, TOP, x, bottom))
        out.append(_text(x, bottom + 18, _number(10**power), "middle"))
    for power in range(math.ceil(ys[0] - 1e-9), math.floor(ys[1] + 1e-9) + 1):
        _, y = at(10 ** xs[0], 10**power)
        out.append(_line(LEFT, y, right, y))
        out.append(_text(LEFT - 8, y + 4, _number(10**power), "end"))
    out.append(_text((LEFT + right) / 2, HEIGHT - 10, across, "middle"))
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        thick = 3 if name.startswith("Threadline") else 1.6
        dashes = ' stroke-dasharray="5 4"' if name.startswith("bare") else ""
        places = [at(*point) for point in line if min(point) > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{thick}"{dashes}/>'
        )
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = TOP + 10 + number * 22
        out.append(
            f'<line x1="{right + 16}" y1="{y}" x2="{right + 40}" y2="{y}" stroke="{colour}" '
            f'stroke-width="{thick}"{dashes}/>'
        )
        out.append(_text(right + 46, y + 4, name, "start"))
    return "\n".join([*out, "</svg>", ""])


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    return low - 0.08, max(high, low + 0.5) + 0.08


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#e3e3e3"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333">{escape(words)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
