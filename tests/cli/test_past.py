"""The commands that work with a past: the tree, differences, names, rollbacks, forks, pruning, carrying, checking."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from threadline import (
    AgentState,
    Checkpoint,
    Message,
    SqliteCheckpointer,
    TokenUsages,
    ToolCallBlock,
    ToolResultBlock,
)
from threadline.cli.plots import bar, each_day, line
from threadline.cli.tree import draw, origin_of

Run = Callable[..., Any]
CONFIG = {"thread_id": "trip", "user_id": "alice"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A thread of ten versions, of which 3 has a name."""
    path = tmp_path / "memory.db"
    with SqliteCheckpointer(path) as memory:
        state = AgentState()
        for n in range(1, 11):
            said = Message.text_message(f"message {n}", message_id=f"m{n}")
            state.context.append(said)
            name = "packed" if n == 3 else None
            memory.put_state(CONFIG, state, name=name, metadata={"n": n}, messages=[said])
        memory.put_state({"thread_id": "日本"}, {"n": 1})
    return path


def test_the_past_is_worked_with(run: Run, store: Path) -> None:
    """Names, rollbacks and forks, and a tree that shows them."""
    assert run("name", "trip", "good", "--at", "5").out == "version 5 of trip is named good\n"
    assert run("rollback", "trip", "packed").out == (
        "trip is at version 11, which is version 3 again\n"
    )
    assert run("fork", "trip", "plan b", "--at", "good").out == (
        "plan b is a fork of trip at version 5\n"
    )
    (forked,) = run("fork", "trip", "plan c", "--json").lines
    assert (forked["thread_id"], forked["version"]) == ("plan c", 1)
    (back,) = run("rollback", "trip", "6", "--expected", "11", "--json").lines
    assert (back["version"], back["parent_version"], back["base"]) == (12, 11, 6)
    shown = run("history", "trip").out.splitlines()
    assert [line.split("  ")[0].strip() for line in shown] == [
        "version", "● 12", "│ ● 11", "│ │ ● 10", "│ │ ● 9", "│ │ ● 8", "│ │ ● 7", "├─┼─╯", "● │ 6", "● │ 5", "● │ 4",
        "├─╯", "● 3", "● 2", "● 1",
    ]  # fmt: skip
    assert "back to 6 " in shown[1] + " "
    assert "fork plan c" in shown[2]
    assert "good" in shown[9]
    assert "fork plan b" in shown[9]
    found = {each["version"]: each for each in run("history", "trip", "--json").lines}
    assert (found[5]["forks"], found[5]["name"]) == (["plan b"], "good")
    assert found[4]["forks"] == []
    assert run("history", "plan b").out.splitlines()[-1] == "forked from trip at version 5"
    only = run("history", "trip", "--name", "good").out.splitlines()
    assert [line.split()[0] for line in only] == ["version", "5"]
    assert run("name", "trip", "--remove", "--at", "5").out == "version 5 of trip has no name\n"
    assert run("show", "trip", "--at", "good").code == 2
    (now,) = run("show", "trip", "--json").lines
    assert [each["message_id"] for each in now["state"]["context"]] == [
        f"m{n}" for n in range(1, 7)
    ]


def test_a_thread_is_copied_with_its_history(run: Run, store: Path) -> None:
    told = run("fork", "trip", "again", "--history")
    assert (told.code, told.out) == (0, "again is a fork of trip at version 10\n")
    ours, theirs = (run("history", each, "--json").lines for each in ("trip", "again"))
    kept = "version", "name", "metadata", "timestamp"
    assert [[c[k] for k in kept] for c in ours] == [[c[k] for k in kept] for c in theirs]
    assert run("fork", "trip", "again", "--history").code == 2
    refused = run("fork", "trip", "other", "--history", "--at", "packed")
    assert refused.code == 2
    assert "cannot address the past" in refused.err
    assert run("verify").out == "3 threads read, 21 checkpoints, 20 messages: nothing is wrong\n"


def test_diff(run: Run, store: Path) -> None:
    shown = run("diff", "trip", "packed", "5").out.splitlines()
    assert shown[0] == 'thread "trip", version 3 -> 5: 2 added'
    assert [line[:17] for line in shown[1:]] == ["+ context[3] (m4)", "+ context[4] (m5)"]
    (found,) = run("diff", "trip", "9", "--json").lines
    assert (found["a"], found["b"], len(found["changes"])) == (9, 10, 1)
    assert "no difference" in run("diff", "trip", "10").out


