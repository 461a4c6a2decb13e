"""Threads as JSON Lines: everything that is stored of them, in words that any program can read, and back.

Each line is an object with `"is"`: a head line first, then for each thread a `thread` line and its `namespace`, `blob`,
`row`, `checkpoint`, `message` and `slot` lines, and an `end` line with the number of lines and the digest (BLAKE2b, 16
bytes, hexadecimal) of all before it. Nothing is imported from a file whose end is missing or does not fit.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import IO, Any

import orjson

from threadline import clock
from threadline.backend import (
    At,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Entry,
    EntryQuery,
    Range,
    Row,
    SlotQuery,
    ThreadRow,
)
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.walk import addressed_threads
from threadline.codec.envelope import Where
from threadline.codec.rows import JSON
from threadline.config import Address, namespace_key, user_id_of
from threadline.history.logs import open_row, read_marks

#: The version of the format; a reader refuses one that it does not know.
FORMAT = 1
PAGE = 200
HEAD = {"is": "threadline", "format": FORMAT}


class Exporter:
    """Exporting threads, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def export(self, address: Address, file: IO[bytes]) -> dict[str, int]:
        """Write the thread of an address, or every thread of its tenant, app and user; returns counts."""
        counts = {"threads": 0, "checkpoints": 0, "messages": 0, "lines": 0}
        digest = hashlib.blake2b(digest_size=16)

        def write(record: dict[str, Any]) -> None:
            line = orjson.dumps(record) + b"\n"
            digest.update(line)
            counts["lines"] += 1
            file.write(line)

        write(HEAD)
        async for thread in addressed_threads(self._engine, address, oldest=True):
            counts["threads"] += 1
            async for record in self._thread(thread, address.user):
                counts["checkpoints"] += record["is"] == "checkpoint"
                counts["messages"] += record["is"] == "message"
                write(record)
        end = {"is": "end", "lines": counts["lines"], "digest": digest.hexdigest()}
        file.write(orjson.dumps(end) + b"\n")
        file.flush()
        return counts

    async def _thread(self, thread: ThreadRow, user: str | None) -> AsyncIterator[dict[str, Any]]:
        record: dict[str, Any] = {
            "is": "thread",
            "tenant": thread.tenant,
            "app": thread.app,
            "thread_id": thread.thread_id,
            "user_id": user_id_of(thread.user),
            "created_at": clock.from_us(thread.created_at).isoformat(),
            "activity_at": clock.from_us(thread.activity_at).isoformat(),
        }
        for name, data, kind in (
            ("info", thread.info, "thread"),
            ("lineage", thread.lineage, "lineage"),
        ):
            if data is not None:
                opened = self._engine.codec.open(data, thread.key_id, Where(kind))
                record[name] = orjson.Fragment(opened)
        yield record
        for namespace in await self._engine.backend.read_namespaces(thread.key, user):
            async for each in self._namespace(thread, namespace, user):
                yield each

    async def _namespace(
        self, thread: ThreadRow, namespace: str, user: str | None
    ) -> AsyncIterator[dict[str, Any]]:
        backend, key, ns = self._engine.backend, thread.key, namespace_key(namespace)
        head = await backend.read_head(key, ns, user, content=False)
        marks = read_marks(head.marks)
        yield {
            "is": "namespace",
            "namespace": namespace,
            "head_version": head.head_version,
            # Without a version, the counter is of a life that ended here, which the copy knows nothing of.
            "last_version": head.last_version if head.head_version else 0,
            "marks": orjson.Fragment(head.marks or b"[]"),
        }
        for log, mark in enumerate(marks):
            if mark.end:
                for row in await backend.read_rows(key, ns, user, [Range(log, 0, mark.end)]):
                    yield self._row(row)
        written: set[bytes] = set()
        for version in reversed(await self._versions(key, ns, user)):
            found = await backend.read_head(key, ns, user, at=At(version=version))
            if found.checkpoint is None:
                continue
            record = self._checkpoint(found.checkpoint)
            for blob in found.blobs:
                if blob.id not in written:
                    written.add(blob.id)
                    yield self._blob(blob, ours="head" in record)
            yield record
        async for entry in self._entries(key, ns, user):
            yield self._entry(entry)
        for slot in await backend.read_slots(key, ns, user, SlotQuery(None)):
            yield {
                "is": "slot",
                "kind": slot.kind,
                "key": slot.key,
                "payload": _text(slot.payload),
                "meta": _text(slot.meta),
                "expires_at": slot.expires_at,
            }

    async def _versions(self, key: bytes, ns: bytes, user: str | None) -> list[int]:
        versions: list[int] = []
        before: int | None = None
        while True:
            query = CheckpointQuery(before=before, limit=PAGE)
            rows = await self._engine.backend.read_checkpoints(key, ns, user, query)
            versions += [row.version for row in rows]
            if len(rows) < PAGE:
                return versions
            before = rows[-1].version

    async def _entries(self, key: bytes, ns: bytes, user: str | None) -> AsyncIterator[Entry]:
        cursor = 0
        while True:
            query = EntryQuery(after=cursor, limit=PAGE)
            entries = await self._engine.backend.read_entries(key, ns, user, query)
            for entry in entries:
                yield entry
            if len(entries) < PAGE:
                return
            cursor = entries[-1].seq

    def _row(self, row: Row) -> dict[str, Any]:
        record: dict[str, Any] = {
            "is": "row",
            "log": row.log,
            "start": row.start,
            "p_start": row.p_start.hex(),
            "p_end": row.p_end.hex(),
            "kind": row.kind,
        }
        if row.kind == JSON:
            items = open_row(row, self._engine.codec).cut()
            record["items"] = [orjson.Fragment(item) for item in items]
        else:
            record["count"], record["payload"] = row.count, _text(row.payload)
        return record

    def _blob(self, blob: Blob, *, ours: bool) -> dict[str, Any]:
        data = self._engine.codec.open(blob.payload, blob.key_id, Where("blob"))
        content = {"data": orjson.Fragment(data)} if ours else {"payload": _text(data)}
        return {"is": "blob", "id": blob.id.hex(), **content}

    def _checkpoint(self, row: CheckpointRow) -> dict[str, Any]:
        data = self._engine.codec.open(row.payload, row.key_id, Where("head"))
        ours = data.startswith(b'{"s":')
        return {
            "is": "checkpoint",
            "version": row.version,
            "parent_version": row.parent_version,
            "base": row.base,
            "kind": row.kind,
            "ext_id": row.ext_id,
            "name": row.name,
            "run_id": row.run_id,
            "at": clock.from_us(row.created_at).isoformat(),
            "digest": row.digest.hex(),
            "bytes": row.bytes,
            "refs": [list(part) for part in row.refs],
            "blob_refs": [each.hex() for each in row.blob_refs],
            "head" if ours else "payload": orjson.Fragment(data) if ours else _text(data),
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        record: dict[str, Any] = {
            "is": "message",
            "kind": entry.kind,
            "id": entry.ext_id,
            "role": entry.role,
            "digest": entry.digest.hex(),
            "at": clock.from_us(entry.created_at).isoformat(),
        }
        data = self._engine.codec.open(entry.payload, entry.key_id, Where("entry"))
        ours = entry.kind == "message"
        record["data" if ours else "payload"] = orjson.Fragment(data) if ours else _text(data)
        if not ours:
            record["search"] = entry.search
        if entry.meta is not None:
            meta = self._engine.codec.open(entry.meta, entry.key_id, Where("meta"))
            record["meta"] = orjson.Fragment(meta)
        return record


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
