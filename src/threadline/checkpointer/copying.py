"""Copying a thread with all of its past, in the store: one commit, and nothing of it comes through this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from threadline.backend import Commit, CopyFrom, Head, Reason, Refused, ThreadPut
from threadline.checkpointer.engine import ATTEMPTS, Engine, kinds, read_op_id, refuse
from threadline.checkpointer.reads import Reads, as_checkpoint
from threadline.checkpointer.snapshot import read_metadata
from threadline.codec.envelope import Where
from threadline.config import LONG, Address, namespace_key, text_id
from threadline.errors import ConflictError, ThreadNotFoundError
from threadline.model import Checkpoint


class Copying:
    """Copying whole threads, for any backend."""

    def __init__(self, engine: Engine, reads: Reads) -> None:
        self._engine, self._reads = engine, reads

    async def fork(self, source: Address, thread_id: str, op_id: str | None) -> Checkpoint:
        """Copy the thread of an address; the newest checkpoint of the copy."""
        if source.past:
            raise ValueError(
                "with history=True a thread is copied as it stands: its config cannot address the past"
            )
        commit = await self.copy(source, thread_id, op_id, state=True)
        into = _into(source, thread_id)
        row = await self._reads.written(into, await self._engine.key(into), commit)
        metadata = read_metadata(row, self._engine.codec) if row.payload else {}
        return as_checkpoint(into, row, commit.incarnation, metadata)

    async def copy(
        self,
        source: Address,
        thread_id: str,
        op_id: str | None,
        *,
        ends: Mapping[str, int] | None = None,
        until: int | None = None,
        read: Head | None = None,
        state: bool = False,
    ) -> Commit:
        """Copy the thread of an address into one that does not exist; see `Store.acopy`. state: refuse a namespace
        without a state."""
        into, operation = _into(source, thread_id), read_op_id(op_id)
        key = await self._engine.key(source)
        for _ in range(ATTEMPTS):
            head = await self._head(source)
            fault = _fault(source, head, read, state)
            if fault is not None or (thread := head.thread) is None:
                if made := await self._engine.made_before(into, "copy", op_id):
                    return made
                raise fault or ThreadNotFoundError()
            known = None if ends is None else [(namespace_key(n), v) for n, v in ends.items()]
            version = head.head_version if ends is None else ends.get(source.namespace, 0)
            batch = await self._engine.batch(
                into,
                "copy",
                operation.hex(),
                create=True,
                thread=ThreadPut(lineage=self._lineage(source, version)),
                copy=CopyFrom(
                    key,
                    source.ns_key,
                    thread.incarnation,
                    gc=None if read is None else thread.gc,
                    until=until,
                    last_version=head.last_version,
                    whole=True,
                    ends=None if known is None else tuple(known),
                ),
            )
            try:
                commit = await self._engine.commit(batch)
            except Refused as refused:
                if refused.reason is Reason.CONFLICT:
                    raise ValueError(
                        f"thread {thread_id!r} exists already; nothing was copied. Delete it first, or copy elsewhere"
                    ) from None
                moved = _life(await self._head(source)) != _life(head)
                if refused.reason is Reason.STALE or moved:
                    continue
                refuse(into, refused)
            kinds.copy(key, batch.key)
            await self._engine.copies.drop(batch.key, into.ns_key)
            return commit
        refuse(source, Refused(Reason.STALE))

    async def _head(self, address: Address) -> Head:
        key = await self._engine.key(address)
        return await self._engine.backend.read_head(
            key, address.ns_key, address.user, content=False
        )

    def _lineage(self, source: Address, version: int) -> bytes:
        record = {
            "thread_id": source.thread_id,
            "namespace": source.namespace,
            "version": version,
        }
        return self._engine.seal(record, Where("lineage")).data


def _life(head: Head) -> tuple[bytes, int] | None:
    """Which life a thread was read in, and how often something was taken away in it."""
    return (head.thread.incarnation, head.thread.gc) if head.thread else None


def _into(source: Address, thread_id: str) -> Address:
    into = dataclasses.replace(source, thread_id=text_id(thread_id, "thread_id", LONG), lease=None)
    if into.thread_id == source.thread_id:
        raise ValueError(f"thread {thread_id!r} exists already: it cannot be copied into itself")
    return into


def _fault(source: Address, head: Head, read: Head | None, state: bool) -> Exception | None:
    """Why a thread that stands so cannot be copied."""
    thread = repr(source.thread_id)
    if head.thread is None:
        whose = "" if source.user_id is None else f" for user {source.user_id!r}"
        return ThreadNotFoundError(f"thread {thread} does not exist{whose}")
    if state and not head.head_version:
        return ValueError(f"thread {thread} has no state yet")
    if read is not None and _life(read) != _life(head):
        return ConflictError(
            f"thread {thread}: something was taken away since it was read; nothing was copied. Read it again",
            thread_id=source.thread_id,
        )
    return None
