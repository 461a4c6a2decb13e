"""Aligning two sequences of tokens: which of them are equal, in an order that holds for both. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

#: Between two unique equal tokens, sequences that differ in more tokens than this count as wholly different.
MOST_EDITS: Final = 256

Pair = tuple[int, int]


def unpaired(count: int, paired: Iterable[int]) -> list[int]:
    """The indexes below `count` that are not paired, in order."""
    taken = set(paired)
    return [index for index in range(count) if index not in taken]


def align(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[Pair]:
    """Pairs of equal tokens, ascending on both sides: those that are unique in both in their longest common order
    (as in patience diff), and a shortest edit between them (Myers, "An O(ND) Difference Algorithm", 1986)."""
    start, (stop_a, stop_b) = 0, (len(a), len(b))
    while start < min(stop_a, stop_b) and a[start] == b[start]:
        start += 1
    while start < min(stop_a, stop_b) and a[stop_a - 1] == b[stop_b - 1]:
        stop_a, stop_b = stop_a - 1, stop_b - 1
    pairs = [(index, index) for index in range(start)]
    last_i = last_j = start
    for i, j in [*_anchors(a, b, start, stop_a, stop_b), (stop_a, stop_b)]:
        if last_i < i and last_j < j:
            found = _shortest_edit(a[last_i:i], b[last_j:j])
            pairs += [(last_i + x, last_j + y) for x, y in found]
        if i < stop_a:
            pairs.append((i, j))
        last_i, last_j = i + 1, j + 1
    pairs += zip(range(stop_a, len(a)), range(stop_b, len(b)), strict=True)
    return pairs


def _anchors(
    a: Sequence[Hashable], b: Sequence[Hashable], start: int, stop_a: int, stop_b: int
) -> list[Pair]:
    ours, theirs = _unique(a, start, stop_a), _unique(b, start, stop_b)
    pairs = [(i, theirs[token]) for token, i in ours.items() if token in theirs]
    return [pairs[n] for n in rising([j for _, j in pairs])]


def _unique(tokens: Sequence[Hashable], start: int, stop: int) -> dict[Hashable, int]:
    found: dict[Hashable, int] = {}
    again: set[Hashable] = set()
    for index in range(start, stop):
        if found.setdefault(tokens[index], index) != index:
            again.add(tokens[index])
    return {token: index for token, index in found.items() if token not in again}


def rising(numbers: Sequence[int]) -> list[int]:
    """The indexes of a longest rising subsequence."""
    ends: list[int] = []
    tails: list[int] = []
    before: list[int] = []
    for index, number in enumerate(numbers):
        at = bisect_left(ends, number)
        before.append(tails[at - 1] if at else -1)
        ends[at : at + 1], tails[at : at + 1] = [number], [index]
    found = []
    index = tails[-1] if tails else -1
    while index >= 0:
        found.append(index)
        index = before[index]
    return found[::-1]


def _shortest_edit(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[Pair]:
    """The pairs that a shortest edit keeps; none when it has more than `MOST_EDITS` steps."""
    if not set(a) & set(b):
        return []
    furthest, trace = {1: 0}, []
    for edits in range(MOST_EDITS + 1):
        trace.append(dict(furthest))
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            while x < len(a) and 0 <= x - k < len(b) and a[x] == b[x - k]:
                x += 1
            furthest[k] = x
            if x >= len(a) and x - k >= len(b):
                return _kept(trace, len(a), len(b))
    return []


def _kept(trace: list[dict[int, int]], x: int, y: int) -> list[Pair]:
    pairs: list[Pair] = []
    for edits in range(len(trace) - 1, -1, -1):
        furthest, k = trace[edits], x - y
        down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
        k += 1 if down else -1
        before_x, before_y = furthest[k], furthest[k] - k
        while x > before_x and y > before_y:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = before_x, before_y
    return pairs[::-1]
