"""The command line on a PostgreSQL store: every command, what it makes and what not, and that no password is told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from threadline import Message, PgCheckpointer

Run = Any

COMMANDS = [
    ["threads"], ["history", "trip"], ["show", "trip"], ["show", "trip", "--at", "2"], ["search", "dry"], ["stats"],
    ["diff", "trip", "1"], ["name", "trip", "packed", "--at", "2"], ["fork", "trip", "copy", "--at", "1"],
    ["rollback", "trip", "1"], ["export", "-", "trip"], ["prune", "--keep-last", "1"], ["verify"], ["migrate"],
]  # fmt: skip
#: What is no address, with a password in it that must not be told.
BAD_ADDRESSES = [
    "mysql://me:hunter2@h/db",
    "postgres:/me:hunter2@h/db",
    "postgresql//me:hunter2@h/db",
    "postgresql:me:hunter2@h",
    "postgresql://me:hunter2/x@127.0.0.1:1/db",
    "postgresql://me:hunter2#x@127.0.0.1:1/db",
    "postgresql://me:hunter2[x@127.0.0.1:1/db",
    "postgresql://me:hunter2@127.0.0.1:1/db?sslmode=bogus",
    "postgresql://me:hunter2@127.0.0.1:99999/db",
    "postgresql://me@127.0.0.1:1/db?password=hunter2",
    "postgresql://me:hunter2@127.0.0.1:1/db",
    "postgresql://me:hunter2@nowhere.invalid/db",
]


def fill(dsn: str, **options: Any) -> None:
    with PgCheckpointer(dsn, **options) as memory:
        config = {"thread_id": "trip", "user_id": options.get("user_id_type") and 7}
        config = {key: value for key, value in config.items() if value is not None}
        for step in range(3):
            said = Message.text_message(f"Day {step} is dry.", message_id=f"m{step}")
            memory.put_state(config, {"day": step}, name=f"day-{step}", messages=[said])


async def _tables(dsn: str) -> set[tuple[str, str]]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_)'"
        )
        return {tuple(row) for row in rows}
    finally:
        await connection.close()


def tables(dsn: str) -> set[tuple[str, str]]:
    return asyncio.run(_tables(dsn))


def test_every_command_on_postgres(run: Run, pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(pg_dsn)
    password = urlsplit(pg_dsn).password
    assert password
    for command in COMMANDS:
        result = run(*command, "--db", pg_dsn)
        assert result.code == 0, (command, result.err)
        assert password not in result.out + result.err
        assert result.out
    monkeypatch.setenv("THREADLINE_URL", pg_dsn.replace("postgresql://", "postgresql+asyncpg://"))
    assert [line["thread_id"] for line in run("threads", "--json").lines] == ["trip", "copy"]
    facts = run("stats", "--json").json
    assert (facts["threads"], facts["messages"], facts["checkpoints"]) == (2, 4, 5)
    assert facts["file"] == pg_dsn.replace(f":{password}", "")


def test_import_and_export_between_stores(run: Run, pg_dsn: str, tmp_path: Path) -> None:
    talk = tmp_path / "talk.jsonl"
    messages = [{"role": "user", "content": "Is it dry?"}, {"role": "assistant", "content": "Yes."}]
    talk.write_text(json.dumps({"thread_id": "talk", "messages": messages}) + "\n", "utf-8")
    told = run("import", talk, "--states", "--json", "--db", pg_dsn).json
    assert (told["threads"]["new"], told["checkpoints"]["new"]) == (1, 2)
    assert str(urlsplit(pg_dsn).password) not in told["file"]
    assert run("import", talk, "--states", "--json", "--db", pg_dsn).json["messages"]["new"] == 0
    assert run("export", tmp_path / "all.jsonl", "--db", pg_dsn).code == 0
    assert run("import", tmp_path / "all.jsonl", "--db", tmp_path / "file.db").code == 0
    here, there = (
        run("show", "talk", "--json", "--db", db).json for db in (tmp_path / "file.db", pg_dsn)
    )
    assert here["state"] == there["state"]


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_a_reading_command_makes_no_store(run: Run, pg_dsn: str, command: list[str]) -> None:
    result = run(*command, "--db", pg_dsn)
    assert (result.code, result.out) == (2, "")
    assert "threadline migrate" in result.err
    assert tables(pg_dsn) == set()


def test_a_schema_and_a_type_of_user_ids(
    run: Run, pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pg_dsn, schema="my agent", user_id_type="bigint")
    monkeypatch.setenv("THREADLINE_URL", pg_dsn)
    options = ["--schema", "my agent", "--user-id-type", "bigint"]
    (line,) = run(*options, "threads", "--user", "int:7", "--json").lines
    assert line["thread_id"] == "trip"
    assert "(schema my agent)" in run(*options, "stats", "--json").json["file"]
    wrong = run("--schema", "my agent", "threads")
    assert wrong.code == 2
    assert "user ids of type 'bigint'" in wrong.err
    assert run("threads").code == 2  # There is nothing in public.
    refused = run(*options, "threads", "--user", "alice")
    assert (refused.code, refused.out) == (2, "")
    monkeypatch.setenv("THREADLINE_SCHEMA", "my agent")
    monkeypatch.setenv("THREADLINE_USER_ID_TYPE", "bigint")
    assert len(run("threads", "--user", "int:7", "--json").lines) == 1
    assert run("--schema", 'a"b', "threads").code == 2
    assert run("--user-id-type", "uuid", "threads").code == 2


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_a_password_is_not_told(
    run: Run, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("option", "environment"):
        if place == "environment":
            monkeypatch.setenv("THREADLINE_URL", address)
        talk = tmp_path / "talk.jsonl"
        talk.write_text('{"thread_id": "a", "messages": []}\n', "utf-8")
        for command in (["threads"], ["migrate"], ["import", str(talk)], ["stats", "--json"]):
            named = ["--db", address] if place == "option" else []
            result = run(*command, *named)
            assert (result.code, result.out) == (2, "")
            assert result.err.startswith("threadline: ")
            assert "hunter" not in result.err
            assert "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["talk.jsonl"]


def test_a_part_of_a_password_is_in_no_error_of_the_library() -> None:
    for address in BAD_ADDRESSES:
        with pytest.raises((ValueError, ConnectionError)) as caught:
            PgCheckpointer(address, timeout=5).setup()
        assert "hunter" not in str(caught.value)


def test_without_the_driver_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "asyncpg.py").write_text("raise ModuleNotFoundError(name='asyncpg')", "utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "threadline.cli", "threads", "--db", "postgresql://h/db"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'threadline[postgres]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate(run: Run, pg_dsn: str, tmp_path: Path) -> None:
    made = run("migrate", "--schema", "agent", "--partitions", "2", "--db", pg_dsn)
    assert (made.code, made.err) == (0, "")
    assert "is up to date" in made.out
    assert ("agent", "threadline_threads_p1") in tables(pg_dsn)
    assert ("agent", "threadline_threads_p2") not in tables(pg_dsn)
    told = run("--schema", "agent", "migrate", "--json", "--db", pg_dsn).json
    assert (told["backend"], told["partitions"]) == ("postgres", 2)
    wrong = run("migrate", "--schema", "agent", "--partitions", "3", "--db", pg_dsn)
    assert wrong.code == 2
    assert "has 2 partitions, not 3" in wrong.err
    assert run("migrate", "--partitions", "5000", "--db", pg_dsn).code == 2
    path = tmp_path / "new.db"
    assert run("migrate", "--db", path).code == 0
    assert path.exists()
    assert run("migrate", "--db", path, "--partitions", "2").code == 2


def test_the_sql_is_printed_without_a_server(run: Run) -> None:
    printed = run(
        "migrate", "--sql", "--schema", "agent", "--partitions", "2", "--user-id-type", "int"
    )
    assert printed.code == 0
    assert printed.out == PgCheckpointer.migration_sql(
        schema="agent", partitions=2, user_id_type="int"
    )
    assert printed.out.startswith("BEGIN;")
    assert run("migrate", "--sql", "--db", "memory.db").code == 2
    assert run("migrate", "--sql", "--schema", "pg_x").code == 2
    assert run("migrate", "--sql", "--partitions", "-1").code == 2


def test_the_sql_that_a_store_still_needs_is_printed(run: Run, pg_dsn: str) -> None:
    asked = ("migrate", "--sql", "--schema", "agent", "--db", pg_dsn)
    assert run(*asked).out == PgCheckpointer.migration_sql(schema="agent")
    assert not any(schema == "agent" for schema, _ in tables(pg_dsn))
    assert run("migrate", "--schema", "agent", "--db", pg_dsn).code == 0
    done = run(*asked)
    assert (done.code, done.err) == (0, "")
    assert "is up to date" in done.out
    assert "CREATE" not in done.out
    assert run(*asked, "--partitions", "2").code == 2
