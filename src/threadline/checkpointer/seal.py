"""From a plan to rows: the payloads, rows, blobs and digest of one put."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from threadline.backend import Blob, Range, Row
from threadline.checkpointer.draft import Plan
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.snapshot import Ground
from threadline.codec.digest import checkpoint_digest
from threadline.codec.envelope import Payload, Where
from threadline.codec.terms import terms_of
from threadline.codec.values import decode
from threadline.config import Address
from threadline.history.logs import Mark, grow, merge_is_due, write_marks


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a batch needs of a plan."""

    head: Payload
    digest: bytes
    refs: tuple[Range, ...]
    blob_refs: tuple[bytes, ...]
    marks: bytes
    terms: tuple[int, ...]
    rows: tuple[Row, ...]
    merged: tuple[Row, ...]
    blobs: tuple[Blob, ...]
    size: int


async def seal_plan(
    engine: Engine, address: Address, key: bytes, plan: Plan, ground: Ground
) -> Sealed:
    """Seal a plan; reads the tails of the logs whose rows are merged by it."""
    codec, marks = engine.codec, list(plan.marks)
    tails = await _tails(engine, address, key, plan)
    rows: list[Row] = []
    merged: list[Row] = []
    for log, items in sorted(plan.appends.items()):
        growth = grow(log, marks[log], items, codec, tails.get(log))
        marks[log] = growth.mark
        rows += growth.rows
        merged += growth.merged
    doc = plan.doc()
    data, blob_refs = doc.to_bytes(), doc.blobs
    head = codec.seal(data, Where("head"))
    blobs = []
    for address_, content in plan.blobs.items():
        payload = codec.seal(content, Where("blob"))
        blobs.append(Blob(address_, payload.data, payload.key_id))
    parent = ground.snapshot.row.digest if ground.snapshot else b""
    logs = [(log, end, marks[log].prefix) for log, end in doc.ends]
    written = [head.data, *(row.payload for row in rows), *(blob.payload for blob in blobs)]
    metadata = decode(plan.metadata)
    return Sealed(
        head,
        checkpoint_digest(ground.last_version + 1, parent, data, logs),
        tuple(Range(*span) for span in doc.ranges),
        blob_refs,
        write_marks(marks),
        terms_of(metadata) if metadata else (),
        tuple(rows),
        tuple(merged),
        tuple(blobs),
        sum(map(len, written)),
    )


async def _tails(
    engine: Engine, address: Address, key: bytes, plan: Plan
) -> Mapping[int, list[Row]]:
    due: dict[int, Mark] = {
        log: plan.marks[log]
        for log, items in plan.appends.items()
        if items and merge_is_due(plan.marks[log])
    }
    if not due:
        return {}
    ranges = [Range(log, mark.tail, mark.end) for log, mark in due.items()]
    found = await engine.backend.read_rows(key, address.ns_key, address.user, ranges)
    tails: dict[int, list[Row]] = {log: [] for log in due}
    for row in found:
        tails[row.log].append(row)
    whole = {
        log: rows
        for log, rows in tails.items()
        if rows
        and rows[0].start == due[log].tail
        and rows[-1].end == due[log].end
        and all(a.end == b.start for a, b in pairwise(rows))
    }
    return whole
