"""Which writes are refused: the one place that says so; every backend decides as it does. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from threadline.batch import Batch, CopyFrom, Slot, SlotIs
from threadline.errors import ThreadlineError


class Reason(StrEnum):
    """Why a write was refused."""

    MISSING = "missing"  # No such thread, a deleted one, or another user's: they look alike.
    CONFLICT = (
        "conflict"  # The head or the tail is not what the caller expected, or an `ext_id` is taken.
    )
    STALE = (
        "stale"  # What the write was computed from has moved without moving the head: read again.
    )
    NAMES = "names"  # Another thread has the same key.
    FENCED = "fenced"  # A slot is not what the batch requires: a lease was lost.


class Refused(ThreadlineError):
    """A backend refused a batch; nothing of it was written."""

    def __init__(self, reason: Reason, current: int | None = None) -> None:
        super().__init__(f"the write was refused: {reason.value}")
        self.reason, self.current = reason, current


class ThreadFacts(NamedTuple):
    """What `judge` must know of a thread's row; `live` is False for the row that a deletion leaves."""

    live: bool
    names: tuple[str, str, str]
    user: str | None
    incarnation: bytes
    gc: int
    rev: int


class HeadFacts(NamedTuple):
    """What `judge` must know of a head's row; versions are 0 where there is none."""

    head_version: int = 0
    last_version: int = 0


def holds(required: SlotIs, slot: Slot | None, at: int) -> bool:
    """Whether a slot that a batch requires is as it says at `at` (microseconds). Pure."""
    if slot is None or (slot.expires_at is not None and slot.expires_at <= at):
        return False
    return slot.payload == required.payload


def judge(batch: Batch, thread: ThreadFacts | None, head: HeadFacts, fenced: bool = False) -> None:
    """Raise `Refused` unless the batch may be committed onto what is there now. `fenced`: a slot that it requires
    is not as it says. Pure."""
    live = thread is not None and thread.live
    if thread is None or not live:
        if not batch.create or (batch.expected is not None and batch.expected.version > 0):
            raise Refused(Reason.MISSING)
    else:
        if thread.names != batch.names:
            raise Refused(Reason.NAMES)
        if batch.user is not None and thread.user != batch.user:
            raise Refused(Reason.MISSING)
        if batch.requires is not None and thread.incarnation != batch.requires:
            raise Refused(Reason.MISSING)
        if batch.assumes_gc is not None and thread.gc != batch.assumes_gc:
            raise Refused(Reason.STALE)
        if batch.assumes_rev is not None and thread.rev != batch.assumes_rev:
            raise Refused(Reason.STALE)
        if batch.copies_all:
            raise Refused(Reason.CONFLICT, head.head_version)
    if fenced:
        raise Refused(Reason.FENCED)
    if batch.expected is None:
        return
    known = batch.expected.incarnation
    if live and thread is not None and known is not None and thread.incarnation != known:
        raise Refused(Reason.MISSING)
    current = head.head_version if live else 0
    if current != batch.expected.version:
        raise Refused(Reason.CONFLICT, current)
    if head.last_version != batch.last_version:
        raise Refused(Reason.STALE, current)


def judge_copy(batch: Batch, copy: CopyFrom, source: ThreadFacts | None, head: HeadFacts) -> None:
    """Raise `Refused` unless a batch may copy from a thread, of which this is there. `head`: of its namespace. Pure."""
    if source is None or not source.live or source.incarnation != copy.incarnation:
        raise Refused(Reason.MISSING)
    if batch.user is not None and source.user != batch.user:
        raise Refused(Reason.MISSING)
    if not copy.is_as_read(source.gc, head.last_version):
        raise Refused(Reason.STALE)


def judge_again(batch: Batch, thread: ThreadFacts) -> None:
    """Raise `Refused` unless the result of a batch that was committed before may be told to this caller. Pure."""
    if thread.live and batch.user is not None and thread.user != batch.user:
        raise Refused(Reason.MISSING)
