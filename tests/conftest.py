"""Fixtures for every test: real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from threadline.testing.servers import PgBouncer, ServerError, pgbouncer

pytest_plugins = ["threadline.testing.fixtures"]


@pytest.fixture
def pooler(pg_dsn: str) -> Iterator[PgBouncer]:
    """A PgBouncer in front of an empty database. It is no Python package: CI installs it and fails without it;
    elsewhere its tests are skipped, with this reason, when it is missing."""
    try:
        server = pgbouncer(pg_dsn)
    except ServerError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with server:
        yield server
