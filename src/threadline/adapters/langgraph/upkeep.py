"""What is done to whole threads: deleting runs, pruning, copying. No delta channel loses what it is rebuilt from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from threadline import ConflictError
from threadline.adapters.langgraph.document import (
    Document,
    Written,
    ends,
    plain_id,
    stored_id,
    write_document,
)
from threadline.adapters.langgraph.history import Found, History
from threadline.adapters.langgraph.putting import ATTEMPTS, Puts
from threadline.adapters.langgraph.reading import Reader
from threadline.adapters.langgraph.spans import BLOB, HEAD, Place
from threadline.adapters.langgraph.writes import KIND as WRITE
from threadline.adapters.langgraph.writes import WHERE, again_key, opened, sealed
from threadline.store import (
    Blob,
    CheckpointRow,
    CopyFrom,
    Drop,
    Expected,
    Range,
    Slot,
    SlotPut,
    checkpoint_digest,
    read_marks,
)

#: How many checkpoints go in one commit.
STEP = 200


class Upkeep:
    """Deleting, pruning and copying in one store."""

    def __init__(self, reader: Reader, history: History, puts: Puts) -> None:
        self._reader, self._history, self._puts = reader, history, puts
        self._store = reader.store

    async def delete_runs(self, place: Place, run_ids: frozenset[str], serde: Any) -> None:
        """Delete the checkpoints of some runs in one namespace, with what was written on them."""
        found = [each async for each in self._history.walk(place)]
        gone = {
            plain_id(row.ext_id or "")
            for row, document in found
            if serde.loads_typed(document.metadata).get("run_id") in run_ids
        }
        if gone:
            await self._remove(place, found, gone, serde)

    async def keep_latest(self, place: Place, serde: Any) -> None:
        """Keep the greatest checkpoint of a namespace, and those that its delta channels are rebuilt from."""
        found = [each async for each in self._history.walk(place)]
        if not found:
            return
        by_id = {plain_id(row.ext_id or ""): (row, document) for row, document in found}
        latest, document = plain_id(found[0][0].ext_id or ""), found[0][1]
        kept = {latest}
        versions = serde.loads_typed(document.rest).get("channel_versions", {})
        waiting = self._deltas(document, versions, serde)
        cursor = document.parent
        while waiting and cursor in by_id:
            kept.add(cursor)
            waiting -= set(by_id[cursor][1].places)
            cursor = by_id[cursor][1].parent
        await self._remove(place, found, by_id.keys() - kept, serde)

    def _deltas(self, document: Document, versions: Mapping[str, Any], serde: Any) -> set[str]:
        """The channels without a value of which the metadata counts updates since their last snapshot."""
        counters = serde.loads_typed(document.metadata).get("counters_since_delta_snapshot") or {}
        return {
            channel
            for channel in counters
            if channel not in document.places and channel in versions
        }

    async def _remove(
        self, place: Place, found: Sequence[Found], gone: Iterable[str], serde: Any
    ) -> None:
        """Take checkpoints away, and the slots on them."""
        gone = set(gone)
        staying = [each for each in found if plain_id(each[0].ext_id or "") not in gone]
        await self._keep_writes(place, staying)
        head = await self._store.aread(place.config)
        newest = head.checkpoint
        if newest is not None and plain_id(newest.ext_id or "") in gone:
            await self._lift(place, staying[0] if staying else None, found[0][1])
        doomed = [row for row, _ in found if plain_id(row.ext_id or "") in gone]
        if staying and newest is not None and plain_id(newest.ext_id or "") in gone:
            doomed.append(staying[0][0])  # It stands again at the head.
        for at in range(0, len(doomed), STEP):
            rows = doomed[at : at + STEP]
            slots = await self._reader.slots(
                place, [id for row in rows if (id := plain_id(row.ext_id or "")) in gone]
            )
            await self._commit(
                place,
                "prune",
                frees=True,
                drop=Drop(versions=tuple(row.version for row in rows)),
                slots=tuple(SlotPut(slot, "delete") for each in slots.values() for slot in each),
            )
        self._puts.grounds.forget(place)

    async def _keep_writes(self, place: Place, staying: Sequence[Found]) -> None:
        """Write in full the slots of staying checkpoints that are near to items which no staying one refers to."""
        covered = [each for _, document in staying for each in document.ranges]
        ids = [plain_id(row.ext_id or "") for row, _ in staying]
        for id, slots in (await self._reader.slots(place, ids)).items():
            for slot in slots:
                stored = opened(self._store, slot) if slot.key != again_key(id) else None
                if stored is None or stored.near is None or _covers(covered, stored.near):
                    continue
                items = await self._reader.items(place, stored.near)
                whole = sealed(self._store, slot.key, stored.task(items).to_bytes())
                await self._commit(place, "writes", slots=(SlotPut(whole),))

    async def _lift(self, place: Place, survivor: Found | None, last: Document) -> None:
        """Put the greatest checkpoint that stays at the head, as it is; without one, a version that says so."""
        for _ in range(ATTEMPTS):
            head = await self._store.aread(place.config)
            if head.thread is None:
                return
            version = head.last_version + 1
            newest = (
                (await self._reader.documents(place, [head.checkpoint]))[0]
                if head.checkpoint
                else last
            )
            document = (
                survivor[1] if survivor else Document(None, {}, None, last.rest, last.metadata)
            )
            document = dataclasses.replace(
                document, logs=newest.logs, top=None, mixed=newest.mixed and survivor is not None
            )
            data = document.to_bytes()
            written = write_document(data, document.blobs, None)
            payload = self._store.seal(written.payload, HEAD)
            blobs = self._skeleton(written)
            id = plain_id(survivor[0].ext_id or "") if survivor else None
            old = survivor[0] if survivor else None
            marks = read_marks(head.marks)
            row = CheckpointRow(
                version=version,
                parent_version=old.parent_version if old else None,
                kind="put" if old else "clear",
                ext_id=stored_id(id, version) if id else None,
                name=old.name if old else None,
                run_id=old.run_id if old else None,
                created_at=old.created_at if old else 0,
                payload=payload.data,
                key_id=payload.key_id,
                digest=checkpoint_digest(version, b"", data, ends(document.ranges, marks)),
                refs=document.ranges,
                blob_refs=written.blob_refs,
                bytes=len(payload.data),
            )
            slots: tuple[SlotPut, ...] = ()
            if id:
                number = self._store.seal(str(version).encode(), WHERE)
                slots = (SlotPut(Slot(kind=WRITE, key=again_key(id), payload=number.data)),)
            try:
                await self._commit(
                    place,
                    "lift",
                    expected=Expected(head.thread.incarnation, head.head_version),
                    last_version=head.last_version,
                    marks=head.marks,
                    assumes_gc=head.thread.gc,
                    checkpoint=row,
                    blobs=blobs,
                    slots=slots,
                )
                return
            except ConflictError:
                continue

    def _skeleton(self, written: Written) -> tuple[Blob, ...]:
        if not written.fresh or written.skeleton is None:
            return ()
        payload = self._store.seal(written.skeleton[1], BLOB)
        return (Blob(written.skeleton[0], payload.data, payload.key_id),)

    async def _commit(self, place: Place, kind: str, **parts: Any) -> None:
        await self._store.acommit(await self._store.abatch(place.config, kind, **parts))

    # Copying ------------------------------------------------------------------------------------------------

    async def copy(self, source: Place, target: Place) -> None:
        """Copy a thread, every namespace of it, into a thread that does not exist. Rows, blobs and slots are copied in
        the store, undecoded."""
        there = await self._store.aread(target.config)
        if there.thread is not None:
            raise ValueError(
                f"thread {target.thread_id!r} exists already; nothing was copied. Delete it first, or copy elsewhere"
            )
        for namespace in await self._store.anamespaces(source.config):
            await self._copy_namespace(
                source._replace(namespace=namespace), target._replace(namespace=namespace)
            )

    async def _copy_namespace(self, source: Place, target: Place) -> None:
        head = await self._store.aread(source.config)
        there = await self._store.aread(target.config)
        if head.thread is None:
            return
        found = [each async for each in self._history.walk(source)]
        found.sort(key=lambda each: each[0].version)
        marks = read_marks(head.marks)
        offset = there.last_version
        ranges = tuple(Range(log, 0, mark.end) for log, mark in enumerate(marks) if mark.end)
        blobs = tuple(dict.fromkeys(id for row, _ in found for id in row.blob_refs))
        named = await self._store.abatch(source.config, "copy")
        copied = CopyFrom(
            named.key, named.ns, head.thread.incarnation, head.thread.gc, ranges, blobs
        )
        commit = await self._store.acommit(
            await self._store.abatch(
                target.config, "copy", create=True, marks=head.marks, copy=copied
            )
        )
        expected, last = 0, offset
        for row, _ in found:
            version = row.version + offset
            parent = row.parent_version + offset if row.parent_version else None
            await self._commit(
                target,
                "copy",
                expected=Expected(commit.incarnation, expected),
                last_version=last,
                marks=head.marks,
                checkpoint=dataclasses.replace(
                    row, version=version, parent_version=parent, op_id=b""
                ),
            )
            expected = last = version


def _covers(ranges: Sequence[Range], wanted: Range) -> bool:
    return any(
        r.log == wanted.log and r.start <= wanted.start and wanted.end <= r.end for r in ranges
    )
