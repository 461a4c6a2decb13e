"""Taking the content of one message out of everything: the message log, its word index, the items of states in every
version and namespace, the cache, and the forks that hold it.

A tombstone stays in each place: a message with the same id and role, no content, and the digest of what stood there
(`metadata["redacted"]`), so that positions, versions and digests go on to hold.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from threadline import clock
from threadline.backend import (
    Batch,
    Entry,
    EntryQuery,
    Expected,
    Known,
    Range,
    Reason,
    Refused,
    Row,
    ThreadQuery,
)
from threadline.checkpointer.engine import ATTEMPTS, Engine, refuse
from threadline.checkpointer.walk import each_thread
from threadline.codec.digest import item_digest
from threadline.codec.envelope import Where
from threadline.codec.rows import JSON, items_of
from threadline.config import Address, message_key
from threadline.history.logs import open_row, read_marks
from threadline.model import Message


class Redaction:
    """Redacting messages, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def redact(self, address: Address, message_id: str) -> dict[str, Any]:
        """Redact a message in its thread and in that thread's forks; see `BaseCheckpointer.aredact`."""
        message_key(message_id)
        receipt: dict[str, Any] = {
            "message_id": message_id,
            "threads": {},
            "forks_of_others": [],
        }
        waiting, seen = [address], set()
        while waiting:
            here = waiting.pop()
            if here.thread_id in seen:
                continue
            seen.add(here.thread_id)
            count = await self._thread(here, message_id)
            visible = await self._visible(here)
            if count or here is address:
                receipt["threads"][here.thread_id] = count
            for fork, owner in await self._forks(here):
                if address.user in (None, owner):
                    waiting.append(fork)
                elif visible and fork.thread_id not in seen:
                    receipt["forks_of_others"].append(fork.thread_id)
        receipt["scrubbed"] = await self._engine.scrub()
        return receipt

    async def _visible(self, address: Address) -> bool:
        key, ns = await self._engine.key(address), address.ns_key
        head = await self._engine.backend.read_head(key, ns, address.user, content=False)
        return head.thread is not None

    async def _thread(self, address: Address, message_id: str) -> int:
        key = await self._engine.key(address)
        namespaces = await self._engine.backend.read_namespaces(key, address.user)
        count = 0
        for namespace in namespaces:
            here = dataclasses.replace(address, namespace=namespace)
            for _ in range(ATTEMPTS):
                try:
                    taken, floor = await self._namespace(here, key, message_id)
                    count += taken
                    await self._engine.copies.drop(key, here.ns_key, floor)
                    break
                except Refused as refused:
                    if refused.reason is Reason.MISSING:
                        break  # Deleted meanwhile, and the content with it.
                    if refused.reason is Reason.NAMES:
                        refuse(here, refused)
            else:
                refuse(here, Refused(Reason.STALE))
        return count

    async def _namespace(
        self, address: Address, key: bytes, message_id: str
    ) -> tuple[int, Known | None]:
        """How much was redacted, and what no copy may be older than: `gc` moved with it."""
        backend, ns, user = self._engine.backend, address.ns_key, address.user
        head = await backend.read_head(key, ns, user, content=False)
        if head.thread is None:
            return 0, None
        life, marks = head.thread.incarnation, read_marks(head.marks)
        ranges = [Range(log, 0, mark.end) for log, mark in enumerate(marks) if mark.end]
        rows = await backend.read_rows(key, ns, user, ranges) if ranges else []
        redacted = [self._row(row, message_id) for row in rows]
        merged = tuple(row for row, _ in redacted if row is not None)
        entries = await backend.read_entries(key, ns, user, EntryQuery(ext_ids=(message_id,)))
        tombs = tuple(self._entry(entry) for entry in entries)
        touched = bool(merged or tombs)
        await self._engine.commit(
            Batch(
                key=key,
                names=(address.tenant, address.app, address.thread_id),
                user=user,
                ns=ns,
                namespace=address.namespace,
                op_id=clock.new_id_bytes(),
                kind="redact",
                requires=life,
                expected=Expected(life, head.head_version) if touched else None,
                last_version=head.last_version,
                assumes_gc=head.thread.gc if touched else None,
                frees=touched,
                merged=merged,
                rewrite_entries=tombs,
                forget=(message_id,),  # It may have been popped.
            )
        )
        floor = Known(life, 0, head.thread.gc + touched, b"")
        return sum(count for _, count in redacted) + len(tombs), floor

    def _row(self, row: Row, message_id: str) -> tuple[Row | None, int]:
        if row.kind != JSON:
            return None, 0
        items = open_row(row, self._engine.codec)
        wanted = orjson.dumps(message_id)
        if wanted not in items.body:
            return None, 0
        cut, count = items.cut(), 0
        for number, data in enumerate(cut):
            item = orjson.loads(data) if wanted in data else None
            if isinstance(item, dict) and item.get("message_id") == message_id:
                cut[number], count = _tombstone(item, item_digest(JSON, data)), count + 1
        if not count:
            return None, 0
        where = Where("row", row.log, row.start, row.count)
        payload = self._engine.codec.seal(items_of(cut).pack(), where)
        return dataclasses.replace(row, payload=payload.data, key_id=payload.key_id), count

    def _entry(self, entry: Entry) -> Entry:
        record = {"message_id": entry.ext_id, "role": entry.role}
        data = _tombstone(record, entry.digest)
        payload = self._engine.codec.seal(data, Where("entry"))
        return dataclasses.replace(
            entry,
            payload=payload.data,
            key_id=payload.key_id,
            search=None,
            derived=True,
            meta=None,
            facts=None,
        )

    async def _forks(self, address: Address) -> list[tuple[Address, str | None]]:
        """The threads that say they were forked from this one, each with its owner."""
        found: list[tuple[Address, str | None]] = []
        async for row in each_thread(self._engine, ThreadQuery(address.tenant, address.app)):
            if row.lineage is None:
                continue
            lineage = self._engine.open(row.lineage, 0, Where("lineage"))
            if lineage.get("thread_id") == address.thread_id:
                fork = Address(row.tenant, row.app, row.thread_id, "", address.user)
                found.append((fork, row.user))
        return found


def _tombstone(item: dict[str, Any], digest: bytes) -> bytes:
    # A second redaction keeps the digest of the content that once stood here.
    digest_hex = digest.hex()
    beside = item.get("metadata")
    if (
        isinstance(beside, dict)
        and isinstance(beside.get("redacted"), str)
        and not item.get("content")
    ):
        digest_hex = beside["redacted"]
    tomb = Message(
        message_id=item["message_id"],
        role=item.get("role") or "user",
        content=[],
        timestamp=None,
        metadata={"redacted": digest_hex},
    )
    return orjson.dumps(
        {
            "message_id": tomb.message_id,
            "role": tomb.role,
            "timestamp": None,
            "metadata": tomb.metadata,
        }
    )
