"""Identities that name a version."""

from __future__ import annotations

import uuid

import pytest

from threadline import clock


@pytest.mark.parametrize("version", [1, 2, 255, 256, 2**32, 2**40 - 1])
def test_an_identity_tells_the_version_that_it_names(version: int) -> None:
    made = [clock.new_id_of(version) for _ in range(100)]
    assert {clock.named_by(each) for each in made} == {
        (version, int.from_bytes(each[8:], "big")) for each in made
    }
    assert len({*made}) == 100
    assert {len(each) for each in made} == {16}


@pytest.mark.parametrize("version", [0, -1, 2**40, 2**63])
def test_no_version_or_one_too_large_is_not_named(version: int) -> None:
    assert clock.named_by(clock.new_id_of(version)) is None


def test_no_other_identity_names_a_version() -> None:
    others = [clock.new_id_bytes(), *(bytes.fromhex(f"{n:032x}") for n in (0, 1, 2**63, 2**64 - 1))]
    for made in (uuid.uuid1, uuid.uuid4):
        others += [made().bytes for _ in range(100)]
    others += [each[:8] + b"\x80" + each[9:] for each in (clock.new_id_of(7),)]
    assert [each for each in others if clock.named_by(each)] == []
