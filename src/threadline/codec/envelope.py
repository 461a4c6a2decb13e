"""The frame around stored bytes: one byte that says how they were written, a CRC-32 of what follows, the bytes.

0x00: as they are. 0x01: a zstd frame (RFC 8878) with the dictionary `WORDS_1`. The checksum tells bit rot from
content before anything looks at it; it is no protection against an attacker, which digests and later keys are for.
Nothing is decompressed before its size is known and within bounds. `Codec` is the one door: (data, Where) ->
Payload -> data, where `Where` says what the bytes are, so that an encrypting codec has its associated data without
any other part changing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import zstandard

from threadline.codec.dictionary import WORDS_1
from threadline.codec.values import MAX_BYTES
from threadline.errors import CorruptionError, LimitError

_RAW, _ZSTD = b"\x00", b"\x01"
_LEVEL = 3
_DICTIONARY = zstandard.ZstdCompressionDict(WORDS_1, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


class Where(NamedTuple):
    """What some bytes are: their kind (`head`, `row`, `blob`, `entry`, `slot`, `thread`, ...), the log or field
    they belong to, and for a row its first position and number of items. It names no thread, so that rows can be
    copied."""

    kind: str
    part: str | int = ""
    start: int = 0
    items: int = 0


@dataclass(frozen=True, slots=True)
class Payload:
    """Sealed bytes and the number of the key they are sealed with (0: none)."""

    data: bytes
    key_id: int = 0


class Codec:
    """Seals and opens payloads: compression now; encryption is another class with these two methods."""

    def seal(self, data: bytes, where: Where) -> Payload:
        """The stored form of `data`. Raises LimitError when it is larger than the store accepts."""
        if len(data) > MAX_BYTES:
            raise LimitError(
                f"{where.kind} of {len(data)} bytes; at most {MAX_BYTES} are stored in one piece"
            )
        packed = _tools.compressor.compress(data)
        if len(packed) < len(data):
            return Payload(_ZSTD + _checksum(packed) + packed)
        return Payload(_RAW + _checksum(data) + data)

    def open(self, data: bytes, key_id: int, where: Where) -> bytes:
        """The bytes that were sealed. Raises CorruptionError when these are not such."""
        if key_id != 0:
            raise CorruptionError(
                f"{where.kind} is sealed with key {key_id}, which this store was not given"
            )
        form, checksum, body = data[:1], data[1:5], data[5:]
        if crc32(body).to_bytes(4, "big") != checksum:
            raise CorruptionError(f"{where.kind} is damaged: its checksum does not match")
        if form == _RAW:
            return body
        if form != _ZSTD:
            raise CorruptionError(f"{where.kind} has the unknown format {form!r}")
        return _decompress(body, where)


class _Tools(threading.local):
    """A compressor and a decompressor for each thread: making one costs more than using it."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(_LEVEL, dict_data=_DICTIONARY)
        self.decompressor = zstandard.ZstdDecompressor(dict_data=_DICTIONARY)


_tools = _Tools()


def _checksum(data: bytes) -> bytes:
    return crc32(data).to_bytes(4, "big")


def _decompress(body: bytes, where: Where) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 < size <= MAX_BYTES:
            raise CorruptionError(
                f"{where.kind} claims to hold {size} bytes; from 1 to {MAX_BYTES} are read"
            )
        # One frame, and nothing behind it.
        return _tools.decompressor.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptionError(f"{where.kind} cannot be decompressed: {error}") from None
