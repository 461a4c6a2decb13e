"""Messages that are read more than once: built by their class the first time, copied from then on.

To build a message its class validates it, which takes most of the time of a read. The same bytes make the same message,
so one that nobody else holds is kept as a pattern and every reader gets a copy. Who copies knows all that it made: a
look at just that says later whether anybody edited it, so that a put need not encode it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from threadline.store import Snapshot

#: How many bytes of items have patterns, in each of two generations, and the largest item that has one.
_GENERATION, _LARGEST = 4 << 20, 1 << 16
_MODULE = "langchain_core.messages."
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_new, _set = object.__new__, object.__setattr__


class Pattern(NamedTuple):
    """A message that nobody holds. `dicts` and `lists`: its fields that are empty ones; `filled`: the others that are
    dicts or lists; `given`: the fields that were set."""

    kind: type
    fields: dict[str, Any]
    dicts: tuple[str, ...]
    lists: tuple[str, ...]
    filled: tuple[tuple[str, Any], ...]
    extra: dict[str, Any] | None
    given: set[str]

    @classmethod
    def of(cls, value: Any) -> Pattern | None:
        """The pattern of a message that was just built; None for anything that cannot be copied exactly."""
        kind = type(value)
        if not isinstance(value, BaseMessage) or not kind.__module__.startswith(_MODULE):
            return None
        extra = value.__pydantic_extra__
        if value.__pydantic_private__ is not None or not _plain([value.__dict__, extra], set()):
            return None
        inner = [(name, field) for name, field in value.__dict__.items() if _inside(field)]
        return cls(
            kind,
            value.__dict__,
            tuple([name for name, field in inner if field == {}]),
            tuple([name for name, field in inner if field == []]),
            tuple([(name, field) for name, field in inner if field]),
            extra,
            value.__pydantic_fields_set__,
        )


class Copies:
    """Messages made from patterns, and all the dicts and lists that were made for them."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self._dicts: list[dict[Any, Any]] = []
        self._lists: list[list[Any]] = []

    def make(self, pattern: Pattern) -> Any:
        """A copy of a message: equal, of the same class, and nothing in it is anybody else's."""
        kind, fields, dicts, lists, filled, extra, given = pattern
        made: Any = _new(kind)
        fields = fields.copy()
        for name in dicts:
            self._dicts.append({})
            fields[name] = self._dicts[-1]
        for name in lists:
            self._lists.append([])
            fields[name] = self._lists[-1]
        for name, field in filled:
            fields[name] = self._fresh(field)
        if extra:
            extra = self._fresh(extra)
        elif extra is not None:
            extra = {}
            self._dicts.append(extra)
        _set(made, "__dict__", fields)
        _set(made, "__pydantic_fields_set__", given.copy())
        _set(made, "__pydantic_extra__", extra)
        _set(made, "__pydantic_private__", None)
        self.objects.append(made)
        self._dicts.append(fields)
        return made

    def snapshot(self) -> Snapshot:
        """What they hold now; take it before anybody gets them."""
        return Snapshot(self.objects, self._dicts, self._lists)

    def _fresh(self, value: Any) -> Any:
        if type(value) is dict:
            filled = {key: self._fresh(v) if _inside(v) else v for key, v in value.items()}
            self._dicts.append(filled)
            return filled
        listed = [self._fresh(each) if _inside(each) else each for each in value]
        self._lists.append(listed)
        return listed


class Read(NamedTuple):
    """The items of a list as objects. `copies`: those of them that were made from patterns."""

    values: list[Any]
    copies: Copies | None = None


class Patterns:
    """The messages that were read before, by their bytes; the older are forgotten."""

    def __init__(self) -> None:
        self._young: dict[bytes, Pattern] = {}
        self._old: dict[bytes, Pattern] = {}
        self._size = 0

    def clear(self) -> None:
        """Forget them."""
        self._young, self._old, self._size = {}, {}, 0

    def read(
        self,
        items: Sequence[bytes],
        build: Callable[[bytes], Any],
        build_all: Callable[[], list[Any]],
    ) -> Read:
        """The objects of some items. A list whose first item is new is built in one go, and known the next time.

        build: makes the object of one item; build_all: of all.
        """
        if items and self._get(items[0]) is None:
            self._add(items[0], build)
            return Read(build_all())
        copies = Copies()
        make = copies.make
        values = []
        for item in items:
            pattern = self._young.get(item) or self._get(item) or self._add(item, build)
            values.append(build(item) if pattern is None else make(pattern))
        return Read(values, copies)

    def _get(self, item: bytes) -> Pattern | None:
        pattern = self._young.get(item)
        if pattern is None and (pattern := self._old.get(item)) is not None:
            self._keep(item, pattern)
        return pattern

    def _add(self, item: bytes, build: Callable[[bytes], Any]) -> Pattern | None:
        pattern = Pattern.of(build(item)) if len(item) <= _LARGEST else None
        if pattern is not None:
            self._keep(item, pattern)
        return pattern

    def _keep(self, item: bytes, pattern: Pattern) -> None:
        self._young[item] = pattern
        self._size += len(item)
        if self._size > _GENERATION:
            self._young, self._old, self._size = {}, self._young, 0


def _inside(value: Any) -> bool:
    """Whether there is a dict or a list to be copied."""
    return type(value) not in _SCALARS


def _plain(values: Iterable[Any], seen: set[int]) -> bool:
    """Whether these are scalars, or dicts and lists of such, none of them in two places."""
    for value in values:
        if type(value) in _SCALARS:
            continue
        if type(value) not in (dict, list) or id(value) in seen:
            return False
        seen.add(id(value))
        if not _plain(value.values() if type(value) is dict else value, seen):
            return False
        if type(value) is dict and not _plain(value, seen):
            return False
    return True
