"""Which items of a list may have changed since it was last stored, without encoding them.

A watch keeps, of every container that an item reaches, the container itself and what it held.
The same containers that hold the same objects, under the same keys, are the same item: that is
decided by identity alone, so `1 -> True`, `0.0 -> -0.0` and equal-but-new objects all count, no
`__eq__` of a user ever runs, and cycles and depth need no care. Of a pydantic model's fields only
the values are looked at, since their names are fixed (renaming one inside `__dict__` makes another
model, and goes unseen where all values stay in their order). What cannot be looked into
(sets, objects with slots, types written in C) makes its item suspect, always.

The watched items lie in chunks of at most 512, one after another in flat tuples, so that one
look at a chunk is a handful of passes inside the interpreter's C code; a chunk that differs is
halved until the items that differ are found. Appends make small chunks that join neighbours of
like size (as in a log-structured merge tree), so that growth costs O(log n) per item.

Read in this order: `Watch`, `_Chunk`, `_walk` (what is reachable), `_kind` (what is what)."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import accumulate, chain
from operator import is_
from types import GetSetDescriptorType
from typing import Any, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel

__all__ = ["Ranges", "Watch"]

Ranges = list[tuple[int, int]]
"""Sorted, disjoint, half-open ranges of positions in a list."""

_CHUNK: Final = 512


class Watch:
    """What a list of items looked like when the watch was taken.

    It holds strong references to the items and to all that they hold, and is itself immutable.
    Of a pydantic model it sees fields and extra values, and private attributes only where the
    class has computed fields or serializers that could show them. It does not see the contents
    of `model_fields_set`, so bytes to be compared must not be made with `exclude_unset`.

    Take it in the same breath as the bytes it stands for: an edit between the two is not seen.
    """

    __slots__ = ("_chunks", "_length")

    def __init__(self, chunks: Iterable[_Chunk] = ()) -> None:
        self._chunks = tuple(chunks)
        self._length = sum(len(chunk.items) for chunk in self._chunks)

    @classmethod
    def of(cls, items: Sequence[object]) -> Watch:
        """A watch of `items` as they are now. O(all they hold), in Python: the slow part."""
        return cls(_fresh(items, 0, len(items)))

    def __len__(self) -> int:
        return self._length

    def suspects(self, items: Sequence[object]) -> Ranges:
        """The positions, among those both lists have, at which `items` may differ from then.

        Empty means that the common prefix is certainly unchanged: the same objects, unedited at
        any depth. A position in the result may still be unchanged (an equal object in place of
        another): encode it and compare bytes.
        """
        found: Ranges = []
        start, common = 0, min(self._length, len(items))
        for chunk in self._chunks:
            if start >= common:
                break
            stop = min(start + len(chunk.items), common)
            for low, high in chunk.suspects(tuple(items[start:stop])):
                _add(found, start + low, start + high)
            start += len(chunk.items)
        return found

    def updated(self, items: Sequence[object], changed: Ranges) -> Watch:
        """The watch of `items` now, given that only `changed` differs in the common prefix.

        `changed` is what `suspects(items)` returned, or more (sorted and disjoint). Items that
        the watch already knows are not looked at again.
        """
        chunks: list[_Chunk] = []
        start, common = 0, min(self._length, len(items))
        for chunk in self._chunks:
            if start >= common:
                break
            stop = min(start + len(chunk.items), common)
            inside = [
                (max(low, start), min(high, stop))
                for low, high in changed
                if low < stop and high > start
            ]
            _push(chunks, chunk.replaced(items, start, stop, inside))
            start += len(chunk.items)
        for chunk in _fresh(items, common, len(items)):
            _push(chunks, chunk)
        return Watch(chunks)


class _Chunk(NamedTuple):
    """Some neighbouring items and all that they reach, item after item in flat tuples."""

    items: tuple[object, ...]
    opaque: tuple[bool, ...]  # per item: cannot be looked into
    holders: tuple[Any, ...]  # every mutable container: objects, dicts, lists
    dicts: tuple[dict[Any, Any], ...]  # those of them that are dicts
    sized: tuple[Any, ...]  # those of them that are dicts or lists
    contents: tuple[object, ...]  # what each holder held
    keys: tuple[object, ...]  # the keys of each dict but those of models' fields, in order
    lengths: tuple[int, ...]  # of `sized`: nothing moves unseen between neighbours
    cuts: tuple[tuple[int, ...], ...]  # per column from `holders` to `keys`: where items begin

    @classmethod
    def of(cls, items: Sequence[object]) -> _Chunk:
        """The items as they are now."""
        seen = [_walk(item) for item in items]
        per_item: list[list[Sequence[Any]]] = [[], [], [], [], []]
        for reached in seen:
            holders = reached or []
            fields = {id(holder.__dict__) for holder in holders if isinstance(holder, BaseModel)}
            dicts = [h for h in holders if type(h) is dict and id(h) not in fields]
            sized = [holder for holder in holders if type(holder) in _SIZED]
            keys: list[Any] = list(chain.from_iterable(dicts))
            parts: tuple[Sequence[Any], ...] = holders, dicts, sized, referents(*holders), keys
            for column, part in zip(per_item, parts, strict=True):
                column.append(part)
        columns = [tuple(chain.from_iterable(column)) for column in per_item]
        cuts = tuple(tuple(accumulate(map(len, column), initial=0)) for column in per_item)
        opaque = tuple(reached is None for reached in seen)
        return cls._make([tuple(items), opaque, *columns, tuple(map(len, columns[2])), cuts])

    def suspects(self, now: tuple[object, ...]) -> Iterator[tuple[int, int]]:
        """Ranges of this chunk's first `len(now)` positions at which `now` may differ."""
        spans = [(0, len(now))]
        while spans:
            low, high = spans.pop()
            if self._unchanged(now, low, high):
                continue
            if high - low == 1:
                yield low, high
                continue
            middle = (low + high) // 2
            spans += [(middle, high), (low, middle)]

    def _unchanged(self, now: tuple[object, ...], low: int, high: int) -> bool:
        """Whether the items from `low` to `high` are the same, and hold the same, as then."""
        if True in self.opaque[low:high] or not same(now[low:high], self.items[low:high]):
            return False
        holders, dicts, sized, contents, keys = (slice(cut[low], cut[high]) for cut in self.cuts)
        return (
            tuple(map(len, self.sized[sized])) == self.lengths[sized]
            and same(tuple(referents(*self.holders[holders])), self.contents[contents])
            and same(tuple(chain.from_iterable(self.dicts[dicts])), self.keys[keys])
        )

    def replaced(self, items: Sequence[object], start: int, stop: int, changed: Ranges) -> _Chunk:
        """This chunk, which stands at `start`, cut at `stop`, with `changed` looked at anew."""
        if not changed and stop - start == len(self.items):
            return self
        pieces: list[_Chunk] = []
        at = start
        for low, high in changed:
            pieces += [self._part(at - start, low - start), _Chunk.of(items[low:high])]
            at = high
        return _joined([*pieces, self._part(at - start, stop - start)])

    def _part(self, low: int, high: int) -> _Chunk:
        """The items from `low` to `high` as a chunk of their own."""
        spans = [slice(cut[low], cut[high]) for cut in self.cuts]
        parts = [column[span] for column, span in zip(self[2:7], spans, strict=True)]
        cuts = tuple(tuple(at - cut[low] for at in cut[low : high + 1]) for cut in self.cuts)
        lengths = self.lengths[spans[2]]
        return _Chunk._make([self.items[low:high], self.opaque[low:high], *parts, lengths, cuts])


