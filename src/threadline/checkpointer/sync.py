"""The sync faces: one line each over the async core, no second copy of any logic.

`face(method)` is a method that runs `self.<name>` (so that an override governs it) with just the arguments that
were given. A store that never waits on a network is driven in the calling thread, inside a running loop as well.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Runs(Protocol):
    """What has sync faces: something that can run a coroutine to its end."""

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T: ...


S = TypeVar("S", bound=Runs)


def face(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], T]:
    """The sync twin of an async method."""
    name = method.__name__

    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = self._run(getattr(self, name)(*args, **kwargs))
        return result

    functools.update_wrapper(call, method)
    call.__name__ = name.removeprefix("a")
    call.__qualname__ = method.__qualname__.replace(f".{name}", f".{call.__name__}")
    call.__doc__ = f"`{name}` for sync code; the same arguments, result and errors."
    return call


def face_iter(
    method: Callable[Concatenate[S, P], AsyncIterator[T]],
) -> Callable[Concatenate[S, P], Iterator[T]]:
    """The sync twin of an async iterator."""
    name = method.__name__

    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return drain(self, getattr(self, name)(*args, **kwargs))

    functools.update_wrapper(call, method)
    call.__name__ = name.removeprefix("a")
    call.__doc__ = f"`{name}` for sync code; the same arguments, items and errors."
    return call


def drain(runs: Runs, items: AsyncIterator[T]) -> Iterator[T]:
    """The items of an async iterator, one by one as they are asked for."""
    try:
        while True:
            try:
                yield runs._run(_next(items))
            except StopAsyncIteration:
                return
    finally:
        runs._run(_close(items))


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _close(items: Any) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
