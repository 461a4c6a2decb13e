"""What a LangGraph saver must do beyond what the conformance suite asks: one function a law.

The laws are run on every checkpointer; on LangGraph's own saver, to see that they are no inventions; and on six broken
savers, each of which passes the conformance suite and must break a law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from threadline import BaseCheckpointer, InMemoryCheckpointer
from threadline.adapters.langgraph import ThreadlineSaver

Saver = BaseCheckpointSaver[Any]
Law = Callable[[Saver], None]

LAWS: list[Law] = []


def law(function: Law) -> Law:
    """Register a law."""
    LAWS.append(function)
    return function


def id_of(number: int) -> str:
    """Ids in the order of their numbers, in the form that LangGraph gives them."""
    return f"1f000000-0000-6000-8000-{number:012x}"


def put(
    saver: Saver,
    number: int,
    values: dict[str, Any],
    *,
    thread: str = "t",
    ns: str = "",
    parent: int | None = None,
    versions: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Put a checkpoint whose channels have `values`; by default each of them is new, at this number's version."""
    versions = versions or dict.fromkeys(values, number)
    where = {"thread_id": thread, "checkpoint_ns": ns}
    if parent is not None:
        where["checkpoint_id"] = id_of(parent)
    given = config or {}
    where |= given.get("configurable", {})
    checkpoint = {
        "v": 4,
        "id": id_of(number),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {"node": dict(versions)},
        "updated_channels": sorted(values),
    }
    about = {"source": "loop", "step": number, "parents": {}, **(metadata or {})}
    return saver.put(
        {**given, "configurable": where}, checkpoint, about, versions if new is None else new
    )


def at(number: int | None = None, *, thread: str = "t", ns: str = "") -> dict[str, Any]:
    """The config of a checkpoint, or of the latest."""
    where = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": where if number is None else {**where, "checkpoint_id": id_of(number)}}


def get(saver: Saver, number: int | None = None, **where: str) -> CheckpointTuple:
    """A checkpoint that is there."""
    found = saver.get_tuple(at(number, **where))
    assert found is not None
    return found


def values(saver: Saver, number: int | None = None) -> dict[str, Any]:
    """Its channels."""
    return get(saver, number).checkpoint["channel_values"]


def writes(saver: Saver, number: int | None = None) -> list[tuple[str, str, Any]]:
    """Its pending writes."""
    return [tuple(each) for each in get(saver, number).pending_writes or []]


# Writes ---------------------------------------------------------------------------------------------------


@law
def writes_come_in_the_order_in_which_a_step_applies_them(saver: Saver) -> None:
    put(saver, 1, {})
    saver.put_writes(at(1), [("a", 1)], "task-1", "~b")
    saver.put_writes(at(1), [("a", 2), ("b", 3)], "task-3", "~a")
    saver.put_writes(at(1), [("a", 4)], "task-2", "~a")
    saver.put_writes(at(1), [("a", 5)], "task-9")
    assert writes(saver) == [
        ("task-9", "a", 5),
        ("task-2", "a", 4),
        ("task-3", "a", 2),
        ("task-3", "b", 3),
        ("task-1", "a", 1),
    ]
    (listed,) = saver.list(at())
    assert [tuple(each) for each in listed.pending_writes or []] == writes(saver)


@law
def a_task_may_write_a_channel_twice(saver: Saver) -> None:
    put(saver, 1, {})
    saver.put_writes(at(1), [("a", 1), ("a", 1), ("b", 2), ("a", 3)], "task")
    assert writes(saver) == [("task", c, v) for c, v in [("a", 1), ("a", 1), ("b", 2), ("a", 3)]]


@law
def the_first_regular_write_wins(saver: Saver) -> None:
    put(saver, 1, {})
    saver.put_writes(at(1), [("a", 1)], "task", "~p")
    saver.put_writes(at(1), [("a", 2), ("b", 3)], "task", "~p")
    assert writes(saver) == [("task", "a", 1), ("task", "b", 3)]


