"""Promise P9: any value comes back equal, types too, or is refused; bytes never raise but CorruptionError (P12)."""

from __future__ import annotations

import enum
import math
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threadline.codec.values import MAX_DEPTH, decode, decode_items, encode
from threadline.errors import CorruptionError, LimitError, NotStorableError
from threadline.testing.strategies import ODD_TEXTS, faithful, same, values

OSLO = ZoneInfo("Europe/Oslo")


@given(values)
def test_a_value_comes_back_equal_with_its_types(value: Any) -> None:
    assert faithful(decode(encode(value))) == faithful(value)


@given(values)
def test_equal_values_give_equal_bytes(value: Any) -> None:
    assert encode(decode(encode(value))) == encode(value)


@given(st.lists(values, max_size=4))
def test_items_of_a_row_are_read_together(items: list[Any]) -> None:
    assert same(decode_items(b",".join(encode(item) for item in items)), items)


@pytest.mark.parametrize(
    "value",
    [
        *ODD_TEXTS,
        *[1, 1.0, True, 0, 0.0, -0.0, False, None],
        *[2**53 + 1, 2**63, 2**64, 2**70, -(2**63) - 1, -(2**200)],
        *[math.nan, math.inf, -math.inf, 5e-324],
        *[(1, (2,)), [1, (2,)], (), [], {}, set(), frozenset(), {1, 1.5}, {(1, 2), "a"}],
        *[b"", b"\x00\xff", complex(0.0, -0.0), complex(math.nan, 1)],
        {1: "a", "1": "b", (1, 2): "c", None: "d", 2.5: "e", b"k": "f"},
        {True: 1},
        {"$tuple": [1]},
        {"$dict": [["a", 1]]},
        {"$": 1},
        {"$dict": {"$dict": []}},
        {"$set": 1, "b": 2},
        {"\ud800": "\udfff"},
        {"a\x00": "\x00"},
        *[Decimal("1.10"), Decimal("-0"), Decimal("sNaN"), Decimal("1E+999999")],
        *[UUID(int=0), timedelta(days=-1, microseconds=1), timedelta.max],
        *[datetime(2025, 1, 1), datetime(2025, 1, 1, fold=1), datetime.max, datetime.min],  # noqa: DTZ001, DTZ901
        datetime(2025, 7, 1, 12, tzinfo=OSLO),
        datetime(2025, 1, 1, tzinfo=timezone(timedelta(seconds=1))),
        datetime(2025, 1, 1, 5, tzinfo=UTC, fold=1),
        *[time(1, 2, 3, 4, tzinfo=UTC), time(1, fold=1)],
        "x" * 5_000_000,
    ],
    ids=lambda value: ascii(sorted(map(repr, value)) if isinstance(value, set) else value)[:40],
)
def test_what_has_broken_stores_comes_back(value: Any) -> None:
    back = decode(encode(value))
    assert faithful(back) == faithful(value)


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Number(int):
    pass


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "value",
    [
        *[object(), Colour.RED, Text("a"), Number(1), Pair(1, 2), OrderedDict(), bytearray(b"a")],
        *[range(3), len, Text, memoryview(b"a"), iter([]), Ellipsis, {Text("k"): 1}],
        # A repeated hour, and one that is left out, equal nothing in another zone (PEP 495).
        datetime(2025, 10, 26, 2, 30, tzinfo=OSLO),
        datetime(2025, 10, 26, 2, 30, tzinfo=OSLO, fold=1),
        datetime(2025, 3, 30, 2, 30, tzinfo=OSLO),
        time(12, tzinfo=OSLO),  # Its zone has no offset without a date.
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": (v,)}])
def test_what_would_come_back_as_something_else_is_refused(value: Any, wrap: Any) -> None:
    with pytest.raises(NotStorableError):
        encode(wrap(value))


def nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"l": [value], "t": (value,), "d": {"k": value}, "n": {1: value}}[kind]
    return value


@pytest.mark.parametrize("kind", "ltdn")
def test_depth_has_a_limit_on_both_sides(kind: str) -> None:
    within = nested(60, kind)
    assert same(decode(encode(within)), within)
    for depth in (MAX_DEPTH + 2, 300, 1_500, 100_000):
        with pytest.raises(LimitError):
            encode(nested(depth, kind))


def test_a_number_that_python_would_not_read_again_is_refused() -> None:
    for number in (10**4299, -(10**4298)):
        assert decode(encode(number)) == number
    with pytest.raises(LimitError):
        encode(10**5000)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(LimitError):
        encode(loop)


# Bytes that others wrote ------------------------------------------------------------------------------

CHOOSES_CODE = {
    "import",
    "exec",
    "compile",
    "os.system",
    "subprocess.Popen",
    "open",
    "pickle.find_class",
}
_seen: list[str] | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _seen is not None and event in CHOOSES_CODE:
        _seen.append(f"{event} {args[:1]}")


sys.addaudithook(_hook)


@contextmanager
def choosing_no_code() -> Iterator[None]:
    global _seen
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


def reads_or_is_corrupt(data: bytes) -> None:
    with choosing_no_code(), suppress(CorruptionError):
        decode(data)


def test_the_audit_would_see_an_import() -> None:
    with pytest.raises(AssertionError), choosing_no_code():
        compile("1", "x", "eval")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_corrupt(data: bytes) -> None:
    reads_or_is_corrupt(data)


TAGS = "dict tuple set frozenset int float str bytes datetime date time timedelta uuid decimal complex import"
tags = st.sampled_from([*TAGS.split(), "class", ""])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["os.system", "nan", "9" * 5000, "2025-13-01", "AA==", "A", "\x00", "", "1e999999999", "é"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(tags.map("$".__add__), inner, min_size=1, max_size=1),
    max_leaves=6,
)  # fmt: skip


@given(json_values)
@settings(max_examples=400)
def test_any_tags_are_a_value_or_corrupt(value: Any) -> None:
    reads_or_is_corrupt(orjson.dumps(value))


@given(values, st.data())
def test_damaged_bytes_are_a_value_or_corrupt(value: Any, data: st.DataObject) -> None:
    stored = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    reads_or_is_corrupt(bytes(stored))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 900 + b"]" * 900,
        b"[" * 500 + b'{"$tuple":[]}' + b"]" * 500,
        b"[" * 1000 + b'{"$tuple":[]}' + b"]" * 1000,
        b'{"$tuple":[' * 500 + b"]}" * 500,
        b'{"$frozenset":[' * 400 + b"]}" * 400,
        b'{"$dict":[["a",' * 300 + b"1" + b"]]}" * 300,
        b"[" * 100_000,
        b'{"$set":[[]]}',
        b'{"$set":[{}]}',
        b'{"$dict":[[[],1]]}',
        b'{"$timedelta":[1e400]}',
        b'{"$timedelta":[999999999999,0,0]}',
        b'{"$datetime":["2025-01-01T00:00:00",2]}',
        b'{"$datetime":[]}',
        b'{"$complex":[]}',
        b'{"$uuid":1}',
        b'{"$float":[]}',
        b'{"$int":5}',
        b'{"$decimal":{"a":1}}',
        b'{"$str":"7aC"}',
        b'{"$str":"/w=="}',
        b"\xff",
        b"",
        b"nan",
    ],
    ids=lambda data: data[:30].decode("latin1"),
)
def test_hostile_bytes_are_a_value_or_corrupt(data: bytes) -> None:
    reads_or_is_corrupt(data)
