"""Rules on states: put in every way there is, appended to, cleared, forked, and read at any version."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from threadline.model import AgentState, Message, TextBlock, ToolCallBlock
from threadline.testing.machine_base import (
    Table,
    agree,
    agree_on_checkpoint,
    config_of,
    message_ids,
    names,
    places,
    users,
    which,
)
from threadline.testing.model import Handle, Place, User, Version
from threadline.testing.strategies import Memo, message, objects, sentences, small_values, texts

contexts = st.lists(message(message_ids), max_size=5)
plain_items = st.lists(st.dictionaries(st.sampled_from("ab"), small_values, max_size=2), max_size=3)
dicts = st.one_of(
    st.fixed_dictionaries({"context": plain_items, "a": small_values, "long": st.just("x" * 60)}),
    st.fixed_dictionaries({"a": small_values}, optional={"b\x00": small_values}),
    st.dictionaries(st.sampled_from([1, "1", ("k", 2), "$x"]), small_values, max_size=3),
)
memos = st.builds(
    Memo,
    context=contexts,
    context_summary=st.none() | texts,
    topic=sentences,
    notes=st.lists(texts, max_size=3),
    steps=st.lists(st.integers(-9, 9), max_size=20),
    extra=small_values,
)
agents = st.builds(AgentState, context=contexts)
states = st.one_of(agents, agents, agents, memos, memos, memos, dicts)

#: What is done to a state in place: one letter each, see `EDITS`.
edits = st.lists(
    st.tuples(st.sampled_from("agtsroxmckfv"), which, message(message_ids), small_values),
    max_size=3,
)
Edit = tuple[str, int, Message, Any]


def edit(state: Any, change: Edit) -> None:
    """Change a state in place; what does not fit the state does nothing."""
    kind, number, fresh, value = change
    value = copy.deepcopy(value)  # A drawn value may be drawn again: nothing here may share it.
    if isinstance(state, dict):
        state[("a", "b", "c")[number % 3]] = value
        return
    if kind in EDITS:
        EDITS[kind](state, number, copy.deepcopy(fresh), value)


def _append(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    state.context += [fresh.model_copy(deep=True) for _ in range(1 + number % 2)]


def _grow(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    state.context += [
        Message.text_message(f"{number} {each} " + "far " * 90, message_id=f"g{each}")
        for each in range(number)
    ]


def _summary(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    middle = number % (len(state.context) + 1)
    state.context[middle : middle + 3] = [fresh]


def _text(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    if not state.context:
        return
    message = state.context[number % len(state.context)]
    for block in message.content:
        if isinstance(block, TextBlock):
            block.text += "!"
        elif isinstance(block, ToolCallBlock):
            block.args["more"] = value


def _meta(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    if state.context:
        held = state.context[number % len(state.context)].metadata
        held.setdefault("deep", {"list": [1, {"x": None}]})["list"][1]["x"] = value


def _twin(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    """The same numbers as another type: equal, and yet not the same."""
    if state.context:
        held = state.context[number % len(state.context)].metadata
        following: dict[type, Any] = {int: True, bool: 1.0}
        held["one"] = following.get(type(held.get("one")), 1) if number % 2 else [1]
        if isinstance(held["one"], list):
            held["one"] = tuple(held["one"])


def _fields(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    state.context_summary = None if number % 3 == 0 else "so far: " * number
    state.execution_meta.step += 1
    state.execution_meta.internal_data["v"] = value
    if isinstance(state, Memo):
        state.extra = [value]
        state.notes.append("n" * (number * 200))
        state.steps[:] = [*state.steps[1:], number] * 2


def _trim(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    del state.context[: number % 4]


def _reorder(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    cut = number % (len(state.context) + 1)
    state.context[:] = state.context[cut:] + state.context[:cut]
    if number % 5 == 0:
        state.context.reverse()


def _drop(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    del state.context[number % 7 : number % 7 + 1]


def _whole(state: AgentState, number: int, fresh: Message, value: Any) -> None:
    state.context = [item.model_copy(deep=True) for item in state.context]


EDITS: dict[str, Callable[[AgentState, int, Message, Any], None]] = {
    "a": _append,
    "g": _grow,
    "t": _trim,
    "s": _summary,
    "r": _reorder,
    "o": _drop,
    "x": _text,
    "m": _meta,
    "c": _twin,
    "f": _fields,
    "v": _whole,
}


class StateRules(Table):
    """What can be done with states."""

    @rule(state=states, place=places, user=users, name=names, metadata=objects)
    def put_new(
        self, state: Any, place: Place, user: User, name: str | None, metadata: dict[str, Any]
    ) -> None:
        """A state that was never loaded goes on top of whatever is there."""
        handle = Handle(copy.deepcopy(state))
        self._put(handle, place, user, name=name, metadata=metadata)
        self.hold(handle)

    @precondition(lambda self: self.handles)
    @rule(
        number=which,
        changes=edits,
        user=users,
        name=names,
        more=st.lists(message(message_ids), max_size=2),
    )
    def put_again(
        self, number: int, changes: list[Edit], user: User, name: str | None, more: list[Message]
    ) -> None:
        """A state in hand is changed in place and put back where it came from, with messages beside it."""
        handle = self.handles[number % len(self.handles)]
        for change in changes:
            edit(handle.state, change)
        place = list(handle.at)[-1] if handle.at else ("t1", "")
        self._put(handle, place, user, name=name, messages=more)

    @precondition(lambda self: self.handles)
    @rule(number=which, changes=edits, place=places, user=users, expected=st.sampled_from("0hvc-"))
    def put_elsewhere(
        self, number: int, changes: list[Edit], place: Place, user: User, expected: str
    ) -> None:
        """A state in hand goes to any place: a fork where it has not been; with every kind of `expected_version`."""
        handle = self.handles[number % len(self.handles)]
        for change in changes:
            edit(handle.state, change)
        space = self.world.space(place, None)
        version = {"0": 0, "h": space.head, "v": 1 + number % 5}.get(expected)
        if expected == "c" and space.versions:
            there = sorted(space.versions)[number % len(space.versions)]
            config = config_of(place, None, version=there, state_class=dict)
            checkpoint = self.read("aget_checkpoint", config)
            self._put(handle, place, user, expected=(checkpoint, space.versions[there]))
            return
        self._put(handle, place, user, expected=None if version is None else (version, version))

    @rule(place=places, user=users, state=memos, changes=edits, more=edits, name=names)
    def turn(
        self,
        place: Place,
        user: User,
        state: Memo,
        changes: list[Edit],
        more: list[Edit],
        name: str | None,
    ) -> None:
        """As an agent does it: the state is loaded, or begun, and put twice, changed in place before each put."""
        handle = self._loaded(place, user, None) or Handle(copy.deepcopy(state))
        for round_ in (changes, more):
            for change in round_:
                edit(handle.state, change)
            self._put(handle, place, user, name=name)
        self.hold(handle)

    @rule(source=places, place=places, user=users, changes=edits)
    def fork(self, source: Place, place: Place, user: User, changes: list[Edit]) -> None:
        """A state is loaded and put to another place: the two share nothing from there on."""
        handle = self._loaded(source, user, None)
        if handle is not None:
            self._put(handle, place, user)
            for change in changes:
                edit(handle.state, change)
            self.hold(handle)

    @rule(place=places, user=users, number=which, changes=edits)
    def roll_back(self, place: Place, user: User, number: int, changes: list[Edit]) -> None:
        """An earlier version is put on top of the head."""
        space = self.world.space(place, user)
        if space.versions:
            wanted = sorted(space.versions)[number % len(space.versions)]
            handle = self._loaded(place, user, wanted)
            if handle is not None:
                for change in changes:
                    edit(handle.state, change)
                self._put(handle, place, user, expected=(space.head, space.head))
                self.hold(handle)

    def _loaded(self, place: Place, user: User, wanted: int | None) -> Handle | None:
        space = self.world.space(place, user)
        version = space.versions.get(wanted or space.head)
        if version is None or version.state is None:
            return None
        past = {} if wanted is None else {"version": wanted}
        config = config_of(place, user, state_class=version.kind, **past)
        handle = Handle(self.read("aget_state", config))
        agree(f"state of {config}", handle.state, version.state)
        handle.moved(place, version.life, version.version)
        return handle

    def _put(
        self,
        handle: Handle,
        place: Place,
        user: User,
        *,
        expected: tuple[Any, int | Version] | None = None,
        **said: Any,
    ) -> None:
        real, model = expected or (None, None)
        answers = self.write(
            "aput_state",
            config_of(place, user),
            lambda: self.world.put(place, user, handle, expected=model, **said),
            handle.state,
            handle=handle,
            expected_version=real,
            **said,
        )
        if answers:
            agree_on_checkpoint(*answers)

    @rule(
        place=places,
        user=users,
        items=contexts,
        plain=plain_items,
        fresh=st.sampled_from([AgentState, Memo, dict]),
    )
    def append(
        self, place: Place, user: User, items: list[Message], plain: list[Any], fresh: type
    ) -> None:
        """The context of the head grows."""
        space = self.world.space(place, user)
        head = space.versions.get(space.head)
        kind = fresh if head is None or head.state is None else head.kind
        new: list[Any] = plain if kind is dict else items
        answers = self.write(
            "aappend",
            config_of(place, user, state_class=kind),
            lambda: self.world.append(place, user, new, kind, "grown"),
            new,
            name="grown",
        )
        if answers:
            agree_on_checkpoint(*answers)

    @rule(place=places, user=users)
    def clear(self, place: Place, user: User) -> None:
        """The head says that there is no state."""
        space = self.world.space(place, user)
        if space.head and space.versions[space.head].state is None:
            assert self.read("aget_state", config_of(place, user)) is None
            return
        answers = self.write(
            "aclear_state", config_of(place, user), lambda: self.world.clear(place, user)
        )
        if answers:
            agree_on_checkpoint(*answers)

    @rule(
        place=places,
        user=users,
        number=which,
        how=st.sampled_from(["head", "version", "id", "name"]),
    )
    def load(self, place: Place, user: User, number: int, how: str) -> None:
        """A version is read, as it was put, and stays in hand."""
        space = self.world.space(place, user)
        version = space.versions.get(space.head)
        past: dict[str, Any] = {}
        if how == "name":
            named = [each for each in space.versions.values() if each.name == "checked"]
            version, past = (named[-1] if named else None), {"name": "checked"}
        elif how != "head":
            wanted = 1 + number % (max(space.versions, default=1) + 1)
            version = space.versions.get(wanted)
            past = {"version": wanted} if how == "version" else {"checkpoint_id": str(wanted)}
        kind = version.kind if version and version.state is not None else AgentState
        config = config_of(place, user, state_class=kind, **past)
        checkpoint, state = self.read("aget_checkpoint", config), self.read("aget_state", config)
        agree_on_checkpoint(checkpoint, version)
        agree(f"state of {config}", state, version.state if version else None)
        if version is None or state is None:
            return
        agree(f"checkpoint's state of {config}", checkpoint.state, version.state)
        handle = Handle(state)
        handle.moved(place, version.life, version.version)
        self.hold(handle)
