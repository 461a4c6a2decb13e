"""What is read, each function on one connection. Several statements belong to one snapshot: see `snapshot`."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from threadline.backend import (
    At,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Entry,
    EntryQuery,
    Head,
    Known,
    Range,
    Row,
    Slot,
    SlotQuery,
    ThreadQuery,
    ThreadRow,
)
from threadline.backends.sqlite_entries import Words
from threadline.backends.sqlite_file import SQL
from threadline.backends.sqlite_rows import (
    ENTRY,
    THREAD,
    StoredEntry,
    checkpoint_row,
    log_row,
    short,
    slot_row,
    thread_row,
)
from threadline.errors import CorruptionError
from threadline.history.freeing import Span, Stock

#: A word as the index cuts them: what is none is in no entry, and would be a phrase to FTS5.
_WORD = re.compile(r"[A-Za-z0-9\u0080-\U0010ffff]+")
_MOST: Final = 2**63 - 1
Where = dict[str, Any]


def where(key: bytes, ns: bytes, user: str | None) -> Where:
    """The parameters that every read of a thread has."""
    return {"key": key, "ns": short(ns), "user": user}


@contextlib.contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """What is read inside is of one moment. After an error the pool undoes the transaction."""
    db.execute(SQL["begin_read"])
    yield
    db.execute(SQL["commit"])


def head(
    db: sqlite3.Connection,
    place: Where,
    at: At | None,
    known: Known | None,
    content: bool,
) -> Head:
    """See `Backend.read_head`."""
    if at is None and known is not None:
        # The common case costs one statement.
        row = db.execute(SQL["read_head"], place).fetchone()
        thread = thread_row(row) if row is not None else None
        if thread and known == (thread.incarnation, row[THREAD], thread.gc, row[-1]):
            return Head(
                thread=thread,
                head_version=row[THREAD],
                last_version=row[THREAD + 1],
                marks=row[THREAD + 2],
                unchanged=True,
            )
    with snapshot(db):
        row = db.execute(SQL["read_head"], place).fetchone()
        if row is None:
            retired = db.execute(SQL["read_retired"], place).fetchone()
            return Head(last_version=retired[0] if retired else 0)
        head_version, last_version, marks, number, _ = row[THREAD:]
        checkpoint = _checkpoint(db, number, place["ns"], at or At(version=head_version))
        rows: list[Row] = []
        blobs: tuple[Blob, ...] = ()
        if checkpoint is not None and content:
            rows = _rows(db, place, checkpoint.refs)
            blobs = tuple(_blobs(db, place, checkpoint.blob_refs))
            if len(blobs) < len(set(checkpoint.blob_refs)):
                raise CorruptionError("a checkpoint refers to a large field that is not there")
    return Head(
        thread=thread_row(row),
        head_version=head_version,
        last_version=last_version,
        marks=marks,
        checkpoint=checkpoint,
        rows=tuple(rows),
        blobs=blobs,
    )


def _checkpoint(db: sqlite3.Connection, thread: int, ns: bytes, at: At) -> CheckpointRow | None:
    by, value = "version", at.version or 0
    parameters: Where = {"thread": thread, "ns": ns, by: value}
    if at.ext_id is not None:
        by, parameters["ext_id"] = "ext_id", at.ext_id
    elif at.name is not None:
        by, parameters["name"] = "name", at.name
    row = db.execute(SQL["checkpoint_by_" + by], parameters).fetchone()
    return checkpoint_row(row) if row else None


def blobs(db: sqlite3.Connection, place: Where, ids: Sequence[bytes]) -> list[Blob]:
    """See `Backend.read_blobs`."""
    with snapshot(db):
        return _blobs(db, place, ids)


def _blobs(db: sqlite3.Connection, place: Where, ids: Sequence[bytes]) -> list[Blob]:
    found = (
        db.execute(SQL["read_blob"], {**place, "id": id}).fetchone() for id in dict.fromkeys(ids)
    )
    return [Blob(*row) for row in found if row is not None]


def rows(db: sqlite3.Connection, place: Where, ranges: Sequence[Range]) -> list[Row]:
    """See `Backend.read_rows`."""
    if len(ranges) == 1:
        return _rows(db, place, ranges)
    with snapshot(db):
        return _rows(db, place, ranges)


def _rows(db: sqlite3.Connection, place: Where, ranges: Sequence[Range]) -> list[Row]:
    found: dict[tuple[int, int], Row] = {}
    for log, start, end in ranges:
        span = {**place, "log": log, "start": start, "end": end}
        for columns in db.execute(SQL["read_rows"], span):
            found[columns[0], columns[1]] = log_row(columns)
    return [found[key] for key in sorted(found)]


def checkpoints(
    db: sqlite3.Connection, place: Where, query: CheckpointQuery
) -> list[CheckpointRow]:
    """See `Backend.read_checkpoints`."""
    name = "read_checkpoints" if query.name is None else "read_named_checkpoints"
    parameters = {
        **place,
        **_terms(query.terms),
        "name": query.name,
        "before": _MOST if query.before is None else query.before,
        "limit": _limit(query.limit),
    }
    return [checkpoint_row(row) for row in db.execute(SQL[name], parameters)]


def entries(
    db: sqlite3.Connection, place: Where, query: EntryQuery, projected: Words
) -> list[Entry]:
    """See `Backend.read_entries`."""
    if not all(map(_WORD.fullmatch, query.words)):
        return []
    parameters = {
        **place,
        **_terms(query.terms),
        "after": query.after,
        "before": _MOST if query.before is None else query.before,
        "role": query.role,
        "limit": _limit(query.limit),
    }
    if query.ext_ids is not None:
        return _named_entries(db, parameters, query, projected)
    order = "newest" if query.newest else "oldest"
    if query.words and projected.indexed:
        parameters["match"] = _match(query.words)
        found = db.execute(SQL["read_worded_" + order], parameters)
    else:
        parameters["words"] = json.dumps(query.words)
        found = db.execute(SQL["read_entries_" + order], parameters)
    return [StoredEntry(*row).entry() for row in found]


def _named_entries(
    db: sqlite3.Connection, parameters: Where, query: EntryQuery, projected: Words
) -> list[Entry]:
    parameters["ext_ids"] = json.dumps(query.ext_ids)
    stored = [StoredEntry(*row) for row in db.execute(SQL["read_named_entries"], parameters)]
    if query.words:
        stored = [
            each
            for each in stored
            if set((projected.of(each) or "").split(" ")).issuperset(query.words)
        ]
    if query.newest:
        stored.reverse()
    return [each.entry() for each in stored[: query.limit]]


def search(
    db: sqlite3.Connection,
    threads: ThreadQuery,
    words: Sequence[str],
    before: int | None,
    limit: int,
    projected: Words,
) -> list[tuple[int, ThreadRow, Entry]]:
    """See `Backend.search`."""
    if not all(map(_WORD.fullmatch, words)):
        return []
    by_index = bool(words) and projected.indexed
    parameters = {
        **_terms(threads.terms),
        "tenant": threads.tenant,
        "app": threads.app,
        "user": threads.user,
        "match": _match(words),
        "words": json.dumps(words),
        "before": _MOST if before is None else before,
        "limit": limit,
    }
    found = db.execute(SQL["search_words" if by_index else "search_texts"], parameters)
    return [(row[0], thread_row(row[ENTRY:]), StoredEntry(*row[:ENTRY]).entry()) for row in found]


def slots(db: sqlite3.Connection, place: Where, query: SlotQuery, now: int) -> list[Slot]:
    """See `Backend.read_slots`."""
    parameters = {
        **place,
        "kind": query.kind,
        "first": query.prefix,
        "end": _behind(query.prefix),
        "after": query.after,
        "now": now,
        "limit": _limit(query.limit),
    }
    return [
        slot_row(row)
        for row in db.execute(
            SQL["read_slots" if query.kind is not None else "read_all_slots"], parameters
        )
    ]


def threads(db: sqlite3.Connection, query: ThreadQuery) -> list[ThreadRow]:
    """See `Backend.read_threads`."""
    name = "threads_" + ("oldest" if query.oldest else "newest")
    if query.tenant is None or query.app is None:
        name = "all_" + name
    elif query.user is not None:
        name = "user_" + name
    at, key = query.after or ((-1, b"") if query.oldest else (_MOST, b""))
    parameters = {
        **_terms(query.terms),
        "tenant": query.tenant,
        "app": query.app,
        "user": query.user,
        "after_at": at,
        "after_key": key,
        "limit": _limit(query.limit),
        "offset": query.offset,
    }
    return [thread_row(row) for row in db.execute(SQL[name], parameters)]


def namespaces(db: sqlite3.Connection, key: bytes, user: str | None) -> list[str]:
    """See `Backend.read_namespaces`."""
    found = db.execute(SQL["read_namespaces"], {"key": key, "user": user})
    return [name for (name,) in found]


def stock(db: sqlite3.Connection, place: Where) -> Stock:
    """Where the rows of a namespace lie, its blobs, and the bytes of each payload."""
    with snapshot(db):
        rows = [Span(*row) for row in db.execute(SQL["row_stock"], place)]
        return Stock(rows, dict(db.execute(SQL["blob_stock"], place).fetchall()))


_MEASURED = (
    "threads",
    "namespaces",
    "checkpoints",
    "checkpoint_bytes",
    "messages",
    "message_bytes",
    "rows",
    "row_bytes",
)


def measure(db: sqlite3.Connection, keys: Sequence[bytes] | None) -> list[dict[str, int]]:
    """See `Backend.measure`; `store_bytes` is the sum of the payloads."""
    with snapshot(db):
        if keys is None:
            return [_sizes(db.execute(SQL["measure_all"]).fetchone())]
        found = (db.execute(SQL["measure_thread"], {"key": key}).fetchone() for key in keys)
        return [_sizes(row) for row in found]


def _sizes(row: Sequence[int] | None) -> dict[str, int]:
    sizes = dict(zip(_MEASURED, row or [0] * len(_MEASURED), strict=True))
    sizes["store_bytes"] = sum(sizes[each] for each in _MEASURED if each.endswith("_bytes"))
    return sizes


def _terms(terms: Sequence[int]) -> Where:
    wanted = sorted(set(terms))
    return {"terms": json.dumps(wanted), "term_count": len(wanted)}


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit


def _match(words: Sequence[str]) -> str:
    """The words as an FTS5 query: each a quoted string, so that none of it is syntax."""
    quoted = ['"' + word.replace('"', '""') + '"' for word in words]
    return " AND ".join(quoted)


def _behind(prefix: str) -> str | bytes:
    """The first key that sorts behind all that begin with `prefix`; a BLOB sorts behind every text."""
    for at in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[at])
        if point < 0x10FFFF:
            return prefix[:at] + chr(0xE000 if point == 0xD7FF else point + 1)
    return b""
