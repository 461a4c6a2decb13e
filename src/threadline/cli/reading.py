"""`threads`, `history` and `stats`: what is in a store, as tables."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from threadline import Checkpoint, ThreadInfo
from threadline.cli.options import (
    App,
    Call,
    Db,
    Json,
    Limit,
    Namespace,
    Refusal,
    Tenant,
    ThreadArgument,
    User,
    known_thread,
    settle,
)
from threadline.cli.output import (
    Column,
    console,
    count_of,
    moment,
    one_line,
    pairs_text,
    plain,
    print_json,
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
        say("no threads" if not (search or wanted or user) else "no thread matches")
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


def history(
    context: typer.Context,
    thread: ThreadArgument,
    limit: Limit = None,
    namespace: Namespace = "",
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List a thread's checkpoints, newest first."""
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory:
        known_thread(memory, call, thread)
        try:
            found = memory.list_checkpoints(call.thread(thread, namespace=namespace), limit=limit)
        except (TypeError, ValueError) as error:
            raise Refusal(str(error)) from None
    if call.as_json:
        print_json_lines(checkpoint.to_dict() for checkpoint in found)
        return
    if not found:
        say(f"thread {plain(thread)} has no checkpoints; `threadline show` prints its messages")
        return
    columns = [
        Column("version", number=True, style="cyan"),
        Column("name", whole=True),
        Column("parent", number=True),
        Column("time"),
        Column("bytes", number=True),
        Column("metadata", cut=True),
    ]
    print_table(columns, map(_checkpoint_row, found))


def _checkpoint_row(checkpoint: Checkpoint) -> list[str]:
    return [
        str(checkpoint.version),
        one_line(checkpoint.name or ""),
        "" if checkpoint.parent_version is None else str(checkpoint.parent_version),
        moment(checkpoint.timestamp),
        f"{checkpoint.bytes:,}",
        pairs_text(checkpoint.metadata),
    ]


def stats(
    context: typer.Context,
    limit: Annotated[
        int,
        typer.Option("--limit", "-n", metavar="N", min=0, help="How many of the largest threads."),
    ] = 10,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Count what is stored, and the bytes it takes.

    The counts are of the whole file; the list of the largest threads is of the tenant, app and user that are named.
    """
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory:
        health = memory.health()
        largest = sorted(memory.list_threads(call.config), key=_weight, reverse=True)[:limit]
        facts = _facts(call, health)
        top = [_thread_facts(info) for info in largest]
    if call.as_json:
        print_json({**facts, "largest": top})
        return
    out = console()
    out.print(Text(plain(facts["file"]), style="bold"), soft_wrap=True)
    for name in ("threads", "messages", "checkpoints"):
        out.print(f"  {name:<12} {facts[name]:>12,}")
    out.print(f"  {'bytes':<12} {facts['bytes']['file']:>12,}  the file and its log")
    for kind, title in (
        ("checkpoints", "heads of checkpoints"),
        ("rows", "what states share: messages, fields"),
        ("messages", "the message log"),
        ("other", "search index, journal, free pages"),
    ):
        out.print(f"  {'':<12} {facts['bytes'][kind]:>12,}  {title}")
    if top:
        out.print()
        columns = [
            Column("largest threads", whole=True, style="cyan"),
            Column("messages", number=True),
            Column("checkpoints", number=True),
        ]
        rows = [
            [
                one_line(each["thread_id"]),
                f"{each['messages']:,}",
                f"{each['checkpoints']:,}",
            ]
            for each in top
        ]
        print_table(columns, rows)
        rest = facts["threads"] - len(top)
        if rest > 0:
            out.print(f"and {count_of(rest, 'other')}", style="dim")


def _weight(info: ThreadInfo) -> int:
    return (info.message_count or 0) + (info.checkpoint_count or 0)


def _facts(call: Call, health: dict[str, Any]) -> dict[str, Any]:
    parts = {
        "checkpoints": int(health["checkpoint_bytes"]),
        "rows": int(health["row_bytes"]),
        "messages": int(health["message_bytes"]),
    }
    whole = int(health["store_bytes"])
    counts = {name: int(health[name]) for name in ("threads", "messages", "checkpoints")}
    other = max(0, whole - sum(parts.values()))
    return {"file": str(call.path), **counts, "bytes": {"file": whole, **parts, "other": other}}


def _thread_facts(info: ThreadInfo) -> dict[str, Any]:
    return {
        "thread_id": info.thread_id,
        "messages": info.message_count,
        "checkpoints": info.checkpoint_count,
    }
