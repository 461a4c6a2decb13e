"""Between the rows of PostgreSQL and the records of the port: columns in, records out, and back.

The order of columns is that of `queries.sql`. NULL stands for what is common (`kind`: put, message), '' for the
default namespace. Text columns hold what PostgreSQL can store; what restores a record is its payload.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from threadline.backend import (
    Batch,
    Blob,
    CheckpointRow,
    Commit,
    Entry,
    EntryPut,
    HeadFacts,
    Range,
    Row,
    Slot,
    SlotPut,
    ThreadFacts,
    ThreadRow,
)
from threadline.backends.journal import read_popped
from threadline.backends.pg_sql import UserIds
from threadline.backends.pg_values import (
    cleaned,
    id_in,
    id_out,
    owner_in,
    owner_out,
    place,
    words_in,
)

# What is written --------------------------------------------------------------------------------------------


def thread_parameters(batch: Batch, user_ids: UserIds, now: int | None) -> dict[str, Any]:
    """What a put says of the thread and the head."""
    tenant, app, thread_id = batch.names
    said, expected = batch.thread, batch.expected
    return {
        **place(batch.key, batch.ns),
        "tenant": tenant,
        "app": app,
        "thread_id": thread_id,
        "namespace": batch.namespace,
        "user": owner_in(batch.user, user_ids),
        "now": now,
        "incarnation": batch.incarnation,
        "requires": batch.requires,
        "known": expected.incarnation if expected else None,
        "assumes_gc": batch.assumes_gc,
        "assumes_rev": batch.assumes_rev,
        "expected": expected.version if expected else None,
        "last_version": batch.last_version if expected else 0,
        "marks": batch.marks,
        "frees": int(batch.frees),
        "upkeep": batch.upkeep,
        "about": batch.about,
        "op_id": batch.op_id.hex(),
        "op": int.from_bytes(batch.op_id[8:], "big", signed=True),
        "kind": None if batch.kind == "put" else batch.kind,
        "info": said.info if said else None,
        "title": cleaned(said.title) if said else None,
        "info_key_id": said.key_id if said else 0,
        "owner": owner_in(said.owner, user_ids) if said else None,
        "lineage": said.lineage if said else None,
        "replaces_lineage": said is not None and said.replaces_lineage,
        "born_at": said.created_at or None if said else None,
        "active_at": said.activity_at or None if said else None,
        "thread_terms": sorted(set(said.terms)) if said and said.info is not None else [],
    }


def checkpoint_parameters(batch: Batch) -> dict[str, Any]:
    """What a put says of its checkpoint."""
    row = batch.checkpoint
    if row is None:
        return {"version": None, "checkpoints": 0}
    parent, based = row.parent_version or 0, row.base == row.parent_version
    return {
        "version": row.version,
        "checkpoints": 1,
        "parent_version": None if parent == row.version - 1 else parent,
        "base": None if based else row.base,
        "based": None if based else False,
        "state_kind": None if row.kind == "put" else row.kind,
        "ext_id": id_in(row.ext_id),
        "name": row.name,
        "run_id": row.run_id,
        "refs": ",".join([str(number) for each in row.refs for number in each]) or None,
        "blob_refs": b"".join(row.blob_refs) or None,
        "digest": row.digest,
        "key_id": row.key_id,
        "bytes": row.bytes,
        "created_at": row.created_at or None,
        "terms": list(batch.checkpoint_terms) or None,
        "payload": row.payload,
    }


def row_parameters(batch: Batch) -> dict[str, Any]:
    """What a put says of the rows of logs."""
    rows, merged = (*batch.rows, *batch.merged), batch.merged
    return {
        "row_log": [row.log for row in rows],
        "row_start": [row.start for row in rows],
        "row_count": [row.count for row in rows],
        "row_kind": [row.kind for row in rows],
        "row_key_id": [row.key_id for row in rows],
        "row_p_start": [row.p_start for row in rows],
        "row_p_end": [row.p_end for row in rows],
        "row_payload": [row.payload for row in rows],
        "merged_log": [row.log for row in merged],
        "merged_start": [row.start for row in merged],
        "merged_end": [row.end for row in merged],
    }


def blob_parameters(batch: Batch) -> dict[str, Any]:
    """What a put says of blobs."""
    return {
        "blob_id": [blob.id for blob in batch.blobs],
        "blob_key_id": [blob.key_id for blob in batch.blobs],
        "blob_payload": [blob.payload for blob in batch.blobs],
    }


def entry_parameters(puts: Sequence[EntryPut], projected: bool) -> dict[str, Any]:
    """What a put says of entries, each of another id. `projected`: a projection makes derived words again."""
    entries = [put.entry for put in puts]
    columns = entry_columns(entries, projected)
    return {
        "entry_ext_id": [id_in(each.ext_id) for each in entries],
        "entry_terms": [_terms_in(put) for put in puts],
        "ignored": [id_in(put.entry.ext_id) for put in puts if put.on_duplicate == "ignore"],
        "entry_created_at": [each.created_at or None for each in entries],
        **{f"entry_{name}": values for name, values in columns.items()},
    }


def entry_columns(entries: Sequence[Entry], projected: bool) -> dict[str, list[Any]]:
    """The content of entries, column by column."""
    return {
        "kind": [None if each.kind == "message" else each.kind for each in entries],
        "role": [each.role for each in entries],
        "digest": [each.digest for each in entries],
        "search": [None if projected and each.derived else each.search for each in entries],
        "derived": [projected and each.derived for each in entries],
        "words": [words_in(each.search) for each in entries],
        "meta": [each.meta for each in entries],
        "key_id": [each.key_id for each in entries],
        "payload": [each.payload for each in entries],
        "facts": [each.facts for each in entries],
    }


def plain_slots(batch: Batch) -> bool:
    """Whether the slots of a batch are written in one step: none comes twice, and one that is deleted is required to be
    there (what is written while the step waits for the thread's row, it would not see)."""
    places = {(put.slot.kind, put.slot.key) for put in batch.slots}
    required = {(each.kind, each.key) for each in batch.requires_slots}
    return len(places) == len(batch.slots) and all(
        put.mode != "delete" or (put.slot.kind, put.slot.key) in required for put in batch.slots
    )


def parted_slots(batch: Batch) -> tuple[list[SlotPut], list[Slot]]:
    """The slots that a batch writes, and those that it deletes."""
    gone = [put.slot for put in batch.slots if put.mode == "delete"]
    return [put for put in batch.slots if put.mode != "delete"], gone


def slot_parameters(batch: Batch) -> dict[str, Any]:
    """What a put says of slots, each of another key."""
    puts, gone = parted_slots(batch)
    slots = [put.slot for put in puts]
    absent = [put.slot for put in puts if put.mode == "if_absent"]
    return {
        "slot_kind": [slot.kind for slot in slots],
        "slot_key": [slot.key.encode() for slot in slots],
        "slot_key_id": [slot.key_id for slot in slots],
        "slot_expires_at": [slot.expires_at for slot in slots],
        "slot_ttl": [put.ttl for put in puts],
        "slot_meta": [slot.meta for slot in slots],
        "slot_payload": [slot.payload for slot in slots],
        "absent_kind": [slot.kind for slot in absent],
        "absent_key": [slot.key.encode() for slot in absent],
        "gone_kind": [slot.kind for slot in gone],
        "gone_key": [slot.key.encode() for slot in gone],
    }


def fence_parameters(batch: Batch) -> dict[str, Any]:
    """What a put requires of slots."""
    return {
        "fence_kind": [each.kind for each in batch.requires_slots],
        "fence_key": [each.key.encode() for each in batch.requires_slots],
        "fence_payload": [each.payload for each in batch.requires_slots],
    }


def _terms_in(put: EntryPut) -> str | None:
    return "{" + ",".join(map(str, put.terms)) + "}" if put.terms else None


def folded(puts: Sequence[EntryPut]) -> tuple[list[EntryPut], list[int]]:
    """The entries with each id once, as if they were put one after the other; and where each of `puts` is among
    them."""
    kept: list[EntryPut] = []
    places: dict[str, int] = {}
    where: list[int] = []
    for put in puts:
        ext_id = put.entry.ext_id
        place = places.get(ext_id) if ext_id is not None else None
        if place is None:
            place = len(kept)
            kept.append(put)
            if ext_id is not None:
                places[ext_id] = place
        elif put.on_duplicate == "replace":
            kept[place] = _over(kept[place], put)
        where.append(place)
    return kept, where


def _over(old: EntryPut, new: EntryPut) -> EntryPut:
    entry = dataclasses.replace(new.entry, created_at=old.entry.created_at)
    if entry.meta is None:
        return EntryPut(dataclasses.replace(entry, meta=old.entry.meta), old.terms)
    return EntryPut(entry, new.terms)


# What is read -----------------------------------------------------------------------------------------------


def facts_of(row: Mapping[str, Any]) -> tuple[ThreadFacts, HeadFacts]:
    """What `judge` must know, from `commit_facts`."""
    names = (row["tenant"] or "", row["app"] or "", row["thread_id"] or "")
    thread = ThreadFacts(
        row["live"], names, owner_out(row["owner"]), row["incarnation"], row["gc"], row["rev"]
    )
    return thread, HeadFacts(row["head_version"], row["last_version"])


def thread_row(columns: Sequence[Any]) -> ThreadRow:
    """A thread from its 16 columns."""
    key, tenant, app, thread_id, owner, incarnation, rev, gc, info, lineage, title = columns[:11]
    key_id, created_at, activity_at, message_count, checkpoint_count = columns[11:]
    return ThreadRow(
        key=key,
        tenant=tenant,
        app=app,
        thread_id=thread_id,
        user=owner_out(owner),
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
    version, payload, digest, parent, base, based, kind, ext_id, name, run_id = columns[:10]
    refs, blob_refs, key_id, size, created_at = columns[10:]
    parent = (version - 1 if parent is None else parent) or None
    flat, ids = [int(number) for number in refs.split(",")] if refs else (), blob_refs or b""
    return CheckpointRow(
        version=version,
        payload=payload,
        digest=digest,
        parent_version=parent,
        base=parent if based is None else base,
        kind=kind or "put",
        ext_id=id_out(ext_id),
        name=name,
        run_id=run_id,
        refs=tuple(map(Range, flat[::3], flat[1::3], flat[2::3])),
        blob_refs=tuple(ids[at : at + 16] for at in range(0, len(ids), 16)),
        key_id=key_id or 0,
        bytes=size,
        created_at=created_at,
    )


def log_rows(found: Iterable[Sequence[Any]]) -> tuple[Row, ...]:
    """The rows of logs from their 8 columns each, in order, each once."""
    rows = {(columns[0], columns[1]): Row(*columns) for columns in found}
    return tuple(rows[place] for place in sorted(rows))


def blobs(found: Iterable[Sequence[Any]]) -> tuple[Blob, ...]:
    """Blobs from their 3 columns each."""
    return tuple(Blob(*columns) for columns in found)


def entry_row(columns: Sequence[Any]) -> Entry:
    """An entry from its 12 columns."""
    seq, ext_id, kind, role, payload, digest, search, derived, meta, key_id = columns[:10]
    created_at, facts = columns[10:]
    return Entry(
        kind=kind or "message",
        payload=payload,
        digest=digest,
        seq=seq,
        ext_id=id_out(ext_id),
        role=role,
        search=search,
        derived=derived,
        meta=meta,
        facts=facts,
        key_id=key_id,
        created_at=created_at,
    )


def slot_row(columns: Sequence[Any]) -> Slot:
    """A slot from its 6 columns."""
    kind, key, payload, meta, key_id, expires_at = columns
    return Slot(
        kind=kind,
        key=key.decode(),
        payload=payload,
        meta=meta,
        key_id=key_id,
        expires_at=expires_at,
    )


def told_again(batch: Batch, row: Mapping[str, Any]) -> Commit:
    """The result of an operation that was committed before, from `find_operation`."""
    kept, where = folded(batch.entries)
    return Commit(
        row["rev"],
        row["at"],
        row["incarnation"],
        row["version"],
        seqs=seqs_of(row, len(kept), where),
        removed=row["removed"] or 0,
        popped=read_popped(row["popped"]),
        slots=slots_of(row, batch),
        duplicate=True,
    )


def seqs_of(row: Mapping[str, Any], kept: int, where: Sequence[int]) -> tuple[int, ...]:
    """The position of each entry of a batch, from what the journal holds."""
    if not where or row["first_seq"] is None:
        return ()
    seqs = row["seqs"] or range(row["first_seq"] + 1, row["first_seq"] + 1 + kept)
    return tuple(seqs[place] for place in where)


def slots_of(row: Mapping[str, Any], batch: Batch) -> tuple[bool, ...]:
    """Whether each slot of a batch was written, from what the journal holds: NULL where all were. What one step deletes
    was there, and is not told."""
    if row["slots"] is None:
        return (True,) * len(batch.slots)
    if not plain_slots(batch):
        return tuple(row["slots"])
    told = iter(row["slots"])
    return tuple([put.mode == "delete" or next(told) for put in batch.slots])
