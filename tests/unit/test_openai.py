"""OpenAI messages: lossless both ways, lean, and honest about edits."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline.model import (
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
    ToolCallBlock,
    ToolResultBlock,
    VideoBlock,
    message_from_openai,
    message_to_openai,
)
from threadline.model.openai_parts import same

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}


def call_with(arguments: Any, **extra: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
        **extra,
    }


def part(kind: str, **body: Any) -> dict[str, Any]:
    return {"type": kind, kind: body}


MESSAGES: list[dict[Any, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "user", "content": ""},
    {"role": "user", "content": None},
    {"role": "user"},
    {"role": "user", "content": []},
    {"role": "user", "content": 5},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "e"}}]},
    {"role": "user", "content": ["bare", {"type": "text", "text": "x"}]},
    {"role": "user", "content": [{}, {"type": 1}, {"type": "text", "text": None}]},
    {"role": "user", "content": [{"type": "text"}, {"type": ["unhashable"]}, {1: 2}]},
    {"role": "user", "content": [part("image_url", url="https://x/y.png", detail="high")]},
    {"role": "user", "content": [part("image_url", url="data:image/png;base64,AAAA")]},
    {"role": "user", "content": [part("image_url", url="data:;base64,AAAA"), part("image_url")]},
    {"role": "user", "content": [{"type": "image_url", "image_url": "https://flat"}]},
    {"role": "user", "content": [part("input_audio", data="AA==", format="mp3")]},
    {"role": "user", "content": [part("input_audio", data="AA==", format="mpeg")]},
    {"role": "user", "content": [part("video_url", url="https://x/y.mp4")]},
    {"role": "user", "content": [part("file", file_id="f1"), part("file", file_data="AA==")]},
    {
        "role": "user",
        "content": [part("file", file_data="data:text/x;base64,AA==", filename="a", n=1)],
    },
    {"role": "user", "content": "x", "name": "bob", "annotations": [], "7": {"a": (1, 2)}},
    {"role": "user", "content": "x", "name": None, "tool_call_id": 5, 8: 9},
    {"role": "user", "content": "lone \ud800 surrogate and \x00"},
    {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"role": "developer", "content": "d", "name": ""},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    {"role": "assistant", "content": "x", "tool_calls": []},
    {"role": "assistant", "content": "x", "tool_calls": None, "function_call": None},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}, 3]},
    {"role": "assistant", "content": None, "tool_calls": [{"type": "mcp", "x": 1}, {}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "", "function": {"name": "", "arguments": ""}}],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [call_with("{}", index=0, extra={"s": 1})],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT"}}],
    },
    {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{ }"}},
    {"role": "assistant", "content": "x", "function_call": {"name": "f", "arguments": {}, "z": 1}},
    {"role": "assistant", "content": None, "refusal": "no"},
    {"role": "assistant", "content": None, "refusal": None},
    {"role": "assistant", "refusal": "no", "content": [{"type": "refusal", "refusal": "never"}]},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "x", "y": 1}]},
    {"role": "assistant", "content": None, "audio": {"id": "a1"}},
    {
        "role": "assistant",
        "content": None,
        "audio": {"id": "a1", "data": "AA==", "transcript": "hi", "expires_at": 9},
    },
    {"role": "assistant", "content": "x", "audio": None, "reasoning_content": "because"},
    {"role": "assistant", "content": "x", "reasoning": "a", "reasoning_content": "b"},
    {
        "role": "assistant",
        "content": "see",
        "annotations": [
            part("url_citation", url="u", title="t", start_index=0, end_index=3) | {"z": 1}
        ],
    },
    {"role": "assistant", "content": "see", "annotations": [{"type": "other"}]},
    {"role": "tool", "tool_call_id": "c1", "content": "4 degrees", "name": "weather"},
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "4"}]},
    {"role": "tool", "tool_call_id": "c1", "content": None},
    {"role": "tool", "tool_call_id": "", "content": {"a": 1}},
    {"role": "tool"},
    {"role": "tool", "content": [], "tool_call_id": None},
    {"role": "tool", "content": [1, "x"]},
    {"role": "function", "name": "f", "content": "4"},
]


@pytest.mark.parametrize("wire", MESSAGES, ids=lambda wire: ascii(wire)[:60])
def test_every_shape_comes_back_with_its_types(wire: dict[str, Any]) -> None:
    before = copy.deepcopy(wire)
    message = Message.from_openai(wire)
    written = message.to_openai()
    assert same(written, before)
    assert same(wire, before)
    # A message rebuilt from its dump says the same.
    assert same(Message.model_validate(message.model_dump()).to_openai(), before)


ARGUMENTS = [
    '{"a":1}',
    '{"a": 1}',
    '{"å":"é"}',
    '{"a":"\\u00e9"}',
    '{"a": "\\u00e9"}',
    "{}",
    "",
    "{",
]
ARGUMENTS += ["null", "[1]", '"x"', '{"a":1,"a":2}', '{"a":1.0}', '{"a":1.10}', '{\n "a": 1\n}']
ARGUMENTS += ['{"a":1e999}', '{"a":NaN}', "[" * 100_000, '{"a":' + "9" * 5000 + "}"]


@pytest.mark.parametrize("text", [*ARGUMENTS, '{"a":"\\ud800"}'], ids=lambda text: text[:20])
def test_arguments_keep_their_exact_text(text: str) -> None:
    wire = {"role": "assistant", "content": None, "tool_calls": [call_with(text)]}
    assert Message.from_openai(wire).to_openai() == wire


def test_known_styles_of_arguments_are_not_kept_twice() -> None:
    for text in ARGUMENTS[:6]:
        message = Message.from_openai({"role": "assistant", "tool_calls": [call_with(text)]})
        block = message.content[0]
        assert isinstance(block, ToolCallBlock)
        assert block.args == json.loads(text)
        assert block.args_text is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def shaped(**known: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Dicts with any of these keys, each with its own or with any value, and a few more keys."""
    keys = {key: value | json_values for key, value in known.items()}
    more = st.dictionaries(
        st.text(max_size=3) | st.sampled_from(["type", "extra"]), json_values, max_size=1
    )
    return st.builds(
        lambda one, two: {**two, **one}, st.fixed_dictionaries({}, optional=keys), more
    )


