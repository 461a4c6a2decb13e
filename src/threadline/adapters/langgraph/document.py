"""What a LangGraph checkpoint is stored as: a document that says where each channel's value lies. Pure.

A list channel is pieces of a log of its own, an item a message, so that a step writes what is new. Another value stands
in the document when it is small, in log 0 when it is middling, and is a blob by its content when it is large. The
input of a run (`__start__`) is a slot, which is written anew as a difference from the message once that is stored.
Values are bytes of the saver's codec, with the codec's word for their form.

Documents of a thread are much alike: each is stored as its difference from the thread's skeleton, some earlier ones,
which is an item of log 0 as well. The first of a checkpoint's ranges is that of its skeleton, so that it stays as long
as the checkpoint does, and goes where it goes.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import ormsgpack

from threadline import CorruptionError
from threadline.store import Mark, Near, Range, item_digest

#: The kind of every item in the adapter's logs, and the log of middling values.
KIND, FIELDS = 16, 0
#: Largest value that stands in the document, and largest that is an item of log 0, in bytes.
INLINE_BYTES, ITEM_BYTES = 64, 4096
#: The channel that holds the input of a run.
START = "__start__"
#: A document is shrunk near some words (1), or also near its skeleton (2), whose tag stands before it. With the writes
#: that it settles before it: 3 and 4.
_NEAR_WORDS, _NEAR_SKELETON, _SETTLES = 1, 2, 2
#: A document that costs more than this makes the skeleton better, while it has room, in bytes.
_DEAR, _SKELETON_BYTES = 80, 4096
#: How many bytes tell a skeleton, and behind which position no log has an item.
_TAG_BYTES, _POSITIONS = 4, 1 << 31
#: Documents of the three steps of a turn, as most of them look.
_WORDS = b"".join(
    (
        b"\x98\xc4\x10\x81\xa8messages\x01\x82\xa8messages\x94\x03\x01\x00\x08\xa9__start__\x91\x04\xa7msgpack\xc4\xc5\x84"
        b"\xa1v\x04\xb0channel_versions\x83\xa9__start__\x0d\xa8messages\x0c"
        b"\xafbranch:to:agent\x0c\xadversions_seen\x83\xa9__input__\x80\xa9__start__\x81\xa9__start__\x0a\xa5agent\x81"
        b"\xafbranch:to:agent\x0b\xb0updated_channels\x91\xa9__start__\xa7msgpack\xc4\x1d\x83\xa6source\xa5input\xa4step"
        b"\x0b\xa7parents\x80",
        b"\x98\xc4\x10\x81\xa8messages\x01\x82\xa8messages\x94\x03\x01\x00\x09\xafbranch:to:agent\x93\x00\xa4null\xc4\x00"
        b"\xa7msgpack\xc4\xd4\x84\xa1v\x04\xb0channel_versions\x83\xa9__start__"
        b"\x0e\xa8messages\x0e\xafbranch:to:agent\x0e\xadversions_seen\x83\xa9__input__\x80\xa9__start__\x81\xa9__start__"
        b"\x0d\xa5agent\x81\xafbranch:to:agent\x0b\xb0updated_channels\x92\xafbranch:to:agent\xa8messages\xa7msgpack\xc4"
        b"\x1c\x83\xa6source\xa4loop\xa4step\x0c\xa7parents\x80",
        b"\x98\xc4\x10\x81\xa8messages\x01\x81\xa8messages\x94\x03\x01\x00\x0a\xa7msgpack\xc4\xc4\x84\xa1v\x04"
        b"\xb0channel_versions\x83\xa9__start__\x0e\xa8messages\x0f"
        b"\xafbranch:to:agent\x0e\xadversions_seen\x83\xa9__input__\x80\xa9__start__\x81\xa9__start__\x0d\xa5agent\x81"
        b"\xafbranch:to:agent\x0e\xb0updated_channels\x91\xa8messages\xa7msgpack\xc4\x1c\x83\xa6source\xa4loop\xa4step"
        b"\x0d\xa7parents\x80",
    )
)
_NEAR = Near(_WORDS)


@lru_cache(maxsize=64)
def _near(skeleton: bytes) -> Near:
    """The words and a skeleton: that of a thread at work is used at each of its steps."""
    return Near(_WORDS + skeleton)


Piece = tuple[int, int]


class Typed(NamedTuple):
    """A value as the codec gives it: the word for its form, and its bytes."""

    form: str
    data: bytes

    @property
    def digest(self) -> bytes:
        """What tells it from other values."""
        return item_digest(KIND, self.form.encode() + b"\0" + self.data)


class Inline(NamedTuple):
    """A value in the document."""

    value: Typed


class Item(NamedTuple):
    """A value as the item at `position` of log 0."""

    form: str
    position: int


class BlobAt(NamedTuple):
    """A value by its digest."""

    form: str
    id: bytes


class Pieces(NamedTuple):
    """A list as pieces of log `log`."""

    log: int
    pieces: tuple[Piece, ...]


class Start(NamedTuple):
    """The input of a run, in the slot of its checkpoint."""


Place = Inline | Item | BlobAt | Pieces | Start


@dataclass(frozen=True, slots=True)
class Document:
    """A checkpoint but for its id and values. `parent`: an id, there or not. `at`: its `ts`. `rest`: its other keys.
    `logs`: the log of every list channel that there ever was, also of those without a value now. `top`: the greatest
    id of the namespace when this one is not it; `mixed`: whether ids were ever put in another order than their own.
    `settled`: the writes on its parent, see `settled`; they stand beside the document, not in its bytes."""

    parent: str | None
    places: Mapping[str, Place]
    at: str | None
    rest: Typed
    metadata: Typed
    logs: Mapping[str, int] = field(default_factory=dict)
    top: str | None = None
    mixed: bool = False
    settled: bytes = b""

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Every range that the values need, in order."""
        spans: list[Range] = []
        for place in self.places.values():
            match place:
                case Item(_, position):
                    spans.append(Range(FIELDS, position, position + 1))
                case Pieces(log, pieces):
                    spans += [Range(log, start, end) for start, end in pieces]
        return tuple(sorted(spans))

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """The address of each blob that the values need, each once."""
        return tuple(dict.fromkeys(p.id for p in self.places.values() if isinstance(p, BlobAt)))

    def to_bytes(self) -> bytes:
        """The document as msgpack."""
        blobs = self.blobs
        places = {name: _write_place(place, blobs) for name, place in self.places.items()}
        more = [self.top, self.mixed] if self.mixed else []
        parent = pack_id(self.parent) if self.parent is not None else None
        return ormsgpack.packb(
            [
                parent,
                _pack_time(self.at),
                dict(self.logs),
                places,
                *self.rest,
                *self.metadata,
                *more,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes, blobs: Sequence[bytes]) -> Document:
        """The document of some msgpack; `blobs`: the addresses beside it. Raises CorruptionError."""
        try:
            parent, at, logs, places, form, rest, of_metadata, metadata, *more = ormsgpack.unpackb(
                data
            )
            top, mixed = more or (None, False)
            return cls(
                None if parent is None else unpack_id(parent),
                {name: _read_place(place, blobs) for name, place in places.items()},
                _unpack_time(at),
                Typed(form, rest),
                Typed(of_metadata, metadata),
                logs,
                top,
                mixed,
            )
        except (ormsgpack.MsgpackDecodeError, TypeError, ValueError, LookupError) as error:
            raise CorruptionError(f"a checkpoint's document is damaged: {error!r}") from None


class SkeletonAt(NamedTuple):
    """Where a skeleton is, and the first bytes of its digest: a position alone names another in another life of the
    thread, or in a store that was set back."""

    position: int
    tag: bytes

    @property
    def range(self) -> Range:
        """Its range."""
        return Range(FIELDS, self.position, self.position + 1)

    def fits(self, content: bytes) -> bool:
        """Whether this is its content."""
        return _tag(content) == self.tag


class Skeleton(NamedTuple):
    """A skeleton: where it is, and its content."""

    at: SkeletonAt
    content: bytes

    @classmethod
    def of(cls, position: int, content: bytes) -> Skeleton:
        """The skeleton of a content at a position of log 0."""
        return cls(SkeletonAt(position, _tag(content)), content)


def _tag(content: bytes) -> bytes:
    return item_digest(KIND, content)[:_TAG_BYTES]


class Written(NamedTuple):
    """A document as its difference from its skeleton (without one: from the words), which is to be written with it
    when it is `fresh`."""

    packed: bytes
    skeleton: Skeleton | None
    fresh: bool = False

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The range of the skeleton: first of the checkpoint's."""
        return (self.skeleton.at.range,) if self.skeleton else ()

    def payload(self, settled: bytes = b"") -> bytes:
        """What is stored, with the writes that the document settles."""
        near, tag = (_NEAR_SKELETON, self.skeleton.at.tag) if self.skeleton else (_NEAR_WORDS, b"")
        if not settled:
            return bytes([near]) + tag + self.packed
        size = len(settled).to_bytes(2, "big")
        return bytes([near + _SETTLES]) + tag + size + settled + self.packed


def write_document(data: bytes, known: Skeleton | None, end: int | None = None) -> Written:
    """A document's bytes as they are stored. known: the skeleton of the version before; end: where an item would come
    to stand in log 0, so that a skeleton can be begun or extended where that is worth it; None: it cannot."""
    packed = (_near(known.content) if known else _NEAR).shrink(data)
    if len(packed) <= _DEAR or end is None:
        return Written(packed, known)
    content = data
    if known is not None:
        roomy = len(known.content) + len(data) <= _SKELETON_BYTES
        if not (roomy or len(packed) > 0.8 * len(_NEAR.shrink(data))):
            return Written(packed, known)
        content = known.content + data if roomy else data
    return Written(_near(content).shrink(data), Skeleton.of(end, content), True)


def skeleton_of(payload: bytes, refs: Sequence[Range]) -> SkeletonAt | None:
    """Where the skeleton is that is needed to read a document; None: it needs none. Raises CorruptionError."""
    if payload[:1] not in (bytes([_NEAR_SKELETON]), bytes([_NEAR_SKELETON + _SETTLES])):
        return None
    found = SkeletonAt(refs[0].start if refs else -1, payload[1 : 1 + _TAG_BYTES])
    if not 0 <= found.position < _POSITIONS or refs[0] != found.range:
        raise CorruptionError("a checkpoint does not say where its skeleton is")
    return found


def read_document(payload: bytes, blob_refs: Sequence[bytes], skeleton: bytes | None) -> Document:
    """The document of what was stored; skeleton: the content of the one that it needs. Raises CorruptionError."""
    near, settled, packed = payload[0] if payload else 0, b"", payload[1:]
    if needs := near in (_NEAR_SKELETON, _NEAR_SKELETON + _SETTLES):
        packed = packed[_TAG_BYTES:]
    if near > _SETTLES:
        end = 2 + int.from_bytes(packed[:2], "big")
        near, settled, packed = near - _SETTLES, packed[2:end], packed[end:]
    if needs and skeleton is not None:
        found = Document.from_bytes(_near(skeleton).expand(packed), blob_refs)
    elif near == _NEAR_WORDS:
        found = Document.from_bytes(_NEAR.expand(packed), blob_refs)
    else:
        raise CorruptionError("this is no checkpoint of LangGraph's, or its skeleton is missing")
    return dataclasses.replace(found, settled=settled) if settled else found


def ends(ranges: Sequence[Range], marks: Sequence[Mark]) -> list[tuple[int, int, bytes]]:
    """Each log that the ranges touch, with its end and the prefix digest there: what a checkpoint's digest covers."""
    logs = sorted({each.log for each in ranges})
    return [(log, marks[log].end, marks[log].prefix) for log in logs]


# Ids ------------------------------------------------------------------------------------------------------


def pack_id(id: str) -> str | bytes:
    """An id as it stands inside documents: the 16 bytes of a UUID in its usual form, else the text."""
    return bytes.fromhex(id.replace("-", "")) if _UUID.fullmatch(id) else id


def unpack_id(packed: str | bytes) -> str:
    """The id."""
    return str(uuid.UUID(bytes=packed)) if isinstance(packed, bytes) else packed


def _pack_time(text: str | None) -> str | int | None:
    try:
        microseconds = round(datetime.fromisoformat(text or "").timestamp() * 1_000_000)
        return microseconds if _unpack_time(microseconds) == text else text
    except (ValueError, OverflowError):
        return text


def _unpack_time(packed: str | int | None) -> str | None:
    if not isinstance(packed, int):
        return packed
    return (_EPOCH + timedelta(microseconds=packed)).isoformat()


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGAIN = re.compile(r"~1\d+\Z")


def stored_id(id: str, again: int = 0) -> str:
    """A checkpoint's id as it is stored. Ids are unique in a namespace, so one that is put `again` (its new version)
    is told from the version that it replaces."""
    plain = id.replace("~", "~0")
    return f"{plain}~1{again}" if again else plain


def plain_id(stored: str) -> str:
    """The id of a stored one."""
    return _AGAIN.sub("", stored).replace("~0", "~")


# Lists of items in msgpack ---------------------------------------------------------------------------------


def list_head(count: int) -> bytes:
    """What stands before the items of a list."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def list_of(items: Sequence[bytes]) -> Typed:
    """A list in msgpack from the bytes of its items."""
    return Typed("msgpack", list_head(len(items)) + b"".join(items))


def _write_place(place: Place, blobs: Sequence[bytes]) -> list[Any]:
    match place:
        case Inline((form, data)):
            return [0, form, data]
        case Item(form, position):
            return [1, form, position]
        case BlobAt(form, address):
            return [2, form, blobs.index(address)]
        case Pieces(log, pieces):
            return [3, log, *(edge for piece in pieces for edge in piece)]
        case Start():
            return [4]


def _read_place(place: list[Any], blobs: Sequence[bytes]) -> Place:
    match place:
        case [0, str(form), bytes(data)]:
            return Inline(Typed(form, data))
        case [1, str(form), int(position)] if position >= 0:
            return Item(form, position)
        case [2, str(form), int(index)] if index >= 0:
            return BlobAt(form, blobs[index])
        case [3, int(log), *edges] if log >= 0 and len(edges) % 2 == 0:
            pieces = tuple(zip(edges[::2], edges[1::2], strict=True))
            if all(0 <= start < end for start, end in pieces):
                return Pieces(log, pieces)
        case [4]:
            return Start()
    raise ValueError(f"no place: {place!r}")
