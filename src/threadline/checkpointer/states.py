"""Putting a state: encode, delta, commit, publish. One way through, for every kind of put."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from threadline import clock, telemetry
from threadline.backend import (
    Batch,
    CheckpointRow,
    Commit,
    EntryPut,
    Expected,
    Reason,
    Refused,
    ThreadPut,
)
from threadline.checkpointer.copies import Place
from threadline.checkpointer.draft import Plan, grown, plan, plan_append
from threadline.checkpointer.engine import ATTEMPTS, Engine, fence, kinds, read_op_id, refuse
from threadline.checkpointer.messages import encode_entries
from threadline.checkpointer.reads import Reads, as_checkpoint
from threadline.checkpointer.seal import Sealed, seal_plan
from threadline.checkpointer.snapshot import WHOLE, Ground, Snapshot
from threadline.codec.envelope import Where
from threadline.codec.records import AGENT, DICT, NONE, VALUE, shape_of
from threadline.codec.values import encode
from threadline.config import Address, namespace_key
from threadline.history.logs import write_marks
from threadline.model import AgentState, Checkpoint, Message, base_of, carry
from threadline.model.carry import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOptions:
    """What a caller may say of a put."""

    kind: str = "put"
    name: str | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    messages: Sequence[Message] = ()
    expected: int | Checkpoint | None = None
    op_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Put:
    """One logical put, however often it is computed. `expected`: None puts on top of whatever is there."""

    address: Address
    key: bytes
    options: PutOptions
    expected: Expected | None
    entries: tuple[EntryPut, ...]
    lineage: ThreadPut | None
    draft: Callable[[Ground], Plan]
    drafted: list[Plan] = dataclasses.field(default_factory=list)


class States:
    """Putting states, for any backend."""

    def __init__(self, engine: Engine, reads: Reads) -> None:
        self._engine, self._reads = engine, reads

    async def put(self, address: Address, state: Any, options: PutOptions) -> Checkpoint:
        """Put a whole state; see `BaseCheckpointer.aput_state`."""
        shape, metadata = shape_of(type(state)), encode(options.metadata)
        engine, key = self._engine, await self._engine.key(address)
        at, base = key + address.ns_key, base_of(state)
        drafted: list[Plan] = []

        def draft(ground: Ground) -> Plan:
            known = ground.snapshot
            watches = (
                engine.watches.of(state, at, known.incarnation, known.version) if known else None
            )
            drafted[:] = [plan(shape, state, metadata, known, ground.marks, watches)]
            return drafted[0]

        expected = _expected(options.expected, base.at(at))
        if expected is None and engine.require_base:
            raise ValueError(
                f"the state put to thread {address.thread_id!r} was not loaded from it, and this checkpointer "
                "requires that: load it first, or say expected_version="
            )
        lineage = await self._lineage(address, base.latest()) if base.at(at) is None else None
        checkpoint = await self._write(
            _Put(
                address,
                key,
                options,
                expected,
                encode_entries(engine, options.messages, None, "replace"),
                lineage,
                draft,
                drafted,
            )
        )
        incarnation = bytes.fromhex(checkpoint.incarnation)
        carry(state, base_of(state).moved(at, incarnation, checkpoint.version))
        kinds.put(at, shape.name, type(state))
        if drafted:
            watches = drafted[0].watches
            engine.watches.keep(state, at, incarnation, checkpoint.version, watches)
        return checkpoint

    async def append(
        self, address: Address, items: list[Any], field: str, options: PutOptions
    ) -> Checkpoint:
        """Append to a list of the head's state, O(new); see `BaseCheckpointer.aappend`."""
        metadata, key = encode(options.metadata), await self._engine.key(address)

        def draft(ground: Ground) -> Plan:
            known = ground.snapshot
            shape_name = AGENT if known is None or known.cleared else known.doc.shape
            kind = self._reads.kind(address, key, shape_name)
            if known is None or known.cleared:
                fresh = shape_of(kind or AgentState)
                if fresh.name == DICT:
                    return plan(fresh, {field: items}, metadata, None, ground.marks)
                if not fresh.has(field):
                    raise ValueError(f"a {fresh.kind.__name__} has no field {field!r} to append to")
                state = fresh.build({})
                setattr(state, field, items)
                return plan(fresh, state, metadata, None, ground.marks)
            if known.doc.shape == VALUE:
                whole = known.value(WHOLE)
                whole[field] = grown(field, whole.get(field, []), items)
                return plan(shape_of(dict), whole, metadata, known, ground.marks)
            shape = shape_of(kind or (AgentState if known.doc.shape == AGENT else dict))
            return plan_append(known, shape, field, items, metadata)

        return await self._write(
            _Put(
                address,
                key,
                dataclasses.replace(options, kind="append"),
                _expected(options.expected, None),
                encode_entries(self._engine, options.messages, None, "replace"),
                None,
                draft,
            )
        )

    async def clear(self, address: Address, options: PutOptions) -> Checkpoint | None:
        """Let the head say that there is no state; None when there was none."""
        key = await self._engine.key(address)
        ground = await self._reads.ground(address, key, fresh=True)

        def draft(ground: Ground) -> Plan:
            return Plan(NONE, b"{}", list(ground.marks))

        expected = _expected(options.expected, None)
        options = dataclasses.replace(options, kind="clear")
        put = _Put(address, key, options, expected, (), None, draft)
        there = ground.snapshot is not None and not ground.snapshot.cleared
        return await (self._write(put) if there else self._made_before(put))

    async def _write(self, put: _Put) -> Checkpoint:
        address, expected = put.address, put.expected
        fresh = False
        for _ in range(ATTEMPTS):
            ground = await self._reads.ground(address, put.key, fresh=fresh)
            if expected is not None and not _meets(expected, ground):
                if not ground.fresh:
                    fresh = True
                    continue
                return await self._moved(put, ground)
            try:
                drafted = put.draft(ground)
            except (TypeError, ValueError):
                if ground.fresh:
                    if (made := await self._made_before(put)) is not None:
                        return made
                    raise
                fresh = True  # What this process knew may be another user's, and must not show in an error.
                continue
            sealed = await seal_plan(self._engine, address, put.key, drafted, ground)
            batch = self._batch(put, ground, sealed)
            begun = clock.monotonic()
            try:
                commit = await self._engine.commit(batch)
            except Refused as refused:
                if not _again(refused, put, ground):
                    refuse(address, refused, expected.version if expected else None)
                fresh = True
                telemetry.retried()
                continue
            telemetry.note("bytes", sealed.size)
            if commit.duplicate:
                return await self._replayed(put, commit)
            return await self._publish(put, ground, drafted, sealed, batch, commit, begun)
        refuse(address, Refused(Reason.STALE), expected.version if expected else None)

    def _batch(self, put: _Put, ground: Ground, sealed: Sealed) -> Batch:
        address, options, parent = put.address, put.options, ground.snapshot
        computed_from = ground.version if put.expected or options.kind != "put" else 0
        checkpoint = CheckpointRow(
            version=ground.last_version + 1,
            parent_version=parent.version if parent else None,
            base=computed_from or None,
            kind=options.kind,
            name=options.name,
            run_id=address.run_id,
            payload=sealed.head.data,
            key_id=sealed.head.key_id,
            digest=sealed.digest,
            refs=sealed.refs,
            blob_refs=sealed.blob_refs,
            bytes=sealed.size,
        )
        return Batch(
            key=put.key,
            names=(address.tenant, address.app, address.thread_id),
            user=address.user,
            # A refused one was not made: the next is another operation, unless the caller says which it is.
            op_id=read_op_id(options.op_id, checkpoint.version),
            kind=options.kind,
            fresh=options.op_id is None,
            ns=address.ns_key,
            namespace=address.namespace,
            create=ground.version == 0,
            incarnation=clock.random_bytes(16) if ground.version == 0 else b"",
            expected=Expected(ground.incarnation, ground.version),
            last_version=ground.last_version,
            marks=write_marks(sealed.logs),
            assumes_gc=ground.gc,
            checkpoint=checkpoint,
            checkpoint_terms=sealed.terms,
            rows=sealed.rows,
            blobs=sealed.blobs,
            entries=put.entries,
            requires_slots=fence(address),
            thread=_described(put, ground),
        )

    async def _publish(
        self,
        put: _Put,
        ground: Ground,
        drafted: Plan,
        sealed: Sealed,
        batch: Batch,
        commit: Commit,
        begun: float,
    ) -> Checkpoint:
        row = dataclasses.replace(_row(batch), created_at=commit.at, payload=b"")
        said = batch.thread.owner if batch.thread else None
        snapshot = Snapshot(
            commit.incarnation,
            row,
            sealed.doc,
            sealed.logs,
            row.version,
            drafted.fields,
            drafted.lists,
            sealed.tails,
            batch.assumes_gc or 0,
            (batch.user or said) if ground.incarnation is None else ground.owner,
        )
        await self._engine.copies.committed(
            Place(put.key, batch.ns, put.address.thread_id),
            snapshot,
            batch=batch,
            parent=ground.snapshot.row if ground.snapshot else None,
            begun=begun,
        )
        return as_checkpoint(put.address, row, commit.incarnation, put.options.metadata)

    async def _moved(self, put: _Put, ground: Ground) -> Checkpoint:
        """The head is not what this put expects: it was made before (then its result), or it is refused."""
        if (made := await self._made_before(put)) is not None:
            return made
        expected = put.expected or Expected(None, 0)
        gone = ground.incarnation is None or expected.incarnation not in (None, ground.incarnation)
        reason = Reason.MISSING if gone and expected.version > 0 else Reason.CONFLICT
        refuse(put.address, Refused(reason, ground.version), expected.version)

    async def _made_before(self, put: _Put) -> Checkpoint | None:
        """The result of this put if its `op_id` was committed before; nothing is written."""
        commit = await self._engine.made_before(
            put.address, put.options.kind, put.options.op_id, put.expected
        )
        return await self._replayed(put, commit) if commit else None

    async def _replayed(self, put: _Put, commit: Commit) -> Checkpoint:
        put.drafted.clear()  # What the state holds now need not be what was put then: it must not be watched.
        address, options = put.address, put.options
        onto = (put.expected.version or None) if put.expected else None
        said = {"name": options.name, "run_id": address.run_id, "parent_version": onto}
        row = await self._reads.written(address, put.key, commit, base=onto, **said)
        return as_checkpoint(address, row, commit.incarnation, options.metadata)

    async def _lineage(
        self, address: Address, latest: tuple[bytes, Loaded] | None
    ) -> ThreadPut | None:
        if latest is None:
            return None
        at, loaded = latest
        key, ns = at[:16], at[16:]
        backend = self._engine.backend
        source = await backend.read_head(key, ns, None, content=False)
        if source.thread is None or source.thread.incarnation != loaded.incarnation:
            return None
        names = source.thread.tenant, source.thread.app, source.thread.thread_id
        if names == (address.tenant, address.app, address.thread_id):
            return None  # Into another namespace of the same thread: no fork.
        named = await backend.read_namespaces(key, None) if any(ns) else [""]
        namespace = next((name for name in named if namespace_key(name) == ns), "")
        record = {
            "thread_id": source.thread.thread_id,
            "namespace": namespace,
            "version": loaded.version,
        }
        sealed = self._engine.seal(record, Where("lineage"))
        owner = source.thread.user if address.user is None else None
        return ThreadPut(lineage=sealed.data, owner=owner)


