"""The surface that users of session memory know already, call by call, on every checkpointer that ships.

Each test is one habit of such users: put and get, log messages, describe a thread, warm, fork, repair, measure.
The async half comes first, then the sync half, then what a node may start and what shutting down must not lose.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from threadline import ReleasedError, UnavailableError
from threadline.backends.memory import MemoryBackend
from threadline.checkpointer import (
    BaseCheckpointer,
    InMemoryCheckpointer,
    PgCheckpointer,
    SqliteCheckpointer,
)
from threadline.model import AgentState, Message, ThreadInfo, ToolCallBlock

CONFIG = {"thread_id": "conv_123", "user_id": "alice"}
Make = Callable[..., BaseCheckpointer]


@pytest.fixture(params=["memory", "sqlite", "postgres", "postgres with a cache"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Opens a checkpointer (of a subclass that is made by `mixin`, when given) on one and the same store."""
    kind: type = PgCheckpointer
    arguments: dict[str, Any] = {}
    if request.param == "memory":
        kind = InMemoryCheckpointer
    elif request.param == "sqlite":
        kind, arguments = SqliteCheckpointer, {"path": tmp_path / "memory.db"}
    else:
        arguments = {"postgres_dsn": request.getfixturevalue("empty_store")}
    if "cache" in request.param:
        arguments["redis_url"] = request.getfixturevalue("valkey_url")

    def opened(mixin: type | None = None) -> BaseCheckpointer:
        return (type("Mixed", (mixin, kind), {}) if mixin else kind)(**arguments)

    return opened


@pytest.fixture
async def checkpointer(make: Make) -> AsyncIterator[BaseCheckpointer]:
    opened = make()
    yield opened
    await opened.arelease()


def said(text: str, role: Any = "user") -> Message:
    return Message.text_message(text, role=role)


def texts(messages: list[Message]) -> list[str]:
    return [message.text() for message in messages]


