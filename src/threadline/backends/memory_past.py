"""What one commit does to the past, in memory: copying it from another thread, taking some away."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from threadline.backend import (
    Batch,
    CopyFrom,
    Drop,
    EntryPut,
    HeadFacts,
    Reason,
    Refused,
    ThreadPut,
    ThreadRow,
    judge_copy,
)
from threadline.backends.memory_thread import Space, Thread, facts, put_entry


def check_past(threads: Mapping[bytes, Thread], batch: Batch, space: Space | None) -> None:
    """Raise Refused unless the versions to be named are there, and what is to be copied is as it was read."""
    there = space.checkpoints if space else {}
    if any(version not in there for version, _ in batch.renames):
        raise Refused(Reason.CONFLICT, space.head_version if space else 0)
    if batch.copy is None:
        return
    source = threads.get(batch.copy.key)
    origin = source.spaces.get(batch.copy.ns) if source else None
    head = HeadFacts(origin.head_version, origin.last_version) if origin else HeadFacts()
    judge_copy(batch, batch.copy, facts(source), head)


def copy(source: Space, thread: Thread, space: Space, wanted: CopyFrom) -> None:
    """Copy rows, blobs, entries and slots of another thread's namespace."""
    for part in wanted.ranges:
        for key, row in source.rows.items():
            if row.log == part.log and row.start < part.end and part.start < row.end:
                space.rows.setdefault(key, row)
    for address in wanted.blobs:
        if address in source.blobs:
            space.blobs.setdefault(address, source.blobs[address])
    for place, slot in source.slots.items():
        if slot.expires_at is None:
            space.slots.setdefault(place, slot)
    for seq, entry in sorted(source.entries.items()):
        if wanted.until is None or entry.created_at <= wanted.until:
            terms = tuple(source.entry_terms[seq])
            put_entry(thread, space, EntryPut(entry, terms), thread.activity_at)


def copy_thread(source: Thread, thread: Thread, wanted: CopyFrom) -> None:
    """Copy another thread with all of its past, behind what was ever given out here."""
    base, ends = thread.last_seq, None if wanted.ends is None else dict(wanted.ends)
    thread.last_seq, thread.terms = base + source.last_seq, source.terms
    for ns, origin in source.spaces.items():
        if not origin.live or (ends is not None and ns not in ends):
            continue
        kept = {n: row for n, row in origin.checkpoints.items() if ends is None or n <= ends[ns]}
        head = origin.head_version if ends is None else max(kept, default=0)
        before = thread.spaces.get(ns) or Space("")
        space = thread.spaces[ns] = Space(
            origin.namespace,
            head_version=head,
            last_version=max(before.last_version, origin.last_version if ends is None else head),
            marks=origin.marks,
            checkpoints=kept,
            rows=dict(origin.rows),
            blobs=dict(origin.blobs),
            slots={at: slot for at, slot in origin.slots.items() if slot.expires_at is None},
        )
        space.checkpoint_terms = {n: origin.checkpoint_terms[n] for n in space.checkpoints}
        for seq, entry in origin.entries.items():
            if wanted.until is None or entry.created_at <= wanted.until:
                space.entries[base + seq] = dataclasses.replace(entry, seq=base + seq)
                space.entry_terms[base + seq] = origin.entry_terms[seq]
                if entry.ext_id is not None:
                    space.by_id[entry.ext_id] = base + seq


def adopted(row: ThreadRow, source: Thread, said: ThreadPut | None) -> ThreadRow:
    """The row of a thread that is copied: whose it is, and what is said of it."""
    if (old := source.row) is None:
        return row
    return dataclasses.replace(
        row,
        user=old.user,
        info=old.info,
        title=old.title,
        key_id=old.key_id,
        lineage=said.lineage if said else None,
    )


def drop(space: Space, wanted: Drop) -> None:
    """Take checkpoints, rows and blobs away."""
    for version in wanted.versions:
        if version != space.head_version:
            space.checkpoints.pop(version, None)
            space.checkpoint_terms.pop(version, None)
    for place in wanted.rows:
        space.rows.pop(place, None)
    later = {
        address
        for version, row in space.checkpoints.items()
        if version > wanted.seen
        for address in row.blob_refs
    }
    for address in wanted.blobs:
        if address not in later:
            space.blobs.pop(address, None)
