"""The records: states, messages and their blocks, threads, checkpoints, and the base that a state carries."""

from threadline.model.blocks import (
    AnnotationBlock,
    AnnotationRef,
    AudioBlock,
    Block,
    ContentBlock,
    DataBlock,
    DocumentBlock,
    ErrorBlock,
    ImageBlock,
    MediaRef,
    ReasoningBlock,
    Record,
    RefusalBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    VideoBlock,
)
from threadline.model.carry import NO_BASE, Base, Carrier, Loaded, StateDict, base_of, carry
from threadline.model.checkpoint import Checkpoint
from threadline.model.message import Message, Role, TokenUsages
from threadline.model.openai import message_from_openai, message_to_openai
from threadline.model.state import AgentState, ExecutionState, ExecutionStatus
from threadline.model.thread import Lineage, ThreadInfo

__all__ = [
    "NO_BASE",
    "AgentState",
    "AnnotationBlock",
    "AnnotationRef",
    "AudioBlock",
    "Base",
    "Block",
    "Carrier",
    "Checkpoint",
    "ContentBlock",
    "DataBlock",
    "DocumentBlock",
    "ErrorBlock",
    "ExecutionState",
    "ExecutionStatus",
    "ImageBlock",
    "Lineage",
    "Loaded",
    "MediaRef",
    "Message",
    "ReasoningBlock",
    "Record",
    "RefusalBlock",
    "Role",
    "StateDict",
    "TextBlock",
    "ThreadInfo",
    "TokenUsages",
    "ToolCallBlock",
    "ToolResultBlock",
    "VideoBlock",
    "base_of",
    "carry",
    "message_from_openai",
    "message_to_openai",
]
