"""Connections to PostgreSQL: one pool for each event loop, a deadline for every call, and what its errors mean.

A connection on which a call ran out of time or was cancelled may still answer, to whoever asks next: it is closed,
never handed on. Our own pools leave out the query that asyncpg resets a connection with, one round trip a call: nothing
here changes the state of a session. A caller's pool is used on its own loop, and is neither closed nor changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import asyncpg

from threadline import clock
from threadline.backends.pg_address import NAMED_BY, Dsn, checked_settings
from threadline.backends.pg_lender import Connection as Connection
from threadline.backends.pg_lender import Lender
from threadline.errors import (
    CorruptionError,
    DeadlineError,
    NotStorableError,
    ReleasedError,
    SchemaError,
    StorageFullError,
    ThreadlineError,
    UnavailableError,
)
from threadline.loops import when_loop_ends

T = TypeVar("T")
Work = Callable[[Connection], Awaitable[T]]

#: Connections of one of our pools, and seconds in which one must be made.
POOL_SIZE, CONNECT_SECONDS = 16, 5.0
#: Seconds after the deadline in which another loop may still say that it passed.
_GRACE = 0.25
#: Seconds that closing a pool waits for what still runs on it.
_CLOSE_SECONDS = 5.0


class LostError(UnavailableError):
    """The connection was lost, or the server gave the work up; on another connection it may be done.

    `told`: the server said itself that it undid the work. One that is shutting down may have committed before.
    """

    told = False


class CanceledError(DeadlineError):
    """The server ended the statement, at a time limit of its own or because somebody asked it to."""


def is_told(error: UnavailableError) -> bool:
    """Whether the server said itself that nothing was committed."""
    if isinstance(error, LostError):
        return error.told
    return isinstance(error, CanceledError) or not isinstance(error, DeadlineError)


#: What the driver raises of itself when a connection is gone; the latter, when it has not seen that yet.
_DRIVERS_OWN = (asyncpg.InterfaceError, asyncpg.InternalClientError)


@contextlib.contextmanager
def driver_errors() -> Iterator[None]:
    """Raise what the driver raises as an error of ours; never with a statement's values in it."""
    try:
        yield
    except ThreadlineError:
        raise
    except TimeoutError:
        raise DeadlineError("PostgreSQL did not answer before the deadline") from None
    except asyncpg.PostgresError as error:
        raise _translated(error) from None
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise ValueError(f"PostgreSQL cannot be connected to like this: {error.args[0]}") from None
    except _DRIVERS_OWN as error:
        raise LostError(f"the connection to PostgreSQL was lost: {error.args[0]}") from None
    except (OSError, OverflowError) as error:  # Overflow: no port has such a number.
        said = error.strerror if isinstance(error, OSError) else None
        raise UnavailableError(f"PostgreSQL cannot be reached: {said or error}") from None


#: Classes and codes of SQLSTATE (PostgreSQL, appendix A): the first that fits.
_MEANINGS: tuple[tuple[str, type[ThreadlineError], str], ...] = (
    ("57014", CanceledError, "PostgreSQL ended the statement"),
    ("55P03", CanceledError, "PostgreSQL did not get a lock within its time limit"),
    ("57", LostError, "PostgreSQL is shutting down or starting"),
    ("08", LostError, "the connection to PostgreSQL was lost"),
    ("25006", UnavailableError, "PostgreSQL is read-only"),
    ("28", UnavailableError, "PostgreSQL refused the login"),
    ("3D", UnavailableError, "PostgreSQL has no such database"),
    ("40", LostError, "PostgreSQL undid the transaction"),
    ("42501", ThreadlineError, "the role has not the rights that are needed"),
    ("42P01", SchemaError, "the tables are not there: call setup() or `threadline migrate`"),
    ("3F", SchemaError, "the schema is not there: call setup() or `threadline migrate`"),
    ("53100", StorageFullError, "PostgreSQL has no room left"),
    ("53", UnavailableError, "PostgreSQL has no resources left"),
    ("22021", NotStorableError, "PostgreSQL cannot store a text with this character"),
    ("22P05", NotStorableError, "PostgreSQL cannot store a text with this character"),
    ("22", NotStorableError, "PostgreSQL cannot take a value"),
    ("XX001", CorruptionError, "PostgreSQL found damaged data"),
    ("XX002", CorruptionError, "PostgreSQL found a damaged index"),
)


