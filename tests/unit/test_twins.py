"""Messages that are copied from a mould are those that are built from the stored bytes, and nobody else's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from threadline import AgentState, Message
from threadline.backends.memory import MemoryBackend
from threadline.caches.local import LocalCache
from threadline.checkpointer import BaseCheckpointer, snapshot
from threadline.checkpointer.copies import Place
from threadline.checkpointer.snapshot import Snapshot, Warm
from threadline.codec import twins
from threadline.codec.records import shape_of
from threadline.codec.twins import COPIES, Mould
from threadline.config import read_config
from threadline.model import (
    AnnotationBlock,
    AnnotationRef,
    DataBlock,
    ErrorBlock,
    ImageBlock,
    MediaRef,
    ReasoningBlock,
    TextBlock,
    TokenUsages,
    ToolCallBlock,
    ToolResultBlock,
    VideoBlock,
)
from threadline.testing.strategies import faithful, objects, sentences, small_values

CONFIG = {"thread_id": "t"}
Messages = list[Message]

media = st.builds(MediaRef, url=sentences, width=st.none() | st.integers(0, 9))
sources = st.lists(st.builds(AnnotationRef, title=sentences, extra=st.none() | objects), max_size=2)
extra = st.none() | objects
blocks = st.one_of(
    st.builds(TextBlock, text=sentences),
    st.builds(TextBlock, text=sentences, annotations=sources, extra=extra),
    st.builds(ToolCallBlock, id=sentences, name=sentences, args=objects),
    st.builds(ToolResultBlock, call_id=sentences, output=small_values, is_error=st.booleans()),
    st.builds(ImageBlock, media=media, bbox=st.none() | st.lists(st.just(0.5), max_size=2)),
    st.builds(VideoBlock, media=media, thumbnail=st.none() | media, extra=extra),
    st.builds(DataBlock, media=st.none() | media, data_base64=st.none() | sentences),
    st.builds(ReasoningBlock, details=st.none() | st.lists(small_values, max_size=2)),
    st.builds(AnnotationBlock, refs=sources, spans=st.lists(st.just((0, 1)), max_size=2)),
    st.builds(ErrorBlock, message=sentences, data=extra),
)
usages = st.builds(
    TokenUsages, completion_tokens=st.just(1), prompt_tokens=st.just(2), total_tokens=st.just(3)
)
messages = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["user", "assistant", "tool"]),
        content=st.lists(blocks, max_size=3),
        given_tools_calls=st.none() | st.lists(objects, max_size=2),
        metadata=objects,
        usages=st.none() | usages,
        raw=extra,
        timestamp=st.none() | st.just(1.5),
    ),
    max_size=4,
)


class Checked(AgentState):
    """Looks at what was made, and at another field before it is."""

    topic: str = ""
    seen: int = 0
    _asked: int = PrivateAttr(default=0)

    @field_validator("topic", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> str:
        return str(value)

    @model_validator(mode="after")
    def _counted(self) -> Self:
        self.seen = len(self.context)
        return self


class Renamed(AgentState):
    model_config = ConfigDict(extra="allow")
    topic: str = Field(default="", alias="theTopic")


class Plain(BaseModel):
    said: list[Message] = Field(default_factory=list)


class Before(AgentState):
    @field_validator("context", mode="before")
    @classmethod
    def _dicts_alone(cls, value: Any) -> Any:
        assert not value or isinstance(value[0], dict | Message)
        return [each for each in value if isinstance(each, dict) or each.role != "tool"]


class All(AgentState):
    @field_validator("*")
    @classmethod
    def _any(cls, value: Any) -> Any:
        return value


class Whole(AgentState):
    @model_validator(mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return value


class Strict(AgentState):
    model_config = ConfigDict(strict=True)


class Again(AgentState):
    model_config = ConfigDict(revalidate_instances="always")


class Made(AgentState):
    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)


class Short(AgentState):
    context: list[Message] = Field(default_factory=list, max_length=1000)


class Own(Message):
    mood: str = ""


class Other(AgentState):
    context: list[Own] = Field(default_factory=list)  # type: ignore[assignment]


class Loading(AgentState):
    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        return super().model_validate(obj, **how)


def mutables(value: Any) -> Iterator[Any]:
    """Every mutable object that a value is made of."""
    if isinstance(value, BaseModel):
        yield from (value, value.__pydantic_fields_set__)
        value = value.__dict__
    if isinstance(value, dict | list | set | tuple):
        if not isinstance(value, tuple):
            yield value
        inside = value.values() if isinstance(value, dict) else value
        for each in inside:
            yield from mutables(each)


def told(state: Any) -> Any:
    """A state with all that pydantic knows of it."""
    sets = [
        sorted(each.__pydantic_fields_set__)
        for each in mutables(state)
        if isinstance(each, BaseModel)
    ]
    orders = [list(each.__dict__) for each in mutables(state) if isinstance(each, BaseModel)]
    return faithful(state), sets, orders


def check_copies(made: Messages) -> None:
    """What a mould of these gives is equal to them, and shares nothing that can be changed with anybody."""
    mould = Mould().grown(made[:2]).grown(made[2:])
    before = told(made)
    first, second = mould.make(), mould.make()
    assert told(first) == told(second) == before
    for each in made + first:
        spoil(each)
    assert told(second) == told(mould.make()) == before
    assert disjoint(made, first, second, mould.make())


def disjoint(*values: Any) -> bool:
    """Whether these have nothing mutable in common."""
    ids = [{id(each) for each in mutables(value)} for value in values]
    return len(set().union(*ids)) == sum(map(len, ids))


def spoil(message: Message) -> None:
    """Change whatever can be changed."""
    for each in list(mutables(message)):
        if isinstance(each, dict):
            each["spoilt"] = True
        elif isinstance(each, list):
            each.append("spoilt")
        elif isinstance(each, set):
            each.add("spoilt")


def read(checkpointer: BaseCheckpointer, kind: type) -> Any:
    return checkpointer.get_state({**CONFIG, "state_class": kind})


@given(messages)
def test_copies_are_equal_and_nobody_elses(made: Messages) -> None:
    assert COPIES
    check_copies(made)


MUTANTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "values": ("_copied", lambda value: value),
    "sets": ("_shared", lambda names: {"role"}),
    "extra": ("_run", lambda steps: None),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mould_that_does_it_wrong_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Message(role="user", content=[TextBlock(text="a")], metadata={"a": {"b": [1]}})]
    check_copies([each.model_copy(deep=True) for each in made])
    monkeypatch.setattr(twins, *MUTANTS[name])
    with pytest.raises((AssertionError, AttributeError)):
        check_copies(made)


@pytest.mark.parametrize(
    ("kind", "field", "takes"),
    [
        (AgentState, "context", True),
        (AgentState, "context_summary", False),
        (AgentState, "no_such", False),
        (Checked, "context", True),
        (Renamed, "context", True),
        (Plain, "said", True),
        *((kind, "context", False) for kind in (Before, All, Whole, Strict, Again)),
        *((kind, "context", False) for kind in (Made, Short, Other, Loading)),
    ],
)
def test_which_classes_take_messages_that_are_made(kind: type, field: str, takes: bool) -> None:
    assert shape_of(kind).takes_messages(field) is takes


@pytest.mark.parametrize(
    "kind", [AgentState, Checked, Renamed, Before, All, Whole, Strict, Again, Made, Short, Loading]
)
@settings(max_examples=12)
@given(st.lists(messages, min_size=1, max_size=4))
def test_a_warm_read_is_a_cold_read(kind: type, turns: Sequence[Messages]) -> None:
    backend = MemoryBackend()
    warm, cold = BaseCheckpointer(backend, LocalCache()), BaseCheckpointer(backend, None)
    warm.put_state(CONFIG, kind())
    for turn in turns:
        warm.append({**CONFIG, "state_class": kind}, turn)
        expected = told(read(cold, kind))
        read(warm, kind)
        found = [read(warm, kind) for _ in range(3)]
        assert [told(each) for each in found] == [expected] * 3
        assert disjoint(*found)
        for message in found[0].context:
            spoil(message)
        assert told(read(warm, kind)) == expected


@given(messages, messages, st.data())
def test_edits_put_through_a_warm_reader_are_read(
    first: Messages, second: Messages, draw: st.DataObject
) -> None:
    backend = MemoryBackend()
    warm, cold = BaseCheckpointer(backend, LocalCache()), BaseCheckpointer(backend, None)
    warm.put_state(CONFIG, AgentState(context=first))
    for _ in range(3):
        state = read(warm, AgentState)
        context = state.context
        match draw.draw(st.sampled_from(["append", "drop", "edit", "insert", "nothing"])):
            case "append":
                context += second
            case "drop":
                del context[:1]
            case "edit" if context:
                context[-1].metadata["edited"] = [len(context)]
            case "insert":
                context[:0] = [Message.text_message("first")]
        warm.put_state(CONFIG, state)
        assert told(read(warm, AgentState)) == told(read(cold, AgentState))
        assert told(read(warm, AgentState)) == told(read(cold, AgentState))


def snapshot_of(checkpointer: BaseCheckpointer) -> Snapshot:
    kept = checkpointer._engine.copies._local._kept  # type: ignore[union-attr]
    ((cached, size),) = kept.values()
    assert size == cached.content.size
    return cached.content  # type: ignore[no-any-return]


def test_a_mould_is_made_at_the_second_read_and_counts_as_memory() -> None:
    checkpointer = BaseCheckpointer(MemoryBackend(), LocalCache())
    state = AgentState(context=[Message.text_message("a" * 100) for _ in range(10)])
    checkpointer.put_state(CONFIG, state)
    read(checkpointer, AgentState)
    small = snapshot_of(checkpointer).size
    read(checkpointer, AgentState)
    warm = snapshot_of(checkpointer)
    assert warm.size > small + 10 * 600
    state.context.append(Message.text_message("b"))
    checkpointer.put_state(CONFIG, state)
    later = snapshot_of(checkpointer)
    assert later is not warm
    assert later.warm.kept == warm.warm.kept


async def test_a_read_brings_nothing_back_that_was_dropped_meanwhile() -> None:
    checkpointer = BaseCheckpointer(MemoryBackend(), LocalCache())
    await checkpointer.aput_state(CONFIG, AgentState(context=[Message.text_message("a")]))
    reads, copies = checkpointer._reads, checkpointer._engine.copies
    address = read_config(CONFIG)
    key = await checkpointer._engine.key(address)
    place = Place(key, address.ns_key, address.thread_id)
    held = await reads.snapshot(address, key)
    assert held is not None
    await copies.grew(place, held)
    assert (await copies.near(place)).snapshot is held
    await copies.drop(key, address.ns_key)
    await copies.grew(place, held)
    assert (await copies.near(place)).snapshot is None


def test_no_mould_is_made_where_it_would_cost_the_cache_the_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpointer = BaseCheckpointer(MemoryBackend(), LocalCache())
    state = AgentState(context=[Message.text_message("a" * 100) for _ in range(10)])
    checkpointer.put_state(CONFIG, state)
    expected = told(read(checkpointer, AgentState))
    monkeypatch.setattr(snapshot, "MOULD_BYTES", 10 * (2 * 600 + 100))
    assert [told(read(checkpointer, AgentState)) for _ in range(3)] == [expected] * 3
    assert not snapshot_of(checkpointer).warm.kept
    monkeypatch.undo()
    assert [told(read(checkpointer, AgentState)) for _ in range(3)] == [expected] * 3
    assert snapshot_of(checkpointer).warm.kept


def test_what_was_taken_away_is_in_no_mould() -> None:
    checkpointer = BaseCheckpointer(MemoryBackend(), LocalCache())
    secret = Message.text_message("secret")
    checkpointer.put_state(CONFIG, AgentState(context=[secret, Message.text_message("open")]))
    for _ in range(3):
        read(checkpointer, AgentState)
    assert "secret" in repr(snapshot_of(checkpointer).warm.kept)
    checkpointer.redact(CONFIG, secret.message_id)
    state = read(checkpointer, AgentState)
    assert [each.text() for each in state.context] == ["", "open"]
    assert "secret" not in repr(snapshot_of(checkpointer).warm.kept)


def test_another_life_or_what_was_freed_is_not_followed() -> None:
    checkpointer = BaseCheckpointer(MemoryBackend(), LocalCache())
    checkpointer.put_state(CONFIG, AgentState(context=[Message.text_message("a")]))
    for _ in range(2):
        read(checkpointer, AgentState)
    warm = snapshot_of(checkpointer)
    for changed, follows in (
        ({"last_version": 7}, True),
        ({"gc": warm.gc + 1}, False),
        ({"incarnation": b"another"}, False),
    ):
        other = dataclasses.replace(warm, **changed, warm=Warm())
        other.follows(warm)
        assert bool(other.warm.kept) is bool(other.warm.reads) is follows
