"""What the demo stands on: a file, or a PostgreSQL with a Valkey."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from threadline import SqliteCheckpointer
from threadline.checkpointer import BaseCheckpointer


@dataclass(frozen=True)
class FileGround:
    """A file, which is made when it is missing."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> BaseCheckpointer:
        """The store."""
        return SqliteCheckpointer(self.path)

    @property
    def arguments(self) -> Sequence[str]:
        """How a worker process is told of it."""
        return [str(self.path)]

    @property
    def environment(self) -> Mapping[str, str]:
        """What it is told beside that."""
        return {}


@dataclass(frozen=True)
class ServerGround:
    """A database and a cache in front of it; their addresses are secrets, and travel in the environment."""

    dsn: str = field(repr=False)
    cache: str = field(repr=False)

    def __str__(self) -> str:
        return "PostgreSQL, with Valkey as its cache"

    def open(self) -> BaseCheckpointer:
        """The store."""
        # Here, since its driver is only there with the extra `postgres`.
        from threadline import PgCheckpointer

        return PgCheckpointer(self.dsn, redis_url=self.cache)

    @property
    def arguments(self) -> Sequence[str]:
        """How a worker process is told of it."""
        return ["-"]

    @property
    def environment(self) -> Mapping[str, str]:
        """What it is told beside that."""
        return {"DATABASE_URL": self.dsn, "CACHE_URL": self.cache}


Ground = FileGround | ServerGround


def ground_of(argument: str) -> Ground:
    """What a worker process was told."""
    if argument == "-":
        return ServerGround(os.environ["DATABASE_URL"], os.environ["CACHE_URL"])
    return FileGround(Path(argument))
