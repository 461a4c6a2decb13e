"""Metadata filters as terms: 8 bytes of H(key, canonical value) for each top-level key.

A filter `{"node": "tool", "tags": ["a"]}` asks that each key is there with an equal value, nested values whole.
Terms find the candidates on every backend alike; `matches` decides after decoding. Numbers compare by value
(1 equals 1.0), but True is no number. Any key and any storable value can be asked for; both are data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from threadline.codec.digest import framed
from threadline.codec.values import encode


def terms_of(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """The term of each key as a signed 64-bit integer, sorted. Raises NotStorableError."""
    return tuple(sorted({_term(key, value) for key, value in metadata.items()}))


def matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether `metadata` has every key of `wanted` with an equal value."""
    return all(
        key in metadata and _canonical(metadata[key]) == _canonical(wanted[key]) for key in wanted
    )


def _term(key: Any, value: Any) -> int:
    content = framed(_canonical(key), _canonical(value))
    digest = hashlib.blake2b(content, digest_size=8, person=b"term").digest()
    return int.from_bytes(digest, "big", signed=True)


def _canonical(value: Any) -> bytes:
    return orjson.dumps(_plain(orjson.loads(encode(value))), option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if type(value) is list:
        return [_plain(item) for item in value]
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value
