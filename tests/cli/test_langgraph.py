"""LangGraph on the command line: bringing an official saver's checkpoints over, and showing them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from typer.testing import CliRunner, Result

from threadline.cli.app import app

CALL = {"name": "search", "args": {"city": "Oslo"}, "id": "c1"}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A file of SqliteSaver with one thread of two checkpoints."""
    path = tmp_path / "theirs.db"
    with SqliteSaver.from_conn_string(str(path)) as saver:
        config: Any = {"configurable": {"thread_id": "trip", "checkpoint_ns": ""}}
        said: list[Any] = [
            HumanMessage("Where to?", id="1"),
            AIMessage("", id="2", tool_calls=[CALL]),
        ]
        for number in (1, 2):
            checkpoint: Any = {
                "v": 4,
                "id": f"1f000000-0000-6000-8000-{number:012x}",
                "ts": "2026-01-01T00:00:00+00:00",
                "channel_values": {"messages": said[:number], "city": "Oslo"},
                "channel_versions": {"messages": number, "city": 1},
                "versions_seen": {},
                "updated_channels": None,
            }
            config = saver.put(config, checkpoint, {"source": "loop", "step": number}, {})
    return path


def call(folder: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["--db", str(folder / "ours.db"), *map(str, arguments)])


def test_checkpoints_come_over_once_and_are_shown(theirs: Path, tmp_path: Path) -> None:
    told = call(tmp_path, "import", "--from", "langgraph-sqlite", theirs)
    assert told.exit_code == 0, told.output
    assert "2 new, 0 already there" in told.output
    again = call(tmp_path, "import", "--from", "langgraph-sqlite", theirs, "--json")
    assert json.loads(again.stdout)["checkpoints"] == {"new": 0, "already_there": 2}
    assert "trip" in call(tmp_path, "threads", "--app", "langgraph").output
    assert "shown with --app langgraph" in call(tmp_path, "threads").output
    missed = call(tmp_path, "show", "trip")
    assert "is one of LangGraph's: give --app langgraph" in str(missed.exception)
    shown = call(tmp_path, "show", "trip", "--app", "langgraph").output
    for part in ("version 2", "city: Oslo", "Where to?", 'search({"city": "Oslo"})'):
        assert part in shown
    past = call(tmp_path, "show", "trip", "--app", "langgraph", "--at", "1", "--json")
    state = json.loads(past.stdout)["state"]
    assert [each["message_id"] for each in state["context"]] == ["1"]
    nothing = call(tmp_path, "show", "trip", "--app", "langgraph", "--at", "never")
    assert nothing.exit_code != 0
    assert "no checkpoint 'never'" in str(nothing.exception)


def test_a_thread_that_cannot_come_is_told(theirs: Path, tmp_path: Path) -> None:
    with sqlite3.connect(theirs) as file:
        file.execute("UPDATE checkpoints SET type = 'pickle'")
    file.close()
    told = call(tmp_path, "import", "--from", "langgraph-sqlite", theirs)
    assert told.exit_code == 2
    assert "thread trip: a value is stored in the form 'pickle'" in told.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--from", "redis", "x"), "nothing is imported from 'redis'"),
        (("--from", "langgraph-sqlite", "none.db"), "there is no file none.db"),
        (("--from", "langgraph-sqlite", "a", "b"), "takes one store"),
        (("--from", "langgraph-sqlite", "a", "--user", "u"), "leave out --user"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    told = call(tmp_path, "import", *arguments)
    assert told.exit_code != 0
    assert why in (told.output + str(told.exception))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_threads_are_worked_with(
    kind: str, theirs: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Every command that looks at a thread's past or changes it goes through the adapter."""
    store = tmp_path / "ours.db" if kind == "sqlite" else request.getfixturevalue("pg_dsn")

    def said(*arguments: str | Path, fails: bool = False) -> str:
        command = ["--db", str(store), *map(str, arguments)]
        told = CliRunner().invoke(app, command, env={"NO_COLOR": "1"})
        assert (told.exit_code != 0) == fails, (arguments, told.output, told.exception)
        return str(told.exception) if fails else told.output

    def ours(*arguments: str, fails: bool = False) -> str:
        return said(*arguments, "--app", "langgraph", fails=fails)

    said("import", "--from", "langgraph-sqlite", theirs)
    assert "+ messages[1] (2)" in ours("diff", "trip", "1", "2")
    assert ours("name", "trip", "asked", "--at", "1") == "version 1 of trip is named asked\n"
    assert "no checkpoint 'never'" in ours("name", "trip", "x", "--at", "never", fails=True)
    assert "exists already" in ours("fork", "trip", "trip", fails=True)
    assert ours("fork", "trip", "before", "--at", "asked") == (
        "before is a fork of trip at version 1\n"
    )
    assert ours("fork", "trip", "copy") == "copy is a fork of trip at version 2\n"
    assert "Where to?" in ours("show", "before")
    assert 'search({"city": "Oslo"})' not in ours("show", "before")
    assert 'search({"city": "Oslo"})' in ours("show", "copy")
    told = ours("rollback", "trip", "asked")
    assert told == "trip is at version 3, which is version 1 again\n"
    assert "--expected is not known" in ours("rollback", "trip", "1", "--expected", "3", fails=True)
    assert json.loads(ours("prune", "trip", "--keep-last", "1", "--dry-run", "--json")) == {
        "dry_run": True,
        "checkpoints": 1,
        "threads_deleted": 0,
    }
    assert ours("prune", "trip", "--keep-last", "1") == "took 1 checkpoint and 0 idle threads\n"
    assert "asked" in ours("history", "trip")
    assert ours("prune", "--keep-last", "1", "--idle", "1w").startswith("took 0 checkpoints and")
    assert "nothing is wrong" in ours("verify")
    assert sorted(line.split()[0] for line in ours("threads").splitlines()[1:]) == [
        "before",
        "copy",
        "trip",
    ]
    assert "largest threads" in ours("stats")
    said("export", "-", "--app", "langgraph")
