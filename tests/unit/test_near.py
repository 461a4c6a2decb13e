"""Bytes written near others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline import CorruptionError
from threadline.store import Near, expand, shrink


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_what_was_shrunk_expands_to_the_same(data: bytes, near: bytes) -> None:
    assert expand(shrink(data, near), near) == data
    assert expand(shrink(near + data, near), near) == near + data


def test_a_copy_costs_a_few_bytes() -> None:
    near = bytes(range(256)) * 3
    assert len(shrink(b"\x91" + near, near)) < 20


@given(st.binary(max_size=60))
def test_bytes_that_were_not_shrunk_are_an_error_of_ours(data: bytes) -> None:
    with suppress(CorruptionError):
        expand(data, b"near" * 10)


def test_a_frame_that_claims_too_much_is_not_read() -> None:
    packed = shrink(b"a" * 300)
    # The size of the content: two bytes behind the descriptor, for 256 and more.
    assert packed[0] & 0xC0 == 0x40
    with pytest.raises(CorruptionError):
        expand(b"\xc0" + (1 << 60).to_bytes(8, "little") + packed[3:])


@pytest.mark.parametrize("near", [b"", b"near" * 10])
def test_nothing_is_nothing_and_not_something_else(near: bytes) -> None:
    packed = shrink(b"", near)
    assert expand(packed, near) == b""
    with pytest.raises(CorruptionError):
        expand(packed + b"more", near)


def test_many_threads_write_near_the_same_at_once() -> None:
    near, others = Near(b"the same words for all of them " * 40), range(400)

    def both(number: int) -> bool:
        data = b"the same words for %d of them " % number * 200
        return near.expand(near.shrink(data)) == data

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(both, others))