def _expected(said: int | Checkpoint | None, loaded: Loaded | None) -> Expected | None:
    if said is None:
        return Expected(loaded.incarnation, loaded.version) if loaded else None
    if isinstance(said, Checkpoint):
        return Expected(bytes.fromhex(said.incarnation) or None, said.version)
    if isinstance(said, bool) or not isinstance(said, int):
        raise TypeError(
            f"expected_version must be an int or a Checkpoint, not {type(said).__name__}"
        )
    if said < 0:
        raise ValueError(f"expected_version must be 0 or more, not {said}")
    return Expected(None, said)


def _meets(expected: Expected, ground: Ground) -> bool:
    if expected.version == 0:
        return ground.version == 0 or (ground.snapshot is not None and ground.snapshot.cleared)
    known = expected.incarnation
    return expected.version == ground.version and known in (None, ground.incarnation)


def _again(refused: Refused, put: _Put, ground: Ground) -> bool:
    if refused.reason in (Reason.NAMES, Reason.FENCED):
        return False
    if refused.reason is Reason.STALE or not ground.fresh:
        return True
    if put.expected is not None:
        return False
    # On top of whatever is there: compute again, unless the thread looks missing and yet refuses, which is
    # how another user's thread looks.
    return refused.reason is Reason.CONFLICT or ground.incarnation is not None


def _row(batch: Batch) -> CheckpointRow:
    if batch.checkpoint is None:
        raise ValueError("a put's batch has a checkpoint")
    return batch.checkpoint


def _described(put: _Put, ground: Ground) -> ThreadPut | None:
    """Where a fork comes from: said of a thread that begins with it; one that was there keeps its owner."""
    if put.lineage is None or ground.version != 0:
        return None
    return (
        put.lineage if ground.incarnation is None else dataclasses.replace(put.lineage, owner=None)
    )