@law
def the_last_special_write_wins(saver: Saver) -> None:
    put(saver, 1, {})
    for channel in WRITES_IDX_MAP:
        saver.put_writes(at(1), [(channel, "first")], "task")
        saver.put_writes(at(1), [(channel, "last")], "task")
    assert sorted(writes(saver)) == sorted(("task", channel, "last") for channel in WRITES_IDX_MAP)


@law
def in_a_mixed_call_each_write_follows_its_own_rule(saver: Saver) -> None:
    put(saver, 1, {})
    saver.put_writes(at(1), [("a", 1), (INTERRUPT, "first"), ("b", 2)], "task")
    saver.put_writes(at(1), [("a", 9), (INTERRUPT, "last"), ("b", 9), (ERROR, "e")], "task")
    assert writes(saver) == [
        ("task", INTERRUPT, "last"),
        ("task", ERROR, "e"),
        ("task", "a", 1),
        ("task", "b", 2),
    ]


@law
def writes_may_come_before_their_checkpoint(saver: Saver) -> None:
    saver.put_writes(at(1), [("a", [HumanMessage("hello", id="m1")])], "task")
    put(saver, 1, {"a": []})
    assert writes(saver) == [("task", "a", [HumanMessage("hello", id="m1")])]


@law
def writes_stay_when_their_items_are_stored_and_edited(saver: Saver) -> None:
    long = HumanMessage("x" * 500, id="m1")
    put(saver, 1, {"__start__": {"messages": [long]}})
    saver.put_writes(at(1), [("messages", [long]), ("branch:to:a", None)], "input", "~p, start")
    put(saver, 2, {"messages": [long]}, parent=1)
    answer = AIMessage("y" * 500, id="m2")
    saver.put_writes(at(2), [("messages", answer)], "task", "~p, a")
    put(saver, 3, {"messages": [long, answer]}, parent=2)
    put(saver, 4, {"messages": [AIMessage("z" * 300, id="m3")]}, parent=3)
    assert values(saver, 1) == {"__start__": {"messages": [long]}}
    assert writes(saver, 1) == [("input", "messages", [long]), ("input", "branch:to:a", None)]
    assert writes(saver, 2) == [("task", "messages", answer)]
    assert [each.checkpoint["id"] for each in saver.list(at())] == [id_of(n) for n in (4, 3, 2, 1)]
    assert [len(each.pending_writes or []) for each in saver.list(at())] == [0, 0, 1, 2]


@law
def writes_belong_to_one_checkpoint(saver: Saver) -> None:
    put(saver, 1, {})
    put(saver, 2, {}, parent=1)
    put(saver, 1, {}, ns="inner")
    saver.put_writes(at(1), [("a", 1)], "task")
    saver.put_writes(at(1, ns="inner"), [("a", 2)], "task")
    assert writes(saver, 1) == [("task", "a", 1)]
    assert writes(saver, 2) == []
    assert [w[2] for w in get(saver, 1, ns="inner").pending_writes or []] == [2]


# Checkpoints ----------------------------------------------------------------------------------------------


@law
def configurable_and_config_metadata_are_merged(saver: Saver) -> None:
    given = {
        "metadata": {"team": "north", "step": "not this"},
        "configurable": {"user_id": "alice", "depth": 3, "__hidden": "x", "tool": object()},
    }
    put(saver, 1, {}, config=given, metadata={"extra": "kept", "nul": "a\0b"})
    put(saver, 2, {}, parent=1)
    about = get(saver, 1).metadata
    assert about == {
        "source": "loop",
        "step": 1,
        "parents": {},
        "extra": "kept",
        "nul": "ab",
        "team": "north",
        "user_id": "alice",
        "depth": 3,
    }
    for wanted in ({"user_id": "alice"}, {"team": "north", "depth": 3}, {"nul": "ab"}):
        assert [c.checkpoint["id"] for c in saver.list(at(), filter=wanted)] == [id_of(1)]
    assert list(saver.list(at(), filter={"user_id": "bob"})) == []


