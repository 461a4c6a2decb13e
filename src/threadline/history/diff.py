"""Comparing two states, value by value: the pure part of a diff. No I/O.

Dicts are compared key by key. Lists are aligned first by what is equal in both, then items with an id (`message_id`
or `id`) by their id, then the rest by position between those. A list that is pieces of a log is aligned by the
positions of its items (`Middle`), so that only items which differ are ever read: equal positions are equal items.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from threadline.codec.values import encode
from threadline.history.align import Pair, align, rising, unpaired
from threadline.history.changes import Change, Path
from threadline.history.delta import Piece, positions


@dataclass(frozen=True, slots=True)
class Place:
    """Where two values that are compared stand: in a, in b, and in which item with an id."""

    old: Path = ()
    new: Path = ()
    id: str | int | None = None

    def under(self, old: Any, new: Any, id: str | int | None = None) -> Place:
        """Where their parts stand, by key or index."""
        return Place((*self.old, old), (*self.new, new), self.id if id is None else id)

    def added(self, value: Any) -> Change:
        """`value` stands here in b only."""
        return Change("added", self.new, None, new=value, id=self.id)

    def removed(self, value: Any) -> Change:
        """`value` stood here in a only."""
        return Change("removed", self.old, self.old, old=value, id=self.id)


def changes(a: Any, b: Any) -> tuple[Change, ...]:
    """Every change from value a to value b."""
    return tuple(compare(a, b, Place()))


def compare(a: Any, b: Any, place: Place) -> Iterator[Change]:
    """The changes from value a to value b."""
    if type(a) is dict and type(b) is dict:
        yield from compare_dicts(a, b, place)
    elif type(a) is type(b) and type(a) in (list, tuple):
        yield from compare_lists(a, b, place)
    elif canonical(a) != canonical(b):
        yield Change("changed", place.new, place.old, old=a, new=b, id=place.id)


def compare_dicts(a: dict[Any, Any], b: dict[Any, Any], place: Place) -> Iterator[Change]:
    """The changes of a dict, in the order of b, then what was removed. `1`, `1.0` and `True` are three keys."""
    old, new = {_key(key): key for key in a}, {_key(key): key for key in b}
    for token, key in new.items():
        if token in old:
            yield from compare(a[old[token]], b[key], place.under(key, key))
        else:
            yield place.under(key, key).added(b[key])
    for token, key in old.items():
        if token not in new:
            yield place.under(key, key).removed(a[key])


def compare_lists(
    a: Sequence[Any], b: Sequence[Any], place: Place, offset: int = 0
) -> Iterator[Change]:
    """The changes of a list or tuple; `offset`: how many items, equal in both, stand before these."""
    pairs = align(list(map(canonical, a)), list(map(canonical, b)))
    old = {i: a[i] for i in unpaired(len(a), (i for i, _ in pairs))}
    new = {j: b[j] for j in unpaired(len(b), (j for _, j in pairs))}
    yield from compare_rest(old, new, pairs, place, offset)


def compare_rest(
    old: Mapping[int, Any], new: Mapping[int, Any], pairs: list[Pair], place: Place, offset: int
) -> Iterator[Change]:
    """The changes of a list of which `pairs` (ascending) are equal, and `old` and `new` are the other items."""
    by_id = _by_id(old, new)
    moved = _out_of_order(by_id, pairs)
    kept = sorted([*pairs, *(pair for pair in by_id if pair not in moved)])
    ours = {i for i, _ in by_id}
    theirs = {j for _, j in by_id}
    inner = [*by_id]
    nameless = _nameless(old, ours), _nameless(new, theirs)
    for equal, pair in _by_position(*nameless, kept):
        ours.add(pair[0])
        theirs.add(pair[1])
        if not equal:
            inner.append(pair)
    for i in sorted(old.keys() - ours):
        at = i + offset
        yield place.under(at, at, item_id(old[i])).removed(old[i])
    matched = {j: i for i, j in inner}
    for j in sorted({*matched, *(new.keys() - theirs)}):
        at = j + offset
        if j not in matched:
            yield place.under(at, at, item_id(new[j])).added(new[j])
            continue
        i = matched[j]
        here = place.under(i + offset, at, item_id(new[j]))
        if (i, j) in moved:
            yield Change("moved", here.new, here.old, id=here.id)
        yield from compare(old[i], new[j], here)


def _by_id(old: Mapping[int, Any], new: Mapping[int, Any]) -> list[Pair]:
    """The items with the same id, the n-th of an id with the n-th of it, in the order of b."""
    theirs = {token: i for i, token in _ids(old)}
    return [(theirs[token], j) for j, token in _ids(new) if token in theirs]


def _ids(items: Mapping[int, Any]) -> Iterator[tuple[int, Hashable]]:
    seen: Counter[Hashable] = Counter()
    for index in sorted(items):
        id = item_id(items[index])
        if id is not None:
            token = type(id), id
            yield index, (token, seen[token])
            seen[token] += 1


def item_id(item: Any) -> str | int | None:
    """The id of an item of a list: a dict's `message_id`, else its `id`, that is a text or an int; else None."""
    if type(item) is dict:
        for name in ("message_id", "id"):
            id: str | int | None = item.get(name)
            if type(id) in (str, int):
                return id
    return None


