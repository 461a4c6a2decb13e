"""Metadata filters: terms find every match, and `matches` decides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline.codec.terms import matches, terms_of
from threadline.errors import NotStorableError
from threadline.testing.strategies import keys, small_values, values

dicts = st.dictionaries(st.sampled_from(["a", "b", "$c", "node"]), small_values, max_size=4)


@given(dicts, st.data())
def test_what_matches_has_the_terms(metadata: dict[str, Any], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(sorted(metadata)))) if metadata else set()
    wanted = {key: metadata[key] for key in chosen}
    assert matches(metadata, wanted)
    assert set(terms_of(wanted)) <= set(terms_of(metadata))


@given(dicts, dicts)
def test_terms_and_matches_mean_the_same(metadata: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert matches(metadata, wanted) == (set(terms_of(wanted)) <= set(terms_of(metadata)))


@given(keys, values)
def test_any_key_and_value_can_be_asked_for(key: Any, value: Any) -> None:
    (term,) = terms_of({key: value})
    assert -(2**63) <= term < 2**63
    assert matches({key: value, "other": 1}, {key: value})


@given(dicts)
def test_order_of_keys_does_not_matter(metadata: dict[str, Any]) -> None:
    turned = dict(reversed(metadata.items()))
    assert terms_of(turned) == terms_of(metadata)
    assert terms_of({"deep": turned}) == terms_of({"deep": metadata})


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        (1, 1.0, True),
        (1.0, 1, True),
        (0.0, -0.0, True),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (1, "1", False),
        ([1, 2], [1, 2], True),
        ([1, 2], (1, 2), False),
        ([1, {"a": 2}], [1.0, {"a": 2.0}], True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (None, False, False),
        (2**70, 2**70, True),
        (2**53 + 1, 2**53, False),
        (1e300, 1e300, True),
        (math.nan, math.nan, True),
        ("%", "_", False),
        ("é", "e\u0301", False),
        (b"a", "a", False),
        ({1}, frozenset({1}), False),
        ({"$tuple": [1]}, (1,), False),
        ("\ud800", "\ud800", True),
    ],
)
def test_one_meaning(stored: Any, asked: Any, found: bool) -> None:
    assert matches({"k": stored}, {"k": asked}) is found
    assert (terms_of({"k": stored}) == terms_of({"k": asked})) is found


def test_a_key_must_be_there() -> None:
    assert not matches({}, {"k": None})
    assert matches({"k": 1}, {})
    assert terms_of({}) == ()


def test_what_cannot_be_stored_cannot_be_asked_for() -> None:
    with pytest.raises(NotStorableError):
        terms_of({"k": object()})
