"""Counting what is stored of some threads: messages by role, tools, tokens, checkpoints by name, days, bytes.

The store counts; what comes here is numbers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from threadline import clock
from threadline.backend import Summary, ThreadQuery
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.walk import PAGE, addressed_threads
from threadline.config import Address

_DAY_US = 86_400_000_000


class Counting:
    """Counting, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def stats(self, address: Address) -> dict[str, Any]:
        """Count the thread of an address, or all of its tenant, app and user; see `BaseCheckpointer.astats`."""
        threads: list[dict[str, Any]] = []
        rows = [row async for row in addressed_threads(self._engine, address)]
        for start in range(0, len(rows), PAGE):
            page = rows[start : start + PAGE]
            measured = await self._engine.backend.measure([row.key for row in page])
            threads += [
                {
                    "thread_id": row.thread_id,
                    "messages": sizes["messages"],
                    "checkpoints": sizes["checkpoints"],
                    "bytes": sizes["store_bytes"],
                }
                for row, sizes in zip(page, measured, strict=True)
            ]
        threads.sort(key=lambda each: (-each["bytes"], each["thread_id"]))
        totals = {
            what: sum(each[what] for each in threads)
            for what in ("messages", "checkpoints", "bytes")
        }
        key = await self._engine.key(address) if address.thread_id else None
        query = ThreadQuery(address.tenant, address.app, address.user)
        summary = await self._engine.backend.summarize(query, key)
        return {"threads": len(threads), **totals, **_told(summary), "by_thread": threads}


def _told(summary: Summary) -> dict[str, Any]:
    roles: Counter[str] = Counter()
    names: Counter[str] = Counter()
    days: dict[int, dict[str, int]] = {}
    for what, rows, counts in (
        ("messages", summary.messages, roles),
        ("checkpoints", summary.checkpoints, names),
    ):
        for day, name, count in rows:
            active = days.setdefault(day, {"messages": 0, "checkpoints": 0})
            active[what] += count
            if name is not None:
                counts[name] += count
    return {
        "names": dict(names.most_common()),
        "roles": dict(roles.most_common()),
        "tools": {
            tool.name: {
                "calls": tool.calls,
                "errors": tool.errors,
                "error_rate": tool.errors / tool.results if tool.results else 0.0,
                "unanswered": max(0, tool.calls - tool.results),
                "mean_seconds": tool.milliseconds / tool.timed / 1000 if tool.timed else None,
            }
            for tool in sorted(summary.tools, key=lambda each: (-each.calls, each.name))
        },
        "tokens": summary.tokens._asdict(),
        "days": {
            clock.from_us(day * _DAY_US).date().isoformat(): active
            for day, active in sorted(days.items())
        },
        "durations": {
            "total_seconds": summary.seconds,
            "mean_seconds": summary.seconds / summary.threads if summary.threads else 0.0,
            "longest_seconds": summary.longest,
        },
    }