@law
def any_key_can_be_filtered_by(saver: Saver) -> None:
    keys = ["a.b", "$.a", "it's", 'say "x"', "%", "a b", "ключ", "a;--", "{}"]
    put(saver, 1, {}, metadata={key: number for number, key in enumerate(keys)})
    put(saver, 2, {}, parent=1, metadata={"a": {"b": 0}})
    for number, key in enumerate(keys):
        assert [c.checkpoint["id"] for c in saver.list(at(), filter={key: number})] == [id_of(1)]
        assert list(saver.list(at(), filter={key: "other"})) == []


@law
def a_version_is_not_a_name_of_a_value(saver: Saver) -> None:
    put(saver, 1, {"a": "base"}, versions={"a": "1"})
    put(saver, 2, {"a": "left"}, parent=1, versions={"a": "2"})
    put(saver, 3, {"a": "right"}, parent=1, versions={"a": "2"})
    assert [values(saver, n)["a"] for n in (1, 2, 3)] == ["base", "left", "right"]


@law
def none_is_a_value(saver: Saver) -> None:
    put(saver, 1, {"a": None, "b": 1})
    saver.put_writes(at(1), [("a", None)], "task")
    assert values(saver) == {"a": None, "b": 1}
    assert writes(saver) == [("task", "a", None)]


@law
def values_come_back_with_their_types(saver: Saver) -> None:
    given: dict[str, Any] = {
        "bytes": b"\x00\xff",
        "flags": [True, 1, 1.0],
        "deep": {"a": [{"b": [1, [2, [3]]]}]},
        "keys": {1: "int", "1": "str"},
        "text": "nul \0 and \U0001f600",
        "empty": [],
        "nothing": {},
        "big": "x" * 100_000,
        "set": {1, 2},
        "messages": [HumanMessage("h", id="1"), AIMessage("a", id="2", tool_calls=[])],
    }
    put(saver, 1, given)
    found = values(saver)
    assert found == given
    assert [type(each) for each in found["flags"]] == [bool, int, float]


@law
def a_list_may_change_anywhere(saver: Saver) -> None:
    def of(*names: str) -> list[HumanMessage]:
        return [HumanMessage(f"{name} " * 50, id=name) for name in names]

    steps = [
        of("a"),
        of("a", "b", "c"),
        of("a", "X", "c"),
        of("c"),
        [],
        of("d", "c", "b", "a"),
        of("d", "d", "d"),
        of(*"abcdefghij"),
        of(*"jihgfedcba"),
        of(*"abcde"),
    ]
    for number, items in enumerate(steps, 1):
        put(saver, number, {"messages": items}, parent=number - 1 if number > 1 else None)
    for number, items in enumerate(steps, 1):
        assert values(saver, number) == {"messages": items}
    listed = {each.checkpoint["id"]: each for each in saver.list(at())}
    for number, items in enumerate(steps, 1):
        assert listed[id_of(number)].checkpoint["channel_values"] == {"messages": items}


@law
def an_edit_in_place_is_stored(saver: Saver) -> None:
    messages = [HumanMessage(f"{n} " * 100, id=str(n)) for n in range(5)]
    put(saver, 1, {"messages": messages})
    messages[2].content = "edited"
    messages.append(HumanMessage("more", id="5"))
    put(saver, 2, {"messages": messages}, parent=1)
    assert values(saver, 1)["messages"][2].content == "2 " * 100
    assert values(saver, 2)["messages"][2].content == "edited"
    assert len(values(saver, 2)["messages"]) == 6


@law
def what_is_loaded_is_nobody_elses(saver: Saver) -> None:
    put(saver, 1, {"messages": [HumanMessage("first", id="1")], "data": {"a": [1]}})
    loaded = values(saver)
    loaded["messages"][0].content = "changed"
    loaded["data"]["a"].append(2)
    assert values(saver)["messages"][0].content == "first"
    assert values(saver)["data"] == {"a": [1]}


@law
def a_channel_that_did_not_change_keeps_its_value(saver: Saver) -> None:
    put(saver, 1, {"a": "x" * 1000, "b": 1})
    put(saver, 2, {"a": "x" * 1000, "b": 2}, parent=1, versions={"a": 1, "b": 2}, new={"b": 2})
    put(saver, 3, {"b": 3}, parent=2, versions={"a": 3, "b": 3})
    assert values(saver, 2) == {"a": "x" * 1000, "b": 2}
    assert values(saver, 3) == {"b": 3}


