"""One message of a conversation, and the tokens it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from threadline.clock import new_id, now
from threadline.model.blocks import (
    Block,
    ContentBlock,
    JsonObject,
    Record,
    Text,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from threadline.model.openai_fields import read_fields, write_message
from threadline.model.openai_parts import write_call

#: Who speaks.
Role = Literal["user", "assistant", "system", "tool", "developer", "function"]


def _posix_now() -> float:
    return now().timestamp()


def _as_blocks(content: Any) -> Any:
    return [TextBlock(text=content)] if isinstance(content, str) else content


class TokenUsages(Record):
    """What a model call cost, in tokens."""

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    reasoning_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    image_tokens: int = 0
    audio_tokens: int = 0


class Message(Record):
    """One message. Mutable; checked when it is made.

    `message_id`: unique and sorting by time unless given. `role`: who speaks. `content`: blocks; a plain str becomes
    one text block. `delta`: a piece of a message that is still being streamed. `tools_calls`: see the
    property. `reasoning`: how the model came to it, no part of the answer. `name`: the speaker's.
    `timestamp`: POSIX seconds, now by default. `metadata`: the user's own. `usages`: what it cost. `raw`: what the
    provider sent beside all this; under "openai" the notes that `to_openai` needs.
    """

    model_config = ConfigDict(
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    message_id: Text = Field(default_factory=new_id)
    role: Role
    content: Annotated[list[ContentBlock], BeforeValidator(_as_blocks)] = Field(
        default_factory=list
    )
    delta: bool = False
    given_tools_calls: list[dict[Text, Any]] | None = Field(default=None, alias="tools_calls")
    reasoning: Text | None = None
    name: Text | None = None
    timestamp: float | None = Field(default_factory=_posix_now)
    metadata: JsonObject = Field(default_factory=dict)
    usages: TokenUsages | None = None
    raw: JsonObject | None = None

    @property
    def tools_calls(self) -> list[dict[str, Any]] | None:
        """The tool calls as OpenAI writes them, or None without any.

        What the user set comes back as it was set. Otherwise it is made anew from the tool call blocks of the content
        at each reading, so changing it changes nothing; change the blocks.
        """
        if self.given_tools_calls is not None:
            return self.given_tools_calls
        blocks = [block for block in self.content if isinstance(block, ToolCallBlock)]
        return [_call_view(block) for block in blocks] or None

    @tools_calls.setter
    def tools_calls(self, calls: list[dict[str, Any]] | None) -> None:
        self.given_tools_calls = calls

    @classmethod
    def text_message(
        cls,
        content: str,
        role: Role = "user",
        message_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        name: str | None = None,
    ) -> Message:
        """A message of one text, from the user unless `role` says otherwise."""
        if not isinstance(content, str):
            raise TypeError(f"a text message's content is a str, not {type(content).__name__}")
        return cls._made(role, [TextBlock(text=content)], message_id, metadata, name)

    @classmethod
    def tool_message(
        cls,
        content: Sequence[ContentBlock] | ContentBlock | str,
        message_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        call_id: str = "",
        name: str | None = None,
    ) -> Message:
        """What a tool answered: blocks, or the text of its answer to the call `call_id`."""
        if isinstance(content, str):
            content = ToolResultBlock(call_id=call_id, output=content)
        blocks = [content] if isinstance(content, Block) else list(content)
        return cls._made("tool", blocks, message_id, metadata, name)

    @classmethod
    def _made(
        cls,
        role: Role,
        content: list[Any],
        message_id: str | None,
        metadata: dict[str, Any] | None,
        name: str | None,
    ) -> Message:
        message_id = new_id() if message_id is None else message_id
        return cls(
            message_id=message_id, role=role, content=content, metadata=metadata or {}, name=name
        )

    @classmethod
    def from_openai(
        cls,
        message: dict[str, Any],
        *,
        message_id: str | None = None,
        timestamp: float | None = None,
    ) -> Message:
        """The message of an OpenAI chat message; `to_openai` gives back an equal dict.

        `message_id`: a new one when None. `timestamp`: POSIX seconds; None by default, since a chat message does not
        say when it was made. The dict is copied. Raises TypeError unless it is a dict with a str as its role,
        ValueError for a missing or unknown role.
        """
        fields = read_fields(message)
        return cls(
            message_id=new_id() if message_id is None else message_id, timestamp=timestamp, **fields
        )

    def to_openai(self) -> dict[str, Any]:
        """This message as an OpenAI chat message, sharing nothing with it.

        Blocks that OpenAI has no form for are written as text where they have any, and else left out. Raises
        ValueError for a tool message with several results.
        """
        return write_message(self)

    def text(self) -> str:
        """What a person reads in this message, a line break between blocks.

        Text, refusals, tool results that are text, errors, transcripts, alternative texts and excerpts; neither
        tool calls nor reasoning.
        """
        return "\n".join(text for block in self.content if (text := block.readable()))


def _call_view(block: ToolCallBlock) -> dict[str, Any]:
    call = write_call(block)
    return {"type": "function", "function": call} if block.tool_type == "function_call" else call
