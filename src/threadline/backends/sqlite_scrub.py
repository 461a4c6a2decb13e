"""Letting nothing that was taken away stay in a file: the word index, the free pages, the WAL.

Deleted rows are overwritten where they stood (`secure_delete`). Two places still hold words after that: the index,
whose older segments keep a word until they are merged with the mark that says it is gone, and the WAL, which holds the
pages as they were. So all segments are merged into one, a bounded step at a time, and the WAL is emptied; writers go
on between the steps. This has a connection and a lock of its own, as another process would.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

from threadline import clock
from threadline.backends import sqlite_file
from threadline.backends.sqlite_file import SQL, FileLock, driver_errors
from threadline.backends.sqlite_gate import GATE

#: How many pages of the index one step writes, about; and how long, in seconds, a reader may hold the WAL up.
PAGES, PATIENCE = 250, 2.0


def scrub(path: str, synchronous: str, indexed: bool, timeout: float) -> bool:
    """Merge the word index and empty the WAL. False when a reader of an older moment held the WAL up: what was taken
    away then stays in it until the next checkpoint. timeout: seconds that one step may wait for other writers."""
    lock = FileLock(path + "-lock")
    with _turn(path, lock, timeout):
        db = sqlite_file.connect(path, synchronous)
    try:
        step = (
            -PAGES
        )  # The first one tells FTS5 to merge everything there is; the others go on with it.
        while indexed:
            with _turn(path, lock, timeout):
                if not _merge(db, step):
                    break
            step = PAGES
        patience = clock.monotonic() + PATIENCE
        while True:
            with _turn(path, lock, timeout):
                done = sqlite_file.checkpoint(db)
            if done or clock.monotonic() > patience:
                return done
            time.sleep(
                0.01
            )  # Not while the lock is held: the reader may be waiting for nothing else.
    finally:
        with _turn(path, lock, timeout):
            db.close()
        lock.close()


def _merge(db: sqlite3.Connection, pages: int) -> bool:
    """One step; whether there was anything to do."""
    before = db.total_changes
    db.execute(SQL["begin_write"])
    try:
        db.execute(SQL["merge_words"], {"pages": pages})
    except BaseException:
        db.execute(SQL["rollback"])
        raise
    db.execute(SQL["commit"])
    return db.total_changes - before > 1


@contextlib.contextmanager
def _turn(path: str, lock: FileLock, timeout: float) -> Iterator[None]:
    """Nobody else writes or checkpoints meanwhile."""
    lock.acquire_until(clock.monotonic() + timeout)
    try:
        with GATE, driver_errors(path):
            yield
    finally:
        lock.release()
