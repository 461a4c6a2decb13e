"""Counting in SQLite: five queries of one snapshot."""

from __future__ import annotations

import sqlite3

from threadline.backend import ThreadQuery
from threadline.backends.sqlite_file import SQL
from threadline.backends.sqlite_read import snapshot
from threadline.summary import Dated, Summary, Tokens, ToolCounts


def summarize(db: sqlite3.Connection, query: ThreadQuery, key: bytes | None) -> Summary:
    """See `Backend.summarize`."""
    asked = {"key": key, "tenant": query.tenant, "app": query.app, "user": query.user}
    with snapshot(db):
        threads, seconds, longest = db.execute(SQL["summary_threads"], asked).fetchone()
        messages = db.execute(SQL["summary_messages"], asked).fetchall()
        checkpoints = db.execute(SQL["summary_checkpoints"], asked).fetchall()
        tools = db.execute(SQL["summary_tools"], asked).fetchall()
        tokens = db.execute(SQL["summary_tokens"], asked).fetchone()
    return Summary(
        threads=threads,
        seconds=seconds / 1e6,
        longest=longest / 1e6,
        messages=tuple(Dated(*row) for row in messages),
        checkpoints=tuple(Dated(*row) for row in checkpoints),
        tools=tuple(ToolCounts(*row) for row in tools),
        tokens=Tokens(*tokens),
    )
