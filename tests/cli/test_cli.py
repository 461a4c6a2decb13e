"""The command line: what each command prints, for people and for machines, and how it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from rich.cells import cell_len

from threadline import (
    AgentState,
    AnnotationBlock,
    DataBlock,
    ErrorBlock,
    ImageBlock,
    MediaRef,
    Message,
    SqliteCheckpointer,
    TextBlock,
    ThreadInfo,
    ToolCallBlock,
    ToolResultBlock,
)
from threadline import __version__ as version
from threadline.cli import output, searching

COMMANDS = [
    "demo", "import", "threads", "history", "show", "search", "stats", "diff", "name", "rollback", "fork", "export",
    "prune", "delete", "erase", "verify", "migrate",
]  # fmt: skip
READING = [
    ["threads"], ["history", "t"], ["show", "t"], ["search", "x"], ["stats"], ["diff", "t", "1"], ["name", "t", "n"],
    ["rollback", "t", "1"], ["fork", "t", "u"], ["export", "-"], ["prune", "--keep-last", "1"], ["verify"],
    ["delete", "t", "--yes"], ["erase", "u", "--yes"],
]  # fmt: skip


def bare(text: str) -> str:
    """Without colours: help and usage errors are coloured in some CIs, whatever they are printed to."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


Run = Callable[..., Any]

#: What would change the form of the output where the tests run.
COLOURS = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE")


