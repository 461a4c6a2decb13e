"""Counting in SQLite: which threads, then five sums over them, of one snapshot."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from threadline.backend import ThreadQuery
from threadline.backends.sqlite_file import SQL
from threadline.backends.sqlite_read import snapshot
from threadline.summary import Dated, Summary, Tokens, ToolCounts


def summarize(db: sqlite3.Connection, query: ThreadQuery, key: bytes | None) -> Summary:
    """See `Backend.summarize`."""
    asked = {"tenant": query.tenant, "app": query.app, "user": query.user}
    which = "summary_thread" if key else "summary_user" if query.user else "summary_all"
    with snapshot(db):
        threads = db.execute(SQL[which], {**asked, **({"key": key} if key else {})}).fetchall()
        those = {"threads": json.dumps([number for number, _ in threads])}
        messages = db.execute(SQL["summary_messages"], those).fetchall()
        checkpoints = db.execute(SQL["summary_checkpoints"], those).fetchall()
        tools = db.execute(SQL["summary_tools"], those).fetchall()
        tokens = db.execute(SQL["summary_tokens"], those).fetchone()
    spans = [span for _, span in threads]
    return Summary(
        threads=len(threads),
        seconds=sum(spans) / 1e6,
        longest=max(spans, default=0) / 1e6,
        messages=_dated(messages),
        checkpoints=_dated(checkpoints),
        tools=tuple(ToolCounts(*row) for row in sorted(tools)),
        tokens=Tokens(*tokens),
    )


def _dated(rows: Iterable[tuple[int, str | None, int]]) -> tuple[Dated, ...]:
    return tuple(Dated(*row) for row in sorted(rows, key=lambda row: (row[0], row[1] or "")))
