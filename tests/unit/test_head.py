"""The head: what it says is what it said, and damage is found."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline.codec.values import encode
from threadline.errors import CorruptionError
from threadline.history.delta import pieces_of
from threadline.history.head import FIELDS, BlobAt, HeadDoc, Inline, Item, Pieces, Place
from threadline.testing.strategies import small_values, texts

pieces = st.lists(st.integers(0, 40), max_size=12).map(pieces_of).map(tuple)
places: st.SearchStrategy[Place] = st.one_of(
    small_values.map(encode).map(Inline),
    st.integers(0, 99).map(Item),
    st.binary(min_size=16, max_size=16).map(BlobAt),
    st.sampled_from([bytes(16), b"\x01" * 16]).map(BlobAt),
    st.builds(Pieces, st.integers(1, 5), pieces),
)
names = texts.filter(lambda name: name.isprintable())
docs = st.builds(
    HeadDoc,
    st.sampled_from(["agent", "model", "dict", "none"]),
    st.dictionaries(names, places, max_size=5),
    st.dictionaries(names, small_values, max_size=2).map(encode),
    st.just(()),
)


def reached(doc: HeadDoc) -> dict[int, int]:
    ends: dict[int, int] = {}
    for log, _, end in doc.ranges:
        ends[log] = max(end, ends.get(log, 0))
    return ends


@given(docs, st.dictionaries(st.integers(0, 5), st.integers(0, 30), max_size=3))
def test_a_head_comes_back(doc: HeadDoc, more: dict[int, int]) -> None:
    ends = {log: end + more.get(log, 0) for log, end in reached(doc).items()}
    doc = dataclasses.replace(doc, ends=tuple(sorted(ends.items())))
    again = HeadDoc.from_bytes(doc.to_bytes(), doc.blobs)
    assert again == doc
    assert list(again.fields) == list(doc.fields)
    assert again.to_bytes() == doc.to_bytes()
    assert again.read_metadata().keys() == doc.read_metadata().keys()


@given(docs)
def test_ranges_cover_every_place_and_no_more(doc: HeadDoc) -> None:
    needed = set()
    for place in doc.fields.values():
        if isinstance(place, Item):
            needed.add((FIELDS, place.position))
        elif isinstance(place, Pieces):
            needed |= {(place.log, at) for start, end in place.pieces for at in range(start, end)}
    ranges = doc.ranges
    assert {(log, at) for log, start, end in ranges for at in range(start, end)} == needed
    assert ranges == sorted(ranges)
    for (log, _, end), (next_log, start, _) in itertools.pairwise(ranges):
        assert log < next_log or end < start  # Neighbours are joined.
    assert sorted(set(doc.blobs)) == sorted(doc.blobs)


@given(docs, st.data())
def test_damage_is_found_or_harmless(doc: HeadDoc, draw: st.DataObject) -> None:
    data = bytearray(doc.to_bytes())
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(32, 126))
    try:
        again = HeadDoc.from_bytes(bytes(data), doc.blobs)
        _ = again.ranges, again.blobs, again.to_bytes(), again.read_metadata()
    except CorruptionError:
        pass


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"s": "agent"},
        {"s": "agent", "f": []},
        {"s": 5, "f": {}},
        {"s": "agent", "f": {"a": [4, 1]}},
        {"s": "agent", "f": {"a": [1, -1]}},
        {"s": "agent", "f": {"a": [1, True]}},
        {"s": "agent", "f": {"a": [1, "1"]}},
        {"s": "agent", "f": {"a": [2, 0]}},
        {"s": "agent", "f": {"a": [2, -1]}},
        {"s": "agent", "f": {"a": [3, 1, 0]}},
        {"s": "agent", "f": {"a": [3, 1, 5, 2]}},
        {"s": "agent", "f": {"a": [3, 1, 0, 0]}},
        {"s": "agent", "f": {"a": [3, -1, 0, 1]}},
        {"s": "agent", "f": {"a": [3, 1, 0, True]}},
        {"s": "agent", "f": {}, "e": 5},
        {"s": "agent", "f": {}, "e": [[1]]},
        {"s": "agent", "f": {}, "e": [["x", 1]]},
        {"s": "agent", "f": {}, "e": {"a": 1}},
    ],
    ids=lambda document: orjson.dumps(document).decode(),
)
def test_a_damaged_head_is_corrupt(document: Any) -> None:
    with pytest.raises(CorruptionError):
        HeadDoc.from_bytes(orjson.dumps(document), ())


def test_metadata_that_is_no_object_is_corrupt() -> None:
    with pytest.raises(CorruptionError):
        HeadDoc.from_bytes(b'{"s":"agent","f":{},"m":[1]}', ()).read_metadata()
