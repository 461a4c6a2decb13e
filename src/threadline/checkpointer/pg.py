"""`PgCheckpointer`: PostgreSQL, for any number of processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from threadline.backends.postgres import PostgresBackend
from threadline.caches.local import LocalCache
from threadline.checkpointer.base import BaseCheckpointer
from threadline.checkpointer.messages import projection
from threadline.codec.envelope import Codec
from threadline.history.retention import RetentionPolicy


class PgCheckpointer(BaseCheckpointer):
    """Keeps state, messages and threads in a schema of a PostgreSQL database (15 or newer).

    postgres_dsn: `postgresql://user@host:5432/database`; `postgres://` and `postgresql+asyncpg://` mean the same. None:
    DATABASE_URL or the PG* variables, read when the first connection is made. pg_pool: an asyncpg pool of yours,
    instead; it is used on its own event loop and not changed. pool_config: for a pool of ours, arguments of
    `asyncpg.create_pool`, such as `max_size` (default 16). schema: where the tables lie, made when missing.
    user_id_type: the type of the column of user ids, "string" (default; takes numbers too), "int" (32 bits) or
    "bigint"; other user ids are refused. partitions: hash partitions of each table of a new store; default: none.
    release_resources: True closes what you handed in, too, when this is released; default: only what was opened here.
    durability: "strict" (default), or "relaxed": the last commits may go with a crash of the server. timeout: seconds
    in which every call ends, default 10. Other arguments: see `BaseCheckpointer`.
    """

    def __init__(
        self,
        postgres_dsn: str | None = None,
        *,
        pg_pool: Any | None = None,
        pool_config: Mapping[str, Any] | None = None,
        schema: str = "public",
        user_id_type: Literal["string", "int", "bigint"] = "string",
        partitions: int | None = None,
        release_resources: bool | None = None,
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
            timeout=timeout,
            projection=projection(Codec()),
        )
        super().__init__(
            backend,
            LocalCache(),
            state_class=state_class,
            require_user=require_user,
            require_base=require_base,
            retention=retention,
        )
