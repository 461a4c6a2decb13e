"""Reading a state: a copy, the store's word on it, open, decode. The store is asked for its head at every read (but for
one that trusts a copy for a while); a cache only saves it from sending what is there already.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from threadline import clock
from threadline.backend import At, CheckpointRow, Commit, Head
from threadline.checkpointer.copies import Copy, Place
from threadline.checkpointer.engine import Engine, kinds
from threadline.checkpointer.snapshot import Ground, Snapshot, open_head
from threadline.config import Address
from threadline.history.logs import read_marks
from threadline.model import Checkpoint, StateDict, base_of, carry


class Reads:
    """Reading states, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, address: Address, *, trusting: bool = False) -> Any:
        """A state, or None; `trusting`: for a while also without asking the store. See `aget_state` and
        `aget_state_cache` of `BaseCheckpointer`."""
        key = await self._engine.key(address)
        snapshot = await self.snapshot(address, key, trusting=trusting)
        if snapshot is None or snapshot.cleared:
            return None
        before, state = snapshot.warm.size, self.build(address, key, snapshot)
        if snapshot.warm.size > before:
            await self._engine.copies.grew(_place(address, key), snapshot)
        return state

    def build(self, address: Address, key: bytes, snapshot: Snapshot) -> Any:
        """A new object of a snapshot, which carries where it was loaded from."""
        at = key + address.ns_key
        state = snapshot.build(self.kind(address, key, snapshot.doc.shape))
        carry(state, base_of(state).moved(at, snapshot.incarnation, snapshot.version))
        return state

    async def snapshot(
        self, address: Address, key: bytes, *, trusting: bool = False
    ) -> Snapshot | None:
        """The snapshot that an address points at, validated by the store unless it may be trusted."""
        at = await self.at(address, key)
        if at is not None:
            head = await self._engine.backend.read_head(key, address.ns_key, address.user, at=at)
            return open_head(head, self._engine.codec, address.thread_id)
        place, copies = _place(address, key), self._engine.copies
        copy = await copies.near(place)
        if copy.snapshot is not None:
            return await self._now(address, place, copy, trusting)
        async with copies.look(place) as copy:
            return await self._now(address, place, copy, trusting)

    async def _now(
        self, address: Address, place: Place, copy: Copy, trusting: bool
    ) -> Snapshot | None:
        copies = self._engine.copies
        if trusting and (served := await copies.serve(place, copy, address.user)):
            return served
        return (await self._read(address, place, copy))[0]

    async def _read(
        self, address: Address, place: Place, copy: Copy
    ) -> tuple[Snapshot | None, Head]:
        """The head as the store has it, asked whether it is still the copy."""
        begun = clock.monotonic()
        head = await self._engine.backend.read_head(
            place.key, place.ns, address.user, known=copy.known
        )
        snapshot = await self._engine.copies.settle(
            place, copy, head, user=address.user, begun=begun
        )
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

    async def written(
        self, address: Address, key: bytes, commit: Commit, **said: Any
    ) -> CheckpointRow:
        """The row of the version that an earlier commit wrote or named. Of one that was pruned since, or went with that
        life of the thread, what is known of it still: its version, the time of that commit, what the call says again
        (`said`); and it takes 0 bytes."""
        head = await self._engine.backend.read_head(
            key, address.ns_key, address.user, at=At(version=commit.version), content=False
        )
        same = head.thread is not None and head.thread.incarnation == commit.incarnation
        if head.checkpoint is not None and same:
            return head.checkpoint
        return CheckpointRow(
            version=commit.version or 0, payload=b"", digest=b"", created_at=commit.at, **said
        )

    def kind(self, address: Address, key: bytes, shape: str) -> type | None:
        """The class that a state of this shape is to come back as; None: what its shape tells."""
        if address.state_class is not None:
            return StateDict if address.state_class is dict else address.state_class
        return kinds.get(key + address.ns_key, shape) or self._engine.state_class

    async def ground(self, address: Address, key: bytes, *, fresh: bool) -> Ground:
        """What a put is computed against: what this process knows of the head, or (`fresh`) what the store says."""
        place = _place(address, key)
        copy = await self._engine.copies.near(place)
        if (cached := copy.snapshot) is not None and not fresh:
            marks, last, version = cached.marks, cached.last_version, cached.version
            life, gc, owner = cached.incarnation, cached.gc, cached.owner
            return Ground(cached, marks, version, last, life, gc, owner, False)
        snapshot, head = await self._read(address, place, copy)
        marks = tuple(read_marks(head.marks))
        if snapshot is not None:
            snapshot = dataclasses.replace(snapshot, marks=marks, last_version=head.last_version)
        thread, version, last = head.thread, head.head_version, head.last_version
        if thread is None:
            return Ground(None, marks, version, last, None, None, None, True)
        life, gc, owner = thread.incarnation, thread.gc, thread.user
        return Ground(snapshot, marks, version, last, life, gc, owner, True)


def _place(address: Address, key: bytes) -> Place:
    return Place(key, address.ns_key, address.thread_id)


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
