"""The SQLite backend on rows and bytes: what a commit does and refuses, what reads find, and how the file behaves."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import os
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from threadline import clock
from threadline.backend import (
    At,
    Batch,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Commit,
    Entry,
    EntryPut,
    EntryQuery,
    Expected,
    Head,
    Known,
    Range,
    Reason,
    Refused,
    Row,
    Slot,
    SlotPut,
    SlotQuery,
    TailIs,
    ThreadPut,
    ThreadQuery,
)
from threadline.backends import migrate, sqlfile, sqlite_file
from threadline.backends.sqlite import SqliteBackend
from threadline.errors import (
    CorruptionError,
    DeadlineError,
    OutcomeUnknownError,
    ReleasedError,
    SchemaError,
    StorageFullError,
    UnavailableError,
)
from threadline.inline import run_inline, wait

T = TypeVar("T")
NS, OTHER = bytes(8), b"another!"
KEY, KEY2 = b"k" * 16, b"l" * 16
LIFE, LIFE2 = b"first incarnatio", b"second incarnati"


def projection(kind: str, payload: bytes, key_id: int) -> str | None:
    return payload.decode() if kind == "message" else None


class Clock:
    """Microseconds that tests move."""

    def __init__(self) -> None:
        self.us = 1_000_000

    def __call__(self) -> int:
        self.us += 1
        return self.us


class Store:
    """A backend driven inline, with builders."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path, self.clock = path, Clock()
        self.backend = SqliteBackend(
            path, **{"projection": projection, "now_us": self.clock, **options}
        )
        self.info = run(self.backend.open())

    def commit(self, batch: Batch) -> Commit:
        return run(self.backend.commit([batch]))[0]

    def refused(self, batch: Batch) -> Refused:
        with pytest.raises(Refused) as caught:
            self.commit(batch)
        return caught.value

    def head(self, key: bytes = KEY, user: str | None = None, **how: Any) -> Head:
        return run(self.backend.read_head(key, how.pop("ns", NS), user, **how))

    def entries(self, key: bytes = KEY, user: str | None = None, **query: Any) -> list[Entry]:
        return run(self.backend.read_entries(key, NS, user, EntryQuery(**query)))

    def hits(self, *words: str, **threads: Any) -> list[bytes]:
        query = ThreadQuery(**threads)
        found = run(
            self.backend.search(
                query, [w for each in words for w in each.split()], before=None, limit=100
            )
        )
        return [entry.payload for _, _, entry in found]

    def sql(self, statement: str) -> list[Any]:
        with sqlite3.connect(self.path) as db:
            return db.execute(statement).fetchall()


def run(coro: Coroutine[Any, Any, T]) -> T:
    return run_inline(coro)


def names(key: bytes) -> tuple[str, str, str]:
    return ("", "", key.decode())


def write(key: bytes = KEY, **changes: Any) -> Batch:
    """Something small that creates the thread when it is missing."""
    batch = Batch(
        key=key,
        names=names(key),
        op_id=clock.new_id_bytes(),
        kind="messages",
        create=True,
        incarnation=LIFE,
    )
    return dataclasses.replace(batch, **changes)


def put(version: int, key: bytes = KEY, **changes: Any) -> Batch:
    """A put of the version, with one item in log 0, onto the one before."""
    at = version - 1
    checkpoint = CheckpointRow(
        version=version,
        payload=b"head%d" % version,
        digest=b"d%015d" % version,
        parent_version=at or None,
        base=at or None,
        refs=(Range(0, 0, version),),
        bytes=7,
    )
    checkpoint = dataclasses.replace(checkpoint, **changes.pop("head", {}))
    return write(
        key,
        kind="put",
        expected=Expected(None, at),
        last_version=at,
        checkpoint=checkpoint,
        rows=(Row(0, at, 1, b"item%d" % at, b"p" * 16, b"q" * 16),),
        **changes,
    )


def message(text: str, ext_id: str | None = None, **changes: Any) -> Entry:
    entry = Entry(
        kind="message",
        payload=text.encode(),
        digest=text.encode()[:16],
        ext_id=ext_id,
        role="user",
        search=text,
        derived=True,
    )
    return dataclasses.replace(entry, **changes)


def messages(*entries: Entry, **changes: Any) -> Batch:
    return write(entries=tuple(map(EntryPut, entries)), **changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "deep" / "er" / "memory.db")
    yield made
    run(made.backend.close())


# Checkpoints -------------------------------------------------------------------------------------------------


def test_a_put_comes_back(store: Store) -> None:
    blob = Blob(b"b" * 16, b"large")
    first = put(1, blobs=(blob,), head={"blob_refs": (blob.id,), "name": "start", "ext_id": "x1"})
    assert first.checkpoint is not None
    commit = store.commit(dataclasses.replace(first, marks=b"marks"))
    assert (commit.rev, commit.version, commit.incarnation, commit.duplicate) == (1, 1, LIFE, False)
    head = store.head()
    assert head.checkpoint == dataclasses.replace(first.checkpoint, created_at=commit.at)
    assert (head.head_version, head.last_version, head.marks) == (1, 1, b"marks")
    assert head.rows == first.rows
    assert head.blobs == (blob,)
    assert head.thread is not None
    assert (head.thread.thread_id, head.thread.checkpoint_count) == (KEY.decode(), 1)
    assert head.thread.activity_at == head.thread.created_at == commit.at


