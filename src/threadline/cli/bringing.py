"""LangGraph on the command line: `import --from`, and a checkpoint of its threads as `show` shows it."""

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

from threadline import BaseCheckpointer, Checkpoint, Message, SqliteCheckpointer
from threadline.cli.options import Call, Refusal, opened
from threadline.cli.output import console, jsonable, plain, print_json, say

if TYPE_CHECKING:
    from threadline.adapters.langgraph import ThreadlineSaver

#: The app of LangGraph's threads, and who speaks in its messages.
LANGGRAPH = "langgraph"
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
    saver = _saver(memory, config)
    listed = memory.list_checkpoints(config)
    if at is None:
        found = max(listed, key=lambda each: each.id, default=None)
    else:
        found = next(
            (each for each in listed if at in (str(each.version), each.id, each.name)), None
        )
        if found is None:
            thread = repr(config["thread_id"])
            raise Refusal(
                f"thread {thread} has no checkpoint {at!r}; `threadline history` lists those it has"
            )
    if found is None:
        return None
    where = {"thread_id": config["thread_id"], "checkpoint_ns": config.get("namespace") or ""}
    state = saver.plain({"configurable": {**where, "checkpoint_id": found.id}}) or {}
    messages = state.pop("messages", None)
    if isinstance(messages, list):
        state["context"] = [_message(each) for each in messages]
    return dataclasses.replace(found, state=state)


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
