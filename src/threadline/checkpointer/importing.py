"""Reading threads back from the JSON Lines of `exporting`. The whole file is checked before anything is written; each
thread is verified after it was written, and taken away again when it is not what the file says.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import IO, Any

import orjson

from threadline import clock
from threadline.backend import (
    Blob,
    CheckpointRow,
    Commit,
    Entry,
    EntryPut,
    Expected,
    Range,
    Row,
    Slot,
    SlotPut,
    SlotQuery,
    ThreadPut,
)
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.exporting import FORMAT
from threadline.checkpointer.verify import Verifier
from threadline.codec.envelope import Where
from threadline.codec.facts import facts_of
from threadline.codec.records import decode_message
from threadline.codec.rows import JSON, items_of
from threadline.codec.searchtext import fold, words
from threadline.codec.terms import terms_of
from threadline.codec.values import MAX_BYTES, decode
from threadline.config import Address, canonical_user, namespace_key, read_config
from threadline.errors import CorruptionError, ThreadlineError

#: Marks a thread whose import has not ended; a later import of it begins anew.
PARTIAL = "import"
#: How many rows, blobs or messages one commit brings.
MANY = 200

Record = dict[str, Any]


class Importer:
    """Importing threads, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def load(self, file: IO[bytes]) -> dict[str, int]:
        """Import every thread of a file; returns counts. See `BaseCheckpointer.aimport`."""
        start = file.tell()
        threads = list(_checked(file))
        for record in threads:
            await self._free(_address(record))
        file.seek(start)
        counts = {"threads": 0, "checkpoints": 0, "messages": 0}
        for record, parts in _by_thread(file):
            address = _address(record)
            try:
                await self._thread(address, record, parts, counts)
                report = await Verifier(self._engine).verify(address)
                if not report.ok:
                    raise CorruptionError(
                        f"thread {address.thread_id!r} does not verify: {report.problems[0]}"
                    )
            except BaseException:
                await self._erase(address)
                raise
            counts["threads"] += 1
        return counts

    async def _free(self, address: Address) -> None:
        """Raise ValueError when the thread is there already; what an import left unfinished is taken away."""
        key = await self._engine.key(address)
        head = await self._engine.backend.read_head(key, address.ns_key, None, content=False)
        if head.thread is None:
            return
        for namespace in await self._engine.backend.read_namespaces(key, None):
            ns, query = namespace_key(namespace), SlotQuery(PARTIAL)
            if await self._engine.backend.read_slots(key, ns, None, query):
                await self._erase(address)
                return
        raise ValueError(
            f"thread {address.thread_id!r} is there already; nothing was imported. Delete it first, or import elsewhere"
        )

    async def _erase(self, address: Address) -> None:
        batch = await self._engine.batch(address, "import", erase=True)
        try:
            commit = await self._engine.commit(batch)
        except ThreadlineError:
            return
        await self._engine.copies.erase(batch.key, commit.incarnation)

    async def _thread(
        self, address: Address, record: Record, parts: Iterator[Record], counts: dict[str, int]
    ) -> None:
        said = ThreadPut(
            owner=canonical_user(record.get("user_id")),
            lineage=self._lineage(record),
            created_at=_moment(record["created_at"]),
        )
        if "info" in record:
            info = decode(orjson.dumps(record["info"]))
            sealed = self._engine.seal(info, Where("thread"))
            title = fold(info["name"]) if info.get("name") else None
            terms = terms_of(info.get("metadata") or {})
            said = dataclasses.replace(
                said, info=sealed.data, title=title, terms=terms, key_id=sealed.key_id
            )
        life, first = b"", address
        for namespace, content in _by_namespace(parts):
            here = read_config(
                {
                    "tenant": address.tenant or None,
                    "app": address.app or None,
                    "thread_id": address.thread_id,
                    "namespace": namespace["namespace"],
                }
            )
            if not life:
                life, first = await self._begin(here, said), here
            await self._namespace(here, namespace, content, life, counts)
        if not life:
            await self._begin(address, said)
        done = SlotPut(Slot(kind=PARTIAL, key="partial"), "delete")
        # Exports of the first release do not say when a thread was last active.
        active = ThreadPut(activity_at=_moment(record.get("activity_at") or record["created_at"]))
        await self._write(first, slots=(done,), thread=active)

    async def _begin(self, address: Address, said: ThreadPut) -> bytes:
        """Let the thread come into being, in its first namespace, marked as not finished; its incarnation."""
        partial = SlotPut(Slot(kind=PARTIAL, key="partial"))
        return (await self._write(address, create=True, thread=said, slots=(partial,))).incarnation

    async def _namespace(
        self,
        address: Address,
        record: Record,
        parts: Iterator[Record],
        life: bytes,
        counts: dict[str, int],
    ) -> None:
        head = await self._engine.backend.read_head(
            await self._engine.key(address), namespace_key(address.namespace), None, content=False
        )
        if head.last_version:
            raise ValueError(
                f"thread {address.thread_id!r} lived here before, up to version {head.last_version}; its versions "
                "cannot be given again: import elsewhere"
            )
        marks = orjson.dumps(record["marks"]) if record["marks"] else b""
        await self._write(address, marks=marks, expected=Expected(life, 0))
        waiting: dict[str, list[Any]] = {"rows": [], "blobs": [], "entries": [], "slots": []}
        expected, last = Expected(life, 0), 0
        for part in parts:
            if part["is"] == "checkpoint":
                await self._flush(address, waiting)
                row, metadata = self._checkpoint(part)
                await self._write(
                    address,
                    expected=expected,
                    last_version=last,
                    checkpoint=row,
                    checkpoint_terms=terms_of(metadata) if metadata else (),
                )
                expected, last = Expected(life, row.version), row.version
                counts["checkpoints"] += 1
                continue
            where, thing = self._part(part)
            waiting[where].append(thing)
            counts["messages"] += part["is"] == "message"
            if len(waiting[where]) >= MANY:
                await self._flush(address, waiting)
        await self._flush(address, waiting)

    async def _flush(self, address: Address, waiting: dict[str, list[Any]]) -> None:
        full = {name: tuple(things) for name, things in waiting.items() if things}
        if full:
            await self._write(address, **full)
        for things in waiting.values():
            things.clear()

    def _part(self, part: Record) -> tuple[str, Any]:
        match part["is"]:
            case "row":
                return "rows", self._row(part)
            case "blob":
                data = (
                    orjson.dumps(part["data"]) if "data" in part else _bytes(part["payload"]) or b""
                )
                sealed = self._engine.codec.seal(data, Where("blob"))
                return "blobs", Blob(bytes.fromhex(part["id"]), sealed.data, sealed.key_id)
            case "message":
                return "entries", self._entry(part)
            case "slot":
                payload = _bytes(part["payload"]) or b""
                slot = Slot(
                    kind=part["kind"],
                    key=part["key"],
                    payload=payload,
                    meta=_bytes(part["meta"]),
                    expires_at=part["expires_at"],
                )
                return "slots", SlotPut(slot)
        raise ValueError(f"a line is {part['is']!r}, which is not known")

    def _row(self, part: Record) -> Row:
        log, start, kind = part["log"], part["start"], part["kind"]
        if kind == JSON:
            items = items_of([orjson.dumps(item) for item in part["items"]])
            count = len(items.lengths)
            payload = self._engine.codec.seal(items.pack(), Where("row", log, start, count)).data
        else:
            count, payload = part["count"], _bytes(part["payload"]) or b""
        begin, end = bytes.fromhex(part["p_start"]), bytes.fromhex(part["p_end"])
        return Row(log, start, count, payload, begin, end, kind)

    def _checkpoint(self, part: Record) -> tuple[CheckpointRow, Record]:
        data = orjson.dumps(part["head"]) if "head" in part else _bytes(part["payload"]) or b""
        metadata = decode(orjson.dumps(part["head"].get("m", {}))) if "head" in part else {}
        sealed = self._engine.codec.seal(data, Where("head"))
        row = CheckpointRow(
            version=part["version"],
            parent_version=part["parent_version"],
            base=part["base"],
            kind=part["kind"],
            ext_id=part["ext_id"],
            name=part["name"],
            run_id=part["run_id"],
            created_at=_moment(part["at"]),
            digest=bytes.fromhex(part["digest"]),
            bytes=part["bytes"],
            refs=tuple(Range(*each) for each in part["refs"]),
            blob_refs=tuple(bytes.fromhex(each) for each in part["blob_refs"]),
            payload=sealed.data,
            key_id=sealed.key_id,
        )
        return row, metadata

    def _entry(self, part: Record) -> EntryPut:
        ours = "data" in part
        data = orjson.dumps(part["data"]) if ours else _bytes(part["payload"]) or b""
        sealed = self._engine.codec.seal(data, Where("entry"))
        message = decode_message(data) if ours else None
        search = (words(message.text()) or None) if message else part.get("search")
        meta: bytes | None = None
        terms: tuple[int, ...] = ()
        if "meta" in part:
            content = orjson.dumps(part["meta"])
            meta, terms = (
                self._engine.codec.seal(content, Where("meta")).data,
                terms_of(decode(content)),
            )
        entry = Entry(
            kind=part["kind"],
            ext_id=part["id"],
            role=part["role"],
            payload=sealed.data,
            key_id=sealed.key_id,
            digest=bytes.fromhex(part["digest"]),
            created_at=_moment(part["at"]),
            search=search,
            derived=ours,
            facts=facts_of(message) if message else None,
            meta=meta,
        )
        return EntryPut(entry, terms)

    def _lineage(self, record: Record) -> bytes | None:
        if "lineage" not in record:
            return None
        return self._engine.seal(decode(orjson.dumps(record["lineage"])), Where("lineage")).data

    async def _write(self, address: Address, **parts: Any) -> Commit:
        return await self._engine.commit(await self._engine.batch(address, "import", **parts))


