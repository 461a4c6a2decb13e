"""The logs of a namespace: where each ends, and how its rows are written. Pure.

The last row of a log is open: what a put appends is joined to it, in place, until it is full (24 KB before compression,
unless the backend likes its rows smaller: `RowSize`); then the next put begins another. So a row compresses like a text
and not like a message, a put touches one row of a log whatever its length, and reading stays a short range scan. A
larger item has a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from threadline.codec.digest import EMPTY, extend, item_digest
from threadline.codec.envelope import Codec, Where
from threadline.codec.rows import JSON, Items, items_of, join, unpack
from threadline.codec.tombstones import stood_there
from threadline.errors import CorruptionError
from threadline.history.row import ROW_SIZE, Row, RowSize


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a log stands: its end, where its open row begins and the bytes in it (before compression; of a full row as
    many as it may hold), and the prefix digests at both places."""

    end: int = 0
    open: int = 0
    open_bytes: int = 0
    prefix: bytes = EMPTY
    open_prefix: bytes = EMPTY


@dataclass(frozen=True, slots=True)
class Growth:
    """What writing some items to a log makes of it: its rows, the first of which may be the open row with its new
    content (written in place), the items of the row that is open then, and the stored bytes of what is new (in a row
    that was there its share)."""

    mark: Mark
    rows: tuple[Row, ...] = ()
    tail: Items | None = None
    size: int = 0


def write_marks(marks: Sequence[Mark]) -> bytes:
    """The marks of all logs, by number, as the bytes that are kept beside the head."""
    return orjson.dumps(
        [
            (mark.end, mark.open, mark.open_bytes, mark.prefix.hex(), mark.open_prefix.hex())
            for mark in marks
        ]
    )


def read_marks(data: bytes) -> list[Mark]:
    """The marks of `write_marks`. Raises CorruptionError."""
    if not data:
        return []
    try:
        return [
            Mark(end, start, size, bytes.fromhex(prefix), bytes.fromhex(open_prefix))
            for end, start, size, prefix, open_prefix in orjson.loads(data)
        ]
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise CorruptionError(f"the marks of a head are damaged: {error!r}") from None


def joins(mark: Mark, items: Sequence[bytes], size: RowSize = ROW_SIZE) -> bool:
    """Whether these items go into the open row, so that its items are needed."""
    return mark.open < mark.end and mark.open_bytes + len(items[0]) < size.plain


def grow(
    log: int,
    mark: Mark,
    items: Sequence[bytes],
    codec: Codec,
    tail: Items | None = None,
    kind: int = JSON,
    row_size: RowSize = ROW_SIZE,
) -> Growth:
    """Append items (their bytes) to a log.

    tail: the items of the open row; without them, or when the first item does not fit beside them, the items begin
    a row of their own. kind: of every item in this log. row_size: when a row is full.
    """
    if not items:
        return Growth(mark, tail=tail)
    if (
        tail is None
        or not joins(mark, items, row_size)
        or len(tail.lengths) != mark.end - mark.open
    ):
        tail, start, begin = None, mark.end, mark.prefix
    else:
        start, begin = mark.open, mark.open_prefix
    rows: list[Row] = []
    size = 0
    position, prefix = mark.end, mark.prefix
    last = Items((), b"")
    for group in _by_bytes(items, mark.open_bytes if tail else 0, row_size.plain):
        prefix = extend(prefix, [_digest(kind, item) for item in group])
        last = join([tail, items_of(group)]) if tail else items_of(group)
        position += len(group)
        where = Where("row", log, start, position - start)
        payload = codec.seal(last.pack(), where)
        size += len(payload.data) * len(group) // len(last.lengths)
        rows.append(
            Row(log, start, position - start, payload.data, begin, prefix, kind, payload.key_id)
        )
        opened, opened_prefix = start, begin
        start, begin, tail = position, prefix, None
    full = row_size.stored is not None and len(payload.data) >= row_size.stored
    filled = row_size.plain if full else len(last.body)
    grown = Mark(position, opened, filled, prefix, opened_prefix)
    return Growth(grown, tuple(rows), last, size)


def open_row(row: Row, codec: Codec) -> Items:
    """The items of a stored row. Raises CorruptionError."""
    data = codec.open(row.payload, row.key_id, Where("row", row.log, row.start, row.count))
    return unpack(data, row.count)


def _digest(kind: int, item: bytes) -> bytes:
    return stood_there(item) if kind == JSON else item_digest(kind, item)


def _by_bytes(items: Sequence[bytes], filled: int, row_bytes: int) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    for item in items:
        if group and filled + len(item) >= row_bytes:
            yield group
            group, filled = [], 0
        group.append(item)
        filled += len(item) + 1
    if group:
        yield group
