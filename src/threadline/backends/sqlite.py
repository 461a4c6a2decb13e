"""The SQLite backend: one file, any number of threads and processes, nothing to install.

Read `sqlite_file` first (the file, its guard), then `sqlite_writer` (group commit) and `sqlite_commit` (one batch);
here the port is put together. Writes go to one thread; reads run in the caller's thread when it is a sync one, else
in a few threads of this object, each on a connection of its own. After a fork the child opens its own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeVar

from threadline import clock, inline
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
from threadline.backends import sqlite_counts, sqlite_file, sqlite_read, sqlite_scrub
from threadline.backends.sqlite_core import Core, Options
from threadline.backends.sqlite_entries import Projection
from threadline.backends.sqlite_writer import Writer
from threadline.errors import DeadlineError, OutcomeUnknownError, ReleasedError, ThreadlineError
from threadline.history.freeing import Stock

T = TypeVar("T")

#: The size of the WAL from which on the writer checkpoints, in bytes.
CHECKPOINT_BYTES = 4 * 1024 * 1024


class SqliteBackend(Backend):
    """A store in one file.

    path: created with its directory when missing, readable by its owner only. synchronous: "FULL" keeps every commit
    through a power cut, "NORMAL" may lose the last ones then (never in a crash of the process). timeout: seconds that
    a call may take. projection: makes the words of an entry from its payload, see `Entry.derived`. now_us: the
    clock of the store, in microseconds. checkpoint_bytes: the WAL is moved into the file when it is larger.
    Raises ValueError for a path that is no file (":memory:").
    """

    name: ClassVar[str] = "sqlite"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 10.0,
        projection: Projection | None = None,
        now_us: Callable[[], int] = clock.now_us,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f'synchronous is "FULL" or "NORMAL", not {synchronous!r}')
        path = sqlite_file.checked_path(path)
        self._options = Options(path, synchronous, timeout, projection, now_us, checkpoint_bytes)
        self._door = threading.Lock()
        self._core: Core | None = None
        self._closed = False
        _backends.add(self)

    async def open(self) -> StoreInfo:
        core = self._here()
        if core.info is not None:
            return core.info
        return await inline.offload(core.executor, core.open)

    async def close(self) -> None:
        self._closed = True
        with self._door:
            core, self._core = self._core, None
        if core is not None and core.pid == os.getpid():
            await inline.offload(core.executor, core.close)

    # Writing ------------------------------------------------------------------------------------------------

    async def commit(self, batches: Sequence[Batch]) -> list[Commit]:
        if not batches:
            return []
        writer = await self._writer()
        future = writer.submit(tuple(batches))
        try:
            return await inline.wait(future, self._options.timeout)
        except TimeoutError as error:
            if isinstance(error, ThreadlineError):
                raise
            if future.cancel():
                raise DeadlineError(
                    "another writer held the store until the deadline; nothing was written"
                ) from None
            if future.done():
                return future.result()
            raise OutcomeUnknownError(op_id=batches[0].op_id.hex()) from None
        except asyncio.CancelledError:
            future.cancel()
            raise

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
        place = sqlite_read.where(key, ns, user)
        return await self._read(lambda db: sqlite_read.head(db, place, at, known, content))

    async def read_rows(
        self, key: bytes, ns: bytes, user: str | None, ranges: Sequence[Range]
    ) -> list[Row]:
        place = sqlite_read.where(key, ns, user)
        return await self._read(lambda db: sqlite_read.rows(db, place, ranges))

    async def read_blobs(
        self, key: bytes, ns: bytes, user: str | None, ids: Sequence[bytes]
    ) -> list[Blob]:
        place = sqlite_read.where(key, ns, user)
        return await self._read(lambda db: sqlite_read.blobs(db, place, ids))

    async def read_checkpoints(
        self, key: bytes, ns: bytes, user: str | None, query: CheckpointQuery
    ) -> list[CheckpointRow]:
        place = sqlite_read.where(key, ns, user)
        return await self._read(lambda db: sqlite_read.checkpoints(db, place, query))

    async def read_entries(
        self, key: bytes, ns: bytes, user: str | None, query: EntryQuery
    ) -> list[Entry]:
        place = sqlite_read.where(key, ns, user)
        return await self._read(
            lambda db: sqlite_read.entries(db, place, query, self._here().words)
        )

    async def search(
        self, threads: ThreadQuery, words: Sequence[str], *, before: int | None, limit: int
    ) -> list[tuple[int, ThreadRow, Entry]]:
        return await self._read(
            lambda db: sqlite_read.search(db, threads, words, before, limit, self._here().words)
        )

    async def read_slots(
        self, key: bytes, ns: bytes, user: str | None, query: SlotQuery
    ) -> list[Slot]:
        place = sqlite_read.where(key, ns, user)
        now = self._options.now_us()
        return await self._read(lambda db: sqlite_read.slots(db, place, query, now))

    async def read_threads(self, query: ThreadQuery) -> list[ThreadRow]:
        return await self._read(lambda db: sqlite_read.threads(db, query))

    async def read_namespaces(self, key: bytes, user: str | None) -> list[str]:
        return await self._read(lambda db: sqlite_read.namespaces(db, key, user))

    async def read_stock(self, key: bytes, ns: bytes, user: str | None) -> Stock:
        place = sqlite_read.where(key, ns, user)
        return await self._read(lambda db: sqlite_read.stock(db, place))

    async def scrub(self) -> bool:
        """See `checkpointer.engine.Scrubbed`."""
        core = self._here()
        if core.info is None:
            await self.open()
        options = self._options
        return await inline.offload(
            core.executor,
            lambda: sqlite_scrub.scrub(
                options.path, options.synchronous, core.indexed, options.timeout
            ),
        )

    async def measure(self, keys: Sequence[bytes] | None) -> list[dict[str, int]]:
        sizes = await self._read(lambda db: sqlite_read.measure(db, keys))
        if keys is None:
            sizes[0]["store_bytes"] = sqlite_file.store_bytes(self._options.path)
        return sizes

    async def summarize(self, query: ThreadQuery, key: bytes | None = None) -> Summary:
        return await self._read(lambda db: sqlite_counts.summarize(db, query, key))

    # What belongs to this process ---------------------------------------------------------------------------

    def _here(self) -> Core:
        """The core of this process. Raises ReleasedError."""
        if self._closed:
            raise ReleasedError()
        core = self._core
        if core is not None and core.pid == os.getpid():
            return core
        with self._door:
            if self._core is None or self._core.pid != os.getpid():
                self._core = Core(self._options)
            return self._core

    async def _writer(self) -> Writer:
        core = self._here()
        if core.writer is None:
            await self.open()
        if core.writer is None:
            raise ReleasedError()
        return core.writer

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        core = self._here()
        if core.info is None:
            await self.open()
        timeout = self._options.timeout
        deadline = clock.monotonic() + timeout
        if inline.is_inline():
            return core.read(work, deadline)
        try:
            return await inline.offload(core.executor, lambda: core.read(work, deadline), timeout)
        except TimeoutError as error:
            if isinstance(error, ThreadlineError):
                raise
            raise DeadlineError("the store did not answer before the deadline") from None
        except RuntimeError as error:
            # Closed between the look at the core and its executor.
            if self._closed and not isinstance(error, ThreadlineError):
                raise ReleasedError() from None
            raise

    def after_fork(self) -> None:
        """In a forked child: leave the parent's connections and thread alone, for good."""
        self._door = threading.Lock()
        if self._core is not None:
            _inherited.append(self._core)
            self._core = None


_backends: weakref.WeakSet[SqliteBackend] = weakref.WeakSet()
#: What a child inherited and must neither use nor close.
_inherited: list[Core] = []


def _after_fork() -> None:
    for backend in list(_backends):
        backend.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
