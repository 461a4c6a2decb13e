"""`import --from`: the checkpoints of another framework's own store, which is only read."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from threadline.cli.options import Call, Refusal, opened
from threadline.cli.output import console, plain, print_json, say

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
    try:
        from threadline.adapters.langgraph import ThreadlineSaver
    except ImportError as error:
        raise Refusal(
            f"LangGraph is not installed: pip install 'threadline[langgraph]' ({error})"
        ) from None
    if "user_id" in call.config:
        raise Refusal("LangGraph's threads have no owner: leave out --user")
    started = perf_counter()
    with opened(call.place.open(create=True, relaxed=True)) as memory, _progress() as advance:
        saver = ThreadlineSaver(
            memory, app=call.config["app"] or "langgraph", tenant=call.config["tenant"]
        )
        try:
            carried = asyncio.run(saver.aimport(kind, sources[0], advance))
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
