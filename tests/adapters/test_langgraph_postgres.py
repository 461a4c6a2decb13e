"""The saver on a PostgreSQL that dies, and that many set up at once."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from threadline import PgCheckpointer
from threadline.adapters.langgraph import ThreadlineSaver


def checkpoint(number: int) -> Any:
    return {
        "v": 4,
        "id": f"1f000000-0000-6000-8000-{number:012x}",
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": {"a": number},
        "channel_versions": {"a": number},
        "versions_seen": {},
        "updated_channels": None,
    }


def at(thread: str) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


async def test_six_set_up_at_once(pg_dsn: str) -> None:
    checkpointers = [PgCheckpointer(pg_dsn) for _ in range(6)]
    savers = [ThreadlineSaver(each) for each in checkpointers]
    await asyncio.gather(
        *(s.aput(at(str(n)), checkpoint(1), {}, {"a": 1}) for n, s in enumerate(savers))
    )
    assert len([each async for each in savers[0].alist(None)]) == 6
    for each in checkpointers:
        await each.arelease()


async def test_the_call_after_every_connection_was_killed_works(pg_dsn: str) -> None:
    async with PgCheckpointer(pg_dsn) as checkpointer:
        saver = ThreadlineSaver(checkpointer)
        await saver.aput(at("t"), checkpoint(1), {}, {"a": 1})
        other = await asyncpg.connect(pg_dsn)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other.close()
        found = await saver.aget_tuple(at("t"))
        assert found is not None
        await saver.aput(found.config, checkpoint(2), {}, {"a": 2})
        assert [each.checkpoint["channel_values"] async for each in saver.alist(at("t"))] == [
            {"a": 2},
            {"a": 1},
        ]
