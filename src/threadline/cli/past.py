"""`history`, `diff`, `fork`, `rollback` and `name`: a thread's past, looked at and worked with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.text import Text

from threadline import Checkpoint, StateDiff, ThreadInfo
from threadline.checkpointer import BaseCheckpointer
from threadline.cli.bringing import (
    langgraph_diff,
    langgraph_fork,
    langgraph_found,
    langgraph_rollback,
)
from threadline.cli.options import (
    LANGGRAPH,
    App,
    At,
    Call,
    Db,
    Json,
    Limit,
    Namespace,
    Refusal,
    Tenant,
    ThreadArgument,
    User,
    known_checkpoint,
    known_thread,
    refusals,
    settle,
)
from threadline.cli.output import (
    Column,
    console,
    moment,
    one_line,
    pairs_text,
    plain,
    print_json,
    print_json_lines,
    print_table,
    say,
)
from threadline.cli.tree import Drawn, draw, origin_of

_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def history(
    context: typer.Context,
    thread: ThreadArgument,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only the checkpoints of this name.", show_default=False),
    ] = None,
    limit: Limit = None,
    namespace: Namespace = "",
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show a thread's checkpoints as a tree, newest first, with their names and the forks made from them."""
    call = settle(context, db, as_json, user, tenant, app)
    config = call.thread(thread, namespace=namespace)
    with call.store() as memory, refusals():
        info = known_thread(memory, call, thread)
        found = memory.list_checkpoints(config, name=name, limit=limit)
        forks = _forks(memory, call, thread, namespace) if found else {}
    if call.as_json:
        print_json_lines(
            {**checkpoint.to_dict(), "forks": forks.get(checkpoint.version, [])}
            for checkpoint in found
        )
        return
    if not found:
        say(_nothing(thread, name))
        return
    # Checkpoints of one name are a list: what lies between them is left out.
    drawn: Iterable[Drawn] = draw(found) if name is None else (Drawn("", each) for each in found)
    _print_tree([_row(each, forks) for each in drawn])
    _print_origin(info, found[-1])


def _nothing(thread: str, name: str | None) -> str:
    if name is not None:
        return f"thread {plain(thread)} has no checkpoint of the name {plain(name)}"
    return f"thread {plain(thread)} has no checkpoints; `threadline show` prints its messages"


def _print_tree(rows: list[list[str]]) -> None:
    """The table, without the columns in which nothing stands."""
    columns = [
        Column("version", style="cyan"),
        Column("name", whole=True),
        Column("time", cut=True),
        Column("bytes", number=True),
        Column("from here", whole=True, style="green"),
        Column("metadata", cut=True),
    ]
    shown = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    print_table([columns[at] for at in shown], [[row[at] for at in shown] for row in rows])


def _row(drawn: Drawn, forks: dict[int, list[str]]) -> list[str]:
    checkpoint = drawn.checkpoint
    if checkpoint is None:
        return [drawn.lanes, "", "", "", "", ""]
    back = origin_of(checkpoint)
    moved = [f"back to {back}"] if back not in (None, checkpoint.parent_version) else []
    told = [f"fork {one_line(each)}" for each in forks.get(checkpoint.version, [])]
    return [
        f"{drawn.lanes} {checkpoint.version}".strip(),
        one_line(checkpoint.name or ""),
        moment(checkpoint.timestamp),
        f"{checkpoint.bytes:,}",
        ", ".join(told),
        " ".join([*moved, pairs_text(checkpoint.metadata)]).strip(),
    ]


def _print_origin(info: ThreadInfo, oldest: Checkpoint) -> None:
    if info.forked_from is not None and oldest.parent_version is None:
        origin = info.forked_from
        whose = one_line(origin.thread_id) or "a thread that was erased"
        console().print(
            Text(f"forked from {whose} at version {origin.version}", style="dim"), soft_wrap=True
        )


def _forks(
    memory: BaseCheckpointer, call: Call, thread: str, namespace: str
) -> dict[int, list[str]]:
    """The threads that were forked from this one, by the version that they were forked at."""
    found: dict[int, list[str]] = defaultdict(list)
    for info in memory.list_threads(call.config, order="oldest"):
        origin = info.forked_from
        if origin is not None and (origin.thread_id, origin.namespace) == (thread, namespace):
            found[origin.version].append(info.thread_id)
    return found


