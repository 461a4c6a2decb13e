"""Rows of a log: several items in one stored row, and how rows become one.

A row's bytes are the lengths of its items, a newline, and the items with commas between them. So joining rows
is joining bytes, one JSON parse reads them all, and each item can still be cut out by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from threadline.errors import CorruptionError

#: The kind of an item that is a JSON value of ours; adapters use 16 and above for their own bytes.
JSON = 0


class Items(NamedTuple):
    """Neighbouring items of one kind: the length of each, and their bytes with commas between them."""

    lengths: Sequence[int]
    body: bytes

    def pack(self) -> bytes:
        """The bytes of a row that holds them."""
        return orjson.dumps(list(self.lengths)) + b"\n" + self.body

    def cut(self) -> list[bytes]:
        """Each item's bytes."""
        items, start = [], 0
        for length in self.lengths:
            items.append(self.body[start : start + length])
            start += length + 1
        return items


def items_of(items: Sequence[bytes]) -> Items:
    """Items from the bytes of each."""
    return Items([len(item) for item in items], b",".join(items))


def join(parts: Iterable[Items]) -> Items:
    """Neighbouring items as one, in order."""
    lengths: list[int] = []
    bodies: list[bytes] = []
    for part in parts:
        if part.lengths:
            lengths += part.lengths
            bodies.append(part.body)
    return Items(lengths, b",".join(bodies))


def unpack(data: bytes, count: int) -> Items:
    """The items of a row's bytes; `count` is how many there must be. Raises CorruptionError."""
    head, newline, body = data.partition(b"\n")
    try:
        lengths = orjson.loads(head)
    except orjson.JSONDecodeError:
        raise CorruptionError("a row has no readable header") from None
    whole = isinstance(lengths, list) and all(
        type(length) is int and length >= 0 for length in lengths
    )
    if (
        not newline
        or not whole
        or len(lengths) != count
        or sum(lengths) + max(count - 1, 0) != len(body)
    ):
        raise CorruptionError("a row's header does not match its items")
    return Items(lengths, body)