async def drain() -> None:
    """Let every task of this loop that has begun or can begin come to its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)


# State --------------------------------------------------------------------------------------------------


async def test_a_state_that_was_put_is_recovered(checkpointer: BaseCheckpointer) -> None:
    state = AgentState(context=[said("Will it rain?")], context_summary="weather")
    await checkpointer.aput_state(CONFIG, state)
    assert await checkpointer.aget_state(CONFIG) == state


async def test_the_cache_first_and_the_store_as_fallback(checkpointer: BaseCheckpointer) -> None:
    async def load() -> Any:
        state = await checkpointer.aget_state_cache(CONFIG)
        return state if state else await checkpointer.aget_state(CONFIG)

    assert await load() is None
    await checkpointer.aput_state(CONFIG, AgentState(context_summary="one"))
    assert (await load()).context_summary == "one"
    updated = await load()
    updated.context_summary = "two"
    await checkpointer.aput_state(CONFIG, updated)
    assert (await load()).context_summary == "two"


async def test_setup_may_be_called_and_called_again(make: Make) -> None:
    checkpointer = make()
    await checkpointer.asetup()
    await checkpointer.asetup()
    await checkpointer.aput_state(CONFIG, AgentState())
    await checkpointer.arelease()
    with pytest.raises(ReleasedError):
        await checkpointer.aget_state(CONFIG)


async def test_a_user_id_may_be_missing_or_a_number(checkpointer: BaseCheckpointer) -> None:
    await checkpointer.aput_state({"thread_id": "nobody's"}, AgentState(context_summary="a"))
    await checkpointer.aput_state({"thread_id": "7's", "user_id": 7}, AgentState())
    assert (await checkpointer.aget_state({"thread_id": "nobody's"})).context_summary == "a"
    assert [info.thread_id for info in await checkpointer.alist_threads({"user_id": 7})] == ["7's"]
    assert await checkpointer.alist_threads({"user_id": "7"}) == []


async def test_a_conversation_is_resumed_or_begun(checkpointer: BaseCheckpointer) -> None:
    async def resume(thread_id: str, user_id: str) -> AgentState:
        previous = await checkpointer.aget_state({"thread_id": thread_id, "user_id": user_id})
        return previous or AgentState()

    assert (await resume("conv_123", "alice")).context == []
    await checkpointer.aput_state(CONFIG, AgentState(context=[said("a"), said("b")]))
    assert len((await resume("conv_123", "alice")).context) == 2
    assert (await resume("conv_123", "mallory")).context == []


async def test_a_fork_is_a_get_and_a_put_without_a_user(checkpointer: BaseCheckpointer) -> None:
    main, branch = {"thread_id": "main_conversation"}, {"thread_id": "branch_experiment"}
    await checkpointer.aput_state(main, AgentState(context=[said("shared")]))
    state = await checkpointer.aget_state(main)
    await checkpointer.aput_state(branch, state)
    state.context.append(said("only in the branch"))
    await checkpointer.aput_state(branch, state)
    assert texts((await checkpointer.aget_state(main)).context) == ["shared"]
    assert len((await checkpointer.aget_state(branch)).context) == 2
    origin = (await checkpointer.aget_thread(branch)).forked_from
    assert (origin.thread_id, origin.version) == ("main_conversation", 1)
    await checkpointer.aput_state(main, state)  # One object may serve both threads.


async def test_a_state_is_repaired_from_its_messages(checkpointer: BaseCheckpointer) -> None:
    config = {"thread_id": "conv_123"}
    logged = [said("q"), said("a", "assistant")]
    await checkpointer.aput_messages(config, logged)
    await checkpointer.aput_state(config, AgentState(context_summary="broken"))
    messages = await checkpointer.alist_messages(config, limit=10000)
    rebuilt = AgentState()
    rebuilt.context = messages
    await checkpointer.aput_state(config, rebuilt)
    stored = await checkpointer.aget_state(config)
    assert stored.context == logged
    assert stored.context_summary is None


# Messages and threads -----------------------------------------------------------------------------------


async def test_messages_are_logged_with_metadata_and_searched(
    checkpointer: BaseCheckpointer,
) -> None:
    call = Message(
        role="assistant",
        content=[ToolCallBlock(id="c1", name="forecast", args={"city": "Oslo"})],
    )
    result = Message.tool_message("The weather query says: sunny", call_id="c1")
    await checkpointer.aput_messages(
        CONFIG, messages=[call, result], metadata={"execution_step": 3, "node": "tool_executor"}
    )
    found = await checkpointer.alist_messages(CONFIG, limit=50, search="weather query")
    assert [message.message_id for message in found] == [result.message_id]
    assert found[0].metadata == {"execution_step": 3, "node": "tool_executor"}
    assert await checkpointer.alist_messages(CONFIG, limit=50, search="tool_executor") == []


async def test_a_thread_is_described(checkpointer: BaseCheckpointer) -> None:
    info = ThreadInfo(
        thread_id="conv_123",
        user_id="alice",
        thread_name="Weather Inquiry",
        metadata={"tags": ["weather", "location_services"], "created_at": "2024-10-01T12:00:00Z"},
        updated_at="2024-10-01T12:30:00Z",
        run_id="run_456",
    )
    await checkpointer.aput_thread(CONFIG, info)
    known = await checkpointer.aget_thread(CONFIG)
    assert (known.thread_name, known.user_id, known.run_id) == (
        "Weather Inquiry",
        "alice",
        "run_456",
    )
    assert known.metadata == info.metadata
    assert known.updated_at == datetime(2024, 10, 1, 12, 30, tzinfo=UTC)
    assert known.created_at is not None


async def test_a_conversation_is_analysed(checkpointer: BaseCheckpointer) -> None:
    config = {"thread_id": "t"}
    call = Message(role="assistant", content=[ToolCallBlock(id="1", name="f", args={})])
    await checkpointer.aput_messages(config, [said("hello"), call, said("An ERROR came")])
    messages = await checkpointer.alist_messages(config, limit=1000)
    assert len(messages) == 3
    assert [m.message_id for m in messages if m.tools_calls] == [call.message_id]
    assert texts([m for m in messages if "error" in m.text().lower()]) == ["An ERROR came"]


async def test_patterns_are_counted_over_all_threads_of_a_user(
    checkpointer: BaseCheckpointer,
) -> None:
    for thread_id, user, text in [("1", "alice", "rain"), ("2", "alice", "sun"), ("3", "bob", "x")]:
        config = {"thread_id": thread_id, "user_id": user}
        await checkpointer.aput_messages(config, [said(text), said("rain")])
    topics: Counter[str] = Counter()
    total = 0
    threads = await checkpointer.alist_threads({"user_id": "alice"}, limit=100)
    for info in threads:
        config = {"thread_id": info.thread_id, "user_id": "alice"}
        messages = await checkpointer.alist_messages(config)
        total += len(messages)
        topics.update(texts(messages))
    assert (len(threads), total, topics) == (2, 4, {"rain": 3, "sun": 1})


async def test_the_most_recent_threads_are_warmed(checkpointer: BaseCheckpointer) -> None:
    for number in range(5):
        config = {"thread_id": f"t{number}", "user_id": "alice"}
        await checkpointer.aput_state(config, AgentState(context_summary=str(number)))
    recent = await checkpointer.alist_threads({"user_id": "alice"}, limit=3)
    warmed = [
        await checkpointer.aget_state_cache({"thread_id": info.thread_id, "user_id": "alice"})
        for info in recent
    ]
    assert [state.context_summary for state in warmed] == ["4", "3", "2"]


async def test_many_messages_are_one_call_and_keep_their_order(
    checkpointer: BaseCheckpointer,
) -> None:
    batch = [said(str(number)) for number in range(300)]
    await checkpointer.aput_messages(CONFIG, batch)
    assert await checkpointer.alist_messages(CONFIG) == batch
    assert await checkpointer.alist_messages(CONFIG, limit=50) == batch[:50]


# Failure ------------------------------------------------------------------------------------------------


class Down(MemoryBackend):
    """A store that cannot be reached."""

    async def read_head(self, *arguments: Any, **keywords: Any) -> Any:
        raise UnavailableError("the store is down")


async def test_an_unreachable_store_is_a_builtin_connection_error(tmp_path: Path) -> None:
    async def load(checkpointer: BaseCheckpointer) -> AgentState:
        try:
            state = await checkpointer.aget_state_cache(CONFIG)
            if state:
                return state
            return await checkpointer.aget_state(CONFIG)
        except ConnectionError:
            return AgentState()

    assert await load(BaseCheckpointer(Down())) == AgentState()
    no_file = SqliteCheckpointer(tmp_path)  # A folder cannot be opened as a file.
    assert await load(no_file) == AgentState()
    assert (await no_file.ahealth())["ok"] is False
    await no_file.arelease()


# Subclasses ---------------------------------------------------------------------------------------------


class Monitored:
    """Measures every put, knowing only the two arguments that it always had."""

    durations: list[float]

    async def aput_state(self, config: Any, state: Any) -> Any:
        started = time.perf_counter()
        result = await super().aput_state(config, state)  # type: ignore[misc]
        self.durations = [*getattr(self, "durations", []), time.perf_counter() - started]
        return result


async def test_an_override_governs_async_and_sync(make: Make) -> None:
    checkpointer: Any = make(Monitored)
    state = AgentState()
    assert (await checkpointer.aput_state(CONFIG, state)).version == 1
    assert checkpointer.put_state(CONFIG, state).version == 2
    assert len(checkpointer.durations) == 2
    await checkpointer.arelease()


# Sync ---------------------------------------------------------------------------------------------------


def test_the_whole_surface_without_a_loop(make: Make) -> None:
    with make() as checkpointer:
        state = checkpointer.get_state_cache(CONFIG) or AgentState()
        state.context.append(said("Will it rain?"))
        assert checkpointer.put_state(CONFIG, state).version == 1
        checkpointer.put_messages(CONFIG, messages=state.context, metadata={"node": "in"})
        assert texts(checkpointer.list_messages(CONFIG, limit=50, search="rain")) == [
            "Will it rain?"
        ]
        checkpointer.put_thread(CONFIG, ThreadInfo(thread_id="conv_123", thread_name="Rain"))
        assert checkpointer.get_thread(CONFIG).thread_name == "Rain"
        assert len(checkpointer.list_threads({"user_id": "alice"})) == 1
        assert [message.role for message in checkpointer.iter_messages(CONFIG)] == ["user"]
        assert checkpointer.get_state(CONFIG) == state
    with pytest.raises(ReleasedError):
        checkpointer.get_state(CONFIG)


async def test_sync_calls_work_inside_a_running_loop_and_in_a_worker(
    checkpointer: BaseCheckpointer,
) -> None:
    checkpointer.put_state(CONFIG, AgentState(context_summary="here"))
    state = await asyncio.to_thread(checkpointer.get_state, CONFIG)
    state.context_summary = "there"
    await asyncio.to_thread(checkpointer.put_state, CONFIG, state)
    assert checkpointer.get_state(CONFIG).context_summary == "there"


# What a node starts -------------------------------------------------------------------------------------


def audit(state: AgentState, config: dict[str, Any], checkpointer: BaseCheckpointer) -> AgentState:
    """A node that is a plain function: it logs beside the run and waits for nothing."""
    note = said(f"Decision made at step {state.execution_meta.step}", "system")
    task = asyncio.create_task(checkpointer.aput_messages(config, [note]))
    STARTED.append(task)
    return state


STARTED: list[asyncio.Task[Any]] = []


@pytest.fixture(autouse=True)
def _no_task_left() -> Iterator[None]:
    STARTED.clear()
    yield
    STARTED.clear()


async def test_a_note_beside_the_run_never_makes_the_put_conflict(
    checkpointer: BaseCheckpointer,
) -> None:
    await checkpointer.aput_state(CONFIG, AgentState())
    state = await checkpointer.aget_state(CONFIG)
    for step in range(20):
        state = audit(state, CONFIG, checkpointer)
        if step % 2:
            await asyncio.sleep(0)
        state.advance_step()
        await checkpointer.aput_state(CONFIG, state)
    await drain()
    assert len(await checkpointer.alist_messages(CONFIG)) == 20
    assert (await checkpointer.aget_state(CONFIG)).execution_meta.step == 20


@pytest.mark.parametrize("yields", [0, 1, 3])
async def test_release_loses_nothing_that_was_started(make: Make, yields: int) -> None:
    checkpointer = make()
    await checkpointer.asetup()
    for _ in range(10):
        audit(AgentState(), CONFIG, checkpointer)
    for _ in range(yields):  # 0: not one of the tasks has begun.
        await asyncio.sleep(0)
    await checkpointer.arelease()
    assert all(task.done() for task in STARTED)
    assert [task.exception() for task in STARTED] == [None] * 10
    if isinstance(checkpointer, SqliteCheckpointer):
        async with make() as again:
            assert len(await again.alist_messages(CONFIG)) == 10


async def test_release_waits_for_calls_with_a_timeout_and_in_a_group(make: Make) -> None:
    checkpointer = make()
    await checkpointer.asetup()
    notes = [checkpointer.aput_messages(CONFIG, [said(text)]) for text in "abc"]
    STARTED.append(asyncio.create_task(asyncio.wait_for(notes[0], timeout=5)))
    group = asyncio.gather(notes[1], notes[2])
    await asyncio.sleep(0)
    await checkpointer.arelease()
    await group
    await asyncio.wait(STARTED)
    assert STARTED[0].exception() is None


async def test_a_sync_release_in_a_running_loop_says_what_to_call(make: Make) -> None:
    checkpointer = make()
    await checkpointer.asetup()
    audit(AgentState(), CONFIG, checkpointer)
    with pytest.raises(RuntimeError, match="async"):
        checkpointer.release()
    await checkpointer.arelease()
    assert STARTED[0].exception() is None
