"""Time and identities: the only place that asks the machine for either.

Stored times are microseconds since the epoch (UTC). Identities sort by the time they were made (the layout
of UUID version 7, RFC 9562) and never repeat or go back within a process, even when the clock does.
Tests inject another source with `use`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Pool:
    """Random bytes from the system, fetched many at a time: a system call for each identity costs more than the
    rest of making it. A forked child begins an empty one, or it would repeat its parent's."""

    SIZE = 4096

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = b""

    def take(self, count: int) -> bytes:
        with self._lock:
            if len(self._bytes) < count:
                self._bytes = os.urandom(max(self.SIZE, count))
            taken, self._bytes = self._bytes[:count], self._bytes[count:]
            return taken


_pool = _Pool()


_wall: Callable[[], int] = lambda: time.time_ns() // 1000  # noqa: E731 - a replaceable source, not a function
_random: Callable[[int], bytes] = lambda count: _pool.take(count)  # noqa: E731 - as above
_lock = threading.Lock()
_last = 0


def _after_fork() -> None:
    global _pool, _lock
    _pool, _lock = _Pool(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def now_us() -> int:
    """Microseconds since the epoch, by the wall clock (or the one in `use`)."""
    return _wall()


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return from_us(now_us())


def from_us(microseconds: int) -> datetime:
    """The aware UTC moment of a stored time."""
    return EPOCH + timedelta(microseconds=microseconds)


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch of an aware moment. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(
            f"{moment!r} has no time zone; use an aware datetime, e.g. datetime.now(UTC)"
        )
    return (moment - EPOCH) // timedelta(microseconds=1)


def monotonic() -> float:
    """Seconds on a clock that never goes back: for deadlines and durations only."""
    return time.monotonic()


def random_bytes(count: int) -> bytes:
    """Unpredictable bytes (or those of the source in `use`)."""
    return _random(count)


def new_id_bytes() -> bytes:
    """16 bytes that sort after every identity made before in this process."""
    global _last
    with _lock:
        # 48 bits of milliseconds and 12 bits that count inside one; a clock that steps back only counts on.
        _last = max(_last + 1, (_wall() // 1000) << 12)
        stamp = _last
    tail = int.from_bytes(_random(8), "big")
    value = (stamp >> 12 & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64
    value |= 0b10 << 62 | tail & 0x3FFFFFFFFFFFFFFF
    return value.to_bytes(16, "big")


def new_id() -> str:
    """A new identity as 32 hexadecimal digits, sorting after those made before in this process."""
    return new_id_bytes().hex()


#: Below this, a version can be named by an identity: the first bytes of one that was made by the time are never 0.
_NAMED = 1 << 40


def new_id_of(version: int) -> bytes:
    """16 bytes that name a version: it, as 8 bytes, and 63 random bits. An RFC 9562 identity never looks like this: it
    has a 1 where the bit before the random ones is 0."""
    if not 0 < version < _NAMED:
        return new_id_bytes()
    tail = int.from_bytes(_random(8), "big") & 0x7FFFFFFFFFFFFFFF
    return (version << 64 | tail).to_bytes(16, "big")


def named_by(identity: bytes) -> tuple[int, int] | None:
    """The version that an identity of `new_id_of` names and its random bits as a number; None for any other."""
    version, tail = int.from_bytes(identity[:8], "big"), int.from_bytes(identity[8:], "big")
    return (version, tail) if 0 < version < _NAMED and tail < 1 << 63 else None


@contextmanager
def use(
    wall_us: Callable[[], int] | None = None, random: Callable[[int], bytes] | None = None
) -> Iterator[None]:
    """Take time (microseconds) and randomness from other sources, for tests.

    Process-wide while the block runs; not meant for code that runs beside other threads' clocks.
    """
    global _wall, _random, _last
    before = _wall, _random, _last
    _wall, _random = wall_us or _wall, random or _random
    _last = 0 if wall_us else _last
    try:
        yield
    finally:
        _wall, _random, _last = before
