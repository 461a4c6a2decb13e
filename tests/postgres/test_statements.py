"""Every statement of the PostgreSQL backend: it can be prepared, and finds what it needs by an index."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from threadline import PgCheckpointer
from threadline.backends import sqlfile
from threadline.backends.pg_sql import FEW, PARTS, Parts, Sql, Statement, checked_schema

#: Statements that are no queries of our tables.
_UTILITY = {"create_store"}
QUERIES = {name: query for name, query in sqlfile.load("postgres").items() if not query.is_part}


def statements(sql: Sql) -> Iterator[tuple[str, Statement]]:
    """Every statement that is ever sent, but for those marked as scans."""
    for name, query in QUERIES.items():
        if name not in _UTILITY and query.scan is None:
            yield name, sql[name]
    everything = frozenset(PARTS) | {"fence", "relaxed", "head", "said", "absent", "folded"}
    others: list[frozenset[str]] = [frozenset(), frozenset({"slots", "absent", "forgotten"})]
    for names in (everything, *(everything - {part} for part in everything), *others):
        for count in (1, FEW, FEW + 1):
            parts = Parts.of({name: count * (name in names) for name in everything | names})
            about = f"{count} of {sorted(names)}"
            yield f"put {about}", sql.put(parts)
            yield f"put together {about}", sql.put(parts, waits=False)
            if "fence" not in names:
                yield f"create {about}", sql.put(parts, create=True)


def scans(plan: dict[str, Any]) -> Iterator[str]:
    """The scans of our tables in a plan that look at more than an index leads to."""
    table = plan.get("Relation Name", "")
    kind = plan["Node Type"]
    if table.startswith("threadline_") and kind not in ("ModifyTable", "Bitmap Heap Scan"):
        led = kind in ("Index Scan", "Index Only Scan") and "Index Cond" in plan
        if not led:
            yield f"{kind} on {table}"
    if kind == "Bitmap Index Scan" and "Index Cond" not in plan:
        yield f"{kind} on {plan['Index Name']}"
    yield from itertools.chain.from_iterable(scans(each) for each in plan.get("Plans", ()))


#: So many threads with a message and a commit each that a planner thinks of indexes.
FILL = """
INSERT INTO "some schema".threadline_threads
SELECT n, int8send(n), true, '', '', n::text, NULL, '', 1, 0, 1, NULL, NULL, NULL, 0, n, n, 1, 0
  FROM generate_series(1, 5000) AS n;
INSERT INTO "some schema".threadline_entries
SELECT n, 1, n, NULL, true, '', '', '', NULL, NULL, NULL, NULL, ARRAY[n, -1]
  FROM generate_series(1, 5000) AS n;
INSERT INTO "some schema".threadline_journal
SELECT n, 1, n, NULL, 0, gen_random_uuid() FROM generate_series(1, 5000) AS n;
ANALYZE;
"""


@pytest.mark.parametrize("user_ids", ["string", "bigint"])
async def test_every_statement_uses_an_index(pg_dsn: str, user_ids: Any) -> None:
    sql = Sql("some schema", user_ids)
    async with PgCheckpointer(pg_dsn, schema="some schema", user_id_type=user_ids):
        connection = await asyncpg.connect(pg_dsn)
        await connection.execute(FILL)
        # What is left to a scan then, no index can do.
        await connection.execute("SET enable_seqscan = off")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        found = {}
        for name, statement in statements(sql):
            nothing = f"({', '.join(['NULL'] * len(statement.names))})" if statement.names else ""
            await connection.execute(f"PREPARE it AS {statement.text}")
            (told,) = await connection.fetchrow(f"EXPLAIN (FORMAT JSON) EXECUTE it{nothing}")
            await connection.execute("DEALLOCATE it")
            if scanned := list(scans(json.loads(told)[0]["Plan"])):
                found[name] = scanned
        await connection.close()
    assert found == {}


def test_a_scan_is_seen() -> None:
    by_index = {"Node Type": "Index Scan", "Relation Name": "threadline_heads", "Index Cond": "x"}
    assert list(scans({"Node Type": "Limit", "Plans": [by_index]})) == []
    whole = {"Node Type": "Index Scan", "Relation Name": "threadline_heads"}
    assert list(scans({"Node Type": "Limit", "Plans": [whole]})) != []
    assert list(scans({"Node Type": "Seq Scan", "Relation Name": "threadline_heads"})) != []


async def test_statements_that_scan_say_why_and_can_be_prepared(pg_dsn: str) -> None:
    async with PgCheckpointer(pg_dsn):
        connection = await asyncpg.connect(pg_dsn)
        for name, query in QUERIES.items():
            await connection.prepare(Sql()[name].text)
            assert query.intent
        await connection.close()


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "a" * 64,
        "é" * 32,
        'a"; DROP TABLE x; --',
        "a\x00",
        "a\nb",
        "pg_mine",
        "a\\b",
        '"',
        None,
        7,
    ],
)
def test_a_schema_that_is_no_name_is_refused(schema: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="schema"):
        PgCheckpointer("postgresql://nowhere/db", schema=schema)


@pytest.mark.parametrize(
    "schema", ["agent", "My Agents", "select", "a'b", "über", "a-b.c", "$1", "{{x}}"]
)
async def test_any_other_schema_is_quoted(pg_dsn: str, schema: str) -> None:
    assert checked_schema(schema) == schema
    async with PgCheckpointer(pg_dsn, schema=schema) as checkpointer:
        await checkpointer.aput_state({"thread_id": "t"}, {"n": 1})
        assert await checkpointer.aget_state({"thread_id": "t"}) == {"n": 1}
        assert (await checkpointer.ahealth())["threads"] == 1
    connection = await asyncpg.connect(pg_dsn)
    where = await connection.fetch(
        "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'threadline%'"
    )
    await connection.close()
    assert [row[0] for row in where] == [schema]
