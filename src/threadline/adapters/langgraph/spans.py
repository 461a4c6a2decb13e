"""Where the store is asked, and how what it answers is found by log and position."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, NamedTuple

from threadline import CorruptionError
from threadline.store import Range, Row, Store, Where

HEAD, BLOB = Where("head"), Where("blob")


class Place(NamedTuple):
    """A thread and a namespace, as the store is asked for them."""

    app: str
    thread_id: str
    namespace: str = ""
    user_id: str | int | None = None
    tenant: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """The config of the store's calls."""
        return self._asdict()


class Spans:
    """The items of some rows, found by log and position."""

    def __init__(self, store: Store, rows: Iterable[Row]) -> None:
        self._store = store
        self._rows: dict[int, list[Row]] = {}
        self._cut: dict[tuple[int, int], list[bytes]] = {}
        for row in sorted(rows, key=lambda row: (row.log, row.start)):
            self._rows.setdefault(row.log, []).append(row)

    def items(self, log: int, pieces: Iterable[tuple[int, int]]) -> list[bytes]:
        """The items of some pieces of a log. Raises CorruptionError when one is missing."""
        rows = self._rows.get(log, [])
        starts = [row.start for row in rows]
        found: list[bytes] = []
        for start, end in pieces:
            while start < end:
                at = bisect_right(starts, start) - 1
                if at < 0 or rows[at].end <= start:
                    raise CorruptionError(f"items {start} to {end} of log {log} are missing")
                row = rows[at]
                stop = min(end, row.end)
                found += self._items(row)[start - row.start : stop - row.start]
                start = stop
        return found

    def _items(self, row: Row) -> list[bytes]:
        place = (row.log, row.start)
        if place not in self._cut:
            self._cut[place] = self._store.open_row(row).cut()
        return self._cut[place]


def config_of(place: Place, checkpoint_id: str) -> Any:
    """The config by which LangGraph knows a checkpoint."""
    return {
        "configurable": {
            "thread_id": place.thread_id,
            "checkpoint_ns": place.namespace,
            "checkpoint_id": checkpoint_id,
        }
    }


def covers(ranges: Iterable[Range], wanted: Range) -> bool:
    """Whether one of some ranges has all of another."""
    return any(
        r.log == wanted.log and r.start <= wanted.start and wanted.end <= r.end for r in ranges
    )
