"""What must be true of values: any comes back equal, types too, or is refused before anything is written (P9)."""

from __future__ import annotations

import asyncio
import enum
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from threadline.errors import LimitError, NotStorableError
from threadline.model import AgentState, Message, ThreadInfo
from threadline.testing.faces import Board, Face, FaceTests, Ledger, at, changes_nothing, said, same


class Colour(enum.Enum):
    """A value that bytes could only name by its class."""

    RED = 1


class Number(enum.IntEnum):
    """A value that would come back as a plain int."""

    ONE = 1


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "none and bools": [None, True, False],
    "one three times": [1, 1.0, True, "1", 0, 0.0, -0.0, False, ""],
    "large ints": [2**53 + 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 2**70, -(2**70), 10**400],
    "floats": [math.nan, math.inf, -math.inf, 5e-324, 1e308, 0.1 + 0.2, 1e16, -0.0],
    "texts": [
        "",
        "\x00",
        "a\x00b",
        "\ud800",
        "\udfff\ud800",
        "e\u0301",
        "é",
        "\u2028",
        "\x7f",
        "🎉",
    ],
    "quotes": ["\"'`\\", "\r\n\t", "{}[]", "$", "%s %(x)s {0}", "'; DROP TABLE t; --"],
    "bytes": [b"", b"\x00\xff", bytes(range(256))],
    "datetimes": [
        datetime(2024, 2, 29, 1, 2, 3, 456789, UTC),
        datetime(2024, 2, 29, 1, 2, 3),  # noqa: DTZ001 - a naive one comes back naive
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        datetime.min,  # noqa: DTZ901 - the same
        date(1, 1, 1),
        time(23, 59, 59, 999999),
        timedelta(days=-1, microseconds=1),
    ],
    "others": [UUID(int=7), Decimal("1.10"), Decimal("-0"), complex(-0.0, math.inf)],
    "tuples": [(), (1,), (1, (2, [3, (4,)])), [(1, 2), [1, 2]]],
    "sets": [set(), {1, "a"}, frozenset({(1, 2), None}), {1.5}, {True}],
    "keys": {1: "int", "1": "text", 2.5: "float", None: "none", (1, 2): "tuple", b"k": "bytes"},
    "true key": {True: "true", 0: "zero"},
    "odd keys": {"": 1, "\x00": 2, "\ud800": 3, "a.b": 4, "$": 5, "日本": 6, "__class__": 7},
    "order": {"b": 1, "a": 2, "c": {"z": 1, "y": 2}},
    "like our markers": [
        {"$tuple": [1]},
        {"$dict": [["a", 1]]},
        {"$bytes": "AA=="},
        {"$int": "7"},
        {"$unknown": 1},
        {"$tuple": [1], "more": 2},
        {"$": 1},
        {"$dict": {"$dict": [["$tuple", []]]}},
        {"$str": {"$tuple": ({"$set": [1]},)}},
    ],
    "like classes": [
        {"py/object": "os.system"},
        {"__reduce__": ["os.system", "x"]},
        {"type": "text"},
    ],
    "deep": _deep(90),
    "wide": list(range(5000)),
}
#: What cannot come back equal, with the error.
REFUSED: dict[str, tuple[Any, type[Exception]]] = {
    "object": (object(), NotStorableError),
    "class": (int, NotStorableError),
    "function": (len, NotStorableError),
    "enum": (Colour.RED, NotStorableError),
    "int enum": (Number.ONE, NotStorableError),
    "generator": ((n for n in range(3)), NotStorableError),
    "exception": (ValueError("x"), NotStorableError),
    "str subclass": (type("Text", (str,), {})("x"), NotStorableError),
    "dict subclass": (type("Dict", (dict,), {})(), NotStorableError),
    "model": (Ledger(), NotStorableError),
    "dataclass": (Board(), NotStorableError),
    "too deep": (_deep(150), LimitError),
    "far too deep": (_deep(5000), LimitError),
    "key": ({"a": {Colour.RED: 1}}, NotStorableError),
    "nested": ([1, {"a": (object(),)}], NotStorableError),
}
each_value = pytest.mark.parametrize("value", [pytest.param(v, id=n) for n, v in VALUES.items()])
each_refused = pytest.mark.parametrize(
    ("value", "error"), [pytest.param(*pair, id=name) for name, pair in REFUSED.items()]
)


