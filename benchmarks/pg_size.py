"""What a PostgreSQL store takes: bytes by kind of conversation and by table, and how long tables take to make.

    python benchmarks/pg_size.py            every part
    python benchmarks/pg_size.py threads    one part: threads, turns, tables

Sizes are those of the tables with their indexes after VACUUM FULL, and, behind it, as they were before: with the room
that later commits use. The server is one of our own; sizes hold elsewhere, times do not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time

import asyncpg

from threadline import AgentState, Message, PgCheckpointer
from threadline.testing.servers import Postgres, postgres

WORDS = [
    "".join(random.Random(n).choices("abcdefghijklmnoprstu", k=random.Random(n).randint(2, 9)))
    for n in range(4000)
]


def text(dice: random.Random, size: int) -> str:
    """So many characters of words."""
    found = ""
    while len(found) < size:
        found += dice.choice(WORDS) + " "
    return found[:size]


async def sizes(dsn: str) -> dict[str, int]:
    """Bytes of each table and index."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relkind IN ('r', 'i') "
        "AND relname LIKE 'threadline%' "
        "UNION ALL SELECT relname || ' (out of line)', pg_total_relation_size(reltoastrelid) FROM pg_class "
        "WHERE relkind = 'r' AND relname LIKE 'threadline%' AND reltoastrelid <> 0"
    )
    await connection.close()
    return {name.removeprefix("threadline_"): size for name, size in rows}


async def told(dsn: str, text_bytes: int, threads: int) -> None:
    """Print what a store takes, before and after VACUUM FULL."""
    before = sum((await sizes(dsn)).values())
    connection = await asyncpg.connect(dsn)
    await connection.execute("VACUUM FULL")
    await connection.close()
    after = await sizes(dsn)
    whole = sum(after.values())
    print(f"  {text_bytes / 1e6:.2f} MB of text in {threads:,} threads")
    print(
        f"  {whole / 1e6:.2f} MB ({before / 1e6:.2f} before VACUUM FULL): {whole / text_bytes:.2f}x the text"
    )
    print(f"  {whole / threads:,.0f} bytes a thread")
    for name, size in sorted(after.items(), key=lambda each: -each[1])[:8]:
        print(f"    {name:<32} {size / 1e6:8.2f} MB")


async def converse(memory: PgCheckpointer, number: int, turns: int, logged: bool) -> int:
    """A conversation, a put in each turn of 2 messages of 300 characters; returns the bytes of its text."""
    dice, state = random.Random(number), AgentState()
    config = {"thread_id": f"thread-{number}", "user_id": f"user-{number % 200}"}
    for _ in range(turns):
        said = [Message.text_message(text(dice, 300), role) for role in ("user", "assistant")]
        state.context += said
        await memory.aput_state(config, state, messages=said if logged else [])
    return turns * 600


async def run_threads(server: Postgres) -> None:
    """400 conversations of 10 turns."""
    for logged in (True, False):
        dsn, written = server.database(), 0
        async with PgCheckpointer(dsn) as memory:
            for first in range(0, 400, 8):
                talks = (converse(memory, first + each, 10, logged) for each in range(8))
                written += sum(await asyncio.gather(*talks))
        print(f"threads, {'states and the message log' if logged else 'states only'}:")
        await told(dsn, written, 400)
        server.drop_database(dsn)


async def run_turns(server: Postgres) -> None:
    """One long conversation: 1,000 turns of 2 messages of 300 characters."""
    dsn = server.database()
    async with PgCheckpointer(dsn) as memory:
        written = await converse(memory, 1, 1000, True)
    print("turns, one thread of 1,000 checkpoints, with the message log:")
    await told(dsn, written, 1)
    server.drop_database(dsn)


async def run_tables(server: Postgres) -> None:
    """Making a store, by number of partitions."""
    for partitions in (0, 16, 64, 256):
        dsn = server.database()
        begun = time.perf_counter()
        async with PgCheckpointer(dsn, partitions=partitions, timeout=600):
            spent = time.perf_counter() - begun
        connection = await asyncpg.connect(dsn)
        whole = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'threadline%'"
        )
        await connection.close()
        print(
            f"tables, {partitions:>4} partitions: made in {spent:.2f} s, {int(whole) / 1e6:.2f} MB while empty"
        )
        server.drop_database(dsn)


PARTS = {"threads": run_threads, "turns": run_turns, "tables": run_tables}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=PARTS)
    part = parser.parse_args().part
    with postgres() as server:
        for name, run in PARTS.items():
            if part in (None, name):
                asyncio.run(run(server))


if __name__ == "__main__":
    main()
