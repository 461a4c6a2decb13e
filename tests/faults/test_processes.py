"""Many writers on one file: processes and tasks. Nothing is lost, nothing fails, one writer wins each race."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from threadline import AgentState, ConflictError, Message, SqliteCheckpointer

PROCESSES, PUTS = (16, 500) if os.environ.get("THREADLINE_SOAK") else (8, 40)


def put_many(path: str, number: int, puts: int) -> None:
    with SqliteCheckpointer(path) as checkpointer:
        state = AgentState()
        for turn in range(puts):
            state.execution_meta.step = turn
            checkpointer.put_state({"thread_id": f"own-{number}"}, state)
            checkpointer.append({"thread_id": "shared"}, [Message.text_message(f"{number}:{turn}")])


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_processes_that_write_one_file_lose_nothing(tmp_path: Path) -> None:
    path, context = tmp_path / "shared.db", multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=put_many, args=(str(path), number, PUTS))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    with SqliteCheckpointer(path) as checkpointer:
        for number in range(PROCESSES):
            config = {"thread_id": f"own-{number}"}
            assert checkpointer.get_state(config).execution_meta.step == PUTS - 1
            assert len(checkpointer.list_checkpoints(config)) == PUTS
        shared = checkpointer.get_state({"thread_id": "shared"}).context
    said = [message.text() for message in shared]
    assert len(said) == len(set(said)) == PROCESSES * PUTS
    for number in range(PROCESSES):
        own = [text for text in said if text.startswith(f"{number}:")]
        assert own == [f"{number}:{turn}" for turn in range(PUTS)], "one writer's order was lost"
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_of_writers_that_race_from_one_version_one_wins(tmp_path: Path) -> None:
    async with SqliteCheckpointer(tmp_path / "race.db") as checkpointer:
        config = {"thread_id": "t"}
        await checkpointer.aput_state(config, AgentState())
        for _ in range(20):
            states = [await checkpointer.aget_state(config) for _ in range(8)]

            async def put(state: Any) -> bool:
                try:
                    await checkpointer.aput_state(config, state)
                except ConflictError:
                    return False
                return True

            assert sum(await asyncio.gather(*map(put, states))) == 1


async def test_two_checkpointers_of_one_file_see_each_other_at_once(tmp_path: Path) -> None:
    path, config = tmp_path / "two.db", {"thread_id": "t"}
    async with SqliteCheckpointer(path) as one, SqliteCheckpointer(path) as two:
        for step in range(30):
            state = await one.aget_state(config) or AgentState()
            state.execution_meta.step = step
            await one.aput_state(config, state)
            seen = await two.aget_state(config)
            assert seen.execution_meta.step == step
            seen.context_summary = f"seen {step}"
            await two.aput_state(config, seen)
        assert await one.adelete_thread(config)
        assert await two.aget_state(config) is None
        assert await two.aget_state_cache(config) is None
