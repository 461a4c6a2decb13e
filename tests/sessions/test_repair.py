"""Message histories that a model accepts again: no call without its result, no result without its call."""

from __future__ import annotations

import random
from typing import Any

import pytest

from threadline import Message, ToolCallBlock, ToolResultBlock
from threadline.history.repair import find_orphans, repair_messages


def call(*ids: str, text: str = "") -> Message:
    blocks: list[Any] = [ToolCallBlock(id=each, name=f"tool_{each}", args={}) for each in ids]
    said = Message.text_message(text, role="assistant").content if text else []
    return Message(role="assistant", content=[*said, *blocks])


def result(*ids: str) -> Message:
    return Message.tool_message([ToolResultBlock(call_id=each, output="ok") for each in ids])


def user(text: str = "hello") -> Message:
    return Message.text_message(text)


def shape(messages: list[Message]) -> list[str]:
    """Each message as its role and the ids in it; an interrupted result has an exclamation mark."""
    out = []
    for message in messages:
        ids = [
            block.id if isinstance(block, ToolCallBlock) else block.call_id + "!" * block.is_error
            for block in message.content
            if isinstance(block, ToolCallBlock | ToolResultBlock)
        ]
        out.append(" ".join([message.role[0], *ids]))
    return out


CASES: dict[str, tuple[list[Message], list[str], list[str]]] = {
    "whole": ([user(), call("a"), result("a")], ["u", "a a", "t a"], ["u", "a a", "t a"]),
    "open at the end": ([user(), call("a")], ["u", "a a", "t a!"], ["u"]),
    "open in the middle": ([call("a"), user()], ["a a", "t a!", "u"], ["u"]),
    "one of two": (
        [call("a", "b"), result("a"), user()],
        ["a a b", "t a", "t b!", "u"],
        ["a a", "t a", "u"],
    ),
    "text beside an open call": (
        [call("a", text="wait"), user()],
        ["a a", "t a!", "u"],
        ["a", "u"],
    ),
    "a result without a call": ([result("a"), user()], ["u"], ["u"]),
    "a result too late": ([call("a"), user(), result("a")], ["a a", "t a!", "u"], ["u"]),
    "two calls in a row": (
        [call("a"), call("b"), result("b")],
        ["a a", "t a!", "a b", "t b"],
        ["a b", "t b"],
    ),
    "one of two results": ([call("a"), result("a", "b")], ["a a", "t a"], ["a a", "t a"]),
    "an id used twice": (
        [call("a"), result("a"), call("a"), result("a")],
        ["a a", "t a", "a a", "t a"],
        ["a a", "t a", "a a", "t a"],
    ),
    "results in any order": (
        [call("a", "b"), result("b"), result("a")],
        ["a a b", "t b", "t a"],
        ["a a b", "t b", "t a"],
    ),
    "nothing": ([], [], []),
}


@pytest.mark.parametrize("name", CASES)
def test_a_history_is_mended(name: str) -> None:
    messages, closed, dropped = CASES[name]
    before = [message.model_copy(deep=True) for message in messages]
    assert shape(repair_messages(messages, "close")) == closed
    assert shape(repair_messages(messages, "drop")) == dropped
    assert messages == before
    assert bool(find_orphans(messages)) == (closed != shape(messages) or dropped != shape(messages))


def test_calls_that_were_given_as_openai_writes_them() -> None:
    given = Message(
        role="assistant",
        tools_calls=[{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    )
    assert find_orphans([given]).calls == [(given.message_id, "a", "f")]
    assert shape(repair_messages([given], "close")) == ["a", "t a!"]
    assert repair_messages([given], "drop") == []


def test_a_mended_history_has_no_orphans_and_keeps_the_rest() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        ids = "abcd"
        messages = []
        for _ in range(dice.randrange(9)):
            some = dice.sample(ids, dice.randrange(1, 3))
            messages.append(
                dice.choice([user(), call(*some), call(*some, text="x"), result(*some)])
            )
        for way in ("close", "drop"):
            mended = repair_messages(messages, way)  # type: ignore[arg-type]
            assert not find_orphans(mended)
            assert repair_messages(mended, way) == mended  # type: ignore[arg-type]
            untouched = [m for m in messages if m.role == "user"]
            assert [m for m in mended if m.role == "user"] == untouched


def test_another_way_is_refused() -> None:
    with pytest.raises(ValueError, match="close"):
        repair_messages([], "ignore")  # type: ignore[arg-type]
