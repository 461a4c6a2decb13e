"""Putting checkpoints and pending writes: read the ground, draft, seal, one commit; again when others were faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from threadline import ConflictError, ThreadNotFoundError
from threadline.adapters.langgraph.attempt import Attempt, Codec, Given, Project
from threadline.adapters.langgraph.document import FIELDS
from threadline.adapters.langgraph.grounds import Grounds
from threadline.adapters.langgraph.history import Found, History, id_of
from threadline.adapters.langgraph.plan import Ground, View
from threadline.adapters.langgraph.reading import Reader
from threadline.adapters.langgraph.settled import settled_on
from threadline.adapters.langgraph.spans import Place, covers
from threadline.adapters.langgraph.writes import KIND as WRITE
from threadline.adapters.langgraph.writes import (
    Task,
    again_key,
    numbered,
    opened,
    sealed,
    slots_of,
    start_key,
)
from threadline.store import CheckpointRow, Drop, Slot, SlotIs, SlotPut, SlotQuery, Store

#: How often a put is computed again because others were faster.
ATTEMPTS = 1000


class Puts:
    """Putting into one store."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self._store, self._reader, self._history = store, reader, History(reader)
        self.grounds = Grounds()

    async def checkpoint(
        self,
        place: Place,
        serde: Any,
        checkpoint: Mapping[str, Any],
        metadata: Mapping[str, Any],
        new_versions: Mapping[str, Any],
        parent: str | None,
        project: Project | None = None,
        *,
        create: bool | None = None,
    ) -> None:
        """Put a checkpoint on top of its namespace. create: whether the thread may come into being; by default only
        without a parent, so that a late put does not bring a deleted thread back.

        Raises NotStorableError, ThreadNotFoundError.
        """
        codec = Codec(serde, place.thread_id)
        given = Given(checkpoint, metadata, new_versions, parent)
        ground = await self._known(place, serde)
        tidy = True  # Whether slots that wait are written near the new items in this commit.
        for _ in range(ATTEMPTS):
            ground = ground or await self._reader.ground(place, serde)
            base, read = await self._base(place, serde, ground, parent)
            seen = self.grounds.sights.get(place, base.digest if base else None)
            put = Attempt(self._store, place, codec, ground, base, given, seen)
            old = await self._replaced(place, ground, put.id)
            parts = await put.parts(
                old is not None, self.grounds.waiting(place) if tidy else {}, project
            )
            batch = await self._store.abatch(
                place.config,
                "put",
                create=parent is None if create is None else create,
                assumes_gc=ground.gc if read else None,
                **parts,
            )
            try:
                commit = await self._store.acommit(batch)
            except ThreadNotFoundError:
                if parent is not None and not create:
                    self.grounds.refused(place, put.id)
                    raise
                self.grounds.forget(place, thread=True)
                ground = None
                continue
            except ConflictError:
                # Perhaps a slot that waits is not as this process wrote it.
                self.grounds.served(place, (), put.tried)
                ground, tidy = None, False
                continue
            self._committed(
                place, put, commit.incarnation, [each.key for each in batch.requires_slots]
            )
            if old is not None:
                await self._drop(place, old, put)
            return
        raise ConflictError(
            f"thread {place.thread_id!r} changed too often while a checkpoint was put"
        )

    async def _known(self, place: Place, serde: Any) -> Ground | None:
        """The namespace as this process last saw it."""
        if (head := self.grounds.newer(place)) is not None:
            return await self._reader.ground_of(place, head, serde)
        return self.grounds.get(place)

    async def _base(
        self, place: Place, serde: Any, ground: Ground, parent: str | None
    ) -> tuple[View | None, bool]:
        """The view that a put is compared with, and whether it was read from the past."""
        if parent is None or (ground.view is not None and ground.view.id == parent):
            return ground.view, False
        if ground.incarnation is None:
            return None, False
        head = await self._reader.at(place, parent)
        view = await self._reader.view(place, head, serde) if head.checkpoint else None
        return (view, True) if view else (ground.view, False)

    async def _replaced(self, place: Place, ground: Ground, id: str) -> CheckpointRow | None:
        """The checkpoint of this id that is there already."""
        if ground.top is None or id > ground.top:
            return None
        return (await self._reader.at(place, id)).checkpoint

    async def _drop(self, place: Place, old: CheckpointRow, put: Attempt) -> None:
        """Take away what was replaced."""
        await self.unsettle(place, await self._history.around(place, old), {old.version})
        lists = [each for each in old.refs if each.log != FIELDS]  # What slots are written near.
        if not all(covers(put.document.ranges, each) for each in lists):
            await self.keep_writes(place, [each async for each in self._history.walk(place)])
        drop = Drop(versions=(old.version,), seen=put.version)
        await self._store.acommit(
            await self._store.abatch(place.config, "replace", frees=True, drop=drop)
        )

    async def keep_writes(self, place: Place, staying: Sequence[Found]) -> None:
        """Write in full the slots of staying checkpoints that are near to items which no staying one refers to."""
        covered = [each for found in staying for each in found.document.ranges]
        ids = [id_of(found.row) for found in staying]
        while ids:
            changed = []
            for id, slots in (await self._reader.slots(place, ids)).items():
                for slot in slots:
                    stored = opened(self._store, slot) if slot.key != again_key(id) else None
                    if stored is None or stored.near is None or covers(covered, stored.near):
                        continue
                    items = await self._reader.items(place, stored.near)
                    whole = sealed(self._store, slot.key, stored.task(items).to_bytes())
                    if not await self._rewritten(place, slot, whole):
                        changed.append(id)
            ids = changed

    async def unsettle(
        self, place: Place, staying: Sequence[Found], going: Set[int], into: Place | None = None
    ) -> None:
        """Write the slots back of staying checkpoints whose writes another version has, before it goes, or before they
        go themselves to stand under another version. going: versions; into: their copy, which they are written to."""
        for row, _, after, _ in staying:
            settled = settled_on(row, after)
            if settled is None or not going & {row.version, row.version + 1}:
                continue
            items = [item for r in settled.near for item in await self._reader.items(place, r)]
            for key, content in settled.slots(id_of(row), items).items():
                is_start = key == start_key(id_of(row))
                await self._put_back(into or place, key, content, is_start)

    async def _put_back(self, place: Place, key: str, content: bytes, is_start: bool) -> None:
        """Write a slot again that was settled, with what came to it later."""
        store, slot = self._store, sealed(self._store, key, content)
        for _ in range(ATTEMPTS):
            put = (SlotPut(slot, "if_absent"),)
            commit = await store.acommit(await store.abatch(place.config, "writes", slots=put))
            if commit.slots[0] or is_start:
                return
            found = await store.aread(place.config, SlotQuery(WRITE, prefix=key, limit=1))
            if not found or found[0].key != key:
                continue
            stored = opened(store, found[0])
            items = await self._reader.items(place, stored.near) if stored.near else []
            task = Task.from_bytes(content).completed(stored.task(items))
            if await self._rewritten(place, found[0], sealed(store, key, task.to_bytes())):
                return
        raise ConflictError(f"thread {place.thread_id!r} changed too often while writes were kept")

    async def _rewritten(self, place: Place, slot: Slot, whole: Slot) -> bool:
        """Write a slot otherwise; False when it changed meanwhile."""
        batch = await self._store.abatch(
            place.config,
            "writes",
            slots=(SlotPut(whole),),
            requires_slots=(SlotIs(WRITE, slot.key, slot.payload),),
        )
        try:
            await self._store.acommit(batch)
        except ConflictError:
            return False
        return True

    def _committed(
        self, place: Place, put: Attempt, incarnation: bytes, near: Sequence[str]
    ) -> None:
        if put.skeleton is not None:
            self._reader.skeletons.put(place, put.skeleton)
        self.grounds.put(place, put.after(incarnation))
        self.grounds.sights.put(place, put.digest, put.draft.seen, instead=put.base_digest)
        self.grounds.served(place, near, put.tried)
        if put.start is not None and not put.start_near:
            self.grounds.wait(place, put.start, put.start_content)

    async def writes(
        self,
        place: Place,
        serde: Any,
        checkpoint_id: str,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        path: str,
    ) -> None:
        """Store what a task wrote on a checkpoint, there or not. Raises NotStorableError."""
        codec = Codec(serde, place.thread_id)
        typed = [(channel, codec.checked(value, channel)) for channel, value in writes]
        await self.task(place, checkpoint_id, Task(path, task_id, tuple(numbered(typed))))

    async def task(
        self, place: Place, checkpoint_id: str, task: Task, *, create: bool | None = None
    ) -> None:
        """Store the writes of a task. create: whether the thread may come into being; by default when this process
        does not know it."""
        store, ground = self._store, self.grounds.get(place)
        added = ground.added if ground else ()
        first, special = slots_of(store, checkpoint_id, task, added)
        puts = [SlotPut(first, "if_absent")] if first else []
        puts += [SlotPut(slot) for slot in special]
        if not puts:
            return
        life = ground.incarnation if ground else None
        if life is None and not create and self.grounds.is_late(place, checkpoint_id):
            raise ThreadNotFoundError(
                f"thread {place.thread_id!r} was deleted, and with it checkpoint {checkpoint_id}; nothing was written"
            )
        batch = await store.abatch(
            place.config,
            "writes",
            create=life is None if create is None else create,
            requires=life,
            slots=tuple(puts),
            idempotent=life is not None and not create and not special,
        )
        try:
            commit = await store.acommit(batch)
        except ThreadNotFoundError:
            self.grounds.refused(place, checkpoint_id)
            raise
        if first is None:
            return
        regular = task._replace(writes=tuple([w for w in task.writes if w.idx >= 0]))
        if not commit.slots[0]:
            await self._complete(place, first.key, regular)
        elif opened(store, first).near is None:
            self.grounds.wait(place, first, regular.to_bytes())

    async def _complete(self, place: Place, key: str, more: Task) -> None:
        """Add to a task's slot the writes whose index is not taken in it."""
        store = self._store
        for _ in range(ATTEMPTS):
            found = await store.aread(place.config, SlotQuery(WRITE, prefix=key, limit=1))
            if not found or found[0].key != key:
                return
            stored = opened(store, found[0])
            items = await self._reader.items(place, stored.near) if stored.near else []
            known = stored.task(items)
            task = known.completed(more)
            if len(task.writes) == len(known.writes):
                return
            if await self._rewritten(place, found[0], sealed(store, key, task.to_bytes())):
                self.grounds.served(place, [key])
                return
        raise ConflictError(f"thread {place.thread_id!r} changed too often while writes were put")
