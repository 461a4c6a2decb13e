"""The agent's state: defaults, subclasses, and where a run stands."""

from typing import Any

from pydantic import Field, PrivateAttr

from threadline.model import AgentState, ExecutionState, ExecutionStatus, Message


class Mine(AgentState):
    mood: str = "calm"
    notes: dict[str, Any] = Field(default_factory=dict)
    _scratch: list[int] = PrivateAttr(default_factory=list)


def test_defaults() -> None:
    state = AgentState()
    assert state.context == []
    assert state.context_summary is None
    assert state.execution_meta == ExecutionState(current_node="__start__", step=0)
    assert state.execution_meta.status is ExecutionStatus.RUNNING
    assert AgentState().context is not state.context
    assert bool(state)


def test_a_subclass_adds_fields() -> None:
    state = Mine(context=[Message.text_message("x")], mood="odd", notes={"a": (1, 2)})
    state._scratch.append(1)
    again = Mine.model_validate(state.model_dump())
    assert again.model_dump() == state.model_dump()
    assert Mine.model_validate_json(state.model_dump_json()).context == state.context


def test_an_interrupt_is_set_and_cleared() -> None:
    state = AgentState()
    state.set_interrupt("approve", "needs a person", {"amount": 5})
    assert state.is_interrupted()
    meta = state.execution_meta
    assert (meta.status, meta.interrupted_node) == ("interrupted", "approve")
    assert (meta.interrupt_reason, meta.interrupt_data) == ("needs a person", {"amount": 5})
    assert AgentState.model_validate_json(state.model_dump_json()) == state
    state.clear_interrupt()
    assert not state.is_interrupted()
    assert state == AgentState()


def test_clearing_keeps_another_status() -> None:
    state = AgentState()
    state.complete()
    state.clear_interrupt()
    assert state.execution_meta.status is ExecutionStatus.COMPLETED


def test_steps_and_nodes() -> None:
    state = AgentState()
    assert [state.advance_step(), state.advance_step()] == [1, 2]
    state.set_current_node("tools")
    assert (state.execution_meta.step, state.execution_meta.current_node) == (2, "tools")


def test_ends() -> None:
    state = AgentState()
    state.set_interrupt("n", "r")
    state.error("no network")
    assert state.execution_meta.status == "error"
    assert state.execution_meta.internal_data == {"error": "no network"}
    assert state.execution_meta.interrupted_node is None
    state.complete()
    assert state.execution_meta.status == "completed"


def test_a_context_may_be_replaced() -> None:
    state = AgentState()
    state.context = [Message.text_message("x")]
    assert [message.text() for message in state.context] == ["x"]
