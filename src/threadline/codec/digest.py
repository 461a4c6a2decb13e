"""Digests over logical content, never over rows or stored bytes, so that merging rows, forking, pruning and
importing keep them valid. No digest contains a thread, a user or an incarnation.

BLAKE2b (RFC 7693), 16 bytes, with a key that is empty for now and a `person` field for each kind of content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

SIZE = 16
#: The prefix digest of an empty log.
EMPTY = bytes(SIZE)


def framed(*parts: str | bytes) -> bytes:
    """The parts, each behind its length (8 bytes), so that no two lists of parts give the same bytes."""
    frames: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        frames += (len(data).to_bytes(8, "big"), data)
    return b"".join(frames)


def item_digest(kind: int, data: bytes) -> bytes:
    """The digest of one item: its kind and its bytes before compression."""
    return hashlib.blake2b(data, digest_size=SIZE, person=b"item%d" % kind).digest()


def extend(prefix: bytes, items: Iterable[bytes]) -> bytes:
    """The prefix digest of a log after `items` (their digests): p(i+1) = H(p(i), item(i))."""
    for item in items:
        prefix = hashlib.blake2b(prefix + item, digest_size=SIZE, person=b"prefix").digest()
    return prefix


def checkpoint_digest(
    version: int, parent: bytes, head: bytes, logs: Iterable[tuple[int, int, bytes]]
) -> bytes:
    """The digest of a checkpoint.

    version: its number; parent: the digest of the checkpoint before it; head: its canonical head bytes (the
    fields, ranges and metadata); logs: each log it refers to as (log, end, prefix digest at that end).
    """
    parts: list[bytes] = [str(version).encode(), parent, head]
    for log, end, prefix in logs:
        parts.append(b"%d:%d:" % (log, end) + prefix)
    return hashlib.blake2b(framed(*parts), digest_size=SIZE, person=b"checkpoint").digest()


def blob_id(data: bytes) -> bytes:
    """The content address of a large field."""
    return hashlib.blake2b(data, digest_size=SIZE, person=b"blob").digest()
