"""One core for async and sync callers: a coroutine that never has to wait can be driven to its end by one step.

`run_inline` drives it so and marks the thread while it does; whatever would wait asks `is_inline` and blocks instead.
The mark belongs to the thread, not to the context: a task that is created meanwhile runs later, without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class _Mark(threading.local):
    inline = False


_mark = _Mark()


def is_inline() -> bool:
    """Whether a sync caller stands above: this code may block, and must not suspend."""
    return _mark.inline


def run_inline(coro: Coroutine[Any, Any, T]) -> T:
    """Drive `coro` to its end here and now. Raises RuntimeError if it suspends."""
    before, _mark.inline = _mark.inline, True
    try:
        coro.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        _mark.inline = before
    coro.close()
    raise RuntimeError(
        "a sync call came to something that waits on an event loop; call the async method instead"
    )


async def wait(future: Future[T], timeout: float | None = None) -> T:
    """The result of `future`: blocks when inline, else awaits. `timeout`: seconds. Raises TimeoutError.

    When the awaiting task is cancelled or the time is up, a future that is not running yet is cancelled.
    """
    try:
        if is_inline():
            return future.result(timeout)
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(future)
    finally:
        if not future.done():
            future.cancel()


async def offload(executor: Executor, work: Callable[[], T], timeout: float | None = None) -> T:
    """The result of `work`: called here when inline, else in a thread of `executor`. Raises TimeoutError."""
    if is_inline():
        return work()
    return await wait(executor.submit(work), timeout)
