"""The file under the SQLite backend: made, locked, connected to, checkpointed; and its errors as ours.

The WAL guard. SQLite 3.7.0 to 3.51.2 can corrupt a file in WAL mode: a second checkpoint that runs while another
connection's commit starts the WAL anew leaves a wrong index header (the "WAL-reset bug", fixed in 3.51.3). So

- every commit and every checkpoint of every process runs while it holds an exclusive `flock` on `<path>-lock`: the
  two can never meet. The operating system queues for it, instead of polling, and frees it when a process dies;
- `wal_autocheckpoint` is 0 on every connection, so that no commit checkpoints by itself;
- a checkpoint is a TRUNCATE, which takes SQLite's write lock as well; never PASSIVE, which does not. One that a long
  reader holds up gives up after 50 ms, and comes again when the WAL has grown by as much again;
- connections are closed inside the lock too: closing the last one checkpoints.

Without `fcntl` (Windows) the WAL is used from 3.51.3 on and the rollback journal before. Programs that open the file
without this backend are not covered: let them read, with `PRAGMA wal_autocheckpoint = 0`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from threadline import clock
from threadline.backends import sqlfile
from threadline.errors import (
    CorruptionError,
    DeadlineError,
    LimitError,
    SchemaError,
    StorageFullError,
    ThreadlineError,
    UnavailableError,
)

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

    _HAS_FLOCK = True
except ImportError:  # Windows
    _HAS_FLOCK = False

SQL: Final = sqlfile.statements("sqlite")
#: "Thrd", in the header of every file of ours.
APPLICATION_ID: Final = 0x54687264
_FIXED = (3, 51, 3)


def wal_guard() -> tuple[Literal["wal", "delete"], str]:
    """The journal mode that is safe here, and what makes it so."""
    if sqlite3.sqlite_version_info >= _FIXED:
        return "wal", "flock" if _HAS_FLOCK else "fixed in this SQLite"
    return ("wal", "flock") if _HAS_FLOCK else ("delete", "rollback journal")


class FileLock:
    """An exclusive lock among processes (and among objects of one process), freed by the system on a crash."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        _locks.add(self)

    def acquire(self) -> None:
        """Wait for the lock, for as long as it takes."""
        while _HAS_FLOCK and not self._take(LOCK_EX):
            pass

    def acquire_until(self, deadline: float) -> None:
        """Wait until `deadline` (seconds, monotonic). Raises DeadlineError."""
        while _HAS_FLOCK:
            with contextlib.suppress(BlockingIOError):
                if self._take(LOCK_EX | LOCK_NB):
                    return
            if clock.monotonic() >= deadline:
                raise DeadlineError(f"another process holds {self.path}; nothing was written")
            time.sleep(0.002)

    def release(self) -> None:
        """Let the next one in."""
        if self._fd >= 0:
            flock(self._fd, LOCK_UN)

    def close(self) -> None:
        """Let go of the file; also how a forked child drops what it inherited, without freeing the parent's lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, how: int) -> bool:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(self._fd, how)
        if os.fstat(self._fd).st_nlink > 0:
            return True
        self.close()  # Somebody removed the file: a lock on it excludes nobody.
        return False


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _drop_inherited_locks() -> None:
    # A child shares the parent's open file: it would keep a lock alive that a killed parent held.
    for lock in list(_locks):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_inherited_locks)


def checked_path(path: str | os.PathLike[str]) -> str:
    """The path as text. Raises TypeError, ValueError for what is no file."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a PathLike of str, not {type(text).__name__}")
    if text == ":memory:" or text.startswith("file:") or not text or "\0" in text:
        raise ValueError(
            f"{text!r} is no path of a file; for a store in memory use InMemoryCheckpointer()"
        )
    if "://" in text:  # Not what was given: it may have a password in it.
        raise ValueError(
            "path is the address of a store, not a file: for PostgreSQL use PgCheckpointer, "
            "for a file give its path alone"
        )
    return os.path.abspath(text)


