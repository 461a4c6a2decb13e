"""Hypothesis strategies for what agents store, the awkward included, and `same`, which compares types too.

First `same` and `faithful`; then plain values, messages and states; then small edits in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, Field

from threadline.model import AgentState, Message, StateDict, ToolCallBlock, ToolResultBlock


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal, types and signs of zero and order of keys included; NaN equals itself."""
    return bool(faithful(left) == faithful(right))


def faithful(value: Any) -> Any:
    """Something that is equal for two values just when `same` says so, and prints well."""
    kind = dict if type(value) is StateDict else type(value)
    if isinstance(value, BaseModel):
        fields = {**value.__dict__, **(value.__pydantic_extra__ or {})}
        return kind, [(name, faithful(fields[name])) for name in sorted(fields)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return kind, [(name, faithful(getattr(value, name))) for name in names]
    if isinstance(value, Mapping):
        return kind, [(faithful(key), faithful(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [faithful(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted((faithful(item) for item in value), key=repr)
    if isinstance(value, float | complex | Decimal):
        return kind, repr(value)
    if isinstance(value, datetime | time):
        return kind, value.replace(tzinfo=None), value.fold, value.utcoffset()
    return kind, value


#: Texts that have broken stores: NUL, lone surrogates, our own tags, patterns, scripts without spaces.
ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "x\udfff\ud83d",
    "\U0001f980",
    "$tuple",
    '{"$tuple":[1]}',
    "%",
    "_",
    "100%",
    "O'Brien",
    'say "hi"\nand go',
    "café",
    "cafe\u0301",
    "日本語",
    "東京 Oslo",
    "NEAR(a, b)",
    "a AND NOT b*",
    "İstanbul ß ﬁ",
    "\u2028",
    "\\",
    "{}",
)
texts = st.sampled_from(ODD_TEXTS) | st.text(
    st.characters(exclude_categories=())  # Lone surrogates included.
    | st.sampled_from("abc \x00\ud800é日$"),
    max_size=8,
)
_offsets = st.sampled_from(
    [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(seconds=3601)), None]
)
_folds = st.sampled_from([0, 1])
moments = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    _offsets,
    _folds,
)
numbers = st.one_of(
    st.sampled_from([0, 1, True, False, 1.0, 0.0, -0.0, -1]),
    st.sampled_from([2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**70, -(2**63), -(2**63) - 1]),
    st.integers(),
    st.floats(),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308]),
)
#: Values without parts that may be keys.
scalars = st.one_of(
    st.none(),
    numbers,
    texts,
    st.binary(max_size=6),
    moments,
    st.dates(),
    st.builds(lambda at, fold: at.replace(fold=fold), st.times(timezones=_offsets), _folds),
    st.timedeltas(),
    st.sampled_from([Decimal("0.10"), Decimal("-0"), Decimal("NaN"), Decimal("1e400")]),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.complex_numbers(),
)
#: What can be a key: the scalars, and tuples and frozen sets of them.
keys = (
    texts
    | scalars
    | st.tuples(scalars)
    | st.tuples(texts, numbers)
    | st.frozensets(scalars, max_size=2)
)
#: Dicts that look like what the codec writes.
lookalikes = st.builds(
    lambda tag, value: {tag: value},
    st.sampled_from(["$tuple", "$dict", "$set", "$int", "$float", "$bytes", "$", "$new", "$str"]),
    st.sampled_from([[], [1], [[1, 2]], "1", "nan", {}, None, {"$tuple": []}]),
)


def _parts(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(scalars, max_size=3),
        st.frozensets(scalars, max_size=3),
        st.builds(
            lambda tag, value: {tag: value},
            st.sampled_from(["$tuple", "$dict", "$set", "$x", "a", "s"]),
            inner,
        ),
    )


#: Any plain value that must come back equal.
values = st.recursive(scalars | lookalikes, _parts, max_leaves=8)
#: Smaller ones, of which many are drawn.
small_values = st.recursive(
    st.one_of(st.none(), numbers, texts, lookalikes, moments, st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.tuples(inner),
        st.dictionaries(st.sampled_from("abk"), inner, max_size=2),
        st.dictionaries(st.sampled_from([1, True, (1, "x"), "a", "$b"]), inner, max_size=2),
    ),
    max_leaves=3,
)
objects = st.dictionaries(
    st.sampled_from(["node", "k", "ключ", "$a", "n\x00"]), small_values, max_size=2
)

#: Few words, so that searches find something.
WORDS = (
    "oslo",
    "Weather",
    "café",
    "CAFE",
    "100%",
    "a_b",
    "日本",
    "O'Brien",
    "go",
    "go\x00",
    "2.5",
    "C++",
)
sentences = st.lists(st.sampled_from(WORDS) | texts, max_size=4).map(" ".join)


class Memo(AgentState):
    """A state with fields of its own: lists that become logs, short lists, and untyped values."""

    topic: str = ""
    notes: list[str] = Field(default_factory=list)
    steps: list[int] = Field(default_factory=list)
    extra: Any = None


def message(
    ids: st.SearchStrategy[str], contents: st.SearchStrategy[str] = sentences
) -> st.SearchStrategy[Message]:
    """Messages with these ids: mostly of one text, some with tool calls and results."""
    roles = st.sampled_from(["user", "assistant", "system"])
    plain = st.builds(Message.text_message, contents, roles, ids, objects)
    call = st.builds(ToolCallBlock, id=st.sampled_from("cd"), name=st.just("look"), args=objects)
    calls = st.builds(
        lambda message_id, block: Message(message_id=message_id, role="assistant", content=[block]),
        ids,
        call,
    )
    result = st.builds(ToolResultBlock, call_id=st.just("c"), output=contents | small_values)
    results = st.builds(
        lambda message_id, block: Message(message_id=message_id, role="tool", content=[block]),
        ids,
        result,
    )
    return st.one_of(plain, plain, calls, results)
