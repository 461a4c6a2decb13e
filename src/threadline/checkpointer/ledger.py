"""The ledger of a run's tool calls: slots that say of each call whether it was started, and how it ended.

A call that is recorded as finished is not made again; its result is read. One that was started and says nothing more is
unknown: the process died between the tool's work and its record, and nobody but the tool knows. Questions to people
are calls that a person answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from threadline.backend import SlotPut, SlotQuery
from threadline.batch import Slot
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.store import Store
from threadline.codec.envelope import Where
from threadline.codec.values import encode
from threadline.config import Config
from threadline.errors import NotStorableError

#: The kind of a ledger's slots.
TOOL = "tool"
_WHERE = Where("slot", TOOL)
Status = Literal["started", "finished", "failed", "asked"]


@dataclass(frozen=True, slots=True)
class ToolRecord:
    """What the ledger says of one call. `result`: of a finished one. `error`: how a failed one ended. `question`: of
    one that waits for a person. `attempts`: how often it was started."""

    call_id: str
    tool: str
    status: Status
    attempts: int = 1
    result: Any = None
    error: str | None = None
    question: Any = None
    details: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The tool calls of one run in one thread and namespace."""

    def __init__(self, engine: Engine, store: Store, run_id: str) -> None:
        self._engine, self._store, self.run_id = engine, store, run_id

    async def read(self, config: Config, call_id: str) -> ToolRecord | None:
        """What is recorded of a call."""
        key = self._key(call_id)
        found = await self._store.aread(config, SlotQuery(TOOL, prefix=key))
        return next((self._opened(slot) for slot in found if slot.key == key), None)

    async def records(self, config: Config) -> list[ToolRecord]:
        """Every call of the run, in the order of their ids."""
        found = await self._store.aread(config, SlotQuery(TOOL, prefix=self._key("")))
        return [self._opened(slot) for slot in found]

    async def write(self, config: Config, record: ToolRecord) -> None:
        """Record a call. Raises NotStorableError for a result that would not come back equal, LeaseLostError."""
        sealed = self._engine.seal(asdict(record), _WHERE)
        slot = Slot(
            kind=TOOL, key=self._key(record.call_id), payload=sealed.data, key_id=sealed.key_id
        )
        batch = await self._store.abatch(config, TOOL, create=True, slots=(SlotPut(slot),))
        await self._store.acommit(batch)

    async def forget_others(self, config: Config) -> None:
        """Delete what is recorded of the thread's other runs."""
        await self._delete(config, "", keep=self._key(""))

    async def forget(self, config: Config) -> None:
        """Delete what is recorded of this run."""
        await self._delete(config, self._key(""))

    async def _delete(self, config: Config, prefix: str, keep: str | None = None) -> None:
        found = await self._store.aread(config, SlotQuery(TOOL, prefix=prefix))
        gone = [
            SlotPut(Slot(kind=TOOL, key=slot.key), "delete")
            for slot in found
            if keep is None or not slot.key.startswith(keep)
        ]
        if gone:
            await self._store.acommit(await self._store.abatch(config, TOOL, slots=tuple(gone)))

    def _key(self, call_id: str) -> str:
        return f"{self.run_id}/{call_id}"

    def _opened(self, slot: Slot) -> ToolRecord:
        return ToolRecord(**self._engine.open(slot.payload, slot.key_id, _WHERE))


def call_digest(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of a call's arguments; "" where they cannot be stored, and so not be compared."""
    try:
        data = encode([list(args), dict(kwargs)])
    except NotStorableError:
        return ""
    return hashlib.blake2b(data, digest_size=4).hexdigest()