def _checked(file: IO[bytes]) -> Iterator[Record]:
    """The thread records of a file that is whole and undamaged. Raises ValueError with the line's number."""
    digest, number, ended = hashlib.blake2b(digest_size=16), 0, False
    threads: list[Record] = []
    for number, line in enumerate(_lines(file), 1):
        if ended:
            raise ValueError(f"line {number}: something stands behind the end")
        record = _read(line, number)
        if number == 1:
            if record.get("is") != "threadline":
                raise ValueError("line 1: this is no export of Threadline")
            if record.get("format") != FORMAT:
                raise ValueError(
                    f"line 1: format {record.get('format')!r} is not known; upgrade first"
                )
        elif record.get("is") == "end":
            if record.get("lines") != number - 1 or record.get("digest") != digest.hexdigest():
                raise ValueError(f"line {number}: the file is damaged: its digest does not fit")
            ended = True
        elif record.get("is") == "thread":
            threads.append(record)
        digest.update(line)
    if not ended:
        raise ValueError(f"line {number + 1}: the file ends too early; nothing was imported")
    yield from threads


def _read(line: bytes, number: int) -> Record:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"line {number}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"line {number}: not an object")
    return record


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(2 * MAX_BYTES):
        yield line


def _by_thread(file: IO[bytes]) -> Iterator[tuple[Record, Iterator[Record]]]:
    yield from _grouped(_records(file), "thread")


def _by_namespace(parts: Iterator[Record]) -> Iterator[tuple[Record, Iterator[Record]]]:
    yield from _grouped(parts, "namespace")


def _records(file: IO[bytes]) -> Iterator[Record]:
    for line in _lines(file):
        record = orjson.loads(line)
        if record["is"] not in ("threadline", "end"):
            yield record


def _grouped(records: Iterator[Record], kind: str) -> Iterator[tuple[Record, Iterator[Record]]]:
    """Each record of a kind with those behind it, up to the next; what a consumer leaves is passed over."""
    ahead: list[Record] = [record] if (record := next(records, None)) else []

    def rest() -> Iterator[Record]:
        for each in records:
            if each["is"] == kind:
                ahead.append(each)
                return
            yield each

    while ahead:
        first = ahead.pop()
        parts = rest()
        yield first, parts
        for _ in parts:
            pass


def _address(record: Record) -> Address:
    parts: Sequence[str] = ("tenant", "app", "thread_id")
    return read_config({part: record.get(part) or None for part in parts})


def _moment(text: str) -> int:
    return clock.to_us(datetime.fromisoformat(text))


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
