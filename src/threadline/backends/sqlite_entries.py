"""The message log inside one commit: entries go, come, change; and their words leave and enter the index with them.

A contentless index forgets a row only when it is given the row's old words, so every change finds them first: the
stored `search` text, or what the projection makes of the stored payload.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from threadline.backend import Batch, Entry, EntryPut, Reason, Refused
from threadline.backends.sqlite_file import SQL
from threadline.backends.sqlite_rows import StoredEntry, entry_columns, short
from threadline.errors import SchemaError

#: (kind, payload, key_id) -> the words of an entry, None for one that is not searched.
Projection = Callable[[str, bytes, int], str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
    """The word index: there or not, and what makes words of a payload."""

    projection: Projection | None
    indexed: bool

    def derived(self, entry: Entry) -> bool:
        """Whether the words of this entry need not be stored. A scan needs them stored."""
        return entry.derived and self.indexed and self.projection is not None

    def of(self, stored: StoredEntry) -> str | None:
        """The words of a stored entry. Raises SchemaError when only a projection can tell."""
        if not stored.derived:
            return stored.search
        if self.projection is None:
            raise SchemaError("this store was written with a projection; open it with the same one")
        return self.projection(stored.kind or "message", stored.payload, stored.key_id)

    def add(self, db: sqlite3.Connection, words: Iterable[tuple[int, str | None]]) -> None:
        self._change(db, "add_words", words)

    def remove(self, db: sqlite3.Connection, words: Iterable[tuple[int, str | None]]) -> None:
        self._change(db, "delete_words", words)

    def _change(
        self, db: sqlite3.Connection, how: str, words: Iterable[tuple[int, str | None]]
    ) -> None:
        if self.indexed:
            db.executemany(SQL[how], ({"id": id, "words": text} for id, text in words if text))


@dataclasses.dataclass(slots=True)
class _Pending:
    """An entry of the batch on its way in: new (`old` None) or over a stored one."""

    seq: int
    entry: Entry
    terms: tuple[int, ...] | None
    old: StoredEntry | None = None
    changed: bool = True

    def put(self, entry: Entry, terms: tuple[int, ...]) -> None:
        if entry.meta is None:
            entry = dataclasses.replace(entry, meta=self.entry.meta)
        else:
            self.terms = terms
        self.entry, self.changed = entry, True


class EntryLog:
    """The entries of one thread and namespace, in a commit."""

    def __init__(
        self, db: sqlite3.Connection, words: Words, thread: int, ns: bytes, at: int
    ) -> None:
        self._db, self._words, self._at = db, words, at
        self._where = {"thread": thread, "ns": short(ns)}

    def remove(self, batch: Batch) -> tuple[int, tuple[Entry, ...]]:
        """Take away what the batch says: how many, and those that were popped. Raises Refused."""
        gone: dict[int, StoredEntry] = {}
        if batch.remove_entries:
            gone |= self._named(batch.remove_entries)
        if batch.clear_entries:
            gone |= self._find("find_tail", after=0)
        if batch.tail is not None:
            tail = self._find("find_tail", after=batch.tail.after)
            if [(each.seq, each.digest) for each in tail.values()] != list(batch.tail.expected):
                raise Refused(Reason.CONFLICT)
            gone |= tail
        popped: tuple[Entry, ...] = ()
        if batch.pop_entries:
            last = self._find("find_last", limit=batch.pop_entries)
            popped = tuple(each.entry() for each in reversed(last.values()))
            gone |= last
        if gone:
            self._words.remove(
                self._db, [(each.id, self._words.of(each)) for each in gone.values()]
            )
            self._db.executemany(SQL["delete_entry"], ({"id": id} for id in gone))
            self._drop_terms(each.seq for each in gone.values() if each.meta is not None)
        return len(gone), popped

    def put(self, puts: tuple[EntryPut, ...], last_seq: int) -> tuple[tuple[int, ...], int]:
        """Put entries in order; an id that comes twice is folded first. The position of each, and how many are new."""
        if not puts:
            return (), 0
        by_id: dict[str, _Pending] = {
            str(old.ext_id): _Pending(old.seq, old.entry(), None, old, changed=False)
            for old in self._named([p.entry.ext_id for p in puts if p.entry.ext_id]).values()
        }
        pending: dict[int, _Pending] = {each.seq: each for each in by_id.values()}
        seqs: list[int] = []
        new = 0
        for put in puts:
            there = by_id.get(put.entry.ext_id) if put.entry.ext_id is not None else None
            if there is None:
                new += 1
                there = _Pending(last_seq + new, put.entry, put.terms)
                pending[there.seq] = there
                if put.entry.ext_id is not None:
                    by_id[put.entry.ext_id] = there
            elif put.on_duplicate == "replace":
                there.put(put.entry, put.terms)
            seqs.append(there.seq)
        changed = [each for each in pending.values() if each.changed]
        self._add([each for each in changed if each.old is None])
        self._change([(each.old, each.entry) for each in changed if each.old is not None])
        self._put_terms(changed)
        return tuple(seqs), new

    def worded(self, stored: StoredEntry) -> Entry:
        """A stored entry with its words, also where they are not stored."""
        return dataclasses.replace(stored.entry(), search=self._words.of(stored))

    def rewrite(self, entries: tuple[Entry, ...]) -> None:
        """Other content in the same positions. Raises Refused when one is no longer there."""
        pairs = []
        for entry in entries:
            found = list(self._find("find_seq", seq=entry.seq).values())
            if not found:
                raise Refused(Reason.STALE)
            pairs.append((found[0], entry))
        self._change(pairs)

    def _find(self, query: str, **parameters: Any) -> dict[int, StoredEntry]:
        rows = self._db.execute(SQL[query], {**self._where, **parameters})
        return {row[0]: StoredEntry(*row) for row in rows}

    def _named(self, ext_ids: Iterable[str | None]) -> dict[int, StoredEntry]:
        wanted = list(dict.fromkeys(ext_ids))
        return self._find("find_named", ext_ids=json.dumps(wanted)) if wanted else {}

    def _add(self, added: list[_Pending]) -> None:
        if not added:
            return
        (last,) = self._db.execute(SQL["last_entry_id"]).fetchone()
        rows = []
        for id, each in enumerate(added, last + 1):
            content = entry_columns(each.entry, self._words.derived(each.entry))
            place = {
                "id": id,
                "seq": each.seq,
                "ext_id": each.entry.ext_id,
                "created_at": each.entry.created_at or self._at,
            }
            rows.append({**self._where, **place, **content})
        self._db.executemany(SQL["add_entry"], rows)
        self._words.add(
            self._db,
            [(row["id"], each.entry.search) for row, each in zip(rows, added, strict=True)],
        )

    def _change(self, pairs: list[tuple[StoredEntry, Entry]]) -> None:
        if not pairs:
            return
        moved = [
            (old.id, before, entry.search)
            for old, entry in pairs
            if (before := self._words.of(old)) != entry.search
        ]
        self._words.remove(self._db, [(id, before) for id, before, _ in moved])
        self._words.add(self._db, [(id, after) for id, _, after in moved])
        rows = [
            {"id": old.id, **entry_columns(entry, self._words.derived(entry))}
            for old, entry in pairs
        ]
        self._db.executemany(SQL["change_entry"], rows)

    def _put_terms(self, changed: list[_Pending]) -> None:
        replaced = [each for each in changed if each.terms is not None]
        self._drop_terms(each.seq for each in replaced if each.old and each.old.meta is not None)
        rows = [
            {**self._where, "kind": 2, "term": term, "ref": each.seq}
            for each in replaced
            for term in each.terms or ()
        ]
        if rows:
            self._db.executemany(SQL["add_term"], rows)

    def _drop_terms(self, seqs: Iterable[int]) -> None:
        if refs := list(seqs):
            self._db.execute(SQL["delete_entry_terms"], {**self._where, "refs": json.dumps(refs)})