def _joined(chunks: Sequence[_Chunk]) -> _Chunk:
    """Neighbouring chunks as one: copies of pointers, nothing is looked at again."""
    *parts, _ = zip(*chunks, strict=True)
    columns = [tuple(chain.from_iterable(part)) for part in parts]
    cuts = []
    for column in zip(*(chunk.cuts for chunk in chunks), strict=True):
        whole = [0]
        for cut in column:
            base = whole[-1]
            whole.extend([base + at for at in cut[1:]])
        cuts.append(tuple(whole))
    return _Chunk._make([*columns, tuple(cuts)])


def _fresh(items: Sequence[object], start: int, stop: int) -> Iterator[_Chunk]:
    for at in range(start, stop, _CHUNK):
        yield _Chunk.of(items[at : min(at + _CHUNK, stop)])


def _push(chunks: list[_Chunk], chunk: _Chunk) -> None:
    """Append a chunk, joined with its left neighbours as long as they are of like size."""
    run = [chunk]
    size = len(chunk.items)
    while chunks and len(chunks[-1].items) < 2 * size and len(chunks[-1].items) + size <= _CHUNK:
        run.append(chunks.pop())
        size += len(run[-1].items)
    if size:
        chunks.append(_joined(run[::-1]) if len(run) > 1 else chunk)


