"""The connections of one pool, lent to one call after the other.

A pool takes a connection back with a task of its own, three turns of the event loop, which cost as much as a small
statement. So where the pool is ours, a connection that a call is done with stays here for the next, and the pool has it
back when it was not needed for a while, when somebody waits for one, and now and then in between, since the pool closes
what has served its time.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg

Connection = Any  # asyncpg's, or a pool's proxy of one: the driver ships no types.

#: Seconds in which a connection that is here must be needed, and after how many calls one goes back anyway.
IDLE_SECONDS, CALLS = 5.0, 256


class Lender:
    """See the module. pool: asyncpg's, used on its own loop. keeps: whether connections stay here between calls."""

    def __init__(self, pool: Any, *, keeps: bool) -> None:
        self.pool, self._keeps = pool, keeps
        self._free: list[Connection] = []
        self._fewest = self._waiting = self._calls = 0
        self._sweeps: asyncio.TimerHandle | None = None
        self._going: set[asyncio.Future[Any]] = set()

    def spare(self) -> Connection | None:
        """A connection that is here; None: `wait` for one."""
        while self._free:
            connection = self._free.pop()
            self._fewest = min(self._fewest, len(self._free))
            if _lives(connection):
                return connection
            self._send_back(connection)
        return None

    async def wait(self) -> Connection:
        """A connection of the pool."""
        self._waiting += 1
        try:
            return await self.pool.acquire()
        finally:
            self._waiting -= 1

    async def back(self, connection: Connection) -> None:
        """A call is done with it."""
        self._calls += 1
        if self._keeps and not self._waiting and self._calls % CALLS and _lives(connection):
            self._free.append(connection)
            if self._sweeps is None:
                self._fewest = 0
                self._sweeps = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.sweep)
        else:
            await self._give_back(connection)

    def sweep(self) -> None:
        """Let the pool have what was not needed since the last time."""
        idle, self._free = self._free[: self._fewest], self._free[self._fewest :]
        for connection in idle:
            self._send_back(connection)
        self._fewest = len(self._free)
        self._sweeps = None
        if self._free:
            self._sweeps = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.sweep)

    async def close(self) -> None:
        """Close the pool, when the calls that run are done."""
        self._keeps = False
        if self._sweeps is not None:
            self._sweeps.cancel()
        free, self._free = self._free, []
        for connection in free:
            await self._give_back(connection)
        await self.pool.close()

    def terminate(self) -> None:
        """Close the pool without waiting."""
        self._keeps, self._free = False, []
        self.pool.terminate()

    async def _give_back(self, connection: Connection) -> None:
        # One that dies between the pool's look at it and the pool's task for it is free already when the task begins.
        with contextlib.suppress(asyncpg.InternalClientError):
            await self.pool.release(connection)

    def _send_back(self, connection: Connection) -> None:
        going = asyncio.ensure_future(self._give_back(connection))
        self._going.add(going)
        going.add_done_callback(self._going.discard)


def _lives(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # The pool has it back: it was closed.
        return False
