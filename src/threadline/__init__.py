"""Threadline: the session memory of AI agents."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from threadline.errors import (
    ConflictError,
    CorruptionError,
    DeadlineError,
    LimitError,
    NotStorableError,
    OutcomeUnknownError,
    ReleasedError,
    SchemaError,
    StorageFullError,
    ThreadlineError,
    ThreadNotFoundError,
    UnavailableError,
)
from threadline.model import (
    AgentState,
    AnnotationBlock,
    AnnotationRef,
    AudioBlock,
    Checkpoint,
    ContentBlock,
    DataBlock,
    DocumentBlock,
    ErrorBlock,
    ExecutionState,
    ExecutionStatus,
    ImageBlock,
    Lineage,
    MediaRef,
    Message,
    ReasoningBlock,
    RefusalBlock,
    TextBlock,
    ThreadInfo,
    TokenUsages,
    ToolCallBlock,
    ToolResultBlock,
    VideoBlock,
)

if TYPE_CHECKING:
    from threadline.checkpointer.base import BaseCheckpointer as BaseCheckpointer
    from threadline.checkpointer.in_memory import InMemoryCheckpointer as InMemoryCheckpointer
    from threadline.checkpointer.sqlite import SqliteCheckpointer as SqliteCheckpointer

__version__ = "0.1.0"

#: Imported when first named: a backend's driver is loaded only by those who use it.
_LATER = ("BaseCheckpointer", "InMemoryCheckpointer", "SqliteCheckpointer")

__all__ = [
    "AgentState",
    "AnnotationBlock",
    "AnnotationRef",
    "AudioBlock",
    "BaseCheckpointer",
    "Checkpoint",
    "ConflictError",
    "ContentBlock",
    "CorruptionError",
    "DataBlock",
    "DeadlineError",
    "DocumentBlock",
    "ErrorBlock",
    "ExecutionState",
    "ExecutionStatus",
    "ImageBlock",
    "InMemoryCheckpointer",
    "LimitError",
    "Lineage",
    "MediaRef",
    "Message",
    "NotStorableError",
    "OutcomeUnknownError",
    "ReasoningBlock",
    "RefusalBlock",
    "ReleasedError",
    "SchemaError",
    "SqliteCheckpointer",
    "StorageFullError",
    "TextBlock",
    "ThreadInfo",
    "ThreadNotFoundError",
    "ThreadlineError",
    "TokenUsages",
    "ToolCallBlock",
    "ToolResultBlock",
    "UnavailableError",
    "VideoBlock",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module("threadline.checkpointer"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
