"""The protocol of the caches: what may be kept, replaced and trusted. Pure, and the only place that says so.

The store decides what is true and a cache carries copies, so these rules are about usefulness and about one bound:
a copy is served without asking the store only while its last confirmation is young enough. Both caches follow
`decide`, in Python or as the Lua script that mirrors it; the readers follow `judge_copy` and `trusted`; the model check
runs these very functions against lost, late and repeated operations.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from threadline.batch import Head, Known


class Kept(NamedTuple):
    """What a cache has for a thread and namespace: a copy of `known`; or (not `whole`) only the word that nothing
    older than `known` is to be kept."""

    known: Known
    whole: bool = True


class Write(NamedTuple):
    """What a writer brings: `known` as a whole, or what it adds to the copy of `base`. `refuted`: the copy that the
    store has just contradicted."""

    known: Known
    base: Known | None = None
    refuted: Known | None = None


class Rule(StrEnum):
    """What becomes of what is kept."""

    IGNORE = "ignore"  # It stays.
    TOUCH = "touch"  # It stays, and lives longer.
    EXTEND = "extend"  # What is new is added to it.
    REPLACE = "replace"  # What is brought takes its place.
    FLOOR = "floor"  # It goes, and only the word stays that nothing older is to be kept.


class Verdict(StrEnum):
    """What the store's answer makes of a copy."""

    SAME = "same"  # The copy is the head.
    OTHER = "other"  # The store gave another head.
    GONE = "gone"  # There is no such state, for this user.


def moment(known: Known) -> tuple[int, int]:
    """The order of heads in one life of a thread: every commit that moves the head moves one of these, and `gc`
    whenever the version goes back."""
    return known.gc, known.version


def decide(kept: Kept | None, retired: bool, write: Write) -> Rule:
    """What a write does. `retired`: the write's incarnation was erased. Mirrored by `caches/lua/write.lua`."""
    if retired:
        return Rule.IGNORE
    if write.base is not None:
        if kept is None:
            return Rule.IGNORE  # There is nothing to add to; the next reader brings the whole.
        if kept.whole and kept.known == write.base:
            return Rule.EXTEND
        return Rule.FLOOR if _precedes(kept.known, write.known) else Rule.IGNORE
    if kept is None or kept.known.incarnation != write.known.incarnation:
        return Rule.REPLACE
    if kept.known == write.refuted:
        return Rule.REPLACE  # Also by an older one: the store was set back.
    if kept.whole and kept.known == write.known:
        return Rule.TOUCH
    if _precedes(kept.known, write.known):
        return Rule.REPLACE
    if not kept.whole and moment(kept.known) == moment(write.known):
        return Rule.REPLACE
    return Rule.IGNORE


def decide_floor(kept: Kept | None, floor: Known) -> Rule:
    """What becomes of what is kept when nothing older than `floor` is to be. Mirrored by `caches/lua/floor.lua`."""
    if kept is None or kept.known.incarnation != floor.incarnation:
        return Rule.FLOOR
    return Rule.IGNORE if moment(kept.known) > moment(floor) else Rule.FLOOR


def confirms(kept: Kept | None, known: Known) -> bool:
    """Whether the store's word on `known` is a word on what is kept. Mirrored by `caches/lua/stamp.lua`."""
    return kept is not None and kept.whole and kept.known == known


def judge_copy(head: Head) -> Verdict:
    """What the store's answer to "is it still this one?" makes of the copy that was asked about."""
    if head.thread is not None and head.unchanged:
        return Verdict.SAME
    return (
        Verdict.OTHER if head.thread is not None and head.checkpoint is not None else Verdict.GONE
    )


def trusted(age: float | None, max_stale: float, owner: str | None, user: str | None) -> bool:
    """Whether a copy may be served without asking the store.

    age: seconds since the store last confirmed it, counted from before it was asked; None: it never was. A negative
    age is a clock that went back, and tells nothing. owner, user: the thread's, and the caller's (None: sees all).
    """
    young = age is not None and max_stale > 0 and 0 <= age <= max_stale
    return young and user in (None, owner)


def _precedes(kept: Known, new: Known) -> bool:
    return kept.incarnation != new.incarnation or moment(kept) < moment(new)