class TripState(AgentState):
    notes: list[str] = Field(default_factory=list)
    budget: Decimal = Decimal("1.5")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three threads: `weekend` with states of a class of its own, `日本` with odd text, `plain` with neither."""
    path = tmp_path / "memory.db"
    with SqliteCheckpointer(path) as memory:
        weekend = {"thread_id": "weekend", "user_id": "alice"}
        state = TripState()
        call = ToolCallBlock(id="c1", name="weather", args={"city": "Oslo"})
        said = [
            Message.text_message("Is it dry in Oslo?", message_id="m1"),
            Message(message_id="m2", role="assistant", content=[call]),
            Message.tool_message("14 degrees", message_id="m3", call_id="c1", name="weather"),
            Message.text_message("It is dry, café included.", "assistant", message_id="m4"),
        ]
        for step, message in enumerate(said, 1):
            state.context.append(message)
            state.notes.append(f"note {step}")
            memory.put_state(
                weekend, state, name=f"step-{step}", metadata={"node": step}, messages=[message]
            )
        named = ThreadInfo(thread_id="weekend", thread_name="A trip", metadata={"stars": 5})
        memory.put_thread(weekend, named)
        odd = "\x1b[31mred\x1b]0;title\x07 \x9b0m \u202eturned \0 \ud800 end\r\nsecond"
        memory.put_messages({"thread_id": "日本"}, [Message.text_message(odd, message_id="o1")])
        named = ThreadInfo(thread_id="日本", thread_name="\x1b[2J天気の話", metadata={"k": "\x1b"})
        memory.put_thread({"thread_id": "日本"}, named)
        memory.put_thread({"thread_id": "plain"}, ThreadInfo(thread_id="plain"))
    return path


# What may be given, and where ------------------------------------------------------------------------


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"threadline {version}\n"
    shown = run("--help")
    assert shown.code == 0
    assert all(command in bare(shown.out) for command in COMMANDS)
    for command in COMMANDS:
        page = run(command, "--help")
        assert page.code == 0
        assert "--db" in bare(page.out)
        assert "--json" in bare(page.out)
        # A switch takes no value; what is said of --help itself is the framework's.
        switches = [line for line in bare(page.out).splitlines() if "--help" not in line]
        assert "<bool>" not in "\n".join(switches)


def test_a_paragraph_of_help_ends_at_the_end(run: Run) -> None:
    page = bare(run("import", "--help").out)
    assert "grown grows here too. A bad line stops nothing; it is" in page
    assert "FILE.jsonl..." not in page.replace("{FILE.jsonl}...", "")


def test_a_file_that_cannot_be_written_is_named(run: Run, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "none" / "out.jsonl"
    told = run("export", file)
    assert (told.code, told.err) == (2, f"threadline: {file}: No such file or directory\n")


def test_the_library_loads_neither_typer_nor_rich() -> None:
    code = "import sys, threadline; print({'typer', 'rich', 'platformdirs'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_store_is_named_before_or_after(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run("threads", "--json").out
    assert expected
    monkeypatch.setenv("THREADLINE_URL", f"sqlite:///{store}")
    assert run("threads", "--json").out == expected
    monkeypatch.setenv("THREADLINE_URL", "nowhere.db")
    assert run("--json", "--db", store, "threads").out == expected
    assert run("threads", "--json", "--db", f"sqlite:///{store}").out == expected
    assert run("--db", "nowhere.db", "threads", "--db", store, "--json").out == expected
    assert run("--db", "nowhere.db", "threads").code == 2
    monkeypatch.chdir(store.parent)
    monkeypatch.setenv("THREADLINE_URL", "sqlite:///memory.db")
    assert run("threads", "--json").out == expected


def test_the_default_is_in_the_users_data_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THREADLINE_URL")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    talk = tmp_path / "talk.jsonl"
    talk.write_text('{"thread_id": "a", "messages": []}\n', "utf-8")
    told = run("import", talk, "--json")
    assert told.code == 0
    path = Path(json.loads(told.out)["file"])
    assert path.is_relative_to(tmp_path)
    assert path.name == "memory.db"
    assert run("threads", "--json").lines[0]["thread_id"] == "a"


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_a_reading_command_makes_no_store(run: Run, tmp_path: Path, command: list[str]) -> None:
    result = run(*command, "--json")
    assert (result.code, result.out) == (2, "")
    assert "there is no store at" in result.err
    assert "threadline import" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_a_file_that_is_no_store(run: Run, tmp_path: Path, command: list[str]) -> None:
    text = tmp_path / "text.db"
    text.write_text("This is no database, but it is long enough to be one." * 100, "utf-8")
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(foreign.read_bytes()[:100] + b"\xff" * 5000)
    for path in (text, foreign, damaged, tmp_path):
        before = path.read_bytes() if path.is_file() else b""
        result = run(*command, "--db", path)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("threadline: ")
        assert "Traceback" not in result.err
        assert not path.is_file() or path.read_bytes() == before


@pytest.mark.parametrize("url", ["mysql://h/db", "redis://h", "sqlite://x", ":memory:", "a\0b"])
def test_a_url_that_is_no_file(run: Run, url: str) -> None:
    result = run("threads", "--db", url)
    assert result.code == 2
    assert "--db is" in result.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read(run: Run, store: Path) -> None:
    store.chmod(0)
    assert run("threads").code == 2


BAD_INPUT = [
    (["history", "nope"], "there is no thread 'nope'"),
    (["show", "nope"], "there is no thread 'nope'"),
    (["search", "x", "--thread", "nope"], "there is no thread 'nope'"),
    (["show", "weekend", "--user", "bob"], "there is no thread 'weekend' of user 'bob'"),
    (["show", "weekend", "--app", "x"], "there is no thread 'weekend' in app 'x'"),
    (["show", ""], "thread_id must not be empty"),
    (["show", "a\x1bb"], r"control character or surrogate '\x1b'"),
    (["show", "weekend", "--at", "99"], "has no checkpoint '99'"),
    (["show", "weekend", "--at", "0"], "has no checkpoint '0'"),
    (["show", "weekend", "--at", "9" * 30], "has no checkpoint"),
    (["show", "weekend", "--at", "nope"], "has no checkpoint 'nope'"),
    (["show", "weekend", "--at", "1", "--messages"], "give one of them"),
    (["show", "weekend", "--last", "0"], "--last"),
    (["threads", "--limit", "0"], "--limit"),
    (["threads", "--limit", "many"], "--limit"),
    (["threads", "--metadata", "stars"], "write KEY=VALUE"),
    (["threads", "--user", "int:x"], "no whole number"),
    (["threads", "--user", ""], "user_id must not be empty"),
    (["search", "x", "--role", "boss"], "--role 'boss': it is one of user,"),
    (["search", " "], "nothing to look for"),
    (["search", "x" * 5000], "5000 characters long"),
    (["search"], "TEXT"),
    (["import"], "FILE"),
    (["threads", "--nope"], "--nope"),
    (["nope"], "nope"),
]


@pytest.mark.parametrize(
    ("args", "reason"), BAD_INPUT, ids=[" ".join(a)[:40] for a, _ in BAD_INPUT]
)
def test_bad_input_is_refused(run: Run, store: Path, args: list[str], reason: str) -> None:
    result = run(*args)
    assert (result.code, result.out) == (2, "")
    assert reason in bare(result.err)
    assert "Traceback" not in result.err
    assert not result.err.startswith("threadline: ") or "\x1b" not in result.err


# What is printed -------------------------------------------------------------------------------------


def test_threads(run: Run, store: Path) -> None:
    shown = run("threads").out
    assert "weekend" in shown
    assert "A trip" in shown
    assert [each["thread_id"] for each in run("threads", "--json").lines] == [
        "plain", "日本", "weekend",
    ]  # fmt: skip
    last = run("threads", "--user", "alice", "--json").lines
    assert [(each["thread_id"], each["message_count"]) for each in last] == [("weekend", 4)]
    assert last[0]["checkpoint_count"] == 4
    assert len(run("threads", "--limit", "2", "--json").lines) == 2
    for given in (["--search", "trip"], ["--search", "天気"], ["--metadata", "stars=5"]):
        assert len(run("threads", *given, "--json").lines) == 1
    assert run("threads", "--metadata", 'stars="5"', "--json").out == ""
    assert run("threads", "--search", "nothing").err == "no thread matches\n"


def test_history(run: Run, store: Path) -> None:
    found = run("history", "weekend", "--json").lines
    assert [each["version"] for each in found] == [4, 3, 2, 1]
    assert found[0]["name"] == "step-4"
    assert found[0]["metadata"] == {"node": 4}
    assert (found[0]["parent_version"], found[-1]["parent_version"]) == (3, None)
    shown = run("history", "weekend", "--limit", "2").out.splitlines()
    assert shown[0].split() == ["version", "name", "time", "bytes", "metadata"]
    assert len(shown) == 3
    assert "step-4" in shown[1]
    assert "node=4" in shown[1]
    assert "has no checkpoints" in run("history", "plain").err
    assert run("history", "plain", "--json").out == ""


def test_show_a_state_of_a_class_that_is_not_here(run: Run, store: Path) -> None:
    (now,) = run("show", "weekend", "--json").lines
    assert now["checkpoint"]["version"] == 4
    assert now["state"]["notes"] == ["note 1", "note 2", "note 3", "note 4"]
    assert now["state"]["budget"] == "1.5"
    assert [message["message_id"] for message in now["state"]["context"]] == [
        "m1",
        "m2",
        "m3",
        "m4",
    ]
    shown = run("show", "weekend").out
    for wanted in (
        "A trip",
        "user alice",
        "version 4 (step-4)",
        'weather({"city": "Oslo"})',
        "café",
    ):
        assert wanted in shown
    assert "stars=5" in shown


@pytest.mark.parametrize("at", ["2", "step-2"])
def test_show_the_past(run: Run, store: Path, at: str) -> None:
    (then,) = run("show", "weekend", "--at", at, "--json").lines
    assert then["checkpoint"]["version"] == 2
    assert then["state"]["notes"] == ["note 1", "note 2"]
    assert "14 degrees" not in run("show", "weekend", "--at", at).out


def test_show_messages(run: Run, store: Path) -> None:
    (log,) = run("show", "weekend", "--messages", "--json").lines
    assert [message["message_id"] for message in log["messages"]] == ["m1", "m2", "m3", "m4"]
    (log,) = run("show", "weekend", "--messages", "--last", "2", "--json").lines
    assert [message["message_id"] for message in log["messages"]] == ["m3", "m4"]
    (state,) = run("show", "weekend", "--last", "1", "--json").lines
    assert [message["message_id"] for message in state["state"]["context"]] == ["m4"]
    assert "… 3 earlier messages" in run("show", "weekend", "--last", "1").out
    assert "… 2 earlier messages" in run("show", "weekend", "--messages", "--last", "2").out
    (plain,) = run("show", "plain", "--json").lines
    assert (plain["checkpoint"], plain["messages"]) == (None, [])


def test_show_any_state(run: Run, tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Point:
        x: int
        when: datetime

    blocks = [
        TextBlock(text="a text"),
        ImageBlock(media=MediaRef(url="u"), alt_text="a cat"),
        ImageBlock(media=MediaRef(url="u")),
        DataBlock(mime_type="x/y", data_base64="AA=="),
        ToolResultBlock(call_id="c", output={"a": [1]}),
        AnnotationBlock(),
        ErrorBlock(message="an error"),
    ]
    odd = {"context": "no list", 1: (1, 2.5), "nan": float("nan"), "bytes": b"\0", "set": {1}}
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        memory.put_state({"thread_id": "odd"}, odd)
        memory.put_state({"thread_id": "point"}, Point(1, datetime(2024, 1, 1, tzinfo=UTC)))
        memory.put_state({"thread_id": "gone"}, {"a": 1})
        memory.clear_state({"thread_id": "gone"})
        memory.put_state({"thread_id": "ns", "namespace": "sub"}, {"a": 1})
        many = AgentState(context=[Message(role="user", content=blocks, reasoning="so")])
        memory.put_state({"thread_id": "blocks"}, many)
    (shown,) = run("show", "odd", "--json").lines
    assert shown["state"] == {
        "context": "no list", "1": [1, 2.5], "nan": "nan", "bytes": "AA==", "set": [1],
    }  # fmt: skip
    assert "context: no list" in run("show", "odd").out
    (point,) = run("show", "point", "--json").lines
    assert point["state"] == {"x": 1, "when": "2024-01-01T00:00:00+00:00"}
    assert "cleared" in run("show", "gone").out
    assert run("show", "ns", "--namespace", "sub", "--json").lines[0]["state"] == {"a": 1}
    assert len(run("history", "ns", "--namespace", "sub", "--json").lines) == 1
    text = run("show", "blocks").out
    for wanted in (
        "a text",
        "a cat",
        "(image)",
        "(data)",
        '{"a": [1]}',
        "(annotation)",
        "an error",
    ):
        assert wanted in text


def test_search(run: Run, store: Path) -> None:
    found = run("search", "DRY", "--json").lines
    assert [(hit["thread_id"], hit["message_id"]) for hit in found] == [
        ("weekend", "m4"), ("weekend", "m1"),
    ]  # fmt: skip
    begin, end = found[1]["matches"][0]
    assert found[1]["text"][begin:end] == "dry"
    assert [hit["role"] for hit in run("search", "dry", "--role", "user", "--json").lines] == [
        "user"
    ]
    assert len(run("search", "dry", "--limit", "1", "--json").lines) == 1
    only = run("search", "dry", "--thread", "weekend", "--json").lines
    assert [hit["message_id"] for hit in only] == ["m4", "m1"]
    assert len(run("search", "cafe", "--json").lines) == 1
    assert run("search", "dry", "--user", "bob", "--json").out == ""
    for nothing in ("%", '"', "dry OR", "NEAR(", "*"):
        assert run("search", nothing, "--json").code == 0
    shown = run("search", "dry")
    assert "It is dry, café" in shown.out
    assert run("search", "nothing").err == "nothing found\n"


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("Is it dry?", "DRY", ["dry"]),
        ("laundry dry", "dry", ["dry"]),
        ("Un CAFÉ, s'il", "cafe", ["CAFÉ"]),
        ("cafe\u0301 noir", "café noir", ["cafe\u0301"[:4], "noir"]),
        ("die Straße", "strasse", ["Straße"]),
        ("東京の天気", "天気", ["天気"]),
        ("100 % of C++", "% C++", ["%", "C++"]),
        ('he said "dry run"', '"dry run"', ["dry", "run"]),
        ("nothing here", "absent", []),
        ("", "x", []),
    ],
)
def test_where_the_match_stands(text: str, query: str, found: list[str]) -> None:
    spans = searching.find_parts(text, query)
    assert [text[begin:end] for begin, end in spans] == found


def test_stats(run: Run, store: Path) -> None:
    (facts,) = run("stats", "--json").lines
    assert (facts["threads"], facts["messages"], facts["checkpoints"]) == (3, 5, 4)
    parts = facts["bytes"]
    assert parts["file"] == sum(
        parts[kind] for kind in ("checkpoints", "rows", "messages", "other")
    )
    largest = facts["largest"][0]
    assert largest.pop("bytes") > 0
    assert largest == {"thread_id": "weekend", "messages": 4, "checkpoints": 4}
    shown = run("stats", "--limit", "1").out
    assert "weekend" in shown
    assert "and 2 others" in shown


# The terminal ----------------------------------------------------------------------------------------

RAW = [chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0xD800)]


@pytest.mark.parametrize(
    "command",
    [["threads"], ["show", "日本"], ["search", "red"], ["search", "turned", "--json"]],
    ids=lambda command: command[0],
)
def test_stored_text_never_reaches_the_terminal_raw(
    run: Run, store: Path, command: list[str]
) -> None:
    result = run(*command)
    assert result.code == 0
    assert not [character for character in RAW if character in result.out]


def test_what_is_shown_of_control_characters() -> None:
    assert output.plain("a\tb\nc\r\nd") == "a\tb\nc\nd"
    assert output.plain("\x1b[31m\x9b\0\x7f") == r"\x1b[31m\x9b\x00\x7f"
    assert output.plain("\u202e \ud800 \u2028 \U000e0001") == r"\u202e \ud800 \u2028 \U000e0001"
    assert output.plain("日本 é 👩‍👩‍👧 \u00a0") == "日本 é 👩‍👩‍👧 \u00a0"
    assert output.one_line("a\n b\tc" + "d" * 100, 10) == "a b cdddd…"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_tables_fit_the_terminal(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    with SqliteCheckpointer(store) as memory:
        for number in range(3):
            thread_id = f"{number}" + "長いスレッド" * 8
            info = ThreadInfo(thread_id=thread_id, thread_name="とても長い名前" * 20)
            memory.put_thread({"thread_id": thread_id}, info)
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (["threads"], ["history", "weekend"], ["stats"]):
        shown = run(*command).out.replace(str(store), "")
        need = {"threads": 66, "history": 64, "stats": 50}[command[0]]  # what is never cut
        assert max(map(cell_len, shown.splitlines())) <= max(width, need)


def in_a_process(
    *args: object, env: dict[str, str] | None = None, after: str = ""
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "threadline.cli", *map(str, args)]
    if after:
        command = ["bash", "-c", f'set -o pipefail; "$@" {after}', "bash", *command]
    calm = {name: value for name, value in os.environ.items() if name not in COLOURS}
    return subprocess.run(
        command, capture_output=True, env={**calm, **(env or {})}, check=False, timeout=60
    )


def test_a_broken_pipe_is_quiet(store: Path) -> None:
    with SqliteCheckpointer(store) as memory:
        for number in range(1500):
            memory.put_messages({"thread_id": "long"}, [Message.text_message(f"{number} " * 40)])
    for command in (["show", "long"], ["show", "long", "--json"], ["search", "7", "-n", "900"]):
        done = in_a_process("--db", store, *command, after="| head -c 100 >/dev/null")
        assert done.stderr == b""
        assert done.returncode == 0


def test_an_encoding_that_lacks_characters(store: Path) -> None:
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for command in (["threads"], ["show", "日本"], ["search", "red"], ["--help"], ["show", "無"]):
        done = in_a_process("--db", store, *command, env=env)
        assert done.returncode == (2 if "無" in command else 0), done.stderr
        assert b"Traceback" not in done.stderr
        assert (done.stdout + done.stderr).isascii()


def test_colour_only_where_it_is_wanted(store: Path) -> None:
    piped = in_a_process("--db", store, "search", "dry")
    assert b"\x1b" not in piped.stdout
    forced = in_a_process("--db", store, "search", "dry", env={"FORCE_COLOR": "1"})
    assert b"\x1b[1;33mdry" in forced.stdout
    none = in_a_process("--db", store, "search", "dry", env={"FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert b"\x1b[1mdry" in none.stdout
    assert b";33m" not in none.stdout


@pytest.mark.parametrize("module", ["typer", "orjson", "platformdirs", "rich"])
@pytest.mark.parametrize("by_name", [True, False], ids=["threadline", "python -m"])
def test_an_interrupt_while_it_is_imported(tmp_path: Path, module: str, by_name: bool) -> None:
    """A module that is imported on the way interrupts the program, as Ctrl-C does at that moment."""
    interrupt = (
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('it went on')\n"
    )
    (tmp_path / f"{module}.py").write_text(interrupt, "utf-8")
    script = [str(Path(sys.executable).with_name("threadline"))]
    ended = subprocess.run(
        [*(script if by_name else [sys.executable, "-m", "threadline.cli"]), "threads"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
