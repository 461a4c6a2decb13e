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
    """Bytes of each table, its indexes and out-of-line values included."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'threadline%'"
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
    for name, size in sorted(after.items(), key=lambda each: -each[1])[:6]:
        print(f"    {name:<14} {size / 1e6:8.2f} MB")


async def run_threads(server: Postgres) -> None:
    """Many conversations: 10 turns of 2 messages of 300 characters, a state with its messages put in each."""
    for logged in (True, False):
        dsn, dice, count, written = server.database(), random.Random(1), 2000, 0
        async with PgCheckpointer(dsn) as memory:

            async def converse(
                number: int, memory: PgCheckpointer = memory, logged: bool = logged
            ) -> int:
                config = {"thread_id": f"thread-{number}", "user_id": f"user-{number % 200}"}
                state, size = AgentState(), 0
                for _ in range(10):
                    said = [
                        Message.text_message(text(dice, 300), role)
                        for role in ("user", "assistant")
                    ]
                    state.context += said
                    size += 600
                    await memory.aput_state(config, state, messages=said if logged else [])
                return size

            gate = asyncio.Semaphore(8)

            async def one(number: int, gate: asyncio.Semaphore = gate) -> int:
                async with gate:
                    return await converse(number)

            written = sum(await asyncio.gather(*(one(number) for number in range(count))))
        print(f"threads, {'states and the message log' if logged else 'states only'}:")
        await told(dsn, written, count)
        server.drop_database(dsn)


async def run_turns(server: Postgres) -> None:
    """One long conversation: 1,000 turns of 2 messages of 300 characters."""
    dsn, dice = server.database(), random.Random(2)
    async with PgCheckpointer(dsn) as memory:
        state = AgentState()
        for _ in range(1000):
            said = [Message.text_message(text(dice, 300), role) for role in ("user", "assistant")]
            state.context += said
            await memory.aput_state({"thread_id": "t"}, state, messages=said)
    print("turns, one thread of 1,000 checkpoints, with the message log:")
    await told(dsn, 600_000, 1)
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
