"""Reading a state: candidate, validate, open, decode. The store is asked for its head at every read; a cache only
saves it from sending what is there already.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from threadline import clock
from threadline.backend import At, CheckpointRow, Head
from threadline.cache import Cached
from threadline.checkpointer.engine import Engine, kinds
from threadline.checkpointer.snapshot import Ground, Snapshot, open_head
from threadline.config import Address
from threadline.history.logs import read_marks
from threadline.model import Checkpoint, StateDict, base_of, carry


class Reads:
    """Reading states, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, address: Address) -> Any:
        """A state, or None; see `BaseCheckpointer.aget_state`."""
        key = await self._engine.key(address)
        snapshot, _ = await self.snapshot(address, key)
        return None if snapshot is None or snapshot.cleared else self.build(address, key, snapshot)

    def build(self, address: Address, key: bytes, snapshot: Snapshot) -> Any:
        """A new object of a snapshot, which carries where it was loaded from."""
        at = key + address.ns_key
        state = snapshot.build(self.kind(address, key, snapshot.doc.shape))
        carry(state, base_of(state).moved(at, snapshot.incarnation, snapshot.version))
        return state

    async def snapshot(self, address: Address, key: bytes) -> tuple[Snapshot | None, Head]:
        """The snapshot that an address points at, validated by the store."""
        at = await self.at(address, key)
        return await self._read(
            address, key, at, None if at else await self._cached(key, address.ns_key)
        )

    async def _read(
        self, address: Address, key: bytes, at: At | None, cached: Snapshot | None
    ) -> tuple[Snapshot | None, Head]:
        engine, ns = self._engine, address.ns_key
        known = cached.known if cached else None
        head = await engine.backend.read_head(key, ns, address.user, at=at, known=known)
        if head.unchanged:
            return cached, head
        snapshot = open_head(head, engine.codec, address.thread_id)
        if engine.cache is not None and at is None:
            if snapshot is None:
                if address.user is None:
                    await engine.cache.drop(key, ns)
            else:
                entry = Cached(snapshot.incarnation, snapshot.version, snapshot, clock.monotonic())
                await engine.cache.publish(key, ns, entry)
        return snapshot, head

    async def at(self, address: Address, key: bytes) -> At | None:
        """The moment of the past that an address names; None: the head."""
        if not address.past:
            return None
        ext_id = address.checkpoint_id
        if ext_id is not None and ext_id.isascii() and ext_id.isdigit() and len(ext_id) < 19:
            # Our own ids are versions, unless a framework brought its own.
            at = At(ext_id=ext_id)
            head = await self._engine.backend.read_head(
                key, address.ns_key, address.user, at=at, content=False
            )
            return at if head.checkpoint is not None else At(version=int(ext_id))
        return At(address.version, ext_id, address.name)

    async def _cached(self, key: bytes, ns: bytes) -> Snapshot | None:
        if self._engine.cache is None:
            return None
        cached = await self._engine.cache.get(key, ns)
        return cached.content if cached and isinstance(cached.content, Snapshot) else None

    def kind(self, address: Address, key: bytes, shape: str) -> type | None:
        """The class that a state of this shape is to come back as; None: what its shape tells."""
        if address.state_class is not None:
            return StateDict if address.state_class is dict else address.state_class
        return kinds.get(key + address.ns_key, shape) or self._engine.state_class

    async def ground(self, address: Address, key: bytes, *, fresh: bool) -> Ground:
        """What a put is computed against: what this process knows of the head, or (`fresh`) what the store says."""
        cached = await self._cached(key, address.ns_key)
        if cached is not None and not fresh:
            marks, last = cached.marks, cached.last_version
            return Ground(cached, marks, cached.version, last, cached.incarnation, cached.gc, False)
        snapshot, head = await self._read(address, key, None, cached)
        marks = tuple(read_marks(head.marks))
        if snapshot is not None:
            snapshot = dataclasses.replace(snapshot, marks=marks, last_version=head.last_version)
        thread, version, last = head.thread, head.head_version, head.last_version
        if thread is None:
            return Ground(None, marks, version, last, None, None, True)
        return Ground(snapshot, marks, version, last, thread.incarnation, thread.gc, True)


def as_checkpoint(
    address: Address,
    row: CheckpointRow,
    incarnation: bytes,
    metadata: dict[str, Any],
    state: Any = None,
) -> Checkpoint:
    """A checkpoint's row as users see it."""
    return Checkpoint(
        id=row.ext_id or str(row.version),
        thread_id=address.thread_id,
        namespace=address.namespace,
        version=row.version,
        parent_version=row.parent_version,
        name=row.name,
        timestamp=clock.from_us(row.created_at),
        metadata=dict(metadata),
        run_id=row.run_id,
        base=row.base,
        bytes=row.bytes,
        incarnation=incarnation.hex(),
        state=state,
    )
