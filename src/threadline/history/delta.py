"""What is new in a list: the pure heart of the storage layout. No I/O.

A list is an append-only log of items; a version of it is a few ranges over that log (a piece table). Given the
positions and digests of the version before, `place` finds for each item of the new list the position where it
stands already, so that only what is new is written: an edit, a trim at the front, a summary in the middle or a
reordering become other ranges over the same items. `fold(history) == state` for any sequence of edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

#: A list in more pieces than this is written anew in one: reading stays a short range scan.
MAX_PIECES = 64

Piece = tuple[int, int]


def positions(pieces: Iterable[Piece]) -> list[int]:
    """The position of each item of a list, in order."""
    return list(chain.from_iterable(range(start, end) for start, end in pieces))


def length(pieces: Iterable[Piece]) -> int:
    """How many items the pieces hold."""
    return sum(end - start for start, end in pieces)


def pieces_of(places: Iterable[int]) -> list[Piece]:
    """The fewest pieces that give these positions in this order."""
    pieces: list[Piece] = []
    start = end = -1
    for position in places:
        if position == end:
            end += 1
            continue
        if start >= 0:
            pieces.append((start, end))
        start, end = position, position + 1
    if start >= 0:
        pieces.append((start, end))
    return pieces


def appended(pieces: Sequence[Piece], end: int, count: int) -> list[Piece]:
    """The pieces of a list that grew by `count` items, written at `end` of its log."""
    if count == 0:
        return list(pieces)
    if pieces and pieces[-1][1] == end:
        return [*pieces[:-1], (pieces[-1][0], end + count)]
    return [*pieces, (end, end + count)]


def place(
    known: Sequence[int], digests: Sequence[bytes], wanted: Sequence[int | bytes], end: int
) -> tuple[list[Piece], list[int]]:
    """Where each item of the new list stands, and which must be written.

    known: the position of each item of the version before; digests: the digest of each. wanted: for each item of
    the new list its index in the version before when it is certainly unchanged, else its digest. end: the end of
    the log. Returns the pieces of the new list and the indexes of the items to write at `end`, in that order.
    """
    by_digest: dict[bytes, list[int]] = {}
    if any(isinstance(item, bytes) for item in wanted):
        for position, digest in zip(known, digests, strict=True):
            by_digest.setdefault(digest, []).append(position)
    places: list[int] = []
    fresh: list[int] = []
    written: dict[bytes, int] = {}
    for index, item in enumerate(wanted):
        if isinstance(item, int):
            places.append(known[item])
            continue
        found = by_digest.get(item)
        if found is not None:
            # The one that continues the piece, else the first: any of equal items will do.
            following = places[-1] + 1 if places else -1
            places.append(following if following in found else found[0])
        elif item in written:
            places.append(written[item])
        else:
            written[item] = end + len(fresh)
            places.append(end + len(fresh))
            fresh.append(index)
    pieces = pieces_of(places)
    if len(pieces) > MAX_PIECES:
        count = len(wanted)
        return [(end, end + count)] if count else [], list(range(count))
    return pieces, fresh
