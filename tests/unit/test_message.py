"""Messages and their blocks: what they are made of, what they refuse, what a reader sees."""

import json
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from threadline import clock
from threadline.model import (
    AnnotationBlock,
    AnnotationRef,
    AudioBlock,
    DataBlock,
    DocumentBlock,
    ErrorBlock,
    ImageBlock,
    MediaRef,
    Message,
    ReasoningBlock,
    RefusalBlock,
    TextBlock,
    TokenUsages,
    ToolCallBlock,
    ToolResultBlock,
    VideoBlock,
)

MEDIA = MediaRef(url="https://x", width=3)
BLOCKS: list[Any] = [
    TextBlock(text="text", annotations=[AnnotationRef(url="u", index=1)]),
    ImageBlock(media=MEDIA, alt_text="image", bbox=[0.0, 0.5, 1.0, 1.0]),
    AudioBlock(media=MEDIA, transcript="audio", sample_rate=16000, channels=1),
    VideoBlock(media=MEDIA, thumbnail=MEDIA),
    DocumentBlock(media=MEDIA, pages=[1, 2], excerpt="document"),
    DataBlock(mime_type="a/b", data_base64="AA=="),
    ToolCallBlock(id="c", name="f", args={"a": [1, {"b": None}]}),
    ToolResultBlock(call_id="c", output="result", is_error=True, status="done"),
    ReasoningBlock(summary="reasoning", details=[{"step": 1}]),
    AnnotationBlock(kind="note", refs=[AnnotationRef(title="t")], spans=[(0, 3)]),
    ErrorBlock(message="Error", code="E1", data={"a": 1}),
    RefusalBlock(text="refusal"),
]


def test_text_message() -> None:
    message = Message.text_message("hi")
    assert message.role == "user"
    assert message.content == [TextBlock(text="hi")]
    assert message.text() == "hi"
    assert message.delta is False
    assert message.metadata == {}
    assert Message.text_message("x", "system", "m1", {"a": 1}, name="n").model_dump(
        include={"role", "message_id", "metadata", "name"}
    ) == {"role": "system", "message_id": "m1", "metadata": {"a": 1}, "name": "n"}
    with pytest.raises(TypeError):
        Message.text_message(5)  # type: ignore[arg-type]


def test_tool_message() -> None:
    block = ToolResultBlock(call_id="c", output="4 degrees")
    assert Message.tool_message([block], "m1", {"a": 1}).role == "tool"
    assert Message.tool_message([block]).text() == "4 degrees"
    assert Message.tool_message(block).content == [block]
    assert Message.tool_message("4 degrees", call_id="c").content == [block]


def test_a_plain_text_is_a_text_block() -> None:
    assert Message(role="user", content="x").content == [TextBlock(text="x")]
    assert Message(role="user").content == []


def test_identity_and_time_are_made() -> None:
    with clock.use(wall_us=lambda: 1_700_000_000_250_000):
        one, two = Message(role="user"), Message(role="user")
    assert one.message_id < two.message_id
    assert one.timestamp == 1_700_000_000.25


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.type)
def test_every_block_survives_python_and_json(block: Any) -> None:
    message = Message(role="assistant", content=[block])
    assert Message.model_validate(message.model_dump()) == message
    assert Message.model_validate_json(message.model_dump_json()) == message
    again = Message.model_validate(json.loads(message.model_dump_json()))
    assert type(again.content[0]) is type(block)


def test_every_field_survives() -> None:
    usages = TokenUsages(completion_tokens=1, prompt_tokens=2, total_tokens=3, image_tokens=4)
    message = Message(
        role="assistant",
        content=BLOCKS,
        delta=True,
        tools_calls=[{"id": "x", "odd": [1]}],
        reasoning="r",
        name="n",
        metadata={"a": 1},
        usages=usages,
        raw={"id": "resp"},
        timestamp=None,
    )
    again = Message.model_validate(message.model_dump())
    assert again == message
    assert again.tools_calls == [{"id": "x", "odd": [1]}]
    assert again.timestamp is None
    assert message.model_dump()["tools_calls"] == [{"id": "x", "odd": [1]}]


