"""An edit in place of any message, at any depth, is never missed: what is read is what was put."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from threadline import AgentState, InMemoryCheckpointer, Message
from threadline.checkpointer import BaseCheckpointer
from threadline.model import TextBlock, ToolCallBlock, ToolResultBlock
from threadline.testing.strategies import Memo, faithful, small_values

T = {"thread_id": "t", "state_class": Memo}


def conversation(count: int) -> list[Message]:
    """Messages of every build, with values at depth."""
    return [
        Message(
            message_id=f"m{number}",
            role="assistant",
            content=[
                TextBlock(text=f"text {number}"),
                ToolCallBlock(args={"n": 1, "deep": {"list": [1, [0.0, {"x": True}]], "one": 1}}),
                ToolResultBlock(output={"rows": [[number, 1], {"a": None}], "t": (1, [2])}),
            ],
            metadata={"node": {"path": ["a", {"b": [1, 2.0, False]}]}},
        )
        for number in range(count)
    ]


def holders(value: Any) -> list[Any]:
    """Every list, dict and model inside a value that can be changed in place."""
    if isinstance(value, BaseModel):
        return [value, *(each for item in value.__dict__.values() for each in holders(item))]
    if isinstance(value, dict):
        return [value, *(each for item in value.values() for each in holders(item))]
    if isinstance(value, list | tuple):
        inner = [each for item in value for each in holders(item)]
        return inner if isinstance(value, tuple) else [value, *inner]
    return []


def plain_holders(message: Message) -> list[Any]:
    """The lists and dicts in which any value may stand."""
    calls, results = message.content[1], message.content[2]
    assert isinstance(calls, ToolCallBlock)
    assert isinstance(results, ToolResultBlock)
    return [*holders(message.metadata), *holders(calls.args), *holders(results.output)]


def twin(value: Any) -> Any:
    """An equal value of another type, or another value."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return bool(value) if value in (0, 1) else float(value)
    if isinstance(value, float):
        return -value if value == 0 else int(value)
    return tuple(value) if isinstance(value, list) else [value]


def edit(message: Message, kind: str, number: int, value: Any) -> None:
    """Change one thing in a message, in place."""
    value = copy.deepcopy(value)
    found = plain_holders(message)
    place = found[number % len(found)]
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    if kind == "text":
        block = message.content[0]
        assert isinstance(block, TextBlock)
        block.text += "."
    elif kind == "role":
        message.role = "user" if message.role == "assistant" else "assistant"
    elif kind == "block":
        message.content.append(TextBlock(text=str(number)))
    elif kind == "raw":
        message.__dict__["raw"] = {"v": value}
    elif kind == "add" or not keys:
        if isinstance(place, dict):
            place[f"k{number}"] = value
        else:
            place.append(value)
    elif kind == "twin":
        key = keys[number % len(keys)]
        place[key] = twin(place[key])
    elif kind == "set":
        place[keys[number % len(keys)]] = value
    elif kind == "drop":
        del place[keys[number % len(keys)]]
    elif kind == "order" and isinstance(place, dict):
        place[keys[0]] = place.pop(keys[0])
    elif kind == "order":
        place.reverse()


KINDS = ["text", "role", "block", "raw", "add", "twin", "twin", "set", "drop", "order"]
edits = st.lists(
    st.tuples(st.integers(0, 99), st.sampled_from(KINDS), st.integers(0, 60), small_values),
    min_size=1,
    max_size=3,
)


def read_anew(checkpointer: BaseCheckpointer, **where: Any) -> Any:
    """The state as a checkpointer on the same store reads it that has seen nothing."""
    return BaseCheckpointer(checkpointer._engine.backend, None).get_state({**T, **where})


Hand = Literal["put", "loaded", "copied"]


@given(
    count=st.sampled_from([1, 3, 40, 70]),
    hand=st.sampled_from(["put", "loaded", "copied"]),
    rounds=st.lists(edits, min_size=1, max_size=4),
    tail=st.integers(0, 2),
)
@settings(max_examples=80, deadline=None)
def test_no_edit_is_missed(
    count: int, hand: Hand, rounds: list[list[tuple[int, str, int, Any]]], tail: int
) -> None:
    checkpointer = InMemoryCheckpointer()
    state = Memo(context=conversation(count), extra={"deep": [1]})
    checkpointer.put_state(T, state)
    history = [faithful(state)]
    for round_ in rounds:
        if hand == "loaded":
            state = checkpointer.get_state(T)
        elif hand == "copied":
            state = copy.deepcopy(state)
        for which, kind, number, value in round_:
            edit(state.context[which % len(state.context)], kind, number, value)
        state.context += conversation(tail)
        checkpointer.put_state(T, state)
        history.append(faithful(state))
        assert faithful(read_anew(checkpointer)) == history[-1]
        assert faithful(checkpointer.get_state(T)) == history[-1]
    for version, wanted in enumerate(history, 1):
        assert faithful(read_anew(checkpointer, version=version)) == wanted


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
@pytest.mark.parametrize("hand", ["put", "loaded"])
def test_every_kind_of_edit_at_every_depth(kind: str, hand: str) -> None:
    checkpointer = InMemoryCheckpointer()
    state = Memo(context=conversation(5))
    checkpointer.put_state(T, state)
    checkpointer.put_state(T, state)
    for number in range(15):
        if hand == "loaded":
            state = checkpointer.get_state(T)
        edit(state.context[number % 5], kind, number, number)
        checkpointer.put_state(T, state)
        assert faithful(read_anew(checkpointer)) == faithful(state)


def test_an_edit_between_a_put_and_its_repetition_is_not_missed() -> None:
    checkpointer, op_id = InMemoryCheckpointer(), "5" * 32
    state = Memo(context=conversation(3))
    checkpointer.put_state(T, state)
    checkpointer.put_state(T, state, op_id=op_id)
    edit(state.context[1], "text", 0, None)
    assert checkpointer.put_state(T, state, op_id=op_id).version == 2
    assert faithful(read_anew(checkpointer)) != faithful(state)
    assert checkpointer.put_state(T, state).version == 3
    assert faithful(read_anew(checkpointer)) == faithful(state)


@given(rounds=edits)
@settings(max_examples=50, deadline=None)
def test_what_was_loaded_shares_nothing_with_the_store(
    rounds: list[tuple[int, str, int, Any]],
) -> None:
    checkpointer = InMemoryCheckpointer()
    state = AgentState(context=conversation(3))
    config = {"thread_id": "t"}
    checkpointer.put_state(config, state)
    wanted = faithful(state)
    for held in (state, checkpointer.get_state(config)):
        for which, kind, number, value in rounds:
            edit(held.context[which % 3], kind, number, value)
        assert faithful(checkpointer.get_state(config)) == wanted
