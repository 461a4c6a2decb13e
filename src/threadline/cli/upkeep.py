"""`prune`, `verify` and `stats`: what a store holds, what of it can go, and whether it is whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from threadline import PruneReport, RetentionPolicy
from threadline.cli.bringing import langgraph_prune
from threadline.cli.charts import write_charts
from threadline.cli.options import (
    LANGGRAPH,
    App,
    Call,
    Db,
    Json,
    Refusal,
    Tenant,
    User,
    known_thread,
    refusals,
    settle,
)
from threadline.cli.output import (
    Column,
    console,
    count_of,
    one_line,
    plain,
    print_json,
    print_json_lines,
    print_table,
)
from threadline.cli.plots import print_activity

#: How `verify` ends when something is wrong.
DAMAGED = 1
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"(\d+)([smhdw])")

OneThread = Annotated[
    str | None,
    typer.Argument(metavar="[THREAD]", help="Default: every thread.", show_default=False),
]
KeepLast = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Keep the newest N.", show_default=False),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        metavar="AGE",
        help="Take those that are older, and keep the rest: 30d, 12h, 2w, 90m, 10s.",
        show_default=False,
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        "--max",
        metavar="N",
        min=1,
        help="Keep at most N of a thread, whatever else is said.",
        show_default=False,
    ),
]
KeepFirst = Annotated[bool, typer.Option("--keep-first", metavar="", help="Keep the oldest one.")]
KeepLatest = Annotated[
    bool, typer.Option("--keep-latest", metavar="", help="Keep the newest of each name.")
]
KeepNamed = Annotated[
    bool,
    typer.Option(
        "--keep-named/--drop-named",
        metavar="",
        help="Whether every name protects (default).",
        show_default=False,
    ),
]
KeepBranches = Annotated[
    bool,
    typer.Option(
        "--keep-branches/--drop-branches",
        metavar="",
        help="Whether those stay where histories part (default).",
        show_default=False,
    ),
]
Idle = Annotated[
    str | None,
    typer.Option(
        metavar="AGE",
        help="Also delete threads, messages and all, that nobody has written to for so long.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", metavar="", help="Say what would go, and take nothing.")
]


def prune(
    context: typer.Context,
    thread: OneThread = None,
    keep_last: KeepLast = None,
    older_than: OlderThan = None,
    most: Most = None,
    keep_first: KeepFirst = False,
    keep_latest: KeepLatest = False,
    keep_named: KeepNamed = True,
    keep_branches: KeepBranches = True,
    idle: Idle = None,
    dry_run: DryRun = False,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Take away the checkpoints that are not to be kept, and what only they needed. The newest always stays.

    Messages stay (but those of --idle threads). Others can go on writing meanwhile.
    """
    call = settle(context, db, as_json, user, tenant, app)
    if (keep_last, older_than, most, idle) == (None, None, None, None):
        raise Refusal("say what may go: --keep-last, --older-than, --max or --idle")
    if thread is not None and idle is not None:
        raise Refusal("--idle is for many threads: leave THREAD out, or delete the one")
    with call.store() as memory, refusals():
        policy = RetentionPolicy(
            keep_last=keep_last,
            keep_newer_than=_age(older_than, "--older-than"),
            max_per_thread=most,
            keep_first=keep_first,
            keep_latest_of_each_name=keep_latest,
            keep_named=keep_named,
            keep_branch_points=keep_branches,
            idle_after=_age(idle, "--idle"),
        )
        if thread is not None:
            known_thread(memory, call, thread)
        report: PruneReport | dict[str, Any]
        if call.config["app"] == LANGGRAPH:
            report = langgraph_prune(memory, call.config, thread, policy, dry_run=dry_run)
        else:
            report = memory.prune(_scope(call, thread), policy, dry_run=dry_run)
    if call.as_json:
        print_json(report if isinstance(report, dict) else report.to_dict())
    elif isinstance(report, dict):
        did = "would take" if dry_run else "took"
        gone = count_of(report["threads_deleted"], "idle thread")
        console().print(f"{did} {count_of(report['checkpoints'], 'checkpoint')} and {gone}")
    else:
        _print_pruned(report)


