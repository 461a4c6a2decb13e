"""A breaker: what does not answer is not asked for a while, and then asked once to see.

Closed: calls go through. After 5 failures in a row, or when half of the last 20 calls failed, it opens for a second:
no call goes through. Then one call may try (half-open): if it succeeds the breaker closes, if not it opens for twice
as long, up to 30 seconds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from threadline import clock

#: Failures in a row that open it; of how many calls half may fail; seconds that it stays open at first, at most.
IN_A_ROW, WINDOW = 5, 20
FIRST, LONGEST = 1.0, 30.0


class BreakerState(StrEnum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Shared by the threads of a process. Every call that was let through is reported by its ticket, once.

    now: seconds on a clock that never goes back. changed: called with the new state, outside the lock.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = clock.monotonic,
        changed: Callable[[BreakerState], None] = lambda state: None,
    ) -> None:
        self._now, self._changed = now, changed
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._ticket = 0  # Of the present state; what was begun before it tells nothing any more.
        self._failed: deque[bool] = deque(maxlen=WINDOW)
        self._row = 0
        self._wait, self._until = FIRST, 0.0

    @property
    def state(self) -> BreakerState:
        """Closed, open or half-open."""
        return self._state

    @property
    def wait(self) -> float:
        """How long it stays open, or would at the next time, in seconds."""
        return self._wait

    def allow(self) -> int | None:
        """A ticket for one call, or None while no call may be made."""
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return self._ticket
            if self._state is BreakerState.HALF_OPEN or self._now() < self._until:
                return None
            self._move(BreakerState.HALF_OPEN)
            return self._ticket

    def ok(self, ticket: int) -> None:
        """The call was answered."""
        with self._lock:
            if ticket != self._ticket:
                return
            self._row = 0
            self._failed.append(False)
            if self._state is BreakerState.CLOSED:
                return
            self._wait = FIRST
            self._failed.clear()
            self._move(BreakerState.CLOSED)
        self._changed(BreakerState.CLOSED)

    def failed(self, ticket: int) -> None:
        """The call was not answered."""
        with self._lock:
            if ticket != self._ticket:
                return
            self._row += 1
            self._failed.append(True)
            half = len(self._failed) == WINDOW and sum(self._failed) * 2 >= WINDOW
            probing = self._state is BreakerState.HALF_OPEN
            if not (probing or half or self._row >= IN_A_ROW):
                return
            self._wait = min(self._wait * 2, LONGEST) if probing else FIRST
            self._open()
        if not probing:
            self._changed(BreakerState.OPEN)

    def abandoned(self, ticket: int) -> None:
        """The caller went away before there was an answer: the call tells nothing, and another may try."""
        with self._lock:
            if ticket == self._ticket and self._state is BreakerState.HALF_OPEN:
                self._until = self._now()
                self._move(BreakerState.OPEN)

    def _open(self) -> None:
        self._until = self._now() + self._wait
        self._row = 0
        self._failed.clear()
        self._move(BreakerState.OPEN)

    def _move(self, state: BreakerState) -> None:
        self._state = state
        self._ticket += 1
