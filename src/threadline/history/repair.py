"""Message histories that a model accepts: every tool call has its result, and every result its call.

An interruption leaves calls without results (the process died before the tools answered) and a trim leaves results
without calls. `find_orphans` finds both, `repair_messages` mends them. Pure; nothing that was given is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from threadline.model import Message, ToolCallBlock, ToolResultBlock

Repair = Literal["close", "drop"]
#: What a closed call is answered with.
INTERRUPTED = "The tool call was interrupted; no result is known."


@dataclass(frozen=True, slots=True)
class Orphans:
    """`calls`: (message_id, call id, tool) of calls that no result answers before the next turn; `results`:
    (message_id, call id) of results that answer no call before them."""

    calls: list[tuple[str, str, str]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.calls or self.results)


def find_orphans(messages: Sequence[Message]) -> Orphans:
    """The tool calls without a result and the results without a call, in order."""
    open_calls: dict[str, tuple[str, str, str]] = {}
    orphans = Orphans()
    for message in messages:
        if message.role in ("user", "assistant") and open_calls and not list(_results(message)):
            orphans.calls.extend(open_calls.values())
            open_calls.clear()
        for call_id in _results(message):
            if open_calls.pop(call_id, None) is None:
                orphans.results.append((message.message_id, call_id))
        for call_id, tool in _calls(message):
            if (same := open_calls.pop(call_id, None)) is not None:
                orphans.calls.append(same)
            open_calls[call_id] = (message.message_id, call_id, tool)
    orphans.calls.extend(open_calls.values())
    return orphans


def repair_messages(messages: Sequence[Message], repair: Repair = "close") -> list[Message]:
    """The messages with every call answered and every result asked for.

    "close": an open call gets a result behind it that says that it was interrupted (`is_error`, `status`
    "interrupted"); a result without a call goes, since there is nothing it could close. "drop": open calls go too. A
    message of which nothing is left goes whole. Messages that need nothing are the same objects; where nothing needs
    anything, the list is equal to the one given. Raises ValueError for another `repair`.
    """
    if repair not in ("close", "drop"):
        raise ValueError(f'repair must be "close" or "drop", not {repair!r}')
    orphans = find_orphans(messages)
    calls = {(message_id, call_id): tool for message_id, call_id, tool in orphans.calls}
    results = set(orphans.results)
    repaired: list[Message] = []
    closing: list[Message] = []
    for message in messages:
        if closing and not list(_results(message)):
            repaired += closing
            closing = []
        gone = {each for each in _results(message) if (message.message_id, each) in results}
        open_here = [each for each, _ in _calls(message) if (message.message_id, each) in calls]
        dropped = set(open_here) if repair == "drop" else set()
        kept = _without(message, dropped, gone) if dropped or gone else message
        if kept is not None:
            repaired.append(kept)
        if repair == "close":
            closing += [_closed(each, calls[message.message_id, each]) for each in open_here]
    return repaired + closing


def _calls(message: Message) -> Iterator[tuple[str, str]]:
    """(call id, tool) of the calls of a message, in its blocks, or as they were given."""
    blocks = [block for block in message.content if isinstance(block, ToolCallBlock)]
    for block in blocks:
        yield block.id, block.name
    if not blocks:
        for call in message.given_tools_calls or ():
            yield str(call.get("id", "")), str((call.get("function") or {}).get("name", ""))


def _results(message: Message) -> Iterator[str]:
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            yield block.call_id


def _without(message: Message, calls: set[str], results: set[str]) -> Message | None:
    """A copy without these calls and results; None when nothing is left that says anything."""
    content = [
        block
        for block in message.content
        if not (isinstance(block, ToolCallBlock) and block.id in calls)
        and not (isinstance(block, ToolResultBlock) and block.call_id in results)
    ]
    given: list[dict[str, Any]] | None = None
    if message.given_tools_calls:
        given = [each for each in message.given_tools_calls if str(each.get("id", "")) not in calls]
    if not content and not given:
        return None
    copy = message.model_copy(update={"content": content})
    copy.given_tools_calls = given or None
    return copy


def _closed(call_id: str, tool: str) -> Message:
    result = ToolResultBlock(
        call_id=call_id, output=INTERRUPTED, is_error=True, status="interrupted"
    )
    return Message.tool_message(result, name=tool or None)