def test_only_what_is_asked_for_is_read(store: Store) -> None:
    for version in range(1, 4):
        store.commit(put(version))
    known = Known(LIFE, 3, 0, b"d%015d" % 3)
    assert store.head(known=known).unchanged
    assert store.head(known=known).checkpoint is None
    assert store.head(content=False).rows == ()
    assert store.head(ns=OTHER).head_version == 0
    assert store.head(KEY2) == Head()


def test_the_past_is_addressed(store: Store) -> None:
    store.commit(put(1, head={"name": "a", "ext_id": "one"}))
    store.commit(put(2, head={"name": "a"}))
    store.commit(put(3))

    def version(at: At) -> int | None:
        found = store.head(at=at).checkpoint
        return found.version if found else None

    assert version(At(version=1)) == 1
    assert version(At(name="a")) == 2
    assert version(At(ext_id="one")) == 1
    assert version(At(version=9)) is version(At(name="b")) is version(At(ext_id="9")) is None
    assert store.head(at=At(version=2)).rows == store.head().rows[:2]


def test_checkpoints_are_listed_and_filtered(store: Store) -> None:
    for version in range(1, 6):
        terms = (version % 2, -7)
        store.commit(
            put(version, head={"name": "odd" if version % 2 else None}, checkpoint_terms=terms)
        )

    def listed(user: str | None = None, **query: Any) -> list[int]:
        found = run(store.backend.read_checkpoints(KEY, NS, user, CheckpointQuery(**query)))
        return [each.version for each in found]

    assert listed() == [5, 4, 3, 2, 1]
    assert listed(before=4, limit=2) == [3, 2]
    assert listed(name="odd", before=5) == [3, 1]
    assert listed(terms=(1, -7)) == [5, 3, 1]
    assert listed(terms=(0, 1)) == listed(terms=(3,)) == listed("s:other") == []
    assert listed(terms=(-7, -7, 0), limit=1) == [4]


def test_an_id_that_is_taken_is_a_conflict(store: Store) -> None:
    store.commit(put(1, head={"ext_id": "x"}))
    assert store.refused(put(2, head={"ext_id": "x"})).reason is Reason.CONFLICT
    assert store.head().head_version == 1
    assert len(store.head().rows) == 1


def test_ranges_find_the_rows_that_cover_them(store: Store) -> None:
    rows = tuple(Row(3, start, 4, b"%d" % start, b"", b"") for start in range(0, 20, 4))
    store.commit(write(rows=(*rows, Row(1, 0, 9, b"other", b"", b""))))

    def starts(*ranges: Range) -> list[tuple[int, int]]:
        found = run(store.backend.read_rows(KEY, NS, None, ranges))
        return [(row.log, row.start) for row in found]

    assert starts(Range(3, 5, 6)) == [(3, 4)]
    assert starts(Range(3, 3, 9)) == [(3, 0), (3, 4), (3, 8)]
    assert starts(Range(3, 8, 12), Range(3, 0, 9)) == [(3, 0), (3, 4), (3, 8)]
    assert starts(Range(3, 19, 99), Range(1, 8, 9)) == [(1, 0), (3, 16)]
    assert starts(Range(3, 20, 30), Range(2, 0, 5)) == starts() == []


def test_merged_rows_replace_what_lies_in_their_span(store: Store) -> None:
    rows = tuple(Row(0, at, 1, b"%d" % at, b"", b"") for at in range(6))
    store.commit(write(rows=rows))
    merged = Row(0, 1, 4, b"1234", b"", b"")
    store.commit(write(merged=(merged,)))
    after = run(store.backend.read_rows(KEY, NS, None, [Range(0, 0, 6)]))
    assert after == [rows[0], merged, rows[5]]
    assert store.refused(write(assumes_gc=1)).reason is Reason.STALE
    store.commit(write(assumes_gc=0))


# What is refused ---------------------------------------------------------------------------------------------


def test_a_head_that_moved_is_a_conflict(store: Store) -> None:
    store.commit(put(1))
    store.commit(put(2))
    refused = store.refused(put(2))
    assert (refused.reason, refused.current) == (Reason.CONFLICT, 2)
    stale = dataclasses.replace(put(3), last_version=5)
    assert store.refused(stale).reason is Reason.STALE
    assert store.refused(write(names=("", "", "z"))).reason is Reason.NAMES
    assert store.refused(write(requires=LIFE2)).reason is Reason.MISSING


def test_a_late_writer_cannot_resurrect(store: Store) -> None:
    store.commit(put(1))
    store.commit(write(erase=True, kind="erase"))
    for late in (put(2), put(2, create=False), write(create=False)):
        assert store.refused(late).reason is Reason.MISSING
    assert store.head() == Head(last_version=1)
    assert store.head(ns=OTHER) == Head()
    assert run(store.backend.read_threads(ThreadQuery())) == []
    assert store.sql("SELECT count(*) FROM checkpoints") == [(0,)]