def test_prune(run: Run, store: Path) -> None:
    told = run("prune", "trip", "--keep-last", "2", "--dry-run").out.splitlines()
    assert told[0].startswith("would take 7 checkpoints of 1 thread")
    (dry,) = run("prune", "--keep-last", "2", "--dry-run", "--json").lines
    assert (dry["dry_run"], dry["checkpoints"], dry["threads_deleted"]) == (True, 7, 0)
    assert len(run("history", "trip", "--json").lines) == 10
    assert "nothing to take" in run("prune", "--older-than", "2h").out
    (done,) = run("prune", "--keep-last", "2", "--drop-named", "--keep-first", "--json").lines
    assert {**dry, "dry_run": False, "kept": 4} == {**done, "bytes": dry["bytes"]} | {
        "threads": done["threads"][:0] + dry["threads"]
    }
    shown = run("history", "trip").out.splitlines()
    assert [line.split("  ")[0].strip() for line in shown] == [
        "version", "● 10", "● 9", "┊", "● 1",
    ]  # fmt: skip
    assert [each["version"] for each in run("history", "trip", "--json").lines] == [10, 9, 1]
    assert run("verify").out == ("2 threads read, 4 checkpoints, 10 messages: nothing is wrong\n")
    (all_gone,) = run("prune", "--idle", "1s", "--json").lines
    assert all_gone["threads_deleted"] in (0, 2)  # Whether a second has gone by.


