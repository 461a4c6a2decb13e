"""Putting checkpoints and pending writes: read the ground, draft, seal, one commit; again when others were faster."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

from threadline import ConflictError, NotStorableError, ThreadNotFoundError
from threadline.adapters.langgraph.document import (
    KIND,
    Document,
    Typed,
    ends,
    stored_id,
    write_document,
)
from threadline.adapters.langgraph.plan import Added, Ground, View, draft
from threadline.adapters.langgraph.reading import BLOB, HEAD, Place, Reader
from threadline.adapters.langgraph.writes import (
    KIND as WRITE,
)
from threadline.adapters.langgraph.writes import (
    WHERE,
    Task,
    again_key,
    near_items,
    numbered,
    opened,
    sealed,
    slots_of,
    start_key,
    start_task,
)
from threadline.store import (
    Blob,
    CheckpointRow,
    Drop,
    EntryPut,
    Expected,
    Mark,
    Range,
    Row,
    Slot,
    SlotIs,
    SlotPut,
    SlotQuery,
    Store,
    checkpoint_digest,
    joins,
    write_marks,
)

#: How often a put is computed again because others were faster.
ATTEMPTS = 1000
#: Of how many namespaces the ground is remembered, and how many slots of each wait for their items.
GROUNDS, WAITING = 1000, 64
#: How many puts a slot waits for the items that it is near to, and how many of the last additions are remembered.
TRIES, ADDITIONS = 4, 6

Project = Callable[[Mapping[str, list[Any]]], Sequence[EntryPut]]


class Waiting(NamedTuple):
    """A slot that was written in full, and may be written near items that come: its payload and its content."""

    payload: bytes
    content: bytes
    tries: int = 0


class Grounds:
    """What this process knows of namespaces: their ground, and the slots that may be written near the next items."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._grounds: OrderedDict[Place, Ground] = OrderedDict()
        self._waiting: OrderedDict[Place, dict[str, Waiting]] = OrderedDict()

    def get(self, place: Place) -> Ground | None:
        """The ground as it was last seen."""
        with self._lock:
            return self._grounds.get(place)

    def put(self, place: Place, ground: Ground) -> None:
        """Remember a ground, unless a newer one of the same life is known."""
        with self._lock:
            known = self._grounds.get(place)
            if (
                known
                and known.incarnation == ground.incarnation
                and known.last_version > ground.last_version
            ):
                return
            self._grounds[place] = ground
            self._grounds.move_to_end(place)
            while len(self._grounds) > GROUNDS:
                self._grounds.popitem(last=False)

    def forget(self, place: Place, *, thread: bool = False) -> None:
        """Forget a namespace, or its whole thread."""
        with self._lock:
            for kept in (self._grounds, self._waiting):
                places = [p for p in kept if p.thread_id == place.thread_id] if thread else [place]
                for each in places:
                    kept.pop(each, None)

    def wait(self, place: Place, slot: Slot, content: bytes) -> None:
        """Remember a slot that was just written, with its content."""
        with self._lock:
            waiting = self._waiting.setdefault(place, {})
            self._waiting.move_to_end(place)
            if len(waiting) >= WAITING:
                waiting.pop(next(iter(waiting)))
            waiting[slot.key] = Waiting(slot.payload, content)
            while len(self._waiting) > GROUNDS:
                self._waiting.popitem(last=False)

    def waiting(self, place: Place) -> dict[str, Waiting]:
        """The slots that wait."""
        with self._lock:
            return dict(self._waiting.get(place, {}))

    def served(self, place: Place, keys: Collection[str], tried: Collection[str] = ()) -> None:
        """These wait no more; those that were tried in vain, only so often."""
        with self._lock:
            waiting = self._waiting.get(place, {})
            for key in tried:
                if key in waiting:
                    waiting[key] = waiting[key]._replace(tries=waiting[key].tries + 1)
            for key in {*keys, *(key for key, each in waiting.items() if each.tries >= TRIES)}:
                waiting.pop(key, None)


