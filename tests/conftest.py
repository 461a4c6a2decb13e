"""Fixtures for every test: real servers, and empty PostgreSQL stores, made once for a test process and emptied before
each test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import asyncpg
import pytest

from threadline import PgCheckpointer
from threadline.testing.servers import PgBouncer, Postgres, ServerError, pgbouncer

pytest_plugins = ["threadline.testing.fixtures"]


def _pooler(dsn: str) -> Iterator[PgBouncer]:
    """A PgBouncer in front of a database. It is no Python package: CI installs it and fails without it; elsewhere its
    tests are skipped, with this reason, when it is missing."""
    try:
        server = pgbouncer(dsn)
    except ServerError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def pooler(pg_dsn: str) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode, in front of an empty database."""
    yield from _pooler(pg_dsn)


TABLES = [
    "threads",
    "thread_terms",
    "heads",
    "checkpoints",
    "log_rows",
    "blobs",
    "entries",
    "slots",
    "journal",
]


async def empty(dsn: str) -> None:
    """Take every thread out of a store."""
    connection = await asyncpg.connect(dsn)
    try:
        names = ", ".join(f"threadline_{name}" for name in TABLES)
        await connection.execute(f"TRUNCATE {names}")
    finally:
        await connection.close()


def _store(server: Postgres, partitions: int) -> Iterator[str]:
    dsn = server.database()
    with PgCheckpointer(dsn, partitions=partitions):
        yield dsn
    server.drop_database(dsn)


@pytest.fixture(scope="session")
def plain_store(postgres_server: Postgres) -> Iterator[str]:
    yield from _store(postgres_server, 0)


@pytest.fixture(scope="session")
def partitioned_store(postgres_server: Postgres) -> Iterator[str]:
    yield from _store(postgres_server, 3)


@pytest.fixture
def empty_store(plain_store: str) -> str:
    """The address of a store without any thread."""
    asyncio.run(empty(plain_store))
    return plain_store


@pytest.fixture
def empty_partitioned_store(partitioned_store: str) -> str:
    """The same, on partitioned tables."""
    asyncio.run(empty(partitioned_store))
    return partitioned_store


@pytest.fixture(scope="session")
def pooled_store(plain_store: str) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode, in front of a store."""
    yield from _pooler(plain_store)


@pytest.fixture
def empty_pooled_store(pooled_store: PgBouncer, empty_store: str) -> str:
    """The address of a store without any thread, through a PgBouncer."""
    return pooled_store.dsn
