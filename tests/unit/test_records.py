"""What is written was read back first: a field's value comes back equal with its class, or is refused by name."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator

from threadline import AgentState, InMemoryCheckpointer, Message
from threadline.codec.records import decode_message, encode_message, shape_of
from threadline.codec.values import decode
from threadline.errors import NotStorableError
from threadline.model import ToolCallBlock, ToolResultBlock
from threadline.testing.strategies import faithful, small_values, values


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Inner(BaseModel):
    number: int = 0
    tags: list[str] = Field(default_factory=list)


class Special(Inner):
    more: str = "more"


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1


class Aliased(BaseModel):
    inner_name: str = Field(default="", alias="outerName")


class Rounding(BaseModel):
    amount: float = 0.0

    @field_validator("amount")
    @classmethod
    def _rounded(cls, value: float) -> float:
        return float(round(value))


class Hidden(BaseModel):
    shown: int = 1
    secret: int = Field(default=0, exclude=True)


class Written(BaseModel):
    at: int = 0

    @field_serializer("at")
    def _as_text(self, value: int) -> str:
        return f"at {value}"


@dataclasses.dataclass
class Point:
    x: int = 0
    y: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Shifted(Point):
    z: int = 1


class Text(str):
    __slots__ = ()


class Record(AgentState):
    colour: Colour | None = None
    level: Level = Level.LOW
    inner: Inner = Field(default_factory=Inner)
    inners: list[Inner] = Field(default_factory=list)
    by_name: dict[str, Inner] = Field(default_factory=dict)
    by_number: dict[int, str] = Field(default_factory=dict)
    either: int | str | None = None
    choice: Literal["a", 1] = "a"
    point: Point = Field(default_factory=Point)
    price: Decimal = Decimal(0)
    where: Path = Path()
    when: datetime | date | None = None
    took: timedelta = timedelta()
    key: UUID | None = None
    pair: tuple[int, str] = (0, "")
    some: set[int] = Field(default_factory=set)
    data: bytes = b""
    number: int = 0
    ratio: float = 0.0
    name: str = ""
    secret: SecretStr = SecretStr("")
    anything: Any = None
    things: list[Any] = Field(default_factory=list)
    open: Open = Field(default_factory=Open)
    aliased: Aliased = Field(default_factory=Aliased)
    rounding: Rounding = Field(default_factory=Rounding)
    hidden: Hidden = Field(default_factory=Hidden)
    written: Written = Field(default_factory=Written)


def put_and_read(field: str, value: Any) -> Any:
    """The field after a put, read by a checkpointer that has seen nothing."""
    checkpointer = InMemoryCheckpointer()
    state = Record()
    setattr(state, field, value)
    checkpointer.put_state({"thread_id": "t"}, state)
    shape = shape_of(Record)
    data = shape.encode(field, value)
    again = shape.build({field: decode(data)})
    read = checkpointer.get_state({"thread_id": "t", "state_class": Record})
    assert faithful(getattr(again, field)) == faithful(getattr(read, field))
    return getattr(read, field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("colour", Colour.BLUE),
        ("level", Level.LOW),
        ("inner", Inner(number=3, tags=["a"])),
        ("inners", [Inner(number=1), Inner()]),
        ("by_name", {"a": Inner(number=1), "$tuple": Inner()}),
        ("by_number", {1: "a", -5: "b"}),
        ("either", 1),
        ("either", "1"),
        ("either", None),
        ("choice", 1),
        ("point", Point(1, [2, 3])),
        ("price", Decimal("1.10")),
        ("where", Path("/tmp/a b")),
        ("when", datetime(2025, 1, 1, tzinfo=UTC)),
        ("when", date(2025, 1, 1)),
        ("when", datetime(2025, 1, 1)),  # noqa: DTZ001 - naive on purpose
        ("took", timedelta(days=-3, microseconds=5)),
        ("key", UUID(int=5)),
        ("pair", (1, "a")),
        ("some", {3, 1, 2}),
        ("data", b"\x00\xff"),
        ("number", 2**70),
        ("ratio", -0.0),
        ("name", "a\x00\ud800"),
        ("anything", {"a": [1, 1.0, True, (1,), {"$set": [1]}]}),
        ("things", [1, (2,), {3}, b"4"]),
        ("things", [{"a": n} for n in range(40)]),
        ("open", Open(a=1, b=[1, 2])),  # type: ignore[call-arg]
        ("aliased", Aliased(outerName="x")),
        ("rounding", Rounding(amount=2.0)),
        ("hidden", Hidden(shown=4)),
        ("written", Written(at=7)),
    ],
)
def test_what_comes_back_equal_is_accepted(field: str, value: Any) -> None:
    assert faithful(put_and_read(field, value)) == faithful(value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        # Another type than the field's, assigned behind pydantic's back.
        ("number", "5"),
        ("number", 5.0),
        ("number", True),
        ("ratio", 1),
        ("name", 5),
        ("name", b"a"),
        ("name", Text("a")),
        ("name", Colour.RED),
        ("colour", "red"),
        ("colour", Level.LOW),
        ("level", 1),
        ("choice", True),
        ("when", "2025-01-01"),
        ("key", "0" * 32),
        ("where", "/tmp"),
        ("price", 1.5),
        ("data", "a"),
        ("data", bytearray(b"a")),
        ("pair", [1, "a"]),
        ("pair", (1, "a", 2)),
        ("some", [1, 2]),
        ("some", frozenset({1})),
        ("by_number", {"1": "a"}),
        ("by_name", OrderedDict(a=Inner())),
        ("inners", (Inner(),)),
        ("inners", [{"number": 1}]),
        ("inner", {"number": 1}),
        # A class that the bytes could not say.
        ("inner", Special(number=1)),
        ("inners", [Inner(), Special()]),
        ("by_name", {"a": Special()}),
        ("point", Shifted(1)),
        ("anything", Inner()),
        ("anything", [Inner()]),
        ("anything", {"deep": [{"x": Point()}]}),
        ("anything", Colour.RED),
        ("anything", Path("a")),
        ("anything", SecretStr("x")),
        ("anything", Message.text_message("x")),
        ("things", [1, Inner()]),
        ("things", deque([1])),
        ("anything", object()),
        # What the class itself hides or changes.
        ("secret", SecretStr("hidden")),
        ("rounding", Rounding.model_construct(amount=1.5)),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_would_not_come_back_equal_is_refused_and_nothing_is_written(
    field: str, value: Any
) -> None:
    checkpointer = InMemoryCheckpointer()
    state = Record()
    checkpointer.put_state({"thread_id": "t"}, state)
    state.__dict__[field] = value
    with pytest.raises(NotStorableError):
        checkpointer.put_state({"thread_id": "t"}, state)
    assert len(checkpointer.list_checkpoints({"thread_id": "t"})) == 1


@pytest.mark.parametrize("base", [False, True])
def test_a_refused_value_in_an_old_item_is_found(base: bool) -> None:
    checkpointer = InMemoryCheckpointer()
    state = Record(inners=[Inner(number=n) for n in range(30)])
    checkpointer.put_state({"thread_id": "t"}, state)
    if base:
        state = checkpointer.get_state({"thread_id": "t", "state_class": Record})
    state.inners[3].number = 3.0  # type: ignore[assignment]
    with pytest.raises(NotStorableError):
        checkpointer.put_state({"thread_id": "t"}, state)
    state.inners[3].number = 3
    state.inners[4] = Special(number=4)
    with pytest.raises(NotStorableError):
        checkpointer.put_state({"thread_id": "t"}, state)


class SameBytes(Inner):
    """What only its class tells from an Inner."""


def test_an_item_of_another_class_with_the_same_bytes_is_refused() -> None:
    checkpointer = InMemoryCheckpointer()
    state = Record(inners=[Inner(number=n) for n in range(3)])
    checkpointer.put_state({"thread_id": "t"}, state)
    state.inners[1] = SameBytes(number=1)
    with pytest.raises(NotStorableError):
        checkpointer.put_state({"thread_id": "t"}, state)


@given(values)
def test_any_value_stands_in_an_untyped_field(value: Any) -> None:
    shape = shape_of(Record)
    data = shape.encode("anything", value)
    assert faithful(shape.build({"anything": decode(data)}).anything) == faithful(value)


@given(small_values)
def test_a_message_comes_back_equal(value: Any) -> None:
    message = Message(
        role="assistant",
        content=[ToolCallBlock(args={"deep": [value]}), ToolResultBlock(output=value)],
        metadata={"value": value},
        raw={"value": [value]},
    )
    assert faithful(decode_message(encode_message(message))) == faithful(message)


@pytest.mark.parametrize("place", ["metadata", "args", "output"])
@pytest.mark.parametrize("value", [Inner(), Point(), Colour.RED, object(), SecretStr("x")])
def test_an_object_in_a_place_for_plain_values_is_refused(place: str, value: Any) -> None:
    call, result = ToolCallBlock(), ToolResultBlock()
    message = Message(role="assistant", content=[call, result])
    if place == "output":
        result.output = value
    else:
        (message.metadata if place == "metadata" else call.args)["x"] = [value]
    with pytest.raises(NotStorableError):
        encode_message(message)


def test_only_messages_are_messages() -> None:
    with pytest.raises(TypeError, match="dict"):
        encode_message({"role": "user"})  # type: ignore[arg-type]


def test_what_is_no_state_is_refused() -> None:
    for value in (1, "x", [1], None, (1,)):
        with pytest.raises(TypeError):
            InMemoryCheckpointer().put_state({"thread_id": "t"}, value)
