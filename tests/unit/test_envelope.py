"""The frame around stored bytes: damage is found, and nothing is unpacked beyond its bounds."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from threadline.codec.dictionary import WORDS_1
from threadline.codec.envelope import Codec, Where
from threadline.codec.values import MAX_BYTES
from threadline.errors import CorruptionError, LimitError

HERE = Where("row", 1, 0, 1)
CODEC = Codec()


def framed(body: bytes, form: bytes = b"\x01") -> bytes:
    """A body with the checksum that it needs: what an attacker can make, and bit rot cannot."""
    return form + zlib.crc32(body).to_bytes(4, "big") + body


def packed(data: bytes) -> bytes:
    words = zstandard.ZstdCompressionDict(WORDS_1, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=words).compress(data)


contents = st.binary(max_size=200) | st.binary(max_size=9).map(lambda part: part * 50)


@given(contents)
def test_what_was_sealed_is_opened(data: bytes) -> None:
    payload = CODEC.seal(data, HERE)
    assert payload.key_id == 0
    assert CODEC.open(payload.data, 0, HERE) == data
    assert len(payload.data) <= len(data) + 5


@given(contents, st.data())
def test_a_flipped_bit_is_found(data: bytes, draw: st.DataObject) -> None:
    stored = bytearray(CODEC.seal(data, HERE).data)
    at = draw.draw(st.integers(1, len(stored) - 1))
    stored[at] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(CorruptionError, match="row"):
        CODEC.open(bytes(stored), 0, HERE)


@given(contents, st.binary(min_size=1, max_size=1))
def test_another_format_is_found(data: bytes, form: bytes) -> None:
    stored = CODEC.seal(data, HERE).data
    if form != stored[:1]:
        try:
            opened = CODEC.open(form + stored[1:], 0, HERE)
        except CorruptionError:
            return
        assert (
            form == b"\x00"
        )  # Read as it is: bytes that are no JSON, which the next reader refuses.
        assert opened == stored[5:]


@given(contents, st.integers(0, 400))
def test_bytes_cut_off_are_found(data: bytes, length: int) -> None:
    stored = CODEC.seal(data, HERE).data
    if length < len(stored):
        with pytest.raises(CorruptionError):
            CODEC.open(stored[:length], 0, HERE)


@given(st.binary(max_size=80), st.sampled_from([b"\x00", b"\x01", b"\x02", b""]))
def test_any_bytes_are_opened_or_corrupt(body: bytes, form: bytes) -> None:
    for stored in (form + body, framed(body, form)):
        with contextlib.suppress(CorruptionError):
            CODEC.open(stored, 0, HERE)


@given(contents, st.data())
def test_a_damaged_frame_with_a_right_checksum_is_opened_or_corrupt(
    data: bytes, draw: st.DataObject
) -> None:
    body = bytearray(packed(data))
    body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptionError):
        CODEC.open(framed(bytes(body)), 0, HERE)


def claiming(size: int) -> bytes:
    """A zstd frame of a few bytes that says it holds `size` (RFC 8878, 3.1.1): a header and one repeated block."""
    block = (1 << 1 | 1 | (min(size, 128 * 1024) << 3)).to_bytes(3, "little") + b"x"
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + block


def bomb(size: int) -> bytes:
    """A frame that truly holds `size` zeros, and says so."""
    packer = zstandard.ZstdCompressor().compressobj(size=size)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]) + packer.flush()


def unsized(size: int) -> bytes:
    """A frame that holds `size` zeros and does not say how many."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]) + packer.flush()


@pytest.mark.parametrize(
    "body",
    [
        claiming(2**40),
        claiming(2**63),
        claiming(2**64 - 1),
        claiming(MAX_BYTES + 1),
        claiming(MAX_BYTES),
        bomb(256 << 20),
        unsized(256 << 20),
        packed(b"x") + packed(b"y"),
        packed(b"x") + bomb(128 << 20),
        packed(b"x" * 99)[:-1],
        zstandard.compress(b""),
        zstandard.compress(b"") + b"more",
        b"\x50\x2a\x4d\x18\x01\x00\x00\x00x",
        b"",
    ],
    ids=[
        *("1TB", "2^63", "2^64", "over", "just-claims", "256MB", "unsized"),
        *("two", "behind", "cut", "empty", "padded", "skipped", "none"),
    ],
)
def test_bombs_are_bounded(body: bytes) -> None:
    assert len(body) < 100_000
    tracemalloc.start()
    try:
        opened = CODEC.open(framed(body), 0, HERE)
    except CorruptionError:
        opened = b""
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert opened == b""
    assert peak <= MAX_BYTES + (8 << 20)


def test_a_damaged_frame_leaves_nothing_behind() -> None:
    stored = CODEC.seal(b"abc" * 99, HERE).data
    for cut in range(6, len(stored)):
        with pytest.raises(CorruptionError):
            CODEC.open(framed(stored[5:cut]), 0, HERE)
        assert CODEC.open(stored, 0, HERE) == b"abc" * 99


def test_too_much_is_refused_before_it_is_written() -> None:
    with pytest.raises(LimitError):
        CODEC.seal(bytes(MAX_BYTES + 1), HERE)


def test_a_key_that_is_not_there_is_said() -> None:
    with pytest.raises(CorruptionError, match="key 3"):
        CODEC.open(CODEC.seal(b"x", HERE).data, 3, HERE)
