"""States and messages, field by field: to JSON bytes and back into the class that the caller names.

What is written is read back before it is stored (`Shape.encode`): bytes that would not come back equal, classes
and types included, are refused with the field's name. Stored bytes never name a class.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import (
    BaseModel,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from threadline.codec.values import decode, encode, encode_typed, model_fields
from threadline.errors import NotStorableError
from threadline.model.carry import StateDict
from threadline.model.message import Message
from threadline.model.state import AgentState

#: How a state was put, as the head says it: enough to refuse reading it as something that would lose fields.
AGENT, MODEL, DATACLASS, DICT, VALUE, NONE = "agent", "model", "dataclass", "dict", "value", "none"

#: How many kinds of items are remembered to have come back equal, for each list field.
MOST_PROVEN = 1000


class Shape:
    """How the objects of one class are taken apart and put together."""

    def __init__(self, kind: type) -> None:
        self.kind: Any = kind
        if issubclass(kind, BaseModel):
            self.name = AGENT if issubclass(kind, AgentState) else MODEL
            self.fields = {name: info.rebuild_annotation() for name, info in _built(kind).items()}
        elif dataclasses.is_dataclass(kind):
            self.name = DATACLASS
            hints = typing.get_type_hints(kind, include_extras=True)
            self.fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
        elif issubclass(kind, dict):
            self.name, self.fields = DICT, {}
        else:
            raise TypeError(
                f"a state is an AgentState, another pydantic model, a dataclass or a dict, not a {kind.__name__}"
            )
        self._adapters: dict[str, TypeAdapter[Any] | None] = {}
        self._takes: dict[str, bool] = {}
        #: By list field: what items were made of (their classes, in order) that came back equal.
        self._proven: dict[str, set[tuple[object, ...]]] = {}

    def has(self, field: str) -> bool:
        """Whether an object of this class gives back a field of this name."""
        loose = issubclass(self.kind, BaseModel) and self.kind.model_config.get("extra") == "allow"
        return loose or self.name == DICT or field in self.fields

    def take(self, state: Any) -> dict[str, Any]:
        """The fields of a state with their live values, in order."""
        if self.name == DICT:
            return dict(state)
        if isinstance(state, BaseModel):
            return dict(model_fields(state, whole=True))
        return {name: getattr(state, name) for name in self.fields}

    def encode(self, field: str, value: Any, known: bytes | None = None) -> bytes:
        """The JSON bytes of a field's value, known to come back equal (a plain dict or list with bytes equal
        to `known` was checked when it was first put). Raises NotStorableError, LimitError."""
        if field not in self.fields:
            return _encode_plain(field, value)
        data, met = encode_typed(value)
        if data == known and not met and type(value) in (dict, list):
            return data
        again = self._again(field, decode(data))
        if encode_typed(again) != (data, met):
            raise NotStorableError(
                f"field {field!r} of {self.kind.__name__} holds a value that would not come back equal: it has "
                f"another type than the field's ({self.fields[field]!r}), or the field hides part of it"
            )
        return data

    def encode_items(
        self, field: str, items: Sequence[Any], known: Callable[[bytes], bool] = lambda data: False
    ) -> list[bytes]:
        """The JSON bytes of each item of a list field, known to come back equal. Those whose bytes are `known` are
        not read back again, if items made of the very same classes were."""
        if field not in self.fields:
            return [_encode_plain(field, item) for item in items]
        encoded = [encode_typed(item) for item in items]
        proven = self._proven.setdefault(field, set())
        fresh = [
            (data, met)
            for data, met in encoded
            if not all(isinstance(each, type) for each in met)
            or tuple(met) not in proven
            or not known(data)
        ]
        again = self._again(field, [decode(data) for data, _ in fresh]) if fresh else []
        if not isinstance(again, list) or len(again) != len(fresh):
            raise NotStorableError(
                f"field {field!r} of {self.kind.__name__} does not keep its items"
            )
        for item, wanted in zip(again, fresh, strict=True):
            if encode_typed(item) != wanted:
                raise NotStorableError(
                    f"an item of field {field!r} of {self.kind.__name__} would not come back equal: "
                    f"a value in it has another type than its field's ({wanted[0][:80]!r}...)"
                )
        if len(proven) < MOST_PROVEN:
            proven.update(tuple(met) for _, met in fresh if all(isinstance(e, type) for e in met))
        return [data for data, _ in encoded]

    def build(self, fields: Mapping[str, Any]) -> Any:
        """The state made of decoded fields. Raises ValueError when the class refuses them."""
        if self.name == DICT:
            return StateDict(fields) if self.kind in (dict, StateDict) else self.kind(fields)
        try:
            if issubclass(self.kind, BaseModel):
                return self.kind.model_validate(fields, by_name=True, by_alias=False)
            return _adapter(self.kind).validate_python(fields)
        except ValidationError as error:
            raise ValueError(
                f"the stored state does not fit {self.kind.__name__}: {_first(error)}"
            ) from None

    def takes_messages(self, field: str) -> bool:
        """Whether this class makes the same of a list of messages that are built as of what they are built from."""
        if field not in self._takes:
            self._takes[field] = _takes_messages(self.kind, field)
        return self._takes[field]

    def _again(self, field: str, decoded: Any) -> Any:
        if field not in self._adapters:
            try:
                self._adapters[field] = _adapter(self.fields[field])
            except (PydanticSchemaGenerationError, PydanticUserError):
                self._adapters[field] = None
        adapter = self._adapters[field]
        if adapter is None:
            return decoded
        try:
            return adapter.validate_python(decoded, by_name=True, by_alias=False)
        except ValidationError as error:
            raise NotStorableError(
                f"field {field!r} of {self.kind.__name__} would not come back equal: {_first(error)}"
            ) from None


def _encode_plain(field: str, value: Any) -> bytes:
    try:
        return encode(value)
    except NotStorableError as error:
        raise NotStorableError(f"field {field!r}: {error}") from None


def shape_of(kind: Any) -> Shape:
    """The shape of a state's class. Raises TypeError for what cannot be a state."""
    shape: Shape = _shape(kind)
    return shape


