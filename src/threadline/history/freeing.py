"""What becomes free when checkpoints go: rows and blobs that nothing needs any more, cut into commits. Pure.

Read `free_rows` and `releases`, then `steps`, which puts them together: the oldest checkpoints go first, and a row
goes with, or after, the last checkpoint that needs it, never before.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from threadline.history.retention import Meta
from threadline.history.row import Range

#: The most rows and blobs that one step takes away beside checkpoints, and the most bytes of them.
STEP_ITEMS, STEP_BYTES = 2000, 4 * 1024 * 1024


class Span(NamedTuple):
    """Where a stored row lies, and the bytes of its payload."""

    log: int
    start: int
    end: int
    bytes: int


class Stock(NamedTuple):
    """What a namespace holds beside its checkpoints: its rows by log and position, and the bytes of each blob."""

    rows: list[Span]
    blobs: dict[bytes, int]


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same positions in the fewest ranges, in order."""
    found: list[Range] = []
    for log, start, end in sorted(set(ranges)):
        if found and found[-1].log == log and found[-1].end >= start:
            if found[-1].end < end:
                found[-1] = found[-1]._replace(end=end)
        else:
            found.append(Range(log, start, end))
    return found


def free_rows(rows: Iterable[Span], needed: Iterable[Range], ends: Sequence[int]) -> list[Span]:
    """The rows, in order, that no range of `needed` overlaps, of those that are closed: a log's last row is open, a
    put may be adding to it. `ends`: the end of each log, by number, when the needs were found out."""
    ranges = joined(needed)
    free: list[Span] = []
    for span in sorted(rows):
        if span.log >= len(ends) or span.end >= ends[span.log]:
            continue
        # The last range that begins before the row's end: the others lie behind it or before this one.
        at = bisect_right(ranges, (span.log, span.end - 1, math.inf)) - 1
        if at < 0 or ranges[at].log != span.log or ranges[at].end <= span.start:
            free.append(span)
    return free


def releases(rows: Sequence[Span], groups: Sequence[Iterable[Range]]) -> list[int]:
    """For each row (in order, none overlapping another) the last group that needs it; 0 when none does."""
    count = len(rows)
    found = [0] * count
    following = list(range(count + 1))  # The next row that no later group needs, with short cuts.

    def next_open(at: int) -> int:
        while following[at] != at:
            following[at] = following[following[at]]
            at = following[at]
        return at

    for number in range(len(groups) - 1, 0, -1):
        for log, start, end in joined(groups[number]):
            at = max(bisect_right(rows, (log, start, math.inf)) - 1, 0)
            at = next_open(at)
            while at < count and (rows[at].log, rows[at].start) < (log, end):
                if rows[at].log == log and rows[at].end > start:
                    found[at] = number
                    following[at] = at + 1
                at = next_open(at + 1)
    return found


# Cut into commits ---------------------------------------------------------------------------------------


class Version(NamedTuple):
    """A checkpoint without its payload, whose `size` in bytes it says."""

    meta: Meta
    digest: bytes
    refs: tuple[Range, ...]
    blobs: tuple[bytes, ...]
    size: int


@dataclass(slots=True)
class Step:
    """What one commit takes away, and the bytes of it. `gaps`: the digest of the dropped parent of each child that
    is still there after it; `filled`: the versions whose own gap goes with them."""

    versions: list[int] = field(default_factory=list)
    rows: list[Span] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    gaps: dict[int, bytes] = field(default_factory=dict)
    filled: list[int] = field(default_factory=list)
    size: int = 0


def steps(
    versions: Mapping[int, Version],
    dropped: Iterable[int],
    stock: Stock,
    ends: Sequence[int],
    gaps: Iterable[int],
    at_most: int,
) -> list[Step]:
    """What goes, in the order of its commits, with at most `at_most` versions in each.

    versions: all there are; dropped: those that go, ascending. stock: what else is there. ends: the end of each log.
    gaps: the versions whose parent's digest is kept for them.
    """
    going = list(dropped)
    groups = [going[at : at + at_most] for at in range(0, len(going), at_most)] or [[]]
    gone = set(going)
    staying = [each for version, each in versions.items() if version not in gone]
    rows = free_rows(stock.rows, (span for each in staying for span in each.refs), ends)
    refs = [[span for version in group for span in versions[version].refs] for group in groups]
    free_from: list[list[Span | tuple[bytes, int]]] = [[] for _ in groups]
    for span, number in zip(rows, releases(rows, refs), strict=True):
        free_from[number].append(span)
    needed = {blob for each in staying for blob in each.blobs}
    last = {blob: n for n, group in enumerate(groups) for v in group for blob in versions[v].blobs}
    for blob, size in stock.blobs.items():
        if blob not in needed:
            free_from[last.get(blob, 0)].append((blob, size))
    found: list[Step] = []
    for first, items in zip(_without_items(versions, groups, gaps), free_from, strict=True):
        found += _filled_up(first, items)
    return [step for step in found if step.versions or step.rows or step.blobs]


def _filled_up(step: Step, items: Iterable[Span | tuple[bytes, int]]) -> Iterator[Step]:
    """The step with as many items as it takes, and further ones with the rest."""
    before = step.size
    for item in items:
        if len(step.rows) + len(step.blobs) >= STEP_ITEMS or step.size - before > STEP_BYTES:
            yield step
            step, before = Step(), 0
        if isinstance(item, Span):
            step.rows.append(item)
            step.size += item.bytes
        else:
            step.blobs.append(item[0])
            step.size += item[1]
    yield step


def _without_items(
    versions: Mapping[int, Version], groups: Sequence[list[int]], gaps: Iterable[int]
) -> Iterator[Step]:
    """A step for each group of versions, with the gaps that it leaves."""
    number = {version: n for n, group in enumerate(groups) for version in group}
    children: dict[int, list[int]] = {}
    for version, each in versions.items():
        if each.meta.parent_version in number:
            children.setdefault(each.meta.parent_version, []).append(version)
    there = set(gaps)
    for n, group in enumerate(groups):
        step = Step(group, size=sum(versions[version].size for version in group))
        for version in group:
            for child in children.get(version, ()):
                if number.get(child, len(groups)) > n:
                    step.gaps[child] = versions[version].digest
                    there.add(child)
            if version in there:
                step.filled.append(version)
        yield step
