"""One store for each test, on every backend; `make` opens checkpointers on it, each as another process would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from threadline.backends.memory import MemoryBackend
from threadline.checkpointer import BaseCheckpointer, SqliteCheckpointer

Make = Callable[..., Any]


class SharedMemory(MemoryBackend):
    """A memory store that outlives its checkpointers, as a file does."""

    async def close(self) -> None:
        return


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Opens checkpointers on one and the same store: `make(mixin=..., **options)`."""
    memory, opened = SharedMemory(), []

    def opening(mixin: type | None = None, **options: Any) -> Any:
        if request.param == "memory":
            kind: type = type("Memory", (BaseCheckpointer,), {})
            arguments: tuple[Any, ...] = (memory,)
        else:
            kind, arguments = SqliteCheckpointer, (tmp_path / "memory.db",)
        made = type("Mixed", (mixin, kind), {}) if mixin else kind
        opened.append(made(*arguments, **options))
        return opened[-1]

    yield opening
    for each in opened:
        each.release()


@pytest.fixture
def checkpointer(make: Make) -> Any:
    return make()
