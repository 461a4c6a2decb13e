"""The diff of two states: true, complete, exact in types, small to read, and readable."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from threadline import AgentState, InMemoryCheckpointer, Message, SqliteCheckpointer, TextBlock
from threadline.backend import Range
from threadline.checkpointer import BaseCheckpointer
from threadline.codec.values import decode, encode
from threadline.errors import CorruptionError
from threadline.history.align import align
from threadline.history.changes import Change, Path, path_text
from threadline.history.delta import pieces_of
from threadline.history.diff import Middle, Place, canonical, compare, item_id
from threadline.testing.strategies import small_values, values

CONFIG = {"thread_id": "t"}


@pytest.fixture(params=["memory", "sqlite"])
def checkpointer(request: pytest.FixtureRequest, tmp_path: FilePath) -> Iterator[BaseCheckpointer]:
    made: BaseCheckpointer = (
        InMemoryCheckpointer()
        if request.param == "memory"
        else SqliteCheckpointer(tmp_path / "memory.db", durability="relaxed")
    )
    with made:
        yield made


# What a diff must be, said a second time -------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Equal with types, NaN equal to itself, the order of keys no difference."""
    if type(a) is not type(b):
        return False
    if type(a) is dict:
        left = list(b)
        if len(a) != len(b):
            return False
        for key in a:
            other = next((n for n, each in enumerate(left) if same(key, each)), None)
            if other is None or not same(a[key], b[left.pop(other)]):
                return False
        return True
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) in (set, frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return repr(a) == repr(b)


def value_at(value: Any, path: Path) -> Any:
    for key in path:
        found = dict(enumerate(value)) if type(value) in (list, tuple) else value
        value = next(item for each, item in found.items() if same(each, key))
    return value


def apply(a: Any, changes: Iterable[Change], old: Path = (), new: Path = ()) -> Any:
    """The value b, made of a (which stands at `old` in a's state and at `new` in b's) and the changes alone."""
    here = [each for each in changes if _starts(each, old, new)]
    for change in here:
        if change.kind == "changed" and same(change.path, new) and same(change.old_path, old):
            return change.new
    at_old = [(c, c.old_path[-1]) for c in here if c.old_path and same(c.old_path[:-1], old)]
    added = [(c.path[-1], c.new) for c in here if c.kind == "added" and same(c.path[:-1], new)]
    removed = [key for c, key in at_old if c.kind == "removed"]
    if type(a) is dict:
        made = {
            key: apply(item, here, (*old, key), (*new, key))
            for key, item in a.items()
            if not any(same(key, each) for each in removed)
        }
        return {**made, **dict(added)}
    if type(a) not in (list, tuple):
        return a
    moved = {key: c.path[-1] for c, key in at_old if c.kind == "moved"}
    slots: dict[int, Any] = dict(added)
    free = iter(
        j for j in range(len(a) - len(removed) + len(added)) if j not in {*slots, *moved.values()}
    )
    for i in range(len(a)):
        if i not in removed:
            j = moved[i] if i in moved else next(free)
            slots[j] = apply(a[i], here, (*old, i), (*new, j))
    assert next(free, None) is None
    return type(a)(slots[j] for j in range(len(slots)))


def _starts(change: Change, old: Path, new: Path) -> bool:
    of_old = change.old_path is not None and same(change.old_path[: len(old)], old)
    of_new = change.kind != "removed" and same(change.path[: len(new)], new)
    return of_old or of_new


def check(a: Any, b: Any, changes: list[Change]) -> None:
    """Empty just for equal values; every change is true; and together they are the whole difference."""
    assert bool(changes) == (not same(a, b))
    for change in changes:
        match change.kind:
            case "added":
                assert change.old_path is None
                assert same(value_at(b, change.path), change.new)
            case "removed":
                assert change.path == change.old_path
                assert same(value_at(a, change.path), change.old)
            case "changed":
                assert change.old_path is not None
                assert same(value_at(a, change.old_path), change.old)
                assert same(value_at(b, change.path), change.new)
                assert not same(change.old, change.new)
            case "moved":
                assert change.old_path is not None
                was, is_ = value_at(a, change.old_path), value_at(b, change.path)
                name = "message_id" if "message_id" in was else "id"
                assert was[name] == is_[name] == change.id
        assert str(change).isprintable()
        json.dumps(change.to_dict(), allow_nan=False)
    assert same(apply(a, changes), b)


def stored(value: Any) -> Any:
    """The value as a store gives it back: a copy, with one NaN for all."""
    return decode(encode(value))


# Random edits ----------------------------------------------------------------------------------------

texts = st.sampled_from(["", "a", "b", "a b", "x" * 60, "é\n", "$tuple", "0", "text" * 2000])
items = st.one_of(
    small_values,
    st.builds(
        lambda id, text: {"id": id, "text": text},
        st.sampled_from("abcdefgh") | st.integers(0, 3),
        texts,
    ),
    st.builds(
        lambda id, text: {"message_id": id, "content": [{"text": text}]},
        st.sampled_from("mnopqr"),
        texts,
    ),
)
lists = st.lists(items, max_size=12) | st.lists(st.integers(0, 4), max_size=40)


@st.composite
def edited(draw: st.DrawFn, value: Any) -> Any:
    """The value after some edits, deep in it or at its top."""
    value = stored(value)
    for _ in range(draw(st.integers(0, 4))):
        value = draw(_edit(value))
    return value


@st.composite
def _edit(draw: st.DrawFn, value: Any) -> Any:
    if type(value) is list:
        return draw(_edit_list(value))
    if type(value) is dict and value:
        key = draw(st.sampled_from(list(value)))
        match draw(st.sampled_from(["inner", "inner", "drop", "add", "turn"])):
            case "inner":
                return {**value, key: draw(_edit(value[key]))}
            case "drop":
                return {other: item for other, item in value.items() if other is not key}
            case "turn":
                return dict(reversed(value.items()))
        return {**value, draw(texts): draw(items)}
    return draw(st.sampled_from([1, True, 1.0, "1", None]) | texts | lists | items)


@st.composite
def _edit_list(draw: st.DrawFn, value: list[Any]) -> list[Any]:
    at = draw(st.integers(0, len(value)))
    if at == len(value):
        return [*value, *draw(st.lists(items, min_size=1, max_size=3))]
    rest = [*value[:at], *value[at + 1 :]]
    match draw(st.sampled_from(["inner", "drop", "insert", "move", "repeat", "trim", "turn"])):
        case "inner":
            return [*value[:at], draw(_edit(value[at])), *value[at + 1 :]]
        case "drop":
            return rest
        case "insert":
            return [*value[:at], draw(items), *value[at:]]
        case "move":
            to = draw(st.integers(0, len(rest)))
            return [*rest[:to], value[at], *rest[to:]]
        case "repeat":
            return [*value, value[at]]
        case "trim":
            return value[at:]
    return [dict(reversed(each.items())) if type(each) is dict else each for each in value]


# The pure part ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_changes_of_edited_values(data: st.DataObject) -> None:
    a = stored(data.draw(lists | st.dictionaries(texts, items | lists, max_size=4) | values))
    b = stored(data.draw(edited(a)))
    check(a, b, list(compare(a, b, Place())))


@settings(deadline=None, max_examples=200)
@given(values.map(stored), values.map(stored))
def test_changes_of_any_two_values(a: Any, b: Any) -> None:
    check(a, b, list(compare(a, b, Place())))


tokens = st.lists(st.integers(0, 6), max_size=30) | st.lists(st.integers(0, 40), max_size=30)


@settings(deadline=None, max_examples=300)
@given(tokens, tokens)
def test_aligned_tokens_are_equal_and_ascend(a: list[int], b: list[int]) -> None:
    pairs = align(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(x[0] < y[0] and x[1] < y[1] for x, y in pairwise(pairs))
    assert align(a, a) == [(i, i) for i in range(len(a))]


def test_a_few_edits_of_many_repeated_tokens_stay_a_few() -> None:
    a = [n * n % 5 for n in range(3000)]
    b = [*a[:500], 9, *a[500:2000], *a[2001:]]
    assert len(align(a, b)) == len(a) - 1
    wholly_other = [n * n % 7 for n in range(3000)]
    assert all(a[i] == wholly_other[j] for i, j in align(a, wholly_other))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.integers(0, 30), max_size=30),
    st.lists(st.integers(0, 30), max_size=30),
    st.lists(st.integers(0, 30), max_size=30),
)
def test_the_middle_of_two_lists_of_one_log(common: list[int], a: list[int], b: list[int]) -> None:
    a, b = [*common, *a, *common], [*common, *b, *common]
    middle = Middle.of(pieces_of(a), pieces_of(b))
    stop = middle.start + len(middle.a)
    assert a[: middle.start] == b[: middle.start]
    assert a[middle.start : stop] == middle.a
    assert b[middle.start : middle.start + len(middle.b)] == middle.b
    assert a[stop:] == b[middle.start + len(middle.b) :]
    items = {at: {"id": at // 2, "n": at // 3} for at in middle.wanted()}
    if middle.doubtful(items):
        items = {at: {"id": at // 2, "n": at // 3} for at in middle.everything()}
    changes = list(middle.changes(items, Place()))
    old, new = ([{"id": at // 2, "n": at // 3} for at in each] for each in (a, b))
    check(old, new, changes)


def test_what_is_equal_and_what_an_id_is() -> None:
    one, other = {1: "x", (2,): [True]}, {(2,): [True], 1: "x"}
    assert canonical([one]) == canonical([other])
    assert canonical({"$dict": [[2, 0], [1, 0]]}) != canonical({2: 0, 1: 0})
    assert canonical([1]) != canonical([True]) != canonical([1.0])
    wanted = [({"id": 0}, 0), ({"id": "a", "message_id": "m"}, "m"), ({"id": True}, None)]
    assert [item_id(item) for item, _ in wanted] == [id for _, id in wanted]
    assert [item_id(item) for item in (None, "id", ["id"], {"id": None})] == [None] * 4


# Through a checkpointer ------------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_diff_of_edited_states(checkpointer: BaseCheckpointer, data: st.DataObject) -> None:
    """Any two of a few versions of a dict: short lists, logs, large fields, odd keys, cleared between."""
    fields = st.sampled_from(["steps", "log", "text", "a.b", "é", "\n", "value"])
    state = stored(data.draw(st.dictionaries(fields, lists | items | texts, max_size=5)))
    checkpointer.delete_thread(CONFIG)
    states: dict[int, Any] = {}
    for _ in range(data.draw(st.integers(2, 4))):
        states[checkpointer.put_state(CONFIG, state).version] = stored(state)
        if data.draw(st.integers(0, 9)) == 0 and (cleared := checkpointer.clear_state(CONFIG)):
            states[cleared.version] = {}
        state = data.draw(edited(state))
        state = state if type(state) is dict else {"whole": state}
    a, b = data.draw(st.sampled_from(list(states))), data.draw(st.sampled_from(list(states)))
    diff = checkpointer.diff(CONFIG, a, b)
    check(states[a], states[b], list(diff))
    assert (diff.a, diff.b, len(diff), bool(diff)) == (a, b, len(diff.changes), len(diff) > 0)


def talk(count: int) -> AgentState:
    return AgentState(
        context=[
            Message.text_message(f"text of {n}", message_id=f"m{n}", role="user")
            for n in range(count)
        ]
    )


def test_messages_are_told_by_id(checkpointer: BaseCheckpointer) -> None:
    state = talk(6)
    checkpointer.put_state(CONFIG, state)
    state.context[4].content = [TextBlock(text="another text")]
    state.context.insert(2, Message.text_message("between", message_id="new"))
    del state.context[0]
    state.context.append(state.context.pop(0))
    state.execution_meta.step = 7
    checkpointer.put_state(CONFIG, state)
    diff = checkpointer.diff(CONFIG, 1, 2)
    assert str(diff).splitlines() == [
        'thread "t", version 1 -> 2: 1 added, 1 removed, 2 changed, 1 moved',
        '- context[0] (m0): user "text of 0"',
        '+ context[0] (new): user "between"',
        '~ context[3].content[0].text (m4): "text of 4" -> "another text"',
        "~ context[1] -> context[5] (m1) moved",
        "~ execution_meta.step: 0 -> 7",
    ]
    assert [change.id for change in diff.removed] == ["m0"]
    assert [change.id for change in diff.added] == ["new"]
    assert [change.id for change in diff.changed] == ["m4", None]
    assert [change.id for change in diff.moved] == ["m1"]
    said = json.loads(diff.to_json())
    assert (said["a"], said["b"], said["thread_id"], said["namespace"]) == (1, 2, "t", "")
    assert said["changes"][2:] == [
        {
            "kind": "changed",
            "path": "context[3].content[0].text",
            "old_path": "context[4].content[0].text",
            "id": "m4",
            "old": "text of 4",
            "new": "another text",
        },
        {"kind": "moved", "path": "context[5]", "old_path": "context[1]", "id": "m1"},
        {"kind": "changed", "path": "execution_meta.step", "old": 0, "new": 7},
    ]


def test_types_differ(checkpointer: BaseCheckpointer) -> None:
    checkpointer.put_state(CONFIG, {"n": 1, "k": {1: "x"}, "t": (1, 2), "z": 0.0, "nan": math.nan})
    checkpointer.put_state(
        CONFIG, {"n": True, "k": {True: "x"}, "t": [1, 2], "z": -0.0, "nan": math.nan}
    )
    diff = checkpointer.diff(CONFIG, 1, 2)
    assert str(diff).splitlines()[1:] == [
        "~ n: 1 -> true",
        '+ k[True]: "x"',
        '- k[1]: "x"',
        '~ t: {"$tuple":[1,2]} -> [1,2]',
        "~ z: 0.0 -> -0.0",
    ]
    assert diff.to_dict()["changes"][3]["old"] == {"$tuple": [1, 2]}
    checkpointer.put_state(
        CONFIG, {"nan": math.nan, "z": -0.0, "t": [1, 2], "k": {1.0: "x"}, "n": 1.0}
    )
    assert {path_text(each.path) for each in checkpointer.diff(CONFIG, 2, 3)} == {
        "k[1.0]",
        "k[True]",
        "n",
    }


def test_states_are_addressed(checkpointer: BaseCheckpointer) -> None:
    first = checkpointer.put_state(CONFIG, {"n": 1}, name="start")
    second = checkpointer.put_state(CONFIG, {"n": 2}, name="1")
    third = checkpointer.put_state(CONFIG, {"n": 3}, name="start")
    wanted: list[tuple[Any, int]] = [
        (first, 1),
        ("1", 1),
        (1, 1),
        (second, 2),
        (third.id, 3),
        ("start", 3),
        (None, 3),
    ]
    for a, version in wanted:
        for b, other in wanted:
            diff = checkpointer.diff(CONFIG, a, b)
            assert (diff.a, diff.b, bool(diff)) == (version, other, version != other)
    assert checkpointer.diff(CONFIG, 1).b == 3
    checkpointer.clear_state(CONFIG)
    assert [each.to_dict() for each in checkpointer.diff(CONFIG, 3)] == [
        {"kind": "removed", "path": "n", "old": 3}
    ]
    assert not checkpointer.diff(CONFIG, 4, 4)


def test_states_that_are_not_there(checkpointer: BaseCheckpointer) -> None:
    owned = {**CONFIG, "user_id": "alice"}
    first = checkpointer.put_state(owned, {"n": 1})
    cases: list[tuple[dict[str, Any], Any, str]] = [
        (owned, 2, "thread 't' has no version 2"),
        (owned, 0, "thread 't' has no version 0"),
        (owned, "x", "thread 't' has no checkpoint with the version, id or name 'x'"),
        ({**owned, "user_id": "bob"}, 1, "thread 't' has no version 1"),
        ({**owned, "user_id": "bob"}, None, "thread 't' has no state"),
        ({**owned, "namespace": "n"}, 1, "thread 't', namespace 'n', has no version 1"),
        ({"thread_id": "gone"}, 1, "thread 'gone' has no version 1"),
        ({"thread_id": "gone"}, first, "of thread 't'"),
        ({**owned, "version": 1}, 1, "addresses the past"),
    ]
    for config, moment, said in cases:
        with pytest.raises(ValueError, match=said):
            checkpointer.diff(config, moment, None)
    for wrong in (True, 1.0, b"x"):
        with pytest.raises(TypeError):
            checkpointer.diff(owned, wrong)  # type: ignore[arg-type]
    checkpointer.delete_thread(owned)
    again = checkpointer.put_state(owned, {"n": 1})
    assert again.version > first.version
    with pytest.raises(ValueError, match="no version 1"):
        checkpointer.diff(owned, first)


async def test_async(checkpointer: BaseCheckpointer) -> None:
    await checkpointer.aput_state(CONFIG, {"n": 1})
    await checkpointer.aput_state(CONFIG, {"n": 2})
    assert len(await checkpointer.adiff(CONFIG, 1, 2)) == 1


def test_it_is_printable() -> None:
    change = Change(
        "changed", ("a b", 3, "\x1b[31m"), ("a b", 3, "\x1b[31m"), "x" * 500, "x" * 490 + "\u202e"
    )
    assert str(change).isprintable()
    assert str(change).startswith('~ ["a b"][3]["\\x1b[31m"]: …"xxx')
    assert "(500 characters)" in str(change)
    assert "\\u202e" in str(change)
    assert len(str(change)) < 400
    assert (
        path_text(("a", "b", 0, "ключ", "c-d", 'q"', "", 1.5))
        == 'a.b[0].ключ["c-d"]["q\\""][""][1.5]'
    )
    assert path_text(()) == "."
    assert str(Change("added", ("x",), None, new=["y"] * 500)).endswith("…")
    assert len(str(Change("added", ("x",), None, new={"role": "user", "content": "z" * 900}))) < 200


# What is read ----------------------------------------------------------------------------------------


class Watched:
    """Counts what a checkpointer's backend reads."""

    def __init__(self, checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = checkpointer._engine.backend
        rows, head = backend.read_rows, backend.read_head
        self.ranges: list[Range] = []
        self.rows: list[Any] = []
        self.contents = 0

        async def read_rows(key: bytes, ns: bytes, user: Any, ranges: Any) -> Any:
            self.ranges += ranges
            found = await rows(key, ns, user, ranges)
            self.rows += found
            return found

        async def read_head(*args: Any, content: bool = True, **named: Any) -> Any:
            self.contents += content
            return await head(*args, content=content, **named)

        monkeypatch.setattr(backend, "read_rows", read_rows)
        monkeypatch.setattr(backend, "read_head", read_head)


def test_only_what_differs_is_read(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = talk(2000)
    state.context_summary = "long " * 2000
    checkpointer.put_state(CONFIG, state)
    state.context[1000].metadata["k"] = 1
    checkpointer.put_state(CONFIG, state)
    del state.context[:500]
    checkpointer.put_state(CONFIG, state)
    state.context_summary = "other " * 2000
    checkpointer.put_state(CONFIG, state)
    watched = Watched(checkpointer, monkeypatch)
    assert not checkpointer.diff(CONFIG, 2, 2)
    assert watched.rows == []
    assert len(checkpointer.diff(CONFIG, 1, 2)) == 1
    assert sum(len(range(*each[1:])) for each in watched.ranges) == 2
    assert (len(watched.rows), watched.contents) == (2, 0)
    watched.ranges.clear()
    assert len(checkpointer.diff(CONFIG, 2, 3).removed) == 500
    assert watched.ranges == [Range(1, 0, 500)]
    watched.rows.clear()
    (change,) = checkpointer.diff(CONFIG, 3, 4)
    assert (change.old, change.new) == ("long " * 2000, "other " * 2000)
    assert (watched.rows, watched.contents) == ([], 0)


def test_equal_items_at_other_positions_are_equal(checkpointer: BaseCheckpointer) -> None:
    """A list that was written anew, and dicts that differ in the order of their keys only."""
    log: list[Any] = [{"x": n, "y": 0} for n in range(200)]
    checkpointer.put_state(CONFIG, {"log": log})
    checkpointer.put_state(CONFIG, {"log": log[::-1]})
    checkpointer.put_state(CONFIG, {"log": log})
    checkpointer.put_state(CONFIG, {"log": [dict(reversed(each.items())) for each in log]})
    assert not checkpointer.diff(CONFIG, 1, 3)
    assert not checkpointer.diff(CONFIG, 1, 4)
    one, other = {"x": 1, "y": 2}, {"y": 2, "x": 1}
    checkpointer.put_state(CONFIG, {"log": [*log, one, other]})
    checkpointer.put_state(CONFIG, {"log": [*log, other, one]})
    assert not checkpointer.diff(CONFIG, 5, 6)


def test_lists_of_other_logs_are_compared_by_content(checkpointer: BaseCheckpointer) -> None:
    """A field that was gone for a while has a log of its own; one that was short has none."""
    log: list[Any] = list(range(100, 130))
    checkpointer.put_state(CONFIG, {"log": log})
    checkpointer.put_state(CONFIG, {})
    checkpointer.put_state(CONFIG, {"log": [*log[:-1], 0]})
    checkpointer.put_state(CONFIG, {"log": (1, 2)})
    checkpointer.put_state(CONFIG, {"log": [*log, 1]})
    assert [str(each) for each in checkpointer.diff(CONFIG, 1, 3)] == ["~ log[29]: 129 -> 0"]
    assert [str(each) for each in checkpointer.diff(CONFIG, 1, 5)] == ["+ log[30]: 1"]
    check({"log": (1, 2)}, {"log": [*log, 1]}, list(checkpointer.diff(CONFIG, 4, 5)))
    check({}, {"log": log}, list(checkpointer.diff(CONFIG, 2, 1)))


def test_what_is_taken_away_meanwhile(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redaction between two reads lets the diff be read again; a thread deleted meanwhile is not there."""
    state = talk(3)
    checkpointer.put_state(CONFIG, state)
    state.context.append(Message.text_message("secret", message_id="s"))
    checkpointer.put_state(CONFIG, state)
    backend = checkpointer._engine.backend
    rows, times = backend.read_rows, list[int]()

    async def redacting(*args: Any) -> Any:
        found = await rows(*args)
        if not times:
            times.append(1)
            await checkpointer.aredact(CONFIG, "s")
        return found

    monkeypatch.setattr(backend, "read_rows", redacting)
    (change,) = checkpointer.diff(CONFIG, 1, 2)
    assert (change.kind, change.id, times) == ("added", "s", [1])
    assert "redacted" in change.new["metadata"]
    assert "secret" not in str(change.new)

    async def deleting(*args: Any) -> Any:
        found = await rows(*args)
        await checkpointer.adelete_thread(CONFIG)
        return found

    monkeypatch.setattr(backend, "read_rows", deleting)
    with pytest.raises(ValueError, match="no version 1"):
        checkpointer.diff(CONFIG, 1, 2)


def test_a_missing_row_is_named(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer.put_state(CONFIG, talk(3))
    checkpointer.put_state(CONFIG, talk(4))

    async def nothing(*args: Any) -> list[Any]:
        return []

    monkeypatch.setattr(checkpointer._engine.backend, "read_rows", nothing)
    with pytest.raises(CorruptionError, match="thread 't', version 2: item"):
        checkpointer.diff(CONFIG, 1, 2)
