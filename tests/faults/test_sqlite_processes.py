"""Several processes on one SQLite file: killed at any moment, started at once, writing and checkpointing together.

Each process is this file run as a script: `play` reads its orders, the tests above it give them.
"""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from threadline import clock
from threadline.backend import (
    Batch,
    CheckpointRow,
    Entry,
    EntryPut,
    EntryQuery,
    Expected,
    Range,
    Row,
    Slot,
    SlotPut,
    SlotQuery,
)
from threadline.backends import migrate
from threadline.backends.sqlite import SqliteBackend
from threadline.inline import run_inline

SOAK = os.environ.get("THREADLINE_SOAK") == "1"
NS = bytes(8)


def key_of(number: int) -> bytes:
    return b"thread%010d" % number


def put(number: int, version: int) -> Batch:
    """State, a row, a message and a slot in one commit; each of them tells the version."""
    key, at = key_of(number), version - 1
    text = f"message {version} " + "x" * random.randrange(400)
    entry = Entry(kind="message", payload=text.encode(), digest=b"d" * 16, search=text)
    return Batch(
        key=key,
        names=("", "", key.decode()),
        op_id=clock.new_id_bytes(),
        kind="put",
        create=True,
        incarnation=b"i" * 16,
        expected=Expected(None, at),
        last_version=at,
        checkpoint=CheckpointRow(
            version=version,
            payload=b"%d" % version,
            digest=b"d" * 16,
            refs=(Range(0, 0, version),),
        ),
        rows=(Row(0, at, 1, os.urandom(random.randrange(1, 600)), b"", b""),),
        entries=(EntryPut(entry),),
        slots=(SlotPut(Slot(kind="at", key="version", payload=b"%d" % version)),),
    )


# What a process does -----------------------------------------------------------------------------------------


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def play(role: str, path: str, number: int, count: int, checkpoint_bytes: int) -> None:
    """Open when told to, do `count` of something, tell of each."""
    backend = SqliteBackend(path, checkpoint_bytes=checkpoint_bytes)
    say("ready")
    sys.stdin.readline()
    info = run_inline(backend.open())
    say("open", info.salt.hex())
    if role == "read":
        read(backend, count)
    elif role != "open":
        if role == "trace":
            trace(backend)
        write(backend, number, count)
    run_inline(backend.close())
    say("done")


def write(backend: SqliteBackend, number: int, count: int) -> None:
    head = run_inline(backend.read_head(key_of(number), NS, None, content=False))
    for version in range(head.last_version + 1, head.last_version + count + 1):
        begun = time.monotonic()
        run_inline(backend.commit([put(number, version)]))
        say("put", version, time.monotonic() - begun)


def read(backend: SqliteBackend, threads: int) -> None:
    """Until the first thread has 30 versions: what is read is whole, and never goes back."""
    seen = [0] * threads
    while min(seen) < 30:
        for number in range(threads):
            head = run_inline(backend.read_head(key_of(number), NS, None))
            assert seen[number] <= head.head_version == len(head.rows)
            seen[number] = head.head_version


def trace(backend: SqliteBackend) -> None:
    """Tell when a checkpoint or a transaction begins."""

    def told(statement: str) -> None:
        if "checkpoint" in statement or "BEGIN" in statement:
            say("began", time.monotonic(), statement.split()[-1])

    core = backend._core
    assert core is not None
    assert core.writer is not None
    core.writer.db.set_trace_callback(told)


class Player:
    """A process that plays a role."""

    def __init__(
        self, role: str, path: Path, number: int = 0, count: int = 0, checkpoint_bytes: int = 4096
    ) -> None:
        orders = [role, path, number, count, checkpoint_bytes]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def finish(self) -> list[list[str]]:
        """Wait for the end: what it said, in words."""
        out, err = self.process.communicate(timeout=100)
        assert self.process.returncode == 0, err
        lines = [line.split() for line in out.splitlines()]
        assert lines[-1] == ["done"]
        return lines

    def kill(self) -> list[list[str]]:
        """SIGKILL: what it had said until then, whole lines only."""
        self.process.kill()
        # Through the same reader as before: `communicate` would pass over what it has read ahead already.
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.communicate(timeout=10)
        return [line.split() for line in out.splitlines(keepends=True) if line.endswith("\n")]


def together(players: Sequence[Player]) -> list[list[list[str]]]:
    for player in players:
        player.go()
    return [player.finish() for player in players]


def audit(path: Path, number: int) -> int:
    """The head's version; everything that was committed with it is there, and nothing of what was not."""
    backend = SqliteBackend(path)
    head = run_inline(backend.read_head(key_of(number), NS, None))
    version = head.head_version
    if version:
        assert head.checkpoint is not None
        assert head.checkpoint.payload == b"%d" % version
        entries = run_inline(backend.read_entries(key_of(number), NS, None, EntryQuery()))
        (slot,) = run_inline(backend.read_slots(key_of(number), NS, None, SlotQuery("at")))
        assert [int(entry.payload.split()[1]) for entry in entries] == list(range(1, version + 1))
        assert len(head.rows) == version
        assert slot.payload == b"%d" % version
        assert head.thread is not None
        assert head.thread.checkpoint_count == head.thread.rev == version
    run_inline(backend.close())
    return version


