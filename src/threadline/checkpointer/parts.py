"""Whether each part of a batch is what its class says: types, the room of numbers, the length of keys. Pure.

The checks of a class are made once, from its annotations, so that a new field is checked as well.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Callable
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from threadline.errors import NotStorableError

Check = Callable[[Any], None]
_NONE: Final = object()

#: What numbers may be, where it is not 0 to 2**63 - 1: what every store has room for, and what counts from 1.
_LONG, _INT, _SHORT = 2**63 - 1, 2**31 - 1, 2**15 - 1
_BOUNDS: Final = {
    **dict.fromkeys(("key_id", "bytes", "log", "start", "end"), (0, _INT)),
    "Row.count": (1, _INT),
    "Row.kind": (0, _SHORT),
    "CheckpointRow.version": (1, _LONG),
    # No head has it: such a batch is only answered, where its `op_id` was committed before.
    **dict.fromkeys(("Expected.version", "Batch.last_version"), (-1, _LONG)),
    **dict.fromkeys(("terms", "checkpoint_terms"), (-_LONG - 1, _LONG)),
    "ttl": (0, _LONG // 2),  # Added to the time of the commit.
}
#: How long names made of bytes are.
_LENGTHS: Final = {
    **dict.fromkeys(("Batch.key", "Batch.op_id", "CopyFrom.key", "Blob.id", "blob_refs"), 16),
    **dict.fromkeys(("Batch.ns", "CopyFrom.ns"), 8),
}


def check_parts(part: Any) -> None:
    """Raise TypeError for a field that is of another type than its class says, NotStorableError for a number or a key
    that not every store can hold, ValueError for a word that is none of those there are."""
    kind: Any = type(part)
    values, checks = _plan(kind)
    for value, (default, plain, check) in zip(values(part), checks, strict=True):
        if value is not default and type(value) is not plain:
            check(value)


@functools.cache
def _plan(
    kind: type,
) -> tuple[Callable[[Any], tuple[Any, ...]], list[tuple[object, object, Check]]]:
    """How the fields of a class are read; and the check of each, behind a value and a type that need none."""
    # In its own namespace a field may have the name of a type.
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]), {})
    fields = getattr(kind, "__dataclass_fields__", {})
    checks = [
        (
            getattr(fields.get(name), "default", _NONE),
            _plain(hint, kind.__name__, name),
            _check_of(hint, kind.__name__, name),
        )
        for name, hint in hints.items()
    ]
    return operator.attrgetter(*hints), checks


def _plain(hint: Any, owner: str, name: str) -> object:
    """The type of which every value will do; one that no value has where there is none."""
    if isinstance(hint, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
    bounded = f"{owner}.{name}" in _LENGTHS or name in _LENGTHS
    return hint if hint in (str, bool) or (hint is bytes and not bounded) else _NONE


def _check_of(hint: Any, owner: str, name: str) -> Check:
    what, origin, inner = f"{owner}.{name}", get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        (one,) = (_check_of(each, owner, name) for each in inner if each is not types.NoneType)
        return lambda value: None if value is None else one(value)
    if origin is Literal:
        return lambda value: _is_one_of(value, what, inner)
    if origin is tuple:
        checks = [_check_of(each, owner, name) for each in inner if each is not Ellipsis]
        if Ellipsis in inner:
            return lambda value: _are_all(value, what, *checks)
        return lambda value: _is_tuple(value, what, checks)
    if hint is int:
        least, most = _BOUNDS.get(what) or _BOUNDS.get(name) or (0, _LONG)
        return lambda value: _is_number(value, what, least, most)
    if hint is bytes:
        length = _LENGTHS.get(what) or _LENGTHS.get(name)
        return lambda value: _is_bytes(value, what, length)
    if hint in (str, bool):
        return lambda value: _is_a(value, what, hint)
    return lambda value: _is_part(value, what, hint)


def _is_a(value: Any, what: str, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, not {type(value).__name__}")


def _is_part(value: Any, what: str, kind: type) -> None:
    _is_a(value, what, kind)
    check_parts(value)


def _is_one_of(value: Any, what: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{what} is one of {', '.join(words)}, not {value!r}")


def _is_number(value: Any, what: str, least: int, most: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise NotStorableError(f"{what} is {value}: it can be {least} to {most}")


def _is_bytes(value: Any, what: str, length: int | None) -> None:
    if not isinstance(value, bytes):
        raise TypeError(f"{what} must be bytes, not {type(value).__name__}")
    if length is not None and len(value) != length:
        raise NotStorableError(f"{what} is {len(value)} bytes long: it has {length}")


def _are_all(value: Any, what: str, check: Check) -> None:
    _is_a_tuple(value, what)
    for each in value:
        check(each)


def _is_tuple(value: Any, what: str, checks: list[Check]) -> None:
    _is_a_tuple(value, what)
    if len(value) != len(checks):
        raise ValueError(f"{what} has {len(value)} values where {len(checks)} belong")
    for each, check in zip(value, checks, strict=True):
        check(each)


def _is_a_tuple(value: Any, what: str) -> None:
    if not isinstance(value, tuple | list):
        raise TypeError(f"{what} must be a tuple, not {type(value).__name__}")
