"""Bytes written by what they differ in from other bytes that the reader will have too.

A message that reaches a framework's checkpointer twice, or a head that is nearly its neighbour's, costs a few bytes
this way and not a copy. A zstd frame (RFC 8878) without its magic number, with the other bytes as its dictionary.
"""

from __future__ import annotations

import zstandard

from threadline.codec.values import MAX_BYTES
from threadline.errors import CorruptionError

_MAGIC = b"\x28\xb5\x2f\xfd"
_OPTIONS = zstandard.ZstdCompressionParameters(compression_level=3, write_dict_id=False)
_EMPTY = zstandard.ZstdCompressor(compression_params=_OPTIONS).compress(b"")[len(_MAGIC) :]
#: zstd takes no dictionary below this size.
_LEAST = 8


class Near:
    """Bytes that many others are written near: what compresses is kept, since to make it costs far more than to use it.
    It takes about 0.1 MB, and one thread at a time uses it: at once means several of them."""

    def __init__(self, content: bytes = b"") -> None:
        self.content, self._dictionary = content, _dictionary(content)
        self._packers: list[zstandard.ZstdCompressor] = []
        self._readers: list[zstandard.ZstdDecompressor] = []

    def shrink(self, data: bytes) -> bytes:
        """`data` in fewer bytes, the fewer the more of it stands in the content."""
        try:
            packer = self._packers.pop()
        except IndexError:
            packer = _packer(self._dictionary)
        packed = packer.compress(data)[len(_MAGIC) :]
        self._packers.append(packer)
        return packed

    def expand(self, packed: bytes) -> bytes:
        """What was shrunk. Raises CorruptionError."""
        try:
            reader = self._readers.pop()
        except IndexError:
            reader = zstandard.ZstdDecompressor(dict_data=self._dictionary)
        data = _expanded(packed, reader)
        self._readers.append(reader)
        return data


def shrink(data: bytes, near: bytes = b"") -> bytes:
    """`data` in fewer bytes, the fewer the more of it stands in `near`; `expand` needs the same `near`."""
    return _packer(_dictionary(near)).compress(data)[len(_MAGIC) :]


def expand(packed: bytes, near: bytes = b"") -> bytes:
    """What was shrunk. Raises CorruptionError."""
    return _expanded(packed, zstandard.ZstdDecompressor(dict_data=_dictionary(near)))


def _packer(dictionary: zstandard.ZstdCompressionDict | None) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=_OPTIONS)


def _expanded(packed: bytes, reader: zstandard.ZstdDecompressor) -> bytes:
    frame = _MAGIC + packed
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= MAX_BYTES:
            raise CorruptionError(f"{size} bytes are claimed; at most {MAX_BYTES} are read")
        if size == 0 and packed != _EMPTY:  # The library looks no further where nothing is claimed.
            raise CorruptionError("some bytes claim to hold nothing, and are not empty")
        return reader.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptionError(f"some bytes cannot be decompressed: {error}") from None


def _dictionary(near: bytes) -> zstandard.ZstdCompressionDict | None:
    if len(near) < _LEAST:
        return None
    return zstandard.ZstdCompressionDict(near, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
