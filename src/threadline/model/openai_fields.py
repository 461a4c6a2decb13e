"""A whole OpenAI chat message to the fields of a Message and back, without a second copy of it.

`read_fields` makes the fields, writes them out again, and notes only what came out differently. The notes stand in
`raw["openai"]`, each only where it is needed:

- `content`: the form of the content where the usual one is another: "missing", "null" or "parts" (a list);
- `reasoning`: the key that the reasoning came under;
- `set`: keys that no field stands for, as they were (`{"refusal": None, "cache": …}`).

Notes give way to later edits wherever a field has something to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from threadline.model.blocks import (
    AudioBlock,
    Block,
    MediaRef,
    RefusalBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from threadline.model.openai_parts import (
    Wire,
    copy_json,
    dump_json,
    given_call,
    leftover,
    merge,
    read_call,
    read_citation,
    read_part,
    same,
    write_call,
    write_citation,
    write_part,
)

#: The roles of chat messages.
ROLES = frozenset({"user", "assistant", "system", "tool", "developer", "function"})
_REASONING_KEYS = ("reasoning_content", "reasoning")


class Fields(Protocol):
    """The part of a Message that is written to OpenAI."""

    role: Any
    content: Any
    name: Any
    reasoning: Any
    raw: Any
    given_tools_calls: Any


class _Read:
    """The fields while they are read: what `write_message` needs of a Message."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.content: list[Block] = []
        self.name: str | None = None
        self.reasoning: str | None = None
        self.raw: Wire | None = None
        self.given_tools_calls: None = None


def read_fields(wire: Wire) -> Wire:
    """The fields of the Message for a chat message, as keyword arguments; `wire` is neither kept nor changed.

    Raises TypeError unless it is a dict whose role is a str, ValueError for a missing or unknown role.
    """
    if not isinstance(wire, dict):
        raise TypeError(f"an OpenAI message is a dict, not {type(wire).__name__}")
    if "role" not in wire:
        raise ValueError("an OpenAI message needs a role")
    role = wire["role"]
    if not isinstance(role, str):
        raise TypeError(f"a message's role is a str, not {type(role).__name__}")
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}; known are {', '.join(sorted(ROLES))}")
    read = _Read(role)
    note: Wire = {}
    read.content += _read_content(wire, role)
    read.content += _read_beside_content(wire, role, read.content)
    read.content += _read_calls(wire)
    if type(wire.get("name")) is str:
        read.name = wire["name"]
    for key in _REASONING_KEYS:
        if type(wire.get(key)) is str and read.reasoning is None:
            read.reasoning, note["reasoning"] = wire[key], key
    read.raw = _noted(wire, read, note)
    return {
        "role": role,
        "content": read.content,
        "name": read.name,
        "reasoning": read.reasoning,
        "raw": read.raw,
    }


def _noted(wire: Wire, read: _Read, note: Wire) -> Wire | None:
    read.raw = {"openai": note}
    written = write_message(read)
    if not _content_restored(wire, written):
        note["content"] = "missing" if "content" not in wire else _form(wire["content"])
        written = write_message(read)
        if not _content_restored(wire, written):
            del note["content"]
            written = write_message(read)
    unsaid = {
        key: copy_json(value)
        for key, value in wire.items()
        if key not in written or not same(value, written[key])
    }
    if unsaid:
        note["set"] = unsaid
    return read.raw if note else None


def _form(content: Any) -> str:
    return "null" if content is None else "parts"


def _content_restored(wire: Wire, written: Wire) -> bool:
    if "content" not in wire:
        return "content" not in written
    return "content" in written and same(written["content"], wire["content"])


def _read_content(wire: Wire, role: str) -> list[Block]:
    content = wire.get("content")
    if role in ("tool", "function"):
        call_id = wire.get("tool_call_id") if role == "tool" else None
        call_id = call_id if type(call_id) is str else ""
        return [ToolResultBlock(call_id=call_id, output=copy_json(content))]
    if type(content) is str:
        return [TextBlock(text=content)]
    blocks: list[Block] = []
    for part in content if type(content) is list else ():
        if type(part) is dict and all(type(key) is str for key in part):
            blocks.append(read_part(part))
        elif type(part) is str:
            blocks.append(TextBlock(text=part))
    return blocks


def _read_beside_content(wire: Wire, role: str, content: list[Block]) -> list[Block]:
    blocks: list[Block] = []
    if type(wire.get("refusal")) is str and role not in ("tool", "function"):
        blocks.append(RefusalBlock(text=wire["refusal"]))
    audio = wire.get("audio")
    if role == "assistant" and type(audio) is dict and type(audio.get("id")) is str:
        data, transcript = audio.get("data"), audio.get("transcript")
        media = MediaRef(kind="file_id", file_id=audio["id"])
        media.data_base64 = data if type(data) is str else None
        block = AudioBlock(media=media, transcript=transcript if type(transcript) is str else None)
        block.extra = leftover(audio, _plain_audio(block)) or None
        blocks.append(block)
    annotations = wire.get("annotations")
    if type(annotations) is list and len(content) == 1 and isinstance(content[0], TextBlock):
        refs = [read_citation(annotation) for annotation in annotations]
        if all(refs):
            content[0].annotations = [ref for ref in refs if ref]
    return blocks


