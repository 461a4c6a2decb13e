"""How a store without a better way keeps popped entries in its journal: as JSON, their bytes in base 85."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Sequence
from typing import Any

from threadline.backend import Entry

_BYTES = ("payload", "digest", "meta")


def write_popped(popped: Sequence[Entry]) -> str | None:
    """The text of some entries; None when there are none."""
    return json.dumps([_plain(each) for each in popped]) if popped else None


def read_popped(text: str | None) -> tuple[Entry, ...]:
    """The entries in a text of `write_popped`."""
    return tuple(_entry(each) for each in json.loads(text)) if text else ()


def without_popped(text: str, ids: Collection[str]) -> str | None:
    """A text of `write_popped` without the entries that have these ids."""
    kept = [each for each in json.loads(text) if each["ext_id"] not in ids]
    return json.dumps(kept) if kept else None


def _plain(entry: Entry) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in Entry.__slots__:
        value = getattr(entry, name)
        plain[name] = base64.b85encode(value).decode() if isinstance(value, bytes) else value
    return plain


def _entry(plain: dict[str, Any]) -> Entry:
    for name in _BYTES:
        if plain[name] is not None:
            plain[name] = base64.b85decode(plain[name])
    return Entry(**plain)
