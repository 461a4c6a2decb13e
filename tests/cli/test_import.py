"""`threadline import`: every conversation once, every bad line reported, nothing good stopped."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from threadline import Message, SqliteCheckpointer
from threadline.cli import conversations

Run = Callable[..., Any]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TALK = [
    {"role": "system", "content": "Be brief."},
    user("What is the weather in Oslo?"),
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "[1, 2]"},
    {"role": "assistant", "content": [{"type": "text", "text": "Dry."}], "refusal": None},
]


def line(thread_id: Any, messages: Any = None, **more: Any) -> bytes:
    record = {"thread_id": thread_id, "messages": TALK if messages is None else messages, **more}
    return json.dumps(record).encode() + b"\n"


def write(tmp_path: Path, *lines: bytes, name: str = "talks.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(b"".join(lines))
    return path


def log(tmp_path: Path, thread_id: str, **more: Any) -> list[dict[str, Any]]:
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        found = memory.list_messages({"thread_id": thread_id, **more})
    return [message.to_openai() for message in found]


def test_a_conversation_comes_back_equal(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, line("a", user_id="ann", reward=0.5, tags=["x"]), line("b", user_id=7))
    result = run("import", path)
    assert result.code == 0
    assert "2 new, 0 already there" in result.out
    assert "messages a second" in result.out
    assert log(tmp_path, "a") == TALK == log(tmp_path, "b")
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        info = memory.get_thread({"thread_id": "a", "user_id": "ann"})
        assert info is not None
        assert (info.user_id, info.metadata) == ("ann", {"reward": 0.5, "tags": ["x"]})
        assert info.thread_name == "What is the weather in Oslo?"
        assert memory.get_thread({"thread_id": "b", "user_id": 7}) is not None
        assert memory.get_thread({"thread_id": "b", "user_id": "7"}) is None


@pytest.mark.parametrize("states", [(), ("--states",)])
def test_twice_imports_once(run: Run, tmp_path: Path, states: tuple[str, ...]) -> None:
    path = write(tmp_path, line("a"), line("b"))
    first = run("import", path, "--json", *states).json
    assert first["threads"]["new"] == 2
    assert first["messages"] == {"new": 10, "already_there": 0}
    again = run("import", path, "--json", *states).json
    assert again["threads"] == {"new": 0, "grown": 0, "already_there": 2}
    assert again["messages"] == {"new": 0, "already_there": 10}
    assert again["checkpoints"] == {"new": 0}
    assert log(tmp_path, "a") == TALK


@pytest.mark.parametrize("states", [(), ("--states",)])
def test_what_has_grown_grows_here(run: Run, tmp_path: Path, states: tuple[str, ...]) -> None:
    run("import", write(tmp_path, line("a", TALK[:3])), *states)
    grown = run("import", write(tmp_path, line("a", reward=1)), "--json", *states).json
    assert grown["threads"] == {"new": 0, "grown": 1, "already_there": 0}
    assert grown["messages"] == {"new": 2, "already_there": 3}
    assert grown["checkpoints"]["new"] == (2 if states else 0)
    shorter = run("import", write(tmp_path, line("a", TALK[:1])), "--json", *states).json
    assert shorter["messages"] == {"new": 0, "already_there": 1}
    assert log(tmp_path, "a") == TALK
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        info = memory.get_thread({"thread_id": "a"})
        assert info is not None
        assert info.metadata == {"reward": 1}


def test_states_are_a_history(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, line("a", user_id="ann"))
    assert run("import", path, "--states", "--json").json["checkpoints"] == {"new": 5}
    config = {"thread_id": "a", "user_id": "ann"}
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        kept = memory.list_checkpoints(config)
        assert [checkpoint.version for checkpoint in kept] == [5, 4, 3, 2, 1]
        third = memory.get_state({**config, "version": 3})
        assert [message.to_openai() for message in third.context] == TALK[:3]
        assert memory.list_messages(config) == memory.get_state(config).context


def test_states_after_messages_add_no_message(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, line("a"))
    run("import", path)
    result = run("import", path, "--states", "--json").json
    assert (result["messages"]["new"], result["checkpoints"]["new"]) == (0, 5)
    assert log(tmp_path, "a") == TALK


@pytest.mark.parametrize("states", [(), ("--states",)])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_another_conversation_of_the_same_id_is_refused(
    run: Run, tmp_path: Path, at: int, states: tuple[str, ...]
) -> None:
    run("import", write(tmp_path, line("a")), *states)
    other = [*TALK[:at], user("something else"), *TALK[at + 1 :], user("more")]
    result = run("import", write(tmp_path, line("a", other)), *states)
    assert result.code == 2
    assert f"talks.jsonl:1: message {at + 1} of thread 'a' is not the one" in result.err
    assert log(tmp_path, "a") == TALK


def test_a_name_that_was_given_stays(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, line("a", k=1))
    run("import", path)
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        info = memory.get_thread({"thread_id": "a"})
        assert info is not None
        info.thread_name, info.metadata = "mine", {"starred": True, "k": 0}
        memory.put_thread({"thread_id": "a"}, info)
    run("import", path)
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        info = memory.get_thread({"thread_id": "a"})
        assert info is not None
        assert (info.thread_name, info.metadata) == ("mine", {"starred": True, "k": 1})


def test_messages_of_others_in_the_thread_stay(run: Run, tmp_path: Path) -> None:
    run("import", write(tmp_path, line("a", TALK[:2])))
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        memory.put_messages({"thread_id": "a"}, [Message.text_message("mine")])
    assert run("import", write(tmp_path, line("a", TALK[:2])), "--json").json["bad"] == []
    assert [message["content"] for message in log(tmp_path, "a")][2:] == ["mine"]


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b'{"thread_id": "x", \n', "not JSON: "),
    "cut in the middle": (line("x")[:-9] + b"\n", "not JSON: "),
    "bad UTF-8": (b'{"thread_id": "\xff\xfe", "messages": []}\n', "not UTF-8 (byte 16)"),
    "UTF-16": ('{"thread_id": "x"}'.encode("utf-16") + b"\n", "not UTF-8 (byte 1)"),
    "NaN": (b'{"thread_id": "x", "messages": [], "k": NaN}\n', "not JSON: NaN is no number"),
    "a list": (b"[]\n", "not a JSON object, but a list"),
    "a number": (b"12\n", "not a JSON object, but a number"),
    "null": (b"null\n", "not a JSON object, but null"),
    "too deep": (b"[" * 100_000 + b"\n", "nested too deeply"),
    "no thread": (b'{"messages": []}\n', "no thread_id"),
    "thread is a number": (line(12), "thread_id is not a text, but a number"),
    "thread is empty": (line(""), "thread_id must not be empty"),
    "thread is long": (line("x" * 2000), "2000 characters long"),
    "thread with an escape": (line("x\x1b[31m"), r"control character or surrogate '\x1b'"),
    "no messages": (b'{"thread_id": "x"}\n', "no messages"),
    "messages is an object": (line("x", {}), "messages is not a list, but an object"),
    "message is a text": (line("x", ["hi"]), "message 1: an OpenAI message is a dict"),
    "no role": (line("x", [user("hi"), {"content": "y"}]), "message 2: an OpenAI message needs"),
    "unknown role": (line("x", [{"role": "boss"}]), "message 1: unknown role 'boss'"),
    "user is a list": (line("x", user_id=[1]), "user_id must be a str or an int"),
    "user is true": (line("x", user_id=True), "user_id must be a str or an int"),
    "twice": (line("good 1"), "thread_id 'good 1' stands at"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("states", [(), ("--states",)])
def test_a_bad_line_stops_nothing(
    run: Run, tmp_path: Path, bad: bytes, reason: str, states: tuple[str, ...]
) -> None:
    path = write(tmp_path, line("good 1"), b"\n", bad, line("good 2"))
    result = run("import", path, *states)
    assert result.code == 2
    (complaint,) = [each for each in result.err.splitlines() if "talks.jsonl:3: " in each]
    assert reason in complaint
    assert "\x1b" not in result.err
    assert "Traceback" not in result.err
    assert log(tmp_path, "good 1") == TALK == log(tmp_path, "good 2")
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        assert len(memory.list_threads({})) == 2
    told = run("import", path, "--json", *states)
    assert told.code == 2
    assert [(each["line"], reason in each["reason"]) for each in told.json["bad"]] == [(3, True)]


def test_another_users_thread_is_refused(run: Run, tmp_path: Path) -> None:
    run("import", write(tmp_path, line("a", user_id="ann")))
    result = run("import", write(tmp_path, line("a", [user("mine now")], user_id="bob")))
    assert result.code == 2
    assert "talks.jsonl:1: thread 'a' belongs to another user" in result.err
    assert log(tmp_path, "a") == TALK


HOSTILE = [
    user("\x1b[31mred\x1b]0;title\x07"),
    user("NUL \0, lone \ud800 surrogate, \u202e turned"),
    user("100 % _ \" ' \\ { } [ ] 🎈 日本 é e\u0301"),
    user(""),
    {"role": "user", "content": None},
    {"role": "user"},
    {"role": "assistant", "content": "x", "big": 2**70, "$str": {"$tuple": [1]}, "f": 1e-300},
]


def test_hostile_text_comes_back_equal(run: Run, tmp_path: Path) -> None:
    assert run("import", write(tmp_path, line("h", HOSTILE)), "--states").code == 0
    assert log(tmp_path, "h") == HOSTILE


def test_bom_crlf_blank_lines_and_no_last_line_break(run: Run, tmp_path: Path) -> None:
    first, second = line("a").rstrip(), line("b").rstrip()
    path = write(tmp_path, b"\xef\xbb\xbf", first, b"\r\n\r\n  \t\n", second)
    assert run("import", path, "--json").json["threads"]["new"] == 2


def test_huge_lines(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = [user("word " * 1_000_000)]
    assert run("import", write(tmp_path, line("huge", huge))).code == 0
    assert log(tmp_path, "huge") == huge
    monkeypatch.setattr(conversations, "MAX_LINE", 1000)
    short = [user("short")]
    path = write(tmp_path, line("too long", [user("x" * 5000)]), line("after", short))
    result = run("import", path)
    assert result.code == 2
    assert "talks.jsonl:1: longer than 1,000 bytes" in result.err
    assert log(tmp_path, "after") == short


def test_several_files_and_one_that_is_missing(run: Run, tmp_path: Path) -> None:
    one = write(tmp_path, line("a"), name="one.jsonl")
    two = write(tmp_path, line("b"), line("a"), name="two.jsonl")
    result = run("import", one, tmp_path / "missing.jsonl", two, tmp_path, "--json")
    assert result.code == 2
    assert result.json["threads"]["new"] == 2
    first, second, third = result.json["bad"]
    assert (first["line"], second["line"], third["line"]) == (None, 2, None)
    assert "there is no file" in first["reason"]
    assert "one.jsonl:1 already" in second["reason"]
    assert "is a directory" in third["reason"]


def test_no_file_at_all_makes_no_store(run: Run, tmp_path: Path) -> None:
    result = run("import", tmp_path / "missing.jsonl")
    assert (result.code, result.out) == (2, "")
    assert "there is no file" in result.err
    assert not (tmp_path / "memory.db").exists()


def test_standard_input(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line("a") + b"oops\n")))
    result = run("import", "-")
    assert result.code == 2
    assert "-:2: not JSON" in result.err
    assert log(tmp_path, "a") == TALK


def test_owner_tenant_and_app(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, line("a"), line("b", user_id="bob"))
    run("import", path, "--user", "int:5", "--tenant", "t", "--app", "p")
    assert log(tmp_path, "a") == []
    place = {"tenant": "t", "app": "p"}
    assert log(tmp_path, "a", user_id=5, **place) == TALK
    assert log(tmp_path, "b", user_id="bob", **place) == TALK
    shown = run("threads", "--tenant", "t", "--app", "p", "--user", "int:5", "--json")
    assert shown.json["thread_id"] == "a"
    assert run("threads", "--json").out == ""
