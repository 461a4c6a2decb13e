"""A session's state: loaded or made, put with compare-and-set, through whatever `aput_state` its checkpointer has."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest

from threadline import (
    AgentState,
    ConflictError,
    Message,
    ThreadNotFoundError,
    ToolCallBlock,
)
from threadline.checkpointer import BaseCheckpointer

CONFIG = {"thread_id": "t", "user_id": "alice"}


class TripState(AgentState):
    city: str = ""


@dataclasses.dataclass(slots=True)
class Slotted:
    """A state that cannot hold where it was loaded from."""

    city: str = ""


def said(text: str, role: Any = "user") -> Message:
    return Message.text_message(text, role=role)


def texts(messages: list[Message]) -> list[str]:
    return [message.text() for message in messages]


# Loading and saving --------------------------------------------------------------------------------------


async def test_a_state_is_made_saved_and_loaded(checkpointer: BaseCheckpointer) -> None:
    settings: dict[str, Any] = {**CONFIG, "state_class": TripState}
    async with checkpointer.session(**settings) as session:
        assert session.state == TripState()
        assert session.checkpoint is None
        session.state.city = "Oslo"
        checkpoint = await session.save(name="begun", metadata={"a": 1}, messages=[said("hello")])
        assert (checkpoint.version, checkpoint.name, checkpoint.metadata) == (1, "begun", {"a": 1})
        session.state.city = "Bergen"
        assert (await session.save()).version == 2
    assert texts(await checkpointer.alist_messages(CONFIG)) == ["hello"]
    async with checkpointer.session(CONFIG, state_class=TripState) as session:
        assert session.state.city == "Bergen"
        assert session.checkpoint.version == 2


def test_the_sync_face(checkpointer: BaseCheckpointer) -> None:
    with checkpointer.session(**CONFIG) as session:
        session.state.context_summary = "a"
        session.append([said("one"), said("two")])
        assert session.save(name="n").version == 2
        session.state = AgentState(context_summary="b")
        assert session.save().version == 3
        assert session.thread_id == "t"
    assert checkpointer.get_state(CONFIG).context_summary == "b"
    assert texts(checkpointer.list_messages(CONFIG)) == ["one", "two"]


async def test_the_sync_face_inside_a_running_loop(checkpointer: BaseCheckpointer) -> None:
    with checkpointer.session(**CONFIG) as session:
        session.append([said("one")])
        session.run(lambda state: said("two", "assistant"), name="answer")
    assert texts(checkpointer.get_state(CONFIG).context) == ["one", "two"]


@pytest.mark.parametrize(
    "new",
    [lambda: TripState(city="x"), lambda: {"city": "x"}, lambda: Slotted("x")],
    ids=["model", "dict", "slotted"],
)
async def test_a_state_that_carries_nothing_is_compared_all_the_same(
    checkpointer: BaseCheckpointer, new: Callable[[], Any]
) -> None:
    config = {**CONFIG, "state_class": type(new())}
    async with checkpointer.session(config) as one, checkpointer.session(config) as two:
        one.state = new()
        await one.save()
        one.state = new()
        assert (await one.save()).version == 2
        two.state = new()
        with pytest.raises(ConflictError):
            await two.save()
    assert len(await checkpointer.alist_checkpoints(CONFIG)) == 2


async def test_two_first_turns_are_not_merged(checkpointer: BaseCheckpointer) -> None:
    async with checkpointer.session(CONFIG) as one, checkpointer.session(CONFIG) as two:
        await one.append([said("one")])
        with pytest.raises(ConflictError):
            await two.append([said("two")])
        with pytest.raises(ConflictError):
            await two.save()
    assert texts((await checkpointer.aget_state(CONFIG)).context) == ["one"]


async def test_a_cleared_state_begins_anew(checkpointer: BaseCheckpointer) -> None:
    await checkpointer.aput_state(CONFIG, AgentState(context_summary="old"))
    await checkpointer.aclear_state(CONFIG)
    async with checkpointer.session(CONFIG) as session:
        assert session.state == AgentState()
        assert (await session.save()).version == 3


async def test_append_is_for_the_state_and_the_log(checkpointer: BaseCheckpointer) -> None:
    async with checkpointer.session(CONFIG) as session:
        session.state.context_summary = "not saved yet"
        await session.append([said("one")])
        await session.append([said("two")], log=False)
        stored = await checkpointer.aget_state(CONFIG)
        assert (texts(stored.context), stored.context_summary) == (["one", "two"], None)
        assert texts(session.state.context) == ["one", "two"]
        await session.save()
    assert (await checkpointer.aget_state(CONFIG)) == session.state
    assert texts(await checkpointer.alist_messages(CONFIG)) == ["one"]


async def test_append_writes_what_is_new(checkpointer: BaseCheckpointer) -> None:
    """The rows of 500 messages are not written again for one more."""
    async with checkpointer.session(CONFIG) as session:
        session.state.context = [said("x" * 200) for _ in range(500)]
        whole = await session.save()
        for _ in range(3):
            await session.append([said("y")])
            assert session.checkpoint.bytes < whole.bytes / 5
        assert (await session.save()).bytes < whole.bytes / 5


async def test_a_foreign_thread_is_no_thread(checkpointer: BaseCheckpointer) -> None:
    await checkpointer.aput_state(CONFIG, AgentState(context_summary="hers"))
    async with checkpointer.session(thread_id="t", user_id="mallory") as session:
        assert session.state == AgentState()
        with pytest.raises((ThreadNotFoundError, ConflictError)):
            await session.save()
    assert (await checkpointer.aget_state(CONFIG)).context_summary == "hers"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, ValueError),
        ({"thread_id": "t", "on_conflict": "merge"}, ValueError),
        ({"thread_id": "t", "lease": "steal"}, ValueError),
        ({"thread_id": "t", "repair": "ignore"}, ValueError),
        ({"thread_id": "t", "ttl": 0}, ValueError),
        ({"thread_id": "t", "ttl": "30"}, TypeError),
        ({"thread_id": "t", "unknown": 1}, TypeError),
        ({"config": {"thread_id": "t", "version": 3}}, ValueError),
    ],
)
def test_settings_are_checked(
    checkpointer: BaseCheckpointer, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        checkpointer.session(**settings)


# Conflicts ------------------------------------------------------------------------------------------------


async def moved(checkpointer: BaseCheckpointer) -> None:
    state = await checkpointer.aget_state(CONFIG) or AgentState()
    state.context.append(said("from elsewhere"))
    await checkpointer.aput_state(CONFIG, state)


async def test_a_conflict_is_raised(checkpointer: BaseCheckpointer) -> None:
    async with checkpointer.session(CONFIG) as session:
        await session.append([said("one")])
        await moved(checkpointer)
        session.state.context_summary = "mine"
        with pytest.raises(ConflictError) as caught:
            await session.save()
        assert (caught.value.thread_id, caught.value.current) == ("t", 2)
        await session.reload()
        assert texts(session.state.context) == ["one", "from elsewhere"]
        assert (await session.save()).version == 3


async def test_a_conflict_forks(
    checkpointer: BaseCheckpointer, caplog: pytest.LogCaptureFixture
) -> None:
    """The work lands on a branch that knows where it came from, with the messages and the ledger."""
    async with checkpointer.session(CONFIG, on_conflict="fork") as session:
        await session.append([said("one")])
        await session.tool(lambda: 7, call_id="paid")
        await moved(checkpointer)
        session.state.context.append(said("mine"))
        checkpoint = await session.save(name="kept")
        assert session.forked_from == "t"
        assert checkpoint.thread_id == session.thread_id != "t"
        assert session.thread_id in caplog.text
        await session.append([said("on")])
        assert [call.result for call in await session.calls()] == [7]
        branch = session.config
    assert texts((await checkpointer.aget_state(branch)).context) == ["one", "mine", "on"]
    assert texts(await checkpointer.alist_messages(branch)) == ["one", "on"]
    info = await checkpointer.aget_thread(branch)
    assert (info.forked_from.thread_id, info.forked_from.version) == ("t", 1)
    assert info.user_id == "alice"
    assert texts((await checkpointer.aget_state(CONFIG)).context) == ["one", "from elsewhere"]


async def test_a_first_turn_that_lost_forks(checkpointer: BaseCheckpointer) -> None:
    async with checkpointer.session(CONFIG, on_conflict="fork") as session:
        await moved(checkpointer)
        await session.append([said("mine")])
        assert session.thread_id != "t"
    assert texts((await checkpointer.aget_state(session.config)).context) == ["mine"]


async def test_a_conflict_reloads(checkpointer: BaseCheckpointer) -> None:
    async with checkpointer.session(CONFIG, on_conflict="reload") as session:
        await session.append([said("one")])
        await moved(checkpointer)
        await session.append([said("two")])
        assert texts(session.state.context) == ["one", "from elsewhere", "two"]
        await moved(checkpointer)
        session.state.context_summary = "mine"
        with pytest.raises(ConflictError):
            await session.save()
        assert session.state.context_summary is None
        assert (await session.save()).version == 5


# Subclasses -----------------------------------------------------------------------------------------------


class Metrics:
    def __init__(self) -> None:
        self.durations: list[float] = []
        self.calls = 0


metrics = Metrics()


class MonitoredCheckpointer:
    """Exactly the override of the reference page, which knows no keyword."""

    async def aput_state(self, config, state):  # type: ignore[no-untyped-def]
        start_time = time.time()
        result = await super().aput_state(config, state)  # type: ignore[misc]

        metrics.durations.append(time.time() - start_time)
        metrics.calls += 1

        return result


class Forgetful:
    """An override that does not return what it got."""

    async def aput_state(self, config: Any, state: Any) -> None:
        await super().aput_state(config, state)  # type: ignore[misc]


class WithName:
    """An override that knows one keyword."""

    names: list[Any]

    async def aput_state(self, config: Any, state: Any, *, name: Any = None) -> Any:
        self.names = [*getattr(self, "names", []), name]
        return await super().aput_state(config, state, name=name)  # type: ignore[misc]


class Lost:
    """An override that puts elsewhere."""

    async def aput_state(self, config: Any, state: Any) -> Any:
        return await super().aput_state({**config, "thread_id": "other"}, state)  # type: ignore[misc]


async def test_a_plain_override_counts_every_put_and_loses_no_name(make: Any) -> None:
    metrics.calls = 0
    checkpointer = make(MonitoredCheckpointer)
    async with checkpointer.session(CONFIG) as session:
        one = await session.save(name="one", metadata={"a": 1}, messages=[said("logged")])
        assert (one.version, one.name, one.metadata) == (1, "one", {"a": 1})
        await session.run(lambda state: said("x", "assistant"), name="answer")
        with pytest.raises(ZeroDivisionError):
            await session.run(lambda state: 1 / 0, name="fails")
        await session.run_all([("a", lambda state: None), ("b", lambda state: None)])
    assert metrics.calls == 6
    with checkpointer.session(CONFIG) as session:
        session.save(name="sync")
    checkpointer.put_state(CONFIG, await checkpointer.aget_state(CONFIG))
    assert metrics.calls == 8
    names = [each.name for each in await checkpointer.alist_checkpoints(CONFIG)]
    assert names == [None, "sync", "b", "a", None, "error", "answer", "one"]
    assert texts(await checkpointer.alist_messages(CONFIG)) == ["logged", "x"]


async def test_a_plain_override_compares_and_is_fenced(make: Any) -> None:
    """What it does not know (the expected version, the lease) still reaches the put behind it."""
    checkpointer = make(MonitoredCheckpointer)
    async with checkpointer.session(CONFIG) as one, checkpointer.session(CONFIG) as two:
        await one.save()
        with pytest.raises(ConflictError):
            await two.save()


async def test_an_override_that_returns_nothing_and_one_that_knows_names(make: Any) -> None:
    forgetful, with_name = make(Forgetful), make(WithName)
    async with forgetful.session(CONFIG) as session:
        assert (await session.save(name="n")).name == "n"
    async with with_name.session(CONFIG) as session:
        await session.save()
        await session.save(name="m", metadata={"k": 1})
    assert with_name.names == [None, "m"]
    (newest, *_) = await with_name.alist_checkpoints(CONFIG)
    assert (newest.name, newest.metadata) == ("m", {"k": 1})


async def test_an_override_that_puts_elsewhere_is_told_so(make: Any) -> None:
    async with make(Lost).session(CONFIG) as session:
        with pytest.raises(TypeError, match="super"):
            await session.save(name="n")


async def test_an_override_may_add_to_the_config(make: Any) -> None:
    class Running:
        async def aput_state(self, config: Any, state: Any) -> Any:
            return await super().aput_state({**config, "run_id": "r1"}, state)  # type: ignore[misc]

    async with make(Running).session(CONFIG) as session:
        checkpoint = await session.save(name="n")
    assert (checkpoint.name, checkpoint.run_id) == ("n", "r1")


async def test_what_waits_reaches_no_other_put(make: Any) -> None:
    class Auditing:
        async def aput_state(self, config: Any, state: Any) -> Any:
            await super().aput_state({"thread_id": "audit"}, AgentState())  # type: ignore[misc]
            return await super().aput_state(config, state)  # type: ignore[misc]

    checkpointer = make(Auditing)
    async with checkpointer.session(CONFIG) as session:
        await session.save(name="mine")
    assert [each.name for each in await checkpointer.alist_checkpoints(CONFIG)] == ["mine"]
    assert [each.name for each in await checkpointer.alist_checkpoints({"thread_id": "audit"})] == [
        None
    ]


# Repair ---------------------------------------------------------------------------------------------------


async def test_a_history_is_mended_when_it_is_loaded(checkpointer: BaseCheckpointer) -> None:
    call = Message(role="assistant", content=[ToolCallBlock(id="c1", name="f", args={})])
    await checkpointer.aput_state(CONFIG, AgentState(context=[said("q"), call]))
    async with checkpointer.session(CONFIG) as session:
        assert len(session.state.context) == 2
    async with checkpointer.session(CONFIG, repair="close") as session:
        assert [m.role for m in session.state.context] == ["user", "assistant", "tool"]
        await session.save()
    async with checkpointer.session(CONFIG, repair="drop") as session:
        assert len(session.state.context) == 3  # Nothing is open any more.
