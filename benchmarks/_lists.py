"""Lists of many threads, and a search in many messages, which the peers do not have: beside bare statements."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from _harness import LIMIT, in_turn, p50, short, words

if TYPE_CHECKING:
    from compare import Ground


async def threads(ground: Ground) -> dict[str, Any]:
    """The first and the hundredth page of 50 in a list of many threads; the peers have no list that pages."""
    from threadline import PgCheckpointer, SqliteCheckpointer

    wanted, found = ground.options.threads, {}
    for on in ("SQLite", "PostgreSQL"):
        until = time.perf_counter() + 0.9 * LIMIT.left / (2 if on == "SQLite" else 1)
        place = await ground.place(on)
        checkpointer: Any = (
            SqliteCheckpointer(Path(place) / "store.db", durability="relaxed")
            if on == "SQLite"
            else PgCheckpointer(place, durability="relaxed")
        )
        async with checkpointer:
            begun = time.perf_counter()
            filled = await asyncio.gather(
                *(_fill(checkpointer, first, wanted, until) for first in range(32))
            )
            filling, count = time.perf_counter() - begun, sum(filled)
            if count < wanted:
                LIMIT.cut(f"threads ({on}): {count:,} instead of {wanted:,}")
            async with _bare_list(place, on, count) as bare:
                pages = await _pages(checkpointer, bare, count, ground.options.rounds * 10)
        found[f"Threadline ({on})"] = {
            "threads": count,
            "put_per_second": round(count / filling),
            **{name: short(values) for name, values in pages.items()},
        }
        shown = {name: f"{p50(values) * 1e3:.2f} ms" for name, values in pages.items()}
        print(f"  Threadline ({on}): {count:,} threads: {shown}", flush=True)
    return found


async def _pages(
    checkpointer: Any, bare: Callable[[int], Awaitable[Any]], count: int, rounds: int
) -> dict[str, list[float]]:
    listed = await checkpointer.alist_threads({}, limit=50)
    after, offset = listed[-1].thread_id, min(4950, max(0, count - 50))
    calls: dict[str, Any] = {
        "first": lambda _: checkpointer.alist_threads({}, limit=50),
        "hundredth, by offset": lambda _: checkpointer.alist_threads({}, limit=50, offset=offset),
        "next, by after": lambda _: checkpointer.alist_threads({}, limit=50, after=after),
        "bare SELECT of 50 rows by the primary key": lambda _: bare(0),
        "bare SELECT of the hundredth 50": lambda _: bare(offset),
    }
    return await in_turn(rounds, calls, warm=2)


@asynccontextmanager
async def _bare_list(
    place: str, on: str, count: int
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    """So many rows of a time and a name, and what reads 50 of them, newest first, from an offset on."""
    rows = [(number, f"thread {number}") for number in range(count)]
    make = "CREATE TABLE listed (at bigint PRIMARY KEY, name text)"
    query = "SELECT name FROM listed ORDER BY at DESC LIMIT 50 OFFSET "
    if on == "SQLite":
        with contextlib.closing(sqlite3.connect(Path(place) / "bare.db")) as file:
            file.execute(make)
            file.executemany("INSERT INTO listed VALUES (?, ?)", rows)
            file.commit()

            async def read(offset: int) -> Any:
                return file.execute(query + "?", (offset,)).fetchall()

            yield read
    else:
        connection = await asyncpg.connect(place)
        await connection.execute(make)
        await connection.copy_records_to_table("listed", records=rows)
        yield lambda offset: connection.fetch(query + "$1", offset)
        await connection.close()


async def _fill(checkpointer: Any, first: int, count: int, until: float) -> int:
    """Every 32nd thread, until the time is over; how many."""
    from threadline import ThreadInfo

    filled = 0
    for number in range(first, count, 32):
        if filled >= 10 and time.perf_counter() > until:
            break
        info = ThreadInfo(thread_id=f"t{number}", thread_name=f"thread {number}")
        await checkpointer.aput_thread({"thread_id": info.thread_id}, info)
        filled += 1
    return filled


async def search(ground: Ground) -> dict[str, Any]:
    """A rare word among many messages on SQLite; benchmarks/postgres.py has the other."""
    from threadline import Message, SqliteCheckpointer

    wanted, dice = ground.options.messages, random.Random(13)
    until = time.perf_counter() + 0.9 * LIMIT.left
    place = await ground.place("SQLite")
    async with SqliteCheckpointer(Path(place) / "store.db", durability="relaxed") as checkpointer:
        begun, count = time.perf_counter(), 0
        for thread in range(wanted // 1000):
            if count >= 6000 and time.perf_counter() > until:
                LIMIT.cut(f"search (SQLite): {count:,} messages instead of {wanted:,}")
                break
            count += 1000
            for half in range(2):
                texts = [words(200, dice) for _ in range(500)]
                if half and thread % 10 == 5:
                    texts[7] += f" zwitterion{thread}"
                messages = [Message.text_message(text) for text in texts]
                await checkpointer.aput_messages({"thread_id": f"t{thread}"}, messages)
        filling = time.perf_counter() - begun
        rare = f"zwitterion{(count // 1000 - 6) // 10 * 10 + 5}"
        async with _bare_list(place, "SQLite", 1000) as bare:
            calls: dict[str, Any] = {
                "rare": lambda _: checkpointer.asearch_messages({}, rare),
                "common": lambda _: checkpointer.asearch_messages({}, "flight oslo"),
                "bare SELECT of 50 rows by the primary key": lambda _: bare(0),
            }
            times = await in_turn(ground.options.rounds * 10, calls, warm=2)
        assert await checkpointer.asearch_messages({}, rare) or count < 6000
    told = {name: f"{p50(values) * 1e3:.2f} ms" for name, values in times.items()}
    print(f"  Threadline (SQLite): {count:,} messages: {told}", flush=True)
    return {
        "messages": count,
        "put_per_second": round(count / filling),
        **{name: short(values) for name, values in times.items()},
    }
