"""Every checkpointer that an adapter must work on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from threadline import BaseCheckpointer, InMemoryCheckpointer, PgCheckpointer, SqliteCheckpointer

#: How each is made. Another checkpointer is one line more.
MAKERS: dict[str, Callable[[pytest.FixtureRequest, Path], BaseCheckpointer]] = {
    "memory": lambda _, path: InMemoryCheckpointer(),
    "sqlite": lambda _, path: SqliteCheckpointer(path / "memory.db"),
    "postgres": lambda request, path: PgCheckpointer(
        request.getfixturevalue("pg_dsn"), schema=f"s{path.name}"
    ),
    "postgres-valkey": lambda request, path: PgCheckpointer(
        request.getfixturevalue("pg_dsn"),
        schema=f"s{path.name}",
        redis_url=request.getfixturevalue("valkey_url"),
    ),
}


@pytest.fixture(params=MAKERS)
async def make_checkpointer(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[], BaseCheckpointer]]:
    """Makes checkpointers over empty stores of one kind, released after the test."""
    async with AsyncExitStack() as made:
        numbers = count(1)

        def make() -> BaseCheckpointer:
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            checkpointer = MAKERS[request.param](request, folder)
            made.push_async_callback(checkpointer.arelease)
            return checkpointer

        yield make


@pytest.fixture
def checkpointer(make_checkpointer: Callable[[], BaseCheckpointer]) -> BaseCheckpointer:
    """One of them."""
    return make_checkpointer()
