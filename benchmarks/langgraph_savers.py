"""LangGraph's savers beside ours, in one run: bytes and times of a growing conversation, and puts per second.

A real graph (START, agent, END: three checkpoints a turn) is told 500 random letters and digits a turn and answers
with as many. `python benchmarks/langgraph_savers.py --help`; default: 10, 100 and 400 turns, a minute or five.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import statistics
import string
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import asyncpg
from _harness import LIMIT, slow_network, zstd_size
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from threadline import PgCheckpointer, SqliteCheckpointer
from threadline.adapters.langgraph import ThreadlineSaver
from threadline.testing.servers import postgres

HALF = 500
CONFIG: Any = {"configurable": {"thread_id": "1"}}
LETTERS = string.ascii_letters + string.digits

Opened = tuple[Any, Callable[[], Any]]


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


def says(source: random.Random) -> str:
    """A text that compresses badly."""
    return "".join(source.choices(LETTERS, k=HALF))


# The savers, each with what tells the bytes of its store ------------------------------------------------------


@asynccontextmanager
async def ours_on_sqlite(folder: Path, _: str) -> AsyncIterator[Opened]:
    """A file."""
    path = folder / "ours.db"
    async with SqliteCheckpointer(path) as checkpointer:
        yield ThreadlineSaver(checkpointer), lambda: file_bytes(path)


@asynccontextmanager
async def theirs_on_sqlite(folder: Path, _: str) -> AsyncIterator[Opened]:
    """A file."""
    path = folder / "theirs.db"
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        yield saver, lambda: file_bytes(path)


@asynccontextmanager
async def ours_on_postgres(_: Path, dsn: str) -> AsyncIterator[Opened]:
    """A database."""
    async with PgCheckpointer(dsn) as checkpointer:
        yield ThreadlineSaver(checkpointer), lambda: table_bytes(dsn)


@asynccontextmanager
async def theirs_on_postgres(_: Path, dsn: str) -> AsyncIterator[Opened]:
    """A database."""
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        await saver.setup()
        saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        yield saver, lambda: table_bytes(dsn)


SAVERS: dict[str, Callable[[Path, str], AbstractAsyncContextManager[Opened]]] = {
    "ThreadlineSaver, SQLite": ours_on_sqlite,
    "AsyncSqliteSaver": theirs_on_sqlite,
    "ThreadlineSaver, PostgreSQL": ours_on_postgres,
    "AsyncPostgresSaver": theirs_on_postgres,
}


async def file_bytes(path: Path) -> int:
    """The file, once what stands in its write-ahead log is in it."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    connection.close()
    return path.stat().st_size


