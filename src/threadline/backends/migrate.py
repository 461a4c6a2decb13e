"""Migrations: numbered files of SQL, up only, each applied once in a transaction of its own.

`migrations/0001_initial.sql`, `0002_....sql`: applied in order under the write lock, and remembered with a checksum in
the same transaction. So any number of processes can start at once, and a process that is killed at any statement
leaves the file as it was before that migration. A statement behind `-- needs: fts5` is left out where SQLite lacks it.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Sequence
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from threadline.backends import sqlfile
from threadline.backends.sqlite_file import SQL
from threadline.errors import SchemaError

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_NEEDS = re.compile(r"^-- needs: (\w+)$", re.MULTILINE)


class Migration(NamedTuple):
    """One step: its number, its name, its SQL, and the checksum of that."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> bytes:
        return hashlib.blake2b(self.text.encode(), digest_size=16).digest()

    def statements(self, features: frozenset[str]) -> list[str]:
        """Its statements, without those that need what this SQLite has not."""
        found, statement = [], ""
        for line in self.text.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                found.append(statement)
                statement = ""
        return [each for each in found if features.issuperset(_NEEDS.findall(each))]


def read(directory: Traversable | None = None, store: str = "sqlite") -> list[Migration]:
    """The migrations in a directory (None: those of this version, for a store), in order. Raises ValueError for a
    gap."""
    found = []
    for file in (directory or sqlfile.folder(store) / "migrations").iterdir():
        if match := _FILE.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    found.sort()
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are numbered from 0001 without a gap")
    return found


def migrate(
    db: sqlite3.Connection, migrations: Sequence[Migration], now_us: Callable[[], int]
) -> int:
    """Apply what is missing and return the schema's version. Raises SchemaError for a newer or an altered one."""
    features = frozenset({"fts5"} if db.execute(SQL["has_words"]).fetchone()[1] else ())
    while pending := _pending(db, migrations):
        db.execute(SQL["begin_write"])
        try:
            # Another process may have been quicker: look again, now that nobody else can write.
            if _pending(db, migrations)[:1] == pending[:1]:
                _apply(db, pending[0], features, now_us())
            db.execute(SQL["commit"])
        except BaseException:
            if db.in_transaction:
                db.execute(SQL["rollback"])
            raise
    return len(migrations)


def _apply(db: sqlite3.Connection, step: Migration, features: frozenset[str], at: int) -> None:
    db.execute(SQL["create_migrations"])
    for statement in step.statements(features):
        db.execute(statement)
    row = {"version": step.version, "name": step.name, "checksum": step.checksum, "at": at}
    db.execute(SQL["add_migration"], row)


def _pending(db: sqlite3.Connection, migrations: Sequence[Migration]) -> list[Migration]:
    applied = []
    if db.execute(SQL["has_migrations"]).fetchone()[0]:
        applied = db.execute(SQL["read_migrations"]).fetchall()
    return pending(applied, migrations)


def pending(applied: Sequence[Sequence[Any]], migrations: Sequence[Migration]) -> list[Migration]:
    """What is still to be applied after the rows (version, name, checksum). Raises SchemaError."""
    if len(applied) > len(migrations):
        raise SchemaError(
            f"the store has schema {applied[-1][0]} ({applied[-1][1]}), this version of Threadline knows "
            f"{len(migrations)}: upgrade it before the store is opened"
        )
    for (version, name, checksum), known in zip(applied, migrations, strict=False):
        if (version, checksum) != (known.version, known.checksum):
            raise SchemaError(
                f"migration {version} ({name}) of the store is not the one this version of Threadline has"
            )
    return list(migrations[len(applied) :])
