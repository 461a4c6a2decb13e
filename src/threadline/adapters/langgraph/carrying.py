"""Bringing the checkpoints of the official savers over: each once, compared with its source when it is there.

An import can be called again: what is there already is not written again, a thread that was left half way goes on. A
thread with something that is never read (a pickle) or that differs from what is there already is told, and the others
go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from threadline import ThreadlineError
from threadline.adapters.langgraph.document import Typed
from threadline.adapters.langgraph.history import History, id_of
from threadline.adapters.langgraph.putting import Puts
from threadline.adapters.langgraph.reading import Reader
from threadline.adapters.langgraph.sources import SEALED, Found, Source
from threadline.adapters.langgraph.spans import Place
from threadline.adapters.langgraph.writes import Task, Write

#: Told how many checkpoints were looked at, of how many.
Advance = Callable[[int, int], None]


@dataclass(slots=True)
class Carried:
    """What an import did. `bad`: each thread that was not, or not wholly, brought over, and why."""

    threads: int = 0
    checkpoints_new: int = 0
    checkpoints_there: int = 0
    writes: int = 0
    bad: dict[str, str] = field(default_factory=dict)


class Carrier:
    """Imports into one saver's threads."""

    def __init__(
        self, place: Callable[[str, str], Place], reader: Reader, history: History, puts: Puts
    ) -> None:
        self._place, self._reader, self._history, self._puts = place, reader, history, puts

    async def bring(self, source: Source, advance: Advance) -> Carried:
        """Import every thread of a source."""
        carried, total = Carried(), await source.count()

        def looked() -> None:
            advance(carried.checkpoints_new + carried.checkpoints_there, total)

        async for thread_id in source.threads():
            try:
                await self._thread(source, thread_id, carried, looked)
                await self._compare(source, thread_id)
                carried.threads += 1
            except (ThreadlineError, TypeError, ValueError) as error:
                carried.bad[thread_id] = " ".join(str(error).split())
        return carried

    async def _thread(
        self, source: Source, thread_id: str, carried: Carried, looked: Callable[[], None]
    ) -> None:
        there: dict[str, set[str]] = {}
        async for found in source.checkpoints(thread_id):
            place = self._place(thread_id, found.namespace)
            if found.namespace not in there:
                there[found.namespace] = {
                    id_of(each.row) async for each in self._history.walk(place)
                }
            if found.id in there[found.namespace]:
                carried.checkpoints_there += 1
            else:
                await self._checkpoint(place, found)
                carried.checkpoints_new += 1
                carried.writes += len(found.writes)
            looked()

    async def _checkpoint(self, place: Place, found: Found) -> None:
        """The writes first: a checkpoint that is there has all of its own."""
        tasks: dict[str, list[Write]] = {}
        for task, path, idx, channel, value in found.writes:
            typed = Typed(*SEALED.dumps_typed(value))
            tasks.setdefault(task, []).append(Write(idx, channel, typed, path))
        for task, writes in tasks.items():
            path = writes[0].path or ""
            plain = [w._replace(path=None) if w.path == path else w for w in writes]
            await self._puts.task(place, found.id, Task(path, task, tuple(plain)), create=True)
        versions = dict(found.checkpoint.get("channel_versions", {}))
        checkpoint = {**found.checkpoint, "id": found.id}
        await self._puts.checkpoint(
            place, SEALED, checkpoint, found.metadata, versions, found.parent, create=True
        )

    async def _compare(self, source: Source, thread_id: str) -> None:
        """Raise ValueError when a checkpoint does not read back as the source has it."""
        async for found in source.checkpoints(thread_id):
            place = self._place(thread_id, found.namespace)
            back = await self._reader.get(place, found.id, SEALED)
            if back is None or _facts(back) != _told(found):
                raise ValueError(f"checkpoint {found.id} is not here as it is in the source")


def _facts(back: Any) -> Any:
    parent = back.parent_config and back.parent_config["configurable"]["checkpoint_id"]
    return parent, dict(back.checkpoint), dict(back.metadata), list(back.pending_writes or [])


def _told(found: Found) -> Any:
    writes = [(task, channel, value) for task, _, _, channel, value in found.writes]
    return found.parent, {**found.checkpoint, "id": found.id}, dict(found.metadata), writes
