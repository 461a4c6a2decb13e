"""Single values on their way into columns of PostgreSQL and back."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline.backends.pg_values import id_in, id_out, number_of

NEARLY = st.sampled_from(
    ["", "\x00", "\x01", "\x02x", "0" * 32, "A" * 32, "0" * 33, "0" * 16 + "-" + "0" * 16, "é"]
)
IDS = st.uuids().map(str) | st.uuids().map(lambda each: each.hex) | NEARLY | st.text(max_size=40)


@given(st.lists(IDS, max_size=6))
def test_ids_come_back_and_stay_apart(ids: list[str]) -> None:
    ids = [each for each in ids if not any("\ud800" <= letter <= "\udfff" for letter in each)]
    stored = [id_in(each) for each in ids]
    assert [id_out(each) for each in stored] == ids
    assert len(set(stored)) == len(set(ids))


@pytest.mark.parametrize("ext_id", [str(uuid.UUID(int=7)), uuid.UUID(int=7).hex])
def test_ids_of_hexadecimal_digits_take_17_bytes(ext_id: str) -> None:
    assert len(id_in(ext_id) or b"") == 17


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=2, unique=True))
def test_numbers_of_threads_are_ordered_as_their_keys(keys: list[bytes]) -> None:
    first, second = sorted(keys)
    assert -(2**63) <= number_of(first) <= number_of(second) < 2**63
    assert (number_of(first) < number_of(second)) == (first[:8] < second[:8])
