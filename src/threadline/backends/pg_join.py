"""Puts that are ready in the same turn of the event loop go to the server together: one round trip, one transaction.

Nobody is waited for: what is ready alone goes alone, as `pg_commit` says. Nor does a group wait for a row that another
transaction holds (SKIP LOCKED), so that a busy thread holds up nobody else's put and groups never wait for each other.
And nobody fails with another: what a group could not do, because a row was held, a head had moved or all was rolled
back, each put then does, or is refused, by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from threadline.backend import Batch, Commit
from threadline.backends.pg_commit import Commits, begins, is_asked_first, is_large, is_plain
from threadline.backends.pg_link import Connection, Link, is_told
from threadline.backends.pg_sql import Parts, Statement
from threadline.errors import UnavailableError

#: Most puts of a group: more would save little, and each waits for all. A large one would keep the others waiting.
MOST = 8


@dataclass(frozen=True, slots=True)
class _Put:
    """A put that is ready. `parts`: what its statement has to hold; `done`: its result, None when it has to be done
    alone."""

    batch: Batch
    parts: Parts
    deadline: float
    done: asyncio.Future[Commit | None] = field(default_factory=asyncio.Future)

    def settle(self, commit: Commit | None, error: BaseException | None = None) -> None:
        """Tell the caller, unless he was cancelled."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(commit)
        else:
            self.done.set_exception(error)


def is_joinable(batches: Sequence[Batch]) -> bool:
    """Whether this is one put on a thread that is there, and a small one."""
    (batch, *others) = batches
    if others or not is_plain(batch) or begins(batch) or is_large(batch):
        return False
    return not is_asked_first(batch)


class Joins:
    """The puts of one store that are ready, by event loop."""

    def __init__(self, link: Link, commits: Commits) -> None:
        self._link, self._commits = link, commits
        self._ready: dict[asyncio.AbstractEventLoop, list[_Put]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def commit(self, batch: Batch, deadline: float) -> Commit | None:
        """Commit it with the others that are ready now; None when nothing was written and it has to be committed
        alone. Raises UnavailableError when it may be committed."""
        loop, put = asyncio.get_running_loop(), _Put(batch, self._commits.parts(batch), deadline)
        ready = self._ready.get(loop)
        if ready is None:
            for gone in [each for each in self._ready if each.is_closed()]:
                del self._ready[gone]
            ready = self._ready[loop] = []
            loop.call_soon(self._send, loop)
        ready.append(put)
        return await put.done

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        ready = [put for put in self._ready.pop(loop) if not put.done.done()]
        for statement, group in self._groups(ready):
            task = loop.create_task(self._together(statement, group))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _groups(self, ready: Sequence[_Put]) -> Iterator[tuple[Statement, list[_Put]]]:
        """What goes together: puts of one statement, in groups of about one size. Threads and op_ids differ, since by
        these the answers are told apart."""
        alike: dict[Parts, list[_Put]] = {}
        seen: set[bytes] = set()
        for put in ready:
            names = {put.batch.key, put.batch.op_id}
            if names & seen:
                put.settle(None)
                continue
            seen |= names
            alike.setdefault(put.parts, []).append(put)
        for parts, puts in alike.items():
            if len(puts) == 1:
                puts[0].settle(None)
                continue
            count = -(-len(puts) // MOST)
            statement = self._commits.sql.put(parts, waits=False)
            for number in range(count):
                yield statement, puts[number::count]

    async def _together(self, statement: Statement, group: Sequence[_Put]) -> None:
        async def work(connection: Connection) -> Mapping[bytes, Commit]:
            rows = await connection.fetchmany(statement.text, arguments)
            done = {row["op_id"]: row for row in rows}
            commits = {}
            for put in group:
                if (row := done.get(put.batch.op_id)) is not None:
                    commits[put.batch.op_id] = commit = self._commits.told(put.batch, row)
                    await self._commits.trim(connection, put.batch, commit)
            return commits

        try:
            arguments = [self._commits.arguments(statement, put.batch) for put in group]
            commits = await self._link.run(work, min(put.deadline for put in group))
        except UnavailableError as error:
            for put in group:
                put.settle(None, None if is_told(error) else error)
        except Exception:  # noqa: BLE001 - all was rolled back: whose fault it was, each finds out alone
            for put in group:
                put.settle(None)
        else:
            for put in group:
                put.settle(commits.get(put.batch.op_id))
        finally:
            for put in group:
                put.done.cancel()  # Only where nothing was told: the loop is ending.