def _out_of_order(found: Sequence[Pair], fixed: Sequence[Pair]) -> set[Pair]:
    """Those of the pairs, in the order of b, that crossed others: as few as leave the rest and `fixed` in order."""
    before_a, before_b = [i for i, _ in fixed], [j for _, j in fixed]
    gaps: dict[int, list[Pair]] = {}
    for i, j in found:
        gap = bisect_left(before_a, i)
        if gap == bisect_left(before_b, j):
            gaps.setdefault(gap, []).append((i, j))
    kept = {pairs[n] for pairs in gaps.values() for n in rising([i for i, _ in pairs])}
    return set(found) - kept


def _nameless(items: Mapping[int, Any], paired: set[int]) -> list[tuple[int, Any]]:
    return [
        (index, items[index])
        for index in sorted(items)
        if index not in paired and item_id(items[index]) is None
    ]


def _by_position(
    old: Sequence[tuple[int, Any]], new: Sequence[tuple[int, Any]], kept: Sequence[Pair]
) -> Iterator[tuple[bool, Pair]]:
    """Pairs of the items without an id, never across a pair that is kept, and whether they are equal."""
    edges_a, edges_b = [i for i, _ in kept], [j for _, j in kept]
    gaps: dict[int, tuple[list[tuple[int, Any]], list[tuple[int, Any]]]] = {}
    for side, edges, items in ((0, edges_a, old), (1, edges_b, new)):
        for item in items:
            gaps.setdefault(bisect_left(edges, item[0]), ([], []))[side].append(item)
    for ours, theirs in gaps.values():
        if not ours or not theirs:
            continue
        equal = align([canonical(value) for _, value in ours], [canonical(v) for _, v in theirs])
        last_i = last_j = 0
        for i, j in [*equal, (len(ours), len(theirs))]:
            for x, y in zip(ours[last_i:i], theirs[last_j:j], strict=False):
                yield False, (x[0], y[0])
            if i < len(ours):
                yield True, (ours[i][0], theirs[j][0])
            last_i, last_j = i + 1, j + 1


