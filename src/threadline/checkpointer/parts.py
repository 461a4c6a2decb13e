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
    for value, (check, default) in zip(values(part), checks, strict=True):
        if value is not default:
            check(value)


@functools.cache
def _plan(kind: type) -> tuple[Callable[[Any], tuple[Any, ...]], list[tuple[Check, object]]]:
    """How the fields of a class are read, and the check of each with a value that needs none."""
    # In its own namespace a field may have the name of a type.
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]), {})
    fields = getattr(kind, "__dataclass_fields__", {})
    checks = [
        (_check_of(hint, kind.__name__, name), getattr(fields.get(name), "default", _NONE))
        for name, hint in hints.items()
    ]
    return operator.attrgetter(*hints), checks


def _check_of(hint: Any, owner: str, name: str) -> Check:
    what, origin, inner = f"{owner}.{name}", get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        (one,) = (_check_of(each, owner, name) for each in inner if each is not types.NoneType)
        return lambda value: None if value is None else one(value)
    if origin is Literal:
        return functools.partial(_is_one_of, what=what, words=inner)
    if origin is tuple:
        checks = [_check_of(each, owner, name) for each in inner if each is not Ellipsis]
        return functools.partial(_is_tuple, what=what, checks=checks, any_size=Ellipsis in inner)
    if hint is int:
        least, most = _BOUNDS.get(what) or _BOUNDS.get(name) or (0, _LONG)
        return functools.partial(_is_number, what=what, least=least, most=most)
    if hint is bytes:
        length = _LENGTHS.get(what) or _LENGTHS.get(name)
        return functools.partial(_is_bytes, what=what, length=length)
    return functools.partial(_is_a, what=what, kind=hint)


def _is_a(value: Any, *, what: str, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, not {type(value).__name__}")
    if kind not in (str, bool):
        check_parts(value)


def _is_one_of(value: Any, *, what: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{what} is one of {', '.join(words)}, not {value!r}")


def _is_number(value: Any, *, what: str, least: int, most: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise NotStorableError(f"{what} is {value}: it can be {least} to {most}")


def _is_bytes(value: Any, *, what: str, length: int | None) -> None:
    if not isinstance(value, bytes):
        raise TypeError(f"{what} must be bytes, not {type(value).__name__}")
    if length is not None and len(value) != length:
        raise NotStorableError(f"{what} is {len(value)} bytes long: it has {length}")


def _is_tuple(value: Any, *, what: str, checks: list[Check], any_size: bool) -> None:
    if not isinstance(value, tuple | list):
        raise TypeError(f"{what} must be a tuple, not {type(value).__name__}")
    if any_size:
        (check,) = checks
        for each in value:
            check(each)
        return
    if len(value) != len(checks):
        raise ValueError(f"{what} has {len(value)} values where {len(checks)} belong")
    for each, check in zip(value, checks, strict=True):
        check(each)
