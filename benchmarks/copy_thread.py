"""`copy_thread` of LangGraph threads of 10, 100 and 400 turns, on an SQLite file and on PostgreSQL with fsync.

`python benchmarks/copy_thread.py [--index]`. A turn is 500 random letters and digits from the user, as many from the
agent, and three checkpoints. Times are the best of five copies: of the program's processor, and by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import string
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from threadline import BaseCheckpointer, PgCheckpointer, SqliteCheckpointer
from threadline.adapters.langgraph import ThreadlineSaver
from threadline.testing.servers import postgres

TURNS, COPIES = (10, 100, 400), 5


class State(TypedDict):
    """What the graph works on."""

    messages: Annotated[list[Any], add_messages]


def graph_of(saver: ThreadlineSaver, text: Any) -> Any:
    """A graph of one node."""
    builder = StateGraph(State)
    builder.add_node("agent", lambda state: {"messages": [("ai", text())]})
    builder.add_edge(START, "agent")
    builder.add_edge("agent", END)
    return builder.compile(checkpointer=saver)


async def measure(name: str, checkpointer: BaseCheckpointer, index: str | None) -> None:
    """Grow a thread, and copy it at each length."""
    dice = random.Random(1)

    def text() -> str:
        return "".join(dice.choices(string.ascii_letters + string.digits, k=500))

    saver, done = ThreadlineSaver(checkpointer, index=index), 0
    graph = graph_of(saver, text)
    for turns in TURNS:
        for _ in range(turns - done):
            config: Any = {"configurable": {"thread_id": "t"}}
            await graph.ainvoke({"messages": [("user", text())]}, config)
        done, times = turns, []
        for number in range(COPIES):
            cpu, wall = time.process_time(), time.perf_counter()
            await saver.acopy_thread("t", f"copy {turns} {number}")
            times.append((time.process_time() - cpu, time.perf_counter() - wall))
        config = {"app": saver.app, "thread_id": f"copy {turns} 0"}
        report = await checkpointer.averify(config)
        cpu, wall = (min(each) * 1000 for each in zip(*times, strict=True))
        print(
            f"{name:8} {turns:4} turns, {report.checkpoints:5,} checkpoints: "
            f"{cpu:7.1f} ms CPU {wall:7.1f} ms  {'sound' if report.ok else report.problems}",
            flush=True,
        )


async def main() -> None:
    """Both stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", action="store_const", const="messages", default=None)
    index = parser.parse_args().index
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteCheckpointer(Path(folder) / "memory.db") as checkpointer:
            await measure("SQLite", checkpointer, index)
    with postgres(fsync=True) as server:
        async with PgCheckpointer(server.dsn) as checkpointer:
            await measure("Postgres", checkpointer, index)


if __name__ == "__main__":
    asyncio.run(main())
