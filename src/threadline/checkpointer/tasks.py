"""Which tasks a node started, so that they can be waited for: a task made in the node's context is the node's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

_started: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("threadline_started", default=None)


@contextlib.contextmanager
def noticing() -> Iterator[set[asyncio.Task[Any]]]:
    """The tasks that are started in this block of this context, and by those; filled as they come."""
    _watch(asyncio.get_running_loop())
    tasks: set[asyncio.Task[Any]] = set()
    token = _started.set(tasks)
    try:
        yield tasks
    finally:
        _started.reset(token)


async def finished(tasks: set[asyncio.Task[Any]]) -> BaseException | None:
    """Wait for these tasks and those that they start; the first error that one of them ended with."""
    seen: set[asyncio.Task[Any]] = set()
    current = asyncio.current_task()
    while waiting := {task for task in tasks - seen if task is not current}:
        seen |= waiting
        await asyncio.wait(waiting)
    failed = [task.exception() for task in seen if not task.cancelled()]
    return next((error for error in failed if error is not None), None)


class _Noticing:
    """A loop's task factory that remembers a task with the node it was started by, and else is the one before."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        if self._before is not None:
            task = self._before(loop, coro, **options)
        else:
            task = asyncio.Task(coro, loop=loop, **options)
        started = _started.get()
        if started is not None:
            started.add(task)
        return task


def _watch(loop: asyncio.AbstractEventLoop) -> None:
    before = loop.get_task_factory()
    if not isinstance(before, _Noticing):
        loop.set_task_factory(_Noticing(before))
