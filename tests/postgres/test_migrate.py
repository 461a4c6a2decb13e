"""Migrations on a real server: the printed SQL and the library make the same, many may start at once, a newer schema is
refused, and a role with few rights is enough."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from threadline import (
    InMemoryCheckpointer,
    Message,
    PgCheckpointer,
    RetentionPolicy,
    SchemaError,
    ThreadInfo,
    ThreadlineError,
)
from threadline.checkpointer import BaseCheckpointer

DOCS = Path(__file__).parents[2] / "docs" / "postgres.md"

#: What a schema is made of, one row a thing; a schema's own name is taken out.
CATALOG = """
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text, a.attstorage::text,
       a.attcompression::text, coll.collname::text, a.attnum::text, pg_get_expr(d.adbin, d.adrelid)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_collation coll ON coll.oid = a.attcollation
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE n.nspname = $1 AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'relation', c.relname, c.relkind::text, c.reloptions::text, c.relpersistence::text, pg_get_partkeydef(c.oid),
       pg_get_expr(c.relpartbound, c.oid), am.amname::text, c.relreplident::text, NULL
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam
 WHERE n.nspname = $1
UNION ALL
SELECT 'index', c.relname, replace(pg_get_indexdef(c.oid), n.nspname, 'S'), i.indisvalid::text, NULL, NULL, NULL, NULL,
       NULL, NULL
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1
UNION ALL
SELECT 'constraint', r.relname, o.conname, pg_get_constraintdef(o.oid), NULL, NULL, NULL, NULL, NULL, NULL
  FROM pg_constraint o JOIN pg_class r ON r.oid = o.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE n.nspname = $1
UNION ALL
SELECT 'function', p.proname, pg_get_functiondef(p.oid), NULL, NULL, NULL, NULL, NULL, NULL, NULL
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1
"""
#: What the store knows of itself, but for its salt and the time.
KNOWN = "SELECT key, value FROM \"{0}\".threadline_store WHERE key <> 'salt' ORDER BY key"


async def catalog(dsn: str, schema: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        found = [tuple(row) for row in await connection.fetch(CATALOG, schema)]
        found += [tuple(row) for row in await connection.fetch(KNOWN.format(schema))]
        return sorted(found, key=repr)
    finally:
        await connection.close()


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("schema", "user_ids", "partitions"),
    [("public", "string", 0), ("odd schema; é", "bigint", 3), ("agent", "int", 1)],
)
async def test_the_printed_sql_makes_what_the_library_makes(
    pg_dsn: str, schema: str, user_ids: Any, partitions: int
) -> None:
    options: dict[str, Any] = {"schema": schema, "user_id_type": user_ids}
    sql = PgCheckpointer.migration_sql(partitions=partitions, **options)
    await execute(pg_dsn, sql)
    by_hand = await catalog(pg_dsn, schema)
    config = {"thread_id": "t", "user_id": "alice" if user_ids == "string" else 7}
    async with PgCheckpointer(pg_dsn, create=False, **options) as memory:
        await memory.aput_state(config, {"n": 1}, messages=[Message.text_message("word")])
        assert await memory.aget_state(config) == {"n": 1}
    assert await catalog(pg_dsn, schema) == by_hand
    await execute(pg_dsn, f'DROP SCHEMA "{schema}" CASCADE')
    if schema == "public":
        await execute(pg_dsn, "CREATE SCHEMA public")
    async with PgCheckpointer(pg_dsn, partitions=partitions, **options):
        pass
    assert await catalog(pg_dsn, schema) == by_hand
    assert len(by_hand) > 100


async def test_the_sql_run_twice_changes_nothing(pg_dsn: str) -> None:
    sql = PgCheckpointer.migration_sql()
    await execute(pg_dsn, sql)
    before = await catalog(pg_dsn, "public")
    with pytest.raises(asyncpg.PostgresError):
        await execute(pg_dsn, sql)
    assert await catalog(pg_dsn, "public") == before


@pytest.mark.parametrize(("schema", "partitions"), [("public", 0), ("agent", 2)])
async def test_the_sql_that_a_store_still_needs(pg_dsn: str, schema: str, partitions: int) -> None:
    whole = PgCheckpointer.migration_sql(schema=schema, partitions=partitions)
    async with PgCheckpointer(pg_dsn, schema=schema, partitions=partitions) as memory:
        fresh = await catalog(pg_dsn, schema)
        nothing = await memory.apending_sql()
        assert re.fullmatch(r"BEGIN;\n\n-- .* is up to date: .*\n\nCOMMIT;\n", nothing)
        await execute(pg_dsn, nothing)
    assert await catalog(pg_dsn, schema) == fresh
    await execute(pg_dsn, f'DROP SCHEMA "{schema}" CASCADE')
    store = PgCheckpointer(pg_dsn, schema=schema, partitions=partitions)
    assert await store.apending_sql() == whole
    steps = whole.split("\n\n-- 0")[1:]  # What follows each "-- 0001 name".
    begin, end = whole.partition("\n\n-- 0001")[0], whole.rpartition("\n\nINSERT")[2]
    await execute(
        pg_dsn, f"{begin}\n\n-- 0{steps[0]}\n\nINSERT{end}"
    )  # As an older version left it.
    older = await catalog(pg_dsn, schema)
    needed = await PgCheckpointer(pg_dsn, schema=schema).apending_sql()
    assert "-- 0002" in needed
    assert "-- 0001" not in needed
    assert "CREATE SCHEMA" not in needed
    assert await catalog(pg_dsn, schema) == older
    await execute(pg_dsn, needed)
    assert await catalog(pg_dsn, schema) == fresh
    with pytest.raises(asyncpg.PostgresError):  # Twice: nothing is changed.
        await execute(pg_dsn, needed)
    assert await catalog(pg_dsn, schema) == fresh
    wrong = PgCheckpointer(pg_dsn, schema=schema, partitions=partitions + 1)
    with pytest.raises(SchemaError):
        await wrong.apending_sql()
    await store.arelease()


SETUP = """
import asyncio, sys
from threadline import PgCheckpointer

