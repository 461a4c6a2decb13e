"""Reading a thread again, all of it, and saying what does not fit: rows, ranges, digests, messages, counts.

Digests are computed anew from content: of each item, of each log up to where a checkpoint ends it, of each checkpoint
with its parent's in it. What a redaction or a prune took away is not a fault: a tombstone carries the digest of what
stood there, and a gap record the digest of a parent that is gone.

A thread is read in several steps, each a snapshot of its own. Where something does not fit and the thread's `rev` moved
meanwhile, all of it is read again; where that does not end, only what was found every time is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from threadline.backend import (
    CheckpointQuery,
    CheckpointRow,
    EntryQuery,
    Head,
    Range,
    Row,
    SlotQuery,
)
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.snapshot import open_doc
from threadline.codec.digest import checkpoint_digest, extend, item_digest
from threadline.codec.envelope import Where
from threadline.codec.rows import JSON
from threadline.codec.tombstones import stood_there
from threadline.config import Address
from threadline.errors import CorruptionError
from threadline.history.logs import open_row, read_marks
from threadline.model.verification import Verification

PAGE = 500
#: How often a thread that is written to is read, until what is found can be told from what moved.
READS = 5
#: The kind of the slot that keeps a dropped parent's digest, and how its key names the child.
GAP = "gap"


def gap_key(version: int) -> str:
    """The key of the gap record of a checkpoint whose parent is gone."""
    return f"{version:020d}"


@dataclass(slots=True)
class _Logs:
    """The logs of a namespace: which positions are there, and the prefix digest at each place that is asked for."""

    covered: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    prefixes: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def holds(self, log: int, start: int, end: int) -> bool:
        spans = self.covered.get(log, [])
        return any(first <= start and end <= last for first, last in spans)

    def add(self, log: int, start: int, end: int) -> None:
        spans = self.covered.setdefault(log, [])
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))


class Verifier:
    """Verifying threads, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def verify(self, address: Address) -> Verification:
        """Re-read the thread of an address; see `BaseCheckpointer.averify`."""
        key = await self._engine.key(address)
        rev = await self._rev(address, key)
        found: list[list[str]] = []
        for _ in range(READS):
            report = await self._read(address, key)
            before, rev = rev, await self._rev(address, key)
            if report.ok or rev == before:
                return report
            found.append(report.problems)
        report.problems = [each for each in report.problems if all(each in one for one in found)]
        return report

    async def _rev(self, address: Address, key: bytes) -> tuple[bytes, int] | None:
        """The life and the last commit of the thread; None when there is none."""
        head = await self._engine.backend.read_head(
            key, address.ns_key, address.user, content=False
        )
        return (head.thread.incarnation, head.thread.rev) if head.thread else None

    async def _read(self, address: Address, key: bytes) -> Verification:
        report = Verification(thread_id=address.thread_id)
        checkpoints = messages = 0
        thread = None
        for namespace in await self._engine.backend.read_namespaces(key, address.user):
            here = dataclasses.replace(address, namespace=namespace)
            head = await self._engine.backend.read_head(key, here.ns_key, here.user, content=False)
            thread = head.thread
            logs = await self._rows(here, key, head, report)
            checkpoints += await self._checkpoints(here, key, head, logs, report)
            messages += await self._entries(here, key, report)
        report.checkpoints, report.messages = checkpoints, messages
        if thread is not None and thread.checkpoint_count != checkpoints:
            report.say(
                f"the thread counts {thread.checkpoint_count} checkpoints and has {checkpoints}"
            )
        if thread is not None and thread.message_count != messages:
            report.say(f"the thread counts {thread.message_count} messages and has {messages}")
        return report

    async def _rows(self, address: Address, key: bytes, head: Head, report: Verification) -> _Logs:
        logs = _Logs()
        for log, mark in enumerate(read_marks(head.marks)):
            if mark.end == 0:
                continue
            rows = await self._engine.backend.read_rows(
                key, address.ns_key, address.user, [Range(log, 0, mark.end)]
            )
            before: Row | None = None
            for row in rows:
                report.rows += 1
                if before is not None and before.end > row.start:
                    report.say(f"{_of(address)}: rows of log {log} overlap at {row.start}")
                if before is not None and before.end == row.start and before.p_end != row.p_start:
                    report.say(f"{_of(address)}: the digests of log {log} break at {row.start}")
                self._row(address, row, logs, report)
                before = row
            if rows and rows[-1].end == mark.end and rows[-1].p_end != mark.prefix:
                report.say(f"{_of(address)}: log {log} does not end as its head says")
        return logs

    def _row(self, address: Address, row: Row, logs: _Logs, report: Verification) -> None:
        if row.kind != JSON:  # An adapter's own bytes: what is in them is its own affair.
            logs.add(row.log, row.start, row.end)
            return
        try:
            items = open_row(row, self._engine.codec).cut()
        except CorruptionError as error:
            report.say(f"{_of(address)}: items {row.start} to {row.end} of log {row.log}: {error}")
            return
        logs.add(row.log, row.start, row.end)
        prefix = row.p_start
        logs.prefixes[row.log, row.start] = prefix
        for position, data in enumerate(items, row.start + 1):
            prefix = extend(prefix, [stood_there(data)])
            logs.prefixes[row.log, position] = prefix
        if prefix != row.p_end:
            report.say(
                f"{_of(address)}: items {row.start} to {row.end} of log {row.log} are not what was committed"
            )

    async def _checkpoints(
        self, address: Address, key: bytes, head: Head, logs: _Logs, report: Verification
    ) -> int:
        backend, ns, user = self._engine.backend, address.ns_key, address.user
        gaps = {
            slot.key: slot.payload
            for slot in await backend.read_slots(key, ns, user, SlotQuery(GAP))
        }
        rows: list[CheckpointRow] = []
        before: int | None = None
        while True:
            page = await backend.read_checkpoints(
                key, ns, user, CheckpointQuery(before=before, limit=PAGE)
            )
            rows += page
            if len(page) < PAGE:
                break
            before = page[-1].version
        digests = {row.version: row.digest for row in rows}
        if head.head_version and head.head_version not in digests:
            report.say(
                f"{_of(address)}: the head is version {head.head_version}, which is not there"
            )
        for row in rows:
            where = f"{_of(address)}, version {row.version}"
            for fault in self._checkpoint(row, digests, gaps, logs):
                report.say(f"{where}: {fault}")
            await self._blobs(address, key, row, report)
        return len(rows)

    def _checkpoint(
        self,
        row: CheckpointRow,
        digests: dict[int, bytes],
        gaps: dict[str, bytes],
        logs: _Logs,
    ) -> Iterable[str]:
        for log, start, end in row.refs:
            if not logs.holds(log, start, end):
                yield f"items {start} to {end} of log {log} are missing"
        try:
            data = self._engine.codec.open(row.payload, row.key_id, Where("head"))
            if not data.startswith(b'{"s":'):
                return  # An adapter's checkpoint.
            doc = open_doc(row, self._engine.codec)
        except CorruptionError as error:
            yield str(error)
            return
        if tuple(doc.ranges) != tuple(tuple(part) for part in row.refs):
            yield "its ranges are not those of its content"
        parent: bytes | None = b""
        if row.parent_version is not None:
            parent = digests.get(row.parent_version) or gaps.get(gap_key(row.version))
        prefixes = [(log, end, logs.prefixes.get((log, end))) for log, end in doc.ends]
        if parent is None or any(prefix is None for _, _, prefix in prefixes):
            return  # What the digest covers was pruned.
        known = [(log, end, prefix or b"") for log, end, prefix in prefixes]
        if checkpoint_digest(row.version, parent, data, known) != row.digest:
            yield "its content is not what was committed (digest)"

    async def _blobs(
        self, address: Address, key: bytes, row: CheckpointRow, report: Verification
    ) -> None:
        if not row.blob_refs:
            return
        blobs = await self._engine.backend.read_blobs(
            key, address.ns_key, address.user, row.blob_refs
        )
        there = {blob.id for blob in blobs}
        for address_ in row.blob_refs:
            if address_ not in there:
                report.say(f"{_of(address)}, version {row.version}: a large field is missing")

    async def _entries(self, address: Address, key: bytes, report: Verification) -> int:
        cursor = count = 0
        while True:
            query = EntryQuery(after=cursor, limit=PAGE)
            entries = await self._engine.backend.read_entries(
                key, address.ns_key, address.user, query
            )
            for entry in entries:
                count += 1
                try:
                    data = self._engine.codec.open(entry.payload, entry.key_id, Where("entry"))
                except CorruptionError as error:
                    report.say(f"{_of(address)}, message {entry.ext_id or entry.seq}: {error}")
                    continue
                if entry.kind == "message" and entry.digest not in (
                    item_digest(JSON, data),
                    stood_there(data),
                ):
                    report.say(
                        f"{_of(address)}, message {entry.ext_id}: its content is not what was committed"
                    )
            if len(entries) < PAGE:
                return count
            cursor = entries[-1].seq


def _of(address: Address) -> str:
    inside = f", namespace {address.namespace!r}" if address.namespace else ""
    return f"thread {address.thread_id!r}{inside}"
