"""Messages as often as they are asked for: a mould of some that were built and checked once, and what it gives.

A reader gets objects of his own, since messages are mutable. Building them from JSON costs twice what copying costs, if
the copying is done for all of them together: a mould holds the records of a list (the messages, their blocks, what is
in these) column by column, so that each step is one pass of the interpreter's C code over a column, as pydantic itself
makes and copies models (`model_construct`, `__copy__`). What is mutable is copied, what is not is shared.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, Final

from pydantic import BaseModel

from threadline.model.blocks import Record
from threadline.model.message import Message

_SLOTS = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
#: Whether the models of this pydantic are made of what is known here; else nothing is copied, and all is built.
COPIES: Final = tuple(vars(BaseModel).get("__slots__", ())) == _SLOTS
_setters: list[Any] = [vars(BaseModel)[name].__set__ if COPIES else None for name in _SLOTS]
_set_dict, _set_fields, _set_extra, _set_private = _setters
_ATOMS = frozenset({str, int, float, bool, type(None)})
#: Roughly the bytes of memory of a record in a mould, without its texts.
_RECORD_BYTES = 600


@dataclass(frozen=True, slots=True)
class Mould:
    """See the module. `kinds`, `dicts` and `sets`: the class, the `__dict__` and the set fields of each record; the
    rest says what is put into the dicts of the copies: records, alone or in a list, and new empty or copied values.
    `tops`: which of the records are the messages."""

    kinds: list[type] = field(default_factory=list)
    dicts: list[dict[str, Any]] = field(default_factory=list)
    sets: list[set[str]] = field(default_factory=list)
    ones: list[tuple[int, str, int]] = field(default_factory=list)
    groups: list[tuple[int, str, int, int]] = field(default_factory=list)
    dicts_in: list[tuple[int, str]] = field(default_factory=list)
    lists_in: list[tuple[int, str]] = field(default_factory=list)
    values_in: list[tuple[int, str, Any]] = field(default_factory=list)
    tops: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Roughly the bytes of memory that it takes, without its texts."""
        return len(self.kinds) * _RECORD_BYTES

    def grown(self, messages: Sequence[Message]) -> Mould:
        """The mould of what this one gives and these messages behind it, which only have what was read."""
        mould = replace(self, **{name: list(getattr(self, name)) for name in self.__slots__})
        mould.tops.append(mould._add(messages))
        return mould

    def make(self) -> list[Message]:
        """New messages, each time."""
        records: list[Any] = list(map(object.__new__, self.kinds))
        dicts = list(map(dict.copy, self.dicts))
        for at, name, one in self.ones:
            dicts[at][name] = records[one]
        for at, name, start, stop in self.groups:
            dicts[at][name] = records[start:stop]
        for at, name in self.dicts_in:
            dicts[at][name] = {}
        for at, name in self.lists_in:
            dicts[at][name] = []
        for at, name, value in self.values_in:
            dicts[at][name] = _copied(value)
        _run(map(_set_dict, records, dicts))
        _run(map(_set_fields, records, map(set.copy, self.sets)))
        _run(map(_set_extra, records, repeat(None)))
        _run(map(_set_private, records, repeat(None)))
        return [each for start, stop in self.tops for each in records[start:stop]]

    def _add(self, records: Sequence[Record]) -> tuple[int, int]:
        start = len(self.kinds)
        for record in records:
            self.kinds.append(type(record))
            self.dicts.append(dict(record.__dict__))
            self.sets.append(_shared(record.__pydantic_fields_set__))
        for at in range(start, start + len(records)):
            for name, value in self.dicts[at].items():
                if type(value) not in _ATOMS:
                    self._add_part(at, name, value)
        return start, start + len(records)

    def _add_part(self, at: int, name: str, value: Any) -> None:
        self.dicts[at][name] = None  # Its place; what stands there belongs to a reader.
        if isinstance(value, Record):
            self.ones.append((at, name, self._add([value])[0]))
        elif type(value) is list and value and isinstance(value[0], Record):
            self.groups.append((at, name, *self._add(value)))
        elif type(value) is dict and not value:
            self.dicts_in.append((at, name))
        elif type(value) is list and not value:
            self.lists_in.append((at, name))
        else:
            self.values_in.append((at, name, _copied(value)))


def mould_bytes(messages: int) -> int:
    """Roughly the bytes of memory of a mould of so many messages, most of them of one block."""
    return 2 * messages * _RECORD_BYTES


def _run(steps: Iterator[Any]) -> None:
    deque(steps, maxlen=0)


def _copied(value: Any) -> Any:
    """A copy of a plain value that shares nothing mutable with it."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list:
        return [_copied(item) for item in value]
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    return copy.deepcopy(value)


#: The sets of names that moulds hold: a few in all, whatever the number of records. Never handed out, only copied.
_sets: dict[frozenset[str], set[str]] = {}


def _shared(names: Iterable[str]) -> set[str]:
    key = frozenset(names)
    return _sets.setdefault(key, set(key))
