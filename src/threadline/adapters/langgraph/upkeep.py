"""What is done to whole threads: deleting runs, pruning, copying. No delta channel loses what it is rebuilt from."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

from threadline import ConflictError, RetentionPolicy, ThreadNotFoundError
from threadline.adapters.langgraph.document import (
    Document,
    ends,
    stored_id,
    write_document,
)
from threadline.adapters.langgraph.history import Found, History, id_of
from threadline.adapters.langgraph.putting import ATTEMPTS, Puts
from threadline.adapters.langgraph.reading import Reader
from threadline.adapters.langgraph.spans import HEAD, Place
from threadline.adapters.langgraph.writes import KIND as WRITE
from threadline.adapters.langgraph.writes import WHERE, again_key, checkpoint_of
from threadline.store import (
    CheckpointQuery,
    CheckpointRow,
    Drop,
    Expected,
    Meta,
    Slot,
    SlotPut,
    SlotQuery,
    checkpoint_digest,
    decide,
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
            id_of(each.row)
            for each in found
            if str(serde.loads_typed(each.document.metadata).get("run_id", "")) in run_ids
        }
        await self._remove(place, found, gone)

    async def keep_latest(self, place: Place, serde: Any) -> None:
        """Keep the greatest checkpoint of a namespace, and those that its delta channels are rebuilt from."""
        found = [each async for each in self._history.walk(place)]
        kept = {id_of(found[0].row)} if found else set()
        await self._remove(place, found, self._gone(found, kept, serde))

    async def unkept(self, place: Place, policy: RetentionPolicy, serde: Any) -> set[str]:
        """The ids that a policy does not keep, but for those that delta channels are rebuilt from."""
        found = [each async for each in self._history.walk(place)]
        rows = [each.row for each in found]
        metas = [Meta(row.version, row.created_at, row.parent_version, row.name) for row in rows]
        latest = rows[0].version if rows else 0
        kept = decide(policy, metas, latest, self._store.now_us()).kept
        return self._gone(found, {id_of(row) for row in rows if row.version in kept}, serde)

    async def remove(self, place: Place, gone: set[str]) -> None:
        """Take checkpoints of a namespace away."""
        await self._remove(place, [each async for each in self._history.walk(place)], gone)

    def _gone(self, found: Sequence[Found], kept: set[str], serde: Any) -> set[str]:
        """What may go when these are kept: not what their delta channels are rebuilt from."""
        by_id = {id_of(each.row): each.document for each in found}
        needed = set(kept)
        for id in kept:
            waiting = self._deltas(by_id[id], serde)
            cursor = by_id[id].parent
            while waiting and cursor in by_id:
                needed.add(cursor)
                waiting -= set(by_id[cursor].places)
                cursor = by_id[cursor].parent
        return by_id.keys() - needed

    def _deltas(self, document: Document, serde: Any) -> set[str]:
        """The channels without a value of which the metadata counts updates since their last snapshot."""
        counters = serde.loads_typed(document.metadata).get("counters_since_delta_snapshot") or {}
        versions = serde.loads_typed(document.rest).get("channel_versions", {})
        return {c for c in counters if c not in document.places and c in versions}

    async def _remove(self, place: Place, found: Sequence[Found], gone: set[str]) -> None:
        """Take checkpoints away, and the slots on them. Nothing happens to a thread that was deleted meanwhile."""
        if gone:
            with contextlib.suppress(ThreadNotFoundError):
                await self._take(place, found, gone)
            self._puts.grounds.forget(place)

    async def _take(self, place: Place, found: Sequence[Found], gone: set[str]) -> None:
        staying = [each for each in found if id_of(each.row) not in gone]
        last = max(each.row.version for each in found)
        doomed = [  # Also those that were replaced by a process that died before it took them away.
            row
            async for row in self._rows(place)
            if row.ext_id is not None and id_of(row) in gone and row.version <= last
        ]
        newest = (await self._store.aread(place.config)).head_version
        told = [{id_of(f.row), f.document.top} for f in found if f.row.version == newest]
        first = staying[0] if staying else None
        lifted = [first.row] if first and told and told[0] & gone else []
        await self._puts.unsettle(place, staying, {row.version for row in (*doomed, *lifted)})
        await self._puts.keep_writes(place, staying)
        if told and told[0] & gone and await self._lift(place, gone, first, found[0].document):
            doomed += lifted  # It stands again at the head.
        for at in range(0, len(doomed), STEP):
            rows = doomed[at : at + STEP]
            slots = await self._reader.slots(
                place, [id_of(row) for row in rows if id_of(row) in gone]
            )
            await self._commit(
                place,
                "prune",
                frees=True,
                drop=Drop(versions=tuple(row.version for row in rows)),
                slots=tuple(SlotPut(slot, "delete") for each in slots.values() for slot in each),
            )

    async def _lift(
        self, place: Place, gone: set[str], survivor: Found | None, last: Document
    ) -> bool:
        """Where the newest version goes, or what it says is the latest: put the greatest checkpoint that stays at the
        head, as it is; without one, a version that says so. False: nothing of it goes."""
        for _ in range(ATTEMPTS):
            head = await self._store.aread(place.config)
            if head.thread is None or head.checkpoint is None:
                return False
            (newest,) = await self._reader.documents(place, [head.checkpoint], head.rows)
            if not gone & {id_of(head.checkpoint), newest.top}:
                return False
            version = head.last_version + 1
            document = _lifted(survivor, newest, last)
            data = document.to_bytes()
            payload = self._store.seal(write_document(data, None).payload(), HEAD)
            id = id_of(survivor.row) if survivor else None
            old = survivor.row if survivor else None
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
                blob_refs=document.blobs,
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
                    slots=slots,
                )
                return True
            except ConflictError:
                continue
        raise ConflictError(
            f"thread {place.thread_id!r} changed too often while checkpoints were deleted"
        )

    async def _commit(self, place: Place, kind: str, **parts: Any) -> None:
        await self._store.acommit(await self._store.abatch(place.config, kind, **parts))

    # Copying ------------------------------------------------------------------------------------------------

    async def copy(self, source: Place, target: Place) -> None:
        """Copy a thread, every namespace of it, into a thread that does not exist: in the store, undecoded."""
        await self._store.acopy(source.config, target.thread_id)
        self._puts.grounds.born(target)

    async def copy_until(self, source: Place, target: Place, id: str) -> None:
        """Copy a thread up to the checkpoint of an id, with the messages of the log until then.

        Raises ThreadNotFoundError.
        """
        for _ in range(ATTEMPTS):
            read = await self._reader.at(source, id)
            if read.thread is None or read.checkpoint is None:
                raise ThreadNotFoundError(f"thread {source.thread_id!r} has no checkpoint {id}")
            ends: dict[str, CheckpointRow] = {}
            for name in await self._store.anamespaces(source.config):
                if end := await self._end(source._replace(namespace=name), id):
                    ends[name] = end
            try:
                await self._store.acopy(
                    source.config,
                    target.thread_id,
                    ends={name: row.version for name, row in ends.items()},
                    until=read.checkpoint.created_at,
                    read=read,
                )
            except ConflictError:
                continue
            self._puts.grounds.born(target)
            for name, row in ends.items():
                here, there = (each._replace(namespace=name) for each in (source, target))
                # Only now: a version that came after `row` meanwhile may have taken the writes on it.
                around = [e for e in await self._history.around(here, row) if e.row == row]
                await self._puts.unsettle(here, around, {row.version}, there)
                await self._cut(there, id)
            return
        raise ConflictError(f"thread {source.thread_id!r} changed too often while it was copied")

    async def _end(self, place: Place, id: str) -> CheckpointRow | None:
        """The newest version of a namespace whose id is not greater."""
        async for row in self._rows(place):
            if row.ext_id is not None and id_of(row) <= id:
                return row
        return None

    async def _rows(self, place: Place) -> AsyncIterator[CheckpointRow]:
        """Every version of a namespace, newest first."""
        before: int | None = None
        while True:
            query = CheckpointQuery(before=before, limit=STEP)
            rows = await self._store.aread(place.config, query)
            for row in rows:
                yield row
            if len(rows) < STEP:
                return
            before = rows[-1].version

    async def _cut(self, place: Place, id: str) -> None:
        """Take away what is left behind an id: checkpoints that are older versions, and slots."""
        found = [each async for each in self._history.walk(place)]
        older = {id_of(each.row) for each in found if id_of(each.row) > id}
        if older:
            await self._remove(place, found, older)
        else:
            await self._puts.keep_writes(place, found)
        after = ""
        while True:
            slots = await self._store.aread(place.config, SlotQuery(WRITE, after=after, limit=STEP))
            gone = tuple(SlotPut(s, "delete") for s in slots if checkpoint_of(s.key) > id)
            if gone:
                await self._commit(place, "prune", slots=gone)
            if len(slots) < STEP:
                return
            after = slots[-1].key


def _lifted(survivor: Found | None, newest: Document, last: Document) -> Document:
    """The document of a checkpoint that stands again at the head; without one, one that says that there is none."""
    plain = Document(None, {}, None, last.rest, last.metadata, newest.logs)
    if survivor is None:
        return plain
    logs, mixed = newest.logs, newest.mixed
    return dataclasses.replace(survivor.document, logs=logs, top=None, mixed=mixed, settled=b"")
