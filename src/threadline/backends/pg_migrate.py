"""Migrations of a PostgreSQL store: on a connection of their own, in one transaction, under an advisory lock.

So any number of processes can start at once, and one that is killed leaves the schema as it was. A store that is up to
date is only looked at, which needs no right to create anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from threadline.backends import migrate
from threadline.backends.migrate import Migration
from threadline.backends.pg_link import Connection
from threadline.backends.pg_sql import Sql, Statement
from threadline.errors import SchemaError

_TABLE = re.compile(r"CREATE TABLE tl\.(\w+) (.*)\) by thread \((.*)\);", re.DOTALL)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
#: The most hash partitions of a table.
MOST_PARTITIONS = 1024


async def open_store(
    connection: Connection, sql: Sql, partitions: int | None, *, create: bool = True
) -> Mapping[str, bytes]:
    """Bring the store up to date and return its facts. create: False refuses one that is not. Raises SchemaError."""
    steps = migrate.read(store="postgres")
    applied = await _applied(connection, sql)
    if not applied or migrate.pending(applied, steps):
        if not create:
            raise SchemaError(
                f"schema {sql.schema!r} holds no store, or one that is not up to date: `threadline migrate` or setup() "
                "(with create=True, the default) sees to it"
            )
        async with connection.transaction():
            await _do(connection, sql, "lock_migrations", schema=sql.schema)
            await _apply(connection, sql, steps, partitions or 0)
    facts = await _stored_facts(connection, sql)
    _agree(facts, sql, partitions)
    return facts


def checked_partitions(partitions: int | None) -> int | None:
    """A number of hash partitions, 0 for plain tables. Raises TypeError, ValueError."""
    if partitions is None:
        return None
    if isinstance(partitions, bool) or not isinstance(partitions, int):
        raise TypeError(f"partitions must be an int, not {type(partitions).__name__}")
    if not 0 <= partitions <= MOST_PARTITIONS:
        raise ValueError(f"partitions must be 0 to {MOST_PARTITIONS}, not {partitions}")
    return partitions


def script(sql: Sql, partitions: int = 0) -> str:
    """All migrations as one SQL text, for those who run DDL by hand. Raises ValueError."""
    partitions = checked_partitions(partitions) or 0
    begin = [f'CREATE SCHEMA IF NOT EXISTS "{sql.schema}";', sql["create_store"].text + ";"]
    steps = _written_steps(sql, migrate.read(store="postgres"), partitions)
    return _in_one([*begin, *steps, _written_out(sql["add_facts"], _facts(sql, partitions))])


async def pending_script(connection: Connection, sql: Sql, partitions: int | None) -> str:
    """What is still to be applied to the store that is there, as one SQL text: all where there is none, only a
    comment where nothing is to be applied. Only reads. Raises SchemaError."""
    if not (applied := await _applied(connection, sql)):
        return script(sql, partitions or 0)
    steps = migrate.pending(applied, migrate.read(store="postgres"))
    facts = await _stored_facts(connection, sql)
    _agree(facts, sql, partitions)
    if not steps:
        return _in_one([f"-- Schema {sql.schema!r} is up to date: nothing is to be applied."])
    return _in_one(_written_steps(sql, steps, int(facts["partitions"])))


def _written_steps(sql: Sql, steps: Sequence[Migration], partitions: int) -> Iterator[str]:
    for step in steps:
        yield f"-- {step.version:04} {step.name}"
        yield from statements(step, sql, partitions)
        # Its number is a key: where somebody else was quicker, the whole text is undone.
        yield _written_out(sql["add_migration"], _row(step))


def _in_one(parts: Iterable[str]) -> str:
    return "BEGIN;\n\n" + "\n\n".join(parts) + "\n\nCOMMIT;\n"


def statements(step: Migration, sql: Sql, partitions: int) -> Iterator[str]:
    """The statements of a migration, for one schema and number of hash partitions (0: plain tables)."""
    for statement in filter(str.strip, _COMMENT.sub("", step.text).split(";\n")):
        for text in _partitioned(statement.strip() + ";", partitions):
            yield sql.ddl(text)


def _partitioned(text: str, partitions: int) -> Iterator[str]:
    table = _TABLE.fullmatch(text)
    if table is None:
        yield text
        return
    name, columns, settings = table.groups()
    stored = f" WITH ({settings})" if settings else ""
    if partitions == 0:
        yield f"CREATE TABLE tl.{name} {columns}){stored};"
        return
    yield f"CREATE TABLE tl.{name} {columns}) PARTITION BY HASH (thread);"
    for number in range(partitions):
        bounds = f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
        yield f"CREATE TABLE tl.{name}_p{number} PARTITION OF tl.{name} {bounds}{stored};"


async def _applied(connection: Connection, sql: Sql) -> list[tuple[Any, ...]]:
    """What was applied: (version, name, checksum), in order; nothing where there is no store."""
    ((there,),) = await _do(connection, sql, "has_store", store=sql.table("store"))
    return [tuple(row) for row in await _do(connection, sql, "read_migrations")] if there else []


async def _stored_facts(connection: Connection, sql: Sql) -> dict[str, bytes]:
    return {row["key"]: row["value"] for row in await _do(connection, sql, "read_facts")}


async def _apply(
    connection: Connection, sql: Sql, steps: Sequence[Migration], partitions: int
) -> None:
    ((there,),) = await _do(connection, sql, "has_schema", schema=sql.schema)
    if not there:
        await connection.execute(f'CREATE SCHEMA "{sql.schema}"')
    if applied := await _applied(connection, sql):
        partitions = int((await _stored_facts(connection, sql))["partitions"])
    else:
        await connection.execute(sql["create_store"].text)
    for step in migrate.pending(applied, steps):
        for text in statements(step, sql, partitions):
            await connection.execute(text)
        await _do(connection, sql, "add_migration", **_row(step))
    await _do(connection, sql, "add_facts", **_facts(sql, partitions))


def _row(step: Migration) -> dict[str, Any]:
    return {"version": step.version, "name": step.name, "checksum": step.checksum}


def _facts(sql: Sql, partitions: int) -> dict[str, Any]:
    return {"user_ids": sql.user_ids, "partitions": str(partitions)}


def _written_out(statement: Statement, values: Mapping[str, Any]) -> str:
    """A statement with its parameters in it, of our own making, for a script."""
    literals = [
        f"'\\x{value.hex()}'" if isinstance(value, bytes) else f"'{value}'"
        for value in statement.arguments(values)
    ]
    return re.sub(r"\$(\d+)", lambda match: literals[int(match[1]) - 1], statement.text) + ";"


def _agree(facts: Mapping[str, bytes], sql: Sql, partitions: int | None) -> None:
    user_ids = facts["user_ids"].decode()
    if user_ids != sql.user_ids:
        raise SchemaError(
            f"the store in schema {sql.schema!r} has user ids of type {user_ids!r}, not {sql.user_ids!r}: open it with "
            f"user_id_type={user_ids!r}, or move it by export and import"
        )
    there = int(facts["partitions"])
    if partitions is not None and partitions != there:
        raise SchemaError(
            f"the store in schema {sql.schema!r} has {there} partitions, not {partitions}: leave the argument out, or "
            "move it by export and import"
        )


async def _do(connection: Connection, sql: Sql, name: str, /, **parameters: Any) -> list[Any]:
    statement = sql[name]
    found: list[Any] = await connection.fetch(statement.text, *statement.arguments(parameters))
    return found
