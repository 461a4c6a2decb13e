"""Connections that stay between calls: who gets them, when the pool has them back, and that dead ones are not used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from threadline import PgCheckpointer
from threadline.backends import pg_lender
from threadline.backends.pg_lender import Lender


class Pool(asyncpg.Pool):
    """Counts what is taken from it and given back."""

    taken = returned = 0

    async def acquire(self, *, timeout: float | None = None) -> Any:
        self.taken += 1
        return await super().acquire(timeout=timeout)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        self.returned += 1
        await super().release(connection, timeout=timeout)


@asynccontextmanager
async def lending(dsn: str, size: int = 2, *, keeps: bool = True) -> AsyncIterator[Lender]:
    pool = Pool(
        dsn,
        min_size=0,
        max_size=size,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        loop=asyncio.get_running_loop(),
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
    )
    lender = Lender(await pool, keeps=keeps)
    yield lender
    await asyncio.wait_for(lender.close(), 10)


async def call(lender: Lender, text: str = "SELECT pg_backend_pid()") -> Any:
    connection = lender.spare() or await lender.wait()
    try:
        return await connection.fetchval(text)
    finally:
        await lender.back(connection)


async def test_one_call_after_the_other_has_the_same_connection(pg_dsn: str) -> None:
    async with lending(pg_dsn) as lender:
        assert len({await call(lender) for _ in range(5)}) == 1
        assert (lender.pool.taken, lender.pool.returned) == (1, 0)


async def test_a_pool_that_is_not_ours_has_it_back_after_each_call(pg_dsn: str) -> None:
    async with lending(pg_dsn, keeps=False) as lender:
        for _ in range(3):
            await call(lender)
        assert (lender.pool.taken, lender.pool.returned) == (3, 3)


@pytest.mark.parametrize("size", [1, 2])
async def test_nobody_waits_for_a_connection_that_lies_idle(pg_dsn: str, size: int) -> None:
    async with lending(pg_dsn, size) as lender:
        async with asyncio.timeout(20):
            pids = await asyncio.gather(*(call(lender) for _ in range(20)))
            pids += await asyncio.gather(*(call(lender) for _ in range(20)))
        assert len(set(pids)) == size
        assert lender._waiting == 0


async def test_what_is_not_needed_goes_back(pg_dsn: str) -> None:
    async with lending(pg_dsn, 3) as lender:
        held = [await lender.wait() for _ in range(3)]
        for connection in held:
            await lender.back(connection)
        assert len(lender._free) == 3
        lender.sweep()  # It knows nothing yet of who is needed.
        await call(lender)
        lender.sweep()
        await asyncio.gather(*lender._going)
        assert (len(lender._free), lender.pool.get_idle_size()) == (1, 2)
        assert lender._sweeps is not None
        lender.sweep()
        await asyncio.gather(*lender._going)
        assert (len(lender._free), lender.pool.get_idle_size()) == (0, 3)
        assert lender._sweeps is None
        await call(lender)


async def test_the_pool_sees_a_connection_now_and_then(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_lender, "CALLS", 3)
    async with lending(pg_dsn) as lender:
        for _ in range(9):
            await call(lender)
        assert (lender.pool.taken, lender.pool.returned) == (3, 3)


async def test_a_connection_that_died_meanwhile_is_not_lent(pg_dsn: str) -> None:
    async with lending(pg_dsn, 1) as lender:
        pid = await call(lender)
        (kept,) = lender._free
        died = asyncio.Event()
        kept.add_termination_listener(lambda connection: died.set())
        other = await asyncpg.connect(pg_dsn)
        await other.execute("SELECT pg_terminate_backend($1)", pid)
        await other.close()
        await asyncio.wait_for(died.wait(), 10)
        assert await call(lender) != pid


async def test_one_that_was_broken_off_is_not_kept(pg_dsn: str) -> None:
    async with lending(pg_dsn, 1) as lender:
        connection = await lender.wait()
        connection.terminate()
        await lender.back(connection)
        assert lender._free == []
        await call(lender)


@pytest.mark.parametrize("closes", [False, True])
async def test_one_that_dies_while_it_goes_back_is_no_error(pg_dsn: str, closes: bool) -> None:
    async with lending(pg_dsn, 1, keeps=closes) as lender:
        connection = await lender.wait()
        if closes:
            await lender.back(connection)
        going = asyncio.ensure_future(lender.close() if closes else lender.back(connection))
        await asyncio.sleep(0)  # The pool has looked at it; its task begins in the next turn.
        connection.terminate()  # What the driver does when the server is gone.
        await asyncio.wait_for(going, 10)
        if not closes:
            await call(lender)


async def test_closing_waits_for_whoever_has_one(pg_dsn: str) -> None:
    async with lending(pg_dsn) as lender:
        await call(lender)
        slow = asyncio.ensure_future(call(lender, "SELECT pg_sleep(0.1)"))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(lender.close())
        await slow
        await asyncio.wait_for(closing, 10)
        assert lender.pool.get_size() == 0


@pytest.mark.parametrize("name", ["setup", "reset"])
async def test_what_a_caller_wants_done_at_each_use_is_done(pg_dsn: str, name: str) -> None:
    done = 0

    async def count(connection: Any) -> None:
        nonlocal done
        done += 1

    async with PgCheckpointer(pg_dsn, pool_config={name: count}) as checkpointer:
        await checkpointer.asetup()
        before = done
        for _ in range(3):
            await checkpointer.aget_state({"thread_id": "t"})
        assert done == before + 3
