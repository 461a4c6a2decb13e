"""Charts as SVG files: what was active day by day, and the tools with their errors. Text is escaped; no script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from threadline.cli.output import one_line
from threadline.cli.plots import each_day

#: Columns of the chart of days; more than that would be too thin to see.
_DAYS = 90
_INK, _GRID, _PAPER = "#1f2933", "#d9dee4", "#ffffff"
_BLUE, _TEAL, _RED = "#2f6fb0", "#2a9d8f", "#c8553d"
_FONT = "font-family='ui-sans-serif, system-ui, Helvetica, Arial, sans-serif'"


def write_charts(folder: Path, scope: dict[str, Any], limit: int) -> list[Path]:
    """Write the charts of what `astats` counted into a folder, made when missing; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = {"roles.svg": _bars("Messages by role", _role_rows(scope, limit))}
    if scope["tools"]:
        charts["tools.svg"] = _bars("Tool calls", _tool_rows(scope, limit), split=True)
    if scope["days"]:
        charts["activity.svg"] = _activity(scope["days"])
    written = []
    for name, chart in sorted(charts.items()):
        path = folder / name
        path.write_text(chart, encoding="utf-8")
        written.append(path)
    return written


# (name, value, part of it that failed, what stands behind the bar)
_Row = tuple[str, int, int, str]


def _role_rows(scope: dict[str, Any], limit: int) -> list[_Row]:
    return [(role, count, 0, f"{count:,}") for role, count in list(scope["roles"].items())[:limit]]


def _tool_rows(scope: dict[str, Any], limit: int) -> list[_Row]:
    rows = []
    for name, tool in list(scope["tools"].items())[:limit]:
        said = f"{tool['calls']:,}"
        if tool["errors"]:
            said += f", {tool['error_rate']:.0%} errors"
        if tool["mean_seconds"] is not None:
            said += f", {tool['mean_seconds']:.1f} s"
        rows.append((name, tool["calls"], tool["errors"], said))
    return rows


def _bars(title: str, rows: Sequence[_Row], *, split: bool = False) -> str:
    """Horizontal bars, the longest 300 wide; the failed part of each is red."""
    height = 70 + 26 * len(rows) + (24 if split else 0)
    most = max((value for _, value, _, _ in rows), default=0) or 1
    parts = []
    for number, (name, value, failed, said) in enumerate(rows):
        y = 52 + 26 * number
        long, bad = 300 * value / most, 300 * failed / most
        parts.append(_text(168, y + 13, one_line(name, 24), anchor="end"))
        parts.append(_rect(176, y, long, 18, _BLUE))
        if bad:
            parts.append(_rect(176 + long - bad, y, bad, 18, _RED))
        parts.append(_text(184 + long, y + 13, said))
    if split:
        y = height - 22
        parts += [_rect(176, y - 9, 10, 10, _BLUE), _text(191, y, "calls")]
        parts += [_rect(236, y - 9, 10, 10, _RED), _text(251, y, "of these, errors")]
    return _page(640, height, title, parts)


def _activity(days: dict[str, dict[str, int]]) -> str:
    """Two rows of columns over the same days."""
    parts: list[str] = []
    for row, (what, colour) in enumerate((("messages", _BLUE), ("checkpoints", _TEAL))):
        values, first = each_day(days, what, _DAYS)
        top, base, most = 62 + 144 * row, 152 + 144 * row, max(values) or 1
        width = 560 / max(len(values), 7)
        parts.append(_text(50, top - 8, f"{what} a day", weight="600"))
        for share in (0.0, 0.5, 1.0):
            y = base - (base - top) * share
            parts.append(f"<line x1='50' x2='610' y1='{y:.1f}' y2='{y:.1f}' stroke='{_GRID}'/>")
            if (most * share).is_integer():
                parts.append(_text(44, y + 4, f"{int(most * share):,}", anchor="end"))
        for number, value in enumerate(values):
            tall = (base - top) * value / most
            if value:
                parts.append(
                    _rect(50 + width * number, base - tall, max(width - 2, 1), tall, colour)
                )
        last = first + timedelta(days=len(values) - 1)
        parts.append(_text(50, base + 18, first.isoformat()))
        if last != first:
            edge = 50 + width * len(values)
            parts.append(_text(max(edge, 200), base + 18, last.isoformat(), anchor="end"))
    return _page(640, 334, "Activity", parts)


def _page(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
        f"viewBox='0 0 {width} {height}' role='img'>\n<title>{escape(title)}</title>\n"
        f"<rect width='{width}' height='{height}' fill='{_PAPER}'/>\n"
    )
    return (
        head + _text(24, 30, title, size=16, weight="600") + "\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' rx='1.5' fill='{fill}'/>"


def _text(
    x: float, y: float, said: str, *, anchor: str = "start", size: int = 12, weight: str = "400"
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} font-size='{size}' font-weight='{weight}' fill='{_INK}' "
        f"text-anchor='{anchor}'>{escape(said)}</text>"
    )