def test_a_thread_created_again_is_a_new_one(store: Store) -> None:
    first = put(1)
    store.commit(first)
    store.commit(put(2))
    store.commit(write(erase=True, kind="erase"))
    again = dataclasses.replace(put(3, incarnation=LIFE2), expected=Expected(None, 0))
    assert store.refused(dataclasses.replace(again, last_version=0)).reason is Reason.STALE
    commit = store.commit(again)
    assert (commit.rev, commit.version, commit.incarnation) == (4, 3, LIFE2)
    thread = store.head().thread
    assert thread is not None
    assert (thread.incarnation, thread.checkpoint_count, thread.gc) == (LIFE2, 1, 0)
    assert store.commit(first) == Commit(1, first_at(store), LIFE, 1, duplicate=True)


def first_at(store: Store) -> int:
    return int(store.sql("SELECT min(at) FROM journal")[0][0])


def test_another_users_thread_does_not_exist(store: Store) -> None:
    store.commit(put(1, user="s:a", entries=(EntryPut(message("secret word")),)))
    store.commit(write(user="s:a", slots=(SlotPut(Slot(kind="k", key="x")),)))
    backend = store.backend
    assert store.refused(put(2, user="s:b")).reason is Reason.MISSING
    assert store.head(user="s:b") == Head()
    assert store.entries(user="s:b") == []
    assert run(backend.read_rows(KEY, NS, "s:b", [Range(0, 0, 1)])) == []
    assert run(backend.read_checkpoints(KEY, NS, "s:b", CheckpointQuery())) == []
    assert run(backend.read_slots(KEY, NS, "s:b", SlotQuery("k"))) == []
    assert run(backend.read_threads(ThreadQuery(user="s:b"))) == []
    assert store.hits("secret", user="s:b") == []
    assert store.hits("secret", user="s:a") == store.hits("secret") == [b"secret word"]
    assert store.head(user="s:a").head_version == 1
    store.commit(put(2))


def test_an_owner_is_given_only_to_a_thread_without(store: Store) -> None:
    store.commit(write(thread=ThreadPut(owner="s:a", info=b"i", title="t", terms=(1,))))
    store.commit(write(thread=ThreadPut(owner="s:b")))
    thread = store.head(user="s:a").thread
    assert thread is not None
    assert (thread.user, thread.info, thread.title) == ("s:a", b"i", "t")


def test_a_retry_is_told_the_first_result(store: Store) -> None:
    batch = put(
        1,
        entries=(EntryPut(message("a", "1")), EntryPut(message("b", "2")), EntryPut(message("c"))),
        slots=(SlotPut(Slot(kind="k", key="x")), SlotPut(Slot(kind="k", key="y"), "delete")),
    )
    first = store.commit(batch)
    popped = write(pop_entries=2, op_id=b"pop" + bytes(13))
    second = store.commit(popped)
    assert store.commit(batch) == dataclasses.replace(first, duplicate=True)
    assert store.commit(popped) == dataclasses.replace(second, duplicate=True)
    assert (first.seqs, first.slots, second.removed) == ((1, 2, 3), (True, False), 2)
    assert [entry.payload for entry in second.popped] == [b"b", b"c"]
    assert len(store.entries()) == 1
    erase = write(erase=True, kind="erase")
    gone = store.commit(erase)
    assert store.commit(erase) == dataclasses.replace(gone, duplicate=True)
    assert store.commit(popped) == dataclasses.replace(second, popped=(), duplicate=True)
    assert store.commit(batch).duplicate


def test_the_journal_forgets_after_a_day(store: Store) -> None:
    first = write()
    store.commit(first)
    store.clock.us += 25 * 3600 * 1_000_000
    for _ in range(64):
        store.commit(write())
    assert store.sql("SELECT count(*), min(rev) FROM journal") == [(64, 2)]


def test_time_never_goes_back(store: Store) -> None:
    late = store.commit(write())
    store.clock.us -= 500
    assert store.commit(write()).at == late.at


def test_several_batches_are_all_or_nothing(store: Store) -> None:
    with pytest.raises(Refused):
        run(store.backend.commit([put(1), put(5, KEY2)]))
    assert store.head() == Head()
    done = run(store.backend.commit([put(1), put(1, KEY2)]))
    assert [each.version for each in done] == [1, 1]
    assert run(store.backend.commit([])) == []


# The message log ---------------------------------------------------------------------------------------------


def test_entries_keep_their_order_and_place(store: Store) -> None:
    commit = store.commit(messages(message("a", "1"), message("b"), message("c", "3")))
    assert commit.seqs == (1, 2, 3)
    first = store.entries()[0]
    commit = store.commit(messages(message("new", "3"), message("d"), message("A", "1")))
    assert commit.seqs == (3, 4, 1)
    found = store.entries()
    assert [entry.payload for entry in found] == [b"A", b"b", b"new", b"d"]
    assert found[0].created_at == first.created_at
    thread = store.head().thread
    assert thread is not None
    assert thread.message_count == 4


def test_an_id_twice_in_a_batch_is_folded(store: Store) -> None:
    commit = store.commit(
        messages(message("a", "1"), message("b", "2"), message("c", "1", meta=b"m"))
    )
    assert commit.seqs == (1, 2, 1)
    assert [(e.payload, e.meta) for e in store.entries()] == [(b"c", b"m"), (b"b", None)]
    assert store.hits("a") == []
    assert store.hits("c") == [b"c"]


