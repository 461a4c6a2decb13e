"""Messages are edited in place, by users between runs and by nodes within one: no edit is lost, and none is seen that
was not put. What the saver remembers of objects that it gave or was given must never show.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from threadline import BaseCheckpointer, InMemoryCheckpointer
from threadline.adapters.langgraph import StrictSerializer, ThreadlineSaver
from threadline.adapters.langgraph.copies import Copies, Pattern

#: How messages are changed in place; each tells whether it could.
Edit = Callable[[Any, int], None]


def message(number: int) -> Any:
    text = f"{number} says " * 20
    usage: Any = {"input_tokens": number, "output_tokens": 1, "total_tokens": number + 1}
    call: Any = {"name": "look", "args": {"where": ["here", {"deep": number}]}, "id": f"c{number}"}
    match number % 5:
        case 0:
            return HumanMessage(text, id=str(number), additional_kwargs={"a": {"b": [1, 0.0]}})
        case 1:
            return AIMessage(text, id=str(number), tool_calls=[call], usage_metadata=usage)
        case 2:
            return ToolMessage(text, tool_call_id=f"c{number}", artifact={"rows": [number]})
        case 3:
            return SystemMessage([{"type": "text", "text": text}], id=str(number))
    return AIMessage(text, id=str(number), response_metadata={"model": "m", "logprobs": None})


def content(m: Any, n: int) -> None:
    m.content = f"edited {n} " * 10


def by_dict(m: Any, n: int) -> None:
    m.__dict__["content"] = f"by dict {n}"


def name(m: Any, n: int) -> None:
    m.name = None if m.name else f"n{n}"


def kwargs(m: Any, n: int) -> None:
    m.additional_kwargs[f"k{n % 3}"] = n


def deep(m: Any, n: int) -> None:
    inner = m.additional_kwargs.get("a")
    if inner is None:
        m.additional_kwargs["a"] = {"b": [n]}
    else:
        inner["b"].append(n)


def kind(m: Any, n: int) -> None:
    """Equal, but not the same: 1 becomes True, 0.0 becomes -0.0."""
    changed = {1: True, 0: -0.0}
    inner = m.additional_kwargs.get("a", {"b": []})["b"]
    inner[:] = [changed.get(v, v) if type(v) in (int, float) else v for v in inner]


def rename_key(m: Any, n: int) -> None:
    for key in list(m.additional_kwargs):
        m.additional_kwargs[f"{key}x"] = m.additional_kwargs.pop(key)


def metadata(m: Any, n: int) -> None:
    m.response_metadata = {"model": f"m{n}", "logprobs": None}


def metadata_inside(m: Any, n: int) -> None:
    m.response_metadata.update(model=f"inside {n}")


def call_argument(m: Any, n: int) -> None:
    for call in getattr(m, "tool_calls", ()):
        call["args"].setdefault("where", ["here", {}])[1]["deep"] = n


def call_more(m: Any, n: int) -> None:
    if isinstance(m, AIMessage):
        m.tool_calls.append({"name": "more", "args": {}, "id": f"m{n}", "type": "tool_call"})


def usage(m: Any, n: int) -> None:
    if getattr(m, "usage_metadata", None):
        m.usage_metadata["input_tokens"] = n


def block(m: Any, n: int) -> None:
    if isinstance(m.content, list):
        m.content[0]["text"] = f"block {n}"


def artifact(m: Any, n: int) -> None:
    if isinstance(m, ToolMessage):
        m.artifact["rows"].append(n)


def extra(m: Any, n: int) -> None:
    m.remark = f"extra {n}"


def extra_inside(m: Any, n: int) -> None:
    m.__pydantic_extra__["remark"] = [n]


EDITS: list[Edit] = [
    *(content, by_dict, name, kwargs, deep, kind, rename_key, metadata, metadata_inside),
    *(call_argument, call_more, usage, block, artifact, extra, extra_inside),
]
#: One move: what is done, to which message, how, and a number.
MOVE = st.tuples(
    st.sampled_from(["edit", "edit", "put", "put", "get", "look", "drop", "swap"]),
    st.integers(0, 30),
    st.sampled_from(EDITS),
    st.integers(2, 9),
)


class Play:
    """A graph's list, put and read by one saver, compared with what another saver of the store reads."""

    def __init__(self, checkpointer: BaseCheckpointer) -> None:
        self.saver, self._checkpointer = ThreadlineSaver(checkpointer), checkpointer
        self.said: list[Any] = [message(number) for number in range(3)]
        self.number = 0
        self.stored = b""
        self.put()

    def move(self, what: str, at: int, edit: Edit, number: int) -> None:
        at %= len(self.said) or 1
        match what:
            case "edit" if self.said:
                edit(self.said[at], number)
            case "put":
                self.said = [*self.said, *map(message, range(number * 7, number * 7 + number % 3))]
                self.put()
            case "get":
                self.said = self.read(self.saver)
            case "look":  # Somebody else reads, and changes what belongs to that reader.
                for each in self.read(self.saver):
                    edit(each, number)
            case "drop":
                self.said = self.said[:at] + self.said[at + 1 :]
            case "swap" if self.said:
                self.said[at] = copy.deepcopy(self.said[at])

    def put(self) -> None:
        """As the next checkpoint, and see that it is what a reader who remembers nothing gets."""
        self.number += 1
        where: dict[str, Any] = {"thread_id": "t", "checkpoint_ns": ""}
        if self.number > 1:
            where["checkpoint_id"] = _id(self.number - 1)
        checkpoint: Any = {
            "v": 4,
            "id": _id(self.number),
            "ts": "2026-01-01T00:00:00+00:00",
            "channel_values": {"messages": list(self.said)},
            "channel_versions": {"messages": self.number},
            "versions_seen": {},
            "updated_channels": None,
        }
        about: Any = {"source": "loop", "step": self.number, "parents": {}}
        self.saver.put({"configurable": where}, checkpoint, about, {"messages": self.number})
        codec = StrictSerializer()
        self.stored = _bytes(codec.loads_typed(codec.dumps_typed(self.said)))
        self.read(ThreadlineSaver(self._checkpointer))

    def read(self, saver: ThreadlineSaver) -> list[Any]:
        found = saver.get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": ""}})
        assert found is not None
        messages: list[Any] = found.checkpoint["channel_values"]["messages"]
        assert _bytes(messages) == self.stored
        return messages


