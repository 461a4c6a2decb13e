"""Python values to JSON bytes and back, with their types.

JSON's own types are written as they are. Everything else that can come back equal is written as an object
with one key that begins with "$" (`{"$tuple": [...]}`), from the closed table below; a caller's dict that
looks like one is escaped as `{"$dict": [[key, value], ...]}`, so nothing a user stores is ever mistaken for a
tag. What cannot come back equal raises `NotStorableError` before anything is written. Stored bytes never
choose a class: tags name plain values only, and models come back through the class that the caller names.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from threadline.errors import CorruptionError, LimitError, NotStorableError, ThreadlineError

#: Deepest nesting of a stored value, in levels.
MAX_DEPTH = 100
#: Largest encoded value, in bytes, before compression.
MAX_BYTES = 64 * 1024 * 1024

_INT_MIN, _INT_MAX = -(2**63), 2**64
_MODELS = type(BaseModel)


def encode(value: object) -> bytes:
    """The JSON bytes of a plain value. Raises NotStorableError, which says where in the value, LimitError."""
    try:
        return _dump(value, None)
    except NotStorableError as error:
        if where := _place(value):
            raise NotStorableError(f"at {where}: {error}") from None
        raise


def _place(value: object) -> str:
    """Where in a value the first part stands that cannot be stored; looked for again, only when there is one."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, part in parts:
        try:
            _mark(part, None, False, 0)
        except NotStorableError:
            return f"[{key!r:.60}]{_place(part)}"
    return ""


def encode_typed(value: object) -> tuple[bytes, list[object]]:
    """The JSON bytes of a value that may hold models and dataclasses, and what was met on the way.

    The second part lists the class of every model and the value of every leaf that JSON does not know, in
    order: two values with equal bytes and equal lists are equal, classes included.
    """
    met: list[object] = []
    return _dump(value, met), met


