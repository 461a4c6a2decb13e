"""Event loops: a private one for sync callers of a store that waits on a network, and what is closed when one ends.

A sync call hands its coroutine over to the private loop, on a thread of its own, and blocks until there is a result.
So it works in a script, in a worker thread and inside a running loop, which stands still meanwhile. Where it could
never end it raises instead: on the private loop itself, and on the loop that a caller's pool belongs to. A forked child
begins its own. The loop is woken once for all that was handed over since it looked: waking it costs more than the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

T = TypeVar("T")


class _Call:
    """A coroutine that a sync caller waits for, with his context."""

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        if not asyncio.iscoroutine(coro):
            raise TypeError(f"a coroutine is needed, not {type(coro).__name__}")
        self._coro, self._context = coro, contextvars.copy_context()
        self._task: asyncio.Task[Any] | None = None
        self._over = threading.Lock()
        self._over.acquire()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the loop: make a task of it."""
        self._task = loop.create_task(self._coro, context=self._context)
        self._task.add_done_callback(lambda _: self._over.release())

    def cancel(self) -> None:
        """On the loop, after what was handed over was begun: nobody waits any more."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._coro.close()

    def wait(self) -> None:
        """In the caller's thread: until it is over."""
        self._over.acquire()

    def result(self) -> Any:
        """When it is over: its result. Raises what it raised."""
        task, self._task = self._task, None
        try:
            if task is None or task.cancelled():
                raise CancelledError
            return task.result()
        finally:
            del task  # What it raised holds on to this frame.


class _Home:
    """The loop and its thread, begun when first needed, and the calls that it has not looked at yet."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: list[_Call] = []

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._door:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="threadline-loop", daemon=True
                ).start()
            return self._loop

    def hand_over(self, call: _Call, loop: asyncio.AbstractEventLoop) -> None:
        with self._door:
            # Woken first: a thread that is interrupted in between leaves nothing that is never looked at.
            if not self._calls:
                loop.call_soon_threadsafe(self._begin, loop)
            self._calls.append(call)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._door:
            calls, self._calls = self._calls, []
        for call in calls:
            call.begin(loop)


_home = _Home()
#: What a child inherited: loops whose threads are not there.
_inherited: list[_Home] = []


def _after_fork() -> None:
    global _home
    _inherited.append(_home)
    _home = _Home()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run_private(coro: Coroutine[Any, Any, T], needed: asyncio.AbstractEventLoop | None = None) -> T:
    """The result of `coro`, run on the private loop while this thread waits.

    needed: a loop that must go on running meanwhile. Raises RuntimeError when this thread runs that loop, or the
    private one: the call would wait for itself.
    """
    loop = _home.loop()
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is not None and here in (loop, needed):
        coro.close()
        raise RuntimeError(
            "a sync call on the event loop that it needs would wait for itself: await the async method (`aput_state` "
            "for `put_state`) instead"
        )
    call = _Call(coro)
    try:
        _home.hand_over(call, loop)
        call.wait()
    except BaseException:
        loop.call_soon_threadsafe(call.cancel)
        raise
    result: T = call.result()
    return result


def when_loop_ends(close: Callable[[], Awaitable[object]]) -> AsyncGenerator[None]:
    """Have `close` awaited when the running loop ends; `asyncio.run` and its like see to that before they close one.
    Keep the result for as long as this is wanted; its `aclose()` awaits `close` at once."""
    ending = _ending(close)
    with contextlib.suppress(StopIteration):
        ending.__anext__().send(None)  # Up to the yield, which nothing has to be awaited for.
    return ending


async def _ending(close: Callable[[], Awaitable[object]]) -> AsyncGenerator[None]:
    # A loop that ends finishes its asynchronous generators (PEP 525), so what it should do then stands in one.
    try:
        yield
    finally:
        await close()
        for _ in range(3):  # What was closed has callbacks of its own.
            await asyncio.sleep(0)
