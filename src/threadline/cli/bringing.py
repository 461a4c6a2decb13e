"""LangGraph on the command line: `import --from`, and what is done with checkpoints of its threads by their adapter."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from threadline import (
    BaseCheckpointer,
    Checkpoint,
    Message,
    RetentionPolicy,
    SqliteCheckpointer,
    StateDiff,
)
from threadline.cli.options import LANGGRAPH, Call, Refusal, opened
from threadline.cli.output import console, jsonable, plain, print_json, say

if TYPE_CHECKING:
    from threadline.adapters.langgraph import ThreadlineSaver

#: Who speaks in LangGraph's messages.
_ROLES: Mapping[str, Any] = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="KIND",
        help="What the one argument is instead: langgraph-sqlite (a file), langgraph-postgres (a DSN).",
        show_default=False,
    ),
]


def bring(call: Call, kind: str, sources: Sequence[str]) -> None:
    """Import from one store; a thread that could not be brought over is told at the end, and the exit code is 2.

    Raises Refusal.
    """
    if len(sources) != 1:
        raise Refusal(f"--from {kind} takes one store, not {len(sources)}")
    if "user_id" in call.config:
        raise Refusal("LangGraph's threads have no owner: leave out --user")
    started = perf_counter()
    with opened(call.place.open(create=True, relaxed=True)) as memory, _progress() as advance:
        saver = _saver(memory, call.config)
        try:
            # A file is written here and now; a database on the loop that its connections live on.
            run = asyncio.run if isinstance(memory, SqliteCheckpointer) else memory.store.run
            carried = run(saver.aimport(kind, sources[0], advance))
        except (ValueError, OSError) as error:
            raise Refusal(str(error)) from None
    facts: dict[str, Any] = {
        "file": str(call.place),
        "threads": carried.threads,
        "checkpoints": {"new": carried.checkpoints_new, "already_there": carried.checkpoints_there},
        "writes": {"new": carried.writes},
        "bad": [{"thread_id": thread, "reason": why} for thread, why in carried.bad.items()],
        "seconds": round(perf_counter() - started, 3),
    }
    if call.as_json:
        print_json(facts)
    else:
        _tell(facts)
    if carried.bad:
        raise typer.Exit(2)


def _tell(facts: dict[str, Any]) -> None:
    new, there = facts["checkpoints"].values()
    print(f"{'threads':<12} {facts['threads']:,}, each compared with its source")
    print(f"{'checkpoints':<12} {new:,} new, {there:,} already there")
    print(f"{'writes':<12} {facts['writes']['new']:,} new")
    print(f"{'bad threads':<12} {len(facts['bad']):,}")
    print(f"{'time':<12} {facts['seconds']:.2f} s")
    print(f"{'store':<12} {plain(facts['file'])}")
    for bad in facts["bad"]:
        say(plain(f"thread {bad['thread_id']}: {bad['reason']}"))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while a person watches."""
    bar = Progress(
        TextColumn("importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("checkpoints"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


# Showing ----------------------------------------------------------------------------------------------


def langgraph_checkpoint(
    memory: BaseCheckpointer, config: dict[str, Any], at: str | None
) -> Checkpoint | None:
    """A checkpoint of LangGraph's by its version, name or id (None: the latest), its channels as a plain dict in which
    `messages` are the `context`. Raises Refusal."""
    found = langgraph_found(memory, config, at)
    if found is None:
        return None
    state = _saver(memory, config).plain(_where(config, found)) or {}
    messages = state.pop("messages", None)
    if isinstance(messages, list):
        state["context"] = [_message(each) for each in messages]
    return dataclasses.replace(found, state=state)


def langgraph_found(
    memory: BaseCheckpointer, config: Mapping[str, Any], at: str | None
) -> Checkpoint | None:
    """The same, without its channels."""
    _saver(memory, config)  # Refuses where LangGraph is not installed.
    from threadline.adapters.langgraph.document import plain_id

    listed = [
        dataclasses.replace(each, id=plain_id(each.id))
        for each in memory.list_checkpoints(dict(config))
    ]
    if at is None:
        return max(listed, key=lambda each: each.id, default=None)
    for each in listed:
        if at in (str(each.version), each.id, each.name):
            return each
    raise Refusal(
        f"thread {config['thread_id']!r} has no checkpoint {at!r}; `threadline history` lists those it has"
    )


def langgraph_diff(
    memory: BaseCheckpointer, config: Mapping[str, Any], a: str, b: str | None
) -> StateDiff:
    """What differs between two checkpoints of LangGraph's."""
    before, after = (_where(config, langgraph_found(memory, config, at)) for at in (a, b))
    return _saver(memory, config).diff(before, after)


def langgraph_fork(
    memory: BaseCheckpointer, config: Mapping[str, Any], new: str, at: str | None
) -> Checkpoint | None:
    """Copy a thread of LangGraph's; the newest checkpoint of the copy."""
    _saver(memory, config).fork(_where(config, langgraph_found(memory, config, at)), new)
    return langgraph_found(memory, {**config, "thread_id": new}, None)


def langgraph_rollback(
    memory: BaseCheckpointer, config: Mapping[str, Any], to: Checkpoint
) -> Checkpoint | None:
    """Make a checkpoint of LangGraph's the newest again; the newest then."""
    _saver(memory, config).rollback(_where(config, to))
    return langgraph_found(memory, config, None)


def langgraph_prune(
    memory: BaseCheckpointer,
    config: Mapping[str, Any],
    thread: str | None,
    policy: RetentionPolicy,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """Take away what a policy does not keep, as the adapter knows it; how many checkpoints and idle threads."""
    deleted = 0
    if policy.idle_after is not None:
        idle = RetentionPolicy(idle_after=policy.idle_after)
        deleted = memory.prune(dict(config), idle, dry_run=dry_run).threads_deleted
    dropped = _saver(memory, config).retain(policy, thread, dry_run=dry_run)
    return {"dry_run": dry_run, "checkpoints": dropped, "threads_deleted": deleted}


def _where(config: Mapping[str, Any], found: Checkpoint | None) -> Any:
    """The config by which LangGraph knows a checkpoint; None: the thread's newest."""
    where = {"thread_id": config["thread_id"], "checkpoint_ns": config.get("namespace") or ""}
    return {"configurable": where if found is None else {**where, "checkpoint_id": found.id}}


def _message(fields: Any) -> Any:
    """A message of LangChain's, from its fields, as the fields of one of ours."""
    if not isinstance(fields, dict) or fields.get("type") not in _ROLES:
        return fields
    content = fields.get("content")
    said = (
        content if isinstance(content, str) else json.dumps(jsonable(content), ensure_ascii=False)
    )
    called = [
        f"{each.get('name')}({json.dumps(jsonable(each.get('args')))})"
        for each in fields.get("tool_calls") or []
    ]
    text = "\n".join(filter(None, [said, *called]))
    message = Message.text_message(text, _ROLES[fields["type"]], fields.get("id"))
    return {**message.model_dump(), "timestamp": None}


def _saver(memory: BaseCheckpointer, config: Mapping[str, Any]) -> ThreadlineSaver:
    try:
        from threadline.adapters.langgraph import ThreadlineSaver
    except ImportError as error:
        raise Refusal(
            f"LangGraph is not installed: pip install 'threadline[langgraph]' ({error})"
        ) from None
    return ThreadlineSaver(memory, app=config["app"] or LANGGRAPH, tenant=config["tenant"])
