"""`import`: conversations into the store, each once however often it is imported.

`import_` reads the files line by line, `_Import.store` brings one conversation in, `Tally` counts, and the rest says
what happened. Every message has an id made of its place and content, so what is there already is recognised.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, BinaryIO

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from threadline import (
    AgentState,
    ConflictError,
    CorruptionError,
    Message,
    ThreadInfo,
    ThreadNotFoundError,
)
from threadline.checkpointer import BaseCheckpointer
from threadline.cli.bringing import From, bring
from threadline.cli.carrying import is_export, seekable
from threadline.cli.conversations import (
    BadLine,
    Conversation,
    position_of,
    read_conversation,
    read_lines,
)
from threadline.cli.options import App, Db, Json, Place, Refusal, Tenant, opened, settle
from threadline.cli.output import console, count_of, plain, print_json, say

STDIN = "-"

Owner = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="ID",
        help="The owner of the conversations that name none.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Bad:
    """A line, or a whole file (line 0), that could not be imported."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return plain(f"{where}: {self.reason}")


@dataclass
class Tally:
    """What an import did."""

    threads_new: int = 0
    threads_grown: int = 0
    threads_there: int = 0
    messages_new: int = 0
    messages_there: int = 0
    checkpoints_new: int = 0
    bad: list[Bad] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> int:
        """Messages looked at, in a second."""
        return round((self.messages_new + self.messages_there) / max(self.seconds, 1e-9))


