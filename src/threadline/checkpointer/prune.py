"""Pruning: checkpoints that a policy does not keep, then the rows and blobs that nothing needs, in bounded commits.

A namespace is surveyed (its checkpoints' clear columns, where its rows lie), `history.retention` decides, and
`history.freeing` cuts what goes into commits. None of them expects a head, so that puts go on meanwhile: a put refers
to what the head referred to (which is kept) and to rows of its own (which lie behind the logs' ends as they were
read; a log's open row, which a put may be adding to, is left alone). Whatever else takes rows for granted (a rollback,
a fork, a redaction, another prune) moves the thread's `gc` counter or is bound to it: a commit that was computed before
is refused as STALE and computed again. Checkpoints go before, or with, the rows that only they need: after a crash at
any point every checkpoint can be read, and what is left over is found by the next prune.

Where a kept checkpoint loses its parent a slot (`verify.GAP`) holds the parent's digest, so that its own digest can
still be verified.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from threadline import clock
from threadline.backend import (
    Batch,
    CheckpointQuery,
    CheckpointRow,
    Head,
    Range,
    Reason,
    Refused,
    Slot,
    SlotPut,
    SlotQuery,
    ThreadRow,
)
from threadline.batch import Drop
from threadline.checkpointer.engine import ATTEMPTS, Engine, refuse
from threadline.checkpointer.verify import GAP, gap_key
from threadline.checkpointer.walk import addressed_threads
from threadline.config import Address
from threadline.errors import CorruptionError
from threadline.history.freeing import Span, Step, Stock, Version, steps
from threadline.history.logs import read_marks
from threadline.history.retention import Meta, RetentionPolicy, decide
from threadline.inline import is_inline

#: How many checkpoints (and slots), and positions of a log one read brings.
PAGE, POSITIONS = 1000, 1024


@runtime_checkable
class Stocked(Protocol):
    """An optional power of a backend: to say where rows lie and what they weigh without sending them. Without it
    they are read, a page at a time, and a blob that no checkpoint refers to is not found."""

    async def read_stock(self, key: bytes, ns: bytes, user: str | None) -> Stock:
        """Where the rows of a namespace lie, its blobs, and the bytes of each payload."""


# What is told -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ThreadPrune:
    """What a prune did to one thread, or (dry run) would do: see `PruneReport`."""

    thread_id: str
    checkpoints: int = 0
    kept: int = 0
    rows: int = 0
    blobs: int = 0
    bytes: int = 0
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What a prune took away, or with `dry_run` would take: checkpoints, log rows, blobs, and the `bytes` of their
    payloads; how many checkpoints were `kept`; how many idle threads were deleted (`bytes` then has their messages
    too, `blobs` not theirs). `threads`: the same of each thread that lost something."""

    dry_run: bool
    checkpoints: int = 0
    kept: int = 0
    rows: int = 0
    blobs: int = 0
    bytes: int = 0
    threads_deleted: int = 0
    threads: tuple[ThreadPrune, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        values = dataclasses.asdict(self)
        values["threads"] = list(values["threads"])
        return values


@dataclass(slots=True)
class _Tally:
    """The figures of one thread while they grow."""

    checkpoints: int = 0
    kept: int = 0
    rows: int = 0
    blobs: int = 0
    bytes: int = 0
    deleted: bool = False

    def add(self, step: Step) -> None:
        self.checkpoints += len(step.versions)
        self.rows += len(step.rows)
        self.blobs += len(step.blobs)
        self.bytes += step.size

    def told(self, thread_id: str) -> ThreadPrune:
        return ThreadPrune(thread_id, **dataclasses.asdict(self))


def _report(dry_run: bool, threads: Iterable[ThreadPrune]) -> PruneReport:
    told: list[ThreadPrune] = []
    totals = dict.fromkeys(("checkpoints", "kept", "rows", "blobs", "bytes"), 0)
    for each in threads:
        for name in totals:
            totals[name] += getattr(each, name)
        if each.deleted or each.checkpoints or each.rows or each.blobs:
            told.append(each)
    deleted = sum(each.deleted for each in told)
    return PruneReport(dry_run=dry_run, threads_deleted=deleted, threads=tuple(told), **totals)


# The pipeline -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Survey:
    """A namespace as it was found. `ends`: of each log; `gaps`: the versions that have a gap slot; `foreign`: whether
    there are checkpoints with ids of their own, a framework's: only its adapter knows which of them need others."""

    head: Head
    ends: tuple[int, ...]
    versions: dict[int, Version]
    stock: Stock
    gaps: set[int]
    foreign: bool


def _version(row: CheckpointRow, spans: dict[Range, Range]) -> Version:
    # Neighbouring checkpoints share most of their ranges: each is kept once.
    refs = tuple(spans.setdefault(each, each) for each in row.refs)
    source = row.base if row.kind == "rollback" and row.base != row.parent_version else None
    meta = Meta(row.version, row.created_at, row.parent_version, row.name, source)
    return Version(meta, row.digest, refs, row.blob_refs, len(row.payload))


def _slots(step: Step) -> tuple[SlotPut, ...]:
    puts = [
        SlotPut(Slot(kind=GAP, key=gap_key(child), payload=digest))
        for child, digest in step.gaps.items()
    ]
    puts += [SlotPut(Slot(kind=GAP, key=gap_key(version)), "delete") for version in step.filled]
    return tuple(puts)


class Prunes:
    """Pruning threads, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def prune(
        self,
        address: Address,
        policy: RetentionPolicy,
        *,
        namespace: str | None = None,
        dry_run: bool = False,
        batch_size: int = 500,
        stop: Callable[[], bool] = lambda: False,
    ) -> PruneReport:
        """Prune one thread, or (an address without thread) all of its tenant, app and user; see
        `BaseCheckpointer.aprune`. namespace: only this one. stop: asked between commits whether to end early."""
        now, asked = clock.now_us(), bool(address.thread_id)
        run = _Run(self._engine, policy, namespace, dry_run, batch_size, stop, now, asked)
        self._engine.check_user(address)
        await self._engine.ready()
        if address.thread_id:
            return _report(dry_run, [(await run.thread(address)).told(address.thread_id)])
        told = []
        async for row in addressed_threads(self._engine, address):
            here = dataclasses.replace(address, thread_id=row.thread_id)
            tally = await run.idle(here, row) or await run.thread(here)
            told.append(tally.told(row.thread_id))
            if stop():
                break
        if any(each.deleted for each in told) and not dry_run:
            await self._engine.scrub()
        return _report(dry_run, told)


@dataclass(frozen=True, slots=True)
class _Run:
    """One call of `prune`: its arguments, and `now` (microseconds), which is one moment for all of it. `asked`:
    whether one thread was named."""

    engine: Engine
    policy: RetentionPolicy
    namespace: str | None
    dry_run: bool
    batch_size: int
    stop: Callable[[], bool]
    now: int
    asked: bool

    async def thread(self, address: Address) -> _Tally:
        """Prune every namespace of a thread (or the one that was asked for)."""
        tally, key = _Tally(), await self.engine.key(address)
        names = await self.engine.backend.read_namespaces(key, address.user)
        for name in names:
            if self.namespace in (None, name) and not self.stop():
                here = dataclasses.replace(address, namespace=name)
                tally.kept += await self._namespace(here, key, tally)
        return tally

    async def idle(self, address: Address, row: ThreadRow) -> _Tally | None:
        """Delete a thread that has been idle for too long; None: it has not."""
        edge = None if self.policy.idle_us is None else self.now - self.policy.idle_us
        if edge is None or row.activity_at >= edge or self.namespace is not None:
            return None
        backend, user = self.engine.backend, address.user
        head = await backend.read_head(row.key, address.ns_key, user, content=False)
        if head.thread is None or head.thread.activity_at >= edge:
            return None
        (size,) = await backend.measure([row.key])
        if not self.dry_run:
            batch = Batch(
                key=row.key,
                names=(address.tenant, address.app, address.thread_id),
                user=user,
                ns=address.ns_key,
                op_id=clock.new_id_bytes(),
                kind="erase",
                requires=head.thread.incarnation,
                assumes_rev=head.thread.rev,  # Whatever was put meanwhile, a message too, is activity.
                erase=True,
            )
            try:
                await self.engine.commit(batch)
            except Refused:
                return None  # Active or deleted meanwhile.
            await self.engine.copies.erase(row.key, head.thread.incarnation)
        return _Tally(size["checkpoints"], 0, size["rows"], 0, size["store_bytes"], deleted=True)

    async def _namespace(self, address: Address, key: bytes, tally: _Tally) -> int:
        """Prune one namespace; how many checkpoints it keeps."""
        for _ in range(ATTEMPTS):
            survey = await self._survey(address, key)
            if survey is None:
                return 0
            if survey.foreign and self.asked and self.policy.bounded:
                raise ValueError(
                    f"thread {address.thread_id!r} holds checkpoints of a framework, which may need one another; "
                    "nothing was dropped. Prune it with the adapter that wrote them (LangGraph: "
                    "ThreadlineSaver.retain)"
                )
            kept, going = await self._judged(survey)
            try:
                await self._take(address, key, survey.head, going, tally)
                return kept
            except Refused as refused:
                if refused.reason is Reason.MISSING:
                    return 0  # Deleted meanwhile.
                if refused.reason is not Reason.STALE:
                    refuse(address, refused)
        refuse(address, Refused(Reason.STALE))

    async def _judged(self, survey: _Survey) -> tuple[int, list[Step]]:
        """How many checkpoints stay, and the commits that take the others away."""

        def judge() -> tuple[int, list[Step]]:
            found = survey.versions
            metas = [each.meta for each in found.values()]
            policy = RetentionPolicy() if survey.foreign else self.policy
            decision = decide(policy, metas, survey.head.head_version, self.now)
            going = steps(
                found, decision.dropped, survey.stock, survey.ends, survey.gaps, self.batch_size
            )
            return len(decision.kept), going

        # With very many checkpoints this takes a second, in which an event loop has other things to do.
        return judge() if is_inline() else await asyncio.to_thread(judge)

    async def _take(
        self, address: Address, key: bytes, head: Head, going: Iterable[Step], tally: _Tally
    ) -> None:
        """Commit the steps one by one. Raises Refused."""
        if head.thread is None:
            return
        gc = head.thread.gc
        for step in going:
            if self.stop():
                return
            if not self.dry_run:
                drop = Drop(
                    tuple(step.versions),
                    tuple((span.log, span.start) for span in step.rows),
                    tuple(step.blobs),
                    head.last_version,
                )
                await self.engine.commit(
                    Batch(
                        key=key,
                        names=(address.tenant, address.app, address.thread_id),
                        user=address.user,
                        ns=address.ns_key,
                        namespace=address.namespace,
                        op_id=clock.new_id_bytes(),
                        kind="prune",
                        requires=head.thread.incarnation,
                        assumes_gc=gc,
                        frees=True,
                        slots=_slots(step),
                        drop=drop,
                    )
                )
                gc += 1
                if not is_inline():
                    await asyncio.sleep(0)  # A store in memory never waits; others want their turn.
            tally.add(step)

    # Reading, in this order: what comes into being later is not judged.

    async def _survey(self, address: Address, key: bytes) -> _Survey | None:
        backend, ns, user = self.engine.backend, address.ns_key, address.user
        head = await backend.read_head(key, ns, user, content=False)
        if head.thread is None:
            return None
        try:
            ends = tuple(mark.end for mark in read_marks(head.marks))
        except CorruptionError:
            ends = ()  # An adapter's own: which of its rows are open is not known, so all stay.
        versions: dict[int, Version] = {}
        spans: dict[Range, Range] = {}
        foreign = False
        before = head.last_version + 1
        while True:
            query = CheckpointQuery(before=before, limit=PAGE)
            rows = await backend.read_checkpoints(key, ns, user, query)
            versions.update((row.version, _version(row, spans)) for row in rows)
            foreign = foreign or any(row.ext_id is not None for row in rows)
            if len(rows) < PAGE:
                break
            before = rows[-1].version
        if isinstance(backend, Stocked):
            stock = await backend.read_stock(key, ns, user)
        else:
            stock = await self._stock(address, key, ends, versions)
        gaps = await self._gap_slots(address, key)
        return _Survey(head, ends, versions, stock, gaps, foreign)

    async def _stock(
        self, address: Address, key: bytes, ends: Iterable[int], versions: dict[int, Version]
    ) -> Stock:
        """The stock of a backend that cannot tell it: every row is read, and every blob that a version refers to."""
        backend, ns, user = self.engine.backend, address.ns_key, address.user
        spans: set[Span] = set()
        for log, end in enumerate(ends):
            for start in range(0, end, POSITIONS):
                wanted = [Range(log, start, min(start + POSITIONS, end))]
                for row in await backend.read_rows(key, ns, user, wanted):
                    spans.add(Span(row.log, row.start, row.end, len(row.payload)))
        blobs: dict[bytes, int] = {}
        for each in versions.values():
            if missing := [id for id in each.blobs if id not in blobs]:
                found = await backend.read_blobs(key, ns, user, missing)
                blobs |= {blob.id: len(blob.payload) for blob in found}
        return Stock(sorted(spans), blobs)

    async def _gap_slots(self, address: Address, key: bytes) -> set[int]:
        found: set[int] = set()
        after: str | None = None
        while True:
            query = SlotQuery(GAP, after=after, limit=PAGE)
            slots = await self.engine.backend.read_slots(key, address.ns_key, address.user, query)
            found.update(int(slot.key) for slot in slots)
            if len(slots) < PAGE:
                return found
            after = slots[-1].key
