"""Small plots for a terminal: bars of blocks, and a line of days. They fit 50 columns and need no colour."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from rich.cells import set_cell_size
from rich.text import Text

from threadline.cli.output import console, one_line

_BAR, _SHORT, _NAME, _DAYS = 20, 10, 14, 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = " ▁▂▃▄▅▆▇█"


def bar(value: float, most: float, width: int = _BAR) -> str:
    """A bar of this share of `width` cells, to an eighth of a cell; what is more than nothing is seen."""
    eighths = round(8 * width * value / most) if most else 0
    eighths = max(eighths, 1) if value else 0
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def line(values: list[int]) -> str:
    """One character a value, as high as its share of the highest."""
    most = max(values, default=0)
    return "".join(_HEIGHTS[-(-8 * value // most)] if most else " " for value in values)


def each_day(
    days: dict[str, dict[str, int]], what: str, most: int = _DAYS
) -> tuple[list[int], date]:
    """How many on each day up to the last one, those without any too; and the first of these days."""
    last = date.fromisoformat(max(days))
    first = max(date.fromisoformat(min(days)), last - timedelta(days=most - 1))
    span = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [days.get(day.isoformat(), {}).get(what, 0) for day in span], first


def print_activity(scope: dict[str, Any], limit: int) -> None:
    """What `astats` counted, as bars: roles, tools, tokens, days."""
    out = console()
    roles = list(scope["roles"].items())[:limit]
    if roles:
        _head("messages by role")
        for role, count in roles:
            out.print(_row(role, count, roles[0][1]))
    tools = list(scope["tools"].items())[:limit]
    if tools:
        _head("tools", " (calls, errors, mean time)")
        for name, tool in tools:
            mean = tool["mean_seconds"]
            said = f" {tool['error_rate']:>4.0%}" + ("" if mean is None else f" {mean:6.1f} s")
            row = _row(name, tool["calls"], tools[0][1]["calls"], _SHORT)
            row.pad_right(2 + _NAME + 9 + _SHORT - row.cell_len)
            out.print(row.append(said))
    if scope["tokens"]["total"]:
        told = ", ".join(f"{count:,} {kind}" for kind, count in scope["tokens"].items() if count)
        _head("tokens", f" {told}")
    if scope["days"] and limit:
        for what in ("messages", "checkpoints"):
            values, first = each_day(scope["days"], what)
            _head(f"{what} a day", f" since {first}, at most {max(values):,}")
            out.print(Text(f"  ▕{line(values)}▏"))


def _head(title: str, said: str = "") -> None:
    console().print()
    console().print(Text(title, style="bold").append(said, style="not bold"), soft_wrap=True)


def _row(name: str, count: int, most: int, width: int = _BAR) -> Text:
    shown = set_cell_size(one_line(name, _NAME), _NAME)
    return Text(f"  {shown} {count:>7,} {bar(count, most, width):<{width}}".rstrip())
