"""A history as a tree, the newest first: which checkpoint each was made from, drawn with lanes as `git log` does.

A checkpoint follows the one that it was computed from: the one before it, or for a rollback the one that it went back
to. Where two follow one, lanes part. What is no longer there (pruned) leaves a dotted line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from threadline import Checkpoint

DOT, LINE, DOTTED = "●", "│", "┊"


class Drawn(NamedTuple):
    """One line of a tree: the lanes, and the checkpoint that stands in it; None where lanes only meet."""

    lanes: str
    checkpoint: Checkpoint | None = None


class _Lane(NamedTuple):
    """A line downwards to a version; `gap`: something that was between is gone."""

    to: int
    gap: bool = False


def origin_of(checkpoint: Checkpoint) -> int | None:
    """The version that a checkpoint was made from; None: it is the first."""
    return checkpoint.parent_version if checkpoint.base is None else checkpoint.base


def draw(checkpoints: Sequence[Checkpoint]) -> Iterator[Drawn]:
    """The lines of a tree of these checkpoints, which are in order, the newest first."""
    there = [checkpoint.version for checkpoint in checkpoints]
    lanes: list[_Lane] = []
    for number, checkpoint in enumerate(checkpoints):
        mine = [at for at, lane in enumerate(lanes) if lane.to == checkpoint.version]
        if len(mine) > 1:
            yield Drawn(_meeting(lanes, mine))
        lanes = [lane for at, lane in enumerate(lanes) if at not in mine[1:]]
        if not mine:
            mine = [len(lanes)]
            lanes.append(_Lane(checkpoint.version))
        at = mine[0]
        marks = [DOT if each == at else _line(lane) for each, lane in enumerate(lanes)]
        yield Drawn(" ".join(marks), checkpoint)
        following = _following(checkpoint, there[number + 1 :])
        if following is None:
            del lanes[at]
            continue
        lanes[at] = following
        if following.gap and there[number + 1 : number + 2] == [following.to]:
            yield Drawn(" ".join(map(_line, lanes)))


def _following(checkpoint: Checkpoint, older: Sequence[int]) -> _Lane | None:
    """The lane below a checkpoint. Of one that was made from what is gone, the next older one is the nearest to it."""
    origin = origin_of(checkpoint)
    if origin is None:
        return None
    nearest = next((version for version in older if version <= origin), None)
    # Below what was read nothing is known: the lane goes on, and out.
    return _Lane(origin) if nearest is None else _Lane(nearest, nearest != origin)


def _line(lane: _Lane) -> str:
    return DOTTED if lane.gap else LINE


def _meeting(lanes: Sequence[_Lane], mine: Sequence[int]) -> str:
    """The line in which lanes come together in the leftmost of them."""
    first, last, drawn = mine[0], mine[-1], ""
    for at, lane in enumerate(lanes):
        if at == first:
            mark = "├"
        elif at in mine:
            mark = "╯" if at == last else "┴"
        else:
            mark = "┼" if first < at < last else _line(lane)
        drawn += mark + ("─" if first <= at < last else " ")
    return drawn.rstrip()