def _print_pruned(report: PruneReport) -> None:
    out = console()
    if not report.threads:
        out.print(f"nothing to take, {count_of(report.kept, 'checkpoint')} kept")
        return
    told = (
        f"{count_of(report.checkpoints, 'checkpoint')} of {count_of(len(report.threads), 'thread')}"
    )
    if report.threads_deleted:
        told += f", {count_of(report.threads_deleted, 'idle thread')} deleted"
    did = "would take" if report.dry_run else "took"
    out.print(f"{did} {told}: {report.bytes:,} bytes; {report.kept:,} kept", soft_wrap=True)
    columns = [
        Column("thread", whole=True, style="cyan"),
        Column("checkpoints", number=True),
        Column("kept", number=True),
        Column("bytes", number=True),
        Column(""),
    ]
    largest = sorted(report.threads, key=lambda each: -each.bytes)
    rows = [
        [
            one_line(each.thread_id),
            f"{each.checkpoints:,}",
            f"{each.kept:,}",
            f"{each.bytes:,}",
            "deleted" if each.deleted else "",
        ]
        for each in largest[:10]
    ]
    print_table(columns, rows)
    if rest := len(largest) - len(rows):
        out.print(f"and {count_of(rest, 'other')}", style="dim")


def _age(text: str | None, option: str) -> timedelta | None:
    if text is None:
        return None
    parts = _AGE.fullmatch(text)
    try:
        if parts is not None:
            return timedelta(seconds=int(parts[1]) * _UNITS[parts[2]])
    except OverflowError:
        pass
    raise Refusal(f"{option} {text!r}: write an age like 30d, 12h, 2w, 90m or 10s")


def _scope(call: Call, thread: str | None) -> dict[str, Any]:
    return call.config if thread is None else call.thread(thread)


