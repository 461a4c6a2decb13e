"""The logs of a namespace: where each ends, and how their rows are written and merged. Pure.

Each put that brings items writes one row. When sixteen rows have gathered they are merged into one of up to
64 KB, which compresses far better and keeps reading a short range scan. A larger item keeps a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson

from threadline.codec.digest import EMPTY, extend, item_digest
from threadline.codec.envelope import Codec, Where
from threadline.codec.rows import JSON, Items, join, pack, unpack
from threadline.errors import CorruptionError
from threadline.history.row import Row

T = TypeVar("T")

#: How many rows are merged into one, and how many bytes (before compression) a merged row holds at most.
MERGE_ROWS, MERGE_BYTES = 16, 64 * 1024


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a log stands: its end, where its unmerged tail begins and how many rows that has, and the prefix
    digest at its end."""

    end: int = 0
    tail: int = 0
    tail_rows: int = 0
    prefix: bytes = EMPTY


@dataclass(frozen=True, slots=True)
class Growth:
    """What writing some items to a log makes of it."""

    mark: Mark
    rows: tuple[Row, ...] = ()
    merged: tuple[Row, ...] = ()


def write_marks(marks: Sequence[Mark]) -> bytes:
    """The marks of all logs, by number, as the bytes that are kept beside the head."""
    return orjson.dumps(
        [(mark.end, mark.tail, mark.tail_rows, mark.prefix.hex()) for mark in marks]
    )


def read_marks(data: bytes) -> list[Mark]:
    """The marks of `write_marks`. Raises CorruptionError."""
    if not data:
        return []
    try:
        return [
            Mark(end, tail, rows, bytes.fromhex(p)) for end, tail, rows, p in orjson.loads(data)
        ]
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise CorruptionError(f"the marks of a head are damaged: {error!r}") from None


def grow(
    log: int, mark: Mark, items: Sequence[bytes], codec: Codec, tail: Sequence[Row] | None = None
) -> Growth:
    """Append items (their JSON bytes) to a log.

    tail: the rows of the unmerged tail, wanted when `merge_is_due`, to be merged with the new ones; without them
    the merge waits for the next time.
    """
    if not items:
        return Growth(mark)
    rows = list(_new_rows(log, mark, items, codec))
    end = Mark(rows[-1].end, mark.tail, mark.tail_rows + len(rows), rows[-1].p_end)
    if tail is None or end.tail_rows < MERGE_ROWS:
        return Growth(end, tuple(rows))
    merged, single = _merge([*tail, *rows], codec)
    kept = {row.start for row in rows}
    return Growth(
        Mark(end.end, end.end, 0, end.prefix),
        tuple(row for row in single if row.start in kept),
        tuple(merged),
    )


def merge_is_due(mark: Mark) -> bool:
    """Whether the next items of this log complete a merge, so that the rows of its tail should be read."""
    return mark.tail_rows + 1 >= MERGE_ROWS


def open_row(row: Row, codec: Codec) -> Items:
    """The items of a stored row. Raises CorruptionError."""
    data = codec.open(row.payload, row.key_id, _where(row.log, row.start, row.count))
    return unpack(data, row.count)


def _new_rows(log: int, mark: Mark, items: Sequence[bytes], codec: Codec) -> Iterator[Row]:
    start, prefix = mark.end, mark.prefix
    for group in _by_bytes(items, [len(item) for item in items]):
        after = extend(prefix, [item_digest(JSON, item) for item in group])
        payload = codec.seal(pack(group), _where(log, start, len(group)))
        yield Row(log, start, len(group), payload.data, prefix, after, JSON, payload.key_id)
        start, prefix = start + len(group), after


def _merge(rows: Sequence[Row], codec: Codec) -> tuple[list[Row], list[Row]]:
    merged: list[Row] = []
    single: list[Row] = []
    opened = [(row, open_row(row, codec)) for row in rows]
    for group in _by_bytes(opened, [len(items.body) for _, items in opened]):
        first, last = group[0][0], group[-1][0]
        if len(group) == 1:
            single.append(first)
            continue
        count = last.end - first.start
        payload = codec.seal(
            join(items for _, items in group), _where(first.log, first.start, count)
        )
        row = Row(
            first.log,
            first.start,
            count,
            payload.data,
            first.p_start,
            last.p_end,
            JSON,
            payload.key_id,
        )
        merged.append(row)
    return merged, single


def _by_bytes(things: Sequence[T], sizes: Sequence[int]) -> Iterator[list[T]]:
    group: list[T] = []
    filled = 0
    for thing, size in zip(things, sizes, strict=True):
        if group and filled + size > MERGE_BYTES:
            yield group
            group, filled = [], 0
        group.append(thing)
        filled += size
    if group:
        yield group


def _where(log: int, start: int, count: int) -> Where:
    return Where("row", log, start, count)