def test_export_and_import(run: Run, store: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "out.jsonl", tmp_path / "other.db"
    told = run("export", file)
    assert (told.code, told.out) == (0, "")
    assert told.err == f"2 threads, 11 checkpoints, 10 messages written to {file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    again = run("export", file)
    assert (again.code, "--force" in again.err) == (2, True)
    (counts,) = run("export", file, "trip", "--force", "--json").lines
    assert counts == {
        "file": str(file),
        "threads": 1,
        "checkpoints": 10,
        "messages": 10,
        "lines": 25,
    }
    (there,) = run("import", file, "--db", other, "--json").lines
    assert there["threads"] == {"new": 1, "grown": 0, "already_there": 0}
    assert (there["checkpoints"]["new"], there["messages"]["new"], there["bad"]) == (10, 10, [])
    assert run("history", "trip", "--db", other).out == run("history", "trip").out
    assert run("show", "trip", "--at", "packed", "--db", other).code == 0


def test_an_import_tells_exports_from_conversations(run: Run, store: Path, tmp_path: Path) -> None:
    """Both kinds in one call; what cannot be imported is said at the end, and stops nothing."""
    file, talk, bad = (tmp_path / f"{name}.jsonl" for name in ("out", "talk", "bad"))
    run("export", file, "trip")
    talk.write_text('{"thread_id": "a", "messages": [{"role": "user", "content": "hi"}]}\n')
    bad.write_bytes(file.read_bytes().replace(b"message 7", b"message 8"))
    told = run("import", bad, "--db", tmp_path / "other.db").out
    assert ("bad lines    0\n" in told, "left out     1 file\n" in told) == (True, True)
    result = run("import", bad, talk, file, file, "--db", tmp_path / "other.db", "--json")
    (told,) = result.lines
    assert result.code == 2
    assert told["threads"]["new"] == 2
    assert told["messages"]["new"] == 11
    reasons = [(Path(each["file"]).name, each["reason"]) for each in told["bad"]]
    assert [name for name, _ in reasons] == ["bad.jsonl", "out.jsonl"]
    assert "damaged" in reasons[0][1]
    assert "there already" in reasons[1][1]
    for option in (["--user", "bob"], ["--states"], ["--app", "x"], ["--tenant", "x"]):
        refused = run("import", file, *option, "--db", tmp_path / "third.db")
        assert refused.code == 2
        assert f"leave out {option[0]}" in refused.err


def test_verify_says_what_is_wrong(run: Run, store: Path) -> None:
    with sqlite3.connect(store) as db:
        (payload,) = db.execute("SELECT payload FROM log_rows WHERE log = 1").fetchone()
        spoilt = payload[:-1] + bytes([payload[-1] ^ 1])
        db.execute("UPDATE log_rows SET payload = ? WHERE log = 1", (spoilt,))
    db.close()
    result = run("verify")
    assert result.code == 1
    assert "thread 'trip': items 0 to 10 of log 1" in result.out
    assert result.out.endswith("1 thread damaged\n")
    reports = run("verify", "--json").lines
    assert sorted(each["ok"] for each in reports) == [False, True]
    assert run("verify", "trip").code == 1


def test_stats(run: Run, store: Path) -> None:
    (told,) = run("stats", "--keep-last", "4", "--json").lines
    assert (told["threads"], told["messages"], told["checkpoints"]) == (2, 10, 11)
    assert told["names"] == {"packed": 1}
    assert [(each["thread_id"], each["checkpoints"]) for each in told["largest"]] == [
        ("trip", 10),
        ("日本", 1),
    ]
    assert all(each["bytes"] > 0 for each in told["largest"])
    assert (told["would_free"]["keep_last"], told["would_free"]["checkpoints"]) == (4, 5)
    shown = run("stats", "-n", "1").out
    for wanted in ("packed", "trip", "and 1 other", "prune --keep-last 20, 0 checkpoints"):
        assert wanted in shown
    (bobs,) = run("stats", "--user", "bob", "--json").lines
    assert (bobs["names"], bobs["largest"], bobs["checkpoints"]) == ({}, [], 11)


BAD_INPUT = [
    (["diff", "trip", "99"], "id or name '99'"),
    (["diff", "trip", "nope"], "id or name 'nope'"),
    (["diff", "nope", "1"], "there is no thread 'nope'"),
    (["diff", "trip"], "A"),
    (["fork", "trip", "trip"], "cannot be forked into itself"),
    (["fork", "trip", "new", "--at", "99"], "has no checkpoint '99'"),
    (["fork", "trip", ""], "thread_id must not be empty"),
    (["fork", "trip", "new", "--user", "bob"], "there is no thread 'trip' of user 'bob'"),
    (["rollback", "trip", "99"], "has no checkpoint '99'"),
    (["rollback", "trip", "3", "--expected", "4"], "is at version 10"),
    (["name", "trip"], "give a NAME"),
    (["name", "trip", "x", "--remove"], "or --remove without one"),
    (["name", "trip", "x", "--at", "0"], "has no checkpoint '0'"),
    (["name", "trip", ""], "must not be empty"),
    (["history", "trip", "--name", ""], "must not be empty"),
    (["--db", "", "history", "trip"], "neither a file nor the address of a store"),
    (["history", "trip", "--db", ""], "neither a file nor the address of a store"),
    (["prune"], "say what may go"),
    (["prune", "nope", "--keep-last", "1"], "there is no thread 'nope'"),
    (["prune", "trip", "--idle", "1d"], "leave THREAD out"),
    (["prune", "--older-than", "30"], "write an age like 30d"),
    (["prune", "--older-than", "0d"], "more than 0"),
    (["prune", "--older-than", "9" * 40 + "d"], "write an age like 30d"),
    (["prune", "--keep-last", "5", "--max", "3"], "cannot be held"),
    (["verify", "nope"], "there is no thread 'nope'"),
    (["export", "-", "nope"], "there is no thread 'nope'"),
    (["export", "/nowhere/at/all.jsonl"], "/nowhere/at/all.jsonl"),
    (["stats", "--keep-last", "0"], "--keep-last"),
]


@pytest.mark.parametrize(
    ("args", "reason"), BAD_INPUT, ids=[" ".join(a)[:40] for a, _ in BAD_INPUT]
)
def test_bad_input_is_refused(run: Run, store: Path, args: list[str], reason: str) -> None:
    before = run("history", "trip", "--json").out
    result = run(*args)
    assert (result.code, result.out) == (2, "")
    assert reason in re.sub(r"\x1b\[[0-9;]*m", "", result.err)
    assert "Traceback" not in result.err
    assert run("history", "trip", "--json").out == before


def test_a_name_that_no_checkpoint_has_is_not_called_an_empty_history(
    run: Run, store: Path
) -> None:
    assert run("history", "trip", "--name", "nope").err == (
        "thread trip has no checkpoint of the name nope\n"
    )


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_tree_in_a_narrow_terminal(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """No line is longer; from 60 columns on lanes and versions are whole."""
    run("rollback", "trip", "3")
    run("fork", "trip", "a fork with a rather long name", "--at", "3")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("history", "trip").out.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert any(line.startswith("├─╯") for line in lines)
    assert width < 60 or any(line.startswith("│ ● 10 ") for line in lines)


def _checkpoint(version: int, parent: int | None, base: int | None) -> Checkpoint:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Checkpoint(str(version), "t", version, at, parent_version=parent, base=base)


def test_every_checkpoint_stands_in_the_lane_that_leads_to_it() -> None:
    """In random histories with rollbacks and gaps: each version once, in order, and below it its origin's lane."""
    rng = random.Random(3)
    for _ in range(300):
        made: list[Checkpoint] = []
        for version in range(1, rng.randint(2, 20)):
            parent = version - 1 or None
            back = rng.randint(1, version - 1) if parent and rng.random() < 0.3 else parent
            made.append(_checkpoint(version, parent, back))
        kept = [each for each in reversed(made) if rng.random() < 0.8]
        drawn = list(draw(kept))
        assert [each.checkpoint for each in drawn if each.checkpoint] == kept
        place = {
            each.checkpoint.version: each.lanes.split(" ").index("●")
            for each in drawn
            if each.checkpoint
        }
        there = set(place)
        for each in kept:
            origin = origin_of(each)
            if origin in there:
                # Lanes meet in the leftmost, so an origin never stands to the right of what follows it.
                assert place[origin] <= place[each.version]
        for each in drawn:
            assert len(each.lanes) == len(each.lanes.rstrip())
            assert ("●" in each.lanes) == (each.checkpoint is not None)


def test_results_are_json_for_machines(run: Run, store: Path) -> None:
    """Of every command, one document a line, ASCII only."""
    commands = [["history", "trip"], ["diff", "trip", "1"], ["name", "trip", "x"], ["rollback", "trip", "2"],
                ["fork", "trip", "f"], ["prune", "--keep-last", "3"], ["verify"], ["stats"]]  # fmt: skip
    for command in commands:
        result = run("--json", *command)
        assert result.code == 0
        assert result.out.isascii()
        assert [json.loads(line) for line in result.out.splitlines()]


def test_what_goes_for_good_is_said_twice(run: Run, store: Path) -> None:
    said = run("delete", "trip")
    assert (said.code, said.out) == (2, "")
    assert "thread 'trip' would be gone for good, with" in said.err
    assert "--yes" in said.err
    with SqliteCheckpointer(store) as memory:
        there = memory.get_thread({"thread_id": "trip"})
        assert there is not None
        memory.fork({"thread_id": "trip"}, "plan b")
    (told,) = run("delete", "trip", "--yes", "--json").lines
    held = {"checkpoints": there.checkpoint_count, "messages": there.message_count}
    assert told == {"thread_id": "trip", "deleted": True, **held}
    assert "there is no thread 'trip'" in run("delete", "trip", "--yes").err
    assert (
        run("delete", "plan b", "--yes").out
        == "plan b is gone, with 1 checkpoint and 10 messages\n"
    )


def test_a_user_is_erased(run: Run, store: Path) -> None:
    with SqliteCheckpointer(store) as memory:
        for number in (1, 2):
            owned = {"thread_id": f"of 7, {number}", "user_id": 7}
            memory.put_messages(owned, [Message.text_message("hi")])
        memory.put_state({"thread_id": "of 7", "user_id": "7"}, {"a": 1})
    assert "every thread of user 7 would be gone for good" in run("erase", "int:7").err
    assert run("erase", "int:7", "--yes").out == "2 threads of int:7 erased\n"
    (told,) = run("erase", "7", "--yes", "--json").lines
    assert (told["threads"], told["forks_of_others"]) == (["of 7"], [])
    assert run("erase", "nobody", "--yes").out == "0 threads of nobody erased\n"


def test_stats_of_what_was_going_on(run: Run, store: Path, tmp_path: Path) -> None:
    """Roles, tools, tokens and days in the terminal, as JSON, and as charts; names are data, never markup."""
    tool, usages = (
        "find <b>[red]",
        TokenUsages(completion_tokens=1, prompt_tokens=2, total_tokens=3),
    )
    call = Message(role="assistant", content=[ToolCallBlock(id="c", name=tool)], usages=usages)
    result = Message.tool_message(ToolResultBlock(call_id="c", output="x", is_error=True))
    with SqliteCheckpointer(store) as memory:
        memory.put_messages({"thread_id": "tools"}, [call, result])
    (told,) = run("stats", "--json").lines
    assert told["tools"][tool]["error_rate"] == 1.0
    assert told["tokens"]["total"] == 3
    assert sum(day["messages"] for day in told["days"].values()) == told["messages"]
    folder = tmp_path / "a" / "charts"
    shown = run("stats", "--plot", str(folder)).out
    assert re.search(r"find <b>\[red\] +1 █+ +100%", shown)
    assert "tokens 2 prompt, 1 completion, 3 total" in shown
    assert "messages a day since" in shown
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["activity.svg", "roles.svg", "tools.svg"]
    for path in folder.iterdir():
        chart = ElementTree.parse(path).getroot()  # noqa: S314 - our own file
        assert chart.tag == "{http://www.w3.org/2000/svg}svg"
    assert "find &lt;b&gt;[red]" in (folder / "tools.svg").read_text()
    (tmp_path / "file").write_text("")
    refused = run("stats", "--plot", str(tmp_path / "file"))
    assert refused.code != 0
    assert "charts cannot be written" in refused.err


def test_bars_and_lines() -> None:
    assert [bar(value, 16, 2) for value in (0, 0.01, 1, 8, 16)] == ["", "▏", "▏", "█", "██"]
    assert line([0, 1, 4, 8]) == " ▁▄█"
    assert line([]) == ""
    days = {"2024-02-28": {"messages": 2}, "2024-03-01": {"messages": 5}}
    assert each_day(days, "messages") == ([2, 0, 5], date(2024, 2, 28))
    assert each_day(days, "messages", 2) == ([0, 5], date(2024, 2, 29))