def _add(ranges: Ranges, low: int, high: int) -> None:
    if ranges and ranges[-1][1] == low:
        ranges[-1] = (ranges[-1][0], high)
    else:
        ranges.append((low, high))


# What is reachable from an item, and what kind of thing it is.

_LEAF, _DICT, _LIST, _TUPLE, _OBJECT, _OPAQUE = range(6)
_SIZED: Final = frozenset({dict, list})
_PLAIN_SCALARS: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, date, timedelta, UUID, Decimal}
)
_SCALARS: Final = (*_PLAIN_SCALARS, datetime, time, timezone, ZoneInfo)
_KINDS: Final[dict[type, int]] = {
    **dict.fromkeys(_SCALARS, _LEAF),
    dict: _DICT,
    list: _LIST,
    tuple: _TUPLE,
}
_known: dict[type, int] = dict(_KINDS)
_MODEL_SLOTS: Final = ("__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__")


def _walk(item: object) -> list[Any] | None:
    """Every mutable container that `item` reaches, each once; None if one is opaque."""
    reached: list[Any] = []
    seen: set[int] = set()
    waiting: list[Any] = [item]
    while waiting:
        value = waiting.pop()
        cls = type(value)
        kind = _known.get(cls)
        if kind is None:
            kind = _learn(cls)
        if kind == _LEAF:
            if isinstance(value, datetime | time) and type(value.tzinfo) not in _KINDS:
                return None
            continue
        if kind == _OPAQUE:
            return None
        if id(value) in seen:
            continue
        seen.add(id(value))
        if kind == _TUPLE:
            waiting.extend(tuple.__iter__(value))
            continue
        reached.append(value)
        if kind == _LIST:
            waiting += [each for each in value if type(each) not in _PLAIN_SCALARS]
        elif kind == _DICT:
            waiting += [each for each in value if type(each) not in _PLAIN_SCALARS]
            waiting += [each for each in value.values() if type(each) not in _PLAIN_SCALARS]
        else:
            waiting.extend(_inside(value))
    return reached


def _inside(value: Any) -> list[Any]:
    """The dicts that hold an object's attributes: fields, and what else a model shows."""
    found = [value.__dict__]
    if isinstance(value, BaseModel):
        found.append(_slot(value, "__pydantic_extra__"))
        how = type(value).__pydantic_decorators__
        if how.computed_fields or how.field_serializers or how.model_serializers:
            found.append(_slot(value, "__pydantic_private__"))
    return found


def _slot(value: object, name: str) -> object:
    try:
        return object.__getattribute__(value, name)
    except AttributeError:  # unset, as after `__new__`, or no model
        return None


def _learn(cls: type) -> int:
    if len(_known) > 10_000:  # classes made on the fly must not pile up here
        _known.clear()
        _known.update(_KINDS)
    return _known.setdefault(cls, _kind(cls))


