"""What the journal keeps of deleted threads, and for how long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from threadline import InMemoryCheckpointer, SqliteCheckpointer, clock
from threadline.checkpointer import BaseCheckpointer

HOUR = 3600 * 1_000_000
START = 2_000_000_000_000_000


Store = tuple[BaseCheckpointer, Callable[[], int]]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A checkpointer, and how many rows its journal has. PostgreSQL's: tests/postgres/test_commits.py."""
    if request.param == "memory":
        memory = InMemoryCheckpointer()
        threads = memory._engine.backend._threads  # type: ignore[attr-defined]
        return memory, lambda: sum(len(thread.journal) for thread in threads.values())
    path = tmp_path / "memory.db"

    def in_file() -> int:
        with sqlite3.connect(path) as db:
            (found,) = db.execute("SELECT count(*) FROM journal").fetchone()
        db.close()
        return int(found)

    return SqliteCheckpointer(path), in_file


async def test_results_of_deleted_threads_are_let_go_after_a_day(
    store: Store,
) -> None:
    checkpointer, rows = store
    op_id = clock.new_id()

    async def live(name: str, hours: float) -> None:
        with clock.use(wall_us=lambda: START + int(hours * HOUR)):
            await checkpointer.aput_state({"thread_id": name}, {"n": 1}, op_id=op_id)
            await checkpointer.adelete_thread({"thread_id": name})

    async with checkpointer:
        for number in range(20):
            await live(f"first {number}", 0)
        assert rows() == 40
        with clock.use(wall_us=lambda: START + 23 * HOUR):  # Alive again: it lets go by itself.
            await checkpointer.aput_state({"thread_id": "first 0"}, {"n": 2})
        await live("second", 23.9)
        assert rows() == 43
        with clock.use(wall_us=lambda: START + int(23.9 * HOUR)):
            again = await checkpointer.aput_state({"thread_id": "first 1"}, {"n": 3}, op_id=op_id)
        assert again.version == 1
        assert await checkpointer.aget_state({"thread_id": "first 1"}) is None
        await live("third", 24.1)
        await live("fourth", 24.1)
        assert rows() == 9
        assert len(await checkpointer.alist_threads({})) == 1