def test_a_replaced_entry_keeps_its_metadata_or_stays(store: Store) -> None:
    store.commit(write(entries=(EntryPut(message("a", "1", meta=b"m"), terms=(5,)),)))
    store.commit(messages(message("b", "1")))
    assert [(e.payload, e.meta) for e in store.entries(terms=(5,))] == [(b"b", b"m")]
    store.commit(write(entries=(EntryPut(message("c", "1", meta=b"n"), terms=(6,)),)))
    assert store.entries(terms=(5,)) == []
    assert [e.meta for e in store.entries(terms=(6,))] == [b"n"]
    ignored = EntryPut(message("d", "1"), on_duplicate="ignore")
    assert store.commit(write(entries=(ignored,))).seqs == (1,)
    assert [e.payload for e in store.entries()] == [b"c"]


def test_entries_are_read_by_position_id_role_and_words(store: Store) -> None:
    texts = ["one two", "two three", "three one", "two one"]
    store.commit(messages(*(message(t, f"m{i}") for i, t in enumerate(texts))))
    store.commit(messages(message("of a tool two", "t", role="tool")))

    def seqs(**query: Any) -> list[int]:
        return [entry.seq for entry in store.entries(**query)]

    assert seqs() == [1, 2, 3, 4, 5]
    assert seqs(newest=True, limit=2) == [5, 4]
    assert seqs(after=1, before=4) == [2, 3]
    assert seqs(role="tool") == [5]
    assert seqs(ext_ids=("m3", "m0", "m3", "no")) == [1, 4]
    assert seqs(ext_ids=("m3", "m0"), newest=True, limit=1) == [4]
    assert seqs(ext_ids=("m0", "m1"), words=("one", "two")) == [1]
    assert seqs(ext_ids=()) == []
    assert seqs(words=("two",)) == [1, 2, 4, 5]
    assert seqs(words=("two", "one")) == [1, 4]
    assert seqs(words=("two one",)) == []
    assert seqs(words=("two",), role="user", newest=True, limit=2) == [4, 2]


def test_entries_go(store: Store) -> None:
    store.commit(messages(*(message(f"w{n}", f"m{n}") for n in range(8))))
    assert store.commit(write(remove_entries=("m1", "no"))).removed == 1
    assert [e.ext_id for e in store.commit(write(pop_entries=2)).popped] == ["m6", "m7"]
    tail = tuple((e.seq, e.digest) for e in store.entries() if e.seq > 4)
    wrong = write(tail=TailIs(4, tail[:-1]), entries=(EntryPut(message("no")),))
    assert store.refused(wrong).reason is Reason.CONFLICT
    right = write(tail=TailIs(4, tail), entries=(EntryPut(message("tail", "m5")),))
    commit = store.commit(right)
    assert (commit.removed, commit.seqs) == (2, (9,))
    assert [e.payload for e in store.entries()] == [b"w0", b"w2", b"w3", b"tail"]
    assert store.commit(write(clear_entries=True)).removed == 4
    assert store.entries() == []
    assert store.hits("w0") == store.hits("tail") == []


@pytest.mark.parametrize("derived", [True, False])
def test_changed_and_removed_entries_leave_no_ghosts(tmp_path: Path, derived: bool) -> None:
    store = Store(tmp_path / "m.db")
    old, new = message("old words", "1", derived=derived), message("new", "1", derived=derived)
    store.commit(messages(old, message("stays", "2", derived=derived)))
    assert store.hits("old words") == [b"old words"]
    store.commit(messages(new))
    assert store.hits("old") == store.hits("words") == []
    assert store.hits("new") == [b"new"]
    store.commit(write(rewrite_entries=(dataclasses.replace(message("gone"), seq=1, search=None),)))
    assert store.hits("new") == store.hits("gone") == []
    store.commit(write(remove_entries=("2",)))
    assert store.hits("stays") == []
    # The index says itself whether it agrees with what it was told.
    store.sql("INSERT INTO entries_fts (entries_fts) VALUES ('integrity-check')")
    assert store.sql("SELECT count(*) FROM entries_fts WHERE entries_fts MATCH 'old'") == [(0,)]
    assert store.refused(write(rewrite_entries=(message("x", seq=99),))).reason is Reason.STALE
    run(store.backend.close())


def test_search_words_are_data(store: Store) -> None:
    texts = ["café 日 本", "c++ or", 'say "hi"', "plain or not", "x* (y) ^z -w"]
    words = ["café 日 本", "c or", "say hi", "plain or not", "x y z w"]
    entries = (message(t, search=w, derived=False) for t, w in zip(texts, words, strict=True))
    store.commit(messages(*entries))
    assert store.hits("日 本") == store.hits("café") == [texts[0].encode()]
    assert len(store.hits("or")) == 2
    assert store.hits("x") == [texts[4].encode()]
    assert store.hits("x*") == []
    for odd in ('"', '""', "a:b", "NEAR(a b)", "caf", "%", "日本", "o", "{a}", "\\", "* OR x"):
        assert store.hits(odd) == []
    assert len(store.hits()) == 5