@pytest.mark.parametrize("text", ["\x00", "\ud800", "a\r\nb", "", "日本"])
def test_any_text_is_held(text: str) -> None:
    message = Message(role="user", content=text, name=text, metadata={text: text})
    assert Message.model_validate(message.model_dump()).model_dump() == message.model_dump()
    assert message.text() == text


def test_a_kind_of_text_becomes_plain_text() -> None:
    class Fancy(str):
        """As some frameworks return it."""

    block = Message.text_message(Fancy("x")).content[0]
    assert isinstance(block, TextBlock)
    assert type(block.text) is str


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"role": "robot"},
        {"role": "user", "content": 5},
        {"role": "user", "content": [{"type": "nothing"}]},
        {"role": "user", "tool_calls": []},
        {"role": "user", "name": b"bytes"},
        {"role": "user", "metadata": {1: 2}},
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Message(**fields)


def test_readable_text() -> None:
    shown = "text\nimage\naudio\ndocument\nresult\nError\nrefusal"
    assert Message(role="assistant", content=BLOCKS).text() == shown
    result = ToolResultBlock(
        output=[{"type": "text", "text": "a"}, "b", {"type": "x"}, {"a": 1}, 5]
    )
    assert Message.tool_message([result]).text() == "a\nb"
    assert Message.tool_message([ToolResultBlock(output={"error": "x"})]).text() == ""
    assert ToolResultBlock(output=TextBlock(text="x")).readable() == "x"
    assert VideoBlock(media=MEDIA).readable() == ""


def test_blocks_in_an_output_become_plain() -> None:
    block = ToolResultBlock(output=[TextBlock(text="a"), "b"])
    assert block.output == [{"type": "text", "text": "a"}, "b"]
    assert ToolResultBlock.model_validate(block.model_dump()) == block


def test_tool_calls_are_seen_from_the_blocks() -> None:
    call = ToolCallBlock(id="c", name="f", args={"a": 1})
    message = Message(role="assistant", content=[call])
    assert message.tools_calls == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert message.given_tools_calls is None
    legacy = ToolCallBlock(name="f", tool_type="function_call")
    assert Message(role="assistant", content=[legacy]).tools_calls == [
        {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    assert Message.text_message("x").tools_calls is None


def test_tool_calls_may_be_set() -> None:
    message = Message(
        role="assistant", content=[ToolCallBlock(name="f")], tools_calls=[{"id": "x"}]
    )
    assert message.tools_calls == [{"id": "x"}]
    message.tools_calls = [{"id": "y"}]
    assert message.tools_calls == [{"id": "y"}]
    message.given_tools_calls = None
    assert len([m for m in (message, Message.text_message("x")) if m.tools_calls]) == 1


def test_messages_are_mutable() -> None:
    message = Message.text_message("a")
    block = message.content[0]
    assert isinstance(block, TextBlock)
    block.text = "b"
    message.content.append(TextBlock(text="c"))
    assert message.text() == "b\nc"


def test_usages_need_the_three_counts() -> None:
    with pytest.raises(ValidationError):
        TokenUsages(completion_tokens=1)  # type: ignore[call-arg]
    assert TokenUsages(completion_tokens=1, prompt_tokens=2, total_tokens=3).reasoning_tokens == 0


def test_records_tell_the_codec_to_leave_out_what_is_empty() -> None:
    assert Message.omit_empty
    assert TextBlock.omit_empty
    assert TokenUsages.omit_empty
    assert "omit_empty" not in Message.model_fields


def test_many_threads_may_be_first() -> None:
    class Mine(Message):
        """Its validator is built by whoever comes first."""

        more: int = 0

    made: list[Message] = []
    threads = [
        threading.Thread(target=lambda: made.append(Mine(role="user", more=1))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({message.message_id for message in made}) == 16