@law
def versions_may_be_numbers_or_texts(saver: Saver) -> None:
    for number, version in enumerate((1, 1.5, "00000000000000000000000000000001.0.5"), 1):
        put(saver, number, {"a": number}, versions={"a": version})
        found = get(saver, number).checkpoint
        assert found["channel_versions"] == {"a": version}
        assert found["versions_seen"] == {"node": {"a": version}}
        assert type(found["channel_versions"]["a"]) is type(version)


@law
def the_latest_is_the_greatest_id(saver: Saver) -> None:
    for number in (5, 2, 9, 7):
        put(saver, number, {"n": number})
        latest = max(n for n in (5, 2, 9, 7)[: (5, 2, 9, 7).index(number) + 1])
        assert values(saver) == {"n": latest}
    assert [c.checkpoint["id"] for c in saver.list(at())] == [id_of(n) for n in (9, 7, 5, 2)]
    assert [c.checkpoint["id"] for c in saver.list(at(), limit=2)] == [id_of(n) for n in (9, 7)]


@law
def before_is_strictly_smaller_also_than_an_id_that_is_not_there(saver: Saver) -> None:
    for number in (2, 4, 6):
        put(saver, number, {})
    for edge, wanted in ((7, [6, 4, 2]), (6, [4, 2]), (5, [4, 2]), (2, []), (1, [])):
        found = saver.list(at(), before=at(edge))
        assert [c.checkpoint["id"] for c in found] == [id_of(n) for n in wanted]
    found = saver.list(at(), before=at(6), limit=1, filter={"source": "loop"})
    assert [c.checkpoint["id"] for c in found] == [id_of(4)]


@law
def a_list_of_one_id_is_that_one(saver: Saver) -> None:
    for number in (1, 2, 3):
        put(saver, number, {"n": number})
    assert [c.checkpoint["channel_values"] for c in saver.list(at(2))] == [{"n": 2}]


@law
def putting_an_id_again_replaces_it(saver: Saver) -> None:
    put(saver, 1, {"a": 1})
    put(saver, 2, {"a": 2, "m": [HumanMessage("x" * 200, id="1")]}, parent=1)
    saver.put_writes(at(2), [("a", 1)], "task")
    put(saver, 2, {"a": 22}, parent=1, metadata={"again": True})
    put(saver, 1, {"a": 11})
    put(saver, 1, {"a": 111})
    assert values(saver) == values(saver, 2) == {"a": 22}
    assert values(saver, 1) == {"a": 111}
    assert get(saver, 2).metadata["again"] is True  # type: ignore[typeddict-item]
    assert writes(saver, 2) == [("task", "a", 1)]
    put(saver, 3, {"a": 3}, parent=2)
    assert [c.checkpoint["channel_values"] for c in saver.list(at())] == [
        {"a": n} for n in (3, 22, 111)
    ]


@law
def a_parent_may_be_any_checkpoint(saver: Saver) -> None:
    put(saver, 1, {"m": [HumanMessage("a" * 100, id="a")]})
    put(saver, 2, {"m": [HumanMessage(c * 100, id=c) for c in "ab"]}, parent=1)
    put(saver, 3, {"m": [HumanMessage(c * 100, id=c) for c in "ac"]}, parent=1)
    put(saver, 4, {"m": [HumanMessage(c * 100, id=c) for c in "abd"]}, parent=2)
    parents = {c.checkpoint["id"]: c.parent_config for c in saver.list(at())}
    assert parents == {id_of(1): None, id_of(2): at(1), id_of(3): at(1), id_of(4): at(2)}
    assert [m.id for m in values(saver, 3)["m"]] == ["a", "c"]
    assert [m.id for m in values(saver, 4)["m"]] == ["a", "b", "d"]


