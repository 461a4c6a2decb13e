"""What one commit does to the past: copying it from another thread, naming versions, taking some away."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from threadline.backend import (
    Batch,
    CopyFrom,
    Drop,
    EntryPut,
    HeadFacts,
    Reason,
    Refused,
    judge_copy,
)
from threadline.backends.journal import without_popped
from threadline.backends.sqlite_entries import EntryLog, Words
from threadline.backends.sqlite_file import SQL
from threadline.backends.sqlite_rows import Found, StoredEntry, short

_ID_BYTES = 16


def copy(db: sqlite3.Connection, batch: Batch, found: Found, log: EntryLog, last_seq: int) -> int:
    """Copy rows, blobs, entries and slots from another thread; returns how many entries.

    Raises Refused when that thread is gone, or content of it was taken away since the batch was computed.
    """
    source = batch.copy
    if source is None:
        return 0
    facts = _source(db, batch, source)
    where = {
        "thread": found.id,
        "ns": short(batch.ns),
        "source": facts.id,
        "source_ns": short(source.ns),
    }
    for part in source.ranges:
        db.execute(
            SQL["copy_rows"], {**where, "log": part.log, "start": part.start, "end": part.end}
        )
    for address in source.blobs:
        db.execute(SQL["copy_blob"], {**where, "id": address})
    db.execute(SQL["copy_slots"], where)
    return _copy_entries(db, source, where, log, last_seq)


def _source(db: sqlite3.Connection, batch: Batch, source: CopyFrom) -> Found:
    """The thread that is copied from. Raises Refused."""
    row = db.execute(SQL["commit_facts"], {"key": source.key, "ns": short(source.ns)}).fetchone()
    found = Found(*row) if row else None
    head = found.head() if found else HeadFacts()
    judge_copy(batch, source, found.thread() if found else None, head)
    if found is None:
        raise Refused(Reason.MISSING)
    return found


def copy_thread(
    db: sqlite3.Connection, batch: Batch, source: CopyFrom, found: Found, words: Words
) -> tuple[int | None, dict[str, int]]:
    """Copy another thread with all of its past into one that just came into being: its head in the namespace, and what
    moves with it. Raises Refused."""
    facts = _source(db, batch, source)
    ends = None if source.ends is None else [[short(ns).hex(), last] for ns, last in source.ends]
    where = {
        "thread": found.id,
        "source": facts.id,
        "incarnation": found.incarnation,
        "base": found.last_seq,
        "until": source.until,
        "ends": None if ends is None else json.dumps(ends),
    }
    db.execute(SQL["adopt_thread"], {**where, "lineage": batch.thread and batch.thread.lineage})
    for what in ("heads", "rows", "blobs", "slots"):
        db.execute(SQL[f"copy_all_{what}"], where)
    checkpoints = db.execute(SQL["copy_all_checkpoints"], where).rowcount
    entries = db.execute(SQL["copy_all_entries"], where).rowcount
    db.execute(SQL["copy_all_terms"], where)
    worded = [StoredEntry(*row) for row in db.execute(SQL["find_worded"], where)]
    words.add(db, [(each.id, words.of(each)) for each in worded])
    moved = {
        "last_seq": found.last_seq + facts.last_seq,
        "messages": entries,
        "checkpoints": checkpoints,
    }
    here = db.execute(SQL["commit_facts"], {"key": batch.key, "ns": short(batch.ns)}).fetchone()
    return Found(*here).head_version or None, moved


def _copy_entries(
    db: sqlite3.Connection, source: CopyFrom, where: dict[str, Any], log: EntryLog, last_seq: int
) -> int:
    found = db.execute(SQL["copied_entries"], {**where, "until": source.until})
    stored = [StoredEntry(*row) for row in found]
    seqs, new = log.put(tuple(EntryPut(log.worded(each)) for each in stored), last_seq)
    for each, seq in zip(stored, seqs, strict=True):
        if each.meta is not None:
            db.execute(SQL["copy_entry_terms"], {**where, "seq": each.seq, "ref": seq})
    return new


def rename(db: sqlite3.Connection, batch: Batch, found: Found) -> None:
    """Name versions. Raises Refused when one is not there."""
    where = {"thread": found.id, "ns": short(batch.ns)}
    for version, name in batch.renames:
        changed = db.execute(SQL["rename_checkpoint"], {**where, "version": version, "name": name})
        if changed.rowcount != 1:
            raise Refused(Reason.CONFLICT, found.head_version)


def forget(db: sqlite3.Connection, batch: Batch, found: Found) -> None:
    """Let entries leave what earlier commits answered."""
    if not batch.forget:
        return
    for rev, popped in db.execute(SQL["find_popped"], {"thread": found.id}).fetchall():
        kept = without_popped(popped, batch.forget)
        db.execute(SQL["change_popped"], {"thread": found.id, "rev": rev, "popped": kept})


def drop(db: sqlite3.Connection, batch: Batch, found: Found) -> int:
    """Take checkpoints, rows and blobs away; how many checkpoints."""
    if batch.drop is None:
        return 0
    where = {"thread": found.id, "ns": short(batch.ns)}
    dropped = 0
    if batch.drop.versions:
        versions = json.dumps(batch.drop.versions)
        these = {**where, "versions": versions, "head": found.head_version}
        dropped = db.execute(SQL["drop_checkpoints"], these).rowcount
        db.execute(SQL["drop_checkpoint_terms"], these)
    db.executemany(
        SQL["drop_row"], [{**where, "log": log, "start": start} for log, start in batch.drop.rows]
    )
    needed = _later_blobs(db, batch.drop, where) if batch.drop.blobs else set()
    db.executemany(
        SQL["drop_blob"], [{**where, "id": id} for id in batch.drop.blobs if id not in needed]
    )
    return dropped


def _later_blobs(db: sqlite3.Connection, drop: Drop, where: dict[str, Any]) -> set[bytes]:
    rows = db.execute(SQL["later_blobs"], {**where, "seen": drop.seen})
    return {
        refs[start : start + _ID_BYTES]
        for (refs,) in rows
        for start in range(0, len(refs), _ID_BYTES)
    }
