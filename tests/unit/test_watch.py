"""A watch never misses an edit, at any depth, of any kind; and does not cry wolf far away."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, computed_field

from threadline.history import watch as module
from threadline.history.watch import Watch


class Block(BaseModel):
    text: str = ""
    data: Any = None


class Note(BaseModel):
    model_config = ConfigDict(extra="allow")
    blocks: list[Any] = []
    metadata: dict[Any, Any] = {}
    score: Any = 0.0
    left: Any = None
    right: Any = None


@dataclass
class Record:
    a: Any = None
    b: Any = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    a: Any = None


class Color(Enum):
    RED = "red"


class Loose(Enum):
    BOX = [1]  # noqa: RUF012


class Pair(NamedTuple):
    a: Any
    b: Any


class Liar:
    def __init__(self) -> None:
        self.value = 1

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("a")

    def __repr__(self) -> str:  # Part of the tests' names, which must not change from run to run.
        return "Liar()"


class Bomb:
    def __eq__(self, other: object) -> bool:
        raise AssertionError("a user's __eq__ ran")

    __hash__ = None  # type: ignore[assignment]


class Twin(Block):
    pass


@pytest.fixture(params=["fast", "plain"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(module, "same", module._same_plain)
        monkeypatch.setattr(module, "referents", module._referents_plain)


def notes(count: int) -> list[Any]:
    return [
        Note(
            blocks=[Block(text=f"text {n}", data={"k": [n, {"deep": (n, [n])}]}), Record(n)],
            metadata={"a": n, "b": None, "c": None},
            score=n / 7,
            more={"x": [n]},
        )
        for n in range(count)
    ]


def covers(ranges: list[tuple[int, int]], position: int) -> bool:
    return any(low <= position < high for low, high in ranges)


def test_this_interpreter_takes_the_fast_form() -> None:
    assert module._FAST


def test_unchanged_is_empty_and_an_edit_is_found_alone() -> None:
    items = notes(1_300)
    watch = Watch.of(items)
    assert len(watch) == 1_300
    assert watch.suspects(items) == []
    for position in (0, 511, 512, 700, 1_299):
        items[position].blocks[0].data["k"][1]["deep"][1].append(1)
    assert watch.suspects(items) == [(0, 1), (511, 513), (700, 701), (1_299, 1_300)]


def test_taking_part_of_the_list_or_more_compares_the_common_prefix() -> None:
    items = notes(600)
    watch = Watch.of(items)
    items[550].score = 1
    assert watch.suspects(items[:540]) == []
    assert watch.suspects([*items[:560], *notes(1)]) == [(550, 551), (560, 561)]
    assert watch.suspects([]) == []
    assert Watch.of([]).suspects(items) == []
    removed = items[:100] + items[101:]
    assert watch.suspects(removed) == [(100, 599)]
    inserted = [*items[:100], Note(), *items[100:]]
    assert watch.suspects(inserted) == [(100, 600)]


BOMB = Bomb()
NAN = float("nan")
PAIRS: list[tuple[Any, Any]] = [
    (1, True), (True, 1.0), (1, 1.0), (0, False), (0.0, -0.0), ([1], (1,)), (None, NAN), (NAN, None),
    ("a", Liar()), (None, Liar()), (Decimal("1.0"), Decimal("1.00")), ("red", Color.RED), ({}, []),
    (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC, fold=1)),
    (UUID(int=1), str(UUID(int=1))), ((1, 2), Pair(1, 2)), (Block(), Twin()), (b"a", "a"),
]  # fmt: skip


def placed(value: Any) -> list[tuple[Any, Callable[[Any], None]]]:
    """Items that hold `value` in every kind of place, each with what puts another there."""
    box = [value]
    record = Record(a=value)
    return [
        (Note(score=value), lambda v: None),
        ({"x": [value]}, lambda v: None),
        (record, lambda v: setattr(record, "a", v)),
        (Note(score=(1, (box,))), lambda v: box.__setitem__(0, v)),
    ]


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=repr)
def test_values_that_look_alike_are_told_apart(old: Any, new: Any) -> None:
    (note, _), (mapping, _), (record, set_record), (nested, set_nested) = placed(old)
    through_dict = Note(score=old)
    extra = Note(other=old)
    items = [note, mapping, record, nested, through_dict, extra, Note()]
    watch = Watch.of(items)
    assert watch.suspects(items) == []
    note.score = new
    mapping["x"][0] = new
    set_record(new)
    set_nested(new)
    through_dict.__dict__["score"] = new
    extra.__pydantic_extra__["other"] = new
    assert watch.suspects(items) == [(0, 6)]


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, True), (True, 1.0), (0.0, -0.0), ("a", Liar()), (Decimal("1.0"), Decimal("1.00"))],
    ids=repr,
)
def test_a_watch_by_equality_alone_would_miss_them(old: Any, new: Any) -> None:
    item = {"x": [old]}
    watch, by_equality = Watch.of([item]), copy.deepcopy(item)
    item["x"][0] = new
    assert item == by_equality
    assert watch.suspects([item]) == [(0, 1)]


def reorder(values: dict[Any, Any]) -> None:
    values["b"] = values.pop("b")


def rename(values: dict[Any, Any]) -> None:
    values["z"] = values.pop("c")


def retype(values: dict[Any, Any]) -> None:
    values[True] = values.pop(1)


EDITS: dict[str, Callable[[Any], object]] = {
    "keys reordered": lambda n: reorder(n.metadata),
    "a key renamed": lambda n: rename(n.metadata),
    "a key of another type": lambda n: retype(n.metadata),
    "a lying key": lambda n: n.metadata.update({Liar(): n.metadata.pop("a")}),
    "an attribute renamed": lambda n: n.blocks[1].__dict__.update(z=n.blocks[1].__dict__.pop("b")),
    "a field deleted": lambda n: n.__delattr__("right"),
    "a new __dict__": lambda n: object.__setattr__(n, "__dict__", dict(n.__dict__)),
    "new extra": lambda n: object.__setattr__(n, "__pydantic_extra__", {"more": 2}),
    "an extra value": lambda n: setattr(n, "another", 1),
    "another class": lambda n: setattr(n.blocks[0], "__class__", Twin),
    "a list cleared": lambda n: n.blocks.clear(),
    "a list reversed": lambda n: n.blocks.reverse(),
    "an equal block": lambda n: n.blocks.__setitem__(0, n.blocks[0].model_copy()),
    "inside a tuple": lambda n: n.blocks[0].data["k"][1]["deep"][1].append(0),
    "a dataclass": lambda n: n.blocks[1].__dict__.update(b=None),
    "a new attribute": lambda n: setattr(n.blocks[1], "c", 1),
    "something opaque": lambda n: n.metadata.update(a={1}),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_of_every_kind_are_found(name: str) -> None:
    items = notes(9)
    items[4].metadata[1] = None
    watch = Watch.of(items)
    EDITS[name](items[4])
    assert watch.suspects(items) == [(4, 5)]


def test_a_value_that_moves_between_neighbours_is_found() -> None:
    items: list[Any] = [[1, 2], [3], {"a": 1, "b": 2}, {"c": 3}]
    watch = Watch.of(items)
    items[1].insert(0, items[0].pop())
    moved = items[2].pop("b")
    rest = dict(items[3])
    items[3].clear()
    items[3].update({"b": moved, **rest})
    assert watch.suspects(items) == [(0, 4)]


def test_no_eq_of_a_user_runs() -> None:
    class Holder(BaseModel):
        value: Any = None

        def __eq__(self, other: object) -> bool:
            raise AssertionError("a user's __eq__ ran")

    items = [Holder(value=[BOMB, Holder()]) for _ in range(4)]
    watch = Watch.of(items)
    assert watch.suspects(items) == []
    items[1] = Holder(value=[BOMB, Holder()])
    items[2].value[0] = Bomb()
    items[3].value[1] = BOMB
    assert watch.suspects(items) == [(1, 4)]


class Custom(str):
    def __init__(self, _: str) -> None:
        self.more = 1


class Bare(str):
    __slots__ = ()


class Zone(tzinfo):
    pass


OPAQUE: list[Any] = [
    {1}, bytearray(b"a"), Slotted(), Custom("a"), Loose.BOX, object(), len, int, frozenset({1}),
    datetime(2026, 1, 1, tzinfo=Zone()), type("D", (dict,), {})(), type("L", (list,), {})(),
    type("G", (), {"__getattribute__": lambda self, name: {}})(), type("E", (Exception,), {})(),
]  # fmt: skip


@pytest.mark.parametrize("value", OPAQUE, ids=lambda value: type(value).__name__)
def test_what_cannot_be_looked_into_is_always_suspect(value: Any) -> None:
    items = [Note(), Note(metadata={"a": [value]}), Note()]
    assert Watch.of(items).suspects(items) == [(1, 2)]


@pytest.mark.parametrize("value", [Color.RED, Bare("a"), Pair(1, [2]), Record(), Liar()], ids=repr)
def test_what_can_be_looked_into_is_not(value: Any) -> None:
    items = [Note(metadata={"a": [value]})]
    assert Watch.of(items).suspects(items) == []


def test_private_attributes_count_only_where_they_can_show() -> None:
    class Hidden(BaseModel):
        _value: list[int] = PrivateAttr(default_factory=list)

    class Shown(Hidden):
        @computed_field  # type: ignore[prop-decorator]
        @property
        def value(self) -> int:
            return len(self._value)

    items = [Hidden(), Shown()]
    watch = Watch.of(items)
    for item in items:
        item._value.append(1)
    assert watch.suspects(items) == [(1, 2)]


def test_cycles_depth_and_shared_parts() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    bottom = deep
    for _ in range(5_000):
        bottom.append([])
        bottom = bottom[0]
    shared: dict[str, Any] = {"a": 1}
    items: list[Any] = [loop, deep, Note(metadata=shared), [shared, shared]]
    items[2].metadata = shared
    watch = Watch.of(items)
    assert watch.suspects(items) == []
    bottom.append(1)
    shared["a"] = True
    assert watch.suspects(items) == [(1, 4)]
    loop.append(1)
    assert watch.suspects(items) == [(0, 4)]


def test_updated_watches_what_is_there_now() -> None:
    items = notes(1_100)
    watch = Watch.of(items)
    for position in (3, 4, 600):
        items[position].metadata["a"] = "new"
    items.extend(notes(2))
    changed = watch.suspects(items)
    later = watch.updated(items, changed)
    assert changed == [(3, 5), (600, 601)]
    assert (len(later), later.suspects(items)) == (1_102, [])
    assert watch.suspects(items) == changed
    for position in (4, 5, 599, 600, 1_101):
        items[position].metadata["a"] = "newer"
    assert later.suspects(items) == [(4, 6), (599, 601), (1_101, 1_102)]
    shorter = later.updated(items[:601], later.suspects(items[:601]))
    assert (len(shorter), shorter.suspects(items)) == (601, [])
    assert later.updated([], []).suspects(items) == []


def test_growth_by_small_steps_keeps_few_chunks_and_looks_at_each_item_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []
    walk = module._walk
    monkeypatch.setattr(module, "_walk", lambda item: looked.append(1) or walk(item))
    items: list[Any] = []
    watch = Watch.of(items)
    for _ in range(1_000):
        items += [{"a": 1}, {"b": []}]
        watch = watch.updated(items, [])
    assert len(looked) == len(watch) == 2_000
    assert len(watch._chunks) < 25
    assert watch.suspects(items) == []
    items[777]["b"].append(1)
    assert watch.suspects(items) == [(777, 778)]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, -0.0, 1.0, NAN]),
    st.sampled_from(["", "a", "b"]), st.just(Color.RED),
)  # fmt: skip


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b", 1, 2.5]), inner, max_size=3),
        st.builds(Record, inner, inner),
        st.builds(Block, data=inner),
        st.builds(Note, score=inner, left=inner, more=inner),
    )


trees = containers(st.recursive(scalars, containers, max_leaves=8))


def places(value: Any, found: list[Any]) -> list[Any]:
    """Every mutable container in a tree, however often (of a model, whose fields have fixed names, a `Fields`)."""
    if isinstance(value, BaseModel | Record):
        found.append(Fields(value) if isinstance(value, BaseModel) else value.__dict__)
        parts = [*value.__dict__.values(), getattr(value, "__pydantic_extra__", None)]
    elif isinstance(value, dict | list):
        found.append(value)
        parts = list(value.values() if isinstance(value, dict) else value)
    else:
        parts = list(value) if isinstance(value, tuple) else []
    for part in parts:
        places(part, found)
    return found


class Fields:
    """A model of which only values can be edited."""

    def __init__(self, model: BaseModel) -> None:
        self.values = model.__dict__


def mutate(place: Any, data: st.DataObject) -> bool:
    """Edit a list, a dict or a model in place; whether that made a difference."""
    if isinstance(place, Fields):
        field = data.draw(st.sampled_from(list(place.values)))
        old, place.values[field] = place.values[field], data.draw(st.one_of(scalars, trees))
        return old is not place.values[field]
    before = list(place.items()) if isinstance(place, dict) else list(place)
    value = data.draw(st.one_of(scalars, trees))
    if not place:
        place.update(a=value) if isinstance(place, dict) else place.append(value)
    elif isinstance(place, dict):
        key = data.draw(st.sampled_from(list(place)))
        how = data.draw(st.sampled_from(["set", "drop", "move", "rename"]))
        old = place[key]
        if how != "set":
            del place[key]
        if how != "drop":
            place[(key, "new") if how == "rename" else key] = value if how == "set" else old
    else:
        at = data.draw(st.integers(0, len(place) - 1))
        how = data.draw(st.sampled_from(["set", "drop", "add", "turn"]))
        if how == "turn":
            place.reverse()
        else:
            place[at : at + (how != "add")] = [] if how == "drop" else [value]
    after = list(place.items()) if isinstance(place, dict) else list(place)
    return not same(before, after)


def same(before: Any, after: Any) -> bool:
    if type(before) is tuple and type(after) is tuple:
        return len(before) == len(after) and all(map(same, before, after))
    if type(before) is list and type(after) is list and before is not after:
        return len(before) == len(after) and all(map(same, before, after))
    return before is after


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(trees, min_size=1, max_size=6), st.data())
def _any_edit_is_found(items: list[Any], data: st.DataObject) -> None:
    watch = Watch.of(items[:1])
    for stop in range(2, len(items) + 1):
        watch = watch.updated(items[:stop], [])
    assert watch.suspects(items) == []
    for _ in range(3):
        position = data.draw(st.integers(0, len(items) - 1))
        found = places(items[position], [])
        if not found:
            continue
        differs = mutate(data.draw(st.sampled_from(found)), data)
        ranges = watch.suspects(items)
        assert covers(ranges, position) or not differs
        watch = watch.updated(items, ranges)
        assert watch.suspects(items) == []


def test_any_edit_anywhere_is_found() -> None:
    _any_edit_is_found()