texts = st.text(max_size=8)
argument_texts = st.sampled_from(ARGUMENTS[:-2]) | st.builds(json.dumps, json_values) | texts
urls = st.sampled_from(["https://x", "data:image/png;base64,AA==", "data:;base64,", ""]) | texts
parts = st.one_of(
    shaped(type=st.just("text"), text=texts),
    shaped(type=st.just("refusal"), refusal=texts),
    shaped(type=st.just("image_url"), image_url=shaped(url=urls, detail=texts)),
    shaped(type=st.just("video_url"), video_url=shaped(url=urls)),
    shaped(type=st.just("input_audio"), input_audio=shaped(data=texts, format=texts)),
    shaped(type=st.just("file"), file=shaped(file_id=texts, file_data=urls, filename=texts)),
    json_values,
)
functions = shaped(name=texts, arguments=argument_texts)
calls = shaped(
    id=texts,
    type=st.sampled_from(["function", "custom", "function_call"]),
    function=functions,
    custom=shaped(name=texts, input=texts),
)
citations = shaped(
    type=st.just("url_citation"),
    url_citation=shaped(url=texts, title=texts, start_index=st.integers(), end_index=st.integers()),
)
wires = st.builds(
    lambda role, rest: {**rest, "role": role},
    st.sampled_from(["user", "assistant", "system", "tool", "developer", "function"]),
    shaped(
        content=st.none() | texts | st.lists(parts, max_size=3),
        name=texts,
        refusal=st.none() | texts,
        tool_call_id=texts,
        tool_calls=st.none() | st.lists(calls, max_size=3),
        function_call=st.none() | functions,
        audio=shaped(id=texts, data=texts, transcript=texts, expires_at=st.integers()),
        annotations=st.lists(citations, max_size=2),
        reasoning_content=st.none() | texts,
    ),
)


@given(wires)
def test_any_message_comes_back_equal(wire: dict[str, Any]) -> None:
    before = copy.deepcopy(wire)
    assert same(Message.from_openai(wire).to_openai(), before)
    assert same(wire, before)


def containers(value: Any) -> list[int]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [id(value)] if isinstance(value, dict | list) else []
    return own + [number for item in inner for number in containers(item)]


@given(wires)
def test_nothing_is_shared(wire: dict[str, Any]) -> None:
    message = Message.from_openai(wire)
    one, two = message.to_openai(), message.to_openai()
    held = containers(message.model_dump())
    numbers = containers(wire) + containers(one) + containers(two)
    assert len(set(numbers)) == len(numbers)
    assert not set(held) & set(numbers)
    # model_dump copies; what the fields themselves hold must not be shared either.
    for value in (wire, one):
        for key in list(value):
            spoil(value[key])
    assert same(message.to_openai(), two)


def spoil(value: Any) -> None:
    for item in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        spoil(item)
    if isinstance(value, dict | list):
        value.clear()


