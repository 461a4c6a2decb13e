"""Bytes written by what they differ in from other bytes that the reader will have too.

A message that reaches a framework's checkpointer twice, or a head that is nearly its neighbour's, costs a few bytes
this way and not a copy. A zstd frame (RFC 8878) without its magic number, with the other bytes as its dictionary.
"""

from __future__ import annotations

import sys

from threadline.codec.values import MAX_BYTES
from threadline.errors import CorruptionError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MAGIC = b"\x28\xb5\x2f\xfd"
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.dict_id_flag: 0,
}
#: zstd takes no dictionary below this size.
_LEAST = 8


def shrink(data: bytes, near: bytes = b"") -> bytes:
    """`data` in fewer bytes, the fewer the more of it stands in `near`; `expand` needs the same `near`."""
    if len(near) < _LEAST:
        packed = zstd.ZstdCompressor(options=_OPTIONS)
    else:
        dictionary = zstd.ZstdDict(near, is_raw=True)
        packed = zstd.ZstdCompressor(options=_OPTIONS, zstd_dict=dictionary.as_prefix)
    return packed.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)[len(_MAGIC) :]


def expand(packed: bytes, near: bytes = b"") -> bytes:
    """What was shrunk. Raises CorruptionError."""
    frame = _MAGIC + packed
    try:
        size: int | None = zstd.get_frame_info(frame).decompressed_size
        if size is None or size > MAX_BYTES:
            raise CorruptionError(f"{size} bytes are claimed; at most {MAX_BYTES} are read")
        if len(near) < _LEAST:
            reader = zstd.ZstdDecompressor()
        else:
            dictionary = zstd.ZstdDict(near, is_raw=True)
            reader = zstd.ZstdDecompressor(zstd_dict=dictionary.as_prefix)
        data: bytes = reader.decompress(frame, max_length=size)
    except zstd.ZstdError as error:
        raise CorruptionError(f"some bytes cannot be decompressed: {error}") from None
    if len(data) != size or not reader.eof or reader.unused_data:
        raise CorruptionError("some bytes are not one whole compressed frame")
    return data
