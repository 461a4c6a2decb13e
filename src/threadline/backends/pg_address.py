"""What is said of a server before anything is connected: its address, and the settings of a pool."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

_HOST = r"(?:\[[^\[\]/?#@]*\]|[^\[\]/?#@:,]*)(?::\d{0,5})?"
#: What follows the scheme of a DSN: who, one host or several, the database, settings.
_AFTER_SCHEME = re.compile(rf"(?:[^\[\]/?#@]*@)?{_HOST}(?:,{_HOST})*(?:/[^?#@]*)?(?:\?[^#]*)?")
#: What names a server, beside a DSN: among the settings of a pool, and in the environment.
NAMED_BY: Final = ("host", "service")
_NAMED_IN: Final = ("DATABASE_URL", "PGHOST", "PGSERVICE")


class Dsn:
    """Where the server is. Its password is in no repr, log or error."""

    __slots__ = ("_text",)

    def __init__(self, text: str | None) -> None:
        if text is not None and not isinstance(text, str):
            raise TypeError(f"postgres_dsn must be a str, not {type(text).__name__}")
        self._text = text

    def __repr__(self) -> str:
        return "Dsn('***')"

    @property
    def is_given(self) -> bool:
        """Whether somebody said where it is; else the driver looks on this machine."""
        return self._text is not None or any(map(os.environ.get, _NAMED_IN))

    def resolve(self) -> str | None:
        """The DSN for the driver; without one DATABASE_URL, else None: the PG* variables."""
        text = self._text if self._text is not None else os.environ.get("DATABASE_URL")
        if text is None:
            return None
        name = "postgres_dsn" if self._text is not None else "DATABASE_URL"
        scheme, mark, rest = text.partition("://")
        if not mark or scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ValueError(f"{name} must look like postgresql://user@host:5432/database")
        # Else the driver takes a part of the password for a port, and says so.
        if not _AFTER_SCHEME.fullmatch(rest):
            raise ValueError(
                f"{name} cannot be read: it must look like postgresql://user@host:5432/database, and in a user or "
                "password the characters / ? # [ ] and @ are written %2F %3F %23 %5B %5D and %40"
            )
        return f"postgresql://{rest}"


@functools.cache
def _settings() -> frozenset[str]:
    """What `asyncpg.create_pool` takes, for the pool and for each connection; the DSN and the loop are ours."""
    takers = (asyncpg.create_pool, asyncpg.connect)
    names = {name for taker in takers for name in inspect.signature(taker).parameters}
    return frozenset(names - {"dsn", "loop", "connect_kwargs"})


def checked_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a pool of ours. Raises TypeError for one that no pool has."""
    # What makes a caller's own connections may take more.
    wrong = [] if config.get("connect") else [name for name in config if name not in _settings()]
    if wrong:
        raise TypeError(
            f"pool_config: a pool has no {wrong[0]!r}; it has {', '.join(sorted(_settings()))}"
        )
    return dict(config)