async def table_bytes(dsn: str) -> int:
    """Every table with its indexes, after an ordinary VACUUM."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("VACUUM")
        return int(
            await connection.fetchval(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
            )
        )
    finally:
        await connection.close()


# A growing conversation ---------------------------------------------------------------------------------------


async def conversation(opened: Opened, turns: int) -> dict[str, Any] | None:
    """The figures of one saver; None when it had not the time."""
    saver, measure = opened
    source, said = random.Random(1), list[str]()

    def more() -> str:
        said.append(says(source))
        return said[-1]

    builder = StateGraph(State)
    builder.add_node("agent", lambda _: {"messages": [AIMessage(more())]})
    builder.add_edge(START, "agent")
    builder.add_edge("agent", END)
    puts: list[float] = []
    put = saver.aput

    async def timed(*parts: Any) -> Any:
        begun = time.perf_counter()
        told = await put(*parts)
        puts.append(time.perf_counter() - begun)
        return told

    saver.aput = timed
    graph = builder.compile(checkpointer=saver)
    runs: list[float] = []
    for turn in range(turns):
        if LIMIT.over:
            LIMIT.cut(f"{turns} turns of {type(saver).__name__}: it had come to turn {turn}")
            return None
        begun = time.process_time()
        await graph.ainvoke({"messages": [HumanMessage(more())]}, CONFIG)
        runs.append(time.process_time() - begun)
    state = await graph.aget_state(CONFIG)
    assert len(state.values["messages"]) == 2 * turns
    gets = [await spent(saver.aget_tuple(CONFIG)) for _ in range(9)]
    listed = [await spent(history(graph)) for _ in range(5)]
    size = await measure()
    few = max(3, min(len(puts) // 4, 60))
    return {
        "bytes": size,
        "x_text": round(size / (turns * 2 * HALF), 2),
        "x_zstd": round(zstd_size(said) / (turns * 2 * HALF), 2),
        "put_first_ms": ms(puts[3 : 3 + few]),
        "put_last_ms": ms(puts[-few:]),
        "get_ms": ms([wall for wall, _ in gets]),
        "history_20_ms": ms([wall for wall, _ in listed]),
        "turn_cpu_ms": ms(runs[-max(3, turns // 4) :]),
        "get_cpu_ms": ms([cpu for _, cpu in gets]),
        "history_20_cpu_ms": ms([cpu for _, cpu in listed]),
    }


async def history(graph: Any) -> None:
    """Twenty steps of it."""
    assert [each async for each in graph.aget_state_history(CONFIG, limit=20)]


async def spent(work: Any) -> tuple[float, float]:
    """How long something takes, and how much of it this process works, in seconds."""
    begun, worked = time.perf_counter(), time.process_time()
    await work
    return time.perf_counter() - begun, time.process_time() - worked


def ms(times: list[float]) -> float:
    """The median in milliseconds."""
    return round(statistics.median(times) * 1000, 2)


# Puts per second behind a slow network --------------------------------------------------------------------------


def puts_per_second(saver: Any, count: int) -> float:
    """Sixteen workers put small checkpoints, one behind the other, each into a thread of its own."""

    def some(worker: int, first: int, last: int) -> None:
        for number in range(first, last):
            checkpoint = {
                "v": 4,
                "id": f"1f000000-0000-6000-8000-{number:012x}",
                "ts": "2026-01-01T00:00:00+00:00",
                "channel_values": {"a": [number]},
                "channel_versions": {"a": number},
                "versions_seen": {},
                "updated_channels": None,
            }
            where = {"thread_id": f"t{worker}", "checkpoint_ns": ""}
            if number > 1:
                where["checkpoint_id"] = f"1f000000-0000-6000-8000-{number - 1:012x}"
            about = {"source": "loop", "step": number, "parents": {}}
            saver.put({"configurable": where}, checkpoint, about, {"a": number})

    each = count // 16
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(some, range(16), [1] * 16, [5] * 16))
        begun = time.perf_counter()
        list(pool.map(some, range(16), [5] * 16, [5 + each] * 16))
        return 16 * each / (time.perf_counter() - begun)


def behind_a_network(dsn: Callable[[], str], count: int) -> dict[str, float]:
    """Both savers with 16 connections, 3 ms on the way to the server."""
    found: dict[str, float] = {}
    ours, theirs = dsn(), dsn()
    with slow_network(ours, 0.003) as slow, PgCheckpointer(slow) as checkpointer:
        checkpointer.setup()
        found["ThreadlineSaver, PostgreSQL"] = puts_per_second(ThreadlineSaver(checkpointer), count)
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with (
        slow_network(theirs, 0.003) as slow,
        ConnectionPool(slow, min_size=16, max_size=16, kwargs=settings) as pool,
    ):
        saver = PostgresSaver(pool)  # type: ignore[arg-type]
        saver.setup()
        found["PostgresSaver, pool of 16"] = puts_per_second(saver, max(64, count // 8))
    return {name: round(rate) for name, rate in found.items()}


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, nargs="*", default=[10, 100, 400])
    parser.add_argument("--only", help="savers whose name holds this word")
    parser.add_argument("--puts", type=int, default=4000, help="0: no puts per second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="into this file too")
    parser.add_argument("--minutes", type=float, help="for all of it; what has to be cut is said")
    options = parser.parse_args()
    report: dict[str, Any] = {}
    failed: dict[str, str] = {}
    LIMIT.minutes(options.minutes)

    def tell(name: str, work: Callable[[], Any], share: float) -> None:
        LIMIT.part(share)
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - named; the others go on
            traceback.print_exc()
            failed[name], found = f"{type(error).__name__}: {error}"[:300], None
        if found is not None:
            report[name] = found
            print(f"{name:40}  {json.dumps(found)}", flush=True)
        if options.json:
            told = report | {"failed": failed, "cuts": LIMIT.cuts}
            options.json.write_text(json.dumps(told), "utf-8")

    with postgres(fsync=True) as server:
        if options.puts:
            rates = "puts per second, 16 threads, 3 ms"
            tell(rates, lambda: behind_a_network(server.database, options.puts), 0.15)
        chosen = [name for name in SAVERS if (options.only or "") in name]
        left = sum(options.turns) * len(chosen)
        for turns in sorted(options.turns):
            for name in chosen:
                tell(
                    f"{turns} turns, {name}",
                    lambda turns=turns, name=name: play(SAVERS[name], server.database(), turns),
                    turns / left,
                )
                left -= turns
    raise SystemExit(bool(failed))


def play(opener: Any, dsn: str, turns: int) -> dict[str, Any] | None:
    """One saver in a place of its own."""

    async def run(folder: str) -> dict[str, Any] | None:
        async with opener(Path(folder), dsn) as opened:
            return await conversation(opened, turns)

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(folder))


if __name__ == "__main__":
    os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
    main()
