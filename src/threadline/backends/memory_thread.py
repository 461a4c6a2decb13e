"""What the in-memory backend keeps of a thread, and how each part of a batch changes it."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from threadline.backend import (
    At,
    Batch,
    Blob,
    CheckpointRow,
    Commit,
    Entry,
    EntryPut,
    Known,
    Range,
    Row,
    Slot,
    SlotPut,
    ThreadFacts,
    ThreadPut,
    ThreadQuery,
    ThreadRow,
    holds,
)
from threadline.history.freeing import Span, Stock

#: How long a commit can be repeated with its `op_id`, in microseconds.
JOURNAL_US = 24 * 3600 * 1_000_000
#: In how many commits of a thread old ones are looked for.
TRIM_EVERY = 64


@dataclass(slots=True)
class Space:
    """One namespace of a thread; `live` is False for what a deletion leaves of one."""

    namespace: str
    live: bool = True
    head_version: int = 0
    last_version: int = 0
    marks: bytes = b""
    checkpoints: dict[int, CheckpointRow] = field(default_factory=dict)
    rows: dict[tuple[int, int], Row] = field(default_factory=dict)
    blobs: dict[bytes, Blob] = field(default_factory=dict)
    entries: dict[int, Entry] = field(default_factory=dict)
    by_id: dict[str, int] = field(default_factory=dict)
    slots: dict[tuple[str, str], Slot] = field(default_factory=dict)
    checkpoint_terms: dict[int, frozenset[int]] = field(default_factory=dict)
    entry_terms: dict[int, frozenset[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Thread:
    """A thread, or what a deletion leaves of it (`row` None)."""

    row: ThreadRow | None = None
    rev: int = 0
    last_seq: int = 0
    activity_at: int = 0
    terms: frozenset[int] = frozenset()
    spaces: dict[bytes, Space] = field(default_factory=dict)
    journal: dict[bytes, Commit] = field(default_factory=dict)

    def space(self, ns: bytes, namespace: str) -> Space:
        space = self.spaces.setdefault(ns, Space(namespace))
        space.namespace, space.live = namespace, True
        return space


def facts(thread: Thread | None) -> ThreadFacts | None:
    """What is judged of a thread; None when there is none, or it was deleted."""
    if thread is None or thread.row is None:
        return None
    row = thread.row
    names = (row.tenant, row.app, row.thread_id)
    return ThreadFacts(True, names, row.user, row.incarnation, row.gc, row.rev)


def born(batch: Batch, at: int) -> ThreadRow:
    """The row of a thread that comes into being."""
    tenant, app, thread_id = batch.names
    return ThreadRow(
        key=batch.key,
        tenant=tenant,
        app=app,
        thread_id=thread_id,
        user=batch.user,
        incarnation=batch.incarnation,
        created_at=at,
        activity_at=at,
    )


def erase(thread: Thread) -> None:
    """Take everything away, leaving the retired versions and the journal without content."""
    thread.row, thread.terms = None, frozenset()
    thread.spaces = {
        ns: Space("", live=False, last_version=space.last_version)
        for ns, space in thread.spaces.items()
    }
    thread.journal = {
        op_id: dataclasses.replace(commit, popped=()) for op_id, commit in thread.journal.items()
    }


def put_checkpoint(space: Space, batch: Batch, at: int) -> None:
    """Write the rows, blobs, marks and checkpoint of a batch."""
    space.rows.update({(row.log, row.start): row for row in batch.rows})
    for merged in batch.merged:
        for key, row in list(space.rows.items()):
            if row.log == merged.log and merged.start <= row.start < merged.end:
                del space.rows[key]
        space.rows[merged.log, merged.start] = merged
    for blob in batch.blobs:
        space.blobs.setdefault(blob.id, blob)
    if batch.marks:
        space.marks = batch.marks
    checkpoint = batch.checkpoint
    if checkpoint is None:
        return
    space.checkpoints[checkpoint.version] = dataclasses.replace(
        checkpoint, created_at=checkpoint.created_at or at
    )
    space.checkpoint_terms[checkpoint.version] = frozenset(batch.checkpoint_terms)
    space.head_version = space.last_version = checkpoint.version


def remove_entries(space: Space, batch: Batch) -> tuple[int, tuple[Entry, ...]]:
    """Take entries away as the batch asks; returns how many, and those that were popped."""
    gone = {space.by_id[ext_id] for ext_id in batch.remove_entries if ext_id in space.by_id}
    popped: tuple[Entry, ...] = ()
    if batch.clear_entries:
        gone.update(space.entries)
    if batch.tail is not None:
        gone.update(seq for seq, _ in batch.tail.expected)
    if batch.pop_entries:
        last = sorted(space.entries)[-batch.pop_entries :]
        popped = tuple(space.entries[seq] for seq in last)
        gone.update(last)
    for seq in gone:
        entry = space.entries.pop(seq)
        space.entry_terms.pop(seq, None)
        if entry.ext_id is not None:
            del space.by_id[entry.ext_id]
    return len(gone), popped


def put_entry(thread: Thread, space: Space, put: EntryPut, at: int) -> int:
    """Put an entry at the end or in place; returns its position."""
    entry = put.entry
    seq = space.by_id.get(entry.ext_id) if entry.ext_id is not None else None
    if seq is not None:
        if put.on_duplicate == "ignore":
            return seq
        old = space.entries[seq]
        if entry.meta is None:
            entry = dataclasses.replace(entry, meta=old.meta)
        else:
            space.entry_terms[seq] = frozenset(put.terms)
        space.entries[seq] = dataclasses.replace(entry, seq=seq, created_at=old.created_at)
        return seq
    thread.last_seq += 1
    seq = thread.last_seq
    space.entries[seq] = dataclasses.replace(entry, seq=seq, created_at=entry.created_at or at)
    space.entry_terms[seq] = frozenset(put.terms)
    if entry.ext_id is not None:
        space.by_id[entry.ext_id] = seq
    return seq


def put_slot(space: Space, put: SlotPut, at: int) -> bool:
    """Write or delete a slot; returns whether it was."""
    key = (put.slot.kind, put.slot.key)
    old = space.slots.get(key)
    there = old is not None and (old.expires_at is None or old.expires_at > at)
    if put.mode == "delete":
        space.slots.pop(key, None)
        return there
    if put.mode == "if_absent" and there:
        return False
    slot = put.slot
    if put.ttl is not None:
        slot = dataclasses.replace(slot, expires_at=at + put.ttl)
    space.slots[key] = slot
    return True


def forget(thread: Thread, ids: Collection[str]) -> None:
    """Let these entries leave what earlier commits answered."""
    for op_id, commit in thread.journal.items() if ids else ():
        kept = tuple(entry for entry in commit.popped if entry.ext_id not in ids)
        thread.journal[op_id] = dataclasses.replace(commit, popped=kept)


def describe(thread: Thread, row: ThreadRow, said: ThreadPut) -> ThreadRow:
    """A thread's row with what is said of it."""
    if said.info is not None:
        thread.terms = frozenset(said.terms)
        row = dataclasses.replace(row, info=said.info, title=said.title, key_id=said.key_id)
    thread.activity_at = said.activity_at or thread.activity_at
    lineage = said.lineage or row.lineage if said.replaces_lineage else row.lineage or said.lineage
    return dataclasses.replace(
        row,
        user=row.user or said.owner,
        lineage=lineage,
        created_at=said.created_at or row.created_at,
    )