@law
def every_key_of_a_checkpoint_comes_back(saver: Saver) -> None:
    put(saver, 1, {"a": 1})
    found = get(saver).checkpoint
    assert found["ts"] == "2026-01-01T00:00:00+00:00"
    assert found["v"] == 4
    assert found["updated_channels"] == ["a"]
    assert get(saver).config == at(1)


@law
def namespaces_are_apart(saver: Saver) -> None:
    put(saver, 1, {"n": "root"})
    put(saver, 2, {"n": "inner"}, ns="node:1|inner:2")
    assert get(saver).checkpoint["id"] == id_of(1)
    assert get(saver, ns="node:1|inner:2").checkpoint["id"] == id_of(2)
    assert saver.get_tuple(at(2)) is None
    assert [c.checkpoint["id"] for c in saver.list(at())] == [id_of(1)]
    everything = list(saver.list({"configurable": {"thread_id": "t"}}))
    assert {c.checkpoint["id"] for c in everything} == {id_of(1), id_of(2)}


@law
def a_list_of_no_config_is_every_thread(saver: Saver) -> None:
    for number, thread in enumerate("abc", 1):
        put(saver, number, {"n": number}, thread=thread)
    found = {c.config["configurable"]["thread_id"] for c in saver.list(None)}
    assert found == {"a", "b", "c"}
    (one,) = saver.list(None, filter={"step": 2})
    assert one.config == at(2, thread="b")


@law
def a_get_inside_a_list_does_not_block(saver: Saver) -> None:
    for number in range(1, 40):
        put(saver, number, {"n": number}, parent=number - 1 if number > 1 else None)
    seen = 0
    for found in saver.list(at()):
        again = saver.get_tuple(found.config)
        assert again is not None
        assert again.checkpoint == found.checkpoint
        saver.put_writes(found.config, [("a", 1)], f"task-{seen}")
        seen += 1
    assert seen == 39


@law
def a_deleted_thread_is_gone(saver: Saver) -> None:
    put(saver, 1, {"n": 1})
    put(saver, 1, {"n": 1}, ns="inner")
    put(saver, 1, {"n": 1}, thread="other")
    saver.put_writes(at(1), [("a", 1)], "task")
    saver.delete_thread("t")
    assert saver.get_tuple(at()) is None
    assert list(saver.list({"configurable": {"thread_id": "t"}})) == []
    assert get(saver, thread="other").checkpoint["channel_values"] == {"n": 1}
    put(saver, 1, {"n": 2})
    assert values(saver) == {"n": 2}
    assert writes(saver) == []


@law
def delta_channels_are_rebuilt_from_the_nearest_value(saver: Saver) -> None:
    put(saver, 1, {"d": ["seed"]}, versions={"d": 1, "e": 1})
    saver.put_writes(at(1), [("d", ["1"]), ("e", ["1"])], "task")
    put(saver, 2, {}, parent=1, versions={"d": 2, "e": 2})
    saver.put_writes(at(2), [("e", ["x"])], "task-2", "~b")
    saver.put_writes(at(2), [("d", ["2"]), ("e", ["2"])], "task-1", "~a")
    put(saver, 3, {}, parent=1, versions={"d": 3, "e": 3})
    put(saver, 4, {}, parent=2, versions={"d": 3, "e": 3})
    saver.put_writes(at(4), [("d", ["not this"])], "task")
    found = saver.get_delta_channel_history(config=at(4), channels=["d", "e", "f"])
    assert found["d"].get("seed") == ["seed"]
    assert [w[2] for w in found["d"]["writes"]] == [["1"], ["2"]]
    assert "seed" not in found["e"]
    assert [w[2] for w in found["e"]["writes"]] == [["1"], ["2"], ["x"]]
    assert found["f"] == {"writes": []}
    assert saver.get_delta_channel_history(config=at(4), channels=[]) == {}


