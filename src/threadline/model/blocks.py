"""What a message is made of: content blocks, told apart by `type`.

First `Record`, the settings that every record shares; then what blocks refer to (media, annotations); then the
blocks in the order of `ContentBlock`, the union that a message's content is a list of. Blocks are mutable and
are checked when they are made, not when a field is assigned. `extra` holds what a provider sent beside the
fields that are named here, in the provider's own shape; it is None when there is nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

#: Any text, lone surrogates included (tool output holds them); a subclass of `str` becomes a plain `str`.
Text = Annotated[str, Field(strict=True)]
#: A JSON object: any text as key, any value.
JsonObject = dict[Text, Any]


class Record(BaseModel):
    """What every record of ours has in common.

    An unknown field is a `pydantic.ValidationError` (a `ValueError`). Validators are built at first use, not at
    import: about 24 ms later rather than sooner. `omit_empty` tells the codec that a field which equals its empty
    default (None, False, an empty list or dict) need not be stored.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)
    omit_empty: ClassVar[bool] = True


class MediaRef(Record):
    """Where the bytes of an image, a recording or a document are.

    `kind` says which of `url`, `file_id` (a provider's upload) and `data_base64` holds it. `size_bytes`: bytes;
    `sha256`: hexadecimal; `width` and `height`: pixels; `duration_ms`: milliseconds; `page`: counted from 1.
    """

    kind: Literal["url", "file_id", "data"] = "url"
    url: Text | None = None
    file_id: Text | None = None
    data_base64: Text | None = None
    mime_type: Text | None = None
    size_bytes: int | None = None
    sha256: Text | None = None
    filename: Text | None = None
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    page: int | None = None


class AnnotationRef(Record):
    """A source that a text cites. `index` and `end_index`: where in the text, in characters, the end excluded."""

    url: Text | None = None
    file_id: Text | None = None
    page: int | None = None
    index: int | None = None
    end_index: int | None = None
    title: Text | None = None
    extra: JsonObject | None = None


class Block(Record):
    """The base of all blocks."""

    def readable(self) -> str:
        """What a person reads in this block; empty when there is nothing to read."""
        return ""


class TextBlock(Block):
    """Plain text, with the sources it cites."""

    type: Literal["text"] = "text"
    text: Text
    annotations: list[AnnotationRef] = Field(default_factory=list)
    extra: JsonObject | None = None

    def readable(self) -> str:
        """The text."""
        return self.text


class ImageBlock(Block):
    """An image. `bbox`: left, top, right, bottom, in pixels or as fractions, as the producer counts."""

    type: Literal["image"] = "image"
    media: MediaRef
    alt_text: Text | None = None
    bbox: list[float] | None = None
    extra: JsonObject | None = None

    def readable(self) -> str:
        """The alternative text."""
        return self.alt_text or ""


class AudioBlock(Block):
    """A recording. `sample_rate`: hertz."""

    type: Literal["audio"] = "audio"
    media: MediaRef
    transcript: Text | None = None
    sample_rate: int | None = None
    channels: int | None = None
    extra: JsonObject | None = None

    def readable(self) -> str:
        """The transcript."""
        return self.transcript or ""


class VideoBlock(Block):
    """A film, with an image that stands for it."""

    type: Literal["video"] = "video"
    media: MediaRef
    thumbnail: MediaRef | None = None
    extra: JsonObject | None = None


class DocumentBlock(Block):
    """A file with pages. `pages`: the ones meant, counted from 1; None means all."""

    type: Literal["document"] = "document"
    media: MediaRef
    pages: list[int] | None = None
    excerpt: Text | None = None
    extra: JsonObject | None = None

    def readable(self) -> str:
        """The excerpt."""
        return self.excerpt or ""


class DataBlock(Block):
    """Any other data, inline or by reference; also a part of a kind that we do not know, whole in `extra`."""

    type: Literal["data"] = "data"
    mime_type: Text | None = None
    data_base64: Text | None = None
    media: MediaRef | None = None
    extra: JsonObject | None = None


