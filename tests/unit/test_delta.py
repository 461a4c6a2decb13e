"""What is new in a list, and that folding its history gives the list again, for any sequence of edits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from threadline.history.delta import (
    MAX_PIECES,
    Piece,
    appended,
    length,
    pieces_of,
    place,
    positions,
)


@given(st.lists(st.integers(0, 30), max_size=40))
def test_pieces_are_the_fewest_that_give_the_positions(places: list[int]) -> None:
    pieces = pieces_of(places)
    assert positions(pieces) == places
    assert length(pieces) == len(places)
    breaks = sum(after != before + 1 for before, after in itertools.pairwise(places))
    assert len(pieces) == (breaks + 1 if places else 0)


@given(
    st.lists(st.integers(0, 30), max_size=20).map(pieces_of), st.integers(31, 40), st.integers(0, 3)
)
def test_appending_writes_at_the_end_only(pieces: list[Piece], end: int, count: int) -> None:
    grown = appended(pieces, end, count)
    assert positions(grown) == positions(pieces) + list(range(end, end + count))
    assert len(grown) <= len(pieces) + 1


def test_appending_joins_the_last_piece() -> None:
    assert appended([(0, 2), (4, 7)], 7, 2) == [(0, 2), (4, 9)]
    assert appended([], 7, 2) == [(7, 9)]


class Log:
    """A log of items in the plainest form, and the versions of a list over it."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.history: list[tuple[list[Piece], list[bytes]]] = [([], [])]

    def fold(self, pieces: list[Piece]) -> list[bytes]:
        return [self.items[at] for at in positions(pieces)]

    def put(self, state: list[bytes], unchanged: dict[int, int]) -> int:
        """Put a new version; `unchanged`: its indexes that are certainly an index of the version before."""
        before, old = self.history[-1]
        wanted: list[int | bytes] = [unchanged.get(at, item) for at, item in enumerate(state)]
        pieces, fresh = place(positions(before), old, wanted, len(self.items))
        self.items += [state[at] for at in fresh]
        self.history.append((pieces, list(state)))
        return len(fresh)


letters = st.binary(min_size=1, max_size=1)


@st.composite
def edited(draw: DrawFn, state: list[bytes]) -> tuple[list[bytes], dict[int, int]]:
    """A list as it is after an edit, and some of the items that the edit left alone."""
    origin: list[int | None] = list(range(len(state)))
    now: list[bytes] = list(state)
    kind = draw(
        st.sampled_from(
            ["append", "trim", "middle", "edit", "reorder", "insert", "double", "clear"]
        )
    )
    at, to = sorted((draw(st.integers(0, len(state))), draw(st.integers(0, len(state)))))
    new = draw(st.lists(letters, min_size=kind in ("edit", "insert"), max_size=4))
    if kind == "append":
        at = to = len(now)
    elif kind == "trim":
        at, new = 0, []
    elif kind == "insert":
        to = at
    elif kind == "edit":
        to, new = min(at + 1, len(now)), new[:1]
    if kind in ("append", "trim", "middle", "edit", "insert"):
        now[at:to], origin[at:to] = new, [None] * len(new)
    elif kind == "reorder":
        order = draw(st.permutations(range(len(state))))
        now, origin = [state[i] for i in order], list(order)
    elif kind == "double":
        now, origin = now + now, origin + origin
    else:
        now, origin = [], []
    sure = draw(st.sets(st.integers(0, max(len(now) - 1, 0))))
    return now, {i: known for i in sure if i < len(now) and (known := origin[i]) is not None}


@given(st.data())
def test_folding_the_history_gives_every_state(data: st.DataObject) -> None:
    log = Log()
    for _ in range(data.draw(st.integers(1, 8))):
        before = log.history[-1][1]
        state, unchanged = data.draw(edited(before))
        end = len(log.items)
        written = log.put(state, unchanged)
        pieces = log.history[-1][0]
        assert len(pieces) <= MAX_PIECES
        assert log.items[end:] == [log.items[end + n] for n in range(written)]
        if written < len(
            state
        ):  # Not written anew as a whole: nothing that was there is written again.
            assert not set(log.items[end:]) & set(before)
            assert len(set(log.items[end:])) == written
    for pieces, state in log.history:
        assert log.fold(pieces) == state


@given(st.lists(letters, max_size=30), st.lists(letters, max_size=5))
def test_only_what_is_new_is_written(state: list[bytes], new: list[bytes]) -> None:
    log = Log()
    log.put(state, {})
    assert len(log.items) == len(set(state)) or len(log.history[-1][0]) == 1
    written = log.put([*state, *new], {at: at for at in range(len(state))})
    assert written in (len(set(new) - set(state)), len(state) + len(new))


def test_an_edit_in_the_middle_makes_three_pieces() -> None:
    items = [b"%d" % n for n in range(100)]
    log = Log()
    log.put(items, {})
    assert log.put([*items[:50], b"new", *items[51:]], {}) == 1
    assert log.history[-1][0] == [(0, 50), (100, 101), (51, 100)]
    trimmed = log.history[-1][1][30:]
    assert log.put(trimmed, {at: at + 30 for at in range(70) if at != 20}) == 0
    assert log.history[-1][0] == [(30, 50), (100, 101), (51, 100)]


def test_a_list_in_too_many_pieces_is_written_anew() -> None:
    items = [b"%d" % n for n in range(400)]
    log = Log()
    log.put(items, {})
    assert log.put(items[: 2 * MAX_PIECES : 2], {}) == 0
    assert len(log.history[-1][0]) == MAX_PIECES
    log.put(items, {})
    end = len(log.items)
    assert log.put(items[: 2 * MAX_PIECES + 2 : 2], {}) == MAX_PIECES + 1
    assert log.history[-1][0] == [(end, end + MAX_PIECES + 1)]
    assert log.fold(log.history[-1][0]) == items[: 2 * MAX_PIECES + 2 : 2]


@pytest.mark.parametrize("state", [[], [b"a"], [b"a"] * 10])
def test_the_same_list_writes_nothing(state: list[bytes]) -> None:
    log = Log()
    log.put(state, {})
    end, pieces = len(log.items), log.history[-1][0]
    assert log.put(state, {}) == 0
    assert log.put(state, {at: at for at in range(len(state))}) == 0
    assert (len(log.items), log.history[-1][0]) == (end, pieces)
