"""`PgCheckpointer`: PostgreSQL, for any number of processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from threadline.backends import pg_migrate
from threadline.backends.pg_sql import Sql
from threadline.backends.postgres import PostgresBackend
from threadline.cache import SharedCache
from threadline.caches.local import LocalCache
from threadline.checkpointer.base import BaseCheckpointer, checked_timeout
from threadline.checkpointer.messages import projection
from threadline.checkpointer.sync import face
from threadline.codec.envelope import Codec
from threadline.history.retention import RetentionPolicy
from threadline.telemetry import operation


class PgCheckpointer(BaseCheckpointer):
    """Keeps state, messages and threads in a schema of a PostgreSQL database (15 or newer), with a cache on Redis or
    Valkey if you name one.

    The database. postgres_dsn: `postgresql://user@host:5432/database`; `postgres://` and `postgresql+asyncpg://` mean
    the same. None: DATABASE_URL or the PG* variables, read when the first connection is made. pg_pool: an asyncpg pool
    of yours, instead; it is used on its own event loop and not changed. pool_config: for a pool of ours, arguments of
    `asyncpg.create_pool`, such as `max_size` (default 16). schema: where the tables lie, made when missing.
    user_id_type: the type of the column of user ids, "string" (default; takes numbers too), "int" (32 bits) or
    "bigint"; other user ids are refused. partitions: hash partitions of each table of a new store; default: none.
    create: False opens only a store that is there and up to date, and needs no right to create anything; else a
    SchemaError. durability: "strict" (default), or "relaxed": the last commits may go with a crash of the server.
    timeout: seconds in which every call ends, default 10.

    The cache. redis_url: `redis://host:6379/0`; or redis: a `redis.asyncio` client of yours; or redis_pool: a
    connection pool of yours. redis_pool_config: for connections of ours, settings of redis-py. cache_ttl: seconds that
    a copy is kept since it was written or confirmed, default a day. max_cached_threads: of how many threads copies are
    kept, in all processes together; default: no bound. max_stale: for how many seconds (at most 60, default 2)
    `aget_state_cache` may serve a copy without asking the database; `aget_state` always asks.

    release_resources: True closes what you handed in, too, when this is released; default: only what was opened here.
    Other arguments: see `BaseCheckpointer`.
    """

    def __init__(
        self,
        postgres_dsn: str | None = None,
        *,
        pg_pool: Any | None = None,
        pool_config: Mapping[str, Any] | None = None,
        redis_url: str | None = None,
        redis: Any | None = None,
        redis_pool: Any | None = None,
        redis_pool_config: Mapping[str, Any] | None = None,
        schema: str = "public",
        user_id_type: Literal["string", "int", "bigint"] = "string",
        partitions: int | None = None,
        create: bool = True,
        cache_ttl: float = 86_400,
        max_cached_threads: int | None = None,
        max_stale: float = 2.0,
        release_resources: bool = False,
        durability: Literal["strict", "relaxed"] = "strict",
        timeout: float = 10.0,
        state_class: type | None = None,
        require_user: bool = False,
        require_base: bool = False,
        retention: RetentionPolicy | None = None,
    ) -> None:
        backend = PostgresBackend(
            postgres_dsn,
            pool=pg_pool,
            config=pool_config,
            schema=schema,
            user_ids=user_id_type,
            partitions=partitions,
            create=create,
            timeout=checked_timeout(timeout),
            relaxed=_is_relaxed(durability),
            close_pool=release_resources,
            projection=projection(Codec()),
        )
        shared = _shared_cache(
            redis_url,
            client=redis,
            pool=redis_pool,
            pool_config=redis_pool_config,
            ttl=cache_ttl,
            max_threads=max_cached_threads,
            close_given=release_resources,
        )
        self._postgres = backend
        super().__init__(
            backend,
            LocalCache(),
            shared=shared,
            max_stale=max_stale,
            state_class=state_class,
            require_user=require_user,
            require_base=require_base,
            retention=retention,
        )

    @staticmethod
    def migration_sql(
        *,
        schema: str = "public",
        user_id_type: Literal["string", "int", "bigint"] = "string",
        partitions: int = 0,
    ) -> str:
        """The SQL that makes a store in an empty schema, in one transaction, for those who run DDL by hand. Arguments
        as above; ValueError for those that cannot be. `apending_sql` tells what a store that is there still needs."""
        return pg_migrate.script(Sql(schema, user_id_type), partitions)

    @operation
    async def apending_sql(self) -> str:
        """The SQL that brings the database's store up to date, in one transaction, for those who run DDL by hand: all
        of it where there is no store yet, only a comment where nothing is to be done. Changes nothing. Raises
        SchemaError for a store that a newer version has made, or that has other user ids or partitions."""
        return await self._postgres.pending_sql()

    pending_sql = face(apending_sql)


def _shared_cache(
    url: str | None, *, client: Any | None, pool: Any | None, **settings: Any
) -> SharedCache | None:
    """A cache on the server that was named in one of three ways, if it was."""
    if url is None and client is None and pool is None:
        return None
    # redis-py is imported only by those who use it.
    from threadline.caches.redis import RedisCache

    return RedisCache(url, client=client, pool=pool, **settings)


def _is_relaxed(durability: str) -> bool:
    if durability not in ("strict", "relaxed"):
        raise ValueError(f'durability must be "strict" or "relaxed", not {durability!r}')
    return durability == "relaxed"