# Lists that are pieces of a log -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Middle:
    """What two lists of one log do not have in common at their ends: the positions of those items, `start` the index
    of the first; and the pairs of them that are the same item."""

    start: int
    a: list[int]
    b: list[int]
    pairs: list[Pair]

    @classmethod
    def of(cls, a: Sequence[Piece], b: Sequence[Piece]) -> Middle:
        """The middle of two lists, in time of their pieces and of what lies between their equal ends."""
        start = _common(a, b)
        a, b = _cut(a, start), _cut(b, start)
        end = _common(_mirrored(a), _mirrored(b))
        old, new = (positions(_mirrored(_cut(_mirrored(each), end))) for each in (a, b))
        return cls(start, old, new, align(old, new))

    @property
    def old(self) -> list[int]:
        """Indexes of the items of a that are not paired."""
        return unpaired(len(self.a), (i for i, _ in self.pairs))

    @property
    def new(self) -> list[int]:
        """Indexes of the items of b that are not paired."""
        return unpaired(len(self.b), (j for _, j in self.pairs))

    def wanted(self) -> set[int]:
        """The positions of the items to be read: what is not paired, and where both lists are of one length the
        first two that stand opposite each other."""
        wanted = {self.a[i] for i in self.old} | {self.b[j] for j in self.new}
        if self.a and len(self.a) == len(self.b):
            wanted |= {self.a[0], self.b[0]}
        return wanted

    def doubtful(self, items: Mapping[int, Any]) -> bool:
        """Whether the lists may be equal although their positions are not: equal items stand at several positions,
        and only all of them tell. Rare: dicts that differ in the order of their keys only, and moved."""
        if not self.a or len(self.a) != len(self.b):
            return False
        if canonical(items[self.a[0]]) != canonical(items[self.b[0]]):
            return False
        old = Counter(canonical(items[self.a[i]]) for i in self.old)
        return old == Counter(canonical(items[self.b[j]]) for j in self.new)

    def everything(self) -> set[int]:
        """The positions of all items of both."""
        return {*self.a, *self.b}

    def changes(self, items: Mapping[int, Any], place: Place) -> Iterator[Change]:
        """The changes, from the values of the items by position: of `wanted`, or of `everything`."""
        if self.everything() <= items.keys():
            old, new = [items[at] for at in self.a], [items[at] for at in self.b]
            return compare_lists(old, new, place, self.start)
        ours = {i: items[self.a[i]] for i in self.old}
        theirs = {j: items[self.b[j]] for j in self.new}
        return compare_rest(ours, theirs, self.pairs, place, self.start)


def _common(a: Sequence[Piece], b: Sequence[Piece]) -> int:
    """How many items two lists begin with in common."""
    count, rest_a, rest_b = 0, list(reversed(a)), list(reversed(b))
    while rest_a and rest_b:
        (start, end), (other, other_end) = rest_a.pop(), rest_b.pop()
        if start != other:
            break
        shared = min(end - start, other_end - other)
        count += shared
        if start + shared < end:
            rest_a.append((start + shared, end))
        if other + shared < other_end:
            rest_b.append((other + shared, other_end))
    return count


def _cut(pieces: Sequence[Piece], count: int) -> list[Piece]:
    """The pieces without the first `count` items."""
    rest: list[Piece] = []
    for start, end in pieces:
        dropped = min(count, end - start)
        count -= dropped
        if start + dropped < end:
            rest.append((start + dropped, end))
    return rest


def _mirrored(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces as read from the end: what ends alike begins alike. Mirrored twice they are themselves."""
    return [(-end, -start) for start, end in reversed(pieces)]


# Equality ---------------------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """Bytes that are equal just for values that are equal with their types; the order of keys is none."""
    data = encode(value)
    if type(value) not in (dict, list, tuple):
        return data
    document = orjson.loads(data)
    if b'{"$dict"' in data:
        document = _sorted(document)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _sorted(value: Any) -> Any:
    if type(value) is list:
        return [_sorted(each) for each in value]
    if type(value) is not dict:
        return value
    if len(value) == 1 and "$dict" in value:
        pairs = [[key, _sorted(item)] for key, item in value["$dict"]]
        return {"$dict": sorted(pairs, key=lambda pair: orjson.dumps(pair[0]))}
    return {key: _sorted(item) for key, item in value.items()}


def _key(key: Any) -> Hashable:
    return key if type(key) is str else (type(key), canonical(key))