def make_file(path: str) -> None:
    """Create the file, readable by its owner only, and the directory it lies in, when they are missing."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise unavailable(path, error) from error


def connect(path: str, synchronous: str, *, reader: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode with everything set that does not touch the file."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    for name in ("busy_timeout", "trusted_schema", "temp_store", "no_autocheckpoint"):
        db.execute(SQL[name])
    if reader:
        db.execute(SQL["query_only"])
    else:
        db.execute(SQL["secure_delete"])
        db.execute(SQL["synchronous_" + synchronous.lower()])
    return db


def claim(db: sqlite3.Connection, path: str) -> str:
    """Set what lies in the file's header and return the journal mode; the caller holds the lock.

    Raises SchemaError for another program's database.
    """
    (owner,) = db.execute(SQL["application_id"]).fetchone()
    (empty,) = db.execute(SQL["is_empty"]).fetchone()
    if owner != APPLICATION_ID:
        if not empty:
            raise SchemaError(f"{path} is another program's database; choose another file")
        db.execute(SQL["auto_vacuum"])
        db.execute(SQL["claim"])
    db.execute(SQL["journal_" + wal_guard()[0]])
    return str(db.execute(SQL["journal_mode"]).fetchone()[0])


def checkpoint(db: sqlite3.Connection) -> bool:
    """Move the WAL into the file and empty it; the caller holds the lock. False when a reader held it up."""
    db.execute(SQL["busy_timeout_short"])
    try:
        busy: int = db.execute(SQL["checkpoint"]).fetchone()[0]
    except sqlite3.OperationalError as error:
        if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        busy = 1
    finally:
        db.execute(SQL["busy_timeout"])
    return not busy


def wal_bytes(path: str) -> int:
    """The size of the WAL (0 without one)."""
    try:
        return os.stat(path + "-wal").st_size
    except OSError:
        return 0


def store_bytes(path: str) -> int:
    """The size of the file and its WAL."""
    return os.stat(path).st_size + wal_bytes(path)


# Errors ---------------------------------------------------------------------------------------------------

_FULL = "the disk is full; nothing was written"
_LATE = "the store did not answer before the deadline; nothing was written"
_ERRORS: dict[int, tuple[type[ThreadlineError], str]] = {
    sqlite3.SQLITE_FULL: (StorageFullError, _FULL),
    sqlite3.SQLITE_BUSY: (DeadlineError, _LATE),
    sqlite3.SQLITE_LOCKED: (DeadlineError, _LATE),
    sqlite3.SQLITE_INTERRUPT: (DeadlineError, "the read was stopped at its deadline"),
    sqlite3.SQLITE_CORRUPT: (CorruptionError, "the file is damaged; restore a copy of it"),
    sqlite3.SQLITE_NOTADB: (UnavailableError, "the file is not a SQLite database"),
    sqlite3.SQLITE_TOOBIG: (
        LimitError,
        "a value is larger than SQLite stores; nothing was written",
    ),
    sqlite3.SQLITE_READONLY: (UnavailableError, "the file or its directory may not be written to"),
    sqlite3.SQLITE_CANTOPEN: (UnavailableError, "the file cannot be opened"),
    sqlite3.SQLITE_PERM: (UnavailableError, "the file may not be opened"),
    sqlite3.SQLITE_IOERR: (UnavailableError, "the disk could not be read or written"),
    sqlite3.SQLITE_NOMEM: (UnavailableError, "SQLite is out of memory"),
}


def unavailable(path: str, error: OSError) -> ThreadlineError:
    """What it means that a file could not be opened for writing."""
    if error.errno == errno.ENOSPC:
        return StorageFullError(f"no room for {path}; nothing was written")
    return UnavailableError(f"{path} cannot be opened for writing: {error.strerror}")


def _code(error: sqlite3.Error) -> int:
    code: Any = getattr(error, "sqlite_errorcode", None)
    return int(code or 0) & 0xFF


def translated(error: BaseException, path: str) -> BaseException:
    """A driver's error as one of ours, which names the file; any other error as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    kind, meaning = _ERRORS.get(_code(error), (ThreadlineError, "SQLite refused a statement"))
    ours = kind(f"{path}: {meaning} ({error})")
    ours.__cause__ = error
    return ours


@contextlib.contextmanager
def driver_errors(path: str) -> Iterator[None]:
    """Raise what the driver raises inside about this file as `threadline.errors`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error
