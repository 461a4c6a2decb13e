"""The pipelines of states. A put is: encode, delta, commit, publish. A read is its mirror: candidate, validate,
open, decode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from threadline import clock
from threadline.backend import (
    At,
    Batch,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Commit,
    Expected,
    Head,
    Range,
    Reason,
    Refused,
    ThreadPut,
)
from threadline.cache import Cached
from threadline.checkpointer.draft import Plan, plan, plan_append
from threadline.checkpointer.engine import ATTEMPTS, Engine, kinds, read_op_id, refuse
from threadline.checkpointer.messages import encode_entries
from threadline.checkpointer.snapshot import Snapshot, open_doc, open_head
from threadline.codec.digest import checkpoint_digest
from threadline.codec.envelope import Where
from threadline.codec.records import NONE, shape_of
from threadline.codec.terms import matches, terms_of
from threadline.codec.values import encode
from threadline.config import Address
from threadline.history.head import Pieces
from threadline.history.logs import Mark, grow, merge_is_due, read_marks, write_marks
from threadline.model import AgentState, Checkpoint, Message, base_of, carry
from threadline.model.carry import StateDict


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
class _Ground:
    """What a put is computed against: the head as this process knows it. `fresh`: just read from the store."""

    snapshot: Snapshot | None
    marks: tuple[Mark, ...]
    version: int
    last_version: int
    incarnation: bytes | None
    fresh: bool


class States:
    """Putting, reading and listing states, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Writing ------------------------------------------------------------------------------------------

    async def put(self, address: Address, state: Any, options: PutOptions) -> Checkpoint:
        """Put a whole state; see `BaseCheckpointer.aput_state`."""
        shape = shape_of(type(state))
        metadata = encode(options.metadata)
        engine, key = self._engine, await self._engine.key(address)
        at = key + address.ns_key

        def draft(ground: _Ground) -> Plan:
            known, watches = ground.snapshot, {}
            if known is not None:
                watches = dict(engine.watches.of(state, at, known.incarnation, known.version))
            return plan(shape, state, metadata, known, ground.marks, watches)

        loaded = base_of(state).at(at)
        checkpoint, drafted = await self._write(address, key, draft, options, loaded, source=state)
        if drafted is not None:
            incarnation, version = bytes.fromhex(checkpoint.incarnation), checkpoint.version
            carry(state, base_of(state).moved(at, incarnation, version))
            engine.watches.keep(state, at, incarnation, version, drafted.watches)
            kinds.put(at, type(state))
        return checkpoint

    async def append(
        self, address: Address, items: list[Any], name: str, options: PutOptions
    ) -> Checkpoint:
        """Append to a list of the head's state, O(new); see `BaseCheckpointer.aappend`."""
        metadata = encode(options.metadata)
        key = await self._engine.key(address)
        kind = self._kind(address, key)

        def draft(ground: _Ground) -> Plan:
            known = ground.snapshot
            if known is None or known.cleared:
                fresh = shape_of(kind or AgentState)
                state = fresh.build({name: []})
                fields = fresh.take(state) | {name: items}
                return plan(shape_of(dict), StateDict(fields), metadata, None, ground.marks, {}) if (
                    fresh.name == "dict"
                ) else plan(fresh, fresh.build(fields), metadata, None, ground.marks, {})
            return plan_append(known, known.shape(kind), name, items, metadata)

        checkpoint, _ = await self._write(address, key, draft, options, None)
        return checkpoint

    async def clear(self, address: Address, options: PutOptions) -> Checkpoint | None:
        """Make the head say that there is no state; None when there was none."""
        key = await self._engine.key(address)
        ground = await self._ground(address, key, fresh=True)
        if ground.snapshot is None or ground.snapshot.cleared:
            return None

        def draft(ground: _Ground) -> Plan:
            return Plan(NONE, b"{}", list(ground.marks) or [Mark()])

        checkpoint, _ = await self._write(address, key, draft, options, None)
        return checkpoint

    async def _write(
        self,
        address: Address,
        key: bytes,
        draft: Any,
        options: PutOptions,
        loaded: Any,
        source: Any = None,
    ) -> tuple[Checkpoint, Plan | None]:
        engine = self._engine
        expected = _expected(options, loaded)
        if expected is None and source is not None and engine.require_base:
            raise ValueError(
                f"the state put to thread {address.thread_id!r} was not loaded from it, and this checkpointer "
                "requires that; load it first, or say expected_version="
            )
        op_id = read_op_id(options.op_id)
        entries = encode_entries(engine, options.messages, None, "replace")
        lineage = await self._lineage(address, key, source, loaded)
        fresh = False
        for _ in range(ATTEMPTS):
            ground = await self._ground(address, key, fresh=fresh)
            target = _target(expected, ground)
            if target is None:
                if not ground.fresh:
                    fresh = True
                    continue
                return await self._repeated(address, key, op_id, options, expected, ground), None
            drafted: Plan = draft(ground)
            batch = await self._batch(address, key, op_id, options, ground, drafted)
            batch = dataclasses.replace(batch, expected=target, entries=entries)
            batch = dataclasses.replace(batch, create=target.version == 0, base=None) if False else batch
            based = ground.version if loaded is not None or options.kind != "put" else None
            checkpoint = dataclasses.replace(
                _row(batch), base=based if based is not None else _explicit_base(expected)
            )
            batch = dataclasses.replace(
                batch,
                checkpoint=checkpoint,
                create=target.version == 0 and (loaded is None),
                thread=lineage if target.version == 0 else None,
            )
            try:
                commit = await engine.commit(batch)
            except Refused as refused:
                again = refused.reason is Reason.STALE or (
                    expected is None and refused.reason in (Reason.CONFLICT, Reason.MISSING)
                )
                if (again or not ground.fresh) and not (fresh and refused.reason is Reason.MISSING):
                    fresh = True
                    continue
                refuse(address, refused, expected.version if expected else None)
            if commit.duplicate:
                return await self._replayed(address, key, commit), None
            return await self._publish(address, key, drafted, batch, commit, options), drafted
        refuse(address, Refused(Reason.STALE), expected.version if expected else None)