def fenced(batch: Batch, space: Space | None, at: int) -> bool:
    """Whether a slot that the batch requires is not as it says."""
    slots = space.slots if space else {}
    return not all(
        holds(each, slots.get((each.kind, each.key)), at) for each in batch.requires_slots
    )


def trim_journal(thread: Thread, at: int) -> None:
    """Forget commits that can no longer be repeated."""
    thread.journal = {
        op_id: commit for op_id, commit in thread.journal.items() if commit.at > at - JOURNAL_US
    }


def trim_retired(
    threads: Mapping[bytes, Thread], retired: deque[tuple[int, bytes]], at: int
) -> None:
    """Forget those of threads that were deleted so long ago, which no commit of their own would. `retired`: when each
    was deleted, in order."""
    while retired and retired[0][0] <= at - JOURNAL_US:
        _, key = retired.popleft()
        if threads[key].row is None:
            trim_journal(threads[key], at)


def find(space: Space, at: At | None) -> CheckpointRow | None:
    """The checkpoint of a moment; the head when it is None."""
    if at is None:
        return space.checkpoints.get(space.head_version)
    for _, row in sorted(space.checkpoints.items(), reverse=True):
        if at.version is not None and row.version == at.version:
            return row
        if at.ext_id is not None and row.ext_id == at.ext_id:
            return row
        if at.name is not None and row.name == at.name:
            return row
    return None


def known_as(thread: ThreadRow, checkpoint: CheckpointRow) -> Known:
    """What a reader of this checkpoint knows of it."""
    return Known(thread.incarnation, checkpoint.version, thread.gc, checkpoint.digest)


def stock(space: Space) -> Stock:
    """Where the rows lie, the blobs, and the bytes of each payload."""
    rows = [
        Span(row.log, row.start, row.end, len(row.payload)) for _, row in sorted(space.rows.items())
    ]
    return Stock(rows, {blob.id: len(blob.payload) for blob in space.blobs.values()})


def remember(
    threads: Mapping[bytes, Thread],
    retired: deque[tuple[int, bytes]],
    batch: Batch,
    row: ThreadRow,
    commit: Commit,
) -> Commit:
    """A commit is done: count what is there, keep what it is answered with, and now and then forget old ones."""
    thread = threads[batch.key]
    thread.row = dataclasses.replace(
        row,
        rev=thread.rev,
        activity_at=thread.activity_at,
        message_count=sum(len(each.entries) for each in thread.spaces.values()),
        checkpoint_count=sum(len(each.checkpoints) for each in thread.spaces.values()),
    )
    if not batch.idempotent:
        thread.journal[batch.op_id] = commit
    if thread.rev % TRIM_EVERY == 0:
        trim_journal(thread, commit.at)
        trim_retired(threads, retired, commit.at)
    return commit


# What is looked for ---------------------------------------------------------------------------------------


def covering(space: Space, ranges: Sequence[Range]) -> list[Row]:
    """The rows that cover some ranges, in order."""
    return [
        row
        for _, row in sorted(space.rows.items())
        if any(r.log == row.log and row.start < r.end and r.start < row.end for r in ranges)
    ]


def found_by(entry: Entry, words: Sequence[str]) -> bool:
    """Whether an entry is found by all of these words."""
    return not words or set((entry.search or "").split(" ")).issuperset(words)


def listed(threads: Mapping[bytes, Thread], query: ThreadQuery) -> list[Thread]:
    """The live threads that a query is about, in no order."""
    return [
        thread
        for thread in threads.values()
        if thread.row is not None
        and query.tenant in (None, thread.row.tenant)
        and query.app in (None, thread.row.app)
        and query.user in (None, thread.row.user)
        and thread.terms.issuperset(query.terms)
    ]
