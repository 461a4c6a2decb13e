"""What a log consists of in a store: ranges over it, and the rows and blobs that hold its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class RowSize(NamedTuple):
    """When a row of a log is full, so that the next item begins another: once it holds `plain` bytes before compression
    or takes `stored` after it (None: that never counts)."""

    plain: int = 24 * 1024
    stored: int | None = None


ROW_SIZE = RowSize()


class Range(NamedTuple):
    """Positions `start` (inclusive) to `end` (exclusive) of log number `log` of a thread and namespace."""

    log: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Row:
    """Neighbouring items of one log in one sealed payload. `p_start` and `p_end` are the log's prefix digests
    before the first and after the last item; `kind` is that of every item in it."""

    log: int
    start: int
    count: int
    payload: bytes
    p_start: bytes
    p_end: bytes
    kind: int = 0
    key_id: int = 0

    @property
    def end(self) -> int:
        """The position behind the last item."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Blob:
    """A large field by content address (16 bytes)."""

    id: bytes
    payload: bytes
    key_id: int = 0
