"""One attempt to put a checkpoint: the rows, blobs, slots and the document that its draft becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from threadline import NotStorableError
from threadline.adapters.langgraph.document import (
    FIELDS,
    KIND,
    Document,
    Skeleton,
    Typed,
    Written,
    ends,
    stored_id,
    write_document,
)
from threadline.adapters.langgraph.grounds import Waiting
from threadline.adapters.langgraph.plan import Added, Ground, View, draft
from threadline.adapters.langgraph.seen import Seen
from threadline.adapters.langgraph.settled import settle
from threadline.adapters.langgraph.spans import BLOB, HEAD, Place
from threadline.adapters.langgraph.writes import KIND as WRITE
from threadline.adapters.langgraph.writes import (
    WHERE,
    again_key,
    key_of,
    near_items,
    opened,
    sealed,
    start_key,
    start_task,
)
from threadline.store import (
    Blob,
    CheckpointRow,
    EntryPut,
    Expected,
    Items,
    Mark,
    Range,
    Row,
    Slot,
    SlotIs,
    SlotPut,
    Store,
    checkpoint_digest,
    write_marks,
)

#: How many of the last additions to lists are remembered.
ADDITIONS = 6

Project = Callable[[Mapping[str, list[Any]]], Sequence[EntryPut]]


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


class Given(NamedTuple):
    """What LangGraph puts."""

    checkpoint: Mapping[str, Any]
    metadata: Mapping[str, Any]
    new_versions: Mapping[str, Any]
    parent: str | None


class Attempt:
    """The draft of a put on one ground, and what follows from it."""

    def __init__(
        self,
        store: Store,
        place: Place,
        codec: Codec,
        ground: Ground,
        base: View | None,
        given: Given,
        seen: Mapping[str, Seen],
    ) -> None:
        self._store, self._place, self._ground, self._base = store, place, ground, base
        checkpoint, metadata, new_versions, parent = given
        self.base_digest = base.digest if base else None
        self.id, self.version = str(checkpoint["id"]), ground.last_version + 1
        self._versions = checkpoint["channel_versions"]
        self.draft = draft(ground, base, checkpoint, new_versions, codec.encode, codec.check, seen)
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
        self.digest = b""
        self.added: tuple[Added, ...] = ()
        self.tried: list[str] = []
        self.start: Slot | None = None
        self.start_content, self.start_near = b"", False
        self.skeleton: Skeleton | None = None

    async def parts(
        self, again: bool, waiting: Mapping[str, Waiting], project: Project | None
    ) -> dict[str, Any]:
        """The parts of the batch."""
        data = self.document.to_bytes()
        known = self._ground.view.skeleton if self._ground.view else None
        written = write_document(data, known, self.draft.end(FIELDS))
        self.skeleton = written.skeleton
        rows, self._tails, size = await self._grown(written)
        slots, required = self._slots(again, waiting)
        blobs = [self._blob(address, typed.data) for address, typed in self.draft.blobs.items()]
        settled = self.document.settled
        head = self._store.seal(written.payload(settled), HEAD)
        refs = (*written.ranges, *self.document.ranges)
        parent_digest = self._base.digest if self._base else b""
        self.digest = checkpoint_digest(
            self.version, parent_digest, data + settled, ends(refs, self.draft.marks)
        )
        known_parent = self._base is not None and self._base.id == self._parent
        row = CheckpointRow(
            version=self.version,
            parent_version=self._base.version if self._base and known_parent else None,
            ext_id=stored_id(self.id, self.version if again else 0),
            run_id=self._run_id if isinstance(self._run_id, str) else None,
            payload=head.data,
            key_id=head.key_id,
            digest=self.digest,
            refs=refs,
            blob_refs=self.document.blobs,
            bytes=size + len(head.data) + sum(len(blob.payload) for blob in blobs),
        )
        return {
            "expected": Expected(self._ground.incarnation, self._ground.head_version),
            "last_version": self._ground.last_version,
            "marks": write_marks(self.draft.marks),
            "checkpoint": row,
            "rows": tuple(rows),
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
            self.digest,
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

    async def _grown(self, written: Written) -> tuple[list[Row], dict[int, Items], int]:
        rows: list[Row] = []
        # A skeleton alone is not worth a read: it begins a row.
        unread = None if FIELDS in self.draft.appends else FIELDS
        if written.fresh and written.skeleton:
            self.draft.appends.setdefault(FIELDS, []).append(written.skeleton.content)
        tails, size = dict(self._ground.tails), 0
        added: list[Added] = []
        for log, items in sorted(self.draft.appends.items()):
            mark = self.draft.marks[log]
            tail = tails.pop(log, None)
            if tail is None and log != unread and self._store.joins(mark, items):
                tail = await self._tail(log, mark)
            growth = self._store.grow(log, mark, items, tail, KIND)
            if log in self.draft.logs.values():
                added.append(Added(log, mark.end, tuple(items)))
            self.draft.marks[log] = growth.mark
            rows += growth.rows
            size += growth.size
            if growth.tail is not None:
                tails[log] = growth.tail
        self.added = tuple(added)
        return rows, tails, size

    async def _tail(self, log: int, mark: Mark) -> Items | None:
        found = await self._store.aread(self._place.config, [Range(log, mark.open, mark.end)])
        if len(found) != 1 or (found[0].start, found[0].end) != (mark.open, mark.end):
            return None  # Another commit was faster; this one will be refused.
        return self._store.open_row(found[0])

    def _blob(self, address: bytes, data: bytes) -> Blob:
        payload = self._store.seal(data, BLOB)
        return Blob(address, payload.data, payload.key_id)

    def _settled(self, waiting: Mapping[str, Waiting]) -> list[str]:
        """The keys of the slots on the version before whose writes the document takes, which it does."""
        base, prefix = self._base, key_of(self._parent) if self._parent else ""
        if base is None or base.id != self._parent or base.version != self.version - 1:
            return []
        contents = {key: each.content for key, each in waiting.items() if key.startswith(prefix)}
        if not contents or not (settled := settle(base.id, contents, self.added)):
            return []
        self.document = dataclasses.replace(self.document, settled=settled)
        return list(contents)

    def _slots(
        self, again: bool, waiting: Mapping[str, Waiting]
    ) -> tuple[list[SlotPut], list[SlotIs]]:
        puts: list[SlotPut] = []
        required: list[SlotIs] = []
        added = (*self.added, *self._ground.added)
        self.tried = list(waiting)
        settled = self._settled(waiting)
        for key in settled:
            puts.append(SlotPut(Slot(kind=WRITE, key=key), "delete"))
            required.append(SlotIs(WRITE, key, waiting[key].payload))
        for key, (payload, content, _) in waiting.items():
            if key in settled:
                continue
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
