"""One batch applied inside a transaction: look the op_id up, judge, then change thread, head, log, entries, slots.

Nothing here begins or ends a transaction; whoever calls it undoes everything when it raises.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from threadline.backend import (
    Batch,
    Commit,
    CopyFrom,
    HeadFacts,
    Reason,
    Refused,
    SlotPut,
    ThreadPut,
    judge,
    judge_again,
)
from threadline.backends import sqlite_past
from threadline.backends.sqlite_entries import EntryLog, Words
from threadline.backends.sqlite_file import SQL
from threadline.backends.sqlite_rows import (
    Found,
    StoredEntry,
    checkpoint_columns,
    result_columns,
    row_columns,
    short,
    told_again,
)

#: How long a commit can be repeated with its op_id, in microseconds; and in how many commits old ones are looked for.
JOURNAL_US = 24 * 3600 * 1_000_000
_TRIM_EVERY = 64
#: How many deleted threads one commit lets go of the results of.
_RETIRED = 16


def apply(db: sqlite3.Connection, batch: Batch, words: Words, now: int) -> Commit:
    """Change what the batch says, at `now` (microseconds). Raises Refused."""
    row = db.execute(SQL["commit_facts"], {"key": batch.key, "ns": short(batch.ns)}).fetchone()
    found = Found(*row) if row else None
    if found is not None:
        where = {"thread": found.id, "op_id": batch.op_id}
        if done := db.execute(SQL["find_operation"], where).fetchone():
            judge_again(batch, found.thread())
            return told_again(done, len(batch.slots))
    judge(
        batch,
        found.thread() if found else None,
        found.head() if found else HeadFacts(),
        _fenced(db, batch, found, now),
    )
    if found is None or not found.live:
        found = _create(db, batch, found, now)
    at = max(now, found.activity_at)
    if batch.erase:
        return _erase(db, batch, found, words, at)
    if batch.copy is not None and batch.copy.whole:
        return _copy_thread(db, batch, batch.copy, found, words, at)
    version = _put_state(db, batch, found, at)
    log = EntryLog(db, words, found.id, batch.ns, at)
    taken = sqlite_past.copy(db, batch, found, log, found.last_seq)
    sqlite_past.rename(db, batch, found)
    dropped = sqlite_past.drop(db, batch, found)
    removed, popped = log.remove(batch)
    seqs, new = log.put(batch.entries, found.last_seq + taken)
    log.rewrite(batch.rewrite_entries)
    sqlite_past.forget(db, batch, found)
    slots = tuple([_put_slot(db, batch, found.id, put, at) for put in batch.slots])
    if batch.thread is not None:
        _describe(db, batch.thread, found.id)
    rev = found.rev + 1
    moved = {
        "thread": found.id,
        "rev": rev,
        "gc": int(batch.frees),
        "last_seq": found.last_seq + taken + new,
        "at": found.activity_at if batch.upkeep else at,
        "messages": taken + new - removed,
        "checkpoints": int(version is not None) - dropped,
    }
    if batch.thread is not None:
        moved["at"] = batch.thread.activity_at or moved["at"]
    db.execute(SQL["move_thread"], moved)
    commit = Commit(rev, at, found.incarnation, batch.about, seqs, removed, popped, slots)
    _remember(db, batch, found.id, commit)
    return commit


def _fenced(db: sqlite3.Connection, batch: Batch, found: Found | None, now: int) -> bool:
    """Whether a slot that the batch requires is not as it says."""
    for required in batch.requires_slots:
        if found is None:
            return True
        place = {"kind": required.kind, "key": required.key, "at": max(now, found.activity_at)}
        where = {"thread": found.id, "ns": short(batch.ns), **place}
        row = db.execute(SQL["find_slot"], where).fetchone()
        if row is None or row[0] != required.payload:
            return True
    return False


def _create(db: sqlite3.Connection, batch: Batch, dead: Found | None, now: int) -> Found:
    tenant, app, thread_id = batch.names
    row: dict[str, Any] = {
        "tenant": tenant,
        "app": app,
        "thread_id": thread_id,
        "user": batch.user,
        "incarnation": batch.incarnation,
        "at": now,
    }
    if dead is None:
        added = db.execute(SQL["add_thread"], {**row, "key": batch.key}).lastrowid
        dead = Found(added or 0, 1, *batch.names, batch.user, b"", 0, 0, 0, now, None, 0, 0)
    else:
        retired = {"thread": dead.id, "incarnation": dead.incarnation}
        db.execute(SQL["retire_journal"], retired)
        row["at"] = max(now, dead.activity_at)
        db.execute(SQL["revive_thread"], {**row, "thread": dead.id})
    return dead._replace(live=1, incarnation=batch.incarnation, head_version=0)


def _put_state(db: sqlite3.Connection, batch: Batch, found: Found, at: int) -> int | None:
    where = {"thread": found.id, "ns": short(batch.ns)}
    checkpoint = batch.checkpoint
    if checkpoint is not None or batch.marks or found.namespace is None:
        head = {
            "namespace": batch.namespace,
            "incarnation": found.incarnation,
            "head_version": checkpoint.version if checkpoint else found.head_version,
            "last_version": checkpoint.version if checkpoint else found.last_version,
            "marks": batch.marks,
        }
        db.execute(SQL["put_head"], {**where, **head})
    if checkpoint is not None:
        try:
            db.execute(SQL["add_checkpoint"], {**where, **checkpoint_columns(checkpoint, at)})
        except sqlite3.IntegrityError:
            # The version or the framework's own id is taken.
            raise Refused(Reason.CONFLICT, found.head_version) from None
        _put_terms(db, 1, {**where, "ref": checkpoint.version}, batch.checkpoint_terms)
    for row in batch.rows:
        db.execute(SQL["put_row"], {**where, **row_columns(row)})
    for row in batch.merged:
        db.execute(SQL["put_row"], {**where, **row_columns(row)})
        span = {"log": row.log, "start": row.start, "end": row.end}
        db.execute(SQL["delete_merged"], {**where, **span})
    for blob in batch.blobs:
        content = {"id": blob.id, "key_id": blob.key_id, "payload": blob.payload}
        db.execute(SQL["add_blob"], {**where, **content})
    return checkpoint.version if checkpoint else None


def _put_terms(
    db: sqlite3.Connection, kind: int, where: dict[str, Any], terms: tuple[int, ...]
) -> None:
    if terms:
        rows = [{**where, "kind": kind, "term": term} for term in terms]
        db.executemany(SQL["add_term"], rows)


def _put_slot(db: sqlite3.Connection, batch: Batch, thread: int, put: SlotPut, at: int) -> bool:
    slot = put.slot
    where = {"thread": thread, "ns": short(batch.ns), "kind": slot.kind, "key": slot.key}
    if put.mode != "overwrite":
        there = db.execute(SQL["find_slot"], {**where, "at": at}).fetchone() is not None
        if put.mode == "delete":
            db.execute(SQL["delete_slot"], where)
            return there
        if there:
            return False
    content = {
        "key_id": slot.key_id,
        "expires_at": slot.expires_at if put.ttl is None else at + put.ttl,
        "meta": slot.meta,
        "payload": slot.payload,
    }
    db.execute(SQL["put_slot"], {**where, **content})
    return True


def _describe(db: sqlite3.Connection, said: ThreadPut, thread: int) -> None:
    row = {
        "thread": thread,
        "info": said.info,
        "title": said.title,
        "key_id": said.key_id,
        "owner": said.owner,
        "lineage": said.lineage,
        "replaces_lineage": said.replaces_lineage,
        "created_at": said.created_at,
    }
    db.execute(SQL["describe_thread"], row)
    if said.info is not None:
        db.execute(SQL["delete_thread_terms"], {"thread": thread})
        _put_terms(db, 3, {"thread": thread, "ns": b"", "ref": 0}, said.terms)


def _erase(db: sqlite3.Connection, batch: Batch, found: Found, words: Words, at: int) -> Commit:
    where = {"thread": found.id}
    worded = [StoredEntry(*row) for row in db.execute(SQL["find_worded"], where)]
    words.remove(db, [(each.id, words.of(each)) for each in worded])
    for what in ("checkpoints", "rows", "blobs", "entries", "slots", "terms", "popped", "heads"):
        db.execute(SQL["erase_" + what], where)
    commit = Commit(found.rev + 1, at, found.incarnation)
    times = {"at": at, "trim_at": at + JOURNAL_US}
    db.execute(SQL["erase_thread"], {**where, **times, "rev": commit.rev})
    _remember(db, batch, found.id, commit)
    return commit


def _copy_thread(
    db: sqlite3.Connection, batch: Batch, source: CopyFrom, found: Found, words: Words, at: int
) -> Commit:
    version, moved = sqlite_past.copy_thread(db, batch, source, found, words)
    commit = Commit(found.rev + 1, at, found.incarnation, version)
    db.execute(
        SQL["move_thread"], {"thread": found.id, "rev": commit.rev, "gc": 0, "at": at, **moved}
    )
    _remember(db, batch, found.id, commit)
    return commit


def _remember(db: sqlite3.Connection, batch: Batch, thread: int, commit: Commit) -> None:
    row = {
        "thread": thread,
        "rev": commit.rev,
        "op_id": batch.op_id,
        "kind": None if batch.kind == "put" else batch.kind,
        "at": commit.at,
    }
    if not batch.idempotent:
        db.execute(SQL["add_journal"], {**row, **result_columns(commit)})
    if commit.rev % _TRIM_EVERY == 0:
        db.execute(SQL["trim_journal"], {"thread": thread, "before": commit.at - JOURNAL_US})
    if commit.rev % _TRIM_EVERY == 0 or batch.erase:
        few = {"at": commit.at, "limit": _RETIRED}
        db.execute(SQL["trim_retired"], few)
        db.execute(SQL["trimmed_retired"], few)
