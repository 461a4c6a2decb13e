"""The PostgreSQL checkpointer takes the contract: on plain tables and on partitioned ones."""

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
