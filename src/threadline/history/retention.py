"""What of the past is kept: a policy, and one pure function that decides. No I/O.

`RetentionPolicy` says what to keep; `decide` says of each checkpoint of a namespace why it stays or goes. What becomes
free then stands in `freeing`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple


class Keep(StrEnum):
    """Why a checkpoint stays; in the order in which `max_per_thread` gives them up, the last ones last."""

    UNBOUNDED = "no bound is set"
    NEWER = "keep_newer_than"
    BRANCH = "keep_branch_points"
    NAMED = "keep_named"
    LATEST = "keep_latest_of_each_name"
    FIRST = "keep_first"
    LAST = "keep_last"
    HEAD = "head"


class Gone(StrEnum):
    """Why a checkpoint goes."""

    UNKEPT = "no rule keeps it"
    OVER = "max_per_thread"


_RANK = {reason: rank for rank, reason in enumerate(Keep)}


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """Which checkpoints of a thread to keep; each namespace of a thread is judged by itself.

    Without `keep_last`, `keep_newer_than` and `max_per_thread` no checkpoint is ever dropped. With one of the first
    two, what no rule keeps is dropped; a checkpoint that any rule keeps stays. The head always stays.

    keep_last: the so many newest, 1 or more. keep_newer_than: those younger than this, a timedelta or seconds, more
    than 0. keep_first: the oldest one. keep_latest_of_each_name: the newest of each name. keep_named (default True):
    every one with a name. keep_branch_points (default True): a checkpoint from which two or more others follow, with
    the newest two of these, and the source of a rollback, with the newest rollback to it: where histories part.

    max_per_thread: at most so many in a namespace, whatever the other rules say, 1 or more and not below `keep_last`.
    What goes first: what only its age keeps, then branch points, then names, then the latest of a name, then the
    first, then the last ones; of equals the oldest; the head never.

    idle_after: a timedelta or seconds; a thread without any commit for so long is deleted as a whole, messages too,
    by a prune over many threads only.

    Raises TypeError, ValueError.
    """

    keep_last: int | None = None
    keep_newer_than: timedelta | float | None = None
    keep_first: bool = False
    keep_latest_of_each_name: bool = False
    keep_named: bool = True
    keep_branch_points: bool = True
    max_per_thread: int | None = None
    idle_after: timedelta | float | None = None

    def __post_init__(self) -> None:
        for name in ("keep_last", "max_per_thread"):
            _check_count(name, getattr(self, name))
        for name in ("keep_newer_than", "idle_after"):
            _check_span(name, getattr(self, name))
        for name in ("keep_first", "keep_latest_of_each_name", "keep_named", "keep_branch_points"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, not {type(getattr(self, name)).__name__}")
        if self.keep_last and self.max_per_thread and self.keep_last > self.max_per_thread:
            raise ValueError(
                f"keep_last {self.keep_last} cannot be held with max_per_thread {self.max_per_thread}"
            )

    @property
    def bounded(self) -> bool:
        """Whether it can drop a checkpoint at all."""
        bounds = (self.keep_last, self.keep_newer_than, self.max_per_thread)
        return any(bound is not None for bound in bounds)

    @property
    def newer_us(self) -> int | None:
        """`keep_newer_than` in microseconds."""
        return _us(self.keep_newer_than)

    @property
    def idle_us(self) -> int | None:
        """`idle_after` in microseconds."""
        return _us(self.idle_after)


def _check_count(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, not {value}")


def _check_span(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise TypeError(f"{name} must be a timedelta or seconds, not {type(value).__name__}")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"{name} must be more than 0 seconds and finite, not {value}")


def _us(span: timedelta | float | None) -> int | None:
    if span is None:
        return None
    if isinstance(span, timedelta):
        return span // timedelta(microseconds=1)
    return int(span * 1_000_000)


# Which checkpoints --------------------------------------------------------------------------------------


class Meta(NamedTuple):
    """What is judged of a checkpoint. `created_at`: microseconds. `source`: of a rollback, the version that it
    brought back."""

    version: int
    created_at: int
    parent_version: int | None = None
    name: str | None = None
    source: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Each version with why it is kept (every reason) or dropped, ascending."""

    kept: Mapping[int, tuple[Keep, ...]]
    dropped: Mapping[int, Gone]


