"""Snippets that users of session memory know, letter for letter, on every checkpointer that they make sense for.

The snippets stand in `session_memory.md`. Each test gives one what stands around it in a user's program, runs it, and
checks what it did. Addresses that a snippet makes up lead to the servers of the tests.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import logging
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import FunctionType
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from injectq import InjectQ

from threadline import (
    AgentState,
    InjectionError,
    Message,
    ReleasedError,
    ThreadInfo,
    ToolCallBlock,
)
from threadline.backends.memory import MemoryBackend
from threadline.backends.pg_address import Dsn
from threadline.checkpointer import BaseCheckpointer, PgCheckpointer, SqliteCheckpointer
from threadline.errors import UnavailableError
from threadline.injection import call, using

PAGE = Path(__file__).with_name("session_memory.md")
SNIPPETS: dict[str, str] = dict(
    re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
CONFIG = {"thread_id": "conv_123", "user_id": "alice"}


class Program(dict[str, Any]):
    """A user's program: its names, and what its snippets printed."""

    printed = ""

    async def run(self, name: str) -> None:
        """Run a snippet as it stands."""
        code = compile(
            SNIPPETS[name],
            f"{PAGE.name}, {name}",
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = FunctionType(code, self)()
            if inspect.iscoroutine(result):
                await result
        self.printed += printed.getvalue()

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a function that a snippet defined."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = await call(self[name], *args, **kwargs)
        self.printed += printed.getvalue()
        return result


@pytest.fixture(params=["memory", "sqlite", "postgres", "postgres with a cache"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Makes the checkpointer of a program."""
    if request.param == "memory":
        return lambda: BaseCheckpointer(MemoryBackend())
    if request.param == "sqlite":
        return lambda: SqliteCheckpointer(tmp_path / "memory.db")
    dsn = request.getfixturevalue("empty_store")
    url = request.getfixturevalue("valkey_url") if "cache" in request.param else None
    return lambda: PgCheckpointer(dsn, redis_url=url)


@pytest.fixture
async def program(opening: Any) -> AsyncIterator[Program]:
    """A program with a checkpointer on an empty store, and what its snippets take for granted."""
    checkpointer = opening()
    made = Program(
        checkpointer=checkpointer,
        config=dict(CONFIG),
        state=AgentState(context=[said("What is the weather in Oslo?")]),
        AgentState=AgentState,
        Message=Message,
        ThreadInfo=ThreadInfo,
        BaseCheckpointer=BaseCheckpointer,
        List=list,
        asyncio=asyncio,
        time=time,
        os=os,
    )
    yield made
    await checkpointer.arelease()


@pytest.fixture
async def released() -> AsyncIterator[list[BaseCheckpointer]]:
    """What is released behind the test."""
    opened: list[BaseCheckpointer] = []
    yield opened
    for each in opened:
        await each.arelease()


@pytest.fixture
def servers(empty_store: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Every made-up address leads here."""
    from_url = redis.asyncio.Redis.from_url
    monkeypatch.setattr(Dsn, "resolve", lambda dsn: empty_store)
    monkeypatch.setattr(
        redis.asyncio.Redis, "from_url", lambda url, **more: from_url(valkey_url, **more)
    )
    return empty_store, valkey_url


def said(text: str, role: Any = "user") -> Message:
    return Message.text_message(text, role=role)


def texts(messages: list[Message]) -> list[str]:
    return [message.text() for message in messages]


async def works(checkpointer: BaseCheckpointer) -> None:
    """A checkpointer keeps a state."""
    state = AgentState(context_summary="kept")
    await checkpointer.aput_state(CONFIG, state)
    assert await checkpointer.aget_state(CONFIG) == state
    assert await checkpointer.aget_state_cache(CONFIG) == state


# With a checkpointer ------------------------------------------------------------------------------------------


async def test_state(program: Program) -> None:
    await program.run("state")
    assert program["recovered_state"] == program["state"]
    assert program["recovered_state"] is not program["state"]


async def test_messages(program: Program) -> None:
    calling = Message(
        role="assistant",
        content=[ToolCallBlock(id="c1", name="forecast", args={"city": "Oslo"})],
    )
    result = Message.tool_message("Answer to the weather query: sunny", call_id="c1")
    program.update(tool_call_message=calling, tool_result_message=result)
    await program.run("messages")
    (found,) = program["messages"]
    assert found.message_id == result.message_id
    assert found.metadata == {"execution_step": 3, "node": "tool_executor"}
    assert len(await program["checkpointer"].alist_messages(CONFIG)) == 2


async def test_thread(program: Program) -> None:
    await program.run("thread")
    known = await program["checkpointer"].aget_thread(CONFIG)
    assert (known.thread_name, known.user_id, known.run_id) == (
        "Weather Inquiry",
        "alice",
        "run_456",
    )
    assert known.metadata == program["thread_info"].metadata
    assert known.updated_at.isoformat() == "2024-10-01T12:30:00+00:00"


async def test_hot_path(program: Program) -> None:
    await program.run("hot path")
    assert (program["cached_state"], program["state"]) == (None, None)
    kept = AgentState(context_summary="kept")
    await program["checkpointer"].aput_state(program["config"], kept)
    await program.run("hot path")
    assert program["cached_state"] == program["state"] == kept


async def test_write_through(program: Program) -> None:
    program["updated_state"] = AgentState(context_summary="new")
    await program.run("write-through")
    assert (await program["checkpointer"].aget_state_cache(CONFIG)).context_summary == "new"


async def test_injection(program: Program) -> None:
    await program.run("injection")
    checkpointer, node, container = program["checkpointer"], program["audit_node"], InjectQ()
    state, config = AgentState(), {"thread_id": "t"}
    with pytest.raises(InjectionError):
        call(node, state, config, container=container)
    checkpointer.bind(container)
    assert call(node, state, config, container=container) is state
    with using(container):
        assert node(state, config) is state  # Undecorated, as users call it.
    async with checkpointer.session(config) as session:
        await session.run(node)
        await session.run(node)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)
    logged = await checkpointer.alist_messages(config)
    assert sorted(texts(logged)) == ["Decision made at step 0"] * 3 + ["Decision made at step 1"]
    assert {message.role for message in logged} == {"system"}


async def test_debugging(program: Program) -> None:
    await program.run("injection")
    await program.run("debugging")
    checkpointer, container = program["checkpointer"], InjectQ()
    checkpointer.bind(container)
    calling = Message(role="assistant", content=[ToolCallBlock(id="1", name="f", args={})])
    await checkpointer.aput_messages({"thread_id": "t"}, [said("hi"), calling, said("An ERROR")])
    await program.call("debug_conversation", "t", container=container)
    assert program.printed == (
        "Conversation analysis for t:\n"
        "- Total messages: 3\n"
        "- Tool calls: 1\n"
        "- Potential errors: 1\n"
    )


async def test_branches(program: Program) -> None:
    checkpointer = program["checkpointer"]
    main, branch = {"thread_id": "main_conversation"}, {"thread_id": "branch_experiment"}
    await checkpointer.aput_state(main, AgentState(context=[said("shared")]))
    await program.run("branches")
    program["current_state"].context.append(said("only in the branch"))
    await checkpointer.aput_state(branch, program["current_state"])
    assert texts((await checkpointer.aget_state(main)).context) == ["shared"]
    assert len((await checkpointer.aget_state(branch)).context) == 2
    origin = (await checkpointer.aget_thread(branch)).forked_from
    assert (origin.thread_id, origin.version) == ("main_conversation", 1)


async def test_patterns(program: Program) -> None:
    program["extract_topics"] = str.split
    await program.run("patterns")
    for thread_id, user, text in [("1", "alice", "rain"), ("2", "alice", "sun"), ("3", "bob", "x")]:
        config = {"thread_id": thread_id, "user_id": user}
        await program["checkpointer"].aput_messages(config, [said(text), said("rain")])
    assert await program.call("analyze_user_patterns", "alice") == {
        "total_conversations": 2,
        "total_messages": 4,
        "common_topics": {"rain": 3, "sun": 1},
    }


async def test_resume(program: Program) -> None:
    await program.run("resume")
    assert await program.call("resume_conversation", "conv_123", "alice") == AgentState()
    assert program.printed == ""
    kept = AgentState(context=[said("a"), said("b")])
    await program["checkpointer"].aput_state(CONFIG, kept)
    assert await program.call("resume_conversation", "conv_123", "alice") == kept
    assert program.printed == "Resuming conversation with 2 messages\n"
    assert await program.call("resume_conversation", "conv_123", "mallory") == AgentState()


async def test_warming(program: Program) -> None:
    await program.run("warming")
    checkpointer = program["checkpointer"]
    for number in range(5):
        config = {"thread_id": f"t{number}", "user_id": "alice"}
        await checkpointer.aput_state(config, AgentState(context_summary=str(number)))
    asked = []
    get = checkpointer.aget_state_cache

    async def noted(config: Any) -> Any:
        asked.append((config["thread_id"], (await get(config)).context_summary))

    checkpointer.aget_state_cache = noted
    await program.call("warm_cache_for_users", ["alice", "nobody"])
    assert asked == [("t4", "4"), ("t3", "3"), ("t2", "2")]


async def test_batches(program: Program) -> None:
    await program.run("batches")
    batch = [said(str(number)) for number in range(300)]
    await program.call("log_conversation_batch", CONFIG, batch)
    assert await program["checkpointer"].alist_messages(CONFIG) == batch


async def test_degradation(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    program["logger"] = logging.getLogger("app")
    await program.run("degradation")
    kept = AgentState(context_summary="kept")
    await program["checkpointer"].aput_state(CONFIG, kept)
    assert await program.call("resilient_state_retrieval", CONFIG) == kept

    async def down(config: Any) -> None:
        raise UnavailableError("the store is down")

    program["checkpointer"].aget_state_cache = down
    assert await program.call("resilient_state_retrieval", CONFIG) == AgentState()
    assert "Checkpointer unavailable" in caplog.text


async def test_degradation_without_a_server(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = PgCheckpointer("postgresql://user:hidden@127.0.0.1:1/db")
    program = Program(checkpointer=nowhere, AgentState=AgentState, logger=logging.getLogger("app"))
    await program.run("degradation")
    assert await program.call("resilient_state_retrieval", CONFIG) == AgentState()
    assert "hidden" not in caplog.text
    await nowhere.arelease()


async def test_repair(program: Program) -> None:
    await program.run("repair")
    checkpointer, config = program["checkpointer"], {"thread_id": "conv_123"}
    logged = [said("q"), said("a", "assistant")]
    await checkpointer.aput_messages(config, logged)
    await checkpointer.aput_state(config, AgentState(context_summary="broken"))
    await program.call("repair_conversation_integrity", "conv_123")
    assert program.printed == "Repaired state for conv_123 with 2 messages\n"
    stored = await checkpointer.aget_state(config)
    assert (stored.context, stored.context_summary) == (logged, None)


async def test_resources(program: Program) -> None:
    await program.run("resources")
    await works(program["checkpointer"])
    await program.call("shutdown")
    with pytest.raises(ReleasedError):
        await program["checkpointer"].aget_state(CONFIG)


# That make one --------------------------------------------------------------------------------------------


async def test_in_memory(released: list[BaseCheckpointer]) -> None:
    program = Program()
    await program.run("in memory")
    released.append(program["checkpointer"])
    await works(program["checkpointer"])


@pytest.mark.parametrize("name", ["dual storage", "production", "expiration", "security"])
async def test_servers(
    name: str, servers: tuple[str, str], released: list[BaseCheckpointer]
) -> None:
    program = Program(PgCheckpointer=PgCheckpointer)
    await program.run(name)
    released.append(program["checkpointer"])
    await works(program["checkpointer"])
    assert "pass" not in repr(program["checkpointer"])


async def test_databases(servers: tuple[str, str], released: list[BaseCheckpointer]) -> None:
    dsn, _ = servers
    program = Program(PgCheckpointer=PgCheckpointer, asyncpg=asyncpg, dsn=dsn)
    checkpointers = []

    class Noted(PgCheckpointer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            checkpointers.append(self)

    program["PgCheckpointer"] = Noted
    await program.run("databases")
    released += checkpointers
    assert len(checkpointers) == 3
    for each in checkpointers:
        await works(each)
        await each.adelete_thread(CONFIG)
        await each.arelease()
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'agent'"
    assert await program["existing_pool"].fetchval(tables) > 5
    await program["existing_pool"].execute("DROP SCHEMA agent CASCADE")
    await program["existing_pool"].close()


async def test_id_types(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch, released: list[BaseCheckpointer]
) -> None:
    monkeypatch.setenv("DATABASE_URL", pg_dsn)
    program = Program(PgCheckpointer=PgCheckpointer, checkpointer=PgCheckpointer())
    await program.run("id types")
    types = {"string_ids": "text", "int_ids": "integer", "bigint_ids": "bigint"}
    released += [program["checkpointer"], *(program[name] for name in types)]
    connection = await asyncpg.connect(pg_dsn)
    for name, kind in types.items():
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await program[name].asetup()
        user = "alice" if name == "string_ids" else 7
        await program[name].aput_state({"thread_id": "t", "user_id": user}, AgentState())
        column = await connection.fetchval(
            "SELECT data_type FROM information_schema.columns "
            "WHERE table_name = 'threadline_threads' AND column_name = 'owner'"
        )
        assert column == kind
        await program[name].arelease()
    await connection.close()


@pytest.mark.parametrize("cache", [True, False])
async def test_environment(
    cache: bool,
    empty_store: str,
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
    released: list[BaseCheckpointer],
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_store)
    if cache:
        monkeypatch.setenv("CACHE_URL", valkey_url)
        monkeypatch.setenv("CACHE_TTL", "60")
    program = Program(PgCheckpointer=PgCheckpointer, os=os)
    await program.run("environment")
    released.append(program["checkpointer"])
    await works(program["checkpointer"])


async def test_monitoring(servers: tuple[str, str], released: list[BaseCheckpointer]) -> None:
    class Metrics:
        calls = 0

        def histogram(self, name: str, value: float) -> None:
            assert name == "checkpointer.put_state.duration"
            assert value >= 0

        def counter(self, name: str) -> Any:
            assert name == "checkpointer.put_state.calls"
            return self

        def inc(self) -> None:
            self.calls += 1

    program = Program(PgCheckpointer=PgCheckpointer, time=time, metrics=Metrics())
    await program.run("monitoring")
    checkpointer = program["MonitoredCheckpointer"]()
    released.append(checkpointer)
    await checkpointer.asetup()
    await works(checkpointer)
    async with checkpointer.session(CONFIG) as session:
        await session.save(name="named")
        await session.run(lambda state: None, name="node")
    await asyncio.to_thread(checkpointer.put_state, CONFIG, session.state)
    assert program["metrics"].calls == 4
    assert (await checkpointer.alist_checkpoints(CONFIG, name="named"))[0].version == 2


def test_every_snippet_has_a_test() -> None:
    assert len(SNIPPETS) == 24
    source = Path(__file__).read_text()
    assert all(f'"{name}"' in source for name in SNIPPETS)