def assert_sound(path: Path) -> None:
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.execute("INSERT INTO entries_fts (entries_fts) VALUES ('integrity-check')")
        assert db.execute("SELECT count(*) FROM migrations").fetchone() == (len(migrate.read()),)
    db.close()


# The tests ---------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 120)
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "m.db", 0
    for _ in range(1000 if SOAK else 20):
        player = Player("write", path, count=1_000_000)
        player.go()
        assert player.process.stdout is not None
        player.process.stdout.readline()
        time.sleep(random.random() * 0.06)
        said = [int(words[1]) for words in player.kill() if words[0] == "put"]
        assert said in ([], list(range(acknowledged + 1, acknowledged + len(said) + 1)))
        version = audit(path, 0)
        # One more may have been committed than was told of.
        assert acknowledged + len(said) <= version <= acknowledged + len(said) + 1
        acknowledged = version
    assert acknowledged > 20
    assert_sound(path)


def test_eight_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    for attempt in range(3):
        path = tmp_path / f"{attempt}" / "m.db"
        said = together([Player("open", path) for _ in range(8)])
        assert len({words[0][1] for words in said}) == 1
        assert audit(path, 0) == 0
        assert_sound(path)


def test_a_migration_that_is_killed_leaves_a_file_that_opens(tmp_path: Path) -> None:
    for attempt in range(12):
        path = tmp_path / f"{attempt}.db"
        players = [Player("open", path) for _ in range(2)]
        for player in players:
            player.go()
        time.sleep(random.random() * 0.008)
        for player in players:
            player.kill()
        assert audit(path, 0) == 0
        assert_sound(path)


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 120)
def test_sixteen_processes_write_at_once(tmp_path: Path) -> None:
    path, count = tmp_path / "m.db", 500 if SOAK else 50
    audit(path, 0)
    players = [Player("write", path, n, count, 4 * 1024 * 1024) for n in range(16)]
    said = together(players)
    waits = sorted(float(words[2]) for lines in said for words in lines if words[0] == "put")
    assert len(waits) == 16 * count
    assert [audit(path, n) for n in range(16)] == [count] * 16
    assert_sound(path)
    assert waits[int(len(waits) * 0.99)] < 1, f"the worst wait was {waits[-1]:.3f} s"


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 120)
def test_checkpoints_of_all_processes_beside_writers_and_readers(tmp_path: Path) -> None:
    """The WAL-reset bug needs a checkpoint beside another connection's commit: here every commit checkpoints."""
    path, count = tmp_path / "m.db", 1000 if SOAK else 40
    audit(path, 0)
    writers = [Player("write", path, n, count, 1) for n in range(8)]
    readers = [Player("read", path, count=8) for _ in range(2)]
    together([*readers, *writers])
    assert [audit(path, n) for n in range(8)] == [count] * 8
    assert_sound(path)


def test_nothing_is_begun_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    audit(path, 0)
    players = [Player("trace", path, n, 60, 1) for n in range(4)]
    for player in players:
        player.go()
    held = []
    fd = os.open(f"{path}-lock", os.O_RDWR)
    for _ in range(10):
        time.sleep(0.02)
        fcntl.flock(fd, fcntl.LOCK_EX)
        begun = time.monotonic()
        time.sleep(0.03)
        held.append((begun, time.monotonic()))
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)
    told = [words for player in players for words in player.finish() if words[0] == "began"]
    checkpoints = [float(words[1]) for words in told if "checkpoint" in words[2]]
    began = [float(words[1]) for words in told]
    assert len(checkpoints) >= 60
    assert len(began) >= 120 + len(checkpoints)
    assert not [at for at in began for start, end in held if start < at < end]
    assert min(began) < held[0][0] < held[-1][1] < max(began)


def test_a_reader_that_stays_does_not_stall_writers(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    backend = SqliteBackend(path, checkpoint_bytes=1)
    run_inline(backend.commit([put(0, 1)]))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM threads").fetchall()
    begun = time.monotonic()
    for version in range(2, 60):
        run_inline(backend.commit([put(0, version)]))
    assert time.monotonic() - begun < 5
    wal = os.stat(f"{path}-wal").st_size
    reader.close()
    # The next tries come after as much again was written as the last one waited for.
    version = 60
    while os.stat(f"{path}-wal").st_size >= wal and version < 2000:
        run_inline(backend.commit([put(0, version)]))
        version += 1
    assert os.stat(f"{path}-wal").st_size < wal
    run_inline(backend.close())
    assert_sound(path)


if __name__ == "__main__":
    play(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