def import_(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.jsonl",
            help="Files of conversations, or exports; - is standard input.",
            show_default=False,
        ),
    ],
    states: Annotated[
        bool,
        typer.Option(
            "--states",
            metavar="",
            help="Also put the agent state after each message: a checkpoint history to look through.",
        ),
    ] = False,
    source: From = None,
    user: Owner = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Import conversations in OpenAI's format, one a line, or what `threadline export` wrote.

    A line is {"thread_id": ..., "user_id": ..., "messages": [...]}; other keys become metadata of the thread.
    Importing again adds only what is new: a conversation that has grown grows here too. A bad line
    stops nothing; it is reported at the end, and the exit code is then 2.

    Of an export every thread comes with all of its past, whose it was and where; one that is damaged, or holds a thread
    that is there already, brings nothing.
    """
    call = settle(context, db, as_json, user, tenant, app)
    if source is not None:
        bring(call, source, files)
        return
    if not any(name == STDIN or Path(name).is_file() for name in files):
        raise Refusal("; ".join(_why_unreadable(name) for name in files))
    started = perf_counter()
    # Relaxed: a crash loses nothing, a power cut at most the last conversations, which the next import brings again.
    with opened(call.place.open(create=True, relaxed=True)) as memory, _progress(files) as advance:
        run = _Import(memory, call.config, states)
        for name in files:
            try:
                with _opened(name) as stream:
                    run.take_file(name, stream, advance)
            except OSError:
                run.tally.bad.append(Bad(name, 0, _why_unreadable(name)))
    run.tally.seconds = perf_counter() - started
    _report(run.tally, call.place, call.as_json, states)
    if run.tally.bad:
        raise typer.Exit(2)


class _Import:
    """One run of `import`."""

    def __init__(self, memory: BaseCheckpointer, config: dict[str, Any], states: bool) -> None:
        self.memory, self.config, self.states = memory, config, states
        self.tally = Tally()
        self._seen: dict[str, str] = {}

    def take_file(self, name: str, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        """Bring in a file of conversations, or an export."""
        if is_export(stream):
            self.take_export(name, stream)
            return
        for number, line in read_lines(stream):
            self.take(name, number, line)
            advance(len(line or b""))

    def take(self, file: str, number: int, line: bytes | None) -> None:
        """Bring in one line, or note what is wrong with it."""
        try:
            conversation = read_conversation(line)
            before = self._seen.get(conversation.thread_id)
            if before is not None:
                raise BadLine(f"thread_id {conversation.thread_id!r} stands at {before} already")
            self.store(conversation)
            self._seen[conversation.thread_id] = f"{file}:{number}"
        except ThreadNotFoundError:
            thread = repr(conversation.thread_id)
            self.tally.bad.append(Bad(file, number, f"thread {thread} belongs to another user"))
        except (TypeError, ValueError, ConflictError) as error:
            self.tally.bad.append(Bad(file, number, " ".join(str(error).split())))

    def take_export(self, file: str, stream: BinaryIO) -> None:
        """Bring in an export, or note why it cannot be."""
        given = [f"--{name}" for name in ("tenant", "app") if self.config[name]]
        given += ["--user"] if "user_id" in self.config else []
        given += ["--states"] if self.states else []
        if given:
            reason = f"an export says itself what its threads are: leave out {', '.join(given)}"
            self.tally.bad.append(Bad(file, 0, reason))
            return
        try:
            with seekable(stream) as lines:
                counts = self.memory.import_(lines)
        except (ValueError, CorruptionError) as error:
            self.tally.bad.append(Bad(file, 0, str(error)))
            return
        self.tally.threads_new += counts["threads"]
        self.tally.messages_new += counts["messages"]
        self.tally.checkpoints_new += counts["checkpoints"]

    def store(self, conversation: Conversation) -> None:
        """Bring in what of a conversation is not there yet. Raises BadLine, and what the store refuses."""
        config = {**self.config, "thread_id": conversation.thread_id}
        if conversation.user_id is not None:
            config["user_id"] = conversation.user_id
        info = self.memory.get_thread(config)
        there = self._there(config, conversation) if info is not None else 0
        new = conversation.messages[there:]
        if self.states:
            self._put_states(config, conversation, there)
        elif new:
            self.memory.put_messages(config, new)
        self._put_info(config, conversation, info)
        tally = self.tally
        tally.messages_new += len(new)
        tally.messages_there += there
        if info is None:
            tally.threads_new += 1
        elif new:
            tally.threads_grown += 1
        else:
            tally.threads_there += 1

    def _there(self, config: dict[str, Any], conversation: Conversation) -> int:
        """How many of its messages the log holds. Raises BadLine when the log tells another conversation."""
        stored = {
            position: message.message_id
            for message in self.memory.iter_messages(config)
            if (position := position_of(message.message_id)) is not None
        }
        for position, message in enumerate(conversation.messages, 1):
            if position not in stored:
                return position - 1
            if stored[position] != message.message_id:
                raise BadLine(_differs(conversation, position))
        return len(conversation.messages)

    def _put_states(self, config: dict[str, Any], conversation: Conversation, there: int) -> None:
        """One checkpoint a message, each with its message in the same commit."""
        state = self.memory.get_state(config) or AgentState()
        if not isinstance(state, AgentState):
            raise BadLine(f"thread {conversation.thread_id!r} holds a state of another kind")
        messages = conversation.messages
        for position, (old, new) in enumerate(zip(state.context, messages, strict=False), 1):
            if old.message_id != new.message_id:
                raise BadLine(_differs(conversation, position))
        for position in range(len(state.context), len(messages)):
            message = messages[position]
            state.context.append(message)
            unlogged: Sequence[Message] = [message] if position >= there else []
            self.memory.put_state(config, state, messages=unlogged)
            self.tally.checkpoints_new += 1

    def _put_info(
        self, config: dict[str, Any], conversation: Conversation, info: ThreadInfo | None
    ) -> None:
        """Name the thread and keep its metadata; a name that somebody gave it stays."""
        known = info or ThreadInfo(thread_id=conversation.thread_id)
        wanted = known.model_copy(
            update={
                "thread_name": known.thread_name or conversation.name,
                "metadata": {**known.metadata, **conversation.metadata},
            }
        )
        if info is None or wanted != info:
            self.memory.put_thread(config, wanted)


def _differs(conversation: Conversation, position: int) -> str:
    return (
        f"message {position} of thread {conversation.thread_id!r} is not the one that was imported before; "
        "give the conversation another thread_id to keep both"
    )


# Files ------------------------------------------------------------------------------------------------


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STDIN:
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as stream:
        yield stream


def _why_unreadable(name: str) -> str:
    path = Path(name)
    if path.is_dir():
        return f"{name} is a directory; name the files in it"
    if not path.exists():
        return f"there is no file {name}"
    return f"{name} cannot be read"


@contextmanager
def _progress(files: list[str]) -> Iterator[Any]:
    """A bar on stderr while a person watches; gives a function to call with the bytes that were read."""
    total = sum(os.path.getsize(name) for name in files if Path(name).is_file())
    bar = Progress(
        TextColumn("importing"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[lines]:,} conversations"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=None if STDIN in files else total, lines=0)
        lines = 0

        def advance(count: int) -> None:
            nonlocal lines
            lines += 1
            bar.update(task, advance=count, lines=lines)

        yield advance


# What is said at the end ------------------------------------------------------------------------------


def _report(tally: Tally, place: Place, as_json: bool, states: bool) -> None:
    if as_json:
        print_json(_facts(tally, place))
        return
    lines = [
        ("threads", f"{tally.threads_new:,} new", tally.threads_grown, tally.threads_there),
        ("messages", f"{tally.messages_new:,} new", 0, tally.messages_there),
    ]
    for name, new, grown, there in lines:
        more = f", {grown:,} grown" if grown else ""
        print(f"{name:<12} {new}{more}, {there:,} already there")
    if states or tally.checkpoints_new:
        print(f"{'checkpoints':<12} {tally.checkpoints_new:,} new")
    whole = sum(not bad.line for bad in tally.bad)
    print(f"{'bad lines':<12} {len(tally.bad) - whole:,}")
    if whole:
        print(f"{'left out':<12} {count_of(whole, 'file')}")
    print(f"{'time':<12} {tally.seconds:.2f} s, {tally.rate:,} messages a second")
    print(f"{'store':<12} {plain(str(place))}")
    for bad in tally.bad:
        say(str(bad))


def _facts(tally: Tally, place: Place) -> dict[str, Any]:
    return {
        "file": str(place),
        "threads": {
            "new": tally.threads_new,
            "grown": tally.threads_grown,
            "already_there": tally.threads_there,
        },
        "messages": {"new": tally.messages_new, "already_there": tally.messages_there},
        "checkpoints": {"new": tally.checkpoints_new},
        "bad": [
            {"file": bad.file, "line": bad.line or None, "reason": bad.reason} for bad in tally.bad
        ],
        "seconds": round(tally.seconds, 3),
        "messages_per_second": tally.rate,
    }
