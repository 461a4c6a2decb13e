"""Importing from the official savers: equal, again and again, read only, nothing built from bytes."""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt

from threadline import BaseCheckpointer
from threadline.adapters.langgraph import ThreadlineSaver


@dataclass
class Mine:
    value: int


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]
    mine: Mine


def talk(state: State) -> Any:
    number = len(state["messages"])
    return {"messages": [AIMessage(f"answer {number} " * 9, id=f"a{number}")], "mine": Mine(number)}


def ask(_: State) -> Any:
    return {"messages": [AIMessage(str(interrupt("sure?")), id="asked")]}


def graph(saver: BaseCheckpointSaver[Any]) -> Any:
    builder = StateGraph(State)
    builder.add_node("talk", talk)
    builder.add_node("ask", ask)
    builder.add_edge(START, "talk")
    builder.add_conditional_edges("talk", lambda _: [Send("ask", {})], ["ask"])
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


async def fill(saver: BaseCheckpointSaver[Any]) -> None:
    for thread in ("a", "b"):
        config: Any = {"configurable": {"thread_id": thread, "user_id": "alice"}}
        for number in range(3):
            said = HumanMessage(f"said {number}", id=f"h{number}")
            await graph(saver).ainvoke({"messages": [said]}, config)
            await graph(saver).ainvoke(Command(resume=f"yes {number}"), config)
        past = [s async for s in graph(saver).aget_state_history(config)][4]
        await graph(saver).aupdate_state(
            past.config, {"messages": [AIMessage("fork", id="f")]}, as_node="talk"
        )


SERDE = JsonPlusSerializer(allowed_msgpack_modules=[Mine])
Origin = tuple[str, str, Callable[[], AbstractAsyncContextManager[BaseCheckpointSaver[Any]]]]


@pytest.fixture(params=["langgraph-sqlite", "langgraph-postgres"])
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """A kind of source, where it is, and its own saver."""
    if request.param == "langgraph-sqlite":
        where = str(tmp_path / "their %41 file.db")
        opener: Any = AsyncSqliteSaver
    else:
        where, opener = request.getfixturevalue("pg_dsn"), AsyncPostgresSaver

    @asynccontextmanager
    async def opened() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        async with opener.from_conn_string(where) as saver:
            await saver.setup()
            saver.serde = SERDE
            yield saver

    return request.param, where, opened


async def all_of(saver: BaseCheckpointSaver[Any]) -> list[Any]:
    return sorted(
        [each async for each in saver.alist(None)],
        key=lambda t: [
            t.config["configurable"][k] for k in ("thread_id", "checkpoint_ns", "checkpoint_id")
        ],
    )


async def test_everything_comes_over_once_and_equal(
    origin: Origin, checkpointer: BaseCheckpointer
) -> None:
    kind, where, opened = origin
    async with opened() as theirs:
        await fill(theirs)
        expected = await all_of(theirs)
    assert len(expected) > 20
    ours = ThreadlineSaver(checkpointer, allowed_msgpack_modules=[Mine])
    looked: list[tuple[int, int]] = []
    carried = await ours.aimport(kind, where, lambda *told: looked.append(told))
    assert carried.bad == {}
    assert (carried.threads, carried.checkpoints_new) == (2, len(expected))
    assert looked == [(n, len(expected)) for n in range(1, len(expected) + 1)]
    assert await all_of(ours) == expected
    again = await ours.aimport(kind, where)
    assert (again.checkpoints_new, again.checkpoints_there, again.bad) == (0, len(expected), {})

    config: Any = {"configurable": {"thread_id": "a"}}
    state = await graph(ours).ainvoke({"messages": [HumanMessage("on", id="on")]}, config)
    assert state["messages"][-2].content == "on"
    async with opened() as theirs:
        assert await all_of(theirs) == expected


