"""From a plan to rows: the payloads, rows, blobs and digest of one put."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from threadline.backend import Blob, Range, Row
from threadline.checkpointer.draft import Plan
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.snapshot import Ground
from threadline.codec.digest import checkpoint_digest
from threadline.codec.envelope import Payload, Where
from threadline.codec.rows import Items
from threadline.codec.terms import terms_of
from threadline.codec.values import decode
from threadline.config import Address
from threadline.history.head import HeadDoc
from threadline.history.logs import Mark, grow, joins, open_row


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a batch needs of a plan."""

    doc: HeadDoc
    head: Payload
    digest: bytes
    refs: tuple[Range, ...]
    blob_refs: tuple[bytes, ...]
    logs: tuple[Mark, ...]
    terms: tuple[int, ...]
    rows: tuple[Row, ...]
    blobs: tuple[Blob, ...]
    tails: Mapping[int, Items]
    size: int


async def seal_plan(
    engine: Engine, address: Address, key: bytes, plan: Plan, ground: Ground
) -> Sealed:
    """Seal a plan; reads the open rows that it adds to, unless this process has them."""
    codec, marks, row_size = engine.codec, list(plan.marks), engine.backend.row_size
    rows: list[Row] = []
    size = 0
    tails: dict[int, Items] = dict(ground.snapshot.tails) if ground.snapshot else {}
    for log, items in sorted(plan.appends.items()):
        tail = tails.pop(log, None)
        if items and tail is None and joins(marks[log], items, row_size):
            tail = await _read_tail(engine, address, key, log, marks[log])
        growth = grow(log, marks[log], items, codec, tail, row_size=row_size)
        marks[log] = growth.mark
        rows += growth.rows
        size += growth.size
        if growth.tail is not None:
            tails[log] = growth.tail
    doc = plan.doc()
    data, blob_refs = doc.to_bytes(), doc.blobs
    head = codec.seal(data, Where("head"))
    blobs = []
    for address_, content in plan.blobs.items():
        payload = codec.seal(content, Where("blob"))
        blobs.append(Blob(address_, payload.data, payload.key_id))
    parent = ground.snapshot.row.digest if ground.snapshot else b""
    logs = [(log, end, marks[log].prefix) for log, end in doc.ends]
    size += len(head.data) + sum(len(blob.payload) for blob in blobs)
    metadata = decode(plan.metadata)
    return Sealed(
        doc,
        head,
        checkpoint_digest(ground.last_version + 1, parent, data, logs),
        tuple(Range(*span) for span in doc.ranges),
        blob_refs,
        tuple(marks),
        terms_of(metadata) if metadata else (),
        tuple(rows),
        tuple(blobs),
        tails,
        size,
    )


async def _read_tail(
    engine: Engine, address: Address, key: bytes, log: int, mark: Mark
) -> Items | None:
    """The items of a log's open row, when this process does not have them."""
    ranges = [Range(log, mark.open, mark.end)]
    rows = await engine.backend.read_rows(key, address.ns_key, address.user, ranges)
    if len(rows) != 1 or (rows[0].start, rows[0].end) != (mark.open, mark.end):
        return None  # Another commit was faster; this one will be refused and computed again.
    return open_row(rows[0], engine.codec)
