"""What a search finds: whole words, any script, no query language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline.codec.searchtext import _WORD, MAX_QUERY, MAX_TEXT, fold, read_query, words
from threadline.testing.naive import found_by
from threadline.testing.strategies import ODD_TEXTS, WORDS, sentences, texts


def found(search: str, text: str) -> bool:
    query = read_query(search)
    return query is not None and query.matches(text)


@pytest.mark.parametrize(
    ("search", "text", "finds"),
    [
        ("oslo", "Rain in Oslo.", True),
        ("osl", "Rain in Oslo.", False),
        ("OSLO rain", "Rain in Oslo.", True),
        ("oslo bergen", "Rain in Oslo.", False),
        ("café", "CAFE", True),
        ("cafe", "cafe\u0301", True),
        ("straße", "STRASSE", True),
        ("ﬁne", "fine", True),
        ("日本", "日本語です", True),
        ("本", "日本語です", True),
        ("本日", "日本語です", False),
        ("か", "が", False),
        ("%", "100% sure", True),
        ("%", "100 sure", False),
        ("_", "a_b", True),
        ("a_b", "a b", False),
        ("a_b", "a_b", True),
        ("C++", "in C++ and C", True),
        ("C++", "in C and D", False),
        ("2.5", "2.5 kg", True),
        ("2.5", "2 5 kg", False),
        ('"oslo"', "oslo", True),
        ('say "hi"', "I say hi", True),
        ("O'Brien", "o'brien said", True),
        ("a AND b", "a b", False),
        ("a AND b", "b and a", True),
        ("NEAR(a", "near(a, b)", True),
        ("oslo*", "oslo", False),
        ("col:oslo", "oslo", False),
        ("\x00", "a\x00b", True),
        ("a\nb", "b a", True),
        ("\ud800", "x\ud800", True),
        ("سلام", "سَلام", True),
        ("สวัสดี", "สวัสดีครับ", True),
        ("", "x", False),
        ("  \n", "x", False),
    ],
)
def test_what_is_found(search: str, text: str, finds: bool) -> None:
    assert found(search, text) is finds


@given(texts | sentences)
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert words(fold(text)) == words(text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_text_is_found_by_itself(text: str, around: str) -> None:
    query = read_query(text)
    assert query is None or query.matches(text)
    assert query is None or query.matches(f"{around} {text} {around}")


@given(texts | st.text(max_size=12), sentences)
def test_the_index_misses_no_match(search: str, text: str) -> None:
    """Every phrase of a query that matches stands among the words that a backend keeps."""
    query = read_query(search)
    if query is not None and query.matches(text):
        indexed = f" {words(text)} "
        assert all(f" {phrase} " in indexed for phrase in query.phrases)


@given(st.lists(st.sampled_from((*WORDS, *ODD_TEXTS)), max_size=5).map(" ".join), st.data())
def test_it_finds_what_a_naive_search_finds(text: str, data: st.DataObject) -> None:
    search = data.draw(st.sampled_from((*WORDS, *ODD_TEXTS, "caf", "本", "NEAR", "lo os")))
    if search.strip():
        assert found(search, text) is found_by(search, text)


def test_bounds() -> None:
    assert not found("end", "x " * MAX_TEXT + "end")
    assert read_query("x" * MAX_QUERY)
    with pytest.raises(ValueError, match="4097"):
        read_query("x" * (MAX_QUERY + 1))
    with pytest.raises(TypeError):
        read_query(b"x")  # type: ignore[arg-type]


def test_a_long_text_is_read_in_linear_time() -> None:
    for text in (
        "a" * MAX_TEXT,
        "é" * MAX_TEXT,
        "日" * MAX_TEXT,
        "\u0301" * MAX_TEXT,
        "_" * MAX_TEXT,
    ):
        words(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_way_of_ascii_finds_the_same_words(text: str) -> None:
    assert words(text) == " ".join(_WORD.findall(fold(text)))
