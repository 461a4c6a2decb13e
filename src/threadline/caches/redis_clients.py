"""The connections of a Redis or Valkey cache: one client for each event loop of each process, or the caller's own.

Ours have short timeouts and never retry (the database answers instead). A caller's client or pool is used as it is, by
the event loop that used it first and in the process that made it, and is never closed or changed.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from threadline.loops import when_loop_ends


class Client(Protocol):
    """What is used of redis-py's `Redis` and `RedisCluster`."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its reply."""


class Clients:
    """The client of the running loop."""

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Client | None = None,
        pool: ConnectionPool | None = None,
        pool_config: Mapping[str, Any] | None = None,
        timeout: float,
        close_given: bool = False,
    ) -> None:
        if sum(each is not None for each in (url, client, pool)) != 1:
            raise ValueError("a cache needs one of: a URL, a client, a connection pool")
        if client is not None and not inspect.iscoroutinefunction(client.execute_command):
            raise TypeError(
                f"the client must be of redis.asyncio (Redis, RedisCluster), not {type(client).__name__}"
            )
        if pool is not None and not isinstance(pool, ConnectionPool):
            raise TypeError(
                f"the pool must be a redis.asyncio.ConnectionPool, not {type(pool).__name__}"
            )
        self._url, self._timeout, self._close_given = url or "", timeout, close_given
        self._config = dict(pool_config or {})
        self._given: Client | None = client
        if pool is not None:
            self._given = Redis(connection_pool=pool)
        if self._given is None:
            _try_settings(self._make())
        self._lock = threading.Lock()
        self._made_in = os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._ours: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()
        self._ends: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None]]
        self._ends = WeakKeyDictionary()
        self._bound: ref[asyncio.AbstractEventLoop] | None = None

    def current(self) -> Client | None:
        """The client of the running loop; None where a caller's one belongs to another loop or process."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._pid != os.getpid():
                self._begin()  # In a forked child: its parent's connections are not its own.
            if self._given is not None:
                return self._given if self._may_use(loop) else None
            if loop not in self._ours:
                made = self._ours[loop] = self._make()
                self._ends[loop] = when_loop_ends(made.aclose)
            client: Client = self._ours[loop]
            return client

    def _may_use(self, loop: asyncio.AbstractEventLoop) -> bool:
        bound = self._bound() if self._bound is not None else None
        if bound is None or bound.is_closed():
            self._bound = ref(loop)
            bound = loop
        return bound is loop and self._made_in == self._pid

    def _make(self) -> Redis:
        settings: dict[str, Any] = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),
            "max_connections": 1024,
            **self._config,
        }
        client: Redis = Redis.from_url(self._url, **settings)
        return client

    async def close(self) -> None:
        """Close the clients that were made here: that of the running loop, and those of other loops that still run;
        and a caller's, when that was asked for."""
        here = asyncio.get_running_loop()
        with self._lock:
            closing_all: dict[asyncio.AbstractEventLoop, Any] = {}
            if self._pid == os.getpid():
                closing_all.update(self._ours)
                if self._close_given and self._given is not None:
                    closing_all[(self._bound() if self._bound else None) or here] = self._given
            self._ours.clear()
        for loop, client in closing_all.items():
            if loop is here:
                await _close(client)
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_close(client), loop)
                await asyncio.wait([asyncio.wrap_future(closing)], timeout=1.0)


def _try_settings(client: Redis) -> None:
    """Raise TypeError for a setting that no connection has. Nothing is connected: later the cache would stay silent."""
    pool = client.connection_pool
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        raise TypeError(f"pool_config (or the URL) has what no connection takes: {error}") from None


async def _close(client: Any) -> None:
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if pool is not None:  # A client does not close a pool that it was given.
        await pool.disconnect()