def test_search_pages_from_the_newest(store: Store) -> None:
    for n in range(5):
        key = KEY if n % 2 else KEY2
        store.commit(write(key, entries=(EntryPut(message(f"same n{n}")),)))
    first = run(store.backend.search(ThreadQuery(), ["same"], before=None, limit=3))
    rest = run(store.backend.search(ThreadQuery(), ["same"], before=first[-1][0], limit=3))
    assert [e.payload for _, _, e in first + rest] == [b"same n%d" % n for n in (4, 3, 2, 1, 0)]
    assert first[0][1].key == KEY2
    store.commit(write(KEY2, thread=ThreadPut(info=b"i", terms=(1, 2))))
    assert len(store.hits("same", terms=(2, 1))) == 3
    assert store.hits("same", tenant="other") == store.hits("same", terms=(3,)) == []
    assert len(store.hits("same", tenant=None, app=None)) == 5


def test_without_fts5_the_words_are_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dict(sqlite_file.SQL)
    plain["has_words"] = "SELECT 0, 0"
    monkeypatch.setattr("threadline.backends.migrate.SQL", plain)
    store = Store(tmp_path / "m.db")
    assert store.info.facts["word_index"] is False
    store.commit(messages(message("one two", "1"), message("two three", "2")))
    assert store.hits("two") == [b"two three", b"one two"]
    assert store.hits("one two") == [b"one two"]
    assert store.hits("wo") == []
    store.commit(messages(message("four", "1")))
    assert store.hits("one") == []
    assert [e.seq for e in store.entries(words=("four",))] == [1]
    run(store.backend.close())


# Slots, threads, sizes ---------------------------------------------------------------------------------------


def test_slots(store: Store) -> None:
    def slot(key: str, payload: bytes = b"", expires_at: int | None = None) -> Slot:
        return Slot(kind="k", key=key, payload=payload, expires_at=expires_at)

    def keys(**query: Any) -> list[str]:
        found = run(store.backend.read_slots(KEY, NS, None, SlotQuery("k", **query)))
        return [each.key for each in found]

    there = ["a", "a/1", "a/2", "a/é", "b", "\U0010ffff", "\U0010ffffx", "\ud7ff"]
    store.commit(write(slots=tuple(SlotPut(slot(key)) for key in there)))
    assert keys() == sorted(there, key=str.encode)
    assert keys(prefix="a/") == ["a/1", "a/2", "a/é"]
    assert keys(prefix="a/", after="a/1", limit=1) == ["a/2"]
    assert keys(prefix="\U0010ffff") == ["\U0010ffff", "\U0010ffffx"]
    assert keys(prefix="\ud7ff") == ["\ud7ff"]
    absent = SlotPut(slot("a", b"2"), "if_absent")
    assert store.commit(write(slots=(absent, SlotPut(slot("b"), "delete")))).slots == (False, True)
    store.commit(write(slots=(SlotPut(slot("a", b"1", store.clock.us + 50)),)))
    assert "a" in keys()
    store.clock.us += 100
    assert "a" not in keys()
    assert store.commit(write(slots=(absent,))).slots == (True,)
    (found,) = run(store.backend.read_slots(KEY, NS, None, SlotQuery("k", "a", limit=1)))
    assert found == slot("a", b"2")


def test_threads_are_listed_by_activity(store: Store) -> None:
    keys = [b"thread%010d" % n for n in range(5)]
    for n, key in enumerate(keys):
        owner = "s:a" if n % 2 else None
        store.commit(
            write(key, user=owner, thread=ThreadPut(info=b"i", terms=(7, n), title=f"t{n}"))
        )
    store.commit(write(keys[0]))

    def listed(**query: Any) -> list[int]:
        return [int(row.key[6:]) for row in run(store.backend.read_threads(ThreadQuery(**query)))]

    assert listed() == [0, 4, 3, 2, 1]
    assert listed(oldest=True) == [1, 2, 3, 4, 0]
    assert listed(user="s:a") == [3, 1]
    assert listed(user="s:a", oldest=True, limit=1) == [1]
    assert listed(tenant=None) == listed(app=None) == listed()
    assert listed(tenant=None, app=None, oldest=True) == listed(oldest=True)
    assert listed(tenant="x") == listed(app="x") == listed(terms=(7, 8)) == []
    assert listed(terms=(7,)) == listed()
    assert listed(terms=(3, 7)) == [3]
    rows = run(store.backend.read_threads(ThreadQuery(limit=2)))
    last = rows[-1]
    assert listed(after=(last.activity_at, last.key)) == [3, 2, 1]
    assert listed(after=(last.activity_at, last.key), oldest=True) == [0]


def test_namespaces_are_listed(store: Store) -> None:
    store.commit(put(1))
    store.commit(write(ns=b"12345678", namespace="é"))
    store.commit(write(ns=b"23456789", namespace="b", user=None))

    def listed(user: str | None = None) -> list[str]:
        return run(store.backend.read_namespaces(KEY, user))

    assert listed() == ["", "b", "é"]
    assert listed("s:other") == run(store.backend.read_namespaces(KEY2, None)) == []
    store.commit(write(erase=True, kind="erase"))
    assert listed() == []
    store.commit(write(ns=b"23456789", namespace="b", incarnation=LIFE2))
    assert listed() == ["b"]