async def main():
    async with PgCheckpointer(sys.argv[1], schema="agent", partitions=2) as memory:
        await memory.aput_state({"thread_id": sys.argv[2]}, {"n": 1})

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
"""


async def test_eight_processes_set_up_at_once(pg_dsn: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SETUP, pg_dsn, f"t{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(8)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (0, "")
    async with PgCheckpointer(pg_dsn, schema="agent", create=False) as memory:
        assert (
            len(await memory.alist_threads({})) == 8
        )  # Of one store: names are found by its salt.
        assert await memory.aget_state({"thread_id": "t7"}) == {"n": 1}


async def test_a_newer_schema_is_refused(pg_dsn: str) -> None:
    async with PgCheckpointer(pg_dsn) as memory:
        await memory.aput_state({"thread_id": "t"}, {"n": 1})
    later = "INSERT INTO threadline_store (key, value) VALUES ('migration 99', 'later 00')"
    await execute(pg_dsn, later)
    before = await catalog(pg_dsn, "public")
    for create in (True, False):
        with pytest.raises(SchemaError, match=r"schema 99 \(later\).*upgrade") as caught:
            await PgCheckpointer(pg_dsn, create=create).asetup()
        assert "setup()" not in str(caught.value)
    assert await catalog(pg_dsn, "public") == before


async def test_an_altered_migration_is_refused(pg_dsn: str) -> None:
    async with PgCheckpointer(pg_dsn):
        pass
    altered = "UPDATE threadline_store SET value = 'initial 00' WHERE key = 'migration 1'"
    await execute(pg_dsn, altered)
    with pytest.raises(SchemaError, match=r"migration 1 \(initial\)"):
        await PgCheckpointer(pg_dsn).asetup()


async def test_what_is_not_there_is_not_made(pg_dsn: str) -> None:
    with pytest.raises(SchemaError, match="threadline migrate"):
        await PgCheckpointer(pg_dsn, schema="agent", create=False).asetup()
    connection = await asyncpg.connect(pg_dsn)
    assert await connection.fetchval("SELECT to_regnamespace('agent')") is None
    await connection.close()


@pytest.mark.parametrize("partitions", [-1, 1025, True, 1.0, "4"])
def test_a_number_of_partitions_is_checked(partitions: Any) -> None:
    for make in (
        lambda: PgCheckpointer(partitions=partitions),
        lambda: PgCheckpointer.migration_sql(partitions=partitions),
    ):
        with pytest.raises((TypeError, ValueError), match="partitions"):
            make()


def test_a_type_of_user_ids_is_checked() -> None:
    with pytest.raises(ValueError, match="user_id_type"):
        PgCheckpointer(user_id_type="uuid")  # type: ignore[arg-type]


# Rights -------------------------------------------------------------------------------------------------


def as_role(dsn: str, role: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture
async def roles(pg_dsn: str) -> Any:
    """Names for two roles that are there while the test runs: an owner and an app."""
    names = [f"test_{kind}_{secrets.token_hex(4)}" for kind in ("owner", "app")]
    yield names
    for name in names:
        exists = "SELECT FROM pg_roles WHERE rolname = $1"
        connection = await asyncpg.connect(pg_dsn)
        if await connection.fetchrow(exists, name) is not None:
            await connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
        await connection.close()


async def refused(dsn: str, sql: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(dsn, sql)


async def exercise(memory: BaseCheckpointer, tmp_path: Path) -> None:
    """A call of every kind that reads or writes."""
    config = {"thread_id": "t", "user_id": "alice"}
    for number in range(40):
        said = Message.text_message(f"word {number}", message_id=f"m{number}")
        await memory.aput_state(config, {"n": number, "big": "x" * 9000}, messages=[said], name="a")
        await memory.aappend(config, [f"item {number}"], field="list")
    await memory.aput_thread(config, ThreadInfo(thread_id="t", thread_name="T", metadata={"k": 1}))
    await memory.arollback(config, 3)
    await memory.afork(config, "u")
    assert len(await memory.alist_messages(config, search="word")) == 40
    assert await memory.asearch_messages({"user_id": "alice"}, "word", limit=1)
    assert len(await memory.alist_threads({"user_id": "alice"}, metadata={"k": 1})) >= 1
    assert len(await memory.apop_messages(config, 2)) == 2
    await memory.adelete_message(config, "m0")
    await memory.aredact(config, "m1")
    await memory.aprune(config, RetentionPolicy(keep_last=5, keep_named=False))
    await memory.aexport(config, tmp_path / "t.jsonl")
    assert (await memory.averify(config)).ok
    assert (await memory.ahealth())["ok"]
    assert (await memory.astats(config))["by_thread"]
    await memory.adelete_thread({**config, "thread_id": "u"})
    await memory.aerase_user({"user_id": "alice"})
    assert (
        await memory.aput_state(config, {"n": 0})
    ).version == 82  # A deleted thread that lives again.
    async with InMemoryCheckpointer() as elsewhere:
        await elsewhere.aput_state({"thread_id": "elsewhere"}, {"n": 7})
        await elsewhere.aexport({"thread_id": "elsewhere"}, tmp_path / "elsewhere.jsonl")
    await memory.aimport(tmp_path / "elsewhere.jsonl")
    assert await memory.aget_state({"thread_id": "elsewhere"}) == {"n": 7}


async def test_a_role_that_owns_a_prepared_schema(
    pg_dsn: str, roles: list[str], tmp_path: Path
) -> None:
    """No rights on public, none to create schemas: it makes its tables in the schema that is there for it."""
    _, app = roles
    database = urlsplit(pg_dsn).path[1:]
    await execute(
        pg_dsn,
        f"REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON DATABASE {database} FROM PUBLIC; "
        f"CREATE ROLE {app} LOGIN PASSWORD 'secret'; GRANT CONNECT ON DATABASE {database} TO {app}; "
        f"CREATE SCHEMA agent AUTHORIZATION {app}",
    )
    mine = as_role(pg_dsn, app)
    await refused(mine, "CREATE SCHEMA other")
    await refused(mine, "CREATE TABLE public.t (x int)")
    async with PgCheckpointer(mine, schema="agent", partitions=2) as memory:
        await exercise(memory, tmp_path)
    with pytest.raises(ThreadlineError, match="rights"):
        await PgCheckpointer(mine, schema="other").asetup()


@pytest.mark.parametrize("by_hand", [False, True])
async def test_the_least_rights_are_those_of_the_page(
    by_hand: bool, pg_dsn: str, roles: list[str], tmp_path: Path
) -> None:
    """The script of docs/postgres.md, as it stands but for the names: rows and nothing else."""
    text = DOCS.read_text("utf-8")
    blocks = re.findall(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (first,) = [block for block in blocks if "CREATE ROLE" in block]
    (second,) = [block for block in blocks if "GRANT SELECT, INSERT" in block]
    owner, app = roles
    database = urlsplit(pg_dsn).path[1:]

    def here(script: str) -> str:
        for name, mine in {"agent_owner": owner, "agent_app": app, "mydb": database}.items():
            script = script.replace(name, mine)
        return script.replace("'...'", "'secret'")

    await execute(pg_dsn, f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    await execute(pg_dsn, here(first))
    if by_hand:  # Creating a schema is a right that the owner has not, also where it is there.
        sql = PgCheckpointer.migration_sql(schema="agent")
        await execute(as_role(pg_dsn, owner), re.sub(r"CREATE SCHEMA .*;\n", "", sql))
    else:
        await PgCheckpointer(as_role(pg_dsn, owner), schema="agent").asetup()
    await execute(as_role(pg_dsn, owner), here(second))
    mine = as_role(pg_dsn, app)
    for forbidden in (
        "CREATE SCHEMA other", "CREATE TABLE public.t (x int)", "CREATE TABLE agent.t (x int)",
        "TRUNCATE agent.threadline_threads", "DROP TABLE agent.threadline_slots",
        "UPDATE agent.threadline_store SET value = '9'", "DELETE FROM agent.threadline_store",
        "ALTER TABLE agent.threadline_slots ADD x int",
    ):  # fmt: skip
        await refused(mine, forbidden)
    async with PgCheckpointer(mine, schema="agent") as memory:
        await exercise(memory, tmp_path)