class Codec:
    """The saver's serializer, with the errors of this library."""

    def __init__(self, serde: Any, thread_id: str) -> None:
        self._serde, self._thread_id = serde, thread_id
        self._check = getattr(serde, "check_typed", None)

    def encode(self, value: Any) -> Typed:
        """The bytes of a value. Raises NotStorableError."""
        try:
            form, data = self._serde.dumps_typed(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise NotStorableError(
                f"thread {self._thread_id!r}: a value cannot be stored: {error}; nothing was written"
            ) from error
        return Typed(form, bytes(data))

    def check(self, typed: Typed, channel: str) -> None:
        """Raise NotStorableError for bytes that could not be read again."""
        if self._check is not None:
            self._check(typed, f"thread {self._thread_id!r}: channel {channel!r}")

    def checked(self, value: Any, channel: str) -> Typed:
        """Both."""
        typed = self.encode(value)
        self.check(typed, channel)
        return typed


class Puts:
    """Putting into one store."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self._store, self._reader = store, reader
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
        ground = self.grounds.get(place)
        tidy = True  # Whether slots that wait are written near the new items in this commit.
        for _ in range(ATTEMPTS):
            ground = ground or await self._reader.ground(place, serde)
            base, read = await self._base(place, serde, ground, parent)
            put = _Put(
                self._store, place, codec, ground, base, checkpoint, metadata, new_versions, parent
            )
            old = await self._replaced(place, ground, put.id)
            parts = await put.parts(old is not None, self._waiting(place) if tidy else {}, project)
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
                self.grounds.forget(place, thread=True)
                if parent is not None and not create:
                    raise
                ground = None
                continue
            except ConflictError:
                ground, tidy = None, False
                continue
            self._committed(
                place, put, commit.incarnation, [each.key for each in batch.requires_slots]
            )
            if old is not None:
                drop = Drop(versions=(old,), seen=put.version)
                await self._store.acommit(
                    await self._store.abatch(place.config, "replace", frees=True, drop=drop)
                )
            return
        raise ConflictError(
            f"thread {place.thread_id!r} changed too often while a checkpoint was put"
        )

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

    async def _replaced(self, place: Place, ground: Ground, id: str) -> int | None:
        """The version of the checkpoint of this id that is there already."""
        if ground.top is None or id > ground.top:
            return None
        head = await self._reader.at(place, id)
        return head.checkpoint.version if head.checkpoint else None

    def _waiting(self, place: Place) -> dict[str, Waiting]:
        return self.grounds.waiting(place)

    def _committed(self, place: Place, put: _Put, incarnation: bytes, near: Sequence[str]) -> None:
        if put.skeleton is not None:
            self._reader.skeletons.put(*put.skeleton)
        self.grounds.put(place, put.after(incarnation))
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
        *,
        create: bool | None = None,
    ) -> None:
        """Store what a task wrote on a checkpoint, there or not. Raises NotStorableError."""
        codec, store = Codec(serde, place.thread_id), self._store
        ground = self.grounds.get(place)
        typed = [(channel, codec.checked(value, channel)) for channel, value in writes]
        task = Task(path, task_id, tuple(numbered(typed)))
        added = ground.added if ground else ()
        first, special = slots_of(store, checkpoint_id, task, added)
        puts = [SlotPut(first, "if_absent")] if first else []
        puts += [SlotPut(slot) for slot in special]
        if not puts:
            return
        life = ground.incarnation if ground else None
        batch = await store.abatch(
            place.config,
            "writes",
            create=life is None if create is None else create,
            requires=life,
            slots=tuple(puts),
        )
        try:
            commit = await store.acommit(batch)
        except ThreadNotFoundError:
            self.grounds.forget(place, thread=True)
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
            batch = await store.abatch(
                place.config,
                "writes",
                slots=(SlotPut(sealed(store, key, task.to_bytes())),),
                requires_slots=(SlotIs(WRITE, key, found[0].payload),),
            )
            try:
                await store.acommit(batch)
                self.grounds.served(place, [key])
                return
            except ConflictError:
                continue  # Another call was faster.
        raise ConflictError(f"thread {place.thread_id!r} changed too often while writes were put")


class _Put:
    """One attempt: the draft and what follows from it."""

    def __init__(
        self,
        store: Store,
        place: Place,
        codec: Codec,
        ground: Ground,
        base: View | None,
        checkpoint: Mapping[str, Any],
        metadata: Mapping[str, Any],
        new_versions: Mapping[str, Any],
        parent: str | None,
    ) -> None:
        self._store, self._place, self._ground, self._base = store, place, ground, base
        self.id, self.version = str(checkpoint["id"]), ground.last_version + 1
        self._versions = checkpoint["channel_versions"]
        self.draft = draft(ground, base, checkpoint, new_versions, codec.encode, codec.check)
        self.top = self.id if ground.top is None else max(self.id, ground.top)
        at = checkpoint.get("ts")
        at = at if isinstance(at, str) else None
        apart = ("id", "channel_values") if at is None else ("id", "ts", "channel_values")
        rest = {key: value for key, value in checkpoint.items() if key not in apart}
        mixed = ground.mixed or self.top != self.id
        self.document = Document(
            parent,
            self.draft.places,
            at,
            codec.checked(rest, "its versions"),
            codec.checked(dict(metadata), "its metadata"),
            self.draft.logs,
            self.top if self.top != self.id else None,
            mixed,
        )
        self._run_id = metadata.get("run_id")
        self._parent = parent
        self.added: tuple[Added, ...] = ()
        self.tried: list[str] = []
        self.start: Slot | None = None
        self.start_content, self.start_near = b"", False
        self.skeleton: tuple[bytes, bytes] | None = None

    async def parts(
        self, again: bool, waiting: Mapping[str, Waiting], project: Project | None
    ) -> dict[str, Any]:
        """The parts of the batch."""
        rows, merged, tails, size = await self._grown()
        blobs = [self._blob(address, typed.data) for address, typed in self.draft.blobs.items()]
        known = self._ground.view.skeleton if self._ground.view else None
        data = self.document.to_bytes()
        written = write_document(data, self.document.blobs, known)
        if written.fresh and written.skeleton:
            blobs.append(self._blob(*written.skeleton))
        self.skeleton, self._tails = written.skeleton, tails
        head = self._store.seal(written.payload, HEAD)
        refs = self.document.ranges
        parent_digest = self._base.digest if self._base else b""
        self._digest = checkpoint_digest(
            self.version, parent_digest, data, ends(refs, self.draft.marks)
        )
        known_parent = self._base is not None and self._base.id == self._parent
        row = CheckpointRow(
            version=self.version,
            parent_version=self._base.version if self._base and known_parent else None,
            ext_id=stored_id(self.id, self.version if again else 0),
            run_id=self._run_id if isinstance(self._run_id, str) else None,
            payload=head.data,
            key_id=head.key_id,
            digest=self._digest,
            refs=refs,
            blob_refs=written.blob_refs,
            bytes=size + len(head.data) + sum(len(blob.payload) for blob in blobs),
        )
        slots, required = self._slots(again, waiting)
        return {
            "expected": Expected(self._ground.incarnation, self._ground.head_version),
            "last_version": self._ground.last_version,
            "marks": write_marks(self.draft.marks),
            "checkpoint": row,
            "rows": tuple(rows),
            "merged": tuple(merged),
            "blobs": tuple(blobs),
            "slots": tuple(slots),
            "requires_slots": tuple(required),
            "entries": tuple(project(self.draft.fresh)) if project else (),
        }

    def after(self, incarnation: bytes) -> Ground:
        """The ground that the commit leaves."""
        view = View(
            self.id,
            self.version,
            self._digest,
            self.document,
            dict(self._versions),
            self.draft.digests,
            self.draft.lists,
            self.skeleton,
        )
        return Ground(
            incarnation,
            self.version,
            self.version,
            self._ground.gc,
            tuple(self.draft.marks),
            self._tails,
            view,
            self.top,
            self.document.mixed,
            (*self.added, *self._ground.added)[:ADDITIONS],
        )

    async def _grown(self) -> tuple[list[Row], list[Row], dict[int, Any], int]:
        rows: list[Row] = []
        merged: list[Row] = []
        tails, size = dict(self._ground.tails), 0
        added: list[Added] = []
        for log, items in sorted(self.draft.appends.items()):
            mark = self.draft.marks[log]
            tail = tails.pop(log, None)
            if tail is None and joins(mark, items):
                tail = await self._tail(log, mark)
            growth = self._store.grow(log, mark, items, tail, KIND)
            if log in self.draft.logs.values():
                added.append(Added(log, mark.end, tuple(items)))
            self.draft.marks[log] = growth.mark
            rows += growth.rows
            merged += growth.replaced
            size += growth.size
            if growth.tail is not None:
                tails[log] = growth.tail
        self.added = tuple(added)
        return rows, merged, tails, size

    async def _tail(self, log: int, mark: Mark) -> Any:
        found = await self._store.aread(self._place.config, [Range(log, mark.open, mark.end)])
        if len(found) != 1 or (found[0].start, found[0].end) != (mark.open, mark.end):
            return None  # Another commit was faster; this one will be refused.
        return self._store.open_row(found[0])

    def _blob(self, address: bytes, data: bytes) -> Blob:
        payload = self._store.seal(data, BLOB)
        return Blob(address, payload.data, payload.key_id)

    def _slots(
        self, again: bool, waiting: Mapping[str, Waiting]
    ) -> tuple[list[SlotPut], list[SlotIs]]:
        puts: list[SlotPut] = []
        required: list[SlotIs] = []
        added = (*self.added, *self._ground.added)
        for key, (payload, content, _) in waiting.items():
            self.tried.append(key)
            data = near_items(content, added)
            if data is not None:
                near = self._store.seal(data, WHERE)
                puts.append(
                    SlotPut(Slot(kind=WRITE, key=key, payload=near.data, key_id=near.key_id))
                )
                required.append(SlotIs(WRITE, key, payload))
        if self.draft.start is not None:
            self.start_content = start_task(self.draft.start).to_bytes()
            self.start = sealed(self._store, start_key(self.id), self.start_content, added)
            self.start_near = opened(self._store, self.start).near is not None
            puts.append(SlotPut(self.start))
        if again:
            version = self._store.seal(str(self.version).encode(), WHERE)
            puts.append(SlotPut(Slot(kind=WRITE, key=again_key(self.id), payload=version.data)))
        return puts, required