def _read_calls(wire: Wire) -> list[Block]:
    calls = wire.get("tool_calls")
    blocks = [read_call(call) for call in calls] if type(calls) is list else []
    blocks.append(read_call(wire.get("function_call"), legacy=True))
    return [block for block in blocks if block is not None]


def write_message(message: Fields) -> Wire:
    """The OpenAI chat message of a message's fields; nothing in it is shared with them.

    Raises ValueError for a tool message with several results: OpenAI wants one message for each.
    """
    wire: Wire = {"role": message.role}
    note = _note(message.raw)
    if message.name is not None:
        wire["name"] = message.name
    key = note.get("reasoning")
    if message.reasoning is not None and key in _REASONING_KEYS:
        wire[key] = message.reasoning
    if message.role in ("tool", "function"):
        _write_result(wire, message, note.get("content"))
    else:
        _write_content(wire, message, note.get("content"))
    _write_calls(wire, message)
    unsaid = note.get("set")
    for key, value in unsaid.items() if isinstance(unsaid, dict) else ():
        if key not in wire or (value is not None and value != []):
            wire[key] = copy_json(value)
    return wire


def _note(raw: Any) -> Wire:
    note = raw.get("openai") if isinstance(raw, dict) else None
    return note if isinstance(note, dict) else {}


def _write_content(wire: Wire, message: Fields, form: Any) -> None:
    inside: list[Block] = []
    for block in message.content:
        if isinstance(block, RefusalBlock) and block.extra is None and "refusal" not in wire:
            wire["refusal"] = block.text
        elif _is_reply_audio(block, message.role) and "audio" not in wire:
            wire["audio"] = merge(_plain_audio(block), block.extra)
        else:
            inside.append(block)
    _put_parts(wire, inside, form, None if message.role == "assistant" else "")
    refs = [ref for block in inside if isinstance(block, TextBlock) for ref in block.annotations]
    if cited := [write_citation(ref) for ref in refs if ref.extra is not None]:
        wire["annotations"] = cited


def _put_parts(wire: Wire, blocks: Sequence[Block], form: Any, empty: str | None) -> None:
    parts = [part for block in blocks if (part := write_part(block)) is not None]
    if form == "parts":
        wire["content"] = parts
    elif not parts:
        if form != "missing":
            wire["content"] = None if form == "null" else empty
    elif len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        wire["content"] = parts[0]["text"]
    else:
        wire["content"] = parts


def _is_reply_audio(block: Block, role: str) -> bool:
    return role == "assistant" and isinstance(block, AudioBlock) and block.media.kind == "file_id"


def _plain_audio(block: Any) -> Wire:
    audio = {
        "id": block.media.file_id,
        "data": block.media.data_base64,
        "transcript": block.transcript,
    }
    return {key: value for key, value in audio.items() if value is not None}


def _write_result(wire: Wire, message: Fields, form: Any) -> None:
    results = [block for block in message.content if isinstance(block, ToolResultBlock)]
    others = [block for block in message.content if not isinstance(block, ToolResultBlock)]
    if len(results) > 1:
        raise ValueError(
            "an OpenAI tool message answers one call; make one message for each result"
        )
    if message.role == "tool" and results and results[0].call_id:
        wire["tool_call_id"] = results[0].call_id
    if not results or any(write_part(block) for block in others):
        answer = [TextBlock(text=_output_text(block.output)) for block in results]
        _put_parts(wire, [*answer, *others], form, "")
        return
    output = results[0].output
    if output is None:
        if form != "missing":
            wire["content"] = None if form == "null" else ""
    elif form == "parts" or _is_parts(output):
        wire["content"] = copy_json(output)
    else:
        wire["content"] = _output_text(output)


def _is_parts(output: Any) -> bool:
    return (
        type(output) is list
        and bool(output)
        and all(type(part) is dict and "type" in part for part in output)
    )


def _output_text(output: Any) -> str:
    if output is None:
        return ""
    return output if isinstance(output, str) else dump_json(output)


def _write_calls(wire: Wire, message: Fields) -> None:
    if message.given_tools_calls is not None:
        wire["tool_calls"] = [given_call(call) for call in message.given_tools_calls]
        return
    calls = []
    for block in message.content:
        if not isinstance(block, ToolCallBlock):
            continue
        if block.tool_type == "function_call" and "function_call" not in wire:
            wire["function_call"] = write_call(block)
        else:
            calls.append(write_call(block))
    if calls:
        wire["tool_calls"] = calls
