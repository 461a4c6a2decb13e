"""A run of five nodes with tools, which dies at a chosen point; started anew for each point by forking.

Reads lines "STORE THREAD FILE LEASE POINT" (lease "-": none; point 0: does not die), runs each in a process of its own,
and answers with its exit code. A point is the moment before or after a primitive of the store, or before or after what
a tool does. FILE gets a line for each effect of a tool.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from threadline import AgentState, BaseCheckpointer, Message, Session, SqliteCheckpointer

PRIMITIVES = ("commit", "read_head", "read_rows", "read_checkpoints", "read_slots", "read_entries")


def config_of(thread_id: str) -> dict[str, Any]:
    """Where a run is."""
    return {"thread_id": thread_id, "user_id": "alice", "run_id": "run-1"}


def open_store(store: str) -> BaseCheckpointer:
    """The checkpointer of a store: a path, or the address of a PostgreSQL database."""
    if store.startswith("postgres"):
        from threadline import PgCheckpointer

        return PgCheckpointer(postgres_dsn=store)
    return SqliteCheckpointer(store)


class Points:
    """Counts the points that a run passes, and kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self._last, self._passed = last, itertools.count(1)

    def passed(self) -> None:
        if next(self._passed) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.passed()
            result = await method(*args, **kwargs)
            self.passed()
            return result

        return call


def nodes(points: Points, effects: Path) -> list[tuple[str, Callable[..., Any]]]:
    """Five nodes. Each calls two tools, one twice with the same arguments; each effect is a line in a file."""

    def tool(node: int, number: int) -> int:
        points.passed()
        handle = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{node}.{number}\n".encode())
        os.close(handle)
        points.passed()
        return 10 * node + number

    def node(number: int) -> Callable[..., Any]:
        async def work(state: AgentState, session: Session) -> Message:
            results = [await session.tool(tool, number, each) for each in (1, 2)]
            return Message.text_message(f"{number}: {results}", role="assistant")

        return work

    return [(f"node{number}", node(number)) for number in range(1, 6)]


async def run(store: str, thread_id: str, effects: Path, lease: str, last: int) -> None:
    """The whole program of a user."""
    points = Points(last)
    settings: dict[str, Any] = {} if lease == "-" else {"lease": lease, "ttl": 1.0}
    checkpointer = open_store(store)
    await checkpointer.asetup()
    backend = checkpointer._engine.backend
    for name in PRIMITIVES:
        setattr(backend, name, points.around(getattr(backend, name)))
    async with checkpointer, checkpointer.session(config_of(thread_id), **settings) as session:
        await session.run_all(nodes(points, effects))


def main() -> None:
    """Read lines, run, answer."""
    for line in sys.stdin:
        store, thread_id, effects, lease, last = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(run(store, thread_id, Path(effects), lease, int(last)))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
