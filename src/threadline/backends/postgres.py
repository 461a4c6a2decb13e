"""The PostgreSQL backend: any number of processes and machines on one database, PostgreSQL 15 and newer.

Read `pg_sql` first (the statements), then `pg_commit` (one batch, one statement), `pg_join` (puts that go together),
`pg_steps` (the transaction) and `pg_read`; `pg_link` has the connections. Here the port is put together, with the
deadline of every call and what is done when an answer is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from threadline import clock
from threadline.backend import (
    At,
    Backend,
    Batch,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Commit,
    Entry,
    EntryQuery,
    Head,
    Known,
    Range,
    Row,
    Slot,
    SlotQuery,
    StoreInfo,
    Summary,
    ThreadQuery,
    ThreadRow,
)
from threadline.backends import pg_migrate, pg_steps
from threadline.backends.pg_address import Dsn
from threadline.backends.pg_commit import Commits, NeedsSteps, is_plain
from threadline.backends.pg_join import Joins, is_joinable
from threadline.backends.pg_link import Connection, Link, LostError, is_told
from threadline.backends.pg_read import Reader
from threadline.backends.pg_sql import Sql, UserIds
from threadline.errors import DeadlineError, OutcomeUnknownError, ReleasedError, UnavailableError
from threadline.history.freeing import Stock
from threadline.history.row import RowSize

T = TypeVar("T")

#: (kind, payload, key_id) -> the words of an entry, None for one that is not searched.
Projection = Callable[[str, bytes, int], str | None]
#: Seconds between attempts after an answer was lost, doubling up to the second.
_PAUSE, _LONGEST_PAUSE = 0.01, 0.25


class PostgresBackend(Backend):
    """A store in one schema of a PostgreSQL database.

    dsn: a DSN, None for DATABASE_URL or the PG* variables, which are read when the first connection is made. pool: a
    caller's asyncpg pool, instead. config: for our own pools, see `asyncpg.create_pool`. schema: made when missing.
    user_ids: the type of the column of user ids. partitions: hash partitions of each table, 0 for plain tables; None:
    as the store is, plain when it is new. create: False opens only a store that is there and up to date. timeout:
    seconds that a call may take. relaxed: a commit returns before it is on the server's disk. close_pool: `close`
    closes a caller's pool too. projection: makes the words of an entry from its payload, see `Entry.derived`.

    Attributes: `now_us`, the clock of the store in microseconds; None, the default, is the server's.
    """

    name: ClassVar[str] = "postgres"
    suspends: ClassVar[bool] = True
    # Compressed, a row fits beside others on a page: it is rewritten there, and not out of line (TOAST).
    row_size: ClassVar[RowSize] = RowSize(plain=4 * 1024, stored=900)

    def __init__(
        self,
        dsn: str | None = None,
        *,
        pool: Any | None = None,
        config: Mapping[str, Any] | None = None,
        schema: str = "public",
        user_ids: UserIds = "string",
        partitions: int | None = None,
        create: bool = True,
        timeout: float = 10.0,
        relaxed: bool = False,
        close_pool: bool = False,
        projection: Projection | None = None,
    ) -> None:
        self._sql = Sql(schema, user_ids)
        self._link = Link(Dsn(dsn), pool, config)
        self._commits = Commits(
            self._sql,
            projected=projection is not None,
            relaxed=relaxed,
            now=lambda: self.now_us() if self.now_us else None,
        )
        self._joins = Joins(self._link, self._commits)
        self.now_us: Callable[[], int] | None = None
        self._partitions = pg_migrate.checked_partitions(partitions)
        self._timeout, self._close_pool = timeout, close_pool
        self._create, self._closed = create, False

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """That of a caller's pool."""
        return self._link.loop

    async def open(self) -> StoreInfo:
        async def work(connection: Connection) -> Mapping[str, bytes]:
            return await pg_migrate.open_store(
                connection, self._sql, self._partitions, create=self._create
            )

        facts = await self._call(work)
        told = {"schema": self._sql.schema, "partitions": int(facts["partitions"]), "durable": True}
        return StoreInfo(facts["salt"], told)

    async def pending_sql(self) -> str:
        """What is still to be applied to the store, see `pg_migrate.pending_script`; nothing is changed."""
        return await self._call(
            lambda connection: pg_migrate.pending_script(connection, self._sql, self._partitions)
        )

    async def close(self) -> None:
        self._closed = True
        await self._link.close(given=self._close_pool)

    # Writing ------------------------------------------------------------------------------------------------

    async def commit(self, batches: Sequence[Batch]) -> list[Commit]:
        if not batches:
            return []
        sent = unknown = False
        joins = is_joinable(batches)

        async def work(connection: Connection) -> list[Commit]:
            nonlocal sent
            sent = True
            if len(batches) == 1 and is_plain(batches[0]):
                try:
                    return [await self._commits.commit(connection, batches[0])]
                except NeedsSteps:
                    pass
            return await pg_steps.commit_all(self._commits, connection, batches)

        deadline, pause = clock.monotonic() + self._timeout, _PAUSE
        while True:
            try:
                if joins:
                    joins, sent = False, True
                    commit = await self._joins.commit(batches[0], deadline)
                    if commit is not None:
                        return [commit]
                    sent = False
                return await self._call(work, deadline)
            except UnavailableError as error:
                # What was sent and got no answer may be committed: only the same op_id can tell, on another connection.
                unknown |= sent and not is_told(error)
                over = isinstance(error, DeadlineError) or clock.monotonic() + pause >= deadline
                if over or not (unknown or isinstance(error, LostError)):
                    if not unknown:
                        raise
                    raise OutcomeUnknownError(
                        f"PostgreSQL did not say whether it committed ({error}); repeat the call with the same op_id",
                        op_id=batches[0].op_id.hex(),
                    ) from None
            sent = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    # Reading ------------------------------------------------------------------------------------------------

    async def read_head(
        self,
        key: bytes,
        ns: bytes,
        user: str | None,
        *,
        at: At | None = None,
        known: Known | None = None,
        content: bool = True,
    ) -> Head:
        return await self._read(lambda r: r.head(r.place(key, ns, user), at, known, content))

    async def read_rows(
        self, key: bytes, ns: bytes, user: str | None, ranges: Sequence[Range]
    ) -> list[Row]:
        return await self._read(lambda r: r.rows(r.place(key, ns, user), ranges))

    async def read_blobs(
        self, key: bytes, ns: bytes, user: str | None, ids: Sequence[bytes]
    ) -> list[Blob]:
        return await self._read(lambda r: r.blobs(r.place(key, ns, user), ids))

    async def read_checkpoints(
        self, key: bytes, ns: bytes, user: str | None, query: CheckpointQuery
    ) -> list[CheckpointRow]:
        return await self._read(lambda r: r.checkpoints(r.place(key, ns, user), query))

    async def read_entries(
        self, key: bytes, ns: bytes, user: str | None, query: EntryQuery
    ) -> list[Entry]:
        return await self._read(lambda r: r.entries(r.place(key, ns, user), query))

    async def search(
        self, threads: ThreadQuery, words: Sequence[str], *, before: int | None, limit: int
    ) -> list[tuple[int, ThreadRow, Entry]]:
        return await self._read(lambda r: r.search(threads, words, before, limit))

    async def read_slots(
        self, key: bytes, ns: bytes, user: str | None, query: SlotQuery
    ) -> list[Slot]:
        return await self._read(lambda r: r.slots(r.place(key, ns, user), query))

    async def read_threads(self, query: ThreadQuery) -> list[ThreadRow]:
        return await self._read(lambda r: r.threads(query))

    async def read_namespaces(self, key: bytes, user: str | None) -> list[str]:
        return await self._read(lambda r: r.namespaces(r.place(key, b"", user)))

    async def read_stock(self, key: bytes, ns: bytes, user: str | None) -> Stock:
        return await self._read(lambda r: r.stock(r.place(key, ns, user)))

    async def measure(self, keys: Sequence[bytes] | None) -> list[dict[str, int]]:
        return await self._read(lambda r: r.measure(keys))

    async def summarize(self, query: ThreadQuery, key: bytes | None = None) -> Summary:
        return await self._read(lambda r: r.summarize(query, key))

    async def _read(self, read: Callable[[Reader], Awaitable[T]]) -> T:
        async def work(connection: Connection) -> T:
            return await read(Reader(self._sql, connection, self._commits.now()))

        deadline = clock.monotonic() + self._timeout
        try:
            return await self._call(work, deadline)
        except LostError:
            # A connection that died in the pool is found out by its next use; another one may be whole.
            return await self._call(work, deadline)

    async def _call(
        self, work: Callable[[Connection], Awaitable[T]], deadline: float | None = None
    ) -> T:
        if self._closed:
            raise ReleasedError()
        return await self._link.run(work, deadline or clock.monotonic() + self._timeout)
