"""`threads`: what is in a store, as a table."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from threadline import ThreadInfo
from threadline.cli.options import (
    LANGGRAPH,
    App,
    Db,
    Json,
    Limit,
    Refusal,
    Tenant,
    User,
    settle,
)
from threadline.cli.output import (
    Column,
    moment,
    one_line,
    print_json_lines,
    print_table,
    say,
)


def threads(
    context: typer.Context,
    search: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only those whose name or id contains it."),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help='Only those with it; again for more. The value is read as JSON where it is some: 1, true, "1".',
        ),
    ] = None,
    limit: Limit = None,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List the threads, the most recently used first."""
    call = settle(context, db, as_json, user, tenant, app)
    wanted = _metadata(metadata or [])
    with call.store() as memory:
        try:
            found = memory.list_threads(call.config, search=search, metadata=wanted, limit=limit)
        except (TypeError, ValueError) as error:
            raise Refusal(str(error)) from None
    if call.as_json:
        print_json_lines(found)
        return
    if not found:
        say(_nothing(call.config["app"], bool(search or wanted or user)))
        return
    columns = [
        Column("id", whole=True, style="cyan"),
        Column("name", cut=True),
        Column("user", cut=True),
        Column("messages", number=True),
        Column("checkpoints", number=True),
        Column("last activity"),
    ]
    print_table(columns, map(_thread_row, found))


def _nothing(app: str, asked: bool) -> str:
    if asked:
        return "no thread matches"
    return (
        "no threads" if app else f"no threads (those of LangGraph are shown with --app {LANGGRAPH})"
    )


def _thread_row(info: ThreadInfo) -> list[str]:
    return [
        one_line(info.thread_id),
        one_line(info.thread_name or "", 60),
        "" if info.user_id is None else one_line(str(info.user_id)),
        f"{info.message_count or 0:,}",
        f"{info.checkpoint_count or 0:,}",
        moment(info.activity_at, seconds=False),
    ]


def _metadata(pairs: list[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for pair in pairs:
        key, mark, text = pair.partition("=")
        if not mark or not key:
            raise Refusal(f"--metadata {pair!r}: write KEY=VALUE")
        try:
            wanted[key] = json.loads(text)
        except (ValueError, RecursionError):
            wanted[key] = text
    return wanted
