"""Every checkpointer that an adapter must work on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from threadline import BaseCheckpointer, InMemoryCheckpointer, PgCheckpointer, SqliteCheckpointer

#: What each needs, and how it is made of that. Another checkpointer is one line more.
MAKERS: dict[str, tuple[list[str], Callable[..., BaseCheckpointer]]] = {
    "memory": ([], lambda path: InMemoryCheckpointer()),
    "sqlite": ([], lambda path: SqliteCheckpointer(path / "memory.db")),
    "postgres": (["pg_dsn"], lambda path, dsn: PgCheckpointer(dsn, schema=f"s{path.name}")),
    "postgres-valkey": (
        ["pg_dsn", "valkey_url"],
        lambda path, dsn, url: PgCheckpointer(dsn, schema=f"s{path.name}", redis_url=url),
    ),
}


@pytest.fixture(params=MAKERS)
async def make_checkpointer(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[], BaseCheckpointer]]:
    """Makes checkpointers over empty stores of one kind, released after the test, before their database is dropped."""
    fixtures, maker = MAKERS[request.param]
    needed = [request.getfixturevalue(name) for name in fixtures]
    async with AsyncExitStack() as made:
        numbers = count(1)

        def make() -> BaseCheckpointer:
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            checkpointer = maker(folder, *needed)
            made.push_async_callback(checkpointer.arelease)
            return checkpointer

        yield make


@pytest.fixture
def checkpointer(make_checkpointer: Callable[[], BaseCheckpointer]) -> BaseCheckpointer:
    """One of them."""
    return make_checkpointer()
