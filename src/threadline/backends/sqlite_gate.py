"""No fork while a thread of this process is inside SQLite.

A forked child has only the thread that forked. A mutex of SQLite that another thread held at that moment stays locked
in the child for ever, and the first connection that the child opens waits for it. So every use of SQLite here passes
a gate, and a fork waits (at most two seconds) until all are outside.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

#: How long a fork waits for the others, in seconds. Then it goes on: a slow query must not stop a program for ever.
PATIENCE = 2.0


class Gate:
    """`with gate:` around every use of SQLite; reentrant per use, shared by all threads but the one that forks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forking = False

    def __enter__(self) -> None:
        with self._changed:
            if self._forking:
                self._changed.wait_for(lambda: not self._forking, PATIENCE)
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._inside -= 1
            if self._forking and self._inside == 0:
                self._changed.notify_all()

    def close(self) -> None:
        """Before a fork: let nobody in, and wait until all are out."""
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: self._inside == 0, PATIENCE)

    def open(self) -> None:
        """After the fork, in the parent."""
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def renew(self) -> None:
        """After the fork, in the child, where nobody else is left."""
        self._changed = threading.Condition()
        self._inside, self._forking = 0, False


#: One for the process: a child cannot know which connection another thread was using.
GATE = Gate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=GATE.close, after_in_parent=GATE.open, after_in_child=GATE.renew)
