"""P6, what carries a base: one test for each row of the list."""

import copy
import dataclasses
import gc
import json
import pickle
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from threadline.model import (
    NO_BASE,
    AgentState,
    Base,
    Loaded,
    Message,
    StateDict,
    base_of,
    carry,
)
from threadline.model.carry import _table

KEY, OTHER = b"k" * 24, b"o" * 24
BASE = Base().moved(KEY, b"i", 3)


class Mine(AgentState):
    mood: str = "calm"


class Plain(BaseModel):
    n: int = 0


@dataclasses.dataclass
class Data:
    n: int = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    n: int = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    n: int = 0


@dataclasses.dataclass(slots=True, weakref_slot=True)
class SlottedWithWeakref:
    n: int = 0


class Bare:
    __slots__ = ("n",)


def version(state: object) -> int | None:
    loaded = base_of(state).at(KEY)
    return loaded.version if loaded else None


def carrying(state: Any) -> Any:
    assert carry(state, BASE)
    return state


# --- the base itself --------------------------------------------------------------------------------


def test_a_base_is_a_value_that_is_replaced() -> None:
    two = BASE.moved(OTHER, b"j", 1)
    assert BASE.at(KEY) == Loaded(b"i", 3)
    assert BASE.at(OTHER) is None
    assert two.latest() == (OTHER, Loaded(b"j", 1))
    assert two.moved(KEY, b"i", 4).latest() == (KEY, (b"i", 4))
    assert list(two.moved(KEY, b"i", 4)) == [OTHER, KEY]
    assert (len(NO_BASE), bool(NO_BASE), NO_BASE.latest()) == (0, False, None)
    assert bool(two)
    assert "3" in repr(BASE)
    with pytest.raises(AttributeError):
        BASE._entries = {}
    with pytest.raises(AttributeError):
        del BASE._entries


def test_bases_take_no_part_in_comparison_and_copies() -> None:
    assert BASE == NO_BASE
    assert BASE != 5
    assert hash(BASE) == hash(NO_BASE)
    assert copy.copy(BASE) is BASE
    assert copy.deepcopy([BASE])[0] is BASE
    assert not pickle.loads(pickle.dumps(BASE))


# --- AgentState and its subclasses ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AgentState, Mine])
def test_agent_state_carries(kind: type[AgentState]) -> None:
    state = kind()
    assert not base_of(state)
    assert version(carrying(state)) == 3


@pytest.mark.parametrize(
    "twin",
    [copy.copy, copy.deepcopy, lambda s: s.model_copy(), lambda s: s.model_copy(deep=True)],
    ids=["copy", "deepcopy", "model_copy", "deep model_copy"],
)
def test_copies_of_an_agent_state_keep_it_and_part(twin: Any) -> None:
    state = carrying(Mine(context=[Message.text_message("x")]))
    other = twin(state)
    assert version(other) == 3
    carry(other, base_of(other).moved(KEY, b"i", 4))
    assert (version(state), version(other)) == (3, 4)


def test_it_is_outside_equality_repr_dump_and_json() -> None:
    state, fresh = Mine(), Mine()
    shown, dumped = repr(state), state.model_dump()
    carrying(state)
    assert state == fresh
    assert (repr(state), state.model_dump()) == (shown, dumped)
    assert json.loads(state.model_dump_json()).keys() == Mine.model_fields.keys()
    assert "threadline" not in str(Mine.model_json_schema())


def test_a_pickled_agent_state_has_none() -> None:
    state = carrying(Mine(mood="odd"))
    again = pickle.loads(pickle.dumps(state))
    assert again == state
    assert not base_of(again)


@pytest.mark.parametrize(
    "rebuild",
    [
        lambda s: Mine.model_validate(s.model_dump()),
        lambda s: Mine.model_validate_json(s.model_dump_json()),
        lambda s: Mine(**dict(s)),
        lambda s: Mine.model_construct(**dict(s)),
    ],
)
def test_a_rebuilt_agent_state_has_none(rebuild: Any) -> None:
    assert not base_of(rebuild(carrying(Mine())))


def test_a_state_made_without_init_can_carry() -> None:
    state = AgentState.__new__(AgentState)
    object.__setattr__(state, "__pydantic_private__", None)
    assert not base_of(state)
    assert version(carrying(state)) == 3


# --- other models and dataclasses -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Plain, Data, Frozen, SlottedWithWeakref])
def test_models_and_dataclasses_carry_by_identity(kind: type) -> None:
    state, equal = kind(), kind()
    carrying(state)
    assert (version(state), version(equal)) == (3, None)
    carry(state, BASE.moved(KEY, b"i", 4))
    assert version(state) == 4
    assert state == equal
    for other in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert not base_of(other)


def test_their_copies_have_none() -> None:
    assert not base_of(carrying(Plain()).model_copy())
    assert not base_of(dataclasses.replace(carrying(Data())))


def test_an_entry_ends_with_its_object() -> None:
    gc.collect()
    before = len(_table)
    state = carrying(Data())
    assert len(_table) == before + 1
    del state
    gc.collect()
    assert len(_table) == before


def test_a_new_object_never_inherits() -> None:
    for _ in range(2000):
        state = Data()
        assert not base_of(state)
        carrying(state)


def test_a_stale_entry_is_not_believed() -> None:
    # An address used again before the old entry was taken out.
    old, new = carrying(Data()), Data()
    _table._entries[id(new)] = _table._entries[id(old)]
    assert not base_of(new)
    assert version(carrying(new)) == 3
    assert version(old) == 3


def test_the_table_stands_threads() -> None:
    wrong: list[int | None] = []

    def work(number: int) -> None:
        for turn in range(300):
            state = Data()
            carry(state, Base().moved(KEY, b"i", number * 1000 + turn))
            if version(state) != number * 1000 + turn:
                wrong.append(version(state))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- dicts --------------------------------------------------------------------------------------------


def test_a_state_dict_carries() -> None:
    state = StateDict({"a": [1]})
    assert not base_of(state)
    assert version(carrying(state)) == 3
    assert state == {"a": [1]}
    assert repr(state) == "{'a': [1]}"
    assert json.dumps(state) == '{"a": [1]}'


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, StateDict.copy])
def test_copies_of_a_state_dict_keep_it(twin: Any) -> None:
    state = carrying(StateDict({"a": [1]}))
    other = twin(state)
    assert type(other) is StateDict
    assert other == state
    assert version(other) == 3
    assert (other["a"] is state["a"]) is (twin is not copy.deepcopy)
    carry(other, base_of(other).moved(KEY, b"i", 4))
    assert version(state) == 3


def test_a_dict_that_holds_itself_is_copied_and_pickled() -> None:
    state: Any = carrying(StateDict())
    state["me"] = state
    twin = copy.deepcopy(state)
    assert twin["me"] is twin
    again = pickle.loads(pickle.dumps(state))
    assert again["me"] is again


def test_a_state_dict_pickles_as_a_plain_dict() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(carrying(StateDict(a=1)), protocol))
        assert type(again) is dict
        assert again == {"a": 1}


@pytest.mark.parametrize("build", [StateDict, dict, lambda s: s | {}, lambda s: {**s}])
def test_a_dict_built_anew_has_none(build: Any) -> None:
    assert not base_of(build(carrying(StateDict(a=1))))


# --- what can hold none -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [{}, Slotted(), Bare(), 5, "x", None, (), Data, Plain])
def test_some_can_hold_none(state: object) -> None:
    assert carry(state, BASE) is False
    assert not base_of(state)
