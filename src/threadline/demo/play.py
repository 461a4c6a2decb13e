"""The play: start the worker, kill it, start another, check every claim, show the rest.

`run` is the order of scenes. Nothing is claimed that is not checked here, against the store, the ledger of the tools,
and an agent that nobody killed; a claim that does not hold is a DemoError.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from threadline import ConflictError, InMemoryCheckpointer, Message
from threadline.checkpointer import BaseCheckpointer
from threadline.demo.agent import Agent, TripState, open_calls
from threadline.demo.ground import FileGround, Ground
from threadline.demo.scenes import Stage, call_text, commands, show_past
from threadline.demo.story import FATAL_CALL, QUESTIONS, THREAD, USER, model
from threadline.demo.tools import TOOLS

#: What a process that was killed ends with (Windows knows no signals).
KILLED = -signal.SIGKILL if hasattr(signal, "SIGKILL") else 1
#: A worker that takes longer than this, in seconds, is stuck.
PATIENCE = 60.0
CONFIG = {"thread_id": THREAD, "user_id": USER, "state_class": TripState}


class DemoError(Exception):
    """The demo did not go as it must; the message says where."""


@dataclass
class Run:
    """One worker process: which process, what it said it had stored, and how it ended."""

    pid: int
    stored: list[int] = field(default_factory=list)
    code: int = 0


def run(path: Path | None, *, keep: bool, out: Console) -> dict[str, Any]:
    """Play it all on a new file (`path`, or one in a temporary directory), and return the facts.

    keep: leave a temporary directory in place, so that the commands at the end can be tried. Raises DemoError.
    """
    with _place(path, keep) as db:

        def look_further(version: int) -> list[str]:
            return commands(db, version) if keep or path is not None else []

        facts = play(FileGround(db), Stage(out), look_further=look_further)
        return facts | {"file_bytes": db.stat().st_size}


def play(
    ground: Ground,
    stage: Stage,
    *,
    last: Callable[[], dict[str, Any]] = dict,
    look_further: Callable[[int], list[str]] = lambda version: [],
) -> dict[str, Any]:
    """Play it all, and return the facts. last: one more scene. look_further: what to type next, from the version of
    the kill. Raises DemoError."""
    started = perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Path(scratch, "ledger")
        stage.title(f"An agent works on {ground}")
        first = _first_process(stage, ground, ledger)
        stale, facts = _what_is_left(stage, ground, first)
        second = _second_process(stage, ground, ledger, first)
        facts |= _check(stage, ground, ledger, first, second, stale)
    version = facts["killed_at"]["version"]
    with ground.open() as memory:
        facts |= show_past(stage, memory, CONFIG, version)
    facts |= last()
    facts["seconds"] = round(perf_counter() - started, 2)
    facts["db"] = str(ground)
    facts["commands"] = look_further(version)
    stage.end(facts)
    return facts


@contextmanager
def _place(path: Path | None, keep: bool) -> Iterator[Path]:
    if path is not None:
        yield path.absolute()
        return
    directory = tempfile.mkdtemp(prefix="threadline-demo-")
    try:
        yield Path(directory, "memory.db")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


# The processes ----------------------------------------------------------------------------------------


def _first_process(stage: Stage, ground: Ground, ledger: Path) -> Run:
    def fatal(process: subprocess.Popen[str], fact: dict[str, Any]) -> None:
        stage.calling(fact["tool"], fact["arguments"])
        process.kill()

    first = _work(stage, ground, ledger, ["--stall", FATAL_CALL], fatal)
    if first.code != KILLED:
        raise DemoError(f"the first process was to be killed, and ended with {first.code}")
    stage.bad(f"process {first.pid} was killed with SIGKILL while that call was running")
    return first


def _second_process(stage: Stage, ground: Ground, ledger: Path, first: Run) -> Run:
    stage.title("A new process resumes")
    second = _work(stage, ground, ledger, [], None)
    if second.code != 0:
        raise DemoError(f"the second process ended with {second.code}")
    if second.pid == first.pid or not second.stored:
        raise DemoError("there was no second process")
    return second


def _work(
    stage: Stage,
    ground: Ground,
    ledger: Path,
    more: list[str],
    on_stall: Callable[[subprocess.Popen[str], dict[str, Any]], None] | None,
) -> Run:
    """Run a worker to its end and tell what it says. Raises DemoError when it fails or is stuck."""
    # -P: what lies in the current directory is not imported by mistake.
    command = [sys.executable, "-P", "-m", "threadline.demo.worker"]
    command += [*ground.arguments, str(ledger), *more]
    environment = {**os.environ, **ground.environment}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        )
        worker = Run(process.pid)
        stage.said(f"process {process.pid} begins")
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            for line in process.stdout:
                fact = json.loads(line)
                if fact["did"] == "stored":
                    worker.stored.append(fact["version"])
                    stage.stored(fact["version"], Message.model_validate(fact["message"]))
                elif on_stall is not None:
                    on_stall(process, fact)
            worker.code = process.wait()
        finally:
            guard.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if worker.code > 0:
            complaints.seek(0)
            last = complaints.read().strip().rpartition("\n")[2]
            raise DemoError(f"a worker process failed: {last}")
    return worker


# What is checked --------------------------------------------------------------------------------------


def _what_is_left(stage: Stage, ground: Ground, first: Run) -> tuple[TripState, dict[str, Any]]:
    """Look into the store that the killed process left behind."""
    stage.title("What is on disk")
    with ground.open() as memory:
        versions = [checkpoint.version for checkpoint in memory.list_checkpoints(CONFIG)]
        state: TripState = memory.get_state(CONFIG)
        logged = memory.list_messages(CONFIG)
    hold(versions[::-1] == first.stored, "a step that was reported as stored is not there")
    hold(logged == state.context, "the message log and the state tell different stories")
    (call,) = open_calls(state.context)
    hold(call.id == FATAL_CALL, "another call than the interrupted one is open")
    stage.good(f"all {len(versions)} steps that the process reported, and nothing half done")
    stage.good(f"one tool call without a result: {call_text(call.name, call.args)}")
    killed = {"pid": first.pid, "signal": "SIGKILL", "version": versions[0], "open_call": call.id}
    return state, {"killed_at": killed}


def _check(
    stage: Stage, ground: Ground, ledger: Path, first: Run, second: Run, stale: TripState
) -> dict[str, Any]:
    """Check that the whole was done exactly once, and that it is what an agent does that nobody kills."""
    stage.title("Checked")
    with ground.open() as memory:
        versions = [checkpoint.version for checkpoint in memory.list_checkpoints(CONFIG)][::-1]
        state: TripState = memory.get_state(CONFIG)
        logged = memory.list_messages(CONFIG)
        hold(_refused(memory, stale), "a state of the past overwrote what came after it")
    stage.good(
        f"nothing overwritten: a state of version {first.stored[-1]}, put now, is refused, "
        f"since the thread is at {versions[-1]}"
    )
    hold(versions == first.stored + second.stored, "the history has a gap")
    hold(second.stored[0] == first.stored[-1] + 1, "the second process did not go on where it was")
    stage.good(f"nothing lost: versions {versions[0]} to {versions[-1]}, without a gap")
    ran = [line.split() for line in ledger.read_text("utf-8").splitlines()]
    calls = [call for _, call in ran]
    hold(len(calls) == len(set(calls)), "a tool was called twice for one call")
    again = {call for pid, call in ran if int(pid) == second.pid} & {
        call for pid, call in ran if int(pid) == first.pid
    }
    hold(not again, "the second process repeated a call of the first")
    stage.good(f"nothing done twice: {len(calls)} tool calls, each carried out once")
    hold(logged == state.context, "the message log and the state tell different stories")
    hold(_told(state) == _told(_undisturbed()), "an agent that is not killed says something else")
    stage.good("word for word what an agent says that nobody kills")
    return {
        "resumed": {"pid": second.pid, "version": second.stored[0]},
        "checkpoints": len(versions),
        "messages": len(logged),
        "tool_calls": len(calls),
        "lost": 0,
        "repeated": 0,
    }


def _refused(memory: BaseCheckpointer, stale: TripState) -> bool:
    """Whether a process that slept through it all cannot put its old state."""
    try:
        memory.put_state(CONFIG, stale)
    except ConflictError:
        return True
    return False


def _undisturbed() -> TripState:
    """The state after the same conversation in one go."""

    async def converse() -> TripState:
        async with InMemoryCheckpointer() as memory:
            agent = Agent(memory, {"thread_id": THREAD, "user_id": USER}, model, TOOLS)
            for question in QUESTIONS:
                await agent.ask(question)
            return await agent.load()

    return asyncio.run(converse())


def _told(state: TripState) -> tuple[Any, ...]:
    """All of a state but what differs between any two runs: ids and times."""
    messages = [(message.role, message.content) for message in state.context]
    return messages, state.notes, state.execution_meta


def hold(claim: bool, otherwise: str) -> None:
    """Check a claim. Raises DemoError."""
    if not claim:
        raise DemoError(f"this must not happen: {otherwise}")