def _id(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012x}"


def _bytes(messages: list[Any]) -> bytes:
    """What tells messages apart, also where `==` does not."""
    return StrictSerializer().dumps_typed(messages)[1]


@settings(max_examples=60, deadline=None)
@given(moves=st.lists(MOVE, min_size=5, max_size=25))
def test_no_edit_in_place_is_lost_and_none_is_anybody_elses(moves: list[Any]) -> None:
    with InMemoryCheckpointer() as checkpointer:
        play = Play(checkpointer)
        for move in moves:
            play.move(*move)
        play.put()


@pytest.mark.parametrize("edit", EDITS)
def test_each_edit_of_a_read_message_is_stored(edit: Edit) -> None:
    with InMemoryCheckpointer() as checkpointer:
        _edited(Play(checkpointer), [edit])


def test_edits_are_stored_in_every_store(checkpointer: BaseCheckpointer) -> None:
    _edited(Play(checkpointer), EDITS)


def _edited(play: Play, edits: list[Edit]) -> None:
    for number in range(12, 16):
        for _ in range(3):  # Cold, known, copied.
            play.said = play.read(play.saver)
        for each in play.said:
            for edit in edits:
                edit(each, number)
        play.put()
        play.said.append(message(number))
        play.put()
        for each in play.said:
            edits[number % len(edits)](each, number + 1)
        play.put()


@pytest.mark.parametrize("number", range(5))
def test_a_copy_is_as_the_class_builds_it(number: int) -> None:
    codec = StrictSerializer()
    typed = codec.dumps_typed(message(number))
    built = codec.loads_typed(typed)
    pattern = Pattern.of(codec.loads_typed(typed))
    assert pattern is not None
    made = Copies().make(pattern)
    assert type(made) is type(built)
    for name in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        assert repr(object.__getattribute__(made, name)) == repr(getattr(built, name))
    assert made.__pydantic_fields_set__ == built.__pydantic_fields_set__
    assert made == built
    assert made.model_copy(deep=True) == built


def test_what_cannot_be_copied_exactly_has_no_pattern() -> None:
    class Mine(HumanMessage):
        pass

    shared: list[Any] = []
    aliased = HumanMessage("a", additional_kwargs={"a": shared, "b": shared})
    opaque = HumanMessage("a", additional_kwargs={"a": {1, 2}})
    assert [Pattern.of(each) for each in (Mine("a"), aliased, opaque, {"a": 1}, "text")] == [
        None
    ] * 5
