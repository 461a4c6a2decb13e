"""What Threadline adds to LangGraph's threads: forks into other threads, rollbacks, differences, retention."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langgraph.checkpoint.base import get_checkpoint_id
from langgraph.checkpoint.base.id import uuid6

from threadline import BaseCheckpointer, RetentionPolicy, StateDiff, ThreadNotFoundError
from threadline.adapters.langgraph.faces import Faces
from threadline.adapters.langgraph.history import History
from threadline.adapters.langgraph.putting import Puts
from threadline.adapters.langgraph.reading import Reader
from threadline.adapters.langgraph.sources import SEALED, opened
from threadline.adapters.langgraph.spans import Place, config_of
from threadline.adapters.langgraph.upkeep import Upkeep
from threadline.store import changes


class ThreadCalls(Faces):
    """The calls of a saver that LangGraph does not know. Values stay bytes in all of them."""

    checkpointer: BaseCheckpointer
    _reader: Reader
    _history: History
    _puts: Puts
    _upkeep: Upkeep

    def _place(self, config: Any) -> Place:
        raise NotImplementedError

    async def _places(self, config: Any) -> list[Place]:
        raise NotImplementedError

    async def afork(self, config: Any, thread_id: str) -> Any:
        """Copy a thread, up to the checkpoint that the config names (default: all of it), into one that does not
        exist; returns the config of its latest checkpoint. From then on the two share nothing.

        It is copied in the store, in one commit. Of the message log (see `index`) comes what was put until then.
        Raises ThreadNotFoundError, ValueError.
        """
        source, id = self._place(config), get_checkpoint_id(config)
        target = source._replace(thread_id=str(thread_id))
        if id is not None:
            await self._upkeep.copy_until(source, target, id)
            await self._collect(target)
            return config_of(target, id)
        head = await self._store.aread(source.config)
        if head.checkpoint is None or head.checkpoint.ext_id is None:
            raise ThreadNotFoundError(f"thread {source.thread_id!r} has no checkpoint yet")
        await self._upkeep.copy(source, target)
        latest = await self._reader.get(target, None, SEALED)
        return latest.config if latest else config_of(target, "")

    async def arollback(self, config: Any) -> Any:
        """Make the checkpoint that a config names the latest again, as a new one behind the latest; returns its
        config. Nothing is erased. Raises ThreadNotFoundError."""
        place, id = self._place(config), get_checkpoint_id(config)
        found = await self._reader.get(place, id, SEALED)
        latest = await self._reader.get(place, None, SEALED)
        if found is None or latest is None:
            raise ThreadNotFoundError(f"thread {place.thread_id!r} has no checkpoint {id or 'yet'}")
        step = latest.metadata.get("step", 0) + 1
        new = _behind(latest.checkpoint["id"], str(uuid6(clock_seq=step)))
        checkpoint = {**found.checkpoint, "id": new}
        metadata = {**found.metadata, "source": "fork", "step": step}
        versions = found.checkpoint["channel_versions"]
        parent = latest.checkpoint["id"]
        await self._puts.checkpoint(place, SEALED, checkpoint, metadata, versions, parent)
        return config_of(place, new)

    async def adiff(self, a: Any, b: Any) -> StateDiff:
        """What differs from the checkpoint of config `a` to that of config `b` (of the same thread): its channels, with
        messages and other objects as the fields that are stored of them. Raises ThreadNotFoundError."""
        sides = []
        for config in (a, b):
            place, id = self._place(config), get_checkpoint_id(config)
            found = await self._reader.get(place, id, SEALED)
            if found is None:
                raise ThreadNotFoundError(
                    f"thread {place.thread_id!r} has no checkpoint {id or 'yet'}"
                )
            head = await self._reader.at(place, found.checkpoint["id"])
            version = head.checkpoint.version if head.checkpoint else 0
            sides.append((version, opened(found.checkpoint["channel_values"])))
        (old, before), (new, after) = sides
        return StateDiff(place.thread_id, place.namespace, old, new, changes(before, after))

    async def aplain(self, config: Any) -> dict[str, Any] | None:
        """The channels of a checkpoint as plain values, for people and programs that do not have its types: messages
        and other objects are the fields that are stored of them. None when there is no such checkpoint."""
        found = await self._reader.get(self._place(config), get_checkpoint_id(config), SEALED)
        values: dict[str, Any] | None = (
            opened(found.checkpoint["channel_values"]) if found else None
        )
        return values

    async def aretain(
        self, policy: RetentionPolicy, thread_id: str | None = None, *, dry_run: bool = False
    ) -> int:
        """Drop the checkpoints that a policy does not keep, of one thread or of all of this app, and give back what
        only they needed; returns how many. What a kept checkpoint's delta channels are rebuilt from stays as well.

        dry_run: only count them. Each namespace is judged by itself.
        """
        config = None if thread_id is None else {"configurable": {"thread_id": thread_id}}
        dropped = 0
        for place in await self._places(config):
            gone = await self._upkeep.unkept(place, policy, self.serde)
            dropped += len(gone)
            if gone and not dry_run:
                await self._upkeep.remove(place, gone)
                await self._collect(place)
        return dropped

    async def _collect(self, place: Place) -> None:
        """Give back rows and blobs that no checkpoint needs any more."""
        config = {**place.config, "namespace": None}
        await self.checkpointer.aprune(config, RetentionPolicy())

    def fork(self, config: Any, thread_id: str) -> Any:
        """`afork` for sync code."""
        return self._store.run(self.afork(config, thread_id))

    def rollback(self, config: Any) -> Any:
        """`arollback` for sync code."""
        return self._store.run(self.arollback(config))

    def diff(self, a: Any, b: Any) -> StateDiff:
        """`adiff` for sync code."""
        return self._store.run(self.adiff(a, b))

    def plain(self, config: Any) -> dict[str, Any] | None:
        """`aplain` for sync code."""
        return self._store.run(self.aplain(config))

    def retain(
        self, policy: RetentionPolicy, thread_id: str | None = None, *, dry_run: bool = False
    ) -> int:
        """`aretain` for sync code."""
        return self._store.run(self.aretain(policy, thread_id, dry_run=dry_run))


def _behind(latest: str, id: str) -> str:
    """An id, or the next one behind the latest where that is greater: it came from a clock that was ahead."""
    if id > latest:
        return id
    try:
        return str(UUID(int=UUID(latest).int + 1))
    except ValueError:
        return f"{latest}0"