def _kind(cls: type) -> int:
    """What an instance of `cls` is; opaque wherever it might hold more than can be seen."""
    if issubclass(cls, Enum):
        return _LEAF if all(_frozen(each._value_) for each in cls.__members__.values()) else _OPAQUE
    for base in (*_SCALARS, tuple):
        if issubclass(cls, base):  # a subclass without room for anything of its own
            bare = cls.__dictoffset__ == 0 and cls.__basicsize__ == base.__basicsize__
            return _KINDS[base] if bare else _OPAQUE
    if cls.__getattribute__ is not object.__getattribute__ or not cls.__dictoffset__:
        return _OPAQUE
    allowed = {"__dict__", "__weakref__"}
    for base in cls.__mro__[:-1]:
        own = vars(base)
        slots = own.get("__slots__", ())
        slots = (slots,) if isinstance(slots, str) else tuple(slots)
        more = _MODEL_SLOTS if base is BaseModel else ()
        if not base.__flags__ & (1 << 9) or not allowed.issuperset(set(slots).difference(more)):
            return _OPAQUE  # written in C (bit 9: made by a class statement), or with slots
        if "__dict__" in own and type(own["__dict__"]) is not GetSetDescriptorType:
            return _OPAQUE
    pointers = cls.__basicsize__ - object.__basicsize__
    room = 2 + (len(_MODEL_SLOTS) if issubclass(cls, BaseModel) else 0)
    return _OBJECT if pointers <= room * ctypes.sizeof(ctypes.c_void_p) else _OPAQUE


def _frozen(value: object) -> bool:
    return all(map(_frozen, value)) if type(value) is tuple else type(value) in _SCALARS


# The two passes that must be fast. Each has a plain form, and a form that CPython runs about
# twice as fast; the fast form is taken only if it proves itself when this module is imported.


def _same_plain(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    """Whether two tuples hold the same objects (not equal ones)."""
    return len(a) == len(b) and all(map(is_, a, b))


def _same_fast(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    """The same, by the bytes of the pointers: a tuple's items follow its header in memory."""
    if len(a) != len(b):
        return False
    size = len(a) * _POINTER
    return _bytes_at(id(a) + _HEADER, size) == _bytes_at(id(b) + _HEADER, size)


def _referents_plain(*holders: Any) -> list[object]:
    """What the holders hold, one after another; of an object also its type."""
    held: list[object] = []
    for holder in holders:
        kind = type(holder)
        if kind is dict:
            held.extend(holder.values())
        elif kind is list:
            held.extend(holder)
        else:
            held += [kind, holder.__dict__]
            held += [_slot(holder, name) for name in _MODEL_SLOTS[:2]]
    return held


_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)
_HEADER: Final = tuple.__basicsize__
_bytes_at: Final = ctypes.string_at


class _Probe:
    __slots__ = ("__dict__", "more")


def _fast_works() -> bool:
    """Whether this interpreter stores tuples and reports referents as the fast forms assume."""
    if sys.implementation.name != "cpython":
        return False
    a, b = pair = object(), object()
    pointers = b"".join(id(each).to_bytes(_POINTER, sys.byteorder) for each in pair)
    if _bytes_at(id(pair) + _HEADER, 2 * _POINTER) != pointers:
        return False
    plain: Any = type("Plain", (), {})()
    slotted: Any = _Probe()
    plain.value, plain.other = slotted.value, slotted.more = pair
    cases: list[tuple[tuple[Any, ...], tuple[object, ...]]] = [
        (([a, b],), pair),
        (({"x": a, "y": b},), pair),
        (({1: a, "y": b},), pair),
        ((plain.__dict__, plain), (*pair, type(plain))),
        ((slotted.__dict__,), (a,)),
        ((slotted,), (slotted.__dict__, b, _Probe)),
    ]
    return all(
        {id(part) for part in parts} <= {id(each) for each in gc.get_referents(*holders)}
        for holders, parts in cases
    )


_FAST: Final = _fast_works()
same: Callable[[tuple[object, ...], tuple[object, ...]], bool] = (
    _same_fast if _FAST else _same_plain
)
referents: Callable[..., list[object]] = gc.get_referents if _FAST else _referents_plain
