"""What can be done with a past: naming a checkpoint, making an old state the head again, and forking into another
thread. Nothing is erased by any of it, and no item is decoded or written again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from threadline.backend import (
    Batch,
    CheckpointRow,
    Commit,
    CopyFrom,
    Expected,
    Head,
    Range,
    Reason,
    Refused,
    ThreadPut,
    ThreadRow,
)
from threadline.checkpointer.engine import ATTEMPTS, Engine, kinds, refuse
from threadline.checkpointer.reads import Reads, as_checkpoint
from threadline.checkpointer.snapshot import open_doc, read_metadata
from threadline.codec.digest import checkpoint_digest
from threadline.codec.envelope import Where
from threadline.codec.terms import terms_of
from threadline.codec.values import encode
from threadline.config import LONG, Address, text_id
from threadline.errors import CorruptionError, ThreadNotFoundError
from threadline.history.head import HeadDoc
from threadline.history.logs import Mark, read_marks, write_marks
from threadline.model import Checkpoint


class Past:
    """Naming, rolling back and forking, for any backend."""

    def __init__(self, engine: Engine, reads: Reads) -> None:
        self._engine, self._reads = engine, reads

    async def name(self, address: Address, name: str | None, op_id: str | None) -> Checkpoint:
        """Give the checkpoint that an address points at another name."""
        key = await self._engine.key(address)
        try:
            head = await self._found(address, key)
        except (ThreadNotFoundError, ValueError):
            if made := await self._engine.made_before(address, "name", op_id):
                return await self._named(address, key, name, made)
            raise
        row = _row(head)
        batch = await self._engine.batch(
            address,
            "name",
            op_id,
            requires=_life(head),
            frees=True,  # So that a prune that would take this version is computed again.
            renames=((row.version, name),),
        )
        try:
            commit = await self._engine.commit(batch)
        except Refused as refused:
            refuse(address, refused)
        await self._engine.copies.drop(key, address.ns_key)
        if commit.duplicate and commit.version not in (None, row.version):
            # What the address points at has moved since it was named.
            return await self._named(address, key, name, commit)
        return self._as_named(address, row, name, _life(head))

    async def _named(
        self, address: Address, key: bytes, name: str | None, commit: Commit
    ) -> Checkpoint:
        row = await self._reads.written(address, key, commit)
        return self._as_named(address, row, name, commit.incarnation)

    def _as_named(
        self, address: Address, row: CheckpointRow, name: str | None, incarnation: bytes
    ) -> Checkpoint:
        metadata = read_metadata(row, self._engine.codec) if row.payload else {}
        return as_checkpoint(address, dataclasses.replace(row, name=name), incarnation, metadata)

    async def rollback(
        self,
        address: Address,
        to: Address,
        expected: int | Checkpoint | None,
        metadata: dict[str, Any],
        op_id: str | None,
    ) -> Checkpoint:
        """Make the state that `to` points at the head again, as a new checkpoint."""
        key = await self._engine.key(address)
        for _ in range(ATTEMPTS):
            try:
                target = await self._found(to, key)
            except (ThreadNotFoundError, ValueError):
                if made := await self._engine.made_before(address, "rollback", op_id):
                    return await self._told(address, key, made, metadata, base=to.version)
                raise
            now = await self._engine.backend.read_head(
                key, address.ns_key, address.user, content=False
            )
            if now.thread is None or target.thread is None or _life(now) != _life(target):
                continue
            doc = dataclasses.replace(
                open_doc(_row(target), self._engine.codec), metadata=encode(metadata)
            )
            marks = read_marks(now.marks)
            doc = dataclasses.replace(
                doc, ends=tuple((log, marks[log].end) for log, _ in doc.ends if log < len(marks))
            )
            row = self._row(address, doc, now, "rollback", metadata)
            row = dataclasses.replace(row, base=_row(target).version)
            batch = await self._engine.batch(
                address,
                "rollback",
                op_id,
                expected=_expected(expected, now),
                last_version=now.last_version,
                marks=now.marks,
                assumes_gc=now.thread.gc,
                frees=True,  # So that a prune that would take what this refers to is computed again.
                checkpoint=row,
                checkpoint_terms=terms_of(metadata) if metadata else (),
            )
            try:
                commit = await self._engine.commit(batch)
            except Refused as refused:
                moved = refused.reason is Reason.CONFLICT and expected is None
                if moved or refused.reason is Reason.STALE:
                    continue
                known = expected.version if isinstance(expected, Checkpoint) else expected
                refuse(address, refused, known)
            return await self._committed(address, key, row, commit, metadata)
        refuse(address, Refused(Reason.STALE))

    async def fork(
        self,
        source: Address,
        thread_id: str,
        metadata: dict[str, Any],
        op_id: str | None,
    ) -> Checkpoint:
        """Copy the state that an address points at, with the messages up to then and the slots, into a new thread."""
        into = dataclasses.replace(
            source,
            thread_id=text_id(thread_id, "thread_id", LONG),
            version=None,
            checkpoint_id=None,
            name=None,
            lease=None,
        )
        if into.thread_id == source.thread_id:
            raise ValueError(
                f"thread {thread_id!r} cannot be forked into itself; to go back to an old state use rollback"
            )
        key, new_key = await self._engine.key(source), await self._engine.key(into)
        for _ in range(ATTEMPTS):
            try:
                head = await self._found(source, key)
            except (ThreadNotFoundError, ValueError):
                if made := await self._engine.made_before(into, "fork", op_id):
                    return await self._told(into, new_key, made, metadata)
                raise
            there = await self._engine.backend.read_head(
                new_key, into.ns_key, into.user, content=False
            )
            doc = dataclasses.replace(
                open_doc(_row(head), self._engine.codec), metadata=encode(metadata)
            )
            marks = await self._copied_marks(source, key, head, doc)
            doc = dataclasses.replace(doc, ends=tuple((log, marks[log].end) for log, _ in doc.ends))
            row = self._row(into, doc, there, "fork", metadata, marks)
            batch = await self._fork_batch(
                source, into, head, there, row, marks, metadata, key, op_id
            )
            try:
                commit = await self._engine.commit(batch)
            except Refused as refused:
                if refused.reason is Reason.STALE:
                    continue
                if refused.reason is Reason.CONFLICT:
                    raise ValueError(
                        f"thread {thread_id!r} has a state already; fork into a thread that does not exist"
                    ) from None
                refuse(into, refused, 0)
            kinds.copy(key + source.ns_key, new_key + into.ns_key)
            return await self._committed(into, new_key, row, commit, metadata)
        refuse(into, Refused(Reason.STALE))

    async def _fork_batch(
        self,
        source: Address,
        into: Address,
        head: Head,
        there: Head,
        row: CheckpointRow,
        marks: Sequence[Mark],
        metadata: dict[str, Any],
        key: bytes,
        op_id: str | None,
    ) -> Batch:
        thread, old = head.thread, _row(head)
        if thread is None:
            raise ThreadNotFoundError(f"thread {source.thread_id!r} does not exist")
        record = {
            "thread_id": source.thread_id,
            "namespace": source.namespace,
            "version": old.version,
        }
        lineage = self._engine.seal(record, Where("lineage"))
        past = old.version != head.head_version
        life = there.thread.incarnation if there.thread else None
        return await self._engine.batch(
            into,
            "fork",
            op_id,
            create=True,
            expected=Expected(life, 0),
            last_version=there.last_version,
            marks=write_marks(marks),
            checkpoint=row,
            checkpoint_terms=terms_of(metadata) if metadata else (),
            thread=self._forked(lineage.data, thread, there),
            copy=CopyFrom(
                key,
                source.ns_key,
                thread.incarnation,
                thread.gc,
                row.refs,
                row.blob_refs,
                old.created_at if past else None,
                head.last_version,
            ),
        )

    def _forked(self, lineage: bytes, source: ThreadRow, there: Head) -> ThreadPut:
        """What a fork brings: whose it is and how it is described; a thread that was there keeps its own."""
        if there.thread is not None:
            return ThreadPut(lineage=lineage)
        terms: tuple[int, ...] = ()
        if source.info is not None:
            said = self._engine.open(source.info, source.key_id, Where("thread"))
            terms = terms_of(said.get("metadata") or {})
        return ThreadPut(
            lineage=lineage,
            owner=source.user,
            info=source.info,
            title=source.title,
            terms=terms,
            key_id=source.key_id,
        )

    async def _copied_marks(
        self, source: Address, key: bytes, head: Head, doc: HeadDoc
    ) -> list[Mark]:
        """The marks of the copied logs: each ends with the last row that is copied, and its next row is a new one."""
        marks = read_marks(head.marks)
        reached = {log: end for log, _, end in doc.ranges}
        copied = [Mark() for _ in marks]
        for log, end in reached.items():
            if end == marks[log].end:
                copied[log] = Mark(end, end, 0, marks[log].prefix, marks[log].prefix)
                continue
            rows = await self._engine.backend.read_rows(
                key, source.ns_key, source.user, [Range(log, end - 1, end)]
            )
            if len(rows) != 1:
                raise CorruptionError(
                    f"thread {source.thread_id!r}: item {end - 1} of log {log} is missing"
                )
            last = rows[0]
            copied[log] = Mark(last.end, last.end, 0, last.p_end, last.p_end)
        return copied

    def _row(
        self,
        address: Address,
        doc: HeadDoc,
        onto: Head,
        kind: str,
        metadata: dict[str, Any],
        marks: Sequence[Mark] | None = None,
    ) -> CheckpointRow:
        logs = marks if marks is not None else read_marks(onto.marks)
        data, parent = doc.to_bytes(), onto.checkpoint
        sealed = self._engine.codec.seal(data, Where("head"))
        digest = checkpoint_digest(
            onto.last_version + 1,
            parent.digest if parent else b"",
            data,
            [(log, end, logs[log].prefix) for log, end in doc.ends],
        )
        return CheckpointRow(
            version=onto.last_version + 1,
            parent_version=parent.version if parent else None,
            base=onto.head_version or None,
            kind=kind,
            run_id=address.run_id,
            payload=sealed.data,
            key_id=sealed.key_id,
            digest=digest,
            refs=tuple(Range(*span) for span in doc.ranges),
            blob_refs=doc.blobs,
            bytes=len(sealed.data),
        )

    async def _found(self, address: Address, key: bytes) -> Head:
        at = await self._reads.at(address, key)
        head = await self._engine.backend.read_head(
            key, address.ns_key, address.user, at=at, content=False
        )
        if head.thread is None:
            whose = "" if address.user_id is None else f" for user {address.user_id!r}"
            raise ThreadNotFoundError(f"thread {address.thread_id!r} does not exist{whose}")
        if head.checkpoint is None:
            which = address.version or address.checkpoint_id or address.name
            if which is None:
                raise ValueError(f"thread {address.thread_id!r} has no state")
            raise ValueError(f"thread {address.thread_id!r} has no checkpoint {which!r}")
        return head

    async def _committed(
        self,
        address: Address,
        key: bytes,
        row: CheckpointRow,
        commit: Commit,
        metadata: dict[str, Any],
    ) -> Checkpoint:
        await self._engine.copies.drop(key, address.ns_key)
        if commit.duplicate:
            base = (
                row.base if row.kind == "rollback" else None
            )  # A fork is the first of its thread.
            return await self._told(address, key, commit, metadata, base)
        row = dataclasses.replace(row, created_at=row.created_at or commit.at)
        return as_checkpoint(address, row, commit.incarnation, metadata)

    async def _told(
        self,
        address: Address,
        key: bytes,
        commit: Commit,
        metadata: dict[str, Any],
        base: int | None = None,
    ) -> Checkpoint:
        """What an operation answered that was committed before."""
        row = await self._reads.written(address, key, commit, run_id=address.run_id, base=base)
        return as_checkpoint(address, row, commit.incarnation, metadata)


def _row(head: Head) -> CheckpointRow:
    if head.checkpoint is None:
        raise ValueError("there is no such checkpoint")
    return head.checkpoint


def _life(head: Head) -> bytes:
    return head.thread.incarnation if head.thread else b""


def _expected(said: int | Checkpoint | None, now: Head) -> Expected:
    if isinstance(said, Checkpoint):
        return Expected(bytes.fromhex(said.incarnation) or None, said.version)
    return Expected(_life(now), now.head_version if said is None else said)
