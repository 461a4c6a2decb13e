"""One store for each test, on every backend; `make` opens checkpointers on it, each as another process would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from threadline import clock
from threadline.backends.memory import MemoryBackend
from threadline.checkpointer import BaseCheckpointer, PgCheckpointer, SqliteCheckpointer

Make = Callable[..., Any]


class SharedMemory(MemoryBackend):
    """A memory store that outlives its checkpointers, as a file does."""

    async def close(self) -> None:
        return


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[type, Any]:
    """A class of checkpointers and the empty store to open them on."""
    if request.param == "memory":
        return BaseCheckpointer, SharedMemory()
    if request.param == "sqlite":
        return SqliteCheckpointer, tmp_path / "memory.db"
    return PgCheckpointer, request.getfixturevalue("empty_store")


@pytest.fixture
async def make(place: tuple[type, Any]) -> AsyncIterator[Make]:
    """Opens checkpointers on one and the same store: `make(mixin, **options)`."""
    kind, where = place
    opened: list[BaseCheckpointer] = []

    def opening(mixin: type | None = None, **options: Any) -> Any:
        made = (type("Mixed", (mixin, kind), {}) if mixin else kind)(where, **options)
        if kind is PgCheckpointer:
            # The tests move time: not the server's, but that of `clock`.
            made._engine.backend.now_us = lambda: clock.now_us()
        opened.append(made)
        return made

    yield opening
    for each in opened:
        await each.arelease()


@pytest.fixture
def checkpointer(make: Make) -> Any:
    return make()