@law
def a_resume_after_an_interrupt_is_the_last_one(saver: Saver) -> None:
    put(saver, 1, {})
    saver.put_writes(at(1), [(INTERRUPT, ["ask"])], "task", "~p")
    saver.put_writes(at(1), [(RESUME, ["yes"])], "task", "~p")
    saver.put_writes(at(1), [(RESUME, ["yes", "no"])], "task", "~p")
    saver.put_writes(at(1), [("a", 1)], "task", "~p")
    assert writes(saver) == [
        ("task", RESUME, ["yes", "no"]),
        ("task", INTERRUPT, ["ask"]),
        ("task", "a", 1),
    ]


@law
def a_saver_survives_a_shallow_copy(saver: Saver) -> None:
    copied = saver.with_allowlist([("a.module", "Type")])
    put(saver, 1, {"messages": [HumanMessage("a" * 100, id="1")]})
    put(
        copied, 2, {"messages": [HumanMessage("a" * 100, id="1"), AIMessage("b", id="2")]}, parent=1
    )
    put(saver, 3, {"messages": []}, parent=2)
    assert [len(values(copied, n)["messages"]) for n in (1, 2, 3)] == [1, 2, 0]


# Run on ----------------------------------------------------------------------------------------------------

by_name = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)


@by_name
def test_law(law: Law, checkpointer: BaseCheckpointer) -> None:
    law(ThreadlineSaver(checkpointer))


# InMemorySaver keeps one value for each version of a channel.
@pytest.mark.parametrize(
    "law", [law for law in LAWS if law is not a_version_is_not_a_name_of_a_value]
)
def test_the_laws_are_langgraphs_own(law: Law) -> None:
    law(InMemorySaver())


class WritesReversed(ThreadlineSaver):
    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        return found and found._replace(pending_writes=(found.pending_writes or [])[::-1])


class SecondWriteOfAChannelDropped(ThreadlineSaver):
    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await super().aput_writes(config, list(dict(writes).items()), task_id, task_path)


class SpecialWritesIgnoredWhenThere(ThreadlineSaver):
    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        found = await self.aget_tuple(config)
        there = {(t, c) for t, c, _ in (found.pending_writes if found else None) or []}
        new = [w for w in writes if w[0] not in WRITES_IDX_MAP or (task_id, w[0]) not in there]
        await super().aput_writes(config, new, task_id, task_path)


class ConfigurableNotMerged(ThreadlineSaver):
    async def aput(self, config: Any, *parts: Any) -> Any:
        kept = {"thread_id", "checkpoint_ns", "checkpoint_id"}
        where = {k: v for k, v in config["configurable"].items() if k in kept}
        return await super().aput({"configurable": where}, *parts)


class ValuesKeyedByVersion(ThreadlineSaver):
    def __init__(self, checkpointer: BaseCheckpointer) -> None:
        super().__init__(checkpointer)
        self.values: dict[Any, Any] = {}

    async def aput(
        self, config: Any, checkpoint: Any, metadata: Any, new_versions: Mapping[str, Any]
    ) -> Any:
        thread = config["configurable"]["thread_id"]
        values = {
            channel: self.values.setdefault((thread, channel, new_versions.get(channel)), value)
            for channel, value in checkpoint["channel_values"].items()
        }
        return await super().aput(
            config, {**checkpoint, "channel_values": values}, metadata, new_versions
        )


class NoneDropped(ThreadlineSaver):
    async def aput(self, config: Any, checkpoint: Any, *parts: Any) -> Any:
        values = {k: v for k, v in checkpoint["channel_values"].items() if v is not None}
        return await super().aput(config, {**checkpoint, "channel_values": values}, *parts)


MUTANTS: list[Callable[[BaseCheckpointer], ThreadlineSaver]] = [
    WritesReversed,
    SecondWriteOfAChannelDropped,
    SpecialWritesIgnoredWhenThere,
    ConfigurableNotMerged,
    ValuesKeyedByVersion,
    NoneDropped,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_saver_breaks_a_law(mutant: Callable[[BaseCheckpointer], ThreadlineSaver]) -> None:
    broken = []
    for law in LAWS:
        with InMemoryCheckpointer() as checkpointer:
            try:
                law(mutant(checkpointer))
            except (AssertionError, TypeError, KeyError):
                broken.append(law.__name__)
    assert broken
