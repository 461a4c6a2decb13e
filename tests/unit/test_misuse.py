"""What users do wrong on the first day is refused in their words, before anything is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from threadline import (
    AgentState,
    CheckpointManager,
    CorruptionError,
    InMemoryCheckpointer,
    Message,
    NotStorableError,
    PgCheckpointer,
    SqliteCheckpointer,
    UnavailableError,
)

CONFIG = {"thread_id": "t"}


@pytest.mark.parametrize(
    "path", ["postgresql://joe:secret@host/database", "sqlite:///memory.db", "file:///memory.db"]
)
def test_an_address_is_no_path_of_a_file(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a folder would be made whose name is a password."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="path") as refused:
        SqliteCheckpointer(path)
    assert "secret" not in str(refused.value)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("timeout", "error"),
    [("3", TypeError), (None, TypeError), (True, TypeError), (0, ValueError), (-1, ValueError),
     (float("inf"), ValueError), (float("nan"), ValueError)],
)  # fmt: skip
def test_a_timeout_that_can_be_none_is_refused_at_once(
    timeout: Any, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error, match="timeout must be"):
        SqliteCheckpointer(tmp_path / "m.db", timeout=timeout)
    with pytest.raises(error, match="timeout must be"):
        PgCheckpointer("postgresql://host/database", timeout=timeout)


def test_the_name_of_a_class_is_no_class() -> None:
    with pytest.raises(TypeError, match="state_class must be a class, not 'AgentState'"):
        InMemoryCheckpointer(state_class="AgentState")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "config has no thread_id"),
        ({"threadid": "t", "user_id": "a"}, "no thread_id; its keys are 'threadid', 'user_id'"),
        ({"configurable": CONFIG}, "under 'configurable'"),
        ({"thread_id": None}, "no thread_id"),
    ],
)
def test_a_config_without_a_thread_is_told_what_it_has(config: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        InMemoryCheckpointer().get_state(config)


def test_it_is_said_where_the_value_is_that_cannot_be_stored() -> None:
    checkpointer = InMemoryCheckpointer()
    deep = {"plan": {"steps": [1, (2, {"do": object()})]}, "other": [object()]}
    where = r"field 'plan': at \['steps'\]\[1\]\[1\]\['do'\]: a builtins.object"
    with pytest.raises(NotStorableError, match=where):
        checkpointer.put_state(CONFIG, deep)
    with pytest.raises(NotStorableError, match=r"field 'plan': a builtins.object"):
        checkpointer.put_state(CONFIG, {"plan": object()})
    with pytest.raises(NotStorableError, match=r"^at \['by'\]: a builtins.object"):
        checkpointer.put_state(CONFIG, AgentState(), metadata={"fine": 1, "by": object()})
    assert checkpointer.get_thread(CONFIG) is None


def test_a_thread_that_has_messages_only_has_no_state_to_work_with() -> None:
    checkpointer = InMemoryCheckpointer()
    checkpointer.put_messages(CONFIG, [Message.text_message("hi")])
    for call in (
        lambda: checkpointer.fork(CONFIG, "new"),
        lambda: checkpointer.name_checkpoint(CONFIG, "good"),
    ):
        with pytest.raises(ValueError, match=r"^thread 't' has no state$"):
            call()


async def test_a_single_message_is_no_list() -> None:
    checkpointer, message = InMemoryCheckpointer(), Message.text_message("hi")
    async with checkpointer.session(CONFIG) as session:
        with pytest.raises(TypeError, match="must be a list of Message objects, not a Message"):
            await session.append(message)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a list of Message objects, not a Message"):
        await checkpointer.aappend(CONFIG, message)  # type: ignore[arg-type]
    assert await checkpointer.aget_thread(CONFIG) is None


def test_a_thread_id_is_no_config_of_a_session() -> None:
    with pytest.raises(TypeError, match="config must be a dict, not str"):
        InMemoryCheckpointer().session("t")  # type: ignore[arg-type]


def test_a_session_that_was_not_opened_says_how() -> None:
    opening = InMemoryCheckpointer().session(CONFIG)
    with pytest.raises(AttributeError, match=r"opened before it has 'state': `async with"):
        opening.state  # type: ignore[attr-defined]  # noqa: B018


def test_a_manager_wants_a_checkpointer_not_a_path() -> None:
    with pytest.raises(TypeError, match="checkpointer must be a checkpointer or None, not str"):
        CheckpointManager("s", checkpointer="memory.db")  # type: ignore[arg-type]


def test_an_error_of_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database, but long enough to look at " * 50)
    with pytest.raises(UnavailableError, match=r"text\.db: the file is not a SQLite database"):
        SqliteCheckpointer(path).setup()
    path = tmp_path / "cut.db"
    with SqliteCheckpointer(path) as checkpointer:
        checkpointer.put_messages(CONFIG, [Message.text_message("hi " * n) for n in range(99)])
    os.truncate(path, 20_000)
    with pytest.raises(CorruptionError, match=r"cut\.db: the file is damaged"):
        SqliteCheckpointer(path).list_messages(CONFIG)
