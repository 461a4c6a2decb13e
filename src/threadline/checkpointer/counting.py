"""Counting what is stored of some threads: checkpoints by name, messages, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from threadline.backend import CheckpointQuery, ThreadRow
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.walk import addressed_threads
from threadline.config import Address, namespace_key

#: How many checkpoints one read brings.
PAGE = 1000


class Counting:
    """Counting, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def stats(self, address: Address) -> dict[str, Any]:
        """Count the thread of an address, or all of its tenant, app and user; see `BaseCheckpointer.astats`."""
        names: Counter[str] = Counter()
        threads: list[dict[str, Any]] = []
        async for row in addressed_threads(self._engine, address):
            sizes = await self._engine.backend.measure(row.key)
            async for name in self._names(row, address.user):
                names[name] += 1
            told = {"thread_id": row.thread_id, "messages": sizes["messages"]}
            threads.append(
                {**told, "checkpoints": sizes["checkpoints"], "bytes": sizes["store_bytes"]}
            )
        threads.sort(key=lambda each: (-each["bytes"], each["thread_id"]))
        totals = {
            what: sum(each[what] for each in threads)
            for what in ("messages", "checkpoints", "bytes")
        }
        return {
            "threads": len(threads),
            **totals,
            "names": dict(names.most_common()),
            "by_thread": threads,
        }

    async def _names(self, thread: ThreadRow, user: str | None) -> AsyncIterator[str]:
        """The name of each checkpoint of a thread that has one."""
        backend = self._engine.backend
        for namespace in await backend.read_namespaces(thread.key, user):
            before: int | None = None
            while True:
                query = CheckpointQuery(before=before, limit=PAGE)
                rows = await backend.read_checkpoints(
                    thread.key, namespace_key(namespace), user, query
                )
                for row in rows:
                    if row.name is not None:
                        yield row.name
                if len(rows) < PAGE:
                    break
                before = rows[-1].version
