"""The pure part of retention: what a policy decides, and which rows nothing needs then."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline.history.freeing import Span, free_rows, joined, releases
from threadline.history.retention import Decision, Gone, Keep, Meta, RetentionPolicy, decide
from threadline.history.row import Range

NOW = 1_000_000_000


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Meta], int]:
    """Checkpoints as a thread has them: gaps, branches, rollbacks, names, clocks that step back; and the head."""
    metas: list[Meta] = []
    versions = sorted(draw(st.sets(st.integers(1, 60), max_size=25)))
    for version in versions:
        parent = draw(st.none() | st.integers(1, version - 1)) if version > 1 else None
        source = draw(st.none() | st.integers(1, version - 1)) if version > 1 else None
        name = draw(st.sampled_from([None, None, "a", "b", "c"]))
        age = draw(st.integers(-5, 100))
        rollback = source if draw(st.booleans()) and draw(st.booleans()) else None
        metas.append(Meta(version, NOW - age * 1_000_000, parent, name, rollback))
    head = draw(st.sampled_from(versions)) if versions and draw(st.booleans()) else 0
    return metas, head if head or not versions else versions[-1]


@st.composite
def policies(draw: st.DrawFn) -> RetentionPolicy:
    last = draw(st.none() | st.integers(1, 12))
    return RetentionPolicy(
        keep_last=last,
        keep_newer_than=draw(st.none() | st.integers(1, 90)),
        keep_first=draw(st.booleans()),
        keep_latest_of_each_name=draw(st.booleans()),
        keep_named=draw(st.booleans()),
        keep_branch_points=draw(st.booleans()),
        max_per_thread=draw(st.none() | st.integers(last or 1, 20)),
    )


def left(metas: list[Meta], decision: Decision) -> list[Meta]:
    return [meta for meta in metas if meta.version in decision.kept]


@given(histories(), policies())
def test_what_always_holds(history: tuple[list[Meta], int], policy: RetentionPolicy) -> None:
    metas, head = history
    decision = decide(policy, metas, head, NOW)
    versions = [meta.version for meta in metas]
    assert sorted([*decision.kept, *decision.dropped]) == versions
    assert list(decision.kept) == sorted(decision.kept)
    assert all(decision.kept.values())
    if head:
        assert Keep.HEAD in decision.kept[head]
    if policy.max_per_thread is not None:
        assert len(decision.kept) <= policy.max_per_thread
    else:
        assert Gone.OVER not in decision.dropped.values()
    if policy.keep_last is not None:
        # Where the bound is too tight for the head beside them, the oldest of them gives way.
        room = (
            min(policy.keep_last, (policy.max_per_thread or 99) - 1) if head else policy.keep_last
        )
        assert set(versions[-room:] if room else []) <= set(decision.kept)
    if not policy.bounded:
        assert decision.dropped == {}


@given(histories(), policies())
def test_deciding_again_drops_nothing(
    history: tuple[list[Meta], int], policy: RetentionPolicy
) -> None:
    metas, head = history
    once = decide(policy, metas, head, NOW)
    again = decide(policy, left(metas, once), head, NOW)
    assert again.dropped == {}
    assert again.kept.keys() == once.kept.keys()


@given(histories(), policies(), st.randoms())
def test_the_order_of_the_checkpoints_does_not_matter(
    history: tuple[list[Meta], int], policy: RetentionPolicy, rng: Any
) -> None:
    metas, head = history
    shuffled = list(metas)
    rng.shuffle(shuffled)
    assert decide(policy, shuffled, head, NOW) == decide(policy, metas, head, NOW)


@given(histories(), policies())
def test_a_more_generous_policy_keeps_no_less(
    history: tuple[list[Meta], int], policy: RetentionPolicy
) -> None:
    metas, head = history
    policy = replace(policy, max_per_thread=None)
    kept = decide(policy, metas, head, NOW).kept.keys()
    more: list[dict[str, Any]] = [
        {"keep_first": True},
        {"keep_latest_of_each_name": True},
        {"keep_named": True},
        {"keep_branch_points": True},
    ]
    if policy.keep_last is not None:
        more.append({"keep_last": policy.keep_last + 1})
    if policy.newer_us is not None:
        more.append({"keep_newer_than": policy.newer_us / 1e6 + 7})
    for change in more:
        assert kept <= decide(replace(policy, **change), metas, head, NOW).kept.keys()
    assert decide(policy, metas, head, NOW + 20_000_000).kept.keys() <= kept


@given(histories(), policies())
def test_each_rule_keeps_what_it_says(
    history: tuple[list[Meta], int], policy: RetentionPolicy
) -> None:
    metas, head = history
    policy = replace(policy, max_per_thread=None)
    kept = decide(policy, metas, head, NOW).kept
    named = {meta.name: meta.version for meta in metas if meta.name}
    if policy.keep_named:
        assert {meta.version for meta in metas if meta.name} <= kept.keys()
    if policy.keep_latest_of_each_name:
        assert set(named.values()) <= kept.keys()
    if policy.keep_first and metas:
        assert metas[0].version in kept
    if policy.newer_us is not None:
        young = {m.version for m in metas if m.created_at > NOW - policy.newer_us}
        assert young <= kept.keys()
    if policy.keep_branch_points:
        parents = [meta.parent_version for meta in metas]
        for meta in metas:
            if parents.count(meta.version) > 1 or any(m.source == meta.version for m in metas):
                assert meta.version in kept


def line(count: int, **names: str) -> list[Meta]:
    by_version = {int(key[1:]): name for key, name in names.items()}
    return [
        Meta(n, NOW - (count - n) * 10**6, n - 1 or None, by_version.get(n))
        for n in range(1, count + 1)
    ]


def test_an_empty_policy_and_protections_alone_drop_nothing() -> None:
    for policy in (
        RetentionPolicy(),
        RetentionPolicy(keep_named=False, keep_branch_points=False),
        RetentionPolicy(keep_first=True, keep_latest_of_each_name=True, keep_named=False),
    ):
        assert decide(policy, line(9), 9, NOW).dropped == {}


def test_what_max_per_thread_gives_up_first() -> None:
    """Age, branch points, names, the latest of a name, the first, the last; of equals the oldest; never the head."""
    metas = line(12, v1="a", v3="a", v4="b", v5="b")
    metas.append(Meta(13, NOW, 2))  # 2 is a branch point, of 3 and 13.
    policy = RetentionPolicy(
        keep_last=2, keep_newer_than=100, keep_first=True, keep_latest_of_each_name=True
    )
    order: list[int] = []
    before = set(decide(policy, metas, 13, NOW).kept)
    assert before == {meta.version for meta in metas}
    for most in range(12, 1, -1):
        kept = set(decide(replace(policy, max_per_thread=most), metas, 13, NOW).kept)
        order += sorted(before - kept)
        before = kept
    assert order == [6, 7, 8, 9, 10, 11, 2, 4, 3, 5, 1]
    assert before == {12, 13}


def test_max_per_thread_holds_when_everything_is_named() -> None:
    metas = [Meta(n, NOW, n - 1 or None, f"name {n}") for n in range(1, 31)]
    policy = RetentionPolicy(max_per_thread=4, keep_latest_of_each_name=True)
    assert list(decide(policy, metas, 30, NOW).kept) == [27, 28, 29, 30]
    policy = RetentionPolicy(max_per_thread=1)
    assert list(decide(policy, metas, 7, NOW).kept) == [7]


def test_where_histories_part_is_kept() -> None:
    metas = [*line(6), Meta(7, NOW, 6, None, 2), Meta(8, NOW, 7), Meta(9, NOW, 8)]
    decision = decide(RetentionPolicy(keep_last=1), metas, 9, NOW)
    assert decision.kept == {2: (Keep.BRANCH,), 7: (Keep.BRANCH,), 9: (Keep.LAST, Keep.HEAD)}
    bare = RetentionPolicy(keep_last=1, keep_branch_points=False)
    assert list(decide(bare, metas, 9, NOW).kept) == [9]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"keep_last": 0}, ValueError),
        ({"keep_last": True}, TypeError),
        ({"keep_last": 2.0}, TypeError),
        ({"max_per_thread": -1}, ValueError),
        ({"keep_last": 5, "max_per_thread": 4}, ValueError),
        ({"keep_newer_than": 0}, ValueError),
        ({"keep_newer_than": math.nan}, ValueError),
        ({"keep_newer_than": math.inf}, ValueError),
        ({"keep_newer_than": "1d"}, TypeError),
        ({"idle_after": timedelta(days=-1)}, ValueError),
        ({"idle_after": True}, TypeError),
        ({"keep_first": 1}, TypeError),
        ({"keep_lats": 1}, TypeError),
    ],
)
def test_a_policy_is_checked(words: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        RetentionPolicy(**words)


def test_spans_of_time() -> None:
    policy = RetentionPolicy(keep_newer_than=timedelta(days=1), idle_after=1.5)
    assert (policy.newer_us, policy.idle_us) == (86_400_000_000, 1_500_000)
    assert policy == RetentionPolicy(keep_newer_than=timedelta(hours=24), idle_after=1.5)
    with pytest.raises(TypeError):
        RetentionPolicy(3)  # type: ignore[misc]


# Rows ---------------------------------------------------------------------------------------------------

RANGES = st.lists(
    st.builds(
        lambda log, start, size: Range(log, start, start + size),
        st.integers(0, 2),
        st.integers(0, 40),
        st.integers(1, 12),
    ),
    max_size=6,
)


@st.composite
def row_lists(draw: st.DrawFn) -> list[Span]:
    spans = []
    for log in range(3):
        at = 0
        for size in draw(st.lists(st.integers(1, 6), max_size=9)):
            if draw(st.booleans()) or draw(st.booleans()):
                spans.append(Span(log, at, at + size, size))
            at += size
    return spans


def needs(ranges: list[Range], span: Span) -> bool:
    return any(r.log == span.log and r.start < span.end and span.start < r.end for r in ranges)


@given(RANGES)
def test_joined_ranges_hold_the_same_positions(ranges: list[Range]) -> None:
    def positions(some: list[Range]) -> set[tuple[int, int]]:
        return {(log, at) for log, start, end in some for at in range(start, end)}

    found = joined(ranges)
    assert positions(found) == positions(ranges)
    assert all(a.log < b.log or a.end < b.start for a, b in pairwise(found))


@given(row_lists(), RANGES, st.lists(st.integers(0, 50), min_size=0, max_size=3))
def test_free_rows_are_closed_and_needed_by_nothing(
    rows: list[Span], needed: list[Range], ends: list[int]
) -> None:
    expected = [
        span
        for span in rows
        if span.log < len(ends) and span.end < ends[span.log] and not needs(needed, span)
    ]
    assert free_rows(rows[::-1], needed, ends) == expected


@given(row_lists(), st.lists(RANGES, max_size=5))
def test_a_row_is_released_with_the_last_group_that_needs_it(
    rows: list[Span], groups: list[list[Range]]
) -> None:
    expected = [
        max((n for n, g in enumerate(groups) if needs(g, span)), default=0) for span in rows
    ]
    assert releases(rows, groups) == expected
