"""The file of queries and the migrations: how they are read, and what is applied."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from threadline.backends import migrate, sqlfile
from threadline.errors import SchemaError

GOOD = """-- A story above the first query is no query.

-- first --
-- What it is for.
-- scan: a small table
SELECT 1;

-- second --
-- Another.
SELECT :a,
       :b
"""


def test_queries_are_read_with_their_intent() -> None:
    queries = sqlfile.parse(GOOD)
    assert queries["first"] == ("What it is for.", "SELECT 1", "a small table", False)
    assert queries["second"] == ("Another.", "SELECT :a,\n       :b", None, False)
    (part,) = sqlfile.parse("-- a --\n-- Some columns.\n-- part: of b\nx, y").values()
    assert part.is_part


@pytest.mark.parametrize(
    "text",
    [
        "-- a --\nSELECT 1",
        "-- a --\n-- No statement.\n",
        "-- a --\n",
        "-- a --\n-- Twice.\nSELECT 1\n-- a --\n-- Twice.\nSELECT 2",
    ],
)
def test_a_query_that_is_not_well_formed_is_found(text: str) -> None:
    with pytest.raises(ValueError):
        sqlfile.parse(text)


def test_every_query_of_the_store_is_there_and_says_what_for() -> None:
    queries = sqlfile.load("sqlite")
    assert len(queries) > 60
    assert all(
        query.intent.endswith((".", ":")) or "(" in query.intent for query in queries.values()
    )


# Migrations.

FIRST = "-- One.\nCREATE TABLE a (x TEXT);\nINSERT INTO a VALUES ('; -- no end');\n"
SECOND = "CREATE TABLE b (y);\n-- needs: nothing_has_this\nCREATE TABLE c (z);\n"


def write(directory: Path, *texts: str) -> list[migrate.Migration]:
    directory.mkdir(exist_ok=True)
    for number, text in enumerate(texts, 1):
        (directory / f"{number:04}_step.sql").write_text(text)
    return migrate.read(directory)


def tables(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT sql FROM sqlite_master ORDER BY name")]


def memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def test_migrations_are_applied_once_and_in_order(tmp_path: Path) -> None:
    db, steps = memory(), write(tmp_path, FIRST, SECOND)
    assert migrate.migrate(db, steps, lambda: 1) == 2
    assert migrate.migrate(db, steps, lambda: 2) == 2
    assert db.execute("SELECT version, name, at FROM migrations").fetchall() == [
        (1, "step", 1),
        (2, "step", 1),
    ]
    assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == [
        "migrations",
        "a",
        "b",
    ]
    assert db.execute("SELECT x FROM a").fetchone() == ("; -- no end",)


def test_a_fresh_schema_equals_a_migrated_one(tmp_path: Path) -> None:
    steps = migrate.read()
    steps.append(migrate.Migration(len(steps) + 1, "more", "CREATE TABLE more (x);"))
    fresh, migrated = memory(), memory()
    migrate.migrate(fresh, steps, lambda: 1)
    for count in range(1, len(steps) + 1):
        migrate.migrate(migrated, steps[:count], lambda: 1)
    assert tables(fresh) == tables(migrated)
    assert "more" in " ".join(map(str, tables(fresh)))


def test_a_newer_or_altered_schema_is_refused(tmp_path: Path) -> None:
    db, steps = memory(), write(tmp_path, FIRST, SECOND)
    migrate.migrate(db, steps, lambda: 1)
    with pytest.raises(SchemaError, match="upgrade"):
        migrate.migrate(db, steps[:1], lambda: 1)
    with pytest.raises(SchemaError, match="not the one"):
        migrate.migrate(db, [steps[0], steps[1]._replace(text=SECOND + " ")], lambda: 1)


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    db, steps = memory(), write(tmp_path, FIRST, "CREATE TABLE b (y);\nCREATE TABLE a (x);\n")
    with pytest.raises(sqlite3.OperationalError):
        migrate.migrate(db, steps, lambda: 1)
    assert not db.in_transaction
    assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == ["migrations", "a"]


def test_numbers_have_no_gap(tmp_path: Path) -> None:
    write(tmp_path, FIRST, SECOND)
    (tmp_path / "0001_step.sql").unlink()
    with pytest.raises(ValueError):
        migrate.read(tmp_path)
