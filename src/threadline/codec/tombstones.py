"""Tombstones: what a redaction leaves of an item, which says in `metadata["redacted"]` what stood there.

A tombstone keeps the digest of the content that was taken away, wherever it is written: so positions, versions and
digests go on to hold when it is put again, and a state that was loaded before does not bring the content back.
"""

from __future__ import annotations

import orjson

from threadline.codec.digest import SIZE, item_digest
from threadline.codec.rows import JSON


def stood_there(data: bytes) -> bytes:
    """The digest of the JSON item whose bytes these are; of a tombstone, that of what it stands for."""
    return _redacted(data) or item_digest(JSON, data)


def is_tombstone(data: bytes) -> bool:
    """Whether these are the bytes of a tombstone."""
    return _redacted(data) is not None


def _redacted(data: bytes) -> bytes | None:
    if b'"redacted":"' not in data:
        return None
    item = orjson.loads(data)
    beside = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(beside, dict) or item.get("content"):
        return None
    digest = beside.get("redacted")
    if not isinstance(digest, str) or len(digest) != 2 * SIZE:
        return None
    try:
        return bytes.fromhex(digest)
    except ValueError:
        return None
