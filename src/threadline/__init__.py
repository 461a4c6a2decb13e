"""Threadline: the session memory of AI agents.

Every name is imported when it is first used, so that `import threadline` costs next to nothing and a backend's
driver is loaded only by those who use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadline.checkpointer import BaseCheckpointer as BaseCheckpointer
    from threadline.checkpointer import CheckpointManager as CheckpointManager
    from threadline.checkpointer import InMemoryCheckpointer as InMemoryCheckpointer
    from threadline.checkpointer import PgCheckpointer as PgCheckpointer
    from threadline.checkpointer import Session as Session
    from threadline.checkpointer import SqliteCheckpointer as SqliteCheckpointer
    from threadline.checkpointer import SyncSession as SyncSession
    from threadline.checkpointer.prune import PruneReport as PruneReport
    from threadline.errors import ConflictError as ConflictError
    from threadline.errors import CorruptionError as CorruptionError
    from threadline.errors import DeadlineError as DeadlineError
    from threadline.errors import InjectionError as InjectionError
    from threadline.errors import Interrupt as Interrupt
    from threadline.errors import LeaseHeldError as LeaseHeldError
    from threadline.errors import LeaseLostError as LeaseLostError
    from threadline.errors import LimitError as LimitError
    from threadline.errors import NotStorableError as NotStorableError
    from threadline.errors import OutcomeUnknownError as OutcomeUnknownError
    from threadline.errors import ReleasedError as ReleasedError
    from threadline.errors import SchemaError as SchemaError
    from threadline.errors import StorageFullError as StorageFullError
    from threadline.errors import ThreadlineError as ThreadlineError
    from threadline.errors import ThreadNotFoundError as ThreadNotFoundError
    from threadline.errors import ToolOutcomeUnknownError as ToolOutcomeUnknownError
    from threadline.errors import UnavailableError as UnavailableError
    from threadline.history.changes import Change as Change
    from threadline.history.changes import StateDiff as StateDiff
    from threadline.history.repair import find_orphans as find_orphans
    from threadline.history.repair import repair_messages as repair_messages
    from threadline.history.retention import RetentionPolicy as RetentionPolicy
    from threadline.model import AgentState as AgentState
    from threadline.model import AnnotationBlock as AnnotationBlock
    from threadline.model import AnnotationRef as AnnotationRef
    from threadline.model import AudioBlock as AudioBlock
    from threadline.model import Checkpoint as Checkpoint
    from threadline.model import ContentBlock as ContentBlock
    from threadline.model import DataBlock as DataBlock
    from threadline.model import DocumentBlock as DocumentBlock
    from threadline.model import ErrorBlock as ErrorBlock
    from threadline.model import ExecutionState as ExecutionState
    from threadline.model import ExecutionStatus as ExecutionStatus
    from threadline.model import ImageBlock as ImageBlock
    from threadline.model import Lineage as Lineage
    from threadline.model import MediaRef as MediaRef
    from threadline.model import Message as Message
    from threadline.model import ReasoningBlock as ReasoningBlock
    from threadline.model import RefusalBlock as RefusalBlock
    from threadline.model import TextBlock as TextBlock
    from threadline.model import ThreadInfo as ThreadInfo
    from threadline.model import TokenUsages as TokenUsages
    from threadline.model import ToolCallBlock as ToolCallBlock
    from threadline.model import ToolResultBlock as ToolResultBlock
    from threadline.model import VideoBlock as VideoBlock

__version__ = "0.1.0"

_HOMES = {
    "threadline.checkpointer": (
        "BaseCheckpointer",
        "CheckpointManager",
        "InMemoryCheckpointer",
        "PgCheckpointer",
        "Session",
        "SqliteCheckpointer",
        "SyncSession",
    ),
    "threadline.errors": (
        "ConflictError",
        "CorruptionError",
        "DeadlineError",
        "InjectionError",
        "Interrupt",
        "LeaseHeldError",
        "LeaseLostError",
        "LimitError",
        "NotStorableError",
        "OutcomeUnknownError",
        "ReleasedError",
        "SchemaError",
        "StorageFullError",
        "ThreadNotFoundError",
        "ThreadlineError",
        "ToolOutcomeUnknownError",
        "UnavailableError",
    ),
    "threadline.checkpointer.prune": ("PruneReport",),
    "threadline.history.changes": ("Change", "StateDiff"),
    "threadline.history.repair": ("find_orphans", "repair_messages"),
    "threadline.history.retention": ("RetentionPolicy",),
    "threadline.model": (
        "AgentState",
        "AnnotationBlock",
        "AnnotationRef",
        "AudioBlock",
        "Checkpoint",
        "ContentBlock",
        "DataBlock",
        "DocumentBlock",
        "ErrorBlock",
        "ExecutionState",
        "ExecutionStatus",
        "ImageBlock",
        "Lineage",
        "MediaRef",
        "Message",
        "ReasoningBlock",
        "RefusalBlock",
        "TextBlock",
        "ThreadInfo",
        "TokenUsages",
        "ToolCallBlock",
        "ToolResultBlock",
        "VideoBlock",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME_OF, "__version__"])


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
