"""Searches over threads: words first, and a user's threads first where words are common."""

from __future__ import annotations

import asyncpg
import pytest

from threadline import Message, PgCheckpointer
from threadline.backends import pg_read

THREADS, EACH = 40, 10


async def filled(checkpointer: PgCheckpointer) -> None:
    """Threads of two users; every message holds "common", one of each thread "rare" and its number."""
    for number in range(THREADS):
        texts = [f"common {number} {at}" for at in range(EACH - 1)] + [f"rare common n{number}"]
        config = {"thread_id": f"t{number}", "user_id": f"u{number % 2}"}
        await checkpointer.aput_messages(config, [Message.text_message(text) for text in texts])


@pytest.mark.parametrize("rare", [1, 20, 2000], ids=["all are common", "some", "none"])
async def test_what_is_found_does_not_depend_on_what_is_common(
    empty_store: str, monkeypatch: pytest.MonkeyPatch, rare: int
) -> None:
    monkeypatch.setattr(pg_read, "_RARE", rare)
    async with PgCheckpointer(empty_store) as checkpointer:
        await filled(checkpointer)

        async def found(search: str, limit: int = 1000, **config: str) -> list[str]:
            hits = await checkpointer.asearch_messages(config, search, limit=limit)
            return [message.text() for _, message in hits]

        mine = [f"rare common n{number}" for number in range(THREADS) if number % 2]
        assert await found("rare", user_id="u1") == mine[::-1]
        assert await found("rare common", user_id="u1", limit=3) == mine[::-1][:3]
        assert len(await found("common", user_id="u1")) == THREADS // 2 * EACH
        assert await found("n7", user_id="u1") == ["rare common n7"]
        assert await found("n8", user_id="u1") == await found("nowhere") == []
        assert len(await found("common")) == THREADS * EACH


async def test_words_are_looked_up_once_however_many_threads_there_are(empty_store: str) -> None:
    async with PgCheckpointer(empty_store) as checkpointer:
        await filled(checkpointer)
        backend = checkpointer._engine.backend
        statement = backend._sql["search_words"]  # type: ignore[attr-defined]
        connection = await asyncpg.connect(empty_store)
        await connection.execute("SET enable_seqscan = off")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE it AS {statement.text}")
        given = {"match": "'{1}'", "terms": "'{}'", "limit": "10"}
        values = ", ".join(given.get(name, "NULL") for name in statement.names)
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE it ({values})")
        await connection.close()
        (lookup,) = [row[0] for row in rows if "threadline_entries_by_words" in row[0]]
        assert "loops=1)" in lookup
