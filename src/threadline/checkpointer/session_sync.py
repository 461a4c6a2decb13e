"""The sync face of a session, and what `BaseCheckpointer.session` returns: a session that is opened by `async with`
or by `with`.

Nodes need an event loop: a sync session runs them on one of its own, unless a loop runs in this thread already, where
a node must not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from threadline.checkpointer.runs import Session
from threadline.checkpointer.session import SessionOptions

T = TypeVar("T")


class SyncSession:
    """A `Session` for sync code: the same methods, arguments, results and errors, without `await`."""

    is_threadline_session: ClassVar[bool] = True

    def __init__(self, session: Session) -> None:
        object.__setattr__(self, "_session", session)
        session.sync = self

    _session: Session
    #: The methods of a Session that wait for the store, and those that run code of the user's.
    _stores: ClassVar[frozenset[str]] = frozenset(
        {"append", "save", "reload", "ask", "answer", "calls"}
    )
    _runs: ClassVar[frozenset[str]] = frozenset({"run", "run_all", "tool"})

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._session, name)
        if name in self._stores:
            return lambda *args, **kwargs: self._run(value(*args, **kwargs))
        if name in self._runs:
            return lambda *args, **kwargs: self._run_nodes(value(*args, **kwargs))
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._session, name, value)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result: T = self._session.checkpointer._run(coroutine)
        return result

    def _run_nodes(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(_awaited(coroutine))
        return self._run(coroutine)


async def _awaited(coroutine: Coroutine[Any, Any, T]) -> T:
    return await coroutine


class Opening:
    """A session before it is opened: `async with` gives a `Session`, `with` a `SyncSession`."""

    def __init__(self, checkpointer: Any, config: dict[str, Any], options: SessionOptions) -> None:
        self._session = Session(checkpointer, config, options)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"a session is opened before it has {name!r}: `async with checkpointer.session(config) as session:`, "
                "or `with` in sync code"
            )

    async def __aenter__(self) -> Session:
        SyncSession(self._session)
        return await self._session.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.__aexit__(kind, error, trace)

    def __enter__(self) -> SyncSession:
        sync = SyncSession(self._session)
        sync._run(self._session.open())
        return sync

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.checkpointer._run(self._session.close())
