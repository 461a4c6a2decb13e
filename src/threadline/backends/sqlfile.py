"""Reads a file of SQL: `-- name --`, a line of intent as a comment, then the query.

A comment `-- scan: reason` marks a query that reads a whole table on purpose, `-- part: of what` a text that only
stands in others. No SQL stands anywhere else, and none is built from data: what varies is bound.
"""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

_NAME = re.compile(r"-- (\w+) --")


class Query(NamedTuple):
    """One query: its intent in a line, the statement, why it scans a table (None: it does not), and whether it is
    only a part of others."""

    intent: str
    sql: str
    scan: str | None = None
    is_part: bool = False


def folder(store: str) -> Traversable:
    """The directory of a store's SQL (`"sqlite"`) inside the package."""
    return files("threadline.backends") / "sql" / store


def parse(text: str) -> dict[str, Query]:
    """The queries by name. Raises ValueError for a name given twice, without an intent or without a query."""
    queries: dict[str, Query] = {}
    _, *parts = _NAME.split(text)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        lines = body.strip().splitlines()
        comments = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
        sql = "\n".join(line for line in lines if not line.startswith("--")).strip().rstrip(";")
        if name in queries:
            raise ValueError(f"the query {name} stands there twice")
        if not lines or not lines[0].startswith("--") or not sql:
            raise ValueError(f"the query {name} needs a line of intent and a statement")
        scan = next((line[5:].strip() for line in comments if line.startswith("scan:")), None)
        is_part = any(line.startswith("part:") for line in comments)
        queries[name] = Query(comments[0], sql, scan, is_part)
    return queries


def load(store: str) -> dict[str, Query]:
    """The queries of a store."""
    return parse((folder(store) / "queries.sql").read_text("utf-8"))


def statements(store: str) -> dict[str, str]:
    """The statements of a store by name, ready to be executed."""
    return {name: query.sql for name, query in load(store).items()}