def _translated(error: asyncpg.PostgresError) -> ThreadlineError:
    state = error.sqlstate or ""
    said = error.args[0] if error.args else type(error).__name__
    if state.startswith(
        "22"
    ):  # What is said of a value quotes it; not so what the driver found, if it was that.
        said = str(error.__cause__ or state)
    for prefix, kind, meaning in _MEANINGS:
        if state.startswith(prefix):
            meant = kind(f"{meaning} ({said})")
            if isinstance(meant, LostError):
                meant.told = state.startswith("40")
            return meant
    return ThreadlineError(f"PostgreSQL: {said} ({state})")


class Link:
    """The connections of one backend, in this process.

    dsn: see `Dsn`. pool: a caller's pool, instead. config: for our own pools, as asyncpg's `create_pool` takes it.
    """

    def __init__(
        self, dsn: Dsn, pool: Any | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        self._dsn, self._config = dsn, checked_settings(config or {})
        self._given = Lender(pool, keeps=False) if pool is not None else None
        self._pools: dict[asyncio.AbstractEventLoop, asyncio.Future[Lender]] = {}
        self._ends: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}
        self._door = threading.Lock()
        self._closed = False
        _links.add(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that a caller's pool belongs to."""
        pool = self._given.pool if self._given is not None else None
        loop: asyncio.AbstractEventLoop | None = getattr(pool, "_loop", None)
        return loop

    async def run(self, work: Work[T], deadline: float) -> T:
        """What `work` does with a connection, until `deadline` (`clock.monotonic`). Raises errors of ours."""
        home, here = self.loop, asyncio.get_running_loop()
        if home is None or home is here:
            return await self._run(work, deadline)
        if not home.is_running():
            raise RuntimeError(
                "the pool that this checkpointer was given belongs to an event loop that is not running"
            )
        there = asyncio.run_coroutine_threadsafe(self._run(work, deadline), home)
        # That loop keeps the deadline too, unless it stands still or ends.
        bound, task = asyncio.timeout(deadline - clock.monotonic() + _GRACE), asyncio.current_task()
        try:
            async with bound:
                return await asyncio.wrap_future(there)
        except TimeoutError:
            if not bound.expired():
                raise
        except asyncio.CancelledError:
            if task is None or task.cancelling():
                raise
        raise DeadlineError(
            "the event loop of the pool that this checkpointer was given stood still until the deadline, or ended"
        ) from None

    async def close(self, *, given: bool = False) -> None:
        """Close our pools, and a caller's when `given`."""
        self._closed = True
        with self._door:
            pools, self._pools = self._pools, {}
            ends, self._ends = self._ends, {}
        for loop, future in pools.items():
            if _is_made(future):
                await _close(loop, future.result())
        # What waits for this loop's end, let go of, would close again, in a task that nobody waits for.
        if (ending := ends.pop(asyncio.get_running_loop(), None)) is not None:
            await ending.aclose()
        if given and self._given is not None and self.loop is not None:
            await _close(self.loop, self._given)

    def forget(self) -> None:
        """In a forked child: the parent's connections are not ours."""
        _inherited.append((self._pools, self._ends))
        self._pools, self._ends, self._door = {}, {}, threading.Lock()

    async def _run(self, work: Work[T], deadline: float) -> T:
        with driver_errors():
            if clock.monotonic() >= deadline:
                raise TimeoutError  # Nobody waits any more: nothing may be begun.
            lender = self._lender()
            connection = lender.spare() if lender is not None else None
            if lender is None or connection is None:
                with self._address_said():
                    async with asyncio.timeout(deadline - clock.monotonic()):
                        lender = lender or await self._pool()
                        connection = await lender.wait()
            whole = False
            try:
                async with asyncio.timeout(deadline - clock.monotonic()):
                    result = await work(connection)
                whole = True
                return result
            except (ThreadlineError, asyncpg.PostgresError):
                whole = not connection.is_in_transaction()
                raise
            except ConnectionError as error:
                raise LostError(f"the connection to PostgreSQL was lost: {error}") from None
            finally:
                if not whole:
                    with contextlib.suppress(
                        asyncpg.InterfaceError
                    ):  # The driver let go of it itself.
                        connection.terminate()
                await lender.back(connection)

    @contextlib.contextmanager
    def _address_said(self) -> Iterator[None]:
        """Say of a server that cannot be reached that nobody said where it is, if so."""
        try:
            with driver_errors():
                yield
        except UnavailableError as error:
            given = self._given is not None or any(map(self._config.get, NAMED_BY))
            if given or self._dsn.is_given:
                raise
            raise type(error)(
                f"{error}. As no address was given (postgres_dsn, else DATABASE_URL or PGHOST in the environment), the "
                "server was looked for on this machine."
            ) from None

    def _lender(self) -> Lender | None:
        """What lends the connections of this loop, when it is there already."""
        if self._given is not None:
            return self._given
        made = self._pools.get(asyncio.get_running_loop())
        if made is None or self._closed or not _is_made(made):
            return None
        return made.result()

    async def _pool(self) -> Lender:
        if self._closed:
            raise ReleasedError()
        loop = asyncio.get_running_loop()
        with self._door:
            future = self._pools.get(loop)
            if future is None or (future.done() and (future.cancelled() or future.exception())):
                for gone in [each for each in self._pools if each.is_closed()]:
                    del self._pools[gone], self._ends[gone]
                future = self._pools[loop] = asyncio.ensure_future(self._make())
                self._ends[loop] = when_loop_ends(functools.partial(self._end, future))
        return await asyncio.shield(future)

    async def _end(self, future: asyncio.Future[Lender]) -> None:
        """The loop of a pool ends."""
        if _is_made(future):
            await _close(asyncio.get_running_loop(), future.result())

    async def _make(self) -> Lender:
        options = {"min_size": 0, "max_size": POOL_SIZE, **self._config}
        # What a caller wants done between two uses of a connection, the pool does.
        keeps = not options.get("setup") and not options.get("reset")
        options.setdefault("reset", _no_reset)
        options.setdefault("timeout", CONNECT_SECONDS)
        options.setdefault("connect", _connect)
        return Lender(await asyncpg.create_pool(self._dsn.resolve(), **options), keeps=keeps)


async def _no_reset(connection: Connection) -> None:
    """Nothing here changes the state of a session, so there is nothing to set back."""


async def _connect(*arguments: Any, **options: Any) -> Connection:
    """A connection of the driver's. Who gives up does not interrupt the driver, which leaves an exception that nobody
    retrieves when that happens between two of its steps: it ends by its own timeout, and what it made is closed."""
    making = asyncio.ensure_future(asyncpg.connect(*arguments, **options))
    try:
        return await asyncio.shield(making)
    except KeyError:  # Of the system's list of users; the driver asks it for a name.
        raise ValueError(
            "PostgreSQL cannot be connected to like this: no user is named (in the address, or as PGUSER), and the "
            "user that this process runs as has no name"
        ) from None
    except asyncio.CancelledError:
        _unwanted.add(making)
        making.add_done_callback(_let_go)
        raise


def _let_go(making: asyncio.Future[Connection]) -> None:
    _unwanted.discard(making)
    if _is_made(making):
        making.result().terminate()


def _is_made(future: asyncio.Future[Any]) -> bool:
    """Whether there is a pool: making one may still run, or have failed."""
    return future.done() and not future.cancelled() and future.exception() is None


async def _close(loop: asyncio.AbstractEventLoop, pool: Lender) -> None:
    """Close a pool on its own loop, waiting a while for what runs on it; then without waiting."""
    if loop.is_closed():
        return
    here = asyncio.get_running_loop()
    if loop is not here and not loop.is_running():
        loop.call_soon_threadsafe(pool.terminate)
        return
    closing: Awaitable[Any] = (
        pool.close()
        if loop is here
        else asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pool.close(), loop))
    )
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await closing
    except (TimeoutError, OSError, asyncpg.PostgresError, *_DRIVERS_OWN):
        loop.call_soon_threadsafe(pool.terminate)


#: Connections that are being made for nobody; a loop alone would forget them.
_unwanted: set[asyncio.Future[Connection]] = set()
_links: weakref.WeakSet[Link] = weakref.WeakSet()
#: What a child inherited and must neither use nor close.
_inherited: list[object] = []


def _after_fork() -> None:
    for link in list(_links):
        link.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
