"""Rows of a log: what is appended is read again, and the chain of digests does not know where rows are cut."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline.codec.digest import EMPTY, extend, item_digest
from threadline.codec.envelope import Codec, Where
from threadline.codec.rows import JSON, Items, items_of, join, unpack
from threadline.codec.values import encode
from threadline.errors import CorruptionError
from threadline.history.logs import (
    Growth,
    Mark,
    grow,
    joins,
    open_row,
    read_marks,
    write_marks,
)
from threadline.history.row import ROW_SIZE, Row, RowSize
from threadline.testing.strategies import small_values

CODEC = Codec()
ROW_BYTES = ROW_SIZE.plain
sizes = st.sampled_from([0, 1, 10, 3_000, ROW_BYTES - 4, ROW_BYTES - 3, ROW_BYTES, 40_000])
items = st.one_of(
    small_values.map(encode),
    st.builds(
        lambda size, letter: b'"' + letter * size + b'"', sizes, st.sampled_from([b"x", b"y"])
    ),
)
puts = st.lists(st.lists(items, max_size=6), max_size=12)
# How the open row comes to hand: from memory, read again, or not at all.
tails = st.lists(st.sampled_from(["known", "read", "read", "none"]), min_size=12, max_size=12)


class Store:
    """The rows of one log as a backend keeps them."""

    def __init__(self, size: RowSize = ROW_SIZE) -> None:
        self.size = size
        self.rows: dict[int, Row] = {}
        self.mark, self.tail = Mark(), Items((), b"")
        self.written = 0

    def append(self, new: list[bytes], how: str) -> Growth:
        tail: Items | None = None
        if how == "known" and self.mark.end > self.mark.open:
            tail = self.tail
        elif how == "read" and new and joins(self.mark, new, self.size):
            tail = open_row(self.rows[self.mark.open], CODEC)
        growth = grow(3, self.mark, new, CODEC, tail, row_size=self.size)
        for row in growth.rows[1:]:
            assert (
                row.start not in self.rows
            )  # Only the first may be there already, and is the open one.
        for row in growth.rows:
            if row.start not in self.rows:
                self.written += row.count
            self.rows[row.start] = row
        self.mark, self.tail = growth.mark, growth.tail or self.tail
        return growth

    def items(self) -> list[bytes]:
        found: list[bytes] = []
        for start, row in sorted(self.rows.items()):
            assert start == len(found)
            found += open_row(row, CODEC).cut()
        return found


@given(puts, tails)
def test_everything_appended_is_read_again(history: list[list[bytes]], how: list[str]) -> None:
    store, everything = Store(), list[bytes]()
    for new, tail in zip(history, how, strict=False):
        store.append(new, tail)
        everything += new
        assert store.mark.end == len(everything)
    assert store.items() == everything
    for row in store.rows.values():
        size = len(open_row(row, CODEC).body)
        assert size < ROW_BYTES + row.count or row.count == 1


@given(puts, tails)
def test_the_chain_over_rows_is_the_chain_over_items(
    history: list[list[bytes]], how: list[str]
) -> None:
    store, everything = Store(), list[bytes]()
    for new, tail in zip(history, how, strict=False):
        store.append(new, tail)
        everything += new
    digests = [item_digest(JSON, item) for item in everything]
    prefixes = [EMPTY]
    for digest in digests:
        prefixes.append(extend(prefixes[-1], [digest]))
    assert store.mark.prefix == prefixes[len(everything)] == extend(EMPTY, digests)
    assert store.mark.open_prefix == prefixes[store.mark.open]
    for start, row in store.rows.items():
        assert (row.p_start, row.p_end) == (prefixes[start], prefixes[row.end])
    open_items = everything[store.mark.open :]
    assert store.mark.open_bytes == len(b",".join(open_items))


@given(puts)
def test_an_item_is_put_into_one_row_and_a_full_row_is_never_touched(
    history: list[list[bytes]],
) -> None:
    store = Store()
    for new in history:
        before, open_ = dict(store.rows), store.mark.open
        store.append(new, "read")
        changed = [start for start in before if store.rows[start] != before[start]]
        assert changed in ([], [open_])


@given(puts, tails)
def test_a_row_that_takes_enough_is_full(history: list[list[bytes]], how: list[str]) -> None:
    store, everything = Store(RowSize(ROW_BYTES, 100)), list[bytes]()
    for new, tail in zip(history, how, strict=False):
        full = {start for start, row in store.rows.items() if len(row.payload) >= 100}
        before = {start: store.rows[start] for start in full}
        store.append(new, tail)
        everything += new
        assert {start: store.rows[start] for start in full} == before
    assert store.items() == everything


@given(puts)
def test_marks_come_back(history: list[list[bytes]]) -> None:
    marks = [Mark()]
    for new in history:
        marks.append(grow(1, marks[-1], new, CODEC).mark)
    assert read_marks(write_marks(marks)) == marks


@pytest.mark.parametrize("data", [b"{", b"[1]", b"[[1,2]]", b'[[1,2,3,"zz",""]]', b"5", b"null"])
def test_damaged_marks_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        read_marks(data)


def test_small_items_share_a_row_and_large_ones_do_not() -> None:
    store = Store()
    for number in range(100):
        store.append([b"%d" % number], "read")
    assert len(store.rows) == 1
    store.append([b'"' + b"x" * 50_000 + b'"'], "read")
    assert len(store.rows) == 2


# One row ------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(items, max_size=4), max_size=5))
def test_joined_rows_are_the_row_of_all(groups: list[list[bytes]]) -> None:
    whole = [item for group in groups for item in group]
    joined = join(items_of(group) for group in groups)
    assert joined.cut() == whole
    assert list(joined.lengths) == [len(item) for item in whole]
    if whole:
        assert unpack(joined.pack(), len(whole)).cut() == whole


@given(st.lists(items, min_size=1, max_size=4), st.data())
def test_a_damaged_row_is_corrupt_or_another_text(group: list[bytes], draw: st.DataObject) -> None:
    data = bytearray(items_of(group).pack())
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptionError):
        assert len(unpack(bytes(data), len(group)).cut()) == len(group)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"[1]\n",
        b"[1]\n12",
        b"[2,-1]\n1",
        b"{}\n",
        b"[true]\n1",
        b'["1"]\n1',
        b"[1,0]\n1",
    ],
)
def test_a_row_that_does_not_add_up_is_corrupt(data: bytes) -> None:
    for count in (0, 1, 2):
        with pytest.raises(CorruptionError):
            unpack(data, count)


def test_a_row_that_says_another_number_of_items_is_corrupt() -> None:
    (row,) = grow(1, Mark(), [b"1", b"2"], CODEC).rows
    with pytest.raises(CorruptionError):
        open_row(dataclasses.replace(row, count=3), CODEC)
    with pytest.raises(CorruptionError):
        open_row(dataclasses.replace(row, payload=CODEC.seal(b"1", Where("row")).data), CODEC)
