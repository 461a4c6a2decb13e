"""The checkpointers. Each is imported when it is first named, so that a backend's driver is loaded only then."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadline.checkpointer.base import BaseCheckpointer as BaseCheckpointer
    from threadline.checkpointer.in_memory import InMemoryCheckpointer as InMemoryCheckpointer
    from threadline.checkpointer.manager import CheckpointManager as CheckpointManager
    from threadline.checkpointer.pg import PgCheckpointer as PgCheckpointer
    from threadline.checkpointer.runs import Session as Session
    from threadline.checkpointer.session_sync import SyncSession as SyncSession
    from threadline.checkpointer.sqlite import SqliteCheckpointer as SqliteCheckpointer

_HOMES = {
    "BaseCheckpointer": "threadline.checkpointer.base",
    "CheckpointManager": "threadline.checkpointer.manager",
    "InMemoryCheckpointer": "threadline.checkpointer.in_memory",
    "PgCheckpointer": "threadline.checkpointer.pg",
    "Session": "threadline.checkpointer.runs",
    "SqliteCheckpointer": "threadline.checkpointer.sqlite",
    "SyncSession": "threadline.checkpointer.session_sync",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
