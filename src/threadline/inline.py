"""One core for async and sync callers: a coroutine that never has to wait can be driven to its end by one step.

`run_inline` drives it so and marks the thread while it does; whatever would wait asks `is_inline` and blocks instead.
The mark belongs to the thread, not to the context: a task that is created meanwhile runs later, without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
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


class _Ended:
    """The futures that ended in other threads and that tasks of one loop wait for: it is woken once for all of them,
    since waking it costs more than what they do then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: list[asyncio.Future[None]] = []

    def add(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        """One ended: its waiter shall look. Called in any thread."""
        with self._lock:
            self._ended.append(waiter)
            first = len(self._ended) == 1
        if first:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        for waiter in ended:
            if not waiter.done():
                waiter.set_result(None)


#: By loop, for as long as it lives.
_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Ended] = weakref.WeakKeyDictionary()


async def _await(future: Future[T]) -> T:
    loop = asyncio.get_running_loop()
    ended = _loops.get(loop)
    if ended is None:
        ended = _loops[loop] = _Ended()
    waiter: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda _: ended.add(loop, waiter))
    await waiter
    return future.result()


async def wait(future: Future[T], timeout: float | None = None) -> T:
    """The result of `future`: blocks when inline, else awaits. `timeout`: seconds. Raises TimeoutError.

    When the awaiting task is cancelled or the time is up, a future that is not running yet is cancelled.
    """
    try:
        if is_inline():
            return future.result(timeout)
        async with asyncio.timeout(timeout):
            return await _await(future)
    finally:
        if not future.done():
            future.cancel()


async def offload(executor: Executor, work: Callable[[], T], timeout: float | None = None) -> T:
    """The result of `work`: called here when inline, else in a thread of `executor`. Raises TimeoutError."""
    if is_inline():
        return work()
    return await wait(executor.submit(work), timeout)
