"""What was measured, as the page needs it: whose a store is, its curve, medians, and how a bound is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from _harness import p50

SYSTEMS = ("SQLite", "PostgreSQL")
Table = list[list[str]]

#: LangGraph's own savers.
SAVERS = {"SQLite": "AsyncSqliteSaver", "PostgreSQL": "AsyncPostgresSaver"}


def ms(samples: Sequence[float]) -> float:
    """The median in milliseconds."""
    return p50(samples) * 1e3


def is_ours(label: str) -> bool:
    """Whether a store is Threadline's."""
    return label.startswith("Threadline")


def is_bare(label: str) -> bool:
    """Whether a store is a bare driver, which is no peer but the limit."""
    return label.startswith("bare")


def courses(told: Any, on: str) -> list[dict[str, Any]]:
    """The courses of one system, without its name in theirs."""
    found = told.get("length", {}).get("courses", [])
    return [
        each | {"name": each["store"].removesuffix(f" ({on})")}
        for each in found
        if each["store"].endswith(f"({on})")
    ]


def common(told: Any, on: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The longest length that every store reached, and each store's point there."""
    each_has = [{point["turns"] for point in each["points"]} for each in courses(told, on)]
    if not each_has:
        return 0, {}
    turns = max(set.intersection(*each_has), default=0)
    return turns, {
        each["name"]: point
        for each in courses(told, on)
        for point in each["points"]
        if point["turns"] == turns
    }


def rate(tries: Sequence[dict[str, Any]]) -> float:
    """The median of turns a second."""
    return p50([each["rate"] for each in tries])


def ratio(medians: float, quiet: float | None) -> str:
    """The ratio of medians, and that at the fastest tenth."""
    return f"{medians:.2f}x" + (f" ({quiet:.2f}x)" if quiet else "")


def said(holds: bool | None) -> str:
    """Whether a bound is held."""
    return {True: "yes", False: "**no**", None: ""}[holds]


#: What is measured as a conversation grows.
MEASURES: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "bytes": ("stored, MB", lambda point: point["bytes"] / 1e6),
    "put": ("put of one turn, milliseconds", lambda point: ms(point["put"])),
    "load": ("reading the whole conversation, milliseconds", lambda point: ms(point["load"])),
}