def diff(
    context: typer.Context,
    thread: ThreadArgument,
    a: Annotated[str, typer.Argument(metavar="A", help="A version or a name.", show_default=False)],
    b: Annotated[
        str | None,
        typer.Argument(
            metavar="[B]",
            help="Another one; default: the newest checkpoint.",
            show_default=False,
        ),
    ] = None,
    namespace: Namespace = "",
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Say what differs between two states of a thread: + added, - removed, ~ changed or moved."""
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory, refusals():
        known_thread(memory, call, thread)
        config = call.thread(thread, namespace=namespace)
        compare = langgraph_diff if call.config["app"] == LANGGRAPH else _diff
        found = compare(memory, config, a, b)
    if call.as_json:
        print_json(found.to_dict())
        return
    out = console()
    head, *lines = str(found).split("\n")
    out.print(Text(plain(head), style="bold"), soft_wrap=True)
    for line in lines:
        out.print(Text(plain(line), style=_STYLES.get(line[:1], "")), soft_wrap=True)


def fork(
    context: typer.Context,
    thread: ThreadArgument,
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="The new thread's id.", show_default=False)
    ],
    at: At = None,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            metavar="",
            help="Copy every namespace with all of its checkpoints, not the state alone.",
            show_default=False,
        ),
    ] = False,
    namespace: Namespace = "",
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Copy a thread into a new one, as it is or as it was; from then on the two share nothing."""
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory, refusals():
        known_thread(memory, call, thread)
        config = call.thread(thread, namespace=namespace)
        if call.config["app"] == LANGGRAPH:
            made = langgraph_fork(memory, config, new, at)
        else:
            if at is not None:
                config["version"] = known_checkpoint(memory, config, at).version
            made = memory.fork(config, new, history=history)
        origin = known_thread(memory, call, new).forked_from
    if call.as_json:
        print_json(made and made.to_dict())
        return
    version = "" if origin is None else f" at version {origin.version}"
    _done(f"{one_line(new)} is a fork of {one_line(thread)}{version}")


def rollback(
    context: typer.Context,
    thread: ThreadArgument,
    to: Annotated[
        str,
        typer.Argument(
            metavar="VERSION|NAME",
            help="The state to go back to: a version, or the newest checkpoint of that name.",
            show_default=False,
        ),
    ],
    expected: Annotated[
        int | None,
        typer.Option(
            "--expected",
            metavar="VERSION",
            min=1,
            help="Refuse unless the newest checkpoint is this one.",
            show_default=False,
        ),
    ] = None,
    namespace: Namespace = "",
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Make an old state the newest one again. Nothing is erased: it is a new checkpoint."""
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory, refusals():
        known_thread(memory, call, thread)
        config = call.thread(thread, namespace=namespace)
        target = _meant(memory, call, config, to)
        made: Checkpoint | None
        if call.config["app"] != LANGGRAPH:
            made = memory.rollback(config, target.version, expected_version=expected)
        elif expected is None:
            made = langgraph_rollback(memory, config, target)
        else:
            raise Refusal("--expected is not known to LangGraph's threads: leave it out")
    if call.as_json:
        print_json(made and made.to_dict())
        return
    version = made.version if made else 0
    _done(f"{one_line(thread)} is at version {version}, which is version {target.version} again")


def name(
    context: typer.Context,
    thread: ThreadArgument,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="The name.", show_default=False),
    ] = None,
    at: At = None,
    remove: Annotated[
        bool, typer.Option("--remove", metavar="", help="Take its name away instead.")
    ] = False,
    namespace: Namespace = "",
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Give a checkpoint a name; several may share one. A name protects it from pruning."""
    if (name is None) != remove:
        told = "" if name is None else "without one: --at says of which checkpoint"
        raise Refusal(f"give a NAME, or --remove {told or 'to take one away'}")
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory, refusals():
        known_thread(memory, call, thread)
        config = call.thread(thread, namespace=namespace)
        if at is not None:
            config["version"] = _meant(memory, call, config, at).version
        named = memory.name_checkpoint(config, name)
    if call.as_json:
        print_json(named.to_dict())
        return
    called = "has no name" if named.name is None else f"is named {one_line(named.name)}"
    _done(f"version {named.version} of {one_line(thread)} {called}")


def _meant(memory: BaseCheckpointer, call: Call, config: dict[str, Any], at: str) -> Checkpoint:
    """The checkpoint that is meant by a version or a name. Raises Refusal when there is none."""
    found = langgraph_found(memory, config, at) if call.config["app"] == LANGGRAPH else None
    return found or known_checkpoint(memory, config, at)


def _diff(memory: BaseCheckpointer, config: dict[str, Any], a: str, b: str | None) -> StateDiff:
    return memory.diff(config, a, b)


def _done(message: str) -> None:
    console().print(Text(message), soft_wrap=True)
