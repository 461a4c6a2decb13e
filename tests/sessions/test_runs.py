"""Running nodes: what they are given, what their results mean, what a failure leaves, and taking a run up again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from injectq import Inject, InjectQ

from threadline import (
    AgentState,
    ConflictError,
    Interrupt,
    Message,
    NotStorableError,
    ToolOutcomeUnknownError,
)
from threadline.checkpointer import BaseCheckpointer, Session, SyncSession
from threadline.checkpointer.ledger import ToolRecord
from threadline.model import ExecutionStatus

CONFIG = {"thread_id": "t", "user_id": "alice"}


def said(text: str, role: Any = "assistant") -> Message:
    return Message.text_message(text, role=role)


def texts(messages: list[Message]) -> list[str]:
    return [message.text() for message in messages]


def adding(text: str) -> Callable[[AgentState], None]:
    """A node that adds a message to the state."""

    def node(state: AgentState) -> None:
        state.context.append(said(text))

    return node


async def history(checkpointer: BaseCheckpointer) -> list[tuple[str | None, Any, Any]]:
    """Name, step and failed node of each checkpoint, oldest first."""
    found = await checkpointer.alist_checkpoints(CONFIG)
    return [
        (each.name, each.metadata.get("step"), each.metadata.get("error"))
        for each in reversed(found)
    ]


# One node ---------------------------------------------------------------------------------------------------


async def test_a_node_is_given_what_it_names(checkpointer: BaseCheckpointer) -> None:
    seen: dict[str, Any] = {}

    def by_name(config: dict[str, Any], state: AgentState, session: Any) -> None:
        seen.update(config=config, state=state, session=session)

    def by_place(anything: AgentState, config: dict[str, Any]) -> None:
        seen["place"] = anything, config

    def wanted(
        state: AgentState, who: Session, checkpointer: BaseCheckpointer, *, more: int = 0
    ) -> None:
        seen["wanted"] = who, checkpointer, more

    async with checkpointer.session(CONFIG) as session:
        for node in (by_name, by_place):
            await session.run(node)
        await session.run(wanted, more=3)
        await session.run(lambda: seen.setdefault("nothing", True))
        await session.run(lambda state, extra: seen.setdefault("extra", extra), extra=5)
        await session.run(lambda other: seen.setdefault("other", other), "given")
        assert seen["config"] == session.config
        assert seen["state"] is seen["place"][0] is session.state
        assert seen["session"] is session
        assert seen["wanted"] == (session, checkpointer, 3)
        assert (seen["nothing"], seen["extra"], seen["other"]) == (True, 5, "given")


async def test_the_node_of_the_reference_page(checkpointer: BaseCheckpointer) -> None:
    """A plain function that starts a task: nothing is lost, and its put does not conflict."""

    def audit_node(
        state: AgentState,
        config: dict[str, Any],
        checkpointer: BaseCheckpointer = Inject[BaseCheckpointer],
    ) -> AgentState:
        audit_message = Message.text_message(
            f"Decision made at step {state.execution_meta.step}", role="system"
        )
        asyncio.create_task(  # noqa: RUF006 - as the page writes it
            checkpointer.aput_messages(config, [audit_message])
        )
        return state

    async with checkpointer.session(CONFIG) as session:
        for _ in range(3):
            assert await session.run(audit_node) is session.state
            logged = texts(await checkpointer.alist_messages(CONFIG))
            assert len(logged) == session.state.execution_meta.step
        assert logged == [f"Decision made at step {step}" for step in range(3)]
    assert await history(checkpointer) == [("audit_node", n, None) for n in (1, 2, 3)]


async def test_what_a_node_returns(checkpointer: BaseCheckpointer) -> None:
    async def stream(state: AgentState) -> AsyncIterator[Message]:
        yield said("four")
        yield said("five")

    async with checkpointer.session(CONFIG) as session:
        await session.run(lambda state: said("one"), name="message")
        await session.run(lambda state: [said("two"), said("three")], name="list")
        await session.run(stream)
        assert await session.run(lambda state: {"plain": 1}, name="value") == {"plain": 1}
        fresh = AgentState(context_summary="another object")
        await session.run(lambda state: fresh, name="state")
        assert session.state is fresh
    assert (await checkpointer.aget_state(CONFIG)) == fresh
    assert texts(await checkpointer.alist_messages(CONFIG)) == [
        "one",
        "two",
        "three",
        "four",
        "five",
    ]
    older = await checkpointer.aget_state({**CONFIG, "name": "value"})
    assert texts(older.context) == ["one", "two", "three", "four", "five"]


async def test_a_node_may_run_in_a_thread(checkpointer: BaseCheckpointer) -> None:
    def where(state: AgentState, checkpointer: BaseCheckpointer) -> Any:
        return threading.get_ident(), checkpointer

    async with checkpointer.session(CONFIG) as session:
        assert (await session.run(where))[0] == threading.get_ident()
        ident, given = await session.run(where, in_thread=True)
        assert ident != threading.get_ident()
        assert given is checkpointer


async def test_other_services_come_from_the_sessions_container(
    checkpointer: BaseCheckpointer,
) -> None:
    class Api:
        pass

    container, api = InjectQ(), Api()
    container.bind_instance(Api, api)

    def node(state: AgentState, api: Api = Inject[Api]) -> Any:
        return api

    async with checkpointer.session(CONFIG, container=container) as session:
        assert await session.run(node) is api


async def test_tasks_of_others_are_not_waited_for(checkpointer: BaseCheckpointer) -> None:
    """Only what a node started, also through its tasks, is waited for."""
    stop, order = asyncio.Event(), []
    beside = asyncio.create_task(stop.wait())

    async def inner() -> None:
        await asyncio.sleep(0)
        order.append("inner")

    async def outer() -> None:
        await asyncio.sleep(0)
        order.append("outer")
        asyncio.create_task(inner())  # noqa: RUF006 - that is what is tested

    async def node(state: AgentState) -> None:
        asyncio.create_task(outer())  # noqa: RUF006 - as above

    async with checkpointer.session(CONFIG) as session:
        await session.run(node)
    assert order == ["outer", "inner"]
    assert not beside.done()
    stop.set()
    await beside


async def test_a_task_that_fails_fails_its_node(checkpointer: BaseCheckpointer) -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    async def node(state: AgentState) -> None:
        asyncio.create_task(failing())  # noqa: RUF006 - that is what is tested

    async with checkpointer.session(CONFIG) as session:
        with pytest.raises(ZeroDivisionError):
            await session.run(node)
    assert [name for name, _, _ in await history(checkpointer)] == ["error"]


async def test_an_error_leaves_a_checkpoint_with_what_was_there(
    checkpointer: BaseCheckpointer,
) -> None:
    def failing(state: AgentState) -> None:
        state.context.append(said("half"))
        raise ZeroDivisionError("no")

    async with checkpointer.session(CONFIG) as session:
        await session.append([said("question", "user")])
        with pytest.raises(ZeroDivisionError, match="no"):
            await session.run(failing)
        (found,) = await checkpointer.alist_checkpoints(CONFIG, name="error")
        assert found.metadata["node"] == "failing"
        assert found.metadata["error"] == "ZeroDivisionError: no"
        stored = await checkpointer.aget_state({**CONFIG, "name": "error"})
        assert texts(stored.context) == ["question", "half"]
        assert stored.execution_meta.status is ExecutionStatus.ERROR
        await session.run(adding("on"), name="on")
        assert session.state.execution_meta.status is ExecutionStatus.RUNNING
    assert texts((await checkpointer.aget_state(CONFIG)).context) == ["question", "half", "on"]


async def test_an_error_that_cannot_be_stored_is_raised_all_the_same(
    checkpointer: BaseCheckpointer,
) -> None:
    def failing(state: AgentState) -> None:
        state.context_summary = object()  # type: ignore[assignment]
        raise ZeroDivisionError

    async with checkpointer.session(CONFIG) as session:
        with pytest.raises(ZeroDivisionError) as caught:
            await session.run(failing)
    assert "could not be stored" in caught.value.__notes__[0]


async def test_a_node_runs_again_on_the_state_that_won(checkpointer: BaseCheckpointer) -> None:
    paid = []

    async def node(state: AgentState, session: Session) -> None:
        paid.append(await session.tool(lambda: 7, call_id="tool"))
        if len(paid) == 1:
            other = await checkpointer.aget_state(CONFIG)
            other.context.append(said("from elsewhere"))
            await checkpointer.aput_state(CONFIG, other)
        state.context.append(said("mine"))

    async with checkpointer.session(CONFIG, on_conflict="reload") as session:
        await session.append([said("question", "user")])
        await session.run(node)
    assert paid == [7, 7]
    stored = await checkpointer.aget_state(CONFIG)
    assert texts(stored.context) == ["question", "from elsewhere", "mine"]


async def test_a_conflict_in_a_node_is_raised(checkpointer: BaseCheckpointer) -> None:
    async def node(state: AgentState) -> None:
        await checkpointer.aput_state(CONFIG, AgentState())

    async with checkpointer.session(CONFIG) as session:
        with pytest.raises(ConflictError):
            await session.run(node)


def test_a_sync_session_runs_nodes_of_both_kinds(checkpointer: BaseCheckpointer) -> None:
    async def slow(state: AgentState, session: Session) -> Message:
        await asyncio.sleep(0)
        return said(await session.tool(lambda: "async"))

    def plain(state: AgentState, session: SyncSession) -> Message:
        asyncio.get_running_loop()
        return said(session.tool(lambda: "sync"))

    with checkpointer.session(CONFIG) as session:
        session.run(slow)
        assert session.run_all([plain, slow])
        assert session.tool(lambda: 5) == 5
    assert texts(checkpointer.get_state(CONFIG).context) == ["async", "sync", "async"]


# Runs -------------------------------------------------------------------------------------------------------


async def test_a_run_leaves_a_checkpoint_for_each_node(checkpointer: BaseCheckpointer) -> None:
    async with checkpointer.session(CONFIG) as session:
        await session.append([said("question", "user")])
        assert await session.run_all([("a", adding("a")), ("b", adding("b"))])
        assert session.unfinished == []
        state = session.state
        assert state.execution_meta.status is ExecutionStatus.COMPLETED
        assert await session.run_all([("a", adding("a2"))])  # Another run.
    assert await history(checkpointer) == [
        (None, None, None),
        (None, 0, None),
        ("a", 1, None),
        ("b", 2, None),
        (None, 0, None),
        ("a", 1, None),
    ]
    runs = {each.metadata.get("run") for each in await checkpointer.alist_checkpoints(CONFIG)}
    assert len(runs - {None}) == 2


async def test_a_run_that_failed_goes_on_behind_its_last_node(make: Any) -> None:
    """In another process; what the failed node had half done is undone, and stays in the history."""
    broken = True

    def fragile(state: AgentState) -> None:
        state.context.append(said("b"))
        if broken:
            raise ZeroDivisionError

    nodes = [("a", adding("a")), ("b", fragile), ("c", adding("c"))]
    async with make().session(CONFIG) as session:
        with pytest.raises(ZeroDivisionError):
            await session.run_all(nodes)
    async with make().session(CONFIG) as session:
        assert session.unfinished == ["b", "c"]
        with pytest.raises(ZeroDivisionError):
            await session.run_all(nodes)
    broken = False
    async with make().session(CONFIG) as session:
        assert await session.run_all(nodes)
        assert texts(session.state.context) == ["a", "b", "c"]
    error = "ZeroDivisionError: "
    assert await history(make()) == [
        (None, 0, None),
        ("a", 1, None),
        ("error", 1, error),
        (None, 1, None),
        ("error", 1, error),
        (None, 1, None),
        ("b", 2, None),
        ("c", 3, None),
    ]


async def test_what_a_node_saved_before_it_failed_is_undone(make: Any) -> None:
    broken = True

    async def saving(state: AgentState, session: Session) -> None:
        state.context.append(said("half"))
        await session.save(name="inside")
        await session.append([said("kept with the node")])
        if broken:
            raise asyncio.CancelledError

    async with make().session(CONFIG) as session:
        with pytest.raises(asyncio.CancelledError):
            await session.run_all([("a", adding("a")), ("b", saving)])
    broken = False
    async with make().session(CONFIG) as session:
        assert session.unfinished == ["b"]
        assert texts(session.state.context) == ["a", "half"]
        await session.run_all([("a", adding("a")), ("b", saving)])
        assert texts(session.state.context) == ["a", "half", "kept with the node"]
    checkpointer = make()
    assert texts(await checkpointer.alist_messages(CONFIG)) == ["kept with the node"]


async def test_what_was_saved_between_two_attempts_is_kept(make: Any) -> None:
    async with make().session(CONFIG) as session:
        with pytest.raises(asyncio.CancelledError):
            await session.run_all([("a", adding("a")), ("b", cancelled)])
    async with make().session(CONFIG) as session:
        await session.append([said("a word between", "user")])
        assert session.unfinished == ["b"]
        assert await session.run_all([("a", adding("a")), ("b", adding("b"))])
        assert texts(session.state.context) == ["a", "a word between", "b"]


def cancelled(state: AgentState) -> None:
    raise asyncio.CancelledError


async def test_a_run_with_an_id_is_done_once(make: Any) -> None:
    config = {**CONFIG, "run_id": "r1"}
    nodes = [("a", adding("a")), ("b", adding("b"))]
    for _ in range(3):
        async with make().session(config) as session:
            assert await session.run_all(nodes)
            await session.append([said("later", "user")])
    async with make().session({**CONFIG, "run_id": "r2"}) as session:
        await session.run_all(nodes)
        assert texts(session.state.context) == ["a", "b", "later", "later", "later", "a", "b"]


async def test_another_list_of_nodes_is_refused(make: Any) -> None:
    async with make().session(CONFIG) as session:
        with pytest.raises(asyncio.CancelledError):
            await session.run_all([("a", adding("a")), ("b", cancelled)])
        with pytest.raises(ValueError, match="unfinished run of a, b"):
            await session.run_all([("a", adding("a")), ("c", adding("c"))])
    async with make().session({**CONFIG, "run_id": "new"}) as session:
        assert await session.run_all([("c", adding("c"))])


# Tools ------------------------------------------------------------------------------------------------------


async def test_a_tool_that_finished_is_not_called_again(make: Any) -> None:
    calls: list[Any] = []

    def pay(amount: int) -> dict[str, Any]:
        calls.append(amount)
        return {"receipt": amount, "parts": (1, 2)}

    async def node(state: AgentState, session: Session) -> None:
        for amount in (1, 2, 2):
            assert await session.tool(pay, amount) == {"receipt": amount, "parts": (1, 2)}
        if len(calls) < 4:
            calls.append("died")
            raise asyncio.CancelledError

    for attempt in range(2):
        async with make().session(CONFIG) as session:
            if attempt:
                await session.run_all([node])
            else:
                with pytest.raises(asyncio.CancelledError):
                    await session.run_all([node])
    assert calls == [1, 2, 2, "died"]
    async with make().session(CONFIG) as session:
        assert await session.calls() == []  # Forgotten with the end of the run.


async def test_a_tool_that_failed_is_called_again(checkpointer: BaseCheckpointer) -> None:
    calls = []

    def flaky() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("no")
        return 5

    async with checkpointer.session(CONFIG) as session:
        with pytest.raises(ZeroDivisionError):
            await session.tool(flaky, call_id="c")
        (record,) = await session.calls()
        assert (record.status, record.error) == ("failed", "ZeroDivisionError: no")
        assert await session.tool(flaky, call_id="c") == 5
        (record,) = await session.calls()
        assert record == ToolRecord("c", "flaky", "finished", attempts=2, result=5)


async def test_a_tool_that_did_not_say_how_it_ended(make: Any) -> None:
    """By default it is called again; one that must not is unknown until somebody says."""

    def dies() -> None:
        raise asyncio.CancelledError

    async with make().session({**CONFIG, "run_id": "r"}) as session:
        for call_id in ("again", "never"):
            with pytest.raises(asyncio.CancelledError):
                await session.tool(dies, call_id=call_id)
    async with make().session({**CONFIG, "run_id": "r"}) as session:
        assert await session.tool(lambda: 1, call_id="again") == 1
        with pytest.raises(ToolOutcomeUnknownError) as caught:
            await session.tool(lambda: 1, call_id="never", on_unknown="raise")
        assert (caught.value.thread_id, caught.value.call_id) == ("t", "never")
        await session.answer("never", "it had been paid")
        assert await session.tool(lambda: 1, call_id="never", on_unknown="raise") == (
            "it had been paid"
        )
        with pytest.raises(LookupError):
            await session.answer("never", 1)
        with pytest.raises(LookupError):
            await session.answer("unknown", 1)


async def test_a_result_that_cannot_be_stored_is_told(checkpointer: BaseCheckpointer) -> None:
    async with checkpointer.session(CONFIG) as session:
        with pytest.raises(NotStorableError):
            await session.tool(object, call_id="c")
        (record,) = await session.calls()
        assert record.status == "started"


async def test_tools_want_things_too(checkpointer: BaseCheckpointer) -> None:
    async def tool(n: int, checkpointer: BaseCheckpointer) -> bool:
        return checkpointer is given

    given = checkpointer

    async def node(state: AgentState, session: Session) -> bool:
        return await session.tool(tool, 1)

    async with checkpointer.session(CONFIG) as session:
        assert await session.run(node) is True


# People -----------------------------------------------------------------------------------------------------


async def test_a_question_stops_the_run_until_it_is_answered(make: Any) -> None:
    calls = []

    async def buy(state: AgentState, session: Session) -> Message:
        price = await session.tool(lambda: calls.append("price") or 100, call_id="price")
        answer = await session.ask({"buy for": price})
        return said(f"bought: {answer}")

    nodes = [("look", adding("looked")), ("buy", buy)]
    async with make().session(CONFIG) as session:
        assert not await session.run_all(nodes)
        assert not await session.run_all(nodes)  # Nobody answered.
    async with make().session(CONFIG) as session:  # Days later, elsewhere.
        (question,) = [call for call in await session.calls() if call.status == "asked"]
        assert question.question == {"buy for": 100}
        assert session.state.is_interrupted()
        assert session.state.execution_meta.interrupted_node == "buy"
        await session.answer(question.call_id, "yes")
    async with make().session(CONFIG) as session:
        assert await session.run_all(nodes)
        assert texts(session.state.context) == ["looked", "bought: yes"]
        assert not session.state.is_interrupted()
    assert calls == ["price"]


async def test_a_question_in_a_single_node(checkpointer: BaseCheckpointer) -> None:
    async def node(state: AgentState, session: Session) -> Any:
        return await session.ask("really?")

    async with checkpointer.session({**CONFIG, "run_id": "r"}) as session:
        with pytest.raises(Interrupt) as caught:
            await session.run(node)
        await session.answer(caught.value.call_id, True)
        assert await session.run(node) is True