async def test_what_was_sent_before_version_4_comes_as_their_saver_reads_it(
    origin: Origin, checkpointer: BaseCheckpointer
) -> None:
    kind, where, opened = origin
    config: Any = {"configurable": {"thread_id": "old", "checkpoint_ns": ""}}
    async with opened() as theirs:
        for number in (1, 2, 3):
            old: Any = {
                "v": 3,
                "id": f"1f000000-0000-6000-8000-{number:012x}",
                "ts": "2025-01-01T00:00:00+00:00",
                "channel_values": {"a": number},
                "channel_versions": {"a": f"{number:032}.5"} if number != 2 else {},
                "versions_seen": {},
            }
            config = await theirs.aput(config, old, {"step": number}, old["channel_versions"])
            sends: list[tuple[str, Any]] = [("__pregel_tasks", Send("part", {"n": number}))] * 2
            if number != 2:
                await theirs.aput_writes(config, [*sends, ("a", 1)], "task")
        expected = await all_of(theirs)
    ours = ThreadlineSaver(checkpointer)
    assert (await ours.aimport(kind, where)).bad == {}
    found = await all_of(ours)
    if kind == "langgraph-postgres":
        sent = found[1].checkpoint["channel_values"]["__pregel_tasks"]
        assert sent == [Send("part", {"n": 1})] * 2
        for each in (found[1], expected[1]):  # Without other versions theirs has a random part.
            number = each.checkpoint["channel_versions"].pop("__pregel_tasks")
            assert int(number.split(".")[0]) == 1
    assert found == expected


async def test_what_differs_is_told_and_the_others_come(
    origin: Origin, checkpointer: BaseCheckpointer
) -> None:
    kind, where, opened = origin
    ours = ThreadlineSaver(checkpointer, allowed_msgpack_modules=[Mine])
    async with opened() as theirs:
        await fill(theirs)
        first = [each async for each in theirs.alist({"configurable": {"thread_id": "b"}})][-1]
    config: Any = {"configurable": {"thread_id": "b", "checkpoint_ns": ""}}
    other: Any = {
        **first.checkpoint,
        "channel_values": {"mine": 1},
        "channel_versions": {"mine": 1},
    }
    await ours.aput(config, other, {}, {"mine": 1})
    carried = await ours.aimport(kind, where)
    assert list(carried.bad) == ["b"]
    assert "not here as it is in the source" in carried.bad["b"]
    assert carried.threads == 1


async def test_a_file_is_only_read_and_pickles_stay_closed(
    tmp_path: Path, checkpointer: BaseCheckpointer
) -> None:
    path = tmp_path / "theirs.db"
    async with AsyncSqliteSaver.from_conn_string(str(path)) as theirs:
        await fill(theirs)
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA journal_mode=DELETE")
        file.execute(
            "INSERT INTO writes VALUES ('b', '', (SELECT max(checkpoint_id) FROM checkpoints), 't', '', 0, 'x', ?, ?)",
            ("pickle", pickle.dumps(print)),
        )
        file.execute(
            "UPDATE writes SET checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints WHERE "
            "thread_id = 'b') WHERE type = 'pickle'"
        )
    file.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.chmod(0o400)
    carried = await ThreadlineSaver(checkpointer).aimport("langgraph-sqlite", str(path))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert list(carried.bad) == ["b"]
    assert "'pickle'" in carried.bad["b"]
    assert carried.threads == 1


async def test_what_is_no_source_is_said(tmp_path: Path, checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer)
    with pytest.raises(ValueError, match="known are langgraph-sqlite, langgraph-postgres"):
        await saver.aimport("redis", "x")
    with pytest.raises(FileNotFoundError):
        await saver.aimport("langgraph-sqlite", str(tmp_path / "none.db"))
    (tmp_path / "text").write_text("no database at all, but a text of some length")
    with pytest.raises(ValueError, match="no checkpoints"):
        await saver.aimport("langgraph-sqlite", str(tmp_path / "text"))
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(ValueError, match="no checkpoints"):
        await saver.aimport("langgraph-sqlite", str(tmp_path / "empty.db"))
    with pytest.raises(ConnectionError):
        await saver.aimport("langgraph-postgres", "postgresql://nobody@127.0.0.1:1/none")