def test_sizes(store: Store) -> None:
    store.commit(put(1, entries=(EntryPut(message("hello")),), blobs=(Blob(b"b" * 16, b"12"),)))
    store.commit(put(1, KEY2))
    none, one = run(store.backend.measure([b"x" * 16, KEY]))
    assert one == {
        "threads": 1, "namespaces": 1, "checkpoints": 1, "checkpoint_bytes": 5, "messages": 1,
        "message_bytes": 5, "rows": 1, "row_bytes": 7, "store_bytes": 17,
    }  # fmt: skip
    (everything,) = run(store.backend.measure(None))
    assert (everything["threads"], everything["checkpoint_bytes"]) == (2, 10)
    assert everything["store_bytes"] > 10_000
    assert none == dict.fromkeys(one, 0)


def test_erased_content_is_gone_from_every_table(store: Store) -> None:
    blobs = (Blob(b"b" * 16, b"CANARY blob"),)
    slots = (SlotPut(Slot(kind="k", key="CANARY", payload=b"CANARY")),)
    store.commit(put(1, entries=(EntryPut(message("CANARY", "1")),), blobs=blobs, slots=slots))
    store.commit(messages(message("CANARY two")))
    store.commit(write(pop_entries=1))
    said = ThreadPut(info=b"CANARY", title="CANARY", terms=(1,))
    store.commit(write(thread=said, checkpoint_terms=(2,)))
    store.commit(write(erase=True, kind="erase"))
    empty = store.sql(
        "SELECT payload FROM checkpoints UNION ALL SELECT payload FROM log_rows UNION ALL "
        "SELECT payload FROM blobs UNION ALL SELECT payload FROM entries UNION ALL "
        "SELECT payload FROM slots UNION ALL SELECT term FROM terms"
    )
    assert empty == []
    left = store.sql("SELECT * FROM threads"), store.sql("SELECT * FROM heads")
    kept = repr((*left, store.sql("SELECT * FROM journal")))
    assert "CANARY" not in kept
    assert kept.count(KEY.decode()) == 1
    assert store.hits("canary") == store.hits("CANARY") == []


# The writer --------------------------------------------------------------------------------------------------


class Held:
    """Something that keeps every writer waiting while it is open."""

    def __init__(self, path: Path, how: str) -> None:
        self.how = how
        if how == "lock":
            self.fd = os.open(f"{path}-lock", os.O_RDWR)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        else:
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        if self.how == "lock":
            os.close(self.fd)
        else:
            self.db.close()


@pytest.mark.parametrize("written", [False, True], ids=["at once", "after it wrote"])
def test_a_refused_commit_fails_alone_in_its_group(store: Store, written: bool) -> None:
    keys = [b"thread%010d" % n for n in range(20)]
    wrong = {3, 11}
    for n in wrong:
        store.commit(put(1, keys[n], head={"ext_id": "x"}))
    held = Held(store.path, "lock")
    pool = ThreadPoolExecutor(20)
    # The framework's id is found to be taken when the head is written already; a version that is wrong, before.
    refused = {
        n: put(2, keys[n], head={"ext_id": "x"}) if written else put(3, keys[n]) for n in wrong
    }
    jobs = [
        pool.submit(store.commit, refused[n] if n in wrong else put(1, keys[n])) for n in range(20)
    ]
    while store.backend._core.writer._queue.qsize() < 19:  # type: ignore[union-attr]
        pass
    held.close()
    for n, job in enumerate(jobs):
        if n in wrong:
            assert isinstance(job.exception(), Refused)
        else:
            assert job.result().version == 1
    assert store.sql("SELECT count(*), max(version) FROM checkpoints") == [(20, 1)]
    assert store.sql("SELECT max(head_version) FROM heads") == [(1,)]
    pool.shutdown()


@pytest.mark.parametrize("how", ["lock", "begin"])
def test_a_commit_that_waits_is_withdrawn_at_its_deadline(tmp_path: Path, how: str) -> None:
    store = Store(tmp_path / "m.db", timeout=0.2)
    held = Held(store.path, how)
    with pytest.raises(DeadlineError, match="nothing was written"):
        store.commit(put(1))
    with pytest.raises(TimeoutError):
        asyncio.run(store.backend.commit([put(1)]))
    held.close()
    assert store.head() == Head()
    store.backend._options = dataclasses.replace(store.backend._options, timeout=10.0)
    store.commit(put(1))
    run(store.backend.close())


