"""The in-memory backend: dicts under one lock. A full backend, and the model that the others are judged by.

A commit is checked as a whole before anything of it is applied, so that nothing has to be undone. Rows are frozen,
so what is handed out can be shared.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from threadline import clock
from threadline.backend import (
    At,
    Backend,
    Batch,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Commit,
    Entry,
    EntryQuery,
    Head,
    HeadFacts,
    Known,
    Range,
    Reason,
    Refused,
    Row,
    Slot,
    SlotQuery,
    StoreInfo,
    Summary,
    ThreadQuery,
    ThreadRow,
    judge,
    judge_again,
)
from threadline.backends.memory_counts import measure, summarize
from threadline.backends.memory_past import adopted, check_past, copy, copy_thread, drop
from threadline.backends.memory_thread import (
    Space,
    Thread,
    born,
    covering,
    describe,
    erase,
    facts,
    fenced,
    find,
    forget,
    found_by,
    known_as,
    listed,
    put_checkpoint,
    put_entry,
    put_slot,
    remember,
    remove_entries,
    stock,
    trim_retired,
)
from threadline.errors import CorruptionError, ReleasedError
from threadline.history.freeing import Stock


class MemoryBackend(Backend):
    """Keeps everything in this process; gone when the object is."""

    name: ClassVar[str] = "memory"

    def __init__(self, *, now_us: Callable[[], int] | None = None) -> None:
        self._now_us = now_us or clock.now_us
        self._salt = clock.random_bytes(16)
        self._threads: dict[bytes, Thread] = {}
        self._retired: deque[tuple[int, bytes]] = deque()
        self._lock = threading.RLock()
        self._closed = False

    async def open(self) -> StoreInfo:
        self._check_open()
        return StoreInfo(self._salt, {"durable": False})

    async def close(self) -> None:
        self._closed = True

    # Writing ------------------------------------------------------------------------------------------

    async def commit(self, batches: Sequence[Batch]) -> list[Commit]:
        self._check_open()
        with self._lock:
            known = [_committed(self._threads.get(batch.key), batch) for batch in batches]
            for batch, commit in zip(batches, known, strict=True):
                if commit is None:
                    self._check(batch)
            return [
                commit or self._apply(batch) for batch, commit in zip(batches, known, strict=True)
            ]

    def _check(self, batch: Batch) -> None:
        thread = self._threads.get(batch.key)
        space = thread.spaces.get(batch.ns) if thread else None
        judge(
            batch,
            facts(thread),
            HeadFacts(space.head_version, space.last_version) if space else HeadFacts(),
            fenced(batch, space, max(self._now_us(), thread.activity_at if thread else 0)),
        )
        if batch.tail is not None:
            entries = space.entries if space else {}
            tail = [(seq, e.digest) for seq, e in sorted(entries.items()) if seq > batch.tail.after]
            if tail != list(batch.tail.expected):
                raise Refused(Reason.CONFLICT)
        check_past(self._threads, batch, space)
        if any(
            entry.seq not in (space.entries if space else {}) for entry in batch.rewrite_entries
        ):
            raise Refused(Reason.STALE)
        ext_id = batch.checkpoint.ext_id if batch.checkpoint else None
        if (
            space
            and ext_id is not None
            and any(row.ext_id == ext_id for row in space.checkpoints.values())
        ):
            raise Refused(Reason.CONFLICT, space.head_version)

    def _apply(self, batch: Batch) -> Commit:
        at = self._now_us()
        thread = self._threads.setdefault(batch.key, Thread())
        thread.rev += 1
        at = max(at, thread.activity_at)
        if not batch.upkeep:
            thread.activity_at = at
        row = thread.row or born(batch, at)
        if batch.erase:
            commit = Commit(thread.rev, at, row.incarnation)
            erase(thread)
            thread.journal[batch.op_id] = commit
            self._retired.append((at, batch.key))
            trim_retired(self._threads, self._retired, at)
            return commit
        if batch.copy is not None and batch.copy.whole:
            source = self._threads[batch.copy.key]
            copy_thread(source, thread, batch.copy)
            row = adopted(row, source, batch.thread)
            version = thread.spaces[batch.ns].head_version if batch.ns in thread.spaces else 0
            commit = Commit(thread.rev, at, row.incarnation, version or None)
            return remember(self._threads, self._retired, batch, row, commit)
        space = thread.space(batch.ns, batch.namespace)
        put_checkpoint(space, batch, at)
        if batch.copy is not None:
            origin = self._threads[batch.copy.key].spaces[batch.copy.ns]
            copy(origin, thread, space, batch.copy)
        for number, name in batch.renames:
            space.checkpoints[number] = dataclasses.replace(space.checkpoints[number], name=name)
        if batch.drop is not None:
            drop(space, batch.drop)
        removed, popped = remove_entries(space, batch)
        seqs = tuple(put_entry(thread, space, put, at) for put in batch.entries)
        for entry in batch.rewrite_entries:
            old = space.entries[entry.seq]
            space.entries[entry.seq] = dataclasses.replace(entry, created_at=old.created_at)
        forget(thread, batch.forget)
        written = tuple(put_slot(space, put, at) for put in batch.slots)
        if batch.thread is not None:
            row = describe(thread, row, batch.thread)
        row = dataclasses.replace(row, gc=row.gc + batch.frees)
        commit = Commit(
            thread.rev, at, row.incarnation, batch.about, seqs, removed, popped, written
        )
        return remember(self._threads, self._retired, batch, row, commit)

    # Reading ------------------------------------------------------------------------------------------

    async def read_head(
        self,
        key: bytes,
        ns: bytes,
        user: str | None,
        *,
        at: At | None = None,
        known: Known | None = None,
        content: bool = True,
    ) -> Head:
        with self._lock:
            thread = self._live(key, user)
            if thread is None or thread.row is None:
                return Head(last_version=_retired(self._threads.get(key), ns))
            space = thread.spaces.get(ns) or Space("")
            head = Head(
                thread=thread.row,
                head_version=space.head_version,
                last_version=space.last_version,
                marks=space.marks,
            )
            checkpoint = find(space, at)
            if at is None and known and checkpoint and known == known_as(thread.row, checkpoint):
                return dataclasses.replace(head, unchanged=True)
            if checkpoint is None or not content:
                return dataclasses.replace(head, checkpoint=checkpoint)
            wanted = dict.fromkeys(checkpoint.blob_refs)
            if not space.blobs.keys() >= wanted.keys():
                raise CorruptionError("a checkpoint refers to a large field that is not there")
            return dataclasses.replace(
                head,
                checkpoint=checkpoint,
                rows=tuple(covering(space, checkpoint.refs)),
                blobs=tuple(space.blobs[each] for each in wanted),
            )

    async def read_rows(
        self, key: bytes, ns: bytes, user: str | None, ranges: Sequence[Range]
    ) -> list[Row]:
        with self._lock:
            space = self._space(key, ns, user)
            return covering(space, ranges) if space else []

    async def read_blobs(
        self, key: bytes, ns: bytes, user: str | None, ids: Sequence[bytes]
    ) -> list[Blob]:
        with self._lock:
            space = self._space(key, ns, user) or Space("")
            return [space.blobs[id] for id in dict.fromkeys(ids) if id in space.blobs]

    async def read_checkpoints(
        self, key: bytes, ns: bytes, user: str | None, query: CheckpointQuery
    ) -> list[CheckpointRow]:
        with self._lock:
            space = self._space(key, ns, user)
            found = (
                [
                    row
                    for version, row in sorted(space.checkpoints.items(), reverse=True)
                    if (query.before is None or version < query.before)
                    and (query.name is None or row.name == query.name)
                    and space.checkpoint_terms[version].issuperset(query.terms)
                ]
                if space
                else []
            )
            return found[: query.limit]

    async def read_entries(
        self, key: bytes, ns: bytes, user: str | None, query: EntryQuery
    ) -> list[Entry]:
        with self._lock:
            space = self._space(key, ns, user)
            if space is None:
                return []
            found = [
                entry
                for seq, entry in sorted(space.entries.items(), reverse=query.newest)
                if seq > query.after
                and (query.before is None or seq < query.before)
                and (query.ext_ids is None or entry.ext_id in query.ext_ids)
                and (query.role is None or entry.role == query.role)
                and space.entry_terms[seq].issuperset(query.terms)
                and found_by(entry, query.words)
            ]
            return found[: query.limit]

    async def search(
        self, threads: ThreadQuery, words: Sequence[str], *, before: int | None, limit: int
    ) -> list[tuple[int, ThreadRow, Entry]]:
        with self._lock:
            hits = [
                (thread.row, entry)
                for thread in listed(self._threads, threads)
                for space in thread.spaces.values()
                for entry in space.entries.values()
                if thread.row is not None and found_by(entry, words)
            ]
            hits.sort(key=lambda hit: (hit[1].created_at, hit[0].key, hit[1].seq))
            numbered = [(number + 1, *hit) for number, hit in enumerate(hits)]
            found = [hit for hit in reversed(numbered) if before is None or hit[0] < before]
            return found[:limit]

    async def read_slots(
        self, key: bytes, ns: bytes, user: str | None, query: SlotQuery
    ) -> list[Slot]:
        with self._lock:
            space, now = self._space(key, ns, user), self._now_us()
            found = [
                slot
                for (kind, name), slot in sorted(
                    space.slots.items() if space else (),
                    key=lambda item: (item[0][0], item[0][1].encode()),
                )
                if query.kind in (None, kind)
                and name.startswith(query.prefix)
                and (query.after is None or name.encode() > query.after.encode())
                and (slot.expires_at is None or slot.expires_at > now)
            ]
            return found[: query.limit]

    async def read_threads(self, query: ThreadQuery) -> list[ThreadRow]:
        with self._lock:
            rows = [thread.row for thread in listed(self._threads, query) if thread.row is not None]
            rows.sort(key=lambda row: (row.activity_at, row.key), reverse=not query.oldest)
            if query.after is not None:
                edge = query.after
                rows = [
                    row
                    for row in rows
                    if ((row.activity_at, row.key) > edge) == query.oldest
                    and (row.activity_at, row.key) != edge
                ]
            return rows[query.offset :][: query.limit]

    async def read_namespaces(self, key: bytes, user: str | None) -> list[str]:
        with self._lock:
            thread = self._live(key, user)
            spaces = thread.spaces.values() if thread else ()
            return sorted(space.namespace for space in spaces if space.live)

    async def read_stock(self, key: bytes, ns: bytes, user: str | None) -> Stock:
        with self._lock:
            return stock(self._space(key, ns, user) or Space(""))

    async def measure(self, keys: Sequence[bytes] | None) -> list[dict[str, int]]:
        self._check_open()
        with self._lock:
            if keys is None:
                return [measure(self._threads.values())]
            return [measure([self._threads[k]] if k in self._threads else []) for k in keys]

    async def summarize(self, query: ThreadQuery, key: bytes | None = None) -> Summary:
        with self._lock:
            self._check_open()
            threads = listed(self._threads, query)
            return summarize(t for t in threads if t.row and key in (None, t.row.key))

    def _check_open(self) -> None:
        if self._closed:
            raise ReleasedError()

    def _live(self, key: bytes, user: str | None) -> Thread | None:
        self._check_open()
        thread = self._threads.get(key)
        if thread is None or thread.row is None:
            return None
        return thread if user is None or thread.row.user == user else None

    def _space(self, key: bytes, ns: bytes, user: str | None) -> Space | None:
        thread = self._live(key, user)
        return thread.spaces.get(ns) if thread else None


def _committed(thread: Thread | None, batch: Batch) -> Commit | None:
    commit = thread.journal.get(batch.op_id) if thread else None
    if thread is None or commit is None:
        return None
    if (there := facts(thread)) is not None:
        judge_again(batch, there)
    return dataclasses.replace(commit, duplicate=True)


def _retired(thread: Thread | None, ns: bytes) -> int:
    if thread is None or thread.row is not None or ns not in thread.spaces:
        return 0
    return thread.spaces[ns].last_version