def test_usual_messages_need_no_notes() -> None:
    for wire in (
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "x", "name": "f"},
        {"role": "user", "content": [part("image_url", url="u"), {"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None, "refusal": "no"},
    ):
        assert Message.from_openai(wire).raw is None


def test_identity_and_time() -> None:
    message = message_from_openai({"role": "user", "content": "x"}, "m1")
    assert message.message_id == "m1"
    assert message.timestamp is None
    assert message_to_openai(message) == {"role": "user", "content": "x"}
    assert Message.from_openai({"role": "user"}, timestamp=5.0).timestamp == 5.0
    assert Message.from_openai({"role": "user"}).message_id


@pytest.mark.parametrize("bad", [None, "text", [], 5])
def test_what_is_no_dict_is_a_type_error(bad: Any) -> None:
    with pytest.raises(TypeError):
        Message.from_openai(bad)


def test_a_bad_role_is_said_clearly() -> None:
    with pytest.raises(ValueError, match="needs a role"):
        Message.from_openai({"content": "x"})
    with pytest.raises(ValueError, match="unknown role 'robot'"):
        Message.from_openai({"role": "robot"})
    with pytest.raises(TypeError, match="role is a str"):
        Message.from_openai({"role": None})


def test_edits_are_written() -> None:
    wire = {"role": "assistant", "content": None, "name": None, "tool_calls": [call_with("{ }")]}
    message = Message.from_openai({**wire, "refusal": None})
    block = message.content[0]
    assert isinstance(block, ToolCallBlock)
    block.args["a"] = 1
    message.content.insert(0, TextBlock(text="now"))
    message.name = "bob"
    assert message.to_openai() == {
        "role": "assistant",
        "content": "now",
        "name": "bob",
        "refusal": None,
        "tool_calls": [call_with('{"a":1}')],
    }
    listed = Message.from_openai({"role": "user", "content": [{"type": "text", "text": "a"}]})
    listed.content[0] = TextBlock(text="b")
    assert listed.to_openai()["content"] == [{"type": "text", "text": "b"}]


def test_a_message_built_by_hand_is_sensible() -> None:
    data = MediaRef(kind="data", data_base64="AA==", mime_type="image/jpeg")
    message = Message(
        role="user",
        content=[
            TextBlock(text="look"),
            ImageBlock(media=data),
            ImageBlock(media=MediaRef(kind="file_id", file_id="f")),
            VideoBlock(media=MediaRef(url="https://v")),
            AudioBlock(media=MediaRef(kind="data", data_base64="AA==", mime_type="audio/mpeg")),
            DocumentBlock(media=MediaRef(url="https://d"), excerpt="page"),
            DataBlock(data_base64="AA=="),
            DataBlock(media=MediaRef(kind="file_id", file_id="g")),
            DataBlock(),
            ReasoningBlock(summary="hm"),
            ErrorBlock(message="broken"),
        ],
    )
    assert message.to_openai()["content"] == [
        {"type": "text", "text": "look"},
        part("image_url", url="data:image/jpeg;base64,AA=="),
        part("file", file_id="f"),
        part("video_url", url="https://v"),
        part("input_audio", data="AA==", format="mp3"),
        {"type": "text", "text": "page"},
        part("file", file_data="data:application/octet-stream;base64,AA=="),
        part("file", file_id="g"),
        {"type": "text", "text": "broken"},
    ]
    call = ToolCallBlock(id="c", name="f", args={"é": 1})
    assert Message(role="assistant", content=[call], reasoning="hm").to_openai() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"é":1}'}}
        ],
    }
    refused = Message(role="assistant", content=[RefusalBlock(text="no")])
    assert refused.to_openai() == {"role": "assistant", "content": None, "refusal": "no"}


def test_tool_messages_built_by_hand() -> None:
    def answer(*blocks: Any) -> Any:
        return Message.tool_message(list(blocks)).to_openai()

    assert answer(ToolResultBlock(call_id="c", output={"a": 1})) == {
        "role": "tool",
        "tool_call_id": "c",
        "content": '{"a":1}',
    }
    assert answer(ToolResultBlock(call_id="c"))["content"] == ""
    assert answer(TextBlock(text="x")) == {"role": "tool", "content": "x"}
    mixed = answer(ToolResultBlock(output="x"), ErrorBlock(message="y"))
    assert mixed["content"] == [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]
    with pytest.raises(ValueError, match="one message for each result"):
        answer(ToolResultBlock(output="x"), ToolResultBlock(output="y"))


def test_given_calls_are_written() -> None:
    given_calls = [CALL, {"id": "c2", "name": "g", "args": {"a": 1}}]
    message = Message(role="assistant", tools_calls=given_calls)
    assert message.to_openai()["tool_calls"] == [
        CALL,
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": '{"a":1}'}},
    ]


@pytest.mark.parametrize(
    "raw", [{"openai": 5}, {"openai": {"set": 1, "content": [], "reasoning": 1}}]
)
def test_foreign_raw_is_no_note(raw: dict[str, Any]) -> None:
    message = Message(role="user", content="x", raw=raw, reasoning="r")
    assert message.to_openai() == {"role": "user", "content": "x"}
