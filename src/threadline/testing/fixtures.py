"""Real servers as pytest fixtures: `pytest_plugins = ["threadline.testing.fixtures"]` in a conftest.py.

One server of each kind for a test process, started when the first test asks for it. Each test gets an empty database
or cache. A test that stops or kills a server starts one of its own, from `threadline.testing.servers`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from threadline.testing.servers import Postgres, Valkey, postgres, redis, valkey


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The PostgreSQL server of this test process."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """The Valkey server of this test process."""
    with valkey() as server:
        yield server


@pytest.fixture(scope="session")
def redis8_server() -> Iterator[Valkey]:
    """The Redis server of this test process."""
    with redis() as server:
        yield server


@pytest.fixture
def pg_dsn(postgres_server: Postgres) -> Iterator[str]:
    """The address of an empty PostgreSQL database; dropped after the test, with the connections to it."""
    dsn = postgres_server.database()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def valkey_url(valkey_server: Valkey) -> str:
    """The address of an empty Valkey."""
    valkey_server.flush()
    return valkey_server.url


@pytest.fixture
def redis8_url(redis8_server: Valkey) -> str:
    """The address of an empty Redis 8."""
    redis8_server.flush()
    return redis8_server.url