def verify(
    context: typer.Context,
    thread: OneThread = None,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Read threads again, all of their past, and say what does not fit. Exits with 1 when something is wrong."""
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory, refusals():
        ids = [thread] if thread else [info.thread_id for info in memory.list_threads(call.config)]
        if thread:
            known_thread(memory, call, thread)
        found = [memory.verify(call.thread(each)) for each in ids]
    wrong = [report for report in found if not report.ok]
    if call.as_json:
        print_json_lines(report.to_dict() for report in found)
    else:
        out = console()
        for report in wrong:
            for problem in report.problems:
                out.print(Text(plain(problem), style="red"), soft_wrap=True)
        checkpoints = sum(report.checkpoints for report in found)
        messages = sum(report.messages for report in found)
        out.print(
            f"{count_of(len(found), 'thread')} read, {count_of(checkpoints, 'checkpoint')}, "
            f"{count_of(messages, 'message')}: "
            + (f"{count_of(len(wrong), 'thread')} damaged" if wrong else "nothing is wrong"),
            soft_wrap=True,
        )
    if wrong:
        raise typer.Exit(DAMAGED)


#: What `stats` tells of the threads in scope, as `astats` counted it.
_ACTIVITY = ("roles", "tools", "tokens", "days", "durations")


@dataclass(frozen=True)
class _Stats:
    """What `stats` tells: of the store, of the threads in scope, and what a policy would free."""

    file: dict[str, Any]
    scope: dict[str, Any]
    freed: PruneReport
    keep_last: int

    def to_dict(self, limit: int) -> dict[str, Any]:
        """Everything, ready for JSON."""
        freed = self.freed
        return {
            **self.file,
            **{what: self.scope[what] for what in ("names", *_ACTIVITY)},
            "largest": self.scope["by_thread"][:limit],
            "would_free": {
                "keep_last": self.keep_last,
                "checkpoints": freed.checkpoints,
                "bytes": freed.bytes,
            },
        }


def stats(
    context: typer.Context,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", "-n", metavar="N", min=0, help="How many of the largest threads, of names."
        ),
    ] = 10,
    keep_last: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Say what keeping the newest N would free."),
    ] = 20,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write charts (SVG) into this folder, too."),
    ] = None,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Count what is stored, the bytes it takes, and what was going on: roles, tools, tokens, days.

    The counts and bytes are of the whole store; all else is of the tenant, app and user that are named.
    """
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory, refusals():
        freed = memory.prune(call.config, RetentionPolicy(keep_last=keep_last), dry_run=True)
        found = _Stats(_facts(call, memory.health()), memory.stats(call.config), freed, keep_last)
    charts = _charts(plot, found.scope, limit) if plot is not None else []
    if call.as_json:
        print_json(found.to_dict(limit))
        return
    _print_file(found.file)
    _print_scope(found, limit)
    print_activity(found.scope, limit)
    for path in charts:
        console().print(f"written: {plain(str(path))}", style="dim", soft_wrap=True)


def _charts(folder: Path, scope: dict[str, Any], limit: int) -> list[Path]:
    try:
        return write_charts(folder, scope, limit)
    except OSError as error:
        raise Refusal(
            f"charts cannot be written into {folder}: {error.strerror or error}"
        ) from None


def _print_file(facts: dict[str, Any]) -> None:
    out = console()
    out.print(Text(plain(facts["file"]), style="bold"), soft_wrap=True)
    for name in ("threads", "messages", "checkpoints"):
        out.print(f"  {name:<12} {facts[name]:>12,}")
    out.print(f"  {'bytes':<12} {facts['bytes']['file']:>12,}  all of the store")
    for kind, title in (
        ("checkpoints", "heads of checkpoints"),
        ("rows", "what states share: messages, fields"),
        ("messages", "the message log"),
        ("other", "indexes, journal, free space"),
    ):
        out.print(f"  {'':<12} {facts['bytes'][kind]:>12,}  {title}")


def _print_scope(found: _Stats, limit: int) -> None:
    out, freed = console(), found.freed
    policy = f"--keep-last {found.keep_last}"
    out.print(
        f"  {'would free':<12} {freed.bytes:>12,}  prune {policy}, {freed.checkpoints:,} checkpoints"
    )
    names = list(found.scope["names"].items())
    if names and limit:
        out.print()
        columns = [Column("names", whole=True, style="cyan"), Column("checkpoints", number=True)]
        print_table(columns, [[one_line(name), f"{count:,}"] for name, count in names[:limit]])
        _print_rest(len(names) - limit)
    threads = found.scope["by_thread"]
    if threads and limit:
        out.print()
        columns = [
            Column("largest threads", whole=True, style="cyan"),
            Column("messages", number=True),
            Column("checkpoints", number=True),
            Column("bytes", number=True),
        ]
        rows = [
            [
                one_line(each["thread_id"]),
                *(f"{each[what]:,}" for what in ("messages", "checkpoints", "bytes")),
            ]
            for each in threads[:limit]
        ]
        print_table(columns, rows)
        _print_rest(len(threads) - limit)


def _print_rest(rest: int) -> None:
    if rest > 0:
        console().print(f"and {count_of(rest, 'other')}", style="dim")


def _facts(call: Call, health: dict[str, Any]) -> dict[str, Any]:
    parts = {
        "checkpoints": int(health["checkpoint_bytes"]),
        "rows": int(health["row_bytes"]),
        "messages": int(health["message_bytes"]),
    }
    whole = int(health["store_bytes"])
    counts = {name: int(health[name]) for name in ("threads", "messages", "checkpoints")}
    other = max(0, whole - sum(parts.values()))
    return {"file": str(call.place), **counts, "bytes": {"file": whole, **parts, "other": other}}
