"""The durable half of `CheckpointManager`: one session's checkpoints as entries of a thread's message log.

The thread is used for nothing else, so an entry's `seq`, which the store counts and never gives twice, is the
checkpoint's number. Every write is computed against a `View` and committed only onto exactly that: additions by
others are noticed by the tail (`TailIs`), everything else by the counter `gc`, which each removal moves. So a view may
be kept from one write to the next without being read again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from threadline import clock
from threadline.backend import Commit, Entry, EntryPut, EntryQuery, Slot, SlotPut, SlotQuery, TailIs
from threadline.checkpointer.base import BaseCheckpointer
from threadline.checkpointer.engine import ATTEMPTS
from threadline.checkpointer.manager_rules import Record
from threadline.codec.digest import item_digest
from threadline.codec.envelope import Where
from threadline.codec.rows import JSON
from threadline.codec.values import decode, encode
from threadline.errors import ConflictError, ThreadNotFoundError
from threadline.model import Checkpoint

#: The app that keeps managers' threads away from conversations of the same ids.
APP: Final = "threadline.manager"
KIND: Final = "checkpoint"
_DATA, _META, _MEMORY = Where("entry"), Where("meta"), Where("slot", "imported")


class Line(NamedTuple):
    """A checkpoint as the retention rule sees it."""

    seq: int
    uid: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """A session as a write was computed against it; `incarnation` is None when there is no thread yet."""

    incarnation: bytes | None
    gc: int
    lines: tuple[Line, ...]

    @property
    def last(self) -> int:
        """The position of the newest checkpoint, 0 when there is none."""
        return self.lines[-1].seq if self.lines else 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a write does: takes away the checkpoints with these uids (or all), adds some, remembers imports."""

    remove: tuple[str, ...] = ()
    clear: bool = False
    puts: tuple[Entry, ...] = ()
    memory: Memory | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What imports must know of the past: the last number that `clear` took away, and the uids of imported
    checkpoints since."""

    cleared: int = 0
    uids: frozenset[str] = frozenset()


class SessionLog:
    """The checkpoints of one session in a store; may be used from several threads."""

    def __init__(self, checkpointer: BaseCheckpointer, config: Mapping[str, Any]) -> None:
        self._store = checkpointer.store
        self._config = {**config, "app": APP}
        self._lock = threading.Lock()
        self._view: View | None = None

    def entries(self, query: EntryQuery) -> list[Entry]:
        """Entries as the store has them now."""
        return [entry for entry in self._store.read(self._config, query) if entry.kind == KIND]

    def about(self) -> tuple[str, int]:
        """The life of the thread (hexadecimal; empty when there is none) and how many checkpoints it has."""
        thread = self._store.read(self._config).thread
        return (thread.incarnation.hex(), thread.message_count) if thread else ("", 0)

    def memory(self) -> Memory:
        """What imports must know of the past."""
        for slot in self._store.read(self._config, SlotQuery("imported", limit=1)):
            cleared, uids = decode(self._store.open(slot.payload, _MEMORY, slot.key_id))
            return Memory(cleared, frozenset(uids))
        return Memory()

    def seal(self, record: Record) -> Entry:
        """A checkpoint as an entry. Raises LimitError."""
        about = {"at": record.at, "metadata": decode(record.metadata)}
        if record.origin is not None:
            about["origin"] = record.origin
        payload = self._store.seal(record.data, _DATA)
        return Entry(
            kind=KIND,
            ext_id=record.uid,
            role=record.name,
            payload=payload.data,
            key_id=payload.key_id,
            digest=item_digest(JSON, record.data),
            meta=self._store.seal(encode(about), _META).data,
        )

    def beside(self, entry: Entry) -> dict[str, Any]:
        """What stands beside an entry's data: `at` (microseconds), `metadata`, perhaps `origin`."""
        about: dict[str, Any] = decode(self._store.open(entry.meta or b"", _META, entry.key_id))
        return about

    def record(self, entry: Entry) -> Record:
        """The checkpoint of an entry, as bytes. Raises CorruptionError."""
        about = self.beside(entry)
        return Record(
            uid=entry.ext_id or "",
            name=entry.role or "",
            at=about["at"],
            data=self._store.open(entry.payload, _DATA, entry.key_id),
            metadata=encode(about["metadata"]),
            origin=about.get("origin"),
            version=entry.seq,
        )

    def checkpoint(self, entry: Entry) -> Checkpoint:
        """The checkpoint of an entry, with values that nobody else has. Raises CorruptionError."""
        about, session = self.beside(entry), self._config["thread_id"]
        return Checkpoint(
            id=f"{session}:{entry.seq}",
            thread_id=session,
            version=entry.seq,
            timestamp=clock.from_us(about["at"]),
            name=entry.role,
            metadata=about["metadata"],
            bytes=len(entry.payload),
            state=decode(self._store.open(entry.payload, _DATA, entry.key_id)),
        )

    def write(
        self, kind: str, op_id: str | None, plan: Callable[[View], Change | None]
    ) -> Commit | None:
        """Commit what `plan` makes of the session as it is; again when another writer was faster.

        None when there is nothing to write. Raises ThreadNotFoundError for another user's session, and what the store
        raises; after an OutcomeUnknownError the same `op_id` tells what became of it.
        """
        token = op_id or clock.new_id()
        with self._lock:
            view, kept = self._view or self._look(None), self._view is not None
            for _ in range(ATTEMPTS):
                change = plan(view)
                if change is None and kept:  # No commit will say whether that view still holds.
                    view, kept = self._look(view), False
                    change = plan(view)
                if change is None:
                    self._view = view
                    return None
                # Whatever happens now, what there is is not known until the store has answered.
                self._view = None
                try:
                    commit = self._commit(kind, token, view, change)
                except (ConflictError, ThreadNotFoundError) as error:
                    if isinstance(error, ThreadNotFoundError) and view.incarnation is None:
                        raise
                    view, kept = self._look(view), False
                    continue
                if not commit.duplicate and view.incarnation is not None:
                    self._view = _after(view, change, commit)
                return commit
        raise ConflictError(
            f"session {self._config['thread_id']!r} changed too often; nothing was written",
            thread_id=self._config["thread_id"],
        )

    def _look(self, before: View | None) -> View:
        """The session as it is; of what was known before, only what is new is read. The counter is read first, so that
        a removal between the two reads is found out by the commit."""
        thread = self._store.read(self._config).thread
        if thread is None:
            return View(None, 0, ())
        lines: tuple[Line, ...] = ()
        if before and (before.incarnation, before.gc) == (thread.incarnation, thread.gc):
            lines = before.lines
        new = self.entries(EntryQuery(after=lines[-1].seq if lines else 0))
        lines += tuple(Line(entry.seq, entry.ext_id or "", entry.role or "") for entry in new)
        return View(thread.incarnation, thread.gc, lines)

    def _commit(self, kind: str, token: str, view: View, change: Change) -> Commit:
        slots: tuple[SlotPut, ...] = ()
        if change.memory is not None:
            plain = [change.memory.cleared, sorted(change.memory.uids)]
            payload = self._store.seal(encode(plain), _MEMORY)
            slot = Slot(kind="imported", key="all", payload=payload.data, key_id=payload.key_id)
            slots = (SlotPut(slot),)
        batch = self._store.batch(
            self._config,
            kind,
            op_id=token,
            create=view.incarnation is None,
            requires=view.incarnation,
            assumes_gc=view.gc,
            frees=_frees(change),
            tail=TailIs(view.last, ()),
            remove_entries=change.remove,
            clear_entries=change.clear,
            entries=tuple(EntryPut(entry) for entry in change.puts),
            slots=slots,
        )
        return self._store.commit(batch)


def _frees(change: Change) -> bool:
    """Whether the counter moves: for everything that the tail does not show."""
    return change.clear or bool(change.remove) or not change.puts


def _after(view: View, change: Change, commit: Commit) -> View:
    gone = set(change.remove)
    lines = () if change.clear else tuple(line for line in view.lines if line.uid not in gone)
    lines += tuple(
        Line(seq, entry.ext_id or "", entry.role or "")
        for seq, entry in zip(commit.seqs, change.puts, strict=True)
    )
    return View(commit.incarnation, view.gc + _frees(change), lines)