class ValuesContract(FaceTests):
    """Hostile values, wherever a user may put one."""

    @each_value
    async def test_p9_a_value_in_a_state_comes_back(self, face: Face, value: Any) -> None:
        """In a dict, in a field of a model, in a list that is a log, and put again unchanged."""
        states: dict[str, Any] = {
            "dict": {"value": value, "log": [{"value": value}] * 2},
            "agent": AgentState(context=said("one")),
            "board": Board(notes={"value": value}),
        }
        states["agent"].execution_meta.internal_data["value"] = value
        states["agent"].context[0].metadata["value"] = value
        for name, state in states.items():
            await face.aput_state(at(name), state)
            found = await face.twin().aget_state(at(name))
            await face.aput_state(at(name), found)
            again = await face.twin().aget_state(at(name))
            if name == "dict":
                assert same(dict(found), state)
                assert same(dict(again), state)
            elif name == "board":
                assert same(found.notes["value"], value)
            else:
                assert same(found.execution_meta.internal_data["value"], value)
                assert same(found.context[0].metadata["value"], value)

    @each_value
    async def test_p9_a_value_beside_comes_back(self, face: Face, value: Any) -> None:
        """In the metadata of checkpoints, messages and threads, and in what a provider sent; and is filtered by."""
        kept = {"value": value}
        message = Message.text_message("one", message_id="m1", metadata=kept)
        message.raw = {"value": value}
        checkpoint = await face.aput_state(at(), {}, metadata=kept, messages=[message])
        assert same(checkpoint.metadata, kept)
        await face.aput_messages(at(), said("two", ids="n"), kept)
        await face.aput_thread(at(), ThreadInfo(thread_id="t", metadata=kept))
        other = face.twin()
        one, two = await other.alist_messages(at())
        assert same(one.metadata, kept)
        assert same(one.raw, kept)
        assert same(two.metadata, kept)
        assert same((await other.aget_checkpoint(at())).metadata, kept)
        assert same((await other.aget_thread(at())).metadata, kept)
        assert len(await other.alist_checkpoints(at(), metadata=kept)) == 1
        assert len(await other.alist_messages(at(), metadata=kept)) == 2
        assert len(await other.alist_threads({}, metadata=kept)) == 1

    @each_refused
    async def test_p9_a_refused_value_leaves_nothing(
        self, face: Face, value: Any, error: type[Exception]
    ) -> None:
        """No state, no message, no name: the thread is as it was, and a missing one is not made."""
        info = ThreadInfo(thread_id="t", metadata={"value": value})
        message = Message.text_message("x", message_id="x1", metadata={"value": value})
        await face.aput_state(at("there"), {"n": 1}, messages=said("one"))
        for name in ("t", "there"):
            config, state = at(name), {"fine": 1, "value": value}
            info.thread_id = name
            calls = [
                partial(face.aput_state, config, state, messages=said("two")),
                partial(face.aput_state, config, {"log": [{"a": 1}, {"value": value}]}),
                partial(face.aput_state, config, {}, metadata={"value": value}),
                partial(face.aput_state, config, AgentState(context=[message])),
                partial(face.aput_state, config, {}, messages=[*said("two"), message]),
                partial(
                    face.aappend, {**config, "state_class": dict}, [{"value": value}], field="list"
                ),
                partial(face.aput_messages, config, [*said("two"), message]),
                partial(face.aput_messages, config, said("two"), {"value": value}),
                partial(face.aput_thread, config, info),
            ]
            for call in calls:
                await changes_nothing(face, config, call, error)
        assert await face.aget_thread(at("t")) is None

    async def test_p9_large_texts_come_back(self, face: Face) -> None:
        """5 MB in a field, in an item and in a message; and they are kept once."""
        text = "\x00日本 text " * 390_000
        state = {"text": text, "log": [{"text": text}], "n": 1}
        await face.aput_state(at(), state, messages=said(text))
        assert await face.twin().aget_state(at()) == state
        (message,) = await face.twin().alist_messages(at())
        assert message.text() == text
        state["n"] = 2
        checkpoint = await face.aput_state(at(), state)
        assert checkpoint.bytes < 10_000
        assert await face.aget_state(at(version=1)) == {**state, "n": 1}

    async def test_p9_fields_keep_their_types(self, face: Face) -> None:
        """A value that its field would turn into another is refused: the state would not come back equal."""
        other: Any = {"title": 7, "total": "3", "cells": [1, 2.0], "context": ["text"]}
        wrong: list[Any] = [
            Ledger.model_construct(title=other["title"], rows=[], total=None),
            Ledger.model_construct(title="", rows=[], total=other["total"]),
            Ledger.model_construct(title="", rows=[], total=True),
            Board(name="b", cells=other["cells"]),
            Board(name="b", cells=(1, 2)),  # type: ignore[arg-type]
            AgentState.model_construct(
                context=other["context"], execution_meta=AgentState().execution_meta
            ),
        ]
        for state in wrong:
            await changes_nothing(
                face, at(), partial(face.aput_state, at(), state), NotStorableError
            )
        assert await face.aget_thread(at()) is None

    async def test_p9_append_knows_the_fields_of_a_class(self, face: Face) -> None:
        """What its class would not give back is refused, with a state and without one."""
        states: list[Any] = [AgentState(context=said("one")), Ledger(title="l"), Board("b")]
        for state in states:
            config = at(type(state).__name__, state_class=type(state))
            calls = [partial(face.aappend, config, [1], field=f) for f in ("typo", "title", "name")]
            with pytest.raises((ValueError, TypeError)):
                await calls[0]()
            assert await face.aget_thread(config) is None
            await face.aput_state(config, state)
            for call in calls:
                await changes_nothing(face, config, call, (ValueError, TypeError))

    async def test_p9_sync_methods_work_inside_a_running_loop(self, face: Face) -> None:
        """They give the result or say clearly what to call instead; they never block forever."""
        target = face.target

        async def inside() -> None:
            assert asyncio.get_running_loop() is not None
            target.put_state(at(), {"n": 1}, messages=said("one"))
            assert target.get_state(at()) == {"n": 1}
            assert [m.text() for m in target.iter_messages(at())] == ["one"]
            assert target.list_messages(at(), search="one") == said("one")
            assert target.append(at(), [1], field="list").version == 2
            assert [t.thread_id for t in target.list_threads({})] == ["t"]
            assert target.pop_messages(at()) == said("one")
            assert target.delete_thread(at()) is True

        try:
            await asyncio.wait_for(inside(), 10)
        except RuntimeError as error:
            pytest.skip(str(error))
        assert await face.aget_state(at()) is None

    async def test_p3_both_faces_see_the_same(self, face: Face) -> None:
        """What one puts the other gets, from threads and tasks at the same time."""
        other = Face(face.target, "sync" if face.mode == "async" else "async")
        await face.aput_state(at(), {"n": 1})
        assert await other.aget_state(at()) == {"n": 1}
        config = at("b", state_class=dict)
        calls = [each.aappend(config, [n], field="log") for n in range(8) for each in (face, other)]
        await asyncio.gather(*calls)
        log = (await face.aget_state(config))["log"]
        assert sorted(log) == sorted([*range(8)] * 2)

    async def test_p3_a_put_is_seen_by_every_reader(self, face: Face) -> None:
        """By another checkpointer too, however often it read before; none sees anything older."""
        other = face.twin()
        for n in range(20):
            writer, reader = (face, other) if n % 2 else (other, face)
            await writer.aput_state(at(), {"n": n})
            assert await reader.aget_state(at()) == {"n": n}
            assert await reader.aget_state_cache(at()) == {"n": n}
            assert (await reader.aget_checkpoint(at())).version == n + 1