def decide(
    policy: RetentionPolicy, checkpoints: Sequence[Meta], head: int, now_us: int
) -> Decision:
    """What the policy makes of the checkpoints of one namespace, in any order, at `now_us` (microseconds).

    head: the version of the head (0: none). Deciding again, on what is kept and for the same moment, drops nothing.
    """
    left = sorted(checkpoints)
    dropped: dict[int, Gone] = {}
    while True:
        reasons = _reasons(policy, left, head, now_us)
        dropped |= {meta.version: Gone.UNKEPT for meta in left if not reasons[meta.version]}
        staying = [meta for meta in left if reasons[meta.version]]
        for version in _over(policy, staying, reasons):
            dropped[version] = Gone.OVER
        after = [meta for meta in staying if meta.version not in dropped]
        if len(after) == len(left):
            kept = {v: tuple(sorted(reasons[v], key=_RANK.__getitem__)) for v, *_ in left}
            return Decision(kept, dict(sorted(dropped.items())))
        # A branch point that lost its branches to `max_per_thread` is none any more: judge what is left again.
        left = after


def _reasons(
    policy: RetentionPolicy, metas: Sequence[Meta], head: int, now_us: int
) -> dict[int, set[Keep]]:
    """Why each would stay; nothing: it would not. `metas`: ascending."""
    reasons: dict[int, set[Keep]] = {meta.version: set() for meta in metas}
    if head in reasons:
        reasons[head].add(Keep.HEAD)
    if policy.keep_last is not None:
        for meta in metas[-policy.keep_last :]:
            reasons[meta.version].add(Keep.LAST)
    if policy.newer_us is not None:
        for meta in metas:
            if meta.created_at > now_us - policy.newer_us:
                reasons[meta.version].add(Keep.NEWER)
    if policy.keep_last is None and policy.newer_us is None:
        for meta in metas:
            reasons[meta.version].add(Keep.UNBOUNDED)
    if policy.keep_first and metas:
        reasons[metas[0].version].add(Keep.FIRST)
    named = {meta.name: meta.version for meta in metas if meta.name is not None}
    if policy.keep_latest_of_each_name:
        for version in named.values():
            reasons[version].add(Keep.LATEST)
    if policy.keep_named:
        for meta in metas:
            if meta.name is not None:
                reasons[meta.version].add(Keep.NAMED)
    if policy.keep_branch_points:
        for version in _branches(metas):
            reasons[version].add(Keep.BRANCH)
    return reasons


def _branches(metas: Sequence[Meta]) -> set[int]:
    """Where histories part: branch points and rollbacks' sources, and the children and rollbacks by which they are
    some; without these the next decision would no longer know them."""
    children: dict[int, list[int]] = {}
    rollbacks: dict[int, int] = {}
    there = {meta.version for meta in metas}
    for meta in metas:
        if meta.parent_version in there:
            children.setdefault(meta.parent_version, []).append(meta.version)
        if meta.source in there:
            rollbacks[meta.source] = meta.version
    parting: set[int] = set()
    for version, following in children.items():
        if len(following) > 1:
            parting.update((version, *following[-2:]))
    for version, rollback in rollbacks.items():
        parting.update((version, rollback))
    return parting


def _over(
    policy: RetentionPolicy, metas: Sequence[Meta], reasons: Mapping[int, set[Keep]]
) -> list[int]:
    """What goes so that no more than `max_per_thread` stay."""
    excess = 0 if policy.max_per_thread is None else len(metas) - policy.max_per_thread
    if excess <= 0:
        return []
    worth = sorted((max(_RANK[reason] for reason in reasons[v]), v) for v, *_ in metas)
    return [version for _, version in worth[:excess]]
