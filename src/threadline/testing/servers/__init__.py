"""Real servers for tests, started from what is installed beside Python: nothing to set up, nothing left behind.

    from threadline.testing.servers import postgres, valkey

    with postgres() as database, valkey() as cache:
        checkpointer = PgCheckpointer(postgres_dsn=database.dsn, redis_url=cache.url)
        ...
        database.kill()  # SIGKILL, to every process of it
        database.start()

Read `process.py` first: how a server is run, watched and ended. `postgres.py`, `valkey.py`, `cluster.py` and
`pgbouncer.py` each know one kind. Linux, and other Unix systems as far as they were tried; not Windows.
"""

from __future__ import annotations

from threadline.testing.servers.cluster import Cluster as Cluster
from threadline.testing.servers.cluster import valkey_cluster as valkey_cluster
from threadline.testing.servers.pgbouncer import PgBouncer as PgBouncer
from threadline.testing.servers.pgbouncer import pgbouncer as pgbouncer
from threadline.testing.servers.postgres import Postgres as Postgres
from threadline.testing.servers.postgres import postgres as postgres
from threadline.testing.servers.process import ServerError as ServerError
from threadline.testing.servers.valkey import Valkey as Valkey
from threadline.testing.servers.valkey import redis as redis
from threadline.testing.servers.valkey import valkey as valkey

__all__ = [
    "Cluster",
    "PgBouncer",
    "Postgres",
    "ServerError",
    "Valkey",
    "pgbouncer",
    "postgres",
    "redis",
    "valkey",
    "valkey_cluster",
]