class ToolCallBlock(Block):
    """The model asks for a tool.

    `args`: the parsed arguments, empty when they could not be parsed. A custom tool, which takes a text, has it
    under `"input"`. `args_text`: the exact text they were parsed from, kept only where `args` written in
    `args_style` would not give it back; it is ignored once `args` was changed. `tool_type`: "function", "custom",
    "function_call" (the form before `tool_calls`), or "" when the provider named none.
    """

    type: Literal["tool_call"] = "tool_call"
    id: Text = ""
    name: Text = ""
    args: JsonObject = Field(default_factory=dict)
    tool_type: Text = "function"
    args_text: Text | None = None
    args_style: Literal["spaced", "ascii", "spaced_ascii", "object"] | None = None
    extra: JsonObject | None = None


def _plain_output(value: Any) -> Any:
    # A block in an untyped value would come back as a dict: it becomes one here, so that it is equal.
    if isinstance(value, Block):
        return {"type": value.__dict__["type"], **value.model_dump(exclude_defaults=True)}
    if type(value) is list and any(isinstance(item, Block) for item in value):
        return [_plain_output(item) for item in value]
    return value


class ToolResultBlock(Block):
    """What a tool answered.

    `call_id`: the `id` of the ToolCallBlock it answers. `output`: a text or any JSON value; blocks in it become
    dicts of the same fields. `status`: a word of the tool's own, None by default.
    """

    type: Literal["tool_result"] = "tool_result"
    call_id: Text = ""
    output: Annotated[Any, BeforeValidator(_plain_output)] = None
    is_error: bool = False
    status: Text | None = None
    extra: JsonObject | None = None

    def readable(self) -> str:
        """The output where it is a text or a list of text parts; other values are data, not text."""
        parts = self.output if isinstance(self.output, list) else [self.output]
        return "\n".join(filter(None, map(_text_of, parts)))


def _text_of(part: Any) -> str:
    if isinstance(part, Block):
        return part.readable()
    if isinstance(part, dict) and part.get("type") in ("text", "output_text", "input_text"):
        part = part.get("text")
    return part if isinstance(part, str) else ""


class ReasoningBlock(Block):
    """How the model came to its answer. It is no part of the answer, so it is not readable text."""

    type: Literal["reasoning"] = "reasoning"
    summary: Text | None = None
    details: list[Any] | None = None
    extra: JsonObject | None = None


class AnnotationBlock(Block):
    """Notes on other content. `spans`: (start, end) in characters, the end excluded."""

    type: Literal["annotation"] = "annotation"
    kind: Text = "citation"
    refs: list[AnnotationRef] = Field(default_factory=list)
    spans: list[tuple[int, int]] = Field(default_factory=list)
    extra: JsonObject | None = None


class ErrorBlock(Block):
    """Something failed."""

    type: Literal["error"] = "error"
    message: Text
    code: Text | None = None
    data: JsonObject | None = None
    extra: JsonObject | None = None

    def readable(self) -> str:
        """The error's message."""
        return self.message


class RefusalBlock(Block):
    """The model declines to answer. `extra` is an object (maybe empty) where it stood among the parts of the
    content, None where it is the message's own refusal."""

    type: Literal["refusal"] = "refusal"
    text: Text
    extra: JsonObject | None = None

    def readable(self) -> str:
        """The refusal."""
        return self.text


#: One piece of a message's content.
ContentBlock = Annotated[
    TextBlock
    | ImageBlock
    | AudioBlock
    | VideoBlock
    | DocumentBlock
    | DataBlock
    | ToolCallBlock
    | ToolResultBlock
    | ReasoningBlock
    | AnnotationBlock
    | ErrorBlock
    | RefusalBlock,
    Field(discriminator="type"),
]