def decode(data: bytes) -> Any:
    """The value of bytes made by `encode`. Raises CorruptionError."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptionError(f"stored bytes are not JSON: {error}") from None
    try:
        # Compact JSON has no space, and a quote inside a text is escaped: these bytes begin an object's first key.
        return _unmark(value) if b'{"$' in data else value
    except RecursionError:
        raise CorruptionError("stored bytes are nested too deeply to be read") from None


def decode_items(data: bytes) -> list[Any]:
    """The values of a row of items: JSON texts with commas between them. Raises CorruptionError."""
    values: list[Any] = decode(b"[" + data + b"]")
    return values


def _dump(value: object, met: list[object] | None) -> bytes:
    try:
        data = orjson.dumps(_mark(value, met, False, 0))
    except ThreadlineError:
        raise
    except (orjson.JSONEncodeError, RecursionError) as error:
        if met is not None:
            met.clear()
        try:  # Once more, looking at each text: lone surrogates are rare, and looking for them is not free.
            data = orjson.dumps(_mark(value, met, True, 0))
        except ThreadlineError:
            raise
        except (orjson.JSONEncodeError, RecursionError):
            raise LimitError(f"the value is nested too deeply to be stored ({error})") from None
    if len(data) > MAX_BYTES:
        raise LimitError(
            f"the value has {len(data)} bytes; at most {MAX_BYTES} are stored in one piece"
        )
    return data


def _mark(value: Any, met: list[object] | None, careful: bool, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return value if not careful else _mark_text(value)
    if value is None or kind is bool:
        return value
    if type(kind) is _MODELS and met is not None and depth <= MAX_DEPTH:
        return _mark_model(value, kind, met, careful, depth)
    if kind is int:
        return value if _INT_MIN <= value < _INT_MAX else _mark_int(value)
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if depth > MAX_DEPTH:
        raise LimitError(f"the value is nested more than {MAX_DEPTH} levels deep")
    if kind is dict:
        return _mark_dict(value, met, careful, depth)
    if kind is list:
        return [_mark(item, met, careful, depth + 1) for item in value]
    if kind is tuple:
        return {"$tuple": [_mark(item, met, careful, depth + 1) for item in value]}
    if kind in (set, frozenset):
        marked = [_mark(item, met, careful, depth + 1) for item in value]
        return {"$set" if kind is set else "$frozenset": sorted(marked, key=orjson.dumps)}
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value)
    if isinstance(value, dict) and getattr(kind, "is_state_dict", False):
        return _mark_dict(dict(value), met, careful, depth)
    if met is not None:
        return _mark_typed(value, kind, met, careful, depth)
    raise NotStorableError(
        f"a {kind.__module__}.{kind.__qualname__} in a plain value cannot be stored so that it comes back "
        "equal; use its plain value (a state may be a pydantic model or a dataclass with a field of that type)"
    )


def _mark_int(value: int) -> dict[str, str]:
    try:
        return {"$int": str(value)}
    except ValueError:  # More digits than Python itself writes and reads: quadratic time.
        raise LimitError("an integer of more than 4,300 digits cannot be stored") from None


def _mark_text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$str": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _mark_dict(value: dict[Any, Any], met: list[object] | None, careful: bool, depth: int) -> Any:
    plain = all(type(key) is str for key in value)
    if plain and len(value) == 1:
        plain = not next(iter(value)).startswith("$")
    if plain and careful:
        plain = all(_mark_text(key) is key for key in value)
    if plain:
        return {key: _mark(item, met, careful, depth + 1) for key, item in value.items()}
    pairs = [
        [_mark(key, met, careful, depth + 1), _mark(item, met, careful, depth + 1)]
        for key, item in value.items()
    ]
    return {"$dict": pairs}


def _mark_typed(value: Any, kind: type, met: list[object], careful: bool, depth: int) -> Any:
    if isinstance(value, BaseModel):
        return _mark_model(value, kind, met, careful, depth)
    met.append(kind)
    if dataclasses.is_dataclass(value):
        pairs = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _mark_dict(pairs, met, careful, depth)
    met.append(value)
    try:
        return _mark(to_jsonable_python(value), None, careful, depth + 1)
    except (PydanticSerializationError, ValueError, TypeError):
        raise NotStorableError(
            f"a {kind.__module__}.{kind.__qualname__} cannot be stored so that it comes back equal"
        ) from None


def _mark_model(
    model: BaseModel, kind: type[BaseModel], met: list[object], careful: bool, depth: int
) -> Any:
    met.append(kind)
    if careful or model.__pydantic_extra__:
        return _mark_dict(dict(model_fields(model)), met, careful, depth)
    # The same for a model without extras: names of fields need no look.
    empties, excluded = _field_rules(kind)
    marked = {}
    for name, value in model.__dict__.items():
        its = type(value)
        if name in excluded or (empties.get(name) is its and not value):
            continue
        plain = its is str or value is None or its is bool
        marked[name] = value if plain else _mark(value, met, False, depth + 1)
    return marked


def model_fields(model: BaseModel, *, whole: bool = False) -> Iterator[tuple[str, Any]]:
    """The stored fields of a model with their values: all but excluded and private ones, extras included.

    A class that says `omit_empty` leaves out (unless `whole`) what equals its own empty default, which never
    changes.
    """
    empties, excluded = _field_rules(type(model))
    for name, value in model.__dict__.items():
        if name in excluded:
            continue
        if not whole and name in empties and (not value) and type(value) is empties[name]:
            continue
        yield name, value
    if model.__pydantic_extra__:
        yield from model.__pydantic_extra__.items()


@lru_cache(maxsize=1024)
def _field_rules(kind: type[BaseModel]) -> tuple[dict[str, type], frozenset[str]]:
    fields = kind.model_fields
    # `__dict__` may also hold cached properties; they are not part of the record.
    excluded = frozenset(name for name, field in fields.items() if field.exclude)
    excluded |= frozenset(name for name in vars(kind) if name not in fields)
    empties: dict[str, type] = {}
    if getattr(kind, "omit_empty", False):
        for name, field in fields.items():
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            if (
                not field.is_required()
                and type(default) in (type(None), bool, list, dict)
                and not default
            ):
                empties[name] = type(default)
    return empties, excluded


def _unmark(value: Any) -> Any:
    if type(value) is list:
        return [_unmark(item) for item in value]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        (tag, content) = next(iter(value.items()))
        if tag.startswith("$"):
            reader = _READERS.get(tag)
            if reader is None:
                raise CorruptionError(f"stored bytes hold the unknown tag {tag!r}")
            try:
                return reader(content)
            except CorruptionError:
                raise
            except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
                raise CorruptionError(f"stored bytes hold a damaged {tag!r}: {error}") from None
    return {key: _unmark(item) for key, item in value.items()}


def _write_datetime(value: datetime) -> dict[str, Any]:
    # A named zone is stored as its offset at that moment: the same instant, and equal, but for an hour that a
    # clock change repeats or leaves out: there, no time of another zone is equal to it (PEP 495).
    if value.tzinfo is not None and datetime.fromisoformat(value.isoformat()) != value:
        raise NotStorableError(
            f"{value!r} is equal to no time in another zone; store it in UTC: .astimezone(UTC)"
        )
    return {"$datetime": [value.isoformat(), value.fold] if value.fold else value.isoformat()}


def _read_datetime(content: Any) -> datetime:
    if isinstance(content, list):
        return datetime.fromisoformat(content[0]).replace(fold=content[1])
    return datetime.fromisoformat(content)


def _write_time(value: time) -> dict[str, Any]:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise NotStorableError(f"{value!r} would lose its zone, which has no offset without a date")
    return {"$time": [value.isoformat(), value.fold] if value.fold else value.isoformat()}


def _read_time(content: Any) -> time:
    if isinstance(content, list):
        return time.fromisoformat(content[0]).replace(fold=content[1])
    return time.fromisoformat(content)


def _write_timedelta(value: timedelta) -> dict[str, Any]:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


_WRITERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
    datetime: _write_datetime,
    date: lambda value: {"$date": value.isoformat()},
    time: _write_time,
    timedelta: _write_timedelta,
    UUID: lambda value: {"$uuid": value.hex},
    Decimal: lambda value: {"$decimal": str(value)},
    complex: lambda value: {"$complex": [repr(value.real), repr(value.imag)]},
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "$dict": lambda content: {_unmark(key): _unmark(item) for key, item in content},
    "$tuple": lambda content: tuple(_unmark(item) for item in content),
    "$set": lambda content: {_unmark(item) for item in content},
    "$frozenset": lambda content: frozenset(_unmark(item) for item in content),
    "$int": lambda content: _read_int(content),
    "$float": lambda content: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content],
    "$str": lambda content: base64.b64decode(content, validate=True).decode(
        "utf-8", "surrogatepass"
    ),
    "$bytes": lambda content: base64.b64decode(content, validate=True),
    "$datetime": _read_datetime,
    "$date": date.fromisoformat,
    "$time": _read_time,
    "$timedelta": lambda content: timedelta(*content),
    "$uuid": lambda content: UUID(hex=content),
    "$decimal": lambda content: Decimal(content),
    "$complex": lambda content: complex(float(content[0]), float(content[1])),
}


def _read_int(content: str) -> int:
    if len(content) > 4300:  # The length that Python itself refuses to parse: quadratic time.
        raise CorruptionError("stored bytes hold an integer of more than 4,300 digits")
    return int(content)