def test_a_cancelled_task_withdraws_its_commit(store: Store) -> None:
    async def main() -> None:
        held = Held(store.path, "lock")
        task = asyncio.create_task(store.backend.commit([put(1)]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.close()
        assert (await store.backend.read_head(KEY, NS, None)) == Head()

    asyncio.run(main())
    store.commit(put(1))


def test_a_commit_under_way_is_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    going, go = threading.Event(), threading.Event()
    now = store.clock.__call__

    def slow() -> int:
        going.set()
        go.wait(10)
        return now()

    store.backend._core.writer._now_us = slow  # type: ignore[union-attr]
    store.backend._options = dataclasses.replace(store.backend._options, timeout=0.1)
    batch = put(1)
    with pytest.raises(OutcomeUnknownError) as caught:
        store.commit(batch)
    assert caught.value.op_id == batch.op_id.hex()

    async def main() -> None:
        task = asyncio.create_task(store.backend.commit([put(1, KEY2)]))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    go.set()
    store.backend._options = dataclasses.replace(store.backend._options, timeout=10.0)
    assert store.commit(batch).duplicate
    assert going.is_set()


def test_callers_of_every_kind_at_once(store: Store) -> None:
    keys = [b"thread%010d" % n for n in range(8)]

    async def tasks() -> None:
        async def one(key: bytes) -> None:
            for version in range(1, 11):
                await store.backend.commit([put(version, key)])
                head = await store.backend.read_head(key, NS, None)
                assert len(head.rows) == version

        await asyncio.gather(*map(one, keys[:4]))

    def script(key: bytes) -> None:
        for version in range(1, 11):
            store.commit(put(version, key))

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(asyncio.run, tasks()), *(pool.submit(script, k) for k in keys[4:])]
    assert [job.result() for job in jobs] == [None] * 5
    assert [store.head(key).head_version for key in keys] == [10] * 8


def test_a_read_is_stopped_at_its_deadline(store: Store) -> None:
    long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    store.backend._options = dataclasses.replace(store.backend._options, timeout=0.1)
    with pytest.raises(DeadlineError):
        run(store.backend._read(lambda db: db.execute(long).fetchall()))
    with pytest.raises(DeadlineError):
        asyncio.run(store.backend._read(lambda db: db.execute(long).fetchall()))
    assert store.head() == Head()


# The life of the object and the file -------------------------------------------------------------------------


def test_what_was_accepted_is_there_after_close(tmp_path: Path) -> None:
    store = Store(tmp_path / "m.db")

    async def main() -> None:
        keys = [b"thread%010d" % n for n in range(100)]
        tasks = [asyncio.create_task(store.backend.commit([put(1, key)])) for key in keys]
        await asyncio.sleep(0)
        await store.backend.close()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    for call in (store.backend.open(), store.backend.commit([put(1)]), store.backend.measure(None)):
        with pytest.raises(ReleasedError):
            run(call)
    run(store.backend.close())
    assert sorted(os.listdir(tmp_path)) == ["m.db", "m.db-lock"]
    again = Store(tmp_path / "m.db")
    assert again.info.salt == store.info.salt
    assert run(again.backend.measure(None))[0]["threads"] == 100
    run(again.backend.close())


def test_the_files_are_private(store: Store) -> None:
    store.commit(put(1))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()}
    assert modes == dict.fromkeys(
        ["memory.db", "memory.db-wal", "memory.db-shm", "memory.db-lock"], 0o600
    )


def test_facts(store: Store) -> None:
    facts = store.info.facts
    assert len(store.info.salt) == 16
    assert facts["sqlite_version"] == sqlite3.sqlite_version
    assert (facts["journal_mode"], facts["synchronous"]) == ("wal", "FULL")
    assert (facts["wal_guard"], facts["schema"]) == ("flock", len(migrate.read()))
    assert store.sql("PRAGMA auto_vacuum") == [(2,)]
    db = store.backend._core.writer.db  # type: ignore[union-attr]
    for pragma, value in {
        "synchronous": 2, "secure_delete": 1, "trusted_schema": 0, "wal_autocheckpoint": 0,
    }.items():  # fmt: skip
        assert db.execute(f"PRAGMA {pragma}").fetchone() == (value,)


@pytest.mark.parametrize("path", [":memory:", "", "file:x.db", "a\0b"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="InMemoryCheckpointer"):
        SqliteBackend(path)


def opened(path: Path, timeout: float = 0.3) -> None:
    backend = SqliteBackend(path, timeout=timeout)
    try:
        run(backend.open())
    finally:
        run(backend.close())


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to look at " * 50)
    with pytest.raises(UnavailableError, match="not a SQLite database"):
        opened(tmp_path / "text.db")
    with sqlite3.connect(tmp_path / "theirs.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "theirs.db").read_bytes()
    with pytest.raises(SchemaError, match="another program"):
        opened(tmp_path / "theirs.db")
    assert (tmp_path / "theirs.db").read_bytes() == before
    with pytest.raises(UnavailableError):
        opened(tmp_path / "text.db" / "below.db")
    with pytest.raises(ConnectionError):
        opened(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnavailableError):
        opened(tmp_path / "m.db")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "m.db")
    with sqlite3.connect(tmp_path / "m.db") as db:
        db.execute("INSERT INTO migrations VALUES (9, 'later', x'00', 1)")
    with pytest.raises(SchemaError, match="upgrade"):
        opened(tmp_path / "m.db")


def test_a_damaged_file_is_named_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "m.db")
    for version in range(1, 200):
        store.commit(put(version, head={"payload": bytes(500)}))
    run(store.backend.close())
    data = bytearray((tmp_path / "m.db").read_bytes())
    data[4096 * 3 :] = os.urandom(len(data) - 4096 * 3)
    (tmp_path / "m.db").write_bytes(data)
    backend = SqliteBackend(tmp_path / "m.db")
    with pytest.raises(CorruptionError):
        run(backend.read_checkpoints(KEY, NS, None, CheckpointQuery()))
    with pytest.raises(CorruptionError):
        run(backend.commit([put(200)]))
    run(backend.close())