def default_kind(shape: str, fields: Mapping[str, Any]) -> type:
    """The class of a stored state for which the caller named none. Raises TypeError where guessing loses fields."""
    if shape in (DICT, VALUE):
        return dict
    lost = sorted(set(fields) - set(AgentState.model_fields))
    if shape == AGENT and not lost:
        return AgentState
    raise TypeError(
        f"this state was put as a {'subclass of AgentState' if shape == AGENT else shape}"
        + (f" with the fields {', '.join(lost)}" if lost else "")
        + "; name its class: config['state_class'], or state_class= of the checkpointer (dict reads any state)"
    )


def encode_message(message: Message) -> bytes:
    """The JSON bytes of a message, known to come back equal. Raises TypeError, NotStorableError."""
    if not isinstance(message, Message):
        raise TypeError(f"messages must be Message objects, not {type(message).__name__}")
    data, met = encode_typed(message)
    if encode_typed(type(message).model_validate(decode(data))) != (data, met):
        raise NotStorableError(
            f"message {message.message_id!r} would not come back equal: a value in it has another type than its "
            "field's, or is an object in a place for plain values"
        )
    return data


def decode_message(data: bytes) -> Message:
    """The message of some JSON bytes."""
    return Message.model_validate(decode(data))


def decode_messages(data: Iterable[bytes]) -> list[Message]:
    """The messages of some JSON bytes each; cheaper than one by one."""
    messages: list[Message] = _adapter(list[Message]).validate_python([decode(e) for e in data])
    return messages


def build_messages(values: Sequence[Any]) -> list[Message]:
    """The messages of a state's list, from their decoded values. Raises ValueError."""
    messages: list[Message] = _adapter(list[Message]).validate_python(
        values, by_name=True, by_alias=False
    )
    return messages


def _built(kind: type[BaseModel]) -> Mapping[str, Any]:
    if not kind.__pydantic_complete__:
        kind.model_rebuild()
    return kind.model_fields


def _takes_messages(kind: type, field: str) -> bool:
    """Whether nothing of this class looks at the items of a list field before pydantic has made messages of them."""
    if not issubclass(kind, BaseModel) or field not in kind.model_fields:
        return False
    info, config, rules = kind.model_fields[field], kind.model_config, kind.__pydantic_decorators__
    looked_at = [
        *(each.info.fields for each in rules.field_validators.values()),
        *(each.info.fields for each in rules.validators.values()),
    ]
    return (
        info.annotation == list[Message]
        and not info.metadata
        and not config.get("strict")
        and config.get("revalidate_instances", "never") == "never"
        and not any(field in fields or "*" in fields for fields in looked_at)
        and not rules.root_validators
        and all(each.info.mode == "after" for each in rules.model_validators.values())
        and not kind.__pydantic_custom_init__
        and not kind.__pydantic_root_model__
        and _inherits(kind, "model_validate")
        and _inherits(kind, "__get_pydantic_core_schema__")
    )


def _inherits(kind: type, name: str) -> bool:
    return getattr(kind, name).__func__ is getattr(BaseModel, name).__func__


@lru_cache(maxsize=512)
def _shape(kind: Any) -> Shape:
    return Shape(kind)


@lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in details["loc"])
    return f"{place}: {details['msg']}" if place else details["msg"]
