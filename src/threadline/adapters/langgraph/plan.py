"""What a put brings that its thread does not have yet: the pure part, between a checkpoint and the rows it becomes.

A `View` is a checkpoint as it is stored, by digests; a `Ground` is a namespace as the next put must find it. `draft`
compares the values of a checkpoint with the view of its parent: a channel whose version did not move stays where it
is, unseen; the items of a list that are there already stay where they are; what is left is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
    Skeleton,
    Start,
    Typed,
    list_head,
    list_of,
)
from threadline.adapters.langgraph.seen import Seen
from threadline.store import Items, Mark, appended, item_digest, place, positions

#: A list of items that are smaller than this on average is stored as one value, in bytes.
SMALL_ITEMS = 32

Encode = Callable[[Any], Typed]


class Listed(NamedTuple):
    """A list as it is stored: the digest of each item, and the size and hash of all their bytes together."""

    digests: tuple[bytes, ...]
    size: int
    hash: hashlib.blake2b

    @classmethod
    def of(cls, items: Sequence[bytes]) -> Listed:
        """Of the items' bytes."""
        body = b"".join(items)
        digests = tuple([item_digest(KIND, item) for item in items])
        return cls(digests, len(body), _hash(body))

    def grown(self, items: Sequence[bytes], body: bytes | memoryview) -> Listed:
        """With some items, whose bytes together are `body`, at its end."""
        digest = self.hash.copy()
        digest.update(body)
        digests = (*self.digests, *(item_digest(KIND, item) for item in items))
        return Listed(digests, self.size + len(body), digest)


@dataclass(frozen=True, slots=True)
class View:
    """A checkpoint as it is stored. `digests`: of each value that is no list; `lists`: the lists; `skeleton`: what its
    document is written near, and the next can be."""

    id: str
    version: int
    digest: bytes
    document: Document
    versions: Mapping[str, Any]
    digests: Mapping[str, bytes]
    lists: Mapping[str, Listed]
    skeleton: Skeleton | None


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
    lists: dict[str, Listed] = field(default_factory=dict)
    fresh: dict[str, list[Any]] = field(default_factory=dict)
    known: Mapping[str, Seen] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)

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
    seen: Mapping[str, Seen],
) -> Draft:
    """The draft of a checkpoint on the ground of its namespace, computed against the view `base`.

    encode: the codec; check: raises for new bytes that could not be read again; seen: the objects of the lists of
    `base`, as they were put or given.
    """
    logs = dict(ground.view.document.logs) if ground.view else {}
    made = Draft(list(ground.marks) or [Mark()], logs, known=seen)
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
        if seen := made.known.get(channel):
            made.seen[channel] = seen
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
    if type(value) is list and _put_seen(made, base, channel, value, encode, check):
        return
    typed = encode(value)
    if type(value) is list and value and typed.form == "msgpack":
        found = base.document.places.get(channel) if base else None
        old = found if isinstance(found, Pieces) else None
        if old or len(typed.data) > max(INLINE_BYTES, SMALL_ITEMS * len(value)):
            _put_list(made, base, channel, value, typed.data, encode, check)
            return
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


def _put_list(
    made: Draft,
    base: View | None,
    channel: str,
    value: Sequence[Any],
    data: bytes,
    encode: Encode,
    check: Callable[[Typed, str], None],
) -> None:
    log = made.log_of(channel)
    found = base.document.places.get(channel) if base else None
    old = found if isinstance(found, Pieces) and found.log == log else None
    known = base.lists[channel] if base and old else None
    grown = _grown(known, value, data, encode) if known else None
    if grown and old and known:
        listed, items = grown
        first = len(known.digests)
        pieces = appended(old.pieces, made.end(log), len(items))
        fresh = list(range(first, first + len(items)))
    else:
        whole = [_item(each, encode) for each in value]
        listed = Listed.of(whole)
        there = positions(old.pieces) if old else []
        digests = known.digests if known else ()
        pieces, fresh = place(there, digests, listed.digests, made.end(log))
        items = [whole[index] for index in fresh]
    if fresh:
        check(list_of(items), channel)
        made.appends.setdefault(log, []).extend(items)
        made.fresh[channel] = [value[index] for index in fresh]
    made.places[channel], made.lists[channel] = Pieces(log, tuple(pieces)), listed
    made.seen[channel] = Seen.of(value, listed.size, made.known.get(channel))


def _put_seen(
    made: Draft,
    base: View | None,
    channel: str,
    value: list[Any],
    encode: Encode,
    check: Callable[[Typed, str], None],
) -> bool:
    """Put a list that begins with the objects that were seen, unedited; False when that is not known."""
    seen = made.known.get(channel)
    old = base.document.places.get(channel) if base else None
    if base is None or seen is None or not isinstance(old, Pieces):
        return False
    known = base.lists[channel]
    count = len(known.digests)
    if len(seen.objects) != count or not seen.begins(value):
        return False
    new = value[count:]
    items = [_item(each, encode) for each in new]
    pieces = appended(old.pieces, made.end(old.log), len(items))
    if items:
        check(list_of(items), channel)
        made.appends.setdefault(old.log, []).extend(items)
        made.fresh[channel] = new
    made.places[channel] = Pieces(old.log, tuple(pieces))
    made.lists[channel] = listed = known.grown(items, b"".join(items))
    made.seen[channel] = seen.grown(value, listed.size)
    return True


def _grown(
    known: Listed, value: Sequence[Any], data: bytes, encode: Encode
) -> tuple[Listed, list[bytes]] | None:
    """The list and its new items, when it begins with all that is known of it: without a look at each."""
    count = len(known.digests)
    body = memoryview(data)[len(list_head(len(value))) :]
    if len(value) < count or len(body) < known.size:
        return None
    if _hash(body[: known.size]).digest() != known.hash.digest():
        return None
    items = [_item(each, encode) for each in value[count:]]
    return known.grown(items, body[known.size :]), items


def _item(value: Any, encode: Encode) -> bytes:
    """The bytes of one item of a list."""
    return encode([value]).data[1:]


def _hash(data: bytes | memoryview) -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)