def test_a_full_disk(store: Store) -> None:
    store.commit(put(1))
    db = store.backend._core.writer.db  # type: ignore[union-attr]
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 4}")
    large = put(2, head={"payload": bytes(100_000)})
    with pytest.raises(StorageFullError):
        store.commit(large)
    held, pool = Held(store.path, "lock"), ThreadPoolExecutor(3)
    jobs = [pool.submit(store.commit, batch) for batch in (put(1, KEY2), large, write(slots=()))]
    while store.backend._core.writer._queue.qsize() < 2:  # type: ignore[union-attr]
        pass
    held.close()
    assert [type(job.exception()) for job in jobs] == [type(None), StorageFullError, type(None)]
    db.execute("PRAGMA max_page_count = 1000000")
    assert store.commit(large).version == 2
    assert store.sql("PRAGMA integrity_check") == [("ok",)]


def test_opening_waits_no_longer_than_its_deadline(tmp_path: Path) -> None:
    opened(tmp_path / "m.db")
    held = Held(tmp_path / "m.db", "lock")
    with pytest.raises(DeadlineError):
        opened(tmp_path / "m.db", timeout=0.1)
    held.close()
    opened(tmp_path / "m.db")


def test_a_lock_file_that_was_removed_is_made_anew(store: Store) -> None:
    store.commit(put(1))
    os.unlink(f"{store.path}-lock")
    store.commit(put(2))
    held = Held(store.path, "lock")
    store.backend._options = dataclasses.replace(store.backend._options, timeout=0.1)
    with pytest.raises(DeadlineError):
        store.commit(put(3))
    held.close()


def forked(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_opens_its_own(store: Store) -> None:
    store.commit(put(1))
    core = store.backend._core
    read = threading.Thread(target=store.head)
    read.start()

    def child() -> None:
        assert store.head().head_version == 1
        assert store.backend._core is not core
        for version in range(2, 10):
            store.commit(put(version))
        run(store.backend.close())

    assert forked(child) == 0
    read.join()
    assert store.backend._core is core
    store.commit(put(10))
    assert store.head().head_version == 10
    assert store.sql("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_keep_the_parents_lock(store: Store) -> None:
    lock = store.backend._core.writer.lock  # type: ignore[union-attr]
    store.commit(put(1))
    lock.acquire()
    assert lock._fd >= 0
    fd = lock._fd

    def child() -> None:
        with pytest.raises(OSError):
            os.fstat(fd)

    assert forked(child) == 0
    lock.release()


# The plans of the queries ------------------------------------------------------------------------------------


def test_every_query_uses_an_index(store: Store) -> None:
    tables = {"threads", "heads", "checkpoints", "log_rows", "blobs", "entries", "slots", "terms",
              "journal", "j", "t", "h", "c", "l", "s", "e", "x", "f"}  # fmt: skip
    db = sqlite3.connect(store.path)
    scanned = {}
    for name, query in sqlfile.load("sqlite").items():
        if query.sql.split()[0] not in {"SELECT", "INSERT", "UPDATE", "DELETE"}:
            continue
        db.set_authorizer(None)
        # Every parameter is bound to NULL: plans do not depend on values here.
        parameters = dict.fromkeys(
            word.strip("(),|;") .removeprefix(":")
            for word in query.sql.replace("(", " ( ").replace(",", " , ").replace(")", " ) ").split()
            if word.startswith(":")
        )  # fmt: skip
        plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + query.sql, parameters)]
        scans = [
            line
            for line in plan
            if line.split()[0] == "SCAN" and line.split()[1] in tables and "VIRTUAL" not in line
        ]
        sorts = [line for line in plan if "TEMP B-TREE FOR ORDER BY" in line]
        if query.scan is None:
            scanned |= {name: scans} if scans else {}
            if name not in {"read_named_entries", "read_namespaces"}:
                scanned |= {name: sorts} if sorts else {}
    assert scanned == {}


# Driving inline ----------------------------------------------------------------------------------------------


def test_inline_calls_do_not_suspend() -> None:
    async def suspends() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="async method"):
        run_inline(suspends())

    async def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        run_inline(fails())


def test_a_task_made_inside_an_inline_call_waits_as_a_task() -> None:
    seen = []

    async def later() -> None:
        from threadline.inline import is_inline

        seen.append(is_inline())

    async def main() -> None:
        async def step() -> asyncio.Task[None]:
            return asyncio.create_task(later())

        await run_inline(step())

    asyncio.run(main())
    assert seen == [False]


def test_wait_gives_up_and_withdraws() -> None:
    from concurrent.futures import Future

    inline: Future[int] = Future()
    with pytest.raises(TimeoutError):
        run_inline(wait(inline, 0.01))
    assert inline.cancelled()
    waiting: Future[int] = Future()
    with pytest.raises(TimeoutError):
        asyncio.run(wait(waiting, 0.01))
    assert waiting.cancelled()
