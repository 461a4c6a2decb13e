"""What a put brings that its thread does not have yet: the pure part, between a checkpoint and the rows it becomes.

A `View` is a checkpoint as it is stored, by digests; a `Ground` is a namespace as the next put must find it. `draft`
compares the values of a checkpoint with the view of its parent: a channel whose version did not move stays where it
is, unseen; the items of a list that are there already stay where they are; what is left is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from threadline.adapters.langgraph.document import (
    FIELDS,
    INLINE_BYTES,
    ITEM_BYTES,
    KIND,
    START,
    BlobAt,
    Document,
    Inline,
    Item,
    Pieces,
    Place,
    Start,
    Typed,
    item_of,
    list_of,
)
from threadline.store import Items, Mark, appended, item_digest, place, positions

#: A list of items that are smaller than this on average is stored as one value, in bytes.
SMALL_ITEMS = 32

Encode = Callable[[Any], Typed]


@dataclass(frozen=True, slots=True)
class View:
    """A checkpoint as it is stored. `digests`: of each value that is no list; `lists`: of each item of each list."""

    id: str
    version: int
    digest: bytes
    document: Document
    versions: Mapping[str, Any]
    digests: Mapping[str, bytes]
    lists: Mapping[str, tuple[bytes, ...]]
    skeleton: tuple[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class Added:
    """Items that a put has just written to a log, from position `start` on."""

    log: int
    start: int
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """A namespace as the next put must find it. `view`: its newest version. `tails`: the items of the logs' open rows,
    as far as this process has them. `top`: the greatest id there is."""

    incarnation: bytes | None = None
    head_version: int = 0
    last_version: int = 0
    gc: int = 0
    marks: tuple[Mark, ...] = ()
    tails: Mapping[int, Items] = field(default_factory=dict)
    view: View | None = None
    top: str | None = None
    mixed: bool = False
    added: tuple[Added, ...] = ()


@dataclass(slots=True)
class Draft:
    """What one put writes: where each value lies, the items for each log in order, the new blobs, and the input of a
    run when it has one."""

    marks: list[Mark]
    logs: dict[str, int]
    places: dict[str, Place] = field(default_factory=dict)
    appends: dict[int, list[bytes]] = field(default_factory=dict)
    blobs: dict[bytes, Typed] = field(default_factory=dict)
    start: Typed | None = None
    digests: dict[str, bytes] = field(default_factory=dict)
    lists: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    fresh: dict[str, list[Any]] = field(default_factory=dict)

    def end(self, log: int) -> int:
        """Where the next item of a log goes."""
        return self.marks[log].end + len(self.appends.get(log, ()))

    def log_of(self, channel: str) -> int:
        """The log of a list channel; a new one when it has none."""
        if channel not in self.logs:
            self.logs[channel] = len(self.marks)
            self.marks.append(Mark())
        return self.logs[channel]


def draft(
    ground: Ground,
    base: View | None,
    checkpoint: Mapping[str, Any],
    new_versions: Mapping[str, Any],
    encode: Encode,
    check: Callable[[Typed, str], None],
) -> Draft:
    """The draft of a checkpoint on the ground of its namespace, computed against the view `base`.

    encode: the codec; check: raises for new bytes that could not be read again.
    """
    logs = dict(ground.view.document.logs) if ground.view else {}
    made = Draft(list(ground.marks) or [Mark()], logs)
    values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
    for channel, value in values.items():
        if not _kept(made, base, channel, versions, new_versions):
            _put(made, base, channel, value, encode, check)
    for channel in versions:
        if channel not in values:
            _kept(made, base, channel, versions, new_versions)
    return made


def _kept(
    made: Draft,
    base: View | None,
    channel: str,
    versions: Mapping[str, Any],
    new_versions: Mapping[str, Any],
) -> bool:
    """Let the channel's value stay where it is, when it is there and its version did not move."""
    if base is None or channel in new_versions or channel not in base.document.places:
        return False
    before, now = base.versions.get(channel), versions.get(channel)
    if type(before) is not type(now) or before != now:
        return False
    found = base.document.places[channel]
    if isinstance(found, Start):
        return False
    made.places[channel] = found
    if isinstance(found, Pieces):
        made.lists[channel] = base.lists[channel]
    else:
        made.digests[channel] = base.digests[channel]
    return True


def _put(
    made: Draft,
    base: View | None,
    channel: str,
    value: Any,
    encode: Encode,
    check: Callable[[Typed, str], None],
) -> None:
    items = _items(value, encode) if type(value) is list and value else None
    if items is not None:
        before = base.document.places.get(channel) if base else None
        listed = isinstance(before, Pieces)
        if listed or sum(map(len, items)) > max(INLINE_BYTES, SMALL_ITEMS * len(items)):
            _put_list(made, base, channel, items, value, check)
            return
        typed = list_of(items)
    else:
        typed = encode(value)
    digest = typed.digest
    if base and base.digests.get(channel) == digest:
        made.places[channel], made.digests[channel] = base.document.places[channel], digest
        return
    check(typed, channel)
    if channel == START and len(typed.data) > INLINE_BYTES:
        made.places[channel], made.start = Start(), typed
        return
    made.digests[channel] = digest
    if len(typed.data) <= INLINE_BYTES:
        made.places[channel] = Inline(typed)
    elif len(typed.data) <= ITEM_BYTES:
        made.places[channel] = Item(typed.form, made.end(FIELDS))
        made.appends.setdefault(FIELDS, []).append(typed.data)
    else:
        made.places[channel] = BlobAt(typed.form, digest)
        made.blobs[digest] = typed


def _items(value: Sequence[Any], encode: Encode) -> list[bytes] | None:
    """The bytes of each item, or None when the codec does not write lists as plain msgpack."""
    items: list[bytes] = []
    for each in value:
        item = item_of(encode([each]))
        if item is None:
            return None
        items.append(item)
    return items


def _put_list(
    made: Draft,
    base: View | None,
    channel: str,
    items: Sequence[bytes],
    value: Sequence[Any],
    check: Callable[[Typed, str], None],
) -> None:
    log = made.log_of(channel)
    found = base.document.places.get(channel) if base else None
    old = found if isinstance(found, Pieces) and found.log == log else None
    known = base.lists[channel] if base and old else ()
    digests = tuple([item_digest(KIND, item) for item in items])
    if old and digests[: len(known)] == known:
        pieces = appended(old.pieces, made.end(log), len(digests) - len(known))
        fresh = list(range(len(known), len(digests)))
    else:
        there = positions(old.pieces) if old else []
        pieces, fresh = place(there, known, digests, made.end(log))
    if fresh:
        new = [items[index] for index in fresh]
        check(list_of(new), channel)
        made.appends.setdefault(log, []).extend(new)
        made.fresh[channel] = [value[index] for index in fresh]
    made.places[channel], made.lists[channel] = Pieces(log, tuple(pieces)), digests
