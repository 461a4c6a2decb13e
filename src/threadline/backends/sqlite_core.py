"""What one process holds of a SQLite store: the lock, the writer, the pool of readers. A forked child makes its own."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from threadline import clock
from threadline.backend import StoreInfo
from threadline.backends import migrate, sqlite_file
from threadline.backends.sqlite_entries import Projection, Words
from threadline.backends.sqlite_file import SQL, FileLock, driver_errors
from threadline.backends.sqlite_gate import GATE
from threadline.backends.sqlite_writer import Writer
from threadline.errors import DeadlineError, ReleasedError, SchemaError

T = TypeVar("T")

#: Threads for async readers, and readers that are kept open.
THREADS: Final = 4
_KEPT = 8
#: After so many steps of SQLite's machine a read looks at its deadline.
_STEPS = 50_000


@dataclass(frozen=True, slots=True)
class Options:
    """What a backend was made with; see `SqliteBackend`."""

    path: str
    synchronous: str
    timeout: float
    projection: Projection | None
    now_us: Callable[[], int]
    checkpoint_bytes: int


class _Reader:
    """A connection that stops at its deadline (seconds, monotonic)."""

    def __init__(self, options: Options) -> None:
        self.deadline = 0.0
        self.db = sqlite_file.connect(options.path, options.synchronous, reader=True)
        self.db.set_progress_handler(lambda: clock.monotonic() > self.deadline, _STEPS)


class Core:
    """Opened once; then `writer` and `read` are there until `close`."""

    def __init__(self, options: Options) -> None:
        self.pid = os.getpid()
        self.executor = ThreadPoolExecutor(THREADS, "threadline-sqlite-read")
        self.writer: Writer | None = None
        self.info: StoreInfo | None = None
        self.indexed = False
        self._options = options
        self._lock = FileLock(options.path + "-lock")
        self._door = threading.Lock()
        self._free: list[_Reader] = []
        self._borrowed = 0
        self._back = threading.Condition()
        self._closed = False

    def open(self) -> StoreInfo:
        """Make the file ready and start the writer; again: say the same. Raises SchemaError, UnavailableError."""
        with self._door:
            if self._closed:
                raise ReleasedError()
            if self.info is None:
                with driver_errors(self._options.path):
                    self.info = self._open()
            return self.info

    def _open(self) -> StoreInfo:
        options = self._options
        sqlite_file.make_file(options.path)
        try:
            self._lock.acquire_until(clock.monotonic() + options.timeout)
        except DeadlineError:
            raise
        except OSError as error:
            raise sqlite_file.unavailable(self._lock.path, error) from error
        db = None
        try:
            db = sqlite_file.connect(options.path, options.synchronous)
            mode = sqlite_file.claim(db, options.path)
            version = migrate.migrate(db, migrate.read(), options.now_us)
            db.execute(SQL["add_fact"], {"key": "salt", "value": clock.random_bytes(16)})
            (salt,) = db.execute(SQL["read_fact"], {"key": "salt"}).fetchone()
            self.indexed = _has_words(db)
        except BaseException:
            if db is not None:
                db.close()
            raise
        finally:
            self._lock.release()
        self.writer = Writer(
            options.path, db, self._lock, self.words, options.now_us, options.checkpoint_bytes
        )
        facts: dict[str, object] = {
            "durable": options.synchronous == "FULL",
            "schema": version,
            "sqlite_version": sqlite3.sqlite_version,
            "journal_mode": mode,
            "synchronous": options.synchronous,
            "wal_guard": sqlite_file.wal_guard()[1],
            "word_index": self.indexed,
        }
        return StoreInfo(salt, facts)

    @property
    def words(self) -> Words:
        """The word index."""
        return Words(self._options.projection, self.indexed)

    def read(self, work: Callable[[sqlite3.Connection], T], deadline: float) -> T:
        """What `work` reads, stopped at `deadline` (seconds, monotonic). Raises DeadlineError, ReleasedError."""
        if clock.monotonic() > deadline:
            raise DeadlineError()
        with GATE:
            reader = self._borrow()
            reader.deadline = deadline
            try:
                with driver_errors(self._options.path):
                    return work(reader.db)
            finally:
                self._give_back(reader)

    def _borrow(self) -> _Reader:
        with self._back:
            if self._closed:
                raise ReleasedError()
            self._borrowed += 1
            if self._free:
                return self._free.pop()
        try:
            with driver_errors(self._options.path):
                return _Reader(self._options)
        except BaseException:
            with self._back:
                self._borrowed -= 1
                self._back.notify_all()
            raise

    def _give_back(self, reader: _Reader) -> None:
        if reader.db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                reader.db.execute(SQL["rollback"])
        keep = False
        with self._back:
            self._borrowed -= 1
            if not self._closed and len(self._free) < _KEPT:
                self._free.append(reader)
                keep = True
        if not keep:
            # Not the last connection: the writer's is closed after all of these.
            reader.db.close()
        with self._back:
            self._back.notify_all()

    def close(self) -> None:
        """Finish what was accepted, empty the WAL, close everything. Raises DeadlineError when it took too long."""
        timeout = self._options.timeout
        with self._door, self._back:
            if self._closed:
                return
            self._closed = True
        self.executor.shutdown(wait=False)
        # What waits for the lock is withdrawn by those who wait, at their deadlines at the latest.
        ended = self.writer is None or self.writer.stop(timeout + 1)
        with self._back:
            self._back.wait_for(lambda: self._borrowed == 0, timeout)
        if not ended or self.writer is None:
            return
        with contextlib.suppress(DeadlineError):
            self._lock.acquire_until(clock.monotonic() + timeout)
        with driver_errors(self._options.path), contextlib.closing(self.writer.db):
            for reader in self._free:
                reader.db.close()
            if sqlite_file.wal_bytes(self._options.path):
                with contextlib.suppress(sqlite3.Error):
                    sqlite_file.checkpoint(self.writer.db)
        self._lock.close()


def _has_words(db: sqlite3.Connection) -> bool:
    made, known = db.execute(SQL["has_words"]).fetchone()
    if made and not known:
        raise SchemaError("the store has an FTS5 word index, which this build of SQLite cannot use")
    return bool(made)
