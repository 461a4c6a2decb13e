"""The state machine, on every backend: 2,000 steps each (400 on PostgreSQL, where a step takes longer), 20,000 with
`make soak`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest

from threadline import InMemoryCheckpointer, PgCheckpointer, SqliteCheckpointer, clock
from threadline.checkpointer import BaseCheckpointer
from threadline.testing.machine import CheckpointerMachine, play

# A long form takes minutes, and a failure is made small before it is shown.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


class MemoryMachine(CheckpointerMachine):
    def open(self) -> BaseCheckpointer:
        return InMemoryCheckpointer()


class SqliteMachine(CheckpointerMachine):
    durable = True

    def open(self) -> BaseCheckpointer:
        self.folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        return self.reopen()

    def reopen(self) -> BaseCheckpointer:
        return SqliteCheckpointer(Path(self.folder) / "memory.db", durability="relaxed")


class PostgresMachine(CheckpointerMachine):
    durable = True
    dsn: ClassVar[str]
    cache: ClassVar[dict[str, Any]] = {}
    opened: ClassVar[int] = 0

    def open(self) -> BaseCheckpointer:
        type(self).opened += 1
        return self.reopen()

    def reopen(self) -> BaseCheckpointer:
        schema = f"machine {self.opened}"  # Another store while one is open must be another.
        checkpointer = PgCheckpointer(self.dsn, schema=schema, **self.cache)
        checkpointer._engine.backend.now_us = lambda: clock.now_us()
        return checkpointer


@pytest.mark.parametrize("machine", [MemoryMachine, SqliteMachine])
def test_a_checkpointer_is_what_the_model_says(machine: type[CheckpointerMachine]) -> None:
    # Runs may end a little early; a machine that stops at once would prove nothing.
    assert play(machine) >= 1_900


STEPS = None if os.environ.get("THREADLINE_SOAK") == "1" else 400


def test_postgres_is_what_the_model_says(pg_dsn: str) -> None:
    class Machine(PostgresMachine):
        dsn = pg_dsn

    assert play(Machine, STEPS) >= 350


def test_postgres_with_a_cache_is_what_the_model_says(pg_dsn: str, valkey_url: str) -> None:
    class Machine(PostgresMachine):
        dsn, cache = pg_dsn, {"redis_url": valkey_url}

    assert play(Machine, STEPS) >= 350
