"""The one writer thread of a backend object: group commit.

It waits for a commit, then for the lock and SQLite's write lock, and only then takes what is waiting, up to 64
commits, into one transaction. One that is refused fails alone; after any other failure the transaction is rolled back,
and each commit gets one of its own. After COMMIT it resolves their futures. So a commit that waits can be withdrawn by
cancelling its future, for certain; one that was taken runs to its end.

After a commit that took content away, free pages are given back to the file system, a step (1 MB) with each such commit
and further ones while nobody waits, so that no writer waits for more than one step.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from threadline import clock
from threadline.backend import Batch, Commit
from threadline.backends import sqlite_file
from threadline.backends.sqlite_commit import apply
from threadline.backends.sqlite_entries import Words
from threadline.backends.sqlite_file import SQL, FileLock, translated
from threadline.backends.sqlite_gate import GATE
from threadline.errors import OutcomeUnknownError, ReleasedError, StorageFullError

#: The most commits in one transaction.
GROUP = 64
#: How much longer the WAL may get while readers hold checkpoints up, before they are tried again, in bytes.
_MOST_PATIENT = 64 * 1024 * 1024
#: So many free pages stay for the next commits; and how long, in seconds, the last of them are given back at the end.
_SPARE, _TIDY = 64, 0.8


@dataclass(frozen=True, slots=True)
class Job:
    """Batches that are committed together, and who waits for them."""

    batches: Sequence[Batch]
    future: Future[list[Commit]] = field(default_factory=Future)


class Writer:
    """Owns the writing connection and its thread; `stop` ends both."""

    def __init__(
        self,
        path: str,
        db: sqlite3.Connection,
        lock: FileLock,
        words: Words,
        now_us: Callable[[], int],
        checkpoint_bytes: int,
    ) -> None:
        self.db, self.lock = db, lock
        self._path, self._words, self._now_us = path, words, now_us
        self._checkpoint_bytes = self._patience = checkpoint_bytes
        self._checkpoint_at = checkpoint_bytes
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._door = threading.Lock()
        self._stopping = False
        self._loose = False
        self._thread = threading.Thread(target=self._run, name="threadline-sqlite", daemon=True)
        self._thread.start()

    def submit(self, batches: Sequence[Batch]) -> Future[list[Commit]]:
        """Accept a commit. Raises ReleasedError."""
        job = Job(batches)
        with self._door:
            if self._stopping:
                raise ReleasedError()
            self._queue.put(job)
        return job.future

    def stop(self, timeout: float) -> bool:
        """Finish what was accepted and end the thread, within `timeout` seconds. Whether it ended."""
        with self._door:
            if not self._stopping:
                self._stopping = True
                self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if self._serve(job):
                break
        deadline = clock.monotonic() + _TIDY
        while self._loose and clock.monotonic() < deadline:
            self._tidy()

    def _next(self) -> Job | None:
        """What is to be done next; while nothing is, give free pages back."""
        while self._loose:
            try:
                return self._queue.get_nowait()
            except Empty:
                self._tidy()
        return self._queue.get()

    def _tidy(self) -> None:
        self.lock.acquire()
        try:
            with GATE:
                self._shrink()
                if self._loose:
                    self._checkpoint_when_large()
                else:
                    sqlite_file.checkpoint(self.db)  # The file itself ends earlier only then.
        except sqlite3.Error:
            self._loose = False  # Another time: nothing depends on it.
        finally:
            self.lock.release()

    def _shrink(self) -> None:
        """Give some free pages back; the caller holds the lock."""
        (free,) = self.db.execute(SQL["free_pages"]).fetchone()
        self._loose = free > _SPARE
        if self._loose:
            # A step of this statement is one page, and `execute` makes only one of one that has no columns.
            self.db.executescript(SQL["shrink"])

    def _serve(self, first: Job) -> bool:
        """Commit what is waiting. True when the last job was among it."""
        self.lock.acquire()
        try:
            with GATE:
                if not self._begin(first):
                    return False
                group, last = self._take(first)
                if group:
                    self._write(group)
                    if any(batch.frees or batch.erase for job in group for batch in job.batches):
                        with contextlib.suppress(sqlite3.Error):
                            self._shrink()
                    self._checkpoint_when_large()
                else:
                    self.db.execute(SQL["rollback"])
        except Exception as error:  # noqa: BLE001 - the thread outlives every failure; the waiting one hears of it
            self._rollback()
            if first.future.set_running_or_notify_cancel():
                first.future.set_exception(translated(error, self._path))
            return False
        finally:
            self.lock.release()
        return last

    def _begin(self, first: Job) -> bool:
        """Begin the transaction; False when the one who asked for it gave up meanwhile."""
        while not first.future.cancelled():
            try:
                self.db.execute(SQL["begin_write"])
                return True
            except sqlite3.OperationalError as error:
                # A program without our lock is writing; each try waits for the busy timeout.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
        return False

    def _take(self, first: Job) -> tuple[list[Job], bool]:
        group, job, last = [], first, False
        while True:
            if job.future.set_running_or_notify_cancel():
                group.append(job)
            if len(group) == GROUP:
                break
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                break
            if waiting is None:
                last = True
                break
            job = waiting
        return group, last

    def _write(self, group: list[Job]) -> None:
        """Apply and commit; when the transaction as a whole fails, each job again by itself."""
        committing = False
        try:
            outcomes = [self._apply(job, alone=len(group) == 1) for job in group]
            committing = True
            self.db.execute(SQL["commit"])
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to who asked for it
            self._rollback()
            if len(group) == 1:
                group[0].future.set_exception(self._failure(error, group[0], committing))
                return
            for job in group:
                self._write_alone(job)
            return
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _write_alone(self, job: Job) -> None:
        try:
            self.db.execute(SQL["begin_write"])
        except sqlite3.Error as error:
            job.future.set_exception(translated(error, self._path))
            return
        self._write([job])

    def _apply(self, job: Job, *, alone: bool) -> list[Commit] | Exception:
        before = self.db.total_changes
        try:
            return self._commits(job)
        except Exception as error:
            # What failed before it changed anything, as what is refused does, leaves the others as they are.
            if alone or not self.db.in_transaction or self.db.total_changes != before:
                raise
            failure = translated(error, self._path)
            return failure if isinstance(failure, Exception) else error

    def _commits(self, job: Job) -> list[Commit]:
        now = self._now_us()
        return [apply(self.db, batch, self._words, now) for batch in job.batches]

    def _failure(self, error: Exception, job: Job, committing: bool) -> BaseException:
        failure = translated(error, self._path)
        if not committing or isinstance(failure, StorageFullError):
            return failure
        unknown = OutcomeUnknownError(
            f"the disk failed during the commit ({error}); repeat it with the same op_id to find out",
            op_id=job.batches[0].op_id.hex(),
        )
        unknown.__cause__ = error
        return unknown

    def _rollback(self) -> None:
        if self.db.in_transaction:
            self.db.execute(SQL["rollback"])

    def _checkpoint_when_large(self) -> None:
        size = sqlite_file.wal_bytes(self._path)
        if size <= self._checkpoint_at:
            return
        try:
            done = sqlite_file.checkpoint(self.db)
        except sqlite3.Error:
            done = False  # The commits are safe in the WAL; a full disk may have room later.
        if done:
            self._checkpoint_at = self._patience = self._checkpoint_bytes
        else:
            self._patience = min(2 * self._patience, _MOST_PATIENT)
            self._checkpoint_at = size + self._patience
