"""Sync callers on the private loop: what comes back, from which context, and a call that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import signal
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from threadline import loops
from threadline.loops import run_private

_who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def test_results_errors_and_the_context_of_the_caller() -> None:
    async def who() -> str:
        await asyncio.sleep(0)
        found = _who.get()
        _who.set("the loop's")
        return found

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("this one")

    token = _who.set("me")
    try:
        assert run_private(who()) == "me"
        assert _who.get() == "me"
    finally:
        _who.reset(token)
    with pytest.raises(LookupError, match="this one"):
        run_private(fails())
    with pytest.raises(TypeError, match="a coroutine is needed"):
        run_private(asyncio.sleep)  # type: ignore[arg-type]


def test_the_loop_is_woken_once_for_what_was_handed_over_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, looked = threading.Event(), threading.Event()
    woken: list[object] = []

    async def hold() -> asyncio.AbstractEventLoop:
        looked.set()
        go.wait()
        return asyncio.get_running_loop()

    async def one(number: int) -> int:
        await asyncio.sleep(0)
        return number

    with ThreadPoolExecutor(9) as threads:
        held = threads.submit(run_private, hold())
        looked.wait()
        loop = loops._home.loop()
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(
            loop, "call_soon_threadsafe", lambda *each: (woken.append(each), wake(*each))[1]
        )
        calls = [threads.submit(run_private, one(number)) for number in range(8)]
        while len(loops._home._calls) < 8:
            time.sleep(0.001)
        go.set()
        assert [each.result() for each in calls] == list(range(8))
        assert held.result() is loop
    assert len(woken) == 1


def test_many_threads_get_each_its_own() -> None:
    async def echo(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def some(number: int) -> bool:
        return all(run_private(echo((number, at))) == (number, at) for at in range(200))

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(some, range(16)))


def test_a_call_that_is_interrupted_is_cancelled_on_the_loop() -> None:
    class Interrupted(Exception):
        pass

    started, interrupted, ended = threading.Event(), threading.Event(), threading.Event()

    def interrupt(*_: Any) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise Interrupted

    async def waits() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    main = threading.get_ident()

    def later() -> None:
        started.wait()
        # A signal that comes between the interpreter's look and its wait for a lock does not end that wait.
        while not interrupted.wait(0.01):
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=later)
    thread.start()
    try:
        with pytest.raises(Interrupted):
            run_private(waits())
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert ended.wait(10)


def test_a_task_that_somebody_cancels_is_told_so() -> None:
    async def gives_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(CancelledError):
        run_private(gives_up())


def test_an_error_leaves_nothing_behind() -> None:
    """No circle of a frame and what it raised, which only a collection would find."""

    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)

    async def fails(thing: Thing) -> None:
        raise LookupError

    coro = fails(thing)
    del thing
    gc.disable()
    try:
        with contextlib.suppress(LookupError):
            run_private(coro)
        del coro
        run_private(asyncio.sleep(0))  # The loop has let go of the task before.
        assert gone() is None
    finally:
        gc.enable()
