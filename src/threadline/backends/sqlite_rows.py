"""Between the rows of the SQLite file and the records of the port: columns in, records out, and back.

The order of columns is that of `queries.sql`. NULL stands for what is common (`kind`: put, message), x'' for the
default namespace.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from threadline.backend import (
    CheckpointRow,
    Commit,
    Entry,
    HeadFacts,
    Range,
    Row,
    Slot,
    ThreadFacts,
    ThreadRow,
)
from threadline.backends.journal import read_popped, write_popped

_DEFAULT_NS = bytes(8)
#: How many columns of a thread, of an entry.
THREAD, ENTRY = 16, 13


def short(ns: bytes) -> bytes:
    """A namespace's key as it is stored."""
    return b"" if ns == _DEFAULT_NS else ns


class Found(NamedTuple):
    """A thread's row and its head's as a commit finds them (`commit_facts`)."""

    id: int
    live: int
    tenant: str | None
    app: str | None
    thread_id: str | None
    user: str | None
    incarnation: bytes
    rev: int
    gc: int
    last_seq: int
    activity_at: int
    namespace: str | None
    head_version: int
    last_version: int

    def thread(self) -> ThreadFacts:
        names = (self.tenant or "", self.app or "", self.thread_id or "")
        return ThreadFacts(self.live == 1, names, self.user, self.incarnation, self.gc, self.rev)

    def head(self) -> HeadFacts:
        return HeadFacts(self.head_version, self.last_version)


class StoredEntry(NamedTuple):
    """An entry's row."""

    id: int
    seq: int
    ext_id: str | None
    kind: str | None
    role: str | None
    payload: bytes
    digest: bytes
    search: str | None
    derived: int
    meta: bytes | None
    key_id: int
    created_at: int
    facts: str | None

    def entry(self) -> Entry:
        return Entry(
            kind=self.kind or "message",
            payload=self.payload,
            digest=self.digest,
            seq=self.seq,
            ext_id=self.ext_id,
            role=self.role,
            search=self.search,
            derived=self.derived == 1,
            meta=self.meta,
            key_id=self.key_id,
            created_at=self.created_at,
            facts=self.facts,
        )


def entry_columns(entry: Entry, derived: bool) -> dict[str, Any]:
    """What is stored of an entry's content; its words only when the projection cannot make them again."""
    return {
        "kind": None if entry.kind == "message" else entry.kind,
        "role": entry.role,
        "digest": entry.digest,
        "search": None if derived else entry.search,
        "derived": int(derived),
        "meta": entry.meta,
        "key_id": entry.key_id,
        "payload": entry.payload,
        "facts": entry.facts,
    }


def thread_row(columns: Sequence[Any]) -> ThreadRow:
    """A thread from its 16 columns."""
    key, tenant, app, thread_id, user, incarnation, rev, gc, info, lineage, title = columns[:11]
    key_id, created_at, activity_at, message_count, checkpoint_count = columns[11:THREAD]
    return ThreadRow(
        key=key,
        tenant=tenant,
        app=app,
        thread_id=thread_id,
        user=user,
        incarnation=incarnation,
        rev=rev,
        gc=gc,
        info=info,
        lineage=lineage,
        title=title,
        key_id=key_id,
        created_at=created_at,
        activity_at=activity_at,
        message_count=message_count,
        checkpoint_count=checkpoint_count,
    )


def checkpoint_row(columns: Sequence[Any]) -> CheckpointRow:
    """A checkpoint from its 15 columns."""
    version, payload, digest, parent_version, base, kind, ext_id, name, run_id = columns[:9]
    refs, blob_refs, key_id, size, created_at = columns[9:]
    flat = json.loads(refs) if refs else []
    ids = blob_refs or b""
    return CheckpointRow(
        version=version,
        payload=payload,
        digest=digest,
        parent_version=parent_version,
        base=base,
        kind=kind or "put",
        ext_id=ext_id,
        name=name,
        run_id=run_id,
        refs=tuple(map(Range, flat[::3], flat[1::3], flat[2::3])),
        blob_refs=tuple(ids[at : at + 16] for at in range(0, len(ids), 16)),
        key_id=key_id,
        bytes=size,
        created_at=created_at,
    )


def checkpoint_columns(checkpoint: CheckpointRow, at: int) -> dict[str, Any]:
    """What is stored of a checkpoint."""
    flat = [number for each in checkpoint.refs for number in each]
    return {
        "version": checkpoint.version,
        "parent_version": checkpoint.parent_version,
        "base": checkpoint.base,
        "kind": None if checkpoint.kind == "put" else checkpoint.kind,
        "ext_id": checkpoint.ext_id,
        "name": checkpoint.name,
        "run_id": checkpoint.run_id,
        "refs": f"[{','.join(map(str, flat))}]" if flat else None,
        "blob_refs": b"".join(checkpoint.blob_refs) or None,
        "digest": checkpoint.digest,
        "key_id": checkpoint.key_id,
        "bytes": checkpoint.bytes,
        "created_at": checkpoint.created_at or at,
        "payload": checkpoint.payload,
    }


def log_row(columns: Sequence[Any]) -> Row:
    """A log row from its 8 columns."""
    return Row(*columns)


def row_columns(row: Row) -> dict[str, Any]:
    """What is stored of a log row."""
    return {
        "log": row.log,
        "start": row.start,
        "count": row.count,
        "kind": row.kind,
        "key_id": row.key_id,
        "p_start": row.p_start,
        "p_end": row.p_end,
        "payload": row.payload,
    }


def slot_row(columns: Sequence[Any]) -> Slot:
    """A slot from its 6 columns."""
    kind, key, payload, meta, key_id, expires_at = columns
    return Slot(
        kind=kind, key=key, payload=payload, meta=meta, key_id=key_id, expires_at=expires_at
    )


# What a retry is told ---------------------------------------------------------------------------------------


def result_columns(commit: Commit) -> dict[str, Any]:
    """What the journal keeps of a commit beside its rev, time and incarnation: NULL where there is nothing to say (of
    slots only when one was not written)."""
    told: dict[str, Any] = {}
    if commit.seqs:
        told["seqs"] = _runs(commit.seqs)
    if commit.removed:
        told["removed"] = commit.removed
    if not all(commit.slots):
        told["slots"] = [int(each) for each in commit.slots]
    return {
        "version": commit.version,
        "result": json.dumps(told, separators=(",", ":")) if told else None,
        "popped": write_popped(commit.popped),
    }


def told_again(columns: Sequence[Any], slots: int) -> Commit:
    """The result of an operation with so many slots that was committed before, from `find_operation`."""
    rev, at, incarnation, version, result, popped = columns
    told: Mapping[str, Any] = json.loads(result) if result else {}
    runs = told.get("seqs", [])
    return Commit(
        rev,
        at,
        incarnation,
        version,
        seqs=tuple(
            seq
            for start, count in zip(runs[::2], runs[1::2], strict=True)
            for seq in range(start, start + count)
        ),
        removed=told.get("removed", 0),
        popped=read_popped(popped),
        slots=tuple(map(bool, told.get("slots", (True,) * slots))),
        duplicate=True,
    )


def _runs(seqs: Iterable[int]) -> list[int]:
    """[first, count, first, count, ...] of runs of neighbours."""
    runs: list[int] = []
    for seq in seqs:
        if runs and seq == runs[-2] + runs[-1]:
            runs[-1] += 1
        else:
            runs += (seq, 1)
    return runs
