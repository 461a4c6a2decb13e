"""The pipelines of the past: listing checkpoints and reading one with its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threadline.backend import CheckpointQuery, CheckpointRow
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.reads import Reads, as_checkpoint
from threadline.checkpointer.snapshot import read_metadata
from threadline.codec.terms import matches, terms_of
from threadline.config import Address
from threadline.errors import CorruptionError
from threadline.model import Checkpoint

#: How many checkpoints one read brings.
PAGE = 200


class Checkpoints:
    """Listing and loading checkpoints, for any backend."""

    def __init__(self, engine: Engine, reads: Reads) -> None:
        self._engine, self._reads = engine, reads

    async def list(
        self,
        address: Address,
        *,
        name: str | None,
        metadata: Mapping[str, Any] | None,
        before: int | Checkpoint | None,
        limit: int | None,
    ) -> list[Checkpoint]:
        """Checkpoints, newest first."""
        engine, key, ns = self._engine, await self._engine.key(address), address.ns_key
        head = await engine.backend.read_head(key, ns, address.user, content=False)
        if head.thread is None:
            return []
        edge = before.version if isinstance(before, Checkpoint) else before
        found: list[Checkpoint] = []
        while limit is None or len(found) < limit:
            query = CheckpointQuery(
                name=name, terms=terms_of(metadata) if metadata else (), before=edge, limit=PAGE
            )
            rows = await engine.backend.read_checkpoints(key, ns, address.user, query)
            for row in rows:
                beside = self._metadata(address, row)
                if metadata and not matches(beside, metadata):
                    continue
                if limit is None or len(found) < limit:
                    found.append(as_checkpoint(address, row, head.thread.incarnation, beside))
            if len(rows) < PAGE:
                break
            edge = rows[-1].version
        return found

    async def get(self, address: Address) -> Checkpoint | None:
        """The checkpoint that an address points at, with its state."""
        key = await self._engine.key(address)
        snapshot = await self._reads.snapshot(address, key)
        if snapshot is None:
            return None
        state = None if snapshot.cleared else self._reads.build(address, key, snapshot)
        metadata = snapshot.doc.read_metadata()
        return as_checkpoint(address, snapshot.row, snapshot.incarnation, metadata, state)

    def _metadata(self, address: Address, row: CheckpointRow) -> dict[str, Any]:
        try:
            return read_metadata(row, self._engine.codec)
        except CorruptionError as error:
            raise CorruptionError(
                f"thread {address.thread_id!r}, version {row.version}: {error}"
            ) from None
