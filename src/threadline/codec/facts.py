"""What is counted of a message, as a small JSON text beside it, so that a store can count without opening payloads.

`c`: its tool calls, each [call id, tool]; `r`: the results in it, each [call id, 1 for an error]; `t`: tokens,
[prompt, completion, total, reasoning, cached]; `at`: milliseconds since the epoch, where there are calls or results,
for how long they took. No fact is a text that somebody wrote.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from threadline.model import Message, ToolCallBlock, ToolResultBlock

#: No tool's name needs more; ids beyond this are no ids.
_LONGEST = 200


_Name = Annotated[str, Field(pattern=r"^[^\x00]*$")]
_Count = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    c: list[tuple[_Name, _Name]] = []
    r: list[tuple[_Name, Literal[0, 1]]] = []
    t: tuple[_Count, _Count, _Count, _Count, _Count] | None = None
    at: _Count = 0


def are_facts(text: str) -> bool:
    """Whether a text has the form of facts, so that every store can count it."""
    try:
        _Facts.model_validate_json(text)
    except ValidationError:
        return False
    return True


def facts_of(message: Message) -> str | None:
    """The facts of a message; None when there is nothing to count but the message itself."""
    facts: dict[str, Any] = {}
    calls: list[tuple[Any, Any]] = [
        (block.id, block.name) for block in message.content if isinstance(block, ToolCallBlock)
    ] or [
        (call.get("id"), (call.get("function") or {}).get("name"))
        for call in message.given_tools_calls or ()
    ]
    results = [
        (block.call_id, int(block.is_error))
        for block in message.content
        if isinstance(block, ToolResultBlock)
    ]
    if calls:
        facts["c"] = [[_clean(call_id), _clean(name)] for call_id, name in calls]
    if results:
        facts["r"] = [[_clean(call_id), error] for call_id, error in results]
    if facts and message.timestamp is not None:
        facts["at"] = int(message.timestamp * 1000)
    if (used := message.usages) is not None:
        facts["t"] = [
            used.prompt_tokens,
            used.completion_tokens,
            used.total_tokens,
            used.reasoning_tokens,
            used.cache_read_input_tokens,
        ]
    return orjson.dumps(facts).decode() if facts else None


def _clean(text: Any) -> str:
    """A name that every store can keep: no NUL, no lone surrogate, not too long."""
    said = text if isinstance(text, str) else ""
    return said.encode("utf-8", "replace").decode().replace("\0", "?")[:_LONGEST]
