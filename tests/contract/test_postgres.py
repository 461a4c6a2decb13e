"""The PostgreSQL checkpointer takes the contract: alone, on partitioned tables, with Valkey, with Redis 8."""

from __future__ import annotations

import pytest

from threadline import PgCheckpointer, clock
from threadline.testing import CheckpointerContract


def on_the_test_clock(checkpointer: PgCheckpointer) -> PgCheckpointer:
    """The contract moves time: not the server's, but `threadline.clock`."""
    checkpointer._engine.backend.now_us = lambda: clock.now_us()
    return checkpointer


class TestPostgres(CheckpointerContract):
    @pytest.fixture
    def checkpointer(self, empty_store: str) -> PgCheckpointer:
        return on_the_test_clock(PgCheckpointer(empty_store))


class TestPartitionedPostgres(CheckpointerContract):
    @pytest.fixture
    def checkpointer(self, empty_partitioned_store: str) -> PgCheckpointer:
        return on_the_test_clock(PgCheckpointer(empty_partitioned_store))


class TestPostgresWithValkey(CheckpointerContract):
    @pytest.fixture
    def checkpointer(self, empty_store: str, valkey_url: str) -> PgCheckpointer:
        return on_the_test_clock(PgCheckpointer(empty_store, redis_url=valkey_url))


class TestPostgresWithRedis(CheckpointerContract):
    @pytest.fixture
    def checkpointer(self, empty_store: str, redis8_url: str) -> PgCheckpointer:
        return on_the_test_clock(PgCheckpointer(empty_store, redis_url=redis8_url))
